"""From stored units to what people read, exactly and whole columns at a time.

A report's SQL gives money in minor units, usage in byte-microseconds and instants in microseconds. Here they
become text as it is printed, or decimals and times for programs. Every step is integer arithmetic; what does not
fit 38 digits is an error, never a figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import gcd

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from metering.columns import halves, is_there, side_by_side
from metering.reports.catalog import Report, ReportColumn
from metering.values import MICROS_PER_SECOND, currencies, gb_hours_denominator

GB_HOURS_PLACES = 9
MONEY_PLACES = 3
"""Places of money as a decimal: no currency has more."""

_MINOR = '"minor digits"'
_AT_ONCE = 2**17
"""Rows that are converted at once."""

_SHORT = {"money": 10**15, "gb_hours": 10**9}
"""What is below, DuckDB prints as a decimal of 64 bits; one of 128 bits takes four times as long."""

_Value = Callable[[ReportColumn, bool], str]
"""What makes an SQL expression of a column, and of whether all its values are short."""


def printed(report: Report, rows: pa.Table, gigabyte_bytes: int) -> pa.Table:
    """The rows as they are printed: every value a text, an integer, or missing."""
    return _converted(report, rows, gigabyte_bytes, _shown)


def typed(report: Report, rows: pa.Table, gigabyte_bytes: int) -> pa.Table:
    """The rows with exact types: GB-hours decimal128(38, 9), money decimal128(38, 3), instants in UTC."""
    table = _converted(report, rows, gigabyte_bytes, lambda column, _: _exact(column))
    for index, column in enumerate(report.columns):
        if column.kind == "instant":
            table = table.set_column(index, column.name, table.column(index).cast(pa.timestamp("us", "UTC")))
    return table


def exact_select(report: Report, gigabyte_bytes: int, rows: str) -> str:
    """The SELECT that gives a report's columns with exact types, of its SQL; instants are UTC without a zone."""

    def exact(column: ReportColumn) -> str:
        return _gb_hours(_own(column.name), gigabyte_bytes) if column.kind == "gb_hours" else _exact(column)

    return _select(report, {column.name: exact(column) for column in report.columns}, f"({rows})")


def _converted(report: Report, rows: pa.Table, gigabyte_bytes: int, value: _Value) -> pa.Table:
    """The rows with each value converted: many rows in parts side by side, each on one thread, which keeps order.

    What is printed as it is, most texts, stays where it lies.
    """
    from metering.lake import answer, connect

    def converted(part: pa.Table) -> pa.Table:
        con = connect(ordered=True)
        part = _in_gb_hours(report, part, gigabyte_bytes)
        values = {column.name: value(column, _is_short(column, part.column(column.name))) for column in report.columns}
        changed = {name: value for name, value in values.items() if value != _own(name)}
        con.register("report_rows", part)
        found = answer(con, _select(report, changed, "report_rows")) if changed else part
        return pa.table({name: (found if name in changed else part).column(name) for name in values})

    if rows.num_rows <= _AT_ONCE:
        return converted(rows)
    parts = (rows.slice(start, _AT_ONCE) for start in range(0, rows.num_rows, _AT_ONCE))
    return pa.concat_tables(side_by_side(converted, parts))


def _in_gb_hours(report: Report, rows: pa.Table, gigabyte_bytes: int) -> pa.Table:
    """The rows with GB-hours instead of byte-microseconds."""
    for index, column in enumerate(report.columns):
        if column.kind == "gb_hours":
            rows = rows.set_column(index, column.name, gb_hours(rows.column(index), gigabyte_bytes))
    return rows


def _is_short(column: ReportColumn, values: pa.ChunkedArray) -> bool:
    """Whether all values of a column of money or GB-hours fit a decimal of 64 bits."""
    if column.kind not in _SHORT:
        return False
    least, most = pc.min_max(values).as_py().values()
    return least is None or -_SHORT[column.kind] < least <= most < _SHORT[column.kind]


def gb_hours(usage: pa.ChunkedArray, gigabyte_bytes: int) -> pa.ChunkedArray:
    """Byte-microseconds as decimal128(38, 9) GB-hours, rounded half away from zero.

    Whole columns of 64-bit halves: DuckDB divides once for each value to turn a decimal into an integer, and once
    more to make GB-hours of it. Values that do not fit the short way go through Python's integers.
    """
    numerator, denominator = _nano(gigabyte_bytes)
    bits = 62 - denominator.bit_length()
    if 2 * numerator * denominator >= 2**63 or (2 ** (62 + bits) // denominator + 1) * numerator >= 2**63:
        bits = 0
    kind = pa.decimal128(38, GB_HOURS_PLACES)
    parts = (
        _divided_whole(part.cast(pa.decimal128(38, 0)), numerator, denominator, bits, kind) for part in usage.chunks
    )
    return pa.chunked_array(parts, kind)


def _divided_whole(usage: pa.Array, numerator: int, denominator: int, bits: int, kind: pa.DataType) -> pa.Array:
    """A piece of a column times numerator by denominator, rounded half away from zero.

    Divided as by hand, in steps that fit 64 bits: first what lies above the lowest `bits`, then the rest with these.
    Values of more than 62 + `bits`, or all where `bits` is 0, are divided by Python.
    """
    there = is_there(usage)
    low, high = (half.copy() for half in halves(usage))
    is_negative = high < 0
    high[is_negative] = ~high[is_negative] + (low[is_negative] == 0)
    low[is_negative] = -low[is_negative]
    long = np.flatnonzero((high >> (bits - 2)) != 0) if bits else np.arange(len(usage))
    found = np.zeros((len(usage), 2), np.int64)
    if bits:
        upper = (high << (64 - bits)) | (low.view(np.uint64) >> np.uint64(bits)).view(np.int64)
        quotient, rest = np.divmod(upper, denominator)
        lower, rest = np.divmod((rest << bits) | (low & ((1 << bits) - 1)), denominator)
        found[:, 0] = ((quotient << bits) + lower) * numerator
        found[:, 0] += (2 * numerator * rest + denominator) // (2 * denominator)
        found[is_negative, 0] *= -1
        found[:, 1] = found[:, 0] >> 63
    for row in long[there[long]].tolist():
        value = int(usage[row].as_py())
        nano = (2 * numerator * abs(value) + denominator) // (2 * denominator) * (-1 if value < 0 else 1)
        if abs(nano) >= 10**38:
            raise pa.ArrowInvalid(f"{value} byte-microseconds do not fit 38 digits of GB-hours.")
        found[row] = np.frombuffer(nano.to_bytes(16, "little", signed=True), np.int64)
    bitmap = pa.py_buffer(np.packbits(there, bitorder="little").tobytes()) if usage.null_count else None
    return pa.Array.from_buffers(kind, len(usage), [bitmap, pa.py_buffer(found)])


def _select(report: Report, values: Mapping[str, str], rows: str) -> str:
    """Currencies are looked at once a row: once a column costs the planner a tenth of a second."""
    from metering.lake import every

    columns = ", ".join(f"{value} AS {_own(name)}" for name, value in values.items())
    if any(column.kind == "money" for column in report.columns):
        rows = f"({every(f'{rows} AS report', f'*, {_digits()} AS {_MINOR}')})"
    return every(f"{rows} AS report", columns)


def _own(name: str) -> str:
    """A column as it is."""
    return f'"{name}"'


def _shown(column: ReportColumn, is_short: bool) -> str:
    name = _own(column.name)
    match column.kind:
        case "money":
            by_digits = " ".join(
                f"WHEN {digits} THEN CAST({_money(name, digits, is_short)} AS VARCHAR)"
                for digits in (0, 2, MONEY_PLACES)
            )
            return f"CASE {_MINOR} {by_digits} END"
        case "gb_hours":
            return f"CAST({f'CAST({name} AS DECIMAL(18, {GB_HOURS_PLACES}))' if is_short else name} AS VARCHAR)"
        case "instant":
            moment = f"make_timestamp({name})"
            return (
                f"CASE WHEN {name} % {MICROS_PER_SECOND} = 0 THEN strftime({moment}, '%Y-%m-%dT%H:%M:%SZ')"
                f" WHEN {name} % 1000 = 0 THEN strftime({moment}, '%Y-%m-%dT%H:%M:%S.%gZ')"
                f" ELSE strftime({moment}, '%Y-%m-%dT%H:%M:%S.%fZ') END"
            )
    return name


def _exact(column: ReportColumn) -> str:
    name = _own(column.name)
    match column.kind:
        case "money":
            by_digits = " ".join(
                f"WHEN {digits} THEN CAST({_money(name, digits, False)} AS DECIMAL(38, {MONEY_PLACES}))"
                for digits in (0, 2, MONEY_PLACES)
            )
            return f"CASE {_MINOR} {by_digits} END"
        case "price":
            return f"CAST({name} AS DECIMAL(38, 12))"
        case "instant":
            return f"make_timestamp({name})"
        case "integer":
            return f"CAST({name} AS BIGINT)"
    return name


def _money(name: str, digits: int, is_short: bool) -> str:
    """Minor units of a currency with so many digits, as a decimal of as many places."""
    if digits == 0:
        return f"CAST({name} AS DECIMAL({15 if is_short else 35}, 0))"
    unit = f"0.{1:0{digits}}"
    return f"CAST({name} AS DECIMAL({15 if is_short else 34}, 0)) * CAST({unit} AS DECIMAL({digits}, {digits}))"


def _digits() -> str:
    """The minor-unit digits of the row's currency."""
    groups: dict[int, list[str]] = {}
    for code, digits in currencies().items():
        groups.setdefault(digits, []).append(code)
    usual = max(groups, key=lambda digits: len(groups[digits]))
    others = " ".join(
        f"WHEN currency IN ({', '.join(repr(code) for code in codes)}) THEN {digits}"
        for digits, codes in groups.items()
        if digits != usual
    )
    return f"CASE {others} ELSE {usual} END"


def _gb_hours(name: str, gigabyte_bytes: int) -> str:
    """Byte-microseconds as GB-hours of 9 places, rounded half away from zero."""
    unit = f"CAST(0.{1:0{GB_HOURS_PLACES}} AS DECIMAL({GB_HOURS_PLACES}, {GB_HOURS_PLACES}))"
    return f"CAST({_nano_gb_hours(name, gigabyte_bytes)} AS DECIMAL({38 - GB_HOURS_PLACES}, 0)) * {unit}"


def _nano_gb_hours(name: str, gigabyte_bytes: int) -> str:
    """Byte-microseconds in units of 10^-9 GB-hours, rounded half away from zero; the fraction is reduced first."""
    numerator, denominator = _nano(gigabyte_bytes)
    divisor = 2 * denominator
    size = f"(2 * {numerator} * abs(CAST({name} AS HUGEINT)) + {divisor // 2})"
    return f"CASE WHEN {name} < 0 THEN -1 ELSE 1 END * ({_divided(size, divisor)})"


def _nano(gigabyte_bytes: int) -> tuple[int, int]:
    """What byte-microseconds are multiplied and divided by to give units of 10^-9 GB-hours."""
    numerator, denominator = 10**GB_HOURS_PLACES, gb_hours_denominator(gigabyte_bytes)
    common = gcd(numerator, denominator)
    return numerator // common, denominator // common


def _divided(size: str, divisor: int) -> str:
    """A positive integer of 128 bits by one of few: in two steps of 64 bits where it fits, which takes a fifth."""
    bits = 63 - divisor.bit_length()
    high = f"CAST({size} >> {bits} AS BIGINT)"
    low = f"CAST({size} & {2**bits - 1} AS BIGINT)"
    quick = (
        f"(CAST({high} // {divisor} AS HUGEINT) << {bits}) + ((({high} % {divisor}) << {bits}) + {low}) // {divisor}"
    )
    return f"CASE WHEN {size} < {2 ** (63 + bits)} THEN {quick} ELSE {size} // {divisor} END"
