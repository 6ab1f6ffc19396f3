"""A filter of keys: what it does not know is not there for sure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from metering.events.instants import Bools
from metering.events.keys import Keys

_MARKS = 4
"""So many places of one word stand for a key."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)

Words = npt.NDArray[np.uint64]


class Filter:
    """Words of 64 bits, a power of two of them; with 64 bits a key, one in 10,000 new keys is taken for known."""

    def __init__(self, words: Words) -> None:
        self.words = words

    @classmethod
    def of_power(cls, power: int) -> Filter:
        """An empty filter of two to some power bits, which is 6 at least."""
        return cls(np.zeros(2 ** (power - 6), np.uint64))

    def may_hold(self, keys: Keys) -> Bools:
        """Whether each key may have been added."""
        words, marks = self._places(keys)
        return np.asarray((self.words[words] & marks) == marks)

    def add(self, keys: Keys) -> Bools:
        """Add keys; whether each may have been there before all of them."""
        words, marks = self._places(keys)
        known = np.asarray((self.words[words] & marks) == marks)
        np.bitwise_or.at(self.words, words, marks)
        return known

    def _places(self, keys: Keys) -> tuple[Any, Words]:
        # Keys are mixed well: some of their bits say the word, others the places in it.
        size = len(self.words).bit_length() - 1
        words = ((keys * _FACTOR) >> np.uint64(64 - size)).astype(np.int64) if size else np.zeros(len(keys), np.int64)
        marks = np.zeros(len(keys), np.uint64)
        for mark in range(_MARKS):
            marks |= np.left_shift(np.uint64(1), (keys >> np.uint64(6 * mark)) & np.uint64(63))
        return words, marks
