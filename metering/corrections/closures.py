"""Closing an account: after its final invoice, what balance is left is paid out."""

from __future__ import annotations

import sqlalchemy as sa

from metering.corrections.register import next_number, register
from metering.errors import UsageError
from metering.ledger import postings as post
from metering.ledger import purses
from metering.ledger.book import insert, rows
from metering.ledger.postings import Journal
from metering.ledger.tables import metadata


def close_account(con: sa.Connection, account: str, now: int, run: int) -> bool:
    """Record that an account is to be closed; False if it is already."""
    if not rows(con, "account_versions", account_id=account):
        raise UsageError(
            f"There is no account {account!r}.",
            unchanged="Nothing was changed.",
            remedy="`metering report balances` lists them.",
        )
    if rows(con, "account_closures", account_id=account):
        return False
    insert(con, "account_closures", [{"account_id": account, "closed_at": now, "run": run}])
    return True


def pay_out(
    con: sa.Connection, journal: Journal, before: int, month: str, now: int, run: int
) -> list[tuple[str, str, int]]:
    """Post the balance of every account that was closed before an instant and owes nothing; account, currency, amount.

    Called by the close of a month with the month's end: the month in which an account was closed has its final
    invoice. An account that still owes something keeps its balance for it.
    """
    closures = metadata().tables["account_closures"]
    closed = set(con.scalars(sa.select(closures.c.account_id).where(closures.c.closed_at < before)))
    if not closed:
        return []
    status = metadata().tables["invoice_status"]
    owing = set(con.scalars(sa.select(status.c.account_id).where(status.c.amount_due_minor > 0)))
    paid = []
    held = purses.balances(con)
    for account in sorted(closed - owing):
        amount = held.get(account, 0)
        if amount <= 0:
            continue
        currency = rows(con, "account_versions", account_id=account)[-1]["currency"]
        name = next_number(con, "PO")
        transaction = journal.post("payout", post.payout(account, currency, name, amount))
        register(
            con, name, "payout", now, run,
            account_id=account, currency=currency, amount_minor=amount,
            reason=f"account closed; final balance after {month}", transaction=transaction,
        )  # fmt: skip
        journal.flush()
        paid.append((account, currency, amount))
    return paid
