"""The price lists that closed months keep, and the one that a person takes into force for such a month."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import tzinfo
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from metering.charges.prices import MonthPrices, PriceList, PriceRow, read_prices
from metering.errors import UsageError
from metering.ledger.book import insert
from metering.ledger.tables import metadata
from metering.values import format_price


def stored_lists(con: sa.Connection, before: tuple[str, int] | None = None) -> dict[str, list[PriceList]]:
    """The lists in force for each closed month, in order of precedence: now, or as a close found them.

    `before` names that close by its month and the last layer that it counted, in the order of recording.

    A reprice comes before what it replaces, the latest first; then the list of the month's own close; then the
    lists that filled gaps, the earliest first.
    """
    layers = metadata().tables["month_prices"]
    query = sa.select(layers).order_by(layers.c.month, layers.c.layer)
    if before is not None:
        month, through = before
        by_person = sa.and_(layers.c.kind == "reprice", layers.c.recorded <= through)
        query = query.where(sa.or_(layers.c.close_month < month, by_person))
    found: dict[str, list[Any]] = defaultdict(list)
    for layer in con.execute(query).mappings():
        found[layer["month"]].append(layer)
    lists = _load(con, {layer["price_list"] for month in found.values() for layer in month})
    rank = {"reprice": 0, "close": 1, "gap": 2}
    return {
        month: [
            lists[layer["price_list"]]
            for layer in sorted(
                month_layers,
                key=lambda layer: (
                    rank[layer["kind"]],
                    -layer["layer"] if layer["kind"] == "reprice" else layer["layer"],
                ),
            )
        ]
        for month, month_layers in found.items()
    }


def _load(con: sa.Connection, hashes: Iterable[str]) -> dict[str, PriceList]:
    table = metadata().tables["price_lists"]
    rows: dict[str, list[PriceRow]] = {name: [] for name in hashes}
    for row in con.execute(sa.select(table).where(table.c.price_list.in_(rows))).mappings():
        rows[row["price_list"]].append(
            PriceRow(
                row["sku"],
                row["region"],
                row["currency"],
                row["account_id"],
                row["effective_from"],
                Decimal(row["price_per_gb_hour"]),
            )
        )
    return {name: PriceList(found) for name, found in rows.items()}


def store_list(
    con: sa.Connection,
    prices: PriceList,
    *,
    month: str,
    kind: str,
    recorded_at: int,
    run: int,
    close_month: str | None = None,
    reason: str = "",
) -> None:
    """Take a price list into force for a month; its rows are stored once."""
    lists, layers = metadata().tables["price_lists"], metadata().tables["month_prices"]
    known = con.scalar(sa.select(sa.func.count()).where(lists.c.price_list == prices.hash))
    if not known:
        insert(
            con,
            "price_lists",
            (
                {
                    "price_list": prices.hash,
                    "row": number,
                    **row._asdict(),
                    "price_per_gb_hour": format_price(row.price_per_gb_hour),
                }
                for number, row in enumerate(prices.rows, 1)
            ),
        )
    before = con.scalar(sa.select(sa.func.max(layers.c.layer)).where(layers.c.month == month)) or 0
    layer = {
        "month": month,
        "layer": before + 1,
        "kind": kind,
        "price_list": prices.hash,
        "close_month": close_month,
        "reason": reason,
        "recorded_at": recorded_at,
        "run": run,
    }
    insert(con, "month_prices", [layer])


def in_force(
    stored: dict[str, list[PriceList]], months: Iterable[str], current: PriceList, zone: tzinfo
) -> dict[str, MonthPrices]:
    """What prices each month: its stored lists, then the current one."""
    return {month: MonthPrices([*stored.get(month, []), current], zone) for month in months}


def list_of_close(con: sa.Connection, month: str) -> PriceList:
    """The whole price list that the close of a month stored."""
    layers = metadata().tables["month_prices"]
    name = con.scalar(sa.select(layers.c.price_list).where(layers.c.month == month, layers.c.kind == "close"))
    assert name is not None, month
    return _load(con, [name])[name]


def reprice(con: sa.Connection, path: str, month: str, reason: str, now: int, run: int) -> bool:
    """Take the current price list into force for a closed month; False if it is already."""
    lists = stored_lists(con).get(month)
    if lists is None:
        raise UsageError(
            f"{month} is not closed.",
            remedy="Nothing needs to be done: its close will take the prices as they are then.",
        )
    prices = read_prices(path)
    if lists[0].hash == prices.hash:
        return False
    store_list(con, prices, month=month, kind="reprice", recorded_at=now, run=run, reason=reason)
    return True
