"""From stored units to what people read, exactly and whole columns at a time.

A report's SQL gives money in minor units, usage in byte-microseconds and instants in microseconds. Here they
become text as it is printed, or decimals and times for programs. Every step is integer arithmetic; what does not
fit 38 digits is an error, never a figure.
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd

import pyarrow as pa

from metering.reports.catalog import Report, ReportColumn
from metering.values import MICROS_PER_SECOND, currencies, gb_hours_denominator

GB_HOURS_PLACES = 9
MONEY_PLACES = 3
"""Places of money as a decimal: no currency has more."""

_MINOR = '"minor digits"'

_Value = Callable[[ReportColumn, int], str]
"""What makes an SQL expression of a column and the bytes in a gigabyte."""


def printed(report: Report, rows: pa.Table, gigabyte_bytes: int) -> pa.Table:
    """The rows as they are printed: every value a text, an integer, or missing."""
    return _converted(report, rows, gigabyte_bytes, _shown)


def typed(report: Report, rows: pa.Table, gigabyte_bytes: int) -> pa.Table:
    """The rows with exact types: GB-hours decimal128(38, 9), money decimal128(38, 3), instants in UTC."""
    table = _converted(report, rows, gigabyte_bytes, _exact)
    for index, column in enumerate(report.columns):
        if column.kind == "instant":
            table = table.set_column(index, column.name, table.column(index).cast(pa.timestamp("us", "UTC")))
    return table


def exact_select(report: Report, gigabyte_bytes: int, rows: str) -> str:
    """The SELECT that gives a report's columns with exact types, of its SQL; instants are UTC without a zone."""
    return _select(report, gigabyte_bytes, _exact, f"({rows})")


def _converted(report: Report, rows: pa.Table, gigabyte_bytes: int, value: _Value) -> pa.Table:
    from metering.lake import connect

    con = connect(ordered=True)
    con.register("report_rows", _readable(report, rows))
    return con.sql(_select(report, gigabyte_bytes, value, "report_rows")).to_arrow_table()


def _readable(report: Report, rows: pa.Table) -> pa.Table:
    """The rows with bytes as text: what is no UTF-8 shows its escapes."""
    for index, column in enumerate(report.columns):
        if column.kind == "bytes":
            texts = [
                None if value is None else value.decode("utf-8", "backslashreplace")
                for value in rows.column(index).to_pylist()
            ]
            rows = rows.set_column(index, column.name, pa.array(texts, pa.string()))
    return rows


def _select(report: Report, gigabyte_bytes: int, value: _Value, rows: str) -> str:
    """Currencies are looked at once a row: once a column costs the planner a tenth of a second."""
    columns = ", ".join(f'{value(column, gigabyte_bytes)} AS "{column.name}"' for column in report.columns)
    if any(column.kind == "money" for column in report.columns):
        rows = f"(SELECT *, {_digits()} AS {_MINOR} FROM {rows} AS report)"
    return f"SELECT {columns} FROM {rows} AS report"


def _shown(column: ReportColumn, gigabyte_bytes: int) -> str:
    name = f'"{column.name}"'
    match column.kind:
        case "money":
            by_digits = " ".join(
                f"WHEN {digits} THEN CAST({_money(name, digits)} AS VARCHAR)" for digits in (0, 2, MONEY_PLACES)
            )
            return f"CASE {_MINOR} {by_digits} END"
        case "gb_hours":
            return f"CAST({_gb_hours(name, gigabyte_bytes)} AS VARCHAR)"
        case "instant":
            moment = f"make_timestamp({name})"
            return (
                f"strftime({moment}, '%Y-%m-%dT%H:%M:%S') || CASE WHEN {name} % {MICROS_PER_SECOND} = 0 THEN 'Z'"
                f" WHEN {name} % 1000 = 0 THEN strftime({moment}, '.%gZ') ELSE strftime({moment}, '.%fZ') END"
            )
    return name


def _exact(column: ReportColumn, gigabyte_bytes: int) -> str:
    name = f'"{column.name}"'
    match column.kind:
        case "money":
            by_digits = " ".join(
                f"WHEN {digits} THEN CAST({_money(name, digits)} AS DECIMAL(38, {MONEY_PLACES}))"
                for digits in (0, 2, MONEY_PLACES)
            )
            return f"CASE {_MINOR} {by_digits} END"
        case "gb_hours":
            return _gb_hours(name, gigabyte_bytes)
        case "price":
            return f"CAST({name} AS DECIMAL(38, 12))"
        case "instant":
            return f"make_timestamp({name})"
        case "integer":
            return f"CAST({name} AS BIGINT)"
    return name


def _money(name: str, digits: int) -> str:
    """Minor units of a currency with so many digits, as a decimal of as many places."""
    if digits == 0:
        return f"CAST({name} AS DECIMAL(35, 0))"
    unit = f"0.{1:0{digits}}"
    return f"CAST({name} AS DECIMAL(34, 0)) * CAST({unit} AS DECIMAL({digits}, {digits}))"


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
    numerator, denominator = 10**GB_HOURS_PLACES, gb_hours_denominator(gigabyte_bytes)
    common = gcd(numerator, denominator)
    numerator, divisor = numerator // common, 2 * (denominator // common)
    size = f"(2 * {numerator} * abs(CAST({name} AS HUGEINT)) + {divisor // 2})"
    return f"CASE WHEN {name} < 0 THEN -1 ELSE 1 END * ({_divided(size, divisor)})"


def _divided(size: str, divisor: int) -> str:
    """A positive integer of 128 bits by one of few: in two steps of 64 bits where it fits, which takes a fifth."""
    bits = 63 - divisor.bit_length()
    high = f"CAST({size} >> {bits} AS BIGINT)"
    low = f"CAST({size} & {2**bits - 1} AS BIGINT)"
    quick = (
        f"(CAST({high} // {divisor} AS HUGEINT) << {bits}) + ((({high} % {divisor}) << {bits}) + {low}) // {divisor}"
    )
    return f"CASE WHEN {size} < {2 ** (63 + bits)} THEN {quick} ELSE {size} // {divisor} END"
