"""Whether `prices.csv` would change what closed months were billed at."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from metering.charges.guard import PriceChange, changed_prices, refuse
from metering.charges.prices import read_prices
from metering.home import Home
from metering.state import with_usage
from metering.usage import meter

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


def check_prices(home: Home) -> None:
    """Refuse the current price list if it would change the price of usage that was already billed."""
    with home.book.read() as con:
        changes = changed_prices(con, read_prices(str(home.prices_file)), home.config.billing.zone)
    refuse(_with_usage(home, changes))


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
