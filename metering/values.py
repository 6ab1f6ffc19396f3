"""The values that everything is made of: instants, months, byte-time, money. No I/O, no clock, no float.

Units: an instant is an integer of microseconds since 1970-01-01T00:00:00Z; usage is an integer of
byte-microseconds; money is an integer of minor units (ISO 4217) of its currency.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import cache, lru_cache
from math import gcd

from metering.shipped import shipped

MICROS_PER_SECOND = 1_000_000
MICROS_PER_HOUR = 3_600 * MICROS_PER_SECOND
MICROS_PER_DAY = 24 * MICROS_PER_HOUR
GIGABYTE_BYTES = {"GB": 10**9, "GiB": 2**30}
PRICE_PLACES = 12
MAX_MINOR = 2**63 - 1
"""The largest amount that the ledger's columns hold."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt]((?:[01]\d|2[0-3]):\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)
_DECIMAL = re.compile(r"(-?)(\d{1,24})(?:\.(\d{1,24}))?", re.ASCII)


class InvalidValue(ValueError):
    """A text that is not the value it should be; the message is a sentence for the user."""


# Instants


def parse_instant(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 time with an offset; digits finer than a microsecond are cut."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise InvalidValue(f"{text!r} is not an RFC 3339 time with an offset, such as 2026-05-03T10:00:00.25Z")
    day, clock, fraction, offset = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if offset in 'Zz' else offset}")
    except ValueError as error:
        raise InvalidValue(f"{text!r} is not a time: {error}") from None
    return to_instant(moment) + int(f"{fraction or '0':0<6.6}")


def to_instant(moment: datetime) -> int:
    """The instant of an aware datetime."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def to_datetime(instant: int, zone: tzinfo = UTC) -> datetime:
    """The aware datetime of an instant."""
    return (_EPOCH + timedelta(microseconds=instant)).astimezone(zone)


def format_instant(instant: int) -> str:
    """An instant as RFC 3339 in UTC, with as many digits of the second as it needs (0, 3 or 6)."""
    moment = to_datetime(instant)
    precision = (
        "seconds" if instant % MICROS_PER_SECOND == 0 else ("milliseconds" if instant % 1000 == 0 else "microseconds")
    )
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def first_instant(day: date, zone: tzinfo) -> int:
    """The first instant of a calendar day in a time zone, also where clocks skip or repeat midnight."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    instant = to_instant(midnight)
    if to_datetime(instant, zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return instant
    before, after = instant - MICROS_PER_DAY, instant
    while after - before > 1:
        middle = (before + after) // 2
        if to_datetime(middle, zone).date() < day:
            before = middle
        else:
            after = middle
    return after


def parse_day(text: str) -> str:
    """A calendar day such as `2026-05-01`, as it stands."""
    try:
        day = date.fromisoformat(text).isoformat()
    except ValueError:
        day = None
    if day is None or day != text:
        raise InvalidValue(f"{text!r} is not a date such as 2026-05-01")
    return day


# Calendar months


@dataclass(frozen=True, order=True, slots=True)
class Month:
    """A calendar month; what its bounds are depends on the billing time zone."""

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """The month of a text such as `2026-05`."""
        match = _MONTH.fullmatch(text)
        if match is None or match[1] == "0000":
            raise InvalidValue(f"{text!r} is not a month, such as 2026-05")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def of(cls, instant: int, zone: tzinfo) -> Month:
        """The month that holds an instant."""
        moment = to_datetime(instant, zone)
        return cls(moment.year, moment.month)

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"

    def plus(self, months: int) -> Month:
        """The month that many months later (or earlier)."""
        year, index = divmod(self.year * 12 + self.number - 1 + months, 12)
        return Month(year, index + 1)

    @property
    def first_day(self) -> date:
        """The first calendar day."""
        return date(self.year, self.number, 1)

    def bounds(self, zone: tzinfo) -> tuple[int, int]:
        """The half-open interval `[first instant, first instant of the next month)`."""
        return first_instant(self.first_day, zone), first_instant(self.plus(1).first_day, zone)

    def days(self, zone: tzinfo) -> list[tuple[str, int, int]]:
        """Each calendar day with its half-open bounds."""
        count = (self.plus(1).first_day - self.first_day).days
        days = [self.first_day + timedelta(days=offset) for offset in range(count + 1)]
        starts = [first_instant(day, zone) for day in days]
        return [(str(day), starts[i], starts[i + 1]) for i, day in enumerate(days[:-1])]


# Exact arithmetic


def round_half_up(numerator: int, denominator: int) -> int:
    """The integer nearest to a fraction with a positive denominator, halves away from zero."""
    half = denominator // 2
    return (numerator + half) // denominator if numerator >= 0 else -((half - numerator) // denominator)


def gb_hours_denominator(gigabyte_bytes: int) -> int:
    """Byte-microseconds in one GB-hour."""
    return gigabyte_bytes * MICROS_PER_HOUR


def format_gb_hours(byte_micros: int, gigabyte_bytes: int) -> str:
    """Usage in GB-hours with 9 decimals, rounded half up."""
    return format_scaled(round_half_up(byte_micros * 10**9, gb_hours_denominator(gigabyte_bytes)), 9)


def format_scaled(scaled: int, places: int) -> str:
    """A plain decimal text of an integer that counts units of 10^-places."""
    whole, fraction = divmod(abs(scaled), 10**places)
    sign = "-" if scaled < 0 else ""
    return f"{sign}{whole}.{fraction:0{places}}" if places else f"{sign}{whole}"


def parse_scaled(text: str, places: int) -> int:
    """The integer that counts units of 10^-places in a plain decimal text; more places are refused, not rounded."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise InvalidValue(f"{text!r} is not a plain decimal number, such as 12.34")
    sign, whole, fraction = match.groups()
    digits = (fraction or "").rstrip("0")
    if len(digits) > places:
        raise InvalidValue(f"{text!r} has more than {places} decimal places")
    scaled = int(whole + f"{digits:0<{places}}")
    return -scaled if sign else scaled


def share_out(total: int, weights: Sequence[int]) -> list[int]:
    """Split an amount by weights, by largest remainder, so that the parts add up to it exactly.

    Each part is the exact share floored, then the missing units go to the largest fractions; ties go to the
    earlier weight. Weights may differ in sign; where they add up to zero the first part takes all.
    """
    whole = sum(weights)
    if whole == 0:
        return [total, *(0 for _ in weights[1:])] if weights else []
    sign = 1 if whole > 0 else -1
    return round_together([total * weight * sign for weight in weights], whole * sign, total)


def round_together(numerators: Sequence[int], denominator: int, total: int) -> list[int]:
    """Round fractions of one positive denominator so that they add up to a total, by largest remainder.

    Each is floored, then the missing units go to the largest fractions; ties go to the earlier one. The total
    must be the sum of the fractions, rounded in whichever way.
    """
    if len(numerators) == 1:
        assert abs(total * denominator - numerators[0]) <= denominator, (numerators, denominator, total)
        return [total]
    exact = [divmod(numerator, denominator) for numerator in numerators]
    parts = [quotient for quotient, _ in exact]
    missing = total - sum(parts)
    assert 0 <= missing <= len(parts), (numerators, denominator, total)
    if missing:
        by_fraction = sorted(range(len(parts)), key=lambda index: -exact[index][1])
        for index in by_fraction[:missing]:
            parts[index] += 1
    return parts


# Money and prices


@cache
def currencies() -> dict[str, int]:
    """The minor-unit digits of every currency (ISO 4217)."""
    rows = shipped("schemas/currencies.csv").read_text("utf-8").splitlines()[1:]
    return {code: int(digits) for code, digits in (row.split(",") for row in rows)}


def minor_digits(currency: str) -> int:
    """Decimal places of a currency's minor unit: JPY 0, USD 2, KWD 3."""
    try:
        return currencies()[currency]
    except KeyError:
        raise InvalidValue(f"{currency!r} is not an ISO 4217 currency code") from None


def parse_money(text: str, currency: str) -> int:
    """Minor units of an amount in major units; more digits than the currency has are refused."""
    amount = parse_scaled(text, minor_digits(currency))
    if abs(amount) > MAX_MINOR:
        raise InvalidValue(f"{text!r} {currency} is beyond what the ledger holds")
    return amount


def format_money(amount_minor: int, currency: str) -> str:
    """An amount in major units, as a decimal text."""
    return format_scaled(amount_minor, minor_digits(currency))


def parse_price(text: str) -> Decimal:
    """A price per GB-hour: a plain decimal from zero up, of at most 12 places, without trailing zeros."""
    scaled = parse_scaled(text, PRICE_PLACES)
    if scaled < 0:
        raise InvalidValue(f"{text!r} is negative; a price is zero or more")
    if scaled >= 10 ** (18 + PRICE_PLACES):
        raise InvalidValue(f"{text!r} has more than 18 digits before the point")
    whole, _, fraction = format_scaled(scaled, PRICE_PLACES).partition(".")
    return Decimal(f"{whole}.{fraction.rstrip('0')}".rstrip("."))


def format_price(price: Decimal) -> str:
    """A price as a plain decimal text."""
    return f"{price:f}"


def rate(byte_micros: int, price: Decimal, currency: str, gigabyte_bytes: int) -> int:
    """The minor units that usage costs: exact GB-hours × price, rounded once, half up."""
    numerator, denominator = _minor_units(price, currency, gigabyte_bytes)
    return round_half_up(byte_micros * numerator, denominator)


@lru_cache
def _minor_units(price: Decimal, currency: str, gigabyte_bytes: int) -> tuple[int, int]:
    """What a byte-microsecond costs, as a fraction of minor units; in lowest terms, because small integers are fast."""
    scaled = parse_scaled(format_price(price), PRICE_PLACES)
    numerator = scaled * 10 ** minor_digits(currency)
    denominator = gb_hours_denominator(gigabyte_bytes) * 10**PRICE_PLACES
    common = gcd(numerator, denominator)
    return numerator // common, denominator // common


PERCENT_PLACES = 6
PERCENT_DENOMINATOR = 100 * 10**PERCENT_PLACES


@lru_cache
def parse_percent(text: str) -> int:
    """A percentage as an integer of millionths of a percent; amount × this / PERCENT_DENOMINATOR is the part."""
    return parse_scaled(text, PERCENT_PLACES)


def counted(number: int, one: str, many: str = "") -> str:
    """A number of things, in words."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def printable(name: object) -> str:
    """A file's name as it is told and stored: what cannot be printed, or is no text at all, is escaped."""
    return "".join(each if each.isprintable() else _escaped(each) for each in str(name))


def _escaped(each: str) -> str:
    # Python has a byte that is no UTF-8 stand at U+DC00 and so many.
    return f"\\x{ord(each) - 0xDC00:02x}" if "\udc80" <= each <= "\udcff" else each.encode("unicode_escape").decode()


_JOINERS = "\u200c\u200d\u200e\u200f"
"""Invisible characters that Arabic and Indian scripts need, and that cannot turn other text around."""


def visible(text: str) -> str:
    """A text in which every character that hides or turns others around is written as its code, such as [U+202E]."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"[U+{ord(c):04X}]" if _hides(c) else c for c in text)


def _hides(character: str) -> bool:
    category = unicodedata.category(character)
    return (category in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")) and character not in _JOINERS
