"""What each business event moves in the book: one function per event, each a balanced list of entries.

An entry's amount is signed: debit positive, credit negative. Every amount is in minor units of one currency.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import sqlalchemy as sa

from metering.ledger.book import hand_in, insert_rows
from metering.ledger.tables import metadata
from metering.schema import table as schema
from metering.sql import sql


class Entry(NamedTuple):
    """One side of a transaction; `amount_minor` is positive for a debit, negative for a credit."""

    ledger_account: str
    amount_minor: int
    account_id: str
    currency: str
    invoice: str | None = None
    payment: str | None = None
    reference: str | None = None


@cache
def chart() -> dict[str, dict[str, str]]:
    """The chart of accounts."""
    return tomllib.loads(files("metering.ledger").joinpath("chart.toml").read_text("utf-8"))


class Journal:
    """The transactions of one database transaction; `flush` writes them and refreshes the invoices' states."""

    def __init__(self, con: sa.Connection, posted_at: int, run: int) -> None:
        self._con = con
        self._posted_at = posted_at
        self._run = run
        transactions, entries = metadata().tables["transactions"], metadata().tables["entries"]
        self._transaction = con.scalar(sa.select(sa.func.max(transactions.c.transaction))) or 0
        self._entry = con.scalar(sa.select(sa.func.max(entries.c.entry))) or 0
        self._heads: list[tuple[Any, ...]] = []
        self._entries: list[tuple[Any, ...]] = []
        self._invoices: set[str] = set()
        self._chart = chart()

    def post(self, kind: str, entries: Iterable[Entry]) -> int | None:
        """Add a transaction and return its number; None if no money moves."""
        moving = [entry for entry in entries if entry.amount_minor]
        if not moving:
            return None
        self._transaction += 1
        total = 0
        for where, amount, who, currency, invoice, payment, reference in moving:
            assert where in self._chart and currency == moving[0].currency, (kind, moving)
            total += amount
            self._entry += 1
            debit, credit = (amount, 0) if amount > 0 else (0, -amount)
            self._entries.append(
                (self._entry, self._transaction, where, who, currency, debit, credit, invoice, payment, reference)
            )
            if invoice:
                self._invoices.add(invoice)
        assert total == 0, (kind, moving)
        self._heads.append((self._transaction, self._posted_at, kind, self._run))
        return self._transaction

    def touch(self, invoice: str) -> None:
        """Have an invoice's state refreshed although no money moved."""
        self._invoices.add(invoice)

    def flush(self) -> None:
        """Write everything posted so far."""
        insert_rows(self._con, "entries", schema("entries").names, self._entries)
        insert_rows(self._con, "transactions", schema("transactions").names, self._heads)
        refresh_status(self._con, self._invoices)
        self._heads, self._entries, self._invoices = [], [], set()


def refresh_status(con: sa.Connection, invoices: Iterable[str]) -> None:
    """Bring the states of some invoices in step with their entries."""
    wanted = sorted(invoices)
    if not wanted:
        return
    hand_in(con, "touched", "invoice", wanted)
    con.exec_driver_sql(sql("ledger", "refresh_status"))


# Money comes in


def topup(account: str, currency: str, amount: int, reference: str) -> list[Entry]:
    """A customer paid in advance."""
    return [
        Entry("bank", amount, account, currency, reference=reference),
        Entry("balance", -amount, account, currency, reference=reference),
    ]


def credit_grant(account: str, currency: str, amount: int, reference: str) -> list[Entry]:
    """Promotional money was given."""
    return [
        Entry("promotions", amount, account, currency, reference=reference),
        Entry("credit", -amount, account, currency, reference=reference),
    ]


def credit_lapse(account: str, currency: str, amount: int, reference: str) -> list[Entry]:
    """What is left of a credit has expired."""
    return [
        Entry("credit", amount, account, currency, reference=reference),
        Entry("promotions", -amount, account, currency, reference=reference),
    ]


# An invoice and its settlement


def invoice_issue(account: str, currency: str, invoice: str, subtotal: int, tax: int) -> list[Entry]:
    """An invoice was issued; a negative one is owed to the customer."""
    return [
        Entry("receivable", subtotal + tax, account, currency, invoice),
        Entry("revenue", -subtotal, account, currency, invoice),
        Entry("tax", -tax, account, currency, invoice),
    ]


def brought_forward(account: str, currency: str, invoice: str, earlier: str, amount: int) -> list[Entry]:
    """What an earlier invoice carried falls due with this one."""
    return [
        Entry("receivable", amount, account, currency, invoice, reference=earlier),
        Entry("carried", -amount, account, currency, earlier, reference=invoice),
    ]


def withheld(account: str, currency: str, invoice: str, amount: int) -> list[Entry]:
    """Part of a correction had been given back before, so it is not given back again."""
    return [
        Entry("receivable", amount, account, currency, invoice),
        Entry("withheld", -amount, account, currency, invoice),
    ]


def credit_use(account: str, currency: str, invoice: str, reference: str, amount: int) -> list[Entry]:
    """A credit paid (or, negative, got back) part of an invoice."""
    return [
        Entry("credit", amount, account, currency, invoice, reference=reference),
        Entry("receivable", -amount, account, currency, invoice, reference=reference),
    ]


def balance_use(account: str, currency: str, invoice: str, amount: int) -> list[Entry]:
    """The balance paid (or, negative, got back) part of an invoice."""
    return [
        Entry("balance", amount, account, currency, invoice),
        Entry("receivable", -amount, account, currency, invoice),
    ]


def carried_pay(account: str, currency: str, invoice: str, amount: int) -> list[Entry]:
    """The balance paid what an invoice had carried."""
    return [
        Entry("balance", amount, account, currency, invoice),
        Entry("carried", -amount, account, currency, invoice),
    ]


def set_aside(account: str, currency: str, invoice: str, amount: int) -> list[Entry]:
    """Balance was set aside for an open invoice."""
    return [
        Entry("balance", amount, account, currency, invoice),
        Entry("reserved", -amount, account, currency, invoice),
    ]


def set_free(account: str, currency: str, invoice: str, amount: int) -> list[Entry]:
    """Balance that was set aside is not needed there."""
    return [
        Entry("reserved", amount, account, currency, invoice),
        Entry("balance", -amount, account, currency, invoice),
    ]


def reserved_use(account: str, currency: str, invoice: str, amount: int) -> list[Entry]:
    """Balance that was set aside paid part of its invoice."""
    return [
        Entry("reserved", amount, account, currency, invoice),
        Entry("receivable", -amount, account, currency, invoice),
    ]


def carry(account: str, currency: str, invoice: str, amount: int) -> list[Entry]:
    """What is too little to charge waits for the account's next invoice."""
    return [
        Entry("carried", amount, account, currency, invoice),
        Entry("receivable", -amount, account, currency, invoice),
    ]


def uncarry(account: str, currency: str, invoice: str, amount: int) -> list[Entry]:
    """What an invoice carried is owed on it again."""
    return carry(account, currency, invoice, -amount)


def card_payment(account: str, currency: str, invoice: str, payment: str, amount: int) -> list[Entry]:
    """The gateway captured money from the card."""
    return [
        Entry("gateway", amount, account, currency, invoice, payment),
        Entry("receivable", -amount, account, currency, invoice, payment),
    ]


def card_surplus(account: str, currency: str, invoice: str, payment: str, amount: int) -> list[Entry]:
    """A late success captured what was no longer owed: it is the customer's balance."""
    return [
        Entry("gateway", amount, account, currency, invoice, payment),
        Entry("balance", -amount, account, currency, invoice, payment),
    ]


# Corrections


def credit_note(
    account: str, currency: str, invoice: str, note: str, *, net: int, tax: int, due: int, carried: int
) -> list[Entry]:
    """A credit note reduced what is due or carried on an invoice; the rest of it is balance."""
    return [
        Entry("credit_notes", net, account, currency, invoice, reference=note),
        Entry("tax", tax, account, currency, invoice, reference=note),
        Entry("receivable", -due, account, currency, invoice, reference=note),
        Entry("carried", -carried, account, currency, invoice, reference=note),
        Entry("balance", due + carried - net - tax, account, currency, invoice, reference=note),
    ]


def write_off(account: str, currency: str, invoice: str, reference: str, *, due: int, carried: int) -> list[Entry]:
    """What is owed on an invoice will not come."""
    return [
        Entry("bad_debt", due + carried, account, currency, invoice, reference=reference),
        Entry("receivable", -due, account, currency, invoice, reference=reference),
        Entry("carried", -carried, account, currency, invoice, reference=reference),
    ]


def void(account: str, currency: str, invoice: str, reference: str, *, net: int, tax: int) -> list[Entry]:
    """An invoice is taken back: it is owed no more."""
    return [
        Entry("voids", net, account, currency, invoice, reference=reference),
        Entry("tax", tax, account, currency, invoice, reference=reference),
        Entry("receivable", -net - tax, account, currency, invoice, reference=reference),
    ]


def gone_already(account: str, currency: str, invoice: str, ledger_account: str, amount: int) -> list[Entry]:
    """Of what a void gives back, part had gone back before by a refund or a lost dispute."""
    return [
        Entry("receivable", amount, account, currency, invoice),
        Entry(ledger_account, -amount, account, currency, invoice),
    ]


def refund(
    account: str, currency: str, invoice: str, payment: str, reference: str, amount: int, *, to_card: bool
) -> list[Entry]:
    """A card payment was given back, to the card or to the balance."""
    return [
        Entry("refunds", amount, account, currency, invoice, payment, reference),
        Entry("gateway" if to_card else "balance", -amount, account, currency, invoice, payment, reference),
    ]


def dispute(
    outcome: str, account: str, currency: str, invoice: str, payment: str, reference: str, amount: int
) -> list[Entry]:
    """A dispute was opened (the network takes the money), won (it comes back) or lost (it is gone)."""
    to, source = {
        "opened": ("disputed", "gateway"),
        "won": ("gateway", "disputed"),
        "lost": ("disputes_lost", "disputed"),
    }[outcome]
    return [
        Entry(to, amount, account, currency, invoice, payment, reference),
        Entry(source, -amount, account, currency, invoice, payment, reference),
    ]


def payout(account: str, currency: str, reference: str, amount: int) -> list[Entry]:
    """The balance of a closed account is to be paid out."""
    return [
        Entry("balance", amount, account, currency, reference=reference),
        Entry("payouts", -amount, account, currency, reference=reference),
    ]
