"""Reads what the ledger knows about payments."""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa

from metering.config import Payments
from metering.payments.gateway import Gateway
from metering.payments.split import chargeable
from metering.payments.states import Attempt, Calendar, Case, Live, Terms, is_exhausted
from metering.sql import sql


def load_case(con: sa.Connection, invoice: str) -> Case:
    """An invoice with its attempts and its live intent, from one view of the ledger."""
    head = _query(con, "case", invoice=invoice).mappings().one()
    live = _query(con, "live_intent", invoice=invoice).mappings().first() if head["intents_made"] else None
    return Case(
        **head,
        attempts=tuple(Attempt(**row) for row in _query(con, "attempts", invoice=invoice).mappings()),
        intent=Live(**live) if live else None,
    )


def collect_work(con: sa.Connection) -> list[tuple[str, str]]:
    """The account and number of every invoice that a collect has to look at, in their order."""
    return [(row.account_id, row.invoice) for row in _query(con, "work")]


def exhausted(con: sa.Connection, calendar: Calendar) -> list[Case]:
    """The open invoices for which nothing more will be tried, by number."""
    cases = [load_case(con, row.invoice) for row in _query(con, "declined")]
    return [case for case in cases if is_exhausted(case, calendar)]


def terms_of(case: Case, payments: Payments, gateway: Gateway) -> Terms:
    """What a new attempt for an invoice would be."""
    charge, carry = chargeable(case.receivable_minor, case.currency, payments, gateway)
    return Terms(gateway.name, charge, carry)


def _query(con: sa.Connection, name: str, **params: str) -> sa.CursorResult[Any]:
    return con.execute(_text(name), params)


@cache
def _text(name: str) -> sa.TextClause:
    return sa.text(sql("payments", name))
