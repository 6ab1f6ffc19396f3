"""Whether the state is what all events say; for `metering verify`."""

from __future__ import annotations

from datetime import UTC

from metering.lake import Lake, compose, connect, count, drop, every, table, view
from metering.sql import sql
from metering.state.files import STATE, Store
from metering.state.relations import give_state
from metering.usage import meter
from metering.values import counted

REMEDY = "remove lake/state/state.json; the next night makes the state again"
_RELATIONS = ("lifespans", "size_changes", "anomalies_for_ever")


def differences(lake: Lake, memory_limit: str | None = None) -> list[str]:
    """What is damaged, and where the state differs from a computation from all events up to its batch."""
    store = Store(lake)
    state = store.load()
    if state is None:
        return [f"state/{STATE}: {reason}; {REMEDY}" for reason in store.why_unreadable()]
    if damaged := store.damage(state):
        return [f"{path} was changed; {REMEDY}" for path in damaged]
    con = connect(memory_limit, store.root / "spill")
    lake.attach(con, state.batch)
    meter.open_relations(con, state.now, UTC, keep_lifespans=True)
    for name in _RELATIONS:
        table(con, f"computed_{name}", compose(con, every(name), "usage"))
    drop(con, "lifespans")
    give_state(con, lake, state)
    meter.set_periods(con, ())
    found = []
    for name in _RELATIONS:
        view(con, "computed", every(f"computed_{name}"))
        view(con, "maintained", every(name))
        if rows := count(con, sql("state", "differing")):
            found.append(f"the state's {name} differ from what the events say in {counted(rows, 'row')}; {REMEDY}")
    return found
