"""Which lines of a run may repeat an identity, in the lake or in the run itself: never one too few."""

from __future__ import annotations

from typing import Any

import numpy as np

from metering.events.filter import Filter
from metering.events.identities import Identities
from metering.events.instants import Bools
from metering.events.keys import Keys
from metering.lake import Lake

_BYTES_PER_LINE = 150
_PLACES_PER_LINE = 64
_FEWEST, _MOST = 16, 31
"""Bits of the filter as powers of two: from 8 KiB to 256 MiB."""


class Seen:
    """A filter of the identities met so far: what it has not seen is new for sure."""

    def __init__(self, lake: Lake, expected_bytes: int) -> None:
        wanted = max(expected_bytes // _BYTES_PER_LINE * _PLACES_PER_LINE, 1)
        self._filter = Filter.of_power(min(max(wanted.bit_length(), _FEWEST), _MOST))
        self._runs = Identities(lake).open()
        self.batches: set[int] = set()
        """The batches that may hold an identity met again."""

    def meet(self, keys: Keys, order: Any) -> Bools:
        """Whether each key may have been met before, in the lake, in this run, or earlier in this order."""
        met = self._in_lake(keys)
        met |= self._filter.add(keys)
        ranked = np.sort(keys)
        if np.any(ranked[1:] == ranked[:-1]):
            by_order = np.argsort(order, kind="stable")
            _, first = np.unique(keys[by_order], return_index=True)
            again = np.ones(len(keys), np.bool_)
            again[by_order[first]] = False
            met |= again
        return met

    def _in_lake(self, keys: Keys) -> Bools:
        met = np.zeros(len(keys), np.bool_)
        if self._runs:
            by_key = np.argsort(keys)
            wanted = keys[by_key]
            for known, batches in self._runs:
                start = np.searchsorted(known, wanted, "left")
                inside = start < len(known)
                hit = np.zeros(len(keys), np.bool_)
                hit[inside] = known[start[inside]] == wanted[inside]
                if hit.any():
                    met[by_key[hit]] = True
                    start = start[hit]
                    many = np.searchsorted(known, wanted[hit], "right") - start
                    for place in range(int(many.max())):
                        self.batches.update(np.unique(batches[start[many > place] + place]).tolist())
        return met
