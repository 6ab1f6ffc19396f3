"""What each line of some invoices is made of: every snapshot on it, from when to when, at which size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from metering.close.drafting import open_meter, periods_of, prices_in_force
from metering.close.files import path_of, recompute_allocations
from metering.close.inputs import Inputs
from metering.home import Home
from metering.lake import compose, every
from metering.schema import arrow_schema
from metering.usage import meter
from metering.values import (
    MICROS_PER_HOUR,
    format_gb_hours,
    format_instant,
    format_money,
    format_price,
    format_scaled,
    round_half_up,
)

Row = dict[str, Any]


class Place(NamedTuple):
    """A snapshot's usage at one price: what stands on one line."""

    month: str
    sku: str
    region: str
    price: str
    snapshot_id: str
    project_id: str


class Stretch(NamedTuple):
    """A snapshot at one size, from and until (microseconds since the epoch)."""

    used_from: int
    used_until: int
    size_bytes: int


class Detail:
    """The snapshots on the lines of one month's invoices, as the close counted them."""

    def __init__(self, home: Home, con: sa.Connection, inputs: Inputs, lines: list[Row]) -> None:
        self._gigabyte = inputs.gigabyte_bytes
        self._shares = _shares(home, con, inputs, lines)
        self._stretches, self._names = _metered(home, inputs, lines, self._shares)

    def of(self, line: Row) -> list[Row]:
        """The snapshots on a line, by project and id."""
        return [self._snapshot(line, share) for share in self._shares.get((line["invoice"], line["line"]), ())]

    def _snapshot(self, line: Row, share: Row) -> Row:
        place = _place(line["month"], line["sku"], line["region"], line["price_per_gb_hour"], share)
        stretches = self._stretches.get(place, [])
        billed = int(share["byte_micros"])
        known = sum(part.size_bytes * (part.used_until - part.used_from) for part in stretches)
        found = {
            "snapshot_id": share["snapshot_id"],
            "name": self._names.get(share["snapshot_id"]),
            "project_id": share["project_id"],
            "gb_hours": format_gb_hours(billed, self._gigabyte),
            "amount": format_money(share["amount_minor"], line["currency"]),
            "stretches": [self._stretch(part) for part in stretches],
        }
        if line["kind"] == "adjustment":
            found["gb_hours_billed_before"] = format_gb_hours(known - billed, self._gigabyte)
            found["gb_hours_counted_now"] = format_gb_hours(known, self._gigabyte)
        return found

    def _stretch(self, part: Stretch) -> Row:
        micros = part.used_until - part.used_from
        return {
            "from": format_instant(part.used_from),
            "until": format_instant(part.used_until),
            "size_bytes": part.size_bytes,
            "hours": format_scaled(round_half_up(micros * 10**6, MICROS_PER_HOUR), 6),
            "gb_hours": format_gb_hours(part.size_bytes * micros, self._gigabyte),
        }


def _place(month: str, sku: str, region: str, price: str, row: Row) -> Place:
    return Place(month, sku, region, price, row["snapshot_id"], row["project_id"])


def _shares(home: Home, con: sa.Connection, inputs: Inputs, lines: list[Row]) -> dict[tuple[str, int], list[Row]]:
    """The allocations of some lines, by invoice and line: from the close's file, or computed again if it is missing."""
    month = str(inputs.month)
    path = home.lake.files.find(path_of(month, "allocations"))
    wanted = pa.array(sorted({line["invoice"] for line in lines}), pa.string())
    if path:
        table = pq.read_table(path, filters=pc.field("invoice").isin(wanted))
    else:
        schema = arrow_schema("invoice_lines")
        given = pa.table(
            [pa.array([line[field.name] for line in lines], field.type) for field in schema], schema=schema
        )
        table = recompute_allocations(home, con, month, given)
    found: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in table.sort_by([("project_id", "ascending"), ("snapshot_id", "ascending")]).to_pylist():
        found[row["invoice"], row["line"]].append(row)
    return found


def _metered(
    home: Home, inputs: Inputs, lines: list[Row], shares: dict[tuple[str, int], list[Row]]
) -> tuple[dict[Place, list[Stretch]], dict[str, str]]:
    """The stretches of every snapshot on the lines, and their names."""
    prices = prices_in_force(home, inputs)
    bounds = {**inputs.closed, str(inputs.month): (inputs.period_start, inputs.period_end)}
    duck = open_meter(home, inputs)
    meter.set_periods(duck, periods_of({month: bounds[month] for month in {line["month"] for line in lines}}, prices))
    snapshots = {share["snapshot_id"] for members in shares.values() for share in members}
    currency_of = {line["account_id"]: line["currency"] for line in lines}
    priced: dict[tuple[str, int, str, str, str], Decimal | None] = {}
    found: dict[Place, list[Stretch]] = defaultdict(list)
    for row in _rows(meter.stretch_usage(duck, sorted(snapshots))):
        key = (row["month"], row["period_start"], row["account_id"], row["sku"], row["region"])
        if key not in priced:
            month, start, account, sku, region = key
            currency = currency_of.get(account)
            match = prices[month].find(account, sku, region, currency, start) if currency else None
            priced[key] = match[1].price_per_gb_hour if match else None
        price = priced[key]
        if price is not None:
            place = _place(row["month"], row["sku"], row["region"], format_price(price), row)
            _add(found[place], Stretch(row["used_from"], row["used_until"], row["size_bytes"]))
    names = compose(duck, every("chosen_names", "snapshot_id, name"), "usage")
    return found, dict(duck.execute(names).fetchall())


def _add(stretches: list[Stretch], part: Stretch) -> None:
    """Add a stretch in order of time; what was cut where no price changed is put together again."""
    before = stretches[-1] if stretches else None
    if before and (before.used_until, before.size_bytes) == (part.used_from, part.size_bytes):
        stretches[-1] = before._replace(used_until=part.used_until)
    else:
        stretches.append(part)


def _rows(table: pa.Table) -> Iterable[Row]:
    for batch in table.to_batches():
        yield from batch.to_pylist()
