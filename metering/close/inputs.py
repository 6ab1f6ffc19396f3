"""What a close is computed from: fixed first, stored with the close, hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from metering.accounts.imports import current_versions
from metering.charges.prices import PriceList, read_prices
from metering.charges.stored import list_of_close, stored_lists
from metering.columns import blocks
from metering.home import Home
from metering.ledger.book import MOST_ROWS, rows
from metering.ledger.tables import last_rows, metadata
from metering.schema import table as schema
from metering.sql import sql
from metering.values import Month

RULES_VERSION = 1
"""The version of the rules by which months are computed; it changes when a rule changes a figure."""


class Account(NamedTuple):
    """What of an account's details decides its lines and its invoice."""

    version: int
    currency: str
    tax_rate: str


@dataclass(frozen=True)
class Inputs:
    """Everything that decides the lines of a close."""

    month: Month
    period_start: int
    period_end: int
    timezone: str
    gigabyte_bytes: int
    events_through: int
    prices: PriceList
    stored_prices: dict[str, list[PriceList]]
    """The lists in force for each earlier closed month, in order of precedence."""
    accounts: dict[str, Account]
    accounts_hash: str | None
    """The hash over all account rows, with all their details; None where only a look is taken."""
    tax_rates: dict[tuple[str, str], str]
    """The tax rate stored with the close of an earlier month, by month and account, of accounts that were changed."""
    closed: dict[str, tuple[int, int]]
    """The bounds of every earlier closed month."""
    corrections_through: int
    """The last correction that counts, in the order of recording: a run that closes two months leaves room between."""
    prices_through: int
    """The last list of `month_prices` that counts, in the order of recording."""

    @cached_property
    def currency_of(self) -> dict[str, str]:
        """The currency of every known account."""
        return {name: account.currency for name, account in self.accounts.items()}

    @cached_property
    def hash(self) -> str:
        """The hash over all inputs."""
        assert self.accounts_hash is not None
        return digest(
            [
                RULES_VERSION,
                str(self.month),
                self.period_start,
                self.period_end,
                self.timezone,
                self.gigabyte_bytes,
                self.events_through,
                self.prices.hash,
                self.accounts_hash,
                [[month, [prices.hash for prices in lists]] for month, lists in sorted(self.stored_prices.items())],
            ]
        )


_BOOKKEEPING = {"version", "imported_at", "run"}


def digest(value: Any) -> str:
    """The SHA-256 of a value in canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()


class ListDigest:
    """The digest of a list that is too long to be in memory, or of `[first, list]`."""

    def __init__(self, *first: Any) -> None:
        self._hash = hashlib.sha256(b"".join(b"[" + msgspec.json.encode(value) + b"," for value in first) + b"[")
        self._end = b"]" * (len(first) + 1)
        self._follows = False

    def add(self, items: Sequence[Any]) -> None:
        """Add the next items of the list."""
        if items:
            self._hash.update(b"," * self._follows + msgspec.json.encode(items)[1:-1])
            self._follows = True

    def hexdigest(self) -> str:
        """The digest, if the list ends here."""
        ended = self._hash.copy()
        ended.update(self._end)
        return ended.hexdigest()


def fix_inputs(home: Home, con: sa.Connection, month: Month, *, hashed: bool) -> Inputs:
    """The inputs of a close, as they are now; for a look ahead they need not be hashed, which takes a while."""
    billing = home.config.billing
    start, end = month.bounds(billing.zone)
    closed = rows(con, "closes")
    decided: dict[str, int] = dict(con.execute(last_rows("corrections", "month_prices")).all())
    accounts, accounts_hash = _accounts(current_versions(con)) if hashed else (_unhashed(con), None)
    return Inputs(
        month=month,
        period_start=start,
        period_end=end,
        timezone=billing.timezone,
        gigabyte_bytes=billing.gigabyte_bytes,
        events_through=home.lake.manifest().last_batch,
        prices=read_prices(str(home.prices_file)),
        stored_prices=stored_lists(con),
        accounts=accounts,
        accounts_hash=accounts_hash,
        tax_rates=stored_tax_rates(con),
        closed={row["month"]: (row["period_start"], row["period_end"]) for row in closed},
        corrections_through=decided["corrections"],
        prices_through=decided["month_prices"],
    )


def stored_tax_rates(con: sa.Connection) -> dict[tuple[str, str], str]:
    """The tax rate at each close of each account that has more than one version; any other has had one rate only."""
    return {(month, account): rate for month, account, rate in con.execute(sa.text(sql("close", "changed_tax_rates")))}


def stored_inputs(con: sa.Connection, month: str) -> Inputs:
    """The inputs that a closed month was computed from."""
    closes = rows(con, "closes")
    this = next(row for row in closes if row["month"] == month)
    earlier = {row["month"]: (row["period_start"], row["period_end"]) for row in closes if row["month"] < month}
    accounts, accounts_hash = _accounts(_versions_of(con, month))
    (decided,) = rows(con, "close_decisions", month=month)
    lists = stored_lists(con, before=(month, decided["prices_through"]))
    return Inputs(
        month=Month.parse(month),
        period_start=this["period_start"],
        period_end=this["period_end"],
        timezone=this["timezone"],
        gigabyte_bytes=this["gigabyte_bytes"],
        events_through=this["events_through"],
        prices=list_of_close(con, month),
        stored_prices=lists,
        accounts=accounts,
        accounts_hash=accounts_hash,
        tax_rates={key: rate for key, rate in stored_tax_rates(con).items() if key[0] < month},
        closed=earlier,
        corrections_through=decided["corrections_through"],
        prices_through=decided["prices_through"],
    )


def _versions_of(con: sa.Connection, month: str) -> sa.CursorResult[Any]:
    """The version of every account that a close stored, in the order of account ids."""
    used, versions = metadata().tables["close_accounts"].c, metadata().tables["account_versions"].c
    query = (
        sa.select(*(versions[name] for name in schema("account_versions").names))
        .where(used.month == month, versions.account_id == used.account_id, versions.version == used.version)
        .order_by(used.account_id)
    )
    return con.execute(query, execution_options={"yield_per": MOST_ROWS})


def _unhashed(con: sa.Connection) -> dict[str, Account]:
    """The accounts as they are now."""
    return {row[0]: Account._make(row[1:]) for row in current_versions(con, "account_id", *Account._fields)}


def _accounts(versions: Iterable[Sequence[Any]]) -> tuple[dict[str, Account], str]:
    """The accounts of some versions in order, and the hash over all that these say."""
    columns = schema("account_versions").names
    name, *kept = (columns.index(column) for column in ("account_id", *Account._fields))
    hashed = [columns.index(column) for column in sorted(set(columns) - _BOOKKEEPING)]
    # Most accounts have the same version, currency and rate.
    once: dict[Account, Account] = {}
    found = {}
    digest = ListDigest()
    for part in blocks(versions):
        digest.add([[row[place] for place in hashed] for row in part])
        for row in part:
            account = Account(*(row[place] for place in kept))
            found[row[name]] = once.setdefault(account, account)
    return found, digest.hexdigest()
