"""Which usage of closed months changed between two batches, found from the events that came between."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

import duckdb
import numpy as np

from metering.lake import Lake, connect, every, give, view
from metering.sql import sql
from metering.state.files import BROKEN, Store
from metering.state.gather import gather, give_new_events, give_retractions, superseded_of
from metering.usage import meter

Pair = tuple[str, str]
"""A month and an account."""
_KEY = ("month", "period_start", "account_id", "sku", "region")


def changed_usage(
    lake: Lake, after: int, through: int, periods: Sequence[meter.Period], memory_limit: str | None = None
) -> set[Pair] | None:
    """The months and accounts whose usage in some periods differs between the events through one batch and another.

    The periods have ended. None where the state cannot tell, because it is not true up to the later batch.
    """
    store = Store(lake)
    state = store.load()
    if state is None or state.batch != through:
        return None
    if after == through or not periods:
        return set()
    try:
        store.prove([], sides=state.sides)
        con = connect(memory_limit, store.root / "spill")
        lake.attach_events(con, "lake_events", after, through)
        give_new_events(con, lake, after)
        give_retractions(con, store, state)
        meter.set_now(con, meter.EVER)
        gather(con, lake, store, state.folders, superseded_of(con, store, state), "known_events", through)
        give(con, "compared", {"earlier": np.array([after])})
        view(con, "events_to_compute", sql("state", "events_to_compute"))
        view(con, "events_before", sql("state", "events_before"))
        before, now = (_usage(con, events, periods) for events in ("events_before", "events_to_compute"))
    except BROKEN:
        return None
    return {(key[0], key[2]) for key in before.keys() | now.keys() if before.get(key) != now.get(key)}


def _usage(con: duckdb.DuckDBPyConnection, events: str, periods: Sequence[meter.Period]) -> dict[tuple[str, ...], int]:
    """Byte-microseconds of some events by period, account, SKU and region."""
    view(con, "events", every(events))
    meter.open_relations(con, max(period.period_end for period in periods), UTC)
    meter.set_periods(con, periods)
    return meter.usage_of(meter.account_usage(con), *_KEY)
