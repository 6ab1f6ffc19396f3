"""Numbers that look random and are the same on every machine: integer arithmetic only, no state.

The n-th draw of a stream depends on seed, stream and n alone, so that any part of a history can be made without
the rest of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Ints = NDArray[np.int64]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def words(seed: int, stream: str, numbers: Ints) -> Words:
    """64 bits for each number (SplitMix64)."""
    start = np.uint64((seed * _GOLDEN + crc32(stream.encode()) * 0xD1B54A32D192ED03) & _MASK)
    z = numbers.astype(np.uint64) * np.uint64(_GOLDEN) + start
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def below(drawn: Words, limit: Ints | int) -> Ints:
    """Integers from 0 up to, but without, the limit."""
    return ((drawn >> np.uint64(1)) % np.asarray(limit, np.uint64)).astype(np.int64)


def chosen(drawn: Words, weights: Sequence[int] | Ints) -> Ints:
    """Positions in `weights`, each as often as its weight says."""
    until = np.cumsum(np.asarray(weights, np.int64))
    return np.searchsorted(until, below(drawn, int(until[-1])), side="right")


def zipf(ranks: int) -> Ints:
    """Weights that fall as 1/rank."""
    return 10**12 // np.arange(1, ranks + 1, dtype=np.int64)
