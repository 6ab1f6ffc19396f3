"""What each account has in its purses (balance, credits, amounts carried) and owes, as sums over the book."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from metering.ledger.tables import metadata
from metering.sql import sql


class CreditLeft(NamedTuple):
    """What is left of a credit."""

    reference: str
    account_id: str
    currency: str
    expires: str | None
    remaining_minor: int


class Carried(NamedTuple):
    """What an invoice carried and no other has brought forward yet."""

    invoice: str
    account_id: str
    amount_minor: int


def _entries() -> Any:
    return metadata().tables["entries"].c


def _held() -> Any:
    """What a liability account holds."""
    return sa.func.sum(_entries().credit_minor - _entries().debit_minor)


def balances(con: sa.Connection) -> dict[str, int]:
    """The balance of each account that is not set aside, where there is any."""
    query = (
        sa.select(_entries().account_id, _held())
        .where(_entries().ledger_account == "balance")
        .group_by(_entries().account_id)
        .having(_held() != 0)
    )
    return {account: int(amount) for account, amount in con.execute(query)}


def balance_of(con: sa.Connection, account: str) -> int:
    """The balance of one account that is not set aside, in minor units."""
    return int(con.scalar(_balance(), {"account_id": account}))


@cache
def _balance() -> sa.TextClause:
    return sa.text(sql("ledger", "balance"))


def credits(con: sa.Connection) -> list[CreditLeft]:
    """Every credit of which something is left, in the order of posting."""
    return _credits(con, lambda funds, held: held.c.held != 0)


def one_credit(con: sa.Connection, reference: str) -> CreditLeft:
    """One credit, also if nothing is left of it."""
    (found,) = _credits(con, lambda funds, held: funds.c.reference == reference)
    return found


def _credits(con: sa.Connection, wanted: Callable[[Any, Any], Any]) -> list[CreditLeft]:
    funds = metadata().tables["funds"]
    held = (
        sa.select(_entries().reference, _held().label("held"))
        .where(_entries().ledger_account == "credit")
        .group_by(_entries().reference)
        .subquery()
    )
    query = (
        sa.select(funds.c.reference, funds.c.account_id, funds.c.currency, funds.c.expires, held.c.held)
        .join(held, held.c.reference == funds.c.reference)
        .where(funds.c.kind == "credit", wanted(funds, held))
        .order_by(funds.c.transaction)
    )
    return [CreditLeft(*row[:4], int(row[4])) for row in con.execute(query)]


def carried(con: sa.Connection) -> list[Carried]:
    """Every amount that waits for the account's next invoice, by invoice."""
    owed = sa.func.sum(_entries().debit_minor - _entries().credit_minor)
    query = (
        sa.select(_entries().invoice, _entries().account_id, owed)
        .where(_entries().ledger_account == "carried")
        .group_by(_entries().invoice, _entries().account_id)
        .having(owed != 0)
        .order_by(_entries().invoice)
    )
    return [Carried(invoice, account, int(amount)) for invoice, account, amount in con.execute(query)]


def open_minor(con: sa.Connection, account: str) -> list[tuple[str, int]]:
    """The account's open invoices, oldest first, with what is owed on each beyond what is set aside for it."""
    status = metadata().tables["invoice_status"]
    query = (
        sa.select(
            _entries().invoice,
            sa.func.sum(
                sa.case(
                    (_entries().ledger_account == "receivable", _entries().debit_minor - _entries().credit_minor),
                    (_entries().ledger_account == "reserved", _entries().debit_minor - _entries().credit_minor),
                    else_=0,
                )
            ),
        )
        .join(status, status.c.invoice == _entries().invoice)
        .where(status.c.account_id == account, status.c.status == "open")
        .group_by(_entries().invoice)
        .order_by(_entries().invoice)
    )
    return [(invoice, int(amount)) for invoice, amount in con.execute(query) if amount > 0]
