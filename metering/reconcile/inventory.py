"""`metering reconcile inventory`: the snapshots held for alive against the provider's own list, both ways."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import duckdb
import msgspec
import pyarrow as pa

from metering.accounts.imports import account_currencies
from metering.charges.prices import PriceList, read_prices
from metering.errors import UsageError, unreadable
from metering.home import Home
from metering.lake import connect
from metering.usage import meter
from metering.values import Month, counted, format_money, rate

COLUMN = "snapshot_id"


class Difference(NamedTuple):
    """A snapshot that is alive on one side only."""

    kind: str
    snapshot_id: str
    account_id: str | None
    project_id: str | None
    size_bytes: int | None
    since: int | None
    gb_hours_per_month: int | None
    currency: str | None
    cost_per_month: int | None
    detail: str


_KINDS = {
    "size_bytes": pa.int64(),
    "since": pa.int64(),
    "gb_hours_per_month": pa.decimal128(38, 0),
    "cost_per_month": pa.int64(),
}


@dataclass(frozen=True)
class Compared:
    """How many are alive here and there, and what differs."""

    here: int
    there: int
    differences: list[Difference]

    def sums(self) -> list[str]:
        """What each kind of difference costs in a month, by currency."""
        found: dict[tuple[str, str], int] = defaultdict(int)
        for row in self.differences:
            if row.currency is not None and row.cost_per_month is not None:
                found[row.kind, row.currency] += row.cost_per_month
        return [
            f"{kind}: {format_money(amount, currency)} {currency} a month"
            for (kind, currency), amount in sorted(found.items())
        ]

    def table(self) -> pa.Table:
        """The differences as rows."""
        columns = [
            pa.array([row[place] for row in self.differences], _KINDS.get(name, pa.string()))
            for place, name in enumerate(Difference._fields)
        ]
        return pa.table(columns, names=list(Difference._fields))


def reconcile_inventory(home: Home, path: str) -> Compared:
    """Compare what is alive now with the provider's list; UsageError with the line for a file that is none."""
    listed = read_inventory(path)
    con = connect(home.config.engine.memory_limit)
    home.lake.attach_usage(con)
    meter.open_relations(con, home.now, home.config.billing.zone, keep_lifespans=True)
    alive = {row["snapshot_id"]: row for row in meter.alive(con).to_pylist()}
    cost = _Cost(home)
    gone = [_gone_there(row, cost) for name, row in sorted(alive.items()) if name not in listed]
    strangers = sorted(listed - alive.keys())
    known = _known(con, strangers, home.now, home.config.billing.zone)
    unknown = [_unknown_here(name, known.get(name), cost) for name in strangers]
    return Compared(len(alive), len(listed), [*gone, *unknown])


def read_inventory(path: str) -> set[str]:
    """The snapshot ids in a CSV or JSON Lines file; other columns and fields are allowed."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError as error:
        _wrong(path, error.object.count(b"\n", 0, error.start) + 1, "not UTF-8")
    if not text.strip():
        raise UsageError(
            f"{path} is empty: it has not even a header.",
            unchanged="Nothing was compared.",
            remedy=f"A list of nothing is a CSV file with the header {COLUMN} alone.",
        )
    found: dict[str, int] = {}
    for line, name in _json_lines(path, text) if text.lstrip().startswith("{") else _csv_rows(path, text):
        if not isinstance(name, str) or not name:
            _wrong(path, line, f"{COLUMN} is {'empty' if name in ('', None) else 'no text'}")
        if name in found:
            _wrong(path, line, f"{name!r} stands already on line {found[name]}")
        found[name] = line
    return set(found)


def _json_lines(path: str, text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = msgspec.json.decode(line)
        except msgspec.DecodeError as error:
            _wrong(path, number, f"not JSON: {error}")
        if not isinstance(value, dict) or COLUMN not in value:
            _wrong(path, number, f"no object with the field {COLUMN}")
        yield number, value[COLUMN]


def _csv_rows(path: str, text: str) -> Iterator[tuple[int, str]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if header.count(COLUMN) != 1:
            _wrong(path, 1, f"{'no' if COLUMN not in header else 'more than one'} column {COLUMN}")
        place = header.index(COLUMN)
        before = reader.line_num
        for values in reader:
            line, before = before + 1, reader.line_num
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(header):
                _wrong(path, line, f"{counted(len(values), 'value')} where the header has {len(header)}")
            yield line, values[place].strip()
    except csv.Error as error:
        _wrong(path, reader.line_num, f"not CSV: {error}")


def _wrong(path: str, line: int, message: str) -> NoReturn:
    raise UsageError(
        f"{path}, line {line}: {message}.",
        unchanged="Nothing was compared.",
        remedy=f"The file is CSV with a header, or JSON Lines; each row names its {COLUMN} once.",
    )


class _Cost:
    """What a snapshot uses and costs in the whole current month, at the price in force now."""

    def __init__(self, home: Home) -> None:
        billing = home.config.billing
        self._now, self._zone, self._gigabyte = home.now, billing.zone, billing.gigabyte_bytes
        start, end = Month.of(home.now, billing.zone).bounds(billing.zone)
        self._length = end - start
        self._prices: PriceList = read_prices(str(home.prices_file))
        with home.book.read() as con:
            self._currency_of = account_currencies(con)

    def of(self, row: dict[str, Any]) -> tuple[int, str | None, int | None]:
        """Byte-microseconds, currency, and minor units; the latter two None where no price is known."""
        byte_micros = row["size_bytes"] * self._length
        currency = self._currency_of.get(row["account_id"])
        if currency is None:
            return byte_micros, None, None
        price = self._prices.find(row["account_id"], row["sku"], row["region"], currency, self._now, self._zone)
        if price is None:
            return byte_micros, currency, None
        return byte_micros, currency, rate(byte_micros, price.price_per_gb_hour, currency, self._gigabyte)


def _gone_there(row: dict[str, Any], cost: _Cost) -> Difference:
    byte_micros, currency, amount = cost.of(row)
    why = "billed on" if amount is not None else "not billed: no price" if currency else "not billed: unknown account"
    return Difference(
        "gone_there", row["snapshot_id"], row["account_id"], row["project_id"], row["size_bytes"], row["ready_at"],
        byte_micros, currency, amount, why,
    )  # fmt: skip


def _known(con: duckdb.DuckDBPyConnection, names: list[str], now: int, zone: tzinfo) -> dict[str, dict[str, Any]]:
    """The last stretch of each of some snapshots that were ever metered."""
    first = meter.first_month(con, zone)
    if first is None or not names:
        return {}
    meter.set_periods(con, [meter.Period("ever", first.bounds(zone)[0], now)])
    # They come sorted by time, so that the last of each stays.
    return {row[COLUMN]: row for row in meter.stretch_usage(con, names).to_pylist()}


def _unknown_here(name: str, row: dict[str, Any] | None, cost: _Cost) -> Difference:
    if row is None:
        return Difference("unknown_here", name, None, None, None, None, None, None, None, "not billed: never heard of")
    byte_micros, currency, amount = cost.of(row)
    return Difference(
        "unknown_here", name, row["account_id"], row["project_id"], row["size_bytes"], row["ended_at"],
        byte_micros, currency, amount, "not billed since its end",
    )  # fmt: skip
