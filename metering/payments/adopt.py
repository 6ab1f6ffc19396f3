"""Payment intents that the ledger has lost: noticed by the gateway's list, adopted by `metering restore`.

Every intent is in the ledger before the gateway hears of it. So an intent that the gateway has and the ledger has
not says that the ledger was put back from a backup, and that money may have moved since.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa

from metering.durable import put
from metering.errors import NeedsPerson
from metering.home import Home, Run
from metering.ledger.book import rows
from metering.ledger.tables import metadata
from metering.payments.charge import Visit
from metering.payments.collect import Outcome, claim_of
from metering.payments.desk import Desk
from metering.payments.gateway import Gateway, Intent, NoAnswer, open_gateway
from metering.payments.record import Event
from metering.values import MICROS_PER_DAY

HELD = "ledger/held.json"
"""Below the lake: intents of invoices that the ledger does not have again yet."""
ASKED = "state/asked.json"
"""Below the lake: when the gateway was last asked and had nothing that the ledger did not know."""
MARGIN = MICROS_PER_DAY // 24
"""How far the gateway's clock may be from ours."""
MOVED = frozenset({"succeeded", "processing", "action_required"})
_NUMBER = re.compile(r"INV-\d{4}-\d\d-\d{6,}")


def check_gateway(home: Home, run: Run, gateway: Gateway | None = None) -> None:
    """Refuse a ledger that does not know what the gateway knows.

    Where the gateway does not answer, the run looks for each intent by its name before it makes one.
    """
    home.check_book()
    opened = gateway or open_gateway(home)
    try:
        lost = lost_intents(home, opened)
    except NoAnswer:
        run.looks_first = True
        return
    finally:
        opened.close()
    if lost:
        raise NeedsPerson(
            f"The gateway {opened.name} has {len(lost)} payment intents that the ledger does not know, such as"
            f" {lost[0].intent or lost[0].ref} ({lost[0].status}): the ledger was put back from before them.",
            unchanged="Nothing was closed or charged.",
            remedy="Run `metering restore`: it adopts them, so that nothing is charged again.",
        )
    _write_asked(home, opened.name)


def lost_intents(home: Home, gateway: Gateway) -> list[Intent]:
    """The gateway's intents of our invoices that the ledger does not know and does not hold; may raise NoAnswer."""
    listed = [intent for intent in gateway.list(_since(home, gateway.name)) if _NUMBER.fullmatch(intent.invoice)]
    held = {intent.ref for intent in held_intents(home)}
    with home.book.read() as con:
        intents = metadata().tables["intents"]
        names = set(con.scalars(sa.select(intents.c.intent)))
        refs = set(con.scalars(sa.select(intents.c.gateway_ref).where(intents.c.gateway == gateway.name)))
    lost = [i for i in listed if i.intent not in names and i.ref not in refs and i.ref not in held]
    return sorted(lost, key=_order)


def _since(home: Home, gateway: str) -> int:
    """What the ledger lacks is younger than all that it has, and than the last time that nothing was lacking."""
    tables = metadata().tables
    columns = (tables["intents"].c.created_at, tables["invoices"].c.issued_at)
    with home.book.read() as con:
        last = max(con.scalar(sa.select(sa.func.max(column))) or 0 for column in columns)
    return max(last - MARGIN, _asked(home).get(gateway, 0) - MARGIN, 0)


def _asked(home: Home) -> dict[str, int]:
    path = home.lake.root / ASKED
    return msgspec.json.decode(path.read_bytes(), type=dict[str, int]) if path.exists() else {}


def _write_asked(home: Home, gateway: str) -> None:
    path = home.lake.root / ASKED
    path.parent.mkdir(parents=True, exist_ok=True)
    put(path, msgspec.json.encode({gateway: home.now}), synced=True)


def _order(intent: Intent) -> tuple[str, int, str]:
    return intent.invoice, _count(intent), intent.ref


def _count(intent: Intent) -> int:
    """The count in our name of an intent; 0 if it has none."""
    count = intent.intent.removeprefix(f"{intent.invoice}/")
    return int(count) if count.isdecimal() else 0


def adopt(home: Home, run: Run, lost: Iterable[Intent], gateway: Gateway | None = None) -> Outcome:
    """Store lost intents of known invoices, and post what became of them; those of others are held.

    What was captured must be what the invoice would be charged; else it is an alarm, and the invoice is blocked.
    """
    with home.book.read() as con:
        known = set(con.scalars(sa.select(metadata().tables["invoices"].c.invoice)))
    groups: dict[str, list[Intent]] = defaultdict(list)
    others = []
    for intent in sorted(lost, key=_order):
        if intent.invoice in known:
            groups[intent.invoice].append(intent)
        else:
            others.append(intent)
    _hold(home, others)
    desk = Desk.open(home, run, gateway)
    outcome = Outcome()
    try:
        for invoice, intents in groups.items():
            for event in _adopt_invoice(desk, invoice, intents):
                outcome.add(event)
    finally:
        desk.close()
    return outcome


def _adopt_invoice(desk: Desk, invoice: str, intents: Sequence[Intent]) -> list[Event]:
    with desk.book.claim(claim_of(invoice)) as mine:
        if not mine:
            return [Event("busy", invoice, "", 0, new=False)]
        visit = Visit(desk, invoice)
        visit.read_back()
        for intent in intents:
            # An intent that still lives has to end before the invoice can have another.
            if visit.stuck or visit.case.intent is not None:
                break
            visit.adopt(intent, max(_count(intent), visit.case.intents_made + 1))
        visit.finish()
        return visit.events


# Intents of invoices that are not in the ledger again yet


def held_intents(home: Home) -> list[Intent]:
    """The intents that wait for the close that issues their invoice again."""
    found = home.lake.files.read(HELD)
    return msgspec.json.decode(found.data, type=list[Intent]) if found else []


def _hold(home: Home, intents: Sequence[Intent]) -> None:
    if not intents:
        return
    found = home.lake.files.read(HELD)
    known = msgspec.json.decode(found.data, type=list[Intent]) if found else []
    held = sorted({intent.ref: intent for intent in (*known, *intents)}.values(), key=_order)
    data = msgspec.json.format(msgspec.json.encode(held), indent=1)
    home.lake.files.replace(HELD, data, found.tag if found else None)


def check_numbers(home: Home, con: sa.Connection, month: str, issued: Iterable[tuple[str, str]]) -> None:
    """Refuse a close that would give a number that was charged before to another account, or to none.

    `issued` are the number and the account of every invoice that the close would issue.
    """
    moved = [i for i in held_intents(home) if i.invoice.startswith(f"INV-{month}-") and i.status in MOVED]
    if not moved:
        return
    charged = {intent.invoice for intent in moved}
    account_of = {number: account for number, account in issued if number in charged}
    wrong = []
    for intent in moved:
        account = account_of.get(intent.invoice)
        customers = {row["payment_customer"] for row in rows(con, "account_versions", account_id=account or "")}
        if intent.customer not in customers:
            wrong.append(f"{intent.invoice} was charged to {intent.customer}, and would now be {account or 'missing'}")
    if wrong:
        raise NeedsPerson(
            f"{month} would not come out as it was closed before the ledger was lost: {'; '.join(wrong[:5])}"
            f"{f'; and {len(wrong) - 5} more' if len(wrong) > 5 else ''}.",
            unchanged=f"Nothing of {month} was written.",
            remedy="Take in the events and accounts that came after the backup, then close again.",
        )


def adopt_held(home: Home, run: Run, invoices: Iterable[str]) -> Outcome:
    """Adopt the held intents of invoices that a close has issued again."""
    wanted = set(invoices)
    with home.book.read() as con:
        known = set(con.scalars(sa.select(metadata().tables["intents"].c.intent)))
    held = [i for i in held_intents(home) if i.invoice in wanted and i.intent not in known]
    if not held:
        return Outcome()
    gateway = open_gateway(home)
    try:
        now = [gateway.read(intent.ref) for intent in held]
    except NoAnswer:
        now = held
    return adopt(home, run, now, gateway)
