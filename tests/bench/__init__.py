"""Benchmarks of the metering room; see README.md."""
