"""Checks: what must never be.

Owns one `.sql` file per invariant, each selecting the rows that must not exist, and the proofs that need more
than SQL: hashes of files, seals, the sandbox's record, and figures computed again. Only reads; needs no network.
"""
