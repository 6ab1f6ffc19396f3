"""Usage as people read it: whole columns of byte-microseconds become GB-hours, exactly."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from metering.reports.catalog import Report, ReportColumn
from metering.reports.exact import exact_select, gb_hours, printed
from metering.reports.render import _is_special

REPORT = Report("usage", "", (ReportColumn("gb_hours", "gb_hours", ""),))
UNIT = {"GB": 10**9, "GiB": 2**30}


def half_up(usage: int, gigabyte: int) -> Decimal:
    """GB-hours of 9 places, as the contract words it."""
    exact = Fraction(abs(usage) * 10**9, gigabyte * 3_600_000_000)
    nano = (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)
    return Decimal(f"{nano if usage >= 0 else -nano}E-9")


def usages(seed: int) -> list[int | None]:
    """Values of every length, near powers of two, and halves of the last place, of both signs."""
    draw = random.Random(seed)
    values = [draw.randrange(10 ** draw.randrange(1, 38)) for _ in range(400)]
    values += [2**power + step for power in (0, 31, 32, 62, 63, 64, 89, 90, 92, 93, 94, 125) for step in (-1, 0, 1)]
    values += [half * 1_800_000_000 + step for half in (1, 3, 10**9 + 1, 2**61 + 1) for step in (-1, 0, 1)]
    values += [0, 10**38 - 1]
    return [*values, *(-value for value in values), None]


@pytest.mark.parametrize("gigabyte", UNIT.values(), ids=UNIT)
def test_gb_hours_are_exact_in_columns_and_in_sql(gigabyte: int) -> None:
    values = usages(gigabyte)
    kind = pa.decimal128(38, 0)
    column = pa.array([None if value is None else Decimal(value) for value in values], kind)
    expected = [None if value is None else half_up(value, gigabyte) for value in values]
    # Also a piece that begins within a byte of the mask, and no rows at all.
    pieces = pa.chunked_array([column[:5], column[5:5], column[5:]], kind)
    assert gb_hours(pieces, gigabyte).to_pylist() == expected
    con = duckdb.connect()
    con.register("rows_given", pa.table({"gb_hours": pieces}))
    # SQL multiplies first, and refuses what then does not fit.
    short = f"SELECT * FROM rows_given WHERE abs(gb_hours) < CAST({10**37} AS DECIMAL(38, 0))"
    found = con.execute(exact_select(REPORT, gigabyte, short)).fetchall()
    assert [value for (value,) in found] == [
        known for value, known in zip(values, expected, strict=True) if value is not None and abs(value) < 10**37
    ]


def test_many_rows_stay_in_their_order() -> None:
    """More than one batch of rows, of unequal work: an engine of several threads mixes them up now and then."""
    columns = ("month", "text"), ("at", "instant"), ("currency", "text"), ("amount", "money"), ("gb_hours", "gb_hours")
    report = Report("usage", "", tuple(ReportColumn(*column, "") for column in columns))
    count = 400_000
    numbers = np.arange(count)
    rows = pa.table(
        {
            "month": pa.array(["2026-05"] * count),
            "at": numbers * 1_000_000 + np.where(numbers < 122_880, numbers, 0),
            "currency": pa.array(["USD"] * count),
            "amount": numbers,
            "gb_hours": pa.array(numbers).cast(pa.decimal128(38, 0)),
        }
    )
    batches = pa.Table.from_batches(rows.to_batches(max_chunksize=122_880))
    for _ in range(2):
        found = printed(report, batches, 10**9).column("amount").to_pylist()
        assert [int(amount.replace(".", "")) for amount in found] == list(range(count))


SPECIAL = ['a"b', "a,b", "a\nb", "a\rb", "=a", "+a", "-a", "@a", "\ta", "\ra", "-", "a;b", "a\tb", "\uff1da"]
PLAIN = ["", "a", "a=b", "a-b", "ü@", "日本"]


@pytest.mark.parametrize("text", SPECIAL)
def test_a_text_that_needs_a_quote_or_a_guard_is_found_among_others(text: str) -> None:
    texts = pa.array([*PLAIN, text, None, *PLAIN])
    assert _is_special(texts) and _is_special(texts[3:]) and _is_special(texts[: len(PLAIN) + 1])
    assert not _is_special(texts[: len(PLAIN)]) and not _is_special(texts[len(PLAIN) + 1 :])


def test_plain_texts_are_not_special() -> None:
    assert not _is_special(pa.array(PLAIN)) and not _is_special(pa.array([], pa.string()))
    assert not _is_special(pa.array([None, None], pa.string()))


KINDS = {"money": "money", "gb_hours": "gb_hours", "instant": "instant", "currency": "text"}
PRINTED = Report("usage", "", tuple(ReportColumn(name, kind, "") for name, kind in KINDS.items()))


@pytest.mark.parametrize("size", [0, 10**15 - 1, 10**15, 10**18 - 1, 10**18, 10**27])
def test_what_fits_64_bits_is_printed_as_what_does_not(size: int) -> None:
    numbers = [size, -size, 5, -5, 0]
    digits = {"USD": 2, "JPY": 0, "BHD": 3}
    for currency, places in digits.items():
        rows = pa.table(
            {
                "money": pa.array([*map(Decimal, numbers), None], pa.decimal128(38, 0)),
                "gb_hours": pa.array(
                    [*(Decimal(number * 3_600_000_000) for number in numbers), None], pa.decimal128(38, 0)
                ),
                "instant": pa.array([0, 1_000_000, 1_000, 1_500_000, 1, None]),
                "currency": pa.array([currency] * 6),
            }
        )
        found = printed(PRINTED, rows, 10**9)
        assert found["money"].to_pylist() == [*(f"{Decimal(number).scaleb(-places):f}" for number in numbers), None]
        assert found["gb_hours"].to_pylist() == [*(f"{Decimal(number).scaleb(-9):f}" for number in numbers), None]
        assert found["instant"].to_pylist() == [
            "1970-01-01T00:00:00Z",
            "1970-01-01T00:00:01Z",
            "1970-01-01T00:00:00.001Z",
            "1970-01-01T00:00:01.500Z",
            "1970-01-01T00:00:00.000001Z",
            None,
        ]
