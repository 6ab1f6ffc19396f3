"""Which earlier months and accounts a close must rate again: where anything can have changed since the last close.

At the end of a close the lines of every earlier month add up to what its usage costs. So only what changed since can
make an adjustment: usage, by late events; and what could not be billed, by a new account or price. After anything
else (a reprice, a void to be billed again, another currency) everything is rated again.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from metering.close.drafting import Drafts, periods_of, prices_in_force
from metering.close.inputs import RULES_VERSION, Inputs
from metering.durable import put
from metering.home import Home
from metering.ledger.book import rows
from metering.ledger.tables import metadata
from metering.sql import sql
from metering.state.changes import Pair, changed_usage
from metering.state.files import State, Store, sealed, unsealed


class Note(msgspec.Struct, frozen=True):
    """What a close leaves for the next one; it lies with the state, and is only a cache like it."""

    month: str
    run: int
    lines_hash: str
    built: str
    """The state that the close used; one that was built anew since is not trusted with the difference."""
    unbilled: list[Pair]
    """Months and accounts with usage that could not be billed."""
    seal: str = ""


def earlier_to_rate(home: Home, con: sa.Connection, inputs: Inputs, *, proved: bool = True) -> set[Pair] | None:
    """The earlier months and accounts to be rated again; None where all must be.

    What is billed is read from what is `proved` before; reports prove nothing.
    """
    store = Store(home.lake)
    state = store.load()
    if state is None or state.batch != inputs.events_through:
        return None
    earlier = _changed(home, con, inputs, store, state) if inputs.closed else set()
    if earlier is None:
        return None
    if not proved:
        return earlier
    since = min([inputs.period_start, *(inputs.closed[month][0] for month, _ in earlier)])
    return earlier if store.is_sound(state, since) else None


def _changed(home: Home, con: sa.Connection, inputs: Inputs, store: Store, state: State) -> set[Pair] | None:
    """The same, where the state is sound."""
    (last,) = rows(con, "closes", month=max(inputs.closed))
    note = _note(store)
    known = (last["month"], last["run"], last["lines_hash"], state.built, last["rules_version"])
    if note is None or known != (note.month, note.run, note.lines_hash, note.built, RULES_VERSION):
        return None
    if _decided_since(con, last["month"]) or _currency_changed(con, inputs, last["month"]):
        return None
    periods = periods_of(inputs.closed, prices_in_force(home, inputs))
    limit = home.config.engine.memory_limit
    changed = changed_usage(home.lake, last["events_through"], inputs.events_through, periods, limit)
    return None if changed is None else changed | {pair for pair in note.unbilled if pair[0] in inputs.closed}


def leave_note(home: Home, drafts: Drafts, run: int) -> None:
    """Leave for the next close what it needs to know of this one."""
    store = Store(home.lake)
    state = store.load()
    if state is None:
        return
    unbilled = {(item.usage.month, item.usage.account_id) for item in drafts.rated.unbillable}
    note = Note(str(drafts.inputs.month), run, drafts.hash, state.built, sorted(unbilled))
    put(store.root / "rated.json", msgspec.json.encode(sealed(note)))


def _note(store: Store) -> Note | None:
    try:
        return unsealed(msgspec.json.decode((store.root / "rated.json").read_bytes(), type=Note))
    except (OSError, ValueError):
        return None


def _decided_since(con: sa.Connection, month: str) -> bool:
    """Whether a person has repriced a month, or voided an invoice to have it billed again, since a close."""
    (counted,) = rows(con, "close_decisions", month=month)
    prices, corrections = (metadata().tables[name].c for name in ("month_prices", "corrections"))
    repriced = sa.select(prices.month).where(prices.kind == "reprice", prices.recorded > counted["prices_through"])
    rebilled = sa.select(corrections.correction).where(
        corrections.rebill == 1, corrections.recorded > counted["corrections_through"]
    )
    return any(con.execute(query.limit(1)).first() is not None for query in (repriced, rebilled))


def _currency_changed(con: sa.Connection, inputs: Inputs, month: str) -> bool:
    """Whether an account has another currency than at the close of a month."""
    changed = con.execute(sa.text(sql("close", "changed_currencies")), {"month": month})
    return any(inputs.currency_of.get(account) != currency for account, currency in changed)
