"""`metering explain`: an invoice computed again from its stored inputs and the events that it counted.

The figures do not depend on anything that came later: late events, price edits, account changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow.compute as pc

from metering.close.drafting import Draft, Drafts, draft, line_rows, periods_of, prices_in_force
from metering.close.inputs import Inputs, stored_inputs
from metering.columns import rows_of
from metering.errors import UsageError
from metering.home import Home
from metering.ledger.book import rows
from metering.schema import table as schema
from metering.usage import meter
from metering.values import (
    MICROS_PER_HOUR,
    PRICE_PLACES,
    counted,
    format_gb_hours,
    format_instant,
    format_money,
    format_scaled,
    gb_hours_denominator,
    parse_scaled,
    rate,
    round_half_up,
)


@dataclass(frozen=True)
class Stretch:
    """A snapshot at one size and one price, from and to."""

    snapshot_id: str
    project_id: str
    used_from: int
    used_until: int
    size_bytes: int
    byte_micros: int


@dataclass(frozen=True)
class Explained:
    """An invoice beside what comes out when it is computed again."""

    invoice: dict[str, Any]
    lines: list[dict[str, Any]]
    differences: list[str]
    stretches: dict[tuple[str, str, str, str], list[Stretch]]
    """By month, SKU, region and price."""
    inputs: Inputs


def explain(home: Home, number: str) -> Explained:
    """Compute an invoice again; UsageError if there is none of that number."""
    with home.book.read() as con:
        found = rows(con, "invoices", invoice=number)
        if not found:
            raise UsageError(f"There is no invoice {number!r}.", remedy="`metering report invoices` lists them.")
        (invoice,) = found
        lines = rows(con, "invoice_lines", invoice=number)
        inputs = stored_inputs(con, invoice["month"])
        drafts = draft(home, con, inputs)
    again = next((made for made in drafts.invoices if made.account_id == invoice["account_id"]), None)
    return Explained(
        invoice,
        lines,
        differences(invoice, lines, again),
        _stretches(home, inputs, drafts, invoice["account_id"], {line["month"] for line in lines}),
        inputs,
    )


def differences(invoice: dict[str, Any], lines: list[dict[str, Any]], again: Draft | None) -> list[str]:
    """In what an issued invoice differs from one that was computed again."""
    if again is None:
        return ["computed again, the account has no line in this month"]
    found = []
    for name, value in (
        ("invoice", again.number),
        ("currency", again.currency),
        ("subtotal_minor", again.subtotal_minor),
        ("tax_minor", again.tax_minor),
        ("total_minor", again.total_minor),
    ):
        if invoice[name] != value:
            found.append(f"{name}: issued {invoice[name]}, computed again {value}")
    made = [dict(zip(schema("invoice_lines").names, row, strict=True)) for row in line_rows(again)]
    for issued, computed in zip(lines, made, strict=False):
        found += [
            f"line {issued['line']}, {name}: issued {issued[name]}, computed again {computed[name]}"
            for name in issued
            if issued[name] != computed[name]
        ]
    if len(lines) != len(made):
        found.append(f"{counted(len(lines), 'line')} issued, {len(made)} computed again")
    return found


def _stretches(
    home: Home, inputs: Inputs, drafts: Drafts, account: str, months: set[str]
) -> dict[tuple[str, str, str, str], list[Stretch]]:
    prices = prices_in_force(home, inputs)
    bounds = {**inputs.closed, str(inputs.month): (inputs.period_start, inputs.period_end)}
    duck = drafts.usage
    meter.set_periods(duck, periods_of({month: bounds[month] for month in months}, prices))
    snapshots = sorted(set(meter.snapshot_usage(duck, [account]).column("snapshot_id").to_pylist()))
    rated = drafts.rated.prices()
    price_of = {
        (month, period_start, sku, region): price
        for month, period_start, _, sku, region, price in rows_of(rated.filter(pc.field("account_id") == account))
    }
    found: dict[tuple[str, str, str, str], list[Stretch]] = defaultdict(list)
    for row in meter.stretch_usage(duck, snapshots).to_pylist():
        price = price_of.get((row["month"], row["period_start"], row["sku"], row["region"]))
        if row["account_id"] != account or price is None:
            continue
        found[row["month"], row["sku"], row["region"], price].append(
            Stretch(
                row["snapshot_id"],
                row["project_id"],
                row["used_from"],
                row["used_until"],
                row["size_bytes"],
                int(row["byte_micros"]),
            )
        )
    return found


def sentences(explained: Explained, only_line: int | None = None) -> Iterator[str]:
    """The arithmetic as text that can be pasted into a mail."""
    invoice, inputs = explained.invoice, explained.inputs
    currency = invoice["currency"]
    yield f"{invoice['invoice']}   account {invoice['account_id']}   {invoice['month']}   {currency}"
    yield f"Month {format_instant(inputs.period_start)} to {format_instant(inputs.period_end)} ({inputs.timezone})"
    through, gigabyte = inputs.events_through, inputs.gigabyte_bytes
    yield f"Events through batch {through}; 1 GB = {gigabyte} bytes; inputs {inputs.hash[:16]}"
    for line in explained.lines:
        if only_line in (None, line["line"]):
            yield ""
            yield from _line(explained, line)
    if only_line is None:
        yield ""
        yield from _total(explained)
    yield ""
    if explained.differences:
        yield "NOT IDENTICAL to what was issued:"
        yield from (f"  {difference}" for difference in explained.differences)
    else:
        yield "Computed again from the stored inputs: identical."


def _line(explained: Explained, line: dict[str, Any]) -> Iterator[str]:
    gigabyte = explained.inputs.gigabyte_bytes
    price, currency = line["price_per_gb_hour"], line["currency"]
    stretches = explained.stretches.get((line["month"], line["sku"], line["region"], price), [])
    yield f"Line {line['line']}: {line['kind']} {line['month']}, {line['sku']}, {line['region']}"
    yield from _table(
        ["snapshot", "from", "to", "bytes", "hours", "GB-hours"],
        [
            [
                stretch.snapshot_id,
                format_instant(stretch.used_from),
                format_instant(stretch.used_until),
                str(stretch.size_bytes),
                _hours(stretch.used_until - stretch.used_from),
                format_gb_hours(stretch.byte_micros, gigabyte),
            ]
            for stretch in stretches
        ],
    )
    known = sum(stretch.byte_micros for stretch in stretches)
    exact = _exact_amount(known, price, gigabyte)
    rounded = format_money(_rounded(known, price, currency, gigabyte), currency)
    yield f"  {format_gb_hours(known, gigabyte)} GB-hours × {price} = {exact} → {rounded} {currency}"
    if line["kind"] == "adjustment":
        before = format_gb_hours(known - line["byte_micros"], gigabyte)
        billed = format_money(_rounded(known, price, currency, gigabyte) - line["amount_minor"], currency)
        yield f"  billed before: {before} GB-hours, {billed} {currency}"
    yield (
        f"  on the invoice: {format_gb_hours(line['byte_micros'], gigabyte)} GB-hours,"
        f" {format_money(line['amount_minor'], currency)} {currency}"
    )


def _total(explained: Explained) -> Iterator[str]:
    invoice, currency = explained.invoice, explained.invoice["currency"]
    yield f"Lines  {format_money(invoice['subtotal_minor'], currency):>16} {currency}"
    groups: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for line in explained.lines:
        amount, tax = groups[line["kind"], line["tax_rate"]]
        groups[line["kind"], line["tax_rate"]] = (amount + line["amount_minor"], tax + line["tax_minor"])
    for (kind, percent), (amount, tax) in groups.items():
        yield (
            f"Tax    {format_money(tax, currency):>16} {currency}   {percent} % of"
            f" {format_money(amount, currency)} ({kind}), rounded once"
        )
    yield f"Total  {format_money(invoice['total_minor'], currency):>16} {currency}"


def _rounded(byte_micros: int, price: str, currency: str, gigabyte: int) -> int:
    return rate(byte_micros, Decimal(price), currency, gigabyte)


def _exact_amount(byte_micros: int, price: str, gigabyte: int) -> str:
    """The amount with 12 decimals, more than any rounding looks at."""
    scaled = byte_micros * parse_scaled(price, PRICE_PLACES)
    return format_scaled(round_half_up(scaled, gb_hours_denominator(gigabyte)), PRICE_PLACES)


def _hours(micros: int) -> str:
    return format_scaled(round_half_up(micros * 10**6, MICROS_PER_HOUR), 6)


def _table(header: list[str], body: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]
    for row in [header, *body]:
        cells = [
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield ("  " + "  ".join(cells)).rstrip()
