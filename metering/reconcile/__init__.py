"""Reconciling: what the engine knows, held against what others know; it reads, and writes nothing."""
