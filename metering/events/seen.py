"""Which lines of a run may repeat an identity, in the lake or in the run itself: never one too few."""

from __future__ import annotations

from typing import Any

import numpy as np

from metering.events.filter import Filter
from metering.events.identities import Identities
from metering.events.instants import Bools
from metering.events.keys import Keys
from metering.lake import Lake
from metering.lake.entries import Damaged, Places

_BYTES_PER_LINE = 150
_PLACES_PER_LINE = 64
_FEWEST, _MOST = 16, 31
"""Bits of the filter as powers of two: from 8 KiB to 256 MiB."""


class Seen:
    """A filter of the identities met so far: what it has not seen is new for sure."""

    def __init__(self, lake: Lake, expected_bytes: int) -> None:
        wanted = max(expected_bytes // _BYTES_PER_LINE * _PLACES_PER_LINE, 1)
        self._filter = Filter.of_power(min(max(wanted.bit_length(), _FEWEST), _MOST))
        self._index = Identities(lake)
        self._runs = self._index.open()
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
        by_key = np.argsort(keys)
        try:
            wanted = self._found(keys[by_key])
        except Damaged:
            # What was found before is proved.
            self._index.make_again()
            self._runs = self._index.open()
            wanted = self._found(keys[by_key])
        met = np.zeros(len(keys), np.bool_)
        met[by_key[wanted]] = True
        return met

    def _found(self, keys: Keys) -> Places:
        """The places of the keys (sorted) that the lake may hold, some of them twice."""
        found = [np.zeros(0, np.intp)]
        for run in self._runs:
            entries, places = run.find(keys)
            self.batches.update(entries["batch"].tolist())
            found.append(places)
        return np.concatenate(found)
