"""`accounts import`, `funds import` and `funds add`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from metering.ledger.book import MOST_ROWS, insert
from metering.ledger.postings import Journal, credit_grant, topup
from metering.ledger.tables import metadata
from metering.schema import table as schema
from metering.tabular import Row, read_csv
from metering.values import minor_digits, parse_day, parse_money, parse_scaled

ACCOUNT_COLUMNS = (
    "account_id", "name", "email", "country", "currency", "tax_rate", "payment_customer", "payment_method",
)  # fmt: skip
ACCOUNT_EXTRAS = ("address", "city", "postcode", "tax_id", "tax_note")
FUNDS_COLUMNS = ("account_id", "kind", "amount", "currency", "reference")
FUNDS_EXTRAS = ("expires",)

_CARD_LIKE = re.compile(r"(?:\d[ -]?){12,18}\d")


def current_versions(con: sa.Connection, *names: str) -> sa.CursorResult[Any]:
    """The version in force of every account, or some columns of it, by account id, read as they are gone through."""
    table = metadata().tables["account_versions"]
    newest = (
        sa.select(table.c.account_id, sa.func.max(table.c.version).label("version"))
        .group_by(table.c.account_id)
        .subquery()
    )
    query = (
        sa.select(*(table.c[name] for name in names or schema("account_versions").names))
        .join(newest, sa.and_(table.c.account_id == newest.c.account_id, table.c.version == newest.c.version))
        .order_by(table.c.account_id)
    )
    return con.execute(query, execution_options={"yield_per": MOST_ROWS})


def current_accounts(con: sa.Connection) -> dict[str, dict[str, Any]]:
    """The version in force of every account."""
    names = schema("account_versions").names
    # Most accounts have most values in common: each is kept once.
    once: dict[str | int, str | int] = {}
    found: dict[str, dict[str, Any]] = {}
    for row in current_versions(con):
        found[row[0]] = {name: once.setdefault(value, value) for name, value in zip(names, row, strict=True)}
    return found


def account_currencies(con: sa.Connection) -> dict[str, str]:
    """The currency of every account, for which its other columns need not be read."""
    return {row.account_id: row.currency for row in current_versions(con, "account_id", "currency")}


def import_accounts(con: sa.Connection, path: str, now: int, run: int) -> tuple[int, int]:
    """Upsert accounts from a CSV file; how many rows were new or changed, and how many were as they are."""
    known = current_accounts(con)
    posted = _posted_currencies(con)
    seen: dict[str, int] = {}
    changed = []
    listed = read_csv(path, ACCOUNT_COLUMNS, ACCOUNT_EXTRAS)
    for row in listed:
        account = _check_account(row)
        name = account["account_id"]
        if name in seen:
            row.wrong(f"account {name!r} stands already on line {seen[name]}")
        seen[name] = row.line
        if posted.get(name, account["currency"]) != account["currency"]:
            row.wrong(f"account {name!r} has postings in {posted[name]}; its currency cannot change")
        before = known.get(name)
        if before is None or any(before[column] != value for column, value in account.items()):
            version = before["version"] + 1 if before else 1
            changed.append({**account, "version": version, "imported_at": now, "run": run})
    insert(con, "account_versions", changed)
    return len(changed), len(listed) - len(changed)


def _posted_currencies(con: sa.Connection) -> dict[str, str]:
    entries = metadata().tables["entries"]
    query = sa.select(entries.c.account_id, entries.c.currency).distinct().where(entries.c.account_id.is_not(None))
    return {row.account_id: row.currency for row in con.execute(query)}


def _check_account(row: Row) -> dict[str, str]:
    values = dict(row.values)
    if not values["account_id"]:
        row.wrong("account_id is empty")
    for column in ("payment_customer", "payment_method"):
        if looks_like_card(values[column]) or re.fullmatch(r"[\d -]{12,}", values[column]):
            row.wrong(f"{column} looks like a card number; only the gateway's token may stand here")
    for column in ("account_id", "name", "email", "address", "tax_note"):
        if looks_like_card(values[column]):
            row.wrong(f"{column} holds what looks like a card number")
    row.read("currency", minor_digits)
    rate = row.read("tax_rate", parse_scaled, 6)
    if not 0 <= rate <= 100 * 10**6:
        row.wrong(f"tax_rate: {values['tax_rate']} is not a percentage from 0 to 100")
    return values


def looks_like_card(text: str) -> bool:
    """Whether a text holds 13 to 19 digits, spaces and dashes between them allowed, that pass the Luhn check."""
    for match in _CARD_LIKE.finditer(text):
        digits = [int(character) for character in match[0] if character.isdigit()]
        doubled = (digit * 2 for digit in digits[-2::-2])
        if (sum(digits[-1::-2]) + sum(d - 9 if d > 9 else d for d in doubled)) % 10 == 0:
            return True
    return False


def import_funds(con: sa.Connection, path: str, now: int, run: int) -> tuple[int, int]:
    """Add the money in a CSV file; how many references were new, and how many were in the book already."""
    return add_funds(con, read_csv(path, FUNDS_COLUMNS, FUNDS_EXTRAS), now, run)


def add_funds(con: sa.Connection, rows: Sequence[Row], now: int, run: int) -> tuple[int, int]:
    """Add top-ups and credits; the same reference with the same content is in the book already."""
    accounts = current_accounts(con)
    closing = set(con.scalars(sa.select(metadata().tables["account_closures"].c.account_id)))
    table = metadata().tables["funds"]
    known = {row["reference"]: dict(row) for row in con.execute(sa.select(table)).mappings()}
    journal = Journal(con, now, run)
    added = []
    for row in rows:
        money = _check_funds(row, accounts)
        before = known.get(money["reference"])
        if before is not None:
            if any(before[column] != value for column, value in money.items()):
                row.wrong(f"reference {money['reference']!r} is in the book with another content")
            continue
        if money["account_id"] in closing:
            row.wrong(f"account {money['account_id']!r} is closed")
        post = topup if money["kind"] == "topup" else credit_grant
        entries = post(money["account_id"], money["currency"], money["amount_minor"], money["reference"])
        transaction = journal.post("topup" if money["kind"] == "topup" else "credit_grant", entries)
        known[money["reference"]] = money
        added.append({**money, "transaction": transaction})
    journal.flush()
    insert(con, "funds", added)
    return len(added), len(rows) - len(added)


def _check_funds(row: Row, accounts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    values = row.values
    account = accounts.get(values["account_id"])
    if account is None:
        row.wrong(f"account {values['account_id']!r} is not known; import it first")
    if values["kind"] not in ("topup", "credit"):
        row.wrong(f"kind {values['kind']!r} is neither topup nor credit")
    if values["currency"] != account["currency"]:
        row.wrong(f"currency {values['currency']!r}: account {account['account_id']!r} has {account['currency']}")
    if not values["reference"]:
        row.wrong("reference is empty")
    amount = row.read("amount", parse_money, values["currency"])
    if amount <= 0:
        row.wrong(f"amount: {values['amount']} is not more than zero")
    return {
        "reference": values["reference"],
        "account_id": values["account_id"],
        "kind": values["kind"],
        "amount_minor": amount,
        "currency": values["currency"],
        "expires": _check_expiry(row),
    }


def _check_expiry(row: Row) -> str | None:
    if not row.values["expires"]:
        return None
    if row.values["kind"] == "topup":
        row.wrong("expires: a top-up does not expire")
    return row.read("expires", parse_day)
