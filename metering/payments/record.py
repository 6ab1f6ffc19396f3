"""Writes what is known about payments into the ledger: each function is one database transaction's work."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import NamedTuple

import sqlalchemy as sa

from metering.failpoints import failpoint
from metering.ledger import postings
from metering.ledger.book import change, insert, rows
from metering.ledger.postings import Journal
from metering.ledger.purses import balance_of
from metering.payments.cases import load_case, terms_of
from metering.payments.desk import Desk
from metering.payments.gateway import TOO_SMALL, Intent, Refused
from metering.payments.states import (
    ATTEMPT_MOVES,
    CANCELLED,
    INTENT_MOVES,
    NOT_ACTED,
    REPLACED,
    Attempt,
    Case,
    Finding,
    Live,
)


class Event(NamedTuple):
    """Something that a run brought about or found out; `new` if a person has not been told of it before."""

    kind: str
    invoice: str
    currency: str
    amount_minor: int
    reason: str | None = None
    new: bool = True


def start(con: sa.Connection, desk: Desk, invoice: str, expected: Case) -> list[Event]:
    """Store a new attempt as unknown, with a new intent if none lives; nothing if things have changed."""
    case = load_case(con, invoice)
    if case != expected:
        return []
    terms = terms_of(case, desk.payments, desk.gateway)
    number = case.attempts[-1].attempt + 1 if case.attempts else 1
    live = case.intent
    if live is None:
        live = _make_intent(con, desk, case, terms.charge_minor)
    _add_attempt(con, desk, case, number, "unknown", live.intent, terms.charge_minor)
    return []


def no_card(con: sa.Connection, desk: Desk, invoice: str, expected: Case) -> list[Event]:
    """Store that there is no card to try."""
    case = load_case(con, invoice)
    if case != expected:
        return []
    amount = terms_of(case, desk.payments, desk.gateway).charge_minor
    number = case.attempts[-1].attempt + 1 if case.attempts else 1
    _add_attempt(con, desk, case, number, "no_card", None, amount)
    return [Event("no_card", invoice, case.currency, amount)]


def name_intent(con: sa.Connection, live: Live, ref: str) -> list[Event]:
    """Store the gateway's id of an intent."""
    _move_intent(con, live, "created", gateway_ref=ref)
    return []


def cancelling(con: sa.Connection, live: Live) -> list[Event]:
    """Store that an intent is to be cancelled; from then on it is never confirmed again."""
    if live.state != "cancelling":
        _move_intent(con, live, "cancelling")
    return []


def adopt(con: sa.Connection, desk: Desk, invoice: str, found: Intent, number: int) -> list[Event]:
    """Store an intent that the gateway has and the ledger had lost, with an attempt whose outcome is read back next.

    It is stored as it would be made now, so that one which moved another amount is an alarm. One that moved
    nothing is cancelled: nobody knows any more what was tried on it.
    """
    case = load_case(con, invoice)
    if case.intent is not None:
        return []
    wanted = terms_of(case, desk.payments, desk.gateway).charge_minor
    instant = _instant(desk, case)
    for lost in range(case.intents_made + 1, number):
        row = asdict(_intent(desk, case, lost, 0)) | {"state": "cancelled", "live": 0}
        insert(con, "intents", [row | {"created_at": instant, "ended_at": instant}])
    moved = found.status in ("succeeded", "processing", "action_required")
    known = {row["payment_customer"] for row in rows(con, "account_versions", account_id=case.account_id)}
    live = replace(
        _intent(desk, case, number, wanted if moved else found.amount_minor),
        gateway_ref=found.ref,
        customer=found.customer if found.customer in known else case.customer,
        state="created" if moved else "cancelling",
    )
    insert(con, "intents", [asdict(live) | {"live": 1, "created_at": _instant(desk, case)}])
    attempt = case.attempts[-1].attempt + 1 if case.attempts else 1
    _add_attempt(con, desk, case, attempt, "unknown", live.intent, live.amount_minor)
    return []


def finding(con: sa.Connection, desk: Desk, live: Live, found: Finding) -> list[Event]:
    """Store what an answer about a live intent means, with the postings that follow from it."""
    case = load_case(con, live.invoice)
    if case.intent is None or case.intent.intent != live.intent:
        return []
    last = case.attempts_on(live.intent)[-1]
    if found.kind == "succeeded":
        return _succeeded(con, desk, case, last, found)
    if found.kind == "cancelled":
        return _cancelled(con, desk, case, found)
    if found.kind in ("declined", "action_required"):
        return _answered(con, desk, case, last, found)
    return []


def refused(con: sa.Connection, desk: Desk, live: Live, refusal: Refused) -> list[Event]:
    """Store that the gateway will not make an intent: nothing of it exists there."""
    case = load_case(con, live.invoice)
    if case.intent is None or case.intent.intent != live.intent:
        return []
    small = refusal.code in TOO_SMALL
    _end(con, desk, case, case.intent, "cancelled")
    last = case.attempts_on(live.intent)[-1]
    _move(con, desk, case, last, "declined", reason=refusal.code, retryable=int(small))
    if not small:
        return [Event("declined", case.invoice, case.currency, last.amount_minor, refusal.code)]
    return _carry(con, desk, case.invoice, case.receivable_minor)


def unknown(con: sa.Connection, invoice: str, reason: str) -> list[Event]:
    """Store why an attempt's outcome is not known yet."""
    case = load_case(con, invoice)
    last = case.attempts[-1] if case.attempts else None
    if last is None or last.status != "unknown":
        return []
    if last.reason != reason:
        change(con, "payments", {"payment": last.payment}, reason=reason)
    return [Event("unknown", invoice, case.currency, last.amount_minor, reason, new=last.reason is None)]


def carry(con: sa.Connection, desk: Desk, invoice: str) -> list[Event]:
    """Carry what is owed on an invoice, if all of it is too little to charge."""
    case = load_case(con, invoice)
    terms = terms_of(case, desk.payments, desk.gateway)
    if case.intent or case.reserved_minor or case.status != "open" or terms.charge_minor:
        return []
    return _carry(con, desk, invoice, terms.carry_minor)


def use_reserved(con: sa.Connection, desk: Desk, invoice: str) -> list[Event]:
    """Apply balance that was set aside, now that no intent lives, and set free what is not needed."""
    case = load_case(con, invoice)
    if case.intent is not None:
        return []
    journal = Journal(con, desk.now, desk.run.run)
    used = _use_reserved(journal, case, case.receivable_minor)
    journal.flush()
    return [Event("balance", invoice, case.currency, used)] if used else []


def use_balance(con: sa.Connection, desk: Desk, invoice: str) -> list[Event]:
    """Pay all that is due on an invoice from the balance, if it covers that."""
    case = load_case(con, invoice)
    due = case.due_minor
    if case.intent or case.reserved_minor or due <= 0 or balance_of(con, case.account_id) < due:
        return []
    journal = Journal(con, desk.now, desk.run.run)
    who = (case.account_id, case.currency, invoice)
    journal.post("balance_use", postings.balance_use(*who, case.receivable_minor))
    journal.post("carried_pay", postings.carried_pay(*who, case.carried_minor))
    journal.flush()
    return [Event("balance", invoice, case.currency, due)]


def _make_intent(con: sa.Connection, desk: Desk, case: Case, amount: int) -> Live:
    live = _intent(desk, case, case.intents_made + 1, amount)
    insert(con, "intents", [asdict(live) | {"live": 1, "created_at": _instant(desk, case)}])
    return live


def _intent(desk: Desk, case: Case, number: int, amount: int) -> Live:
    return Live(
        intent=f"{case.invoice}/{number}",
        invoice=case.invoice,
        gateway=desk.gateway.name,
        gateway_ref=None,
        customer=case.customer,
        currency=case.currency,
        amount_minor=amount,
        state="creating",
    )


def _add_attempt(
    con: sa.Connection, desk: Desk, case: Case, number: int, status: str, intent: str | None, amount: int
) -> None:
    row = {
        "payment": f"PAY-{case.invoice.removeprefix('INV-')}-{number}",
        "invoice": case.invoice,
        "attempt": number,
        "intent": intent,
        "account_id": case.account_id,
        "currency": case.currency,
        "amount_minor": amount,
        "gateway": desk.gateway.name,
        "payment_method": case.payment_method if intent else "",
        "status": status,
        "retryable": 1,
        "created_at": _instant(desk, case),
        "settled_at": None if intent else _instant(desk, case),
    }
    insert(con, "payments", [row])


def _succeeded(con: sa.Connection, desk: Desk, case: Case, last: Attempt, found: Finding) -> list[Event]:
    """What is owed is paid, a surplus is balance, a rest too small to charge is carried."""
    live = case.intent
    assert live is not None
    _replace_others(con, desk, case, last)
    _move(con, desk, case, last, "succeeded", reason=None, charge=found.charge or last.charge)
    _end(con, desk, case, live, "succeeded")
    journal = Journal(con, desk.now, desk.run.run)
    who = (case.account_id, case.currency, case.invoice)
    owed = min(live.amount_minor, max(case.receivable_minor, 0))
    journal.post("card_payment", postings.card_payment(*who, last.payment, owed))
    journal.post("card_surplus", postings.card_surplus(*who, last.payment, live.amount_minor - owed))
    rest = case.receivable_minor - owed
    rest -= _use_reserved(journal, case, rest)
    journal.flush()
    events = [Event("succeeded", case.invoice, case.currency, live.amount_minor)]
    if rest > 0:
        terms = terms_of(load_case(con, case.invoice), desk.payments, desk.gateway)
        if not terms.charge_minor:
            events += _carry(con, desk, case.invoice, terms.carry_minor)
    failpoint("payment.before_record")
    return events


def _cancelled(con: sa.Connection, desk: Desk, case: Case, found: Finding) -> list[Event]:
    live = case.intent
    assert live is not None
    _end(con, desk, case, live, "cancelled")
    events = []
    *_, last = case.attempts_on(live.intent)
    for attempt in case.attempts_on(live.intent):
        if attempt.status == "action_required":
            _move(con, desk, case, attempt, "declined", reason=NOT_ACTED)
    if last.status == "unknown":
        reason = found.reason or CANCELLED
        _move(
            con,
            desk,
            case,
            last,
            "declined",
            reason=reason,
            retryable=int(found.retryable),
            charge=found.charge,
        )
        if found.reason:
            events.append(Event("declined", case.invoice, case.currency, last.amount_minor, reason))
    failpoint("payment.before_record")
    return events


def _answered(con: sa.Connection, desk: Desk, case: Case, last: Attempt, found: Finding) -> list[Event]:
    if last.status == found.kind:
        # Somebody else tried the card at the gateway: the charge must not be taken for the next attempt's.
        if found.charge:
            change(con, "payments", {"payment": last.payment}, charge=found.charge)
        return []
    if (last.status, found.kind) not in ATTEMPT_MOVES:
        return []
    _replace_others(con, desk, case, last)
    _move(
        con,
        desk,
        case,
        last,
        found.kind,
        reason=found.reason,
        retryable=int(found.retryable),
        charge=found.charge or last.charge,
    )
    failpoint("payment.before_record")
    return [Event(found.kind, case.invoice, case.currency, last.amount_minor, found.reason)]


def _replace_others(con: sa.Connection, desk: Desk, case: Case, last: Attempt) -> None:
    for attempt in case.attempts_on(last.intent or ""):
        if attempt.status == "action_required" and attempt.payment != last.payment:
            _move(con, desk, case, attempt, "declined", reason=REPLACED)


def _move(
    con: sa.Connection, desk: Desk, case: Case, attempt: Attempt, status: str, **values: str | int | None
) -> None:
    assert (attempt.status, status) in ATTEMPT_MOVES, (attempt, status)
    change(con, "payments", {"payment": attempt.payment}, status=status, settled_at=_instant(desk, case), **values)


def _move_intent(con: sa.Connection, known: Live, state: str, **values: str | int | None) -> None:
    assert (known.state, state) in INTENT_MOVES, (known, state)
    change(con, "intents", {"intent": known.intent}, state=state, **values)


def _end(con: sa.Connection, desk: Desk, case: Case, live: Live, state: str) -> None:
    _move_intent(con, live, state, live=0, ended_at=_instant(desk, case))


def _instant(desk: Desk, case: Case) -> int:
    """The run's instant, or that of the last attempt where the clock is behind that of an earlier run."""
    return max([desk.now, *(attempt.last_seen for attempt in case.attempts)])


def _use_reserved(journal: Journal, case: Case, owed: int) -> int:
    used = min(case.reserved_minor, max(owed, 0))
    who = (case.account_id, case.currency, case.invoice)
    journal.post("reserved_use", postings.reserved_use(*who, used))
    journal.post("set_free", postings.set_free(*who, case.reserved_minor - used))
    return used


def _carry(con: sa.Connection, desk: Desk, invoice: str, amount: int) -> list[Event]:
    case = load_case(con, invoice)
    journal = Journal(con, desk.now, desk.run.run)
    journal.post("carry", postings.carry(case.account_id, case.currency, invoice, amount))
    journal.flush()
    return [Event("carried", invoice, case.currency, amount)] if amount else []
