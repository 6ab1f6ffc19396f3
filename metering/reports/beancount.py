"""`metering export beancount`: the book as a Beancount file, with every balance asserted.

Beancount's syntax: https://beancount.github.io/docs/beancount_language_syntax.html
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import groupby
from typing import Any

from metering.home import Home
from metering.ledger.postings import chart
from metering.reports.ask import ask
from metering.values import format_money, to_datetime

ROOTS = {"asset": "Assets", "liability": "Liabilities", "income": "Income", "expense": "Expenses"}


def beancount(home: Home) -> Iterator[str]:
    """The lines of the file."""
    entries = ask(home, "ledger").to_pylist()
    zone = home.config.billing.zone
    for entry in entries:
        entry["day"] = to_datetime(entry["posted_at"], zone).date()
        entry["name"] = account_name(entry)
    yield 'option "title" "Metering"'
    for currency in sorted({entry["currency"] for entry in entries}):
        yield f'option "operating_currency" "{currency}"'
    yield ""
    yield from _opened(entries)
    for number, members in groupby(entries, key=lambda entry: entry["transaction"]):
        yield from _transaction(number, list(members))
    yield from _balances(entries)


def account_name(entry: dict[str, Any]) -> str:
    """The Beancount account of an entry: the chart's account, then the customer, where it has customers."""
    body = chart()[entry["ledger_account"]]
    words = "".join(word.capitalize() for word in entry["ledger_account"].split("_"))
    name = f"{ROOTS[body['class']]}:{words}"
    return f"{name}:{_customer(entry['account_id'])}" if "per" in body else name


def _customer(account_id: str) -> str:
    """An account id in the letters that Beancount allows: every other character as its code between dashes."""
    return "C-" + "".join(c if c.isascii() and c.isalnum() else f"-{ord(c):x}-" for c in account_id)


def _opened(entries: list[dict[str, Any]]) -> Iterator[str]:
    first: dict[str, tuple[date, str | None]] = {}
    for entry in entries:
        first.setdefault(entry["name"], (entry["day"], entry["account_id"]))
    for name, (day, account_id) in sorted(first.items()):
        yield f"{day} open {name}"
        if ":C-" in name:
            yield f'  account-id: "{_text(account_id or "")}"'
    yield ""


def _transaction(number: int, members: list[dict[str, Any]]) -> Iterator[str]:
    head = members[0]
    documents = {entry[name] for entry in members for name in ("invoice", "payment", "reference") if entry[name]}
    yield f'{head["day"]} * "{_text(head["account_id"] or "")}" "{_text(" ".join([head["kind"], *sorted(documents)]))}"'
    yield f"  transaction: {number}"
    for entry in members:
        amount = format_money(entry["debit"] - entry["credit"], entry["currency"])
        yield f"  {entry['name']}  {amount} {entry['currency']}"
    yield ""


def _balances(entries: list[dict[str, Any]]) -> Iterator[str]:
    """An assertion for every account and currency, on the day after the last posting."""
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for entry in entries:
        sums[entry["name"], entry["currency"]] += entry["debit"] - entry["credit"]
    day = max((entry["day"] for entry in entries), default=date.min) + timedelta(days=1)
    for (name, currency), amount in sorted(sums.items()):
        yield f"{day} balance {name}  {format_money(amount, currency)} {currency}"


def _text(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
