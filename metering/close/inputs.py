"""What a close is computed from: fixed first, stored with the close, hashed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import sqlalchemy as sa

from metering.accounts.imports import current_accounts
from metering.charges.prices import PriceList, read_prices
from metering.charges.stored import list_of_close, stored_lists
from metering.home import Home
from metering.ledger.book import rows
from metering.ledger.tables import last_rows, metadata
from metering.schema import table as schema
from metering.values import Month

RULES_VERSION = 1
"""The version of the rules by which months are computed; it changes when a rule changes a figure."""


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
    accounts: dict[str, dict[str, Any]]
    tax_rates: dict[tuple[str, str], str]
    """The tax rate stored with the close of an earlier month, by month and account."""
    closed: dict[str, tuple[int, int]]
    """The bounds of every earlier closed month."""
    corrections_through: int
    """The last correction that counts, in the order of recording: a run that closes two months leaves room between."""
    prices_through: int
    """The last list of `month_prices` that counts, in the order of recording."""

    @cached_property
    def currency_of(self) -> dict[str, str]:
        """The currency of every known account."""
        return {name: account["currency"] for name, account in self.accounts.items()}

    @cached_property
    def accounts_hash(self) -> str:
        """The hash over all account rows."""
        names = sorted(set(schema("account_versions").names) - _BOOKKEEPING)
        return digest([[account[name] for name in names] for account in self.accounts.values()])

    @cached_property
    def hash(self) -> str:
        """The hash over all inputs."""
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


def fix_inputs(home: Home, con: sa.Connection, month: Month) -> Inputs:
    """The inputs of a close, as they are now."""
    billing = home.config.billing
    start, end = month.bounds(billing.zone)
    closed = rows(con, "closes")
    decided: dict[str, int] = dict(con.execute(last_rows("corrections", "month_prices")).all())
    return Inputs(
        month=month,
        period_start=start,
        period_end=end,
        timezone=billing.timezone,
        gigabyte_bytes=billing.gigabyte_bytes,
        events_through=home.lake.manifest().last_batch,
        prices=read_prices(str(home.prices_file)),
        stored_prices=stored_lists(con),
        accounts=current_accounts(con),
        tax_rates=stored_tax_rates(con),
        closed={row["month"]: (row["period_start"], row["period_end"]) for row in closed},
        corrections_through=decided["corrections"],
        prices_through=decided["month_prices"],
    )


def stored_tax_rates(con: sa.Connection) -> dict[tuple[str, str], str]:
    """The tax rate of each account at each close."""
    used, versions = metadata().tables["close_accounts"].c, metadata().tables["account_versions"].c
    its = sa.and_(versions.account_id == used.account_id, versions.version == used.version)
    query = sa.select(used.month, used.account_id, versions.tax_rate).select_from(
        sa.join(metadata().tables["close_accounts"], metadata().tables["account_versions"], its)
    )
    return {(month, account): rate for month, account, rate in con.execute(query).all()}


def stored_inputs(con: sa.Connection, month: str) -> Inputs:
    """The inputs that a closed month was computed from."""
    closes = rows(con, "closes")
    this = next(row for row in closes if row["month"] == month)
    earlier = {row["month"]: (row["period_start"], row["period_end"]) for row in closes if row["month"] < month}
    versions = {(row["account_id"], row["version"]): row for row in rows(con, "account_versions")}
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
        accounts={
            row["account_id"]: versions[row["account_id"], row["version"]]
            for row in rows(con, "close_accounts", month=month)
        },
        tax_rates={key: rate for key, rate in stored_tax_rates(con).items() if key[0] < month},
        closed=earlier,
        corrections_through=decided["corrections_through"],
        prices_through=decided["prices_through"],
    )
