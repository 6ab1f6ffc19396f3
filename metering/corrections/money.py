"""Corrections of payments: refunds and disputes. They change neither an invoice's status nor what is due on it."""

from __future__ import annotations

from typing import Any, NoReturn

import sqlalchemy as sa

from metering.corrections.register import next_number, register
from metering.errors import UsageError, wrong_value
from metering.invoices.history import History
from metering.ledger import postings as post
from metering.ledger.book import change, rows
from metering.ledger.postings import Journal
from metering.values import InvalidValue, format_money, parse_money


def refund_to_balance(con: sa.Connection, number: str, amount: str | None, reason: str, now: int, run: int) -> str:
    """Give a card payment (or part of it) back to the account's balance; the correction's number."""
    payment, minor = _refundable(con, number, amount)
    name = next_number(con, "RF")
    journal = Journal(con, now, run)
    transaction = journal.post("refund", _refund_entries(payment, name, minor, to_card=False))
    _register_refund(con, payment, name, minor, reason, now, run, to_card=False, transaction=transaction)
    journal.flush()
    return name


def begin_card_refund(con: sa.Connection, number: str, amount: str | None, reason: str, now: int, run: int) -> str:
    """Store a refund to the card before the gateway is asked; the correction's number."""
    payment, minor = _refundable(con, number, amount)
    name = next_number(con, "RF")
    _register_refund(con, payment, name, minor, reason, now, run, to_card=True, transaction=None)
    return name


def end_card_refund(con: sa.Connection, name: str, now: int, run: int) -> None:
    """Post a refund that the gateway has confirmed; once."""
    (row,) = rows(con, "corrections", correction=name)
    if row["transaction"] is not None:
        return
    (payment,) = rows(con, "payments", payment=row["payment"])
    journal = Journal(con, now, run)
    transaction = journal.post("refund", _refund_entries(payment, name, row["amount_minor"], to_card=True))
    journal.flush()
    change(con, "corrections", {"correction": name}, transaction=transaction)


def refuse_card_refund(con: sa.Connection, name: str, code: str, now: int, run: int) -> None:
    """Record that the gateway refused a refund; its amount can be given back otherwise."""
    (row,) = rows(con, "corrections", correction=name)
    register(
        con, next_number(con, "RR"), "refund_refused", now, run,
        invoice=row["invoice"], payment=row["payment"], account_id=row["account_id"], currency=row["currency"],
        amount_minor=row["amount_minor"], to_card=1, about=name, reason=code,
    )  # fmt: skip


def pending_card_refunds(con: sa.Connection) -> list[dict[str, Any]]:
    """Refunds to cards that the gateway has neither confirmed nor refused."""
    made = rows(con, "corrections", kind={"refund", "refund_refused"})
    refused = {row["about"] for row in made}
    return [
        row
        for row in made
        if row["kind"] == "refund" and row["transaction"] is None and row["correction"] not in refused
    ]


def dispute(con: sa.Connection, number: str, outcome: str, reason: str, now: int, run: int) -> str:
    """Record that a dispute of a payment was opened, won or lost; the correction's number."""
    payment = _succeeded(con, number)
    made = [row for row in rows(con, "corrections", payment=number) if row["kind"] == "dispute"]
    is_open = bool(made) and made[-1]["outcome"] == "opened"
    if outcome == "opened" and made and made[-1]["outcome"] != "won":
        _refuse(number, "its dispute is open or lost already")
    if outcome != "opened" and not is_open:
        _refuse(number, "no dispute of it is open")
    minor = made[-1]["amount_minor"] if is_open else payment["amount_minor"] - _taken(con, number, to_card_only=True)
    if minor <= 0:
        _refuse(number, "all of it went back to the card already")
    name = next_number(con, "DP")
    journal = Journal(con, now, run)
    entries = post.dispute(outcome, payment["account_id"], payment["currency"], payment["invoice"], number, name, minor)
    transaction = journal.post(f"dispute_{outcome}", entries)
    register(
        con, name, "dispute", now, run,
        invoice=payment["invoice"], payment=number, account_id=payment["account_id"], currency=payment["currency"],
        amount_minor=minor, outcome=outcome, reason=reason, transaction=transaction,
    )  # fmt: skip
    journal.flush()
    return name


def _register_refund(
    con: sa.Connection,
    payment: dict[str, Any],
    name: str,
    minor: int,
    reason: str,
    now: int,
    run: int,
    *,
    to_card: bool,
    transaction: int | None,
) -> None:
    register(
        con, name, "refund", now, run,
        invoice=payment["invoice"], payment=payment["payment"], account_id=payment["account_id"],
        currency=payment["currency"], amount_minor=minor, to_card=int(to_card), reason=reason, transaction=transaction,
    )  # fmt: skip


def _refund_entries(payment: dict[str, Any], name: str, minor: int, *, to_card: bool) -> list[post.Entry]:
    return post.refund(
        payment["account_id"],
        payment["currency"],
        payment["invoice"],
        payment["payment"],
        name,
        minor,
        to_card=to_card,
    )


def _refundable(con: sa.Connection, number: str, amount: str | None) -> tuple[dict[str, Any], int]:
    payment = _succeeded(con, number)
    left = max(min(payment["amount_minor"] - _taken(con, number), _left_on_invoice(con, payment)), 0)
    try:
        minor = left if amount is None else parse_money(amount, payment["currency"])
    except InvalidValue as error:
        raise wrong_value("--amount", error) from None
    if not 0 < minor <= left:
        _refuse(number, f"{format_money(left, payment['currency'])} {payment['currency']} of it can be given back")
    return payment, minor


def _left_on_invoice(con: sa.Connection, payment: dict[str, Any]) -> int:
    """What cards paid of the payment's invoice and no void, credit note, adjustment, refund or dispute gave back."""
    invoice = payment["invoice"]
    cards = sum(
        source.amount_minor
        for source in History(con, payment["account_id"]).paid(invoice)
        if source.source == "card" and source.invoice == invoice
    )
    others = rows(con, "payments", invoice=invoice, status="succeeded")
    return cards - sum(_taken(con, other["payment"]) for other in others)


def _taken(con: sa.Connection, number: str, *, to_card_only: bool = False) -> int:
    """What refunds, and disputes that are open or lost, have taken of a payment."""
    made = rows(con, "corrections", payment=number)
    refused = {row["about"] for row in made if row["kind"] == "refund_refused"}
    refunds = [
        row
        for row in made
        if row["kind"] == "refund" and row["correction"] not in refused and (row["to_card"] or not to_card_only)
    ]
    disputes = [row for row in made if row["kind"] == "dispute"]
    disputed: int = disputes[-1]["amount_minor"] if disputes and disputes[-1]["outcome"] != "won" else 0
    refunded: int = sum(row["amount_minor"] for row in refunds)
    return refunded if to_card_only else refunded + disputed


def _succeeded(con: sa.Connection, number: str) -> dict[str, Any]:
    found = rows(con, "payments", payment=number)
    if not found:
        raise UsageError(
            f"There is no payment {number!r}.",
            unchanged="Nothing was changed.",
            remedy="`metering report payments` lists them.",
        )
    if found[0]["status"] != "succeeded":
        _refuse(number, f"it is {found[0]['status']}")
    return found[0]


def _refuse(number: str, why: str) -> NoReturn:
    raise UsageError(
        f"{number} cannot be corrected so: {why}.", remedy="`metering report payments` shows where it stands."
    )
