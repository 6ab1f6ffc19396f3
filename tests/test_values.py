"""The values that everything is made of: instants, months, byte-time, money; exact, and strict about texts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering import values as v

ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Beirut", "Asia/Kolkata", "Pacific/Apia", "Africa/Cairo"]
HOUR = v.MICROS_PER_HOUR
WEIGHTS = st.lists(st.integers(0, 10**24), min_size=1, max_size=12)


# Instants


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1970-01-01t00:00:00.25z", 250_000),
        ("1970-01-01T00:00:00.0000019Z", 1),  # finer digits are cut, not rounded
        ("2026-05-03T10:00:00-05:30", 1_777_822_200_000_000),  # 15:30 Z; 20,576 days and 55,800 s
    ],
)
def test_an_instant_is_read_exactly(text: str, instant: int) -> None:
    assert v.parse_instant(text) == instant


@pytest.mark.parametrize(
    "text",
    [
        "", "2026-05-03", "2026-05-03T10:00:00", "2026-05-03 10:00:00Z", "2026-05-03T10:00Z", "2026-02-30T00:00:00Z",
        "2026-05-03T24:00:00Z", "2026-05-03T10:00:60Z", "2026-05-03T10:00:00+24:00", "2026-05-03T10:00:00.Z",
        "2026-05-03T10:00:00Z ", "٢٠٢٦-05-03T10:00:00Z", "20260503T100000Z", "0000-01-01T00:00:00Z",
    ],
)  # fmt: skip
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(v.InvalidValue):
        v.parse_instant(text)


@given(st.integers(-(10**16), 10**17))
def test_an_instant_survives_printing(instant: int) -> None:
    assert v.parse_instant(v.format_instant(instant)) == instant


@pytest.mark.parametrize(
    ("zone", "day", "first"),
    [
        ("UTC", "2026-05-01", "2026-05-01T00:00:00Z"),
        ("Europe/Berlin", "2026-03-30", "2026-03-29T22:00:00Z"),
        ("Europe/Berlin", "2026-03-29", "2026-03-28T23:00:00Z"),
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z"),  # clocks skip 00:00 to 01:00
        ("Asia/Beirut", "2022-03-27", "2022-03-26T22:00:00Z"),  # the same
        ("Asia/Beirut", "2021-10-31", "2021-10-30T22:00:00Z"),  # the last hour of the day before comes twice
        ("America/Havana", "2021-11-07", "2021-11-07T04:00:00Z"),  # 00:00 to 01:00 comes twice: the first of them
        ("Africa/Cairo", "2023-04-28", "2023-04-27T22:00:00Z"),  # clocks skip 00:00 to 01:00
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00Z"),  # the day before was left out
    ],
)
def test_a_day_begins_at_its_first_instant(zone: str, day: str, first: str) -> None:
    assert v.format_instant(v.first_instant(date.fromisoformat(day), ZoneInfo(zone))) == first


@given(st.sampled_from(ZONES), st.dates(date(1990, 1, 1), date(2037, 12, 30)))
def test_no_instant_before_the_first_is_of_that_day(zone: str, day: date) -> None:
    first = v.first_instant(day, ZoneInfo(zone))
    if (zone, day) != ("Pacific/Apia", date(2011, 12, 30)):  # that day never was
        assert v.to_datetime(first, ZoneInfo(zone)).date() == day
    assert v.to_datetime(first - 1, ZoneInfo(zone)).date() < day


# Months


def test_months_count_and_print() -> None:
    assert [str(v.Month.parse("2026-11").plus(n)) for n in (-11, 0, 1, 2, 14)] == [
        "2025-12", "2026-11", "2026-12", "2027-01", "2028-01",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["2026-02-30", "2026-5-1", "20260501", "2026-W18-5", "2026-05-01T00:00:00", ""])
def test_what_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(v.InvalidValue):
        v.parse_day(text)


@pytest.mark.parametrize("text", ["2026-13", "2026-00", "2026-5", "2026-05-01", "26-05", "0000-01", "２０２６-05", ""])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(v.InvalidValue):
        v.Month.parse(text)


@pytest.mark.parametrize(
    ("zone", "month", "hours"),
    [
        ("UTC", "2026-02", 672),
        ("UTC", "2028-02", 696),
        ("Europe/Berlin", "2026-03", 743),
        ("Europe/Berlin", "2026-10", 745),
        ("America/Sao_Paulo", "2018-11", 719),
        ("Asia/Kolkata", "2026-05", 744),
    ],
)
def test_a_month_has_the_hours_that_pass_in_it(zone: str, month: str, hours: int) -> None:
    start, end = v.Month.parse(month).bounds(ZoneInfo(zone))
    assert end - start == hours * HOUR


@given(st.sampled_from(ZONES), st.integers(1990, 2036), st.integers(1, 12))
def test_months_and_days_leave_no_gap(zone: str, year: int, number: int) -> None:
    month, place = v.Month(year, number), ZoneInfo(zone)
    start, end = month.bounds(place)
    days = month.days(place)
    assert [days[0][1], *(day[2] for day in days)] == [*(day[1] for day in days), end]
    assert days[0][1] == start
    assert month.plus(1).bounds(place)[0] == end
    assert v.Month.of(start, place) == month == v.Month.of(end - 1, place)


# Rounding


@pytest.mark.parametrize(
    ("numerator", "denominator", "rounded"),
    [(1, 2, 1), (-1, 2, -1), (3, 2, 2), (-3, 2, -2), (49, 100, 0), (-49, 100, 0), (-51, 100, -1), (0, 7, 0)],
)
def test_halves_go_away_from_zero(numerator: int, denominator: int, rounded: int) -> None:
    assert v.round_half_up(numerator, denominator) == rounded


@given(st.integers(-(10**40), 10**40), st.integers(1, 10**20))
def test_rounding_agrees_with_decimal(numerator: int, denominator: int) -> None:
    with localcontext(prec=120):
        exact = (Decimal(numerator) / Decimal(denominator)).quantize(Decimal(1), ROUND_HALF_UP)
    assert v.round_half_up(numerator, denominator) == int(exact)


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [
        (10, [1, 1, 1], [4, 3, 3]),  # 3⅓ each; ties go to the first
        (100, [1, 2, 4], [14, 29, 57]),  # 14.29, 28.57, 57.14: the one missing goes to the .57
        (-10, [1, 1, 1], [-3, -3, -4]),  # −3⅓ each, floored to −4; two missing go to the first two
        (5, [0, 0], [5, 0]),  # no usage at all: the first takes it
        (0, [3, 4], [0, 0]),
        (7, [], []),
        (-6, [-5, -1], [-5, -1]),  # an adjustment that gives back
        (10, [-3, 13], [-3, 13]),  # weights of both signs
    ],
)
def test_an_amount_is_shared_by_largest_remainder(total: int, weights: list[int], parts: list[int]) -> None:
    assert v.share_out(total, weights) == parts


@given(st.integers(-(10**15), 10**15), WEIGHTS)
def test_shares_add_up_and_stray_less_than_a_unit(total: int, weights: list[int]) -> None:
    parts = v.share_out(total, weights)
    assert sum(parts) == total
    if whole := sum(weights):
        for part, weight in zip(parts, weights, strict=True):
            assert abs(part - Fraction(total * weight, whole)) < 1


@given(st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=9), st.integers(1, 10**9))
def test_what_is_rounded_together_adds_up(numerators: list[int], denominator: int) -> None:
    total = v.round_half_up(sum(numerators), denominator)
    parts = v.round_together(numerators, denominator, total)
    assert sum(parts) == total
    for part, numerator in zip(parts, numerators, strict=True):
        assert abs(part - Fraction(numerator, denominator)) < 1


# Usage, money, prices


def test_usage_prints_nine_decimals_half_up() -> None:
    assert v.format_gb_hours(10**9 * HOUR, 10**9) == "1.000000000"
    assert v.format_gb_hours(HOUR // 2, 10**9) == "0.000000001"  # 0.5 × 10^-9
    assert v.format_gb_hours(HOUR // 2 - 1, 10**9) == "0.000000000"
    assert v.format_gb_hours(-HOUR // 2, 10**9) == "-0.000000001"
    assert v.format_gb_hours(2**30 * HOUR, 2**30) == "1.000000000"


@pytest.mark.parametrize(
    ("price", "currency", "gb_hours", "amount"),
    [
        ("0.000068", "USD", 37_200, 253),  # 50 GB × 744 h = 2.5296
        ("0.005", "USD", 1, 1),  # half a cent
        ("0.004999999999", "USD", 1, 0),
        ("0.5", "JPY", 3, 2),
        ("0.0005", "KWD", 1, 1),
        ("1.5", "USD", 10**12, 150 * 10**12),  # beyond what a float holds exactly, were it one
    ],
)
def test_usage_is_rated_and_rounded_once(price: str, currency: str, gb_hours: int, amount: int) -> None:
    assert v.rate(gb_hours * 10**9 * HOUR, Decimal(price), currency, 10**9) == amount
    assert v.rate(-gb_hours * 10**9 * HOUR, Decimal(price), currency, 10**9) == -amount


def test_the_largest_usage_is_rated_exactly() -> None:
    """10 PB for a month at a price of 12 decimals: the product has more than 38 digits."""
    usage = 10**16 * 744 * HOUR
    exact = Fraction(usage, 10**9 * HOUR) * Fraction("0.000067999999") * 100
    assert v.rate(usage, Decimal("0.000067999999"), "USD", 10**9) == round(exact)


@given(st.integers(-v.MAX_MINOR, v.MAX_MINOR), st.sampled_from(["JPY", "USD", "KWD"]))
def test_money_survives_printing(amount: int, currency: str) -> None:
    assert v.parse_money(v.format_money(amount, currency), currency) == amount


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [(-5, "USD", "-0.05"), (0, "JPY", "0"), (1234, "KWD", "1.234"), (-1, "JPY", "-1"), (100, "USD", "1.00")],
)
def test_money_prints_in_major_units(amount: int, currency: str, text: str) -> None:
    assert v.format_money(amount, currency) == text


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("1.005", "USD"), ("0.5", "JPY"), ("1e3", "USD"), ("1,000", "USD"), (" 1", "USD"), ("+1", "USD"), (".5", "USD"),
        ("1.", "USD"), ("", "USD"), ("NaN", "USD"), ("٣", "USD"), ("1", "XXQ"), ("1", "usd"),
        ("92233720368547758.08", "USD"), ("--1", "USD"),
    ],
)  # fmt: skip
def test_what_is_no_money_is_refused(text: str, currency: str) -> None:
    with pytest.raises(v.InvalidValue):
        v.parse_money(text, currency)


def test_zeros_beyond_the_digits_are_no_digits() -> None:
    assert v.parse_money("1.500", "USD") == 150
    assert v.parse_money("7.000", "JPY") == 7


@given(st.integers(0, 10**30 - 1))
def test_a_price_survives_printing(scaled: int) -> None:
    text = v.format_scaled(scaled, 12)
    price = v.parse_price(text)
    assert v.parse_scaled(v.format_price(price), 12) == scaled
    assert v.parse_price(v.format_price(price)) == price
    assert not v.format_price(price).endswith(".")


@pytest.mark.parametrize("text", ["-1", "0.0000000000001", "1e-3", "", "abc", "1000000000000000000"])
def test_what_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(v.InvalidValue):
        v.parse_price(text)


def test_percents_have_six_places() -> None:
    assert v.parse_percent("8.25") == 8_250_000
    assert 200 * v.parse_percent("8.25") == 16.5 * v.PERCENT_DENOMINATOR
    with pytest.raises(v.InvalidValue):
        v.parse_percent("1.1234567")


def test_an_unknown_currency_is_refused() -> None:
    assert (v.minor_digits("JPY"), v.minor_digits("USD"), v.minor_digits("KWD")) == (0, 2, 3)
    with pytest.raises(v.InvalidValue):
        v.minor_digits("XBTC")


@given(st.datetimes(timezones=st.just(UTC)).filter(lambda moment: 1900 < moment.year < 2200))
def test_datetimes_and_instants_are_the_same(moment: datetime) -> None:
    assert v.to_datetime(v.to_instant(moment)) == moment
    assert v.to_instant(moment + timedelta(microseconds=1)) == v.to_instant(moment) + 1
