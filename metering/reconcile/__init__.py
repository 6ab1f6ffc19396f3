"""Reconciling: what the engine knows, held against what others know; see README.md."""
