"""The guard over closed months: `prices.csv` must not silently change what they were billed at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from metering.charges.prices import MonthPrices, PriceList, PriceRow, read_prices
from metering.charges.stored import stored_lists
from metering.errors import UsageError
from metering.home import Home
from metering.ledger.tables import metadata
from metering.state import with_usage
from metering.usage import meter
from metering.values import format_price

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


class PriceChange(NamedTuple):
    """A stretch of a closed month in which a price list would change what an account was billed at."""

    month: str
    since: int
    until: int
    account_id: str
    sku: str
    region: str
    old: PriceRow
    new: PriceRow


def check_prices(home: Home) -> None:
    """Refuse the current price list if it would change the price of usage that was already billed."""
    with home.book.read() as con:
        changes = _changed_prices(con, read_prices(str(home.prices_file)), home.config.billing.zone)
    _refuse(_with_usage(home, changes))


def _changed_prices(con: sa.Connection, current: PriceList, zone: tzinfo) -> list[PriceChange]:
    """Where a list would change the price of a key that was billed in a closed month, with or without usage then."""
    lines, closes = metadata().tables["invoice_lines"], metadata().tables["closes"]
    stored = stored_lists(con)
    bounds = {row.month: (row.period_start, row.period_end) for row in con.execute(sa.select(closes))}
    billed = con.execute(
        sa.select(lines.c.month, lines.c.account_id, lines.c.sku, lines.c.region, lines.c.currency).distinct()
    ).all()
    found = []
    for month, account, sku, region, currency in sorted(billed):
        lists = stored[month]
        if lists[0].hash == current.hash:
            continue
        before, after = MonthPrices(lists, zone), MonthPrices([current], zone)
        start, end = bounds[month]
        edges = [start, *sorted(before.cuts(start, end) | after.cuts(start, end)), end]
        for since, until in pairwise(edges):
            old = before.find(account, sku, region, currency, since)
            new = after.find(account, sku, region, currency, since)
            if old and new and old[1].price_per_gb_hour != new[1].price_per_gb_hour:
                found.append(PriceChange(month, since, until, account, sku, region, old[1], new[1]))
    return found


def _with_usage(home: Home, changes: list[PriceChange]) -> list[PriceChange]:
    """The changes of stretches in which the account really had usage."""
    if not changes:
        return []
    edges = sorted({(change.month, edge) for change in changes for edge in (change.since, change.until)})
    periods = [meter.Period(month, since, until) for (month, since), (same, until) in pairwise(edges) if month == same]

    def account_usage(usage: duckdb.DuckDBPyConnection) -> pa.Table:
        meter.set_periods(usage, periods)
        return meter.account_usage(usage)

    zone, limit = home.config.billing.zone, home.config.engine.memory_limit
    table = with_usage(home.lake, home.now, zone, account_usage, limit, keep_lifespans=False)
    used = table.select(["account_id", "sku", "region", "period_start"]).to_pylist()
    starts: dict[tuple[str, str, str], list[int]] = {}
    for row in used:
        starts.setdefault((row["account_id"], row["sku"], row["region"]), []).append(row["period_start"])
    return [
        change
        for change in changes
        if any(
            change.since <= start < change.until
            for start in starts.get((change.account_id, change.sku, change.region), [])
        )
    ]


def _refuse(changes: Sequence[PriceChange]) -> None:
    """Refuse a price list because of the rows that would change closed months, if there are any."""
    if not changes:
        return
    told = [
        f"{change.month}, {change.account_id}: row {_row(change.new)} would replace the price"
        f" {format_price(change.old.price_per_gb_hour)}"
        for change in changes
    ]
    told = list(dict.fromkeys(told))
    more = [f"and {len(told) - 20} more"] if len(told) > 20 else []
    raise UsageError(
        "prices.csv would change the price of usage that was already billed:\n  " + "\n  ".join(told[:20] + more),
        unchanged="No month was closed and no price was changed.",
        remedy="Set those rows back, or accept them with "
        + ", ".join(f"`metering prices reprice {month} --reason R`" for month in sorted({c.month for c in changes}))
        + ".",
    )


def _row(row: PriceRow) -> str:
    return ",".join(
        (row.sku, row.region, row.currency, format_price(row.price_per_gb_hour), row.effective_from, row.account_id)
    )
