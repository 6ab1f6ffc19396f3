"""Backup and restore: a consistent copy of a home, and the way from an older ledger to where it was; see README.md."""
