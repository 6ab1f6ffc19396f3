"""What is owed: lines, adjustments, tax, the order of payment, and the way back; small numbers, by pencil."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import floor
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.charges.rating import ChargeKey
from metering.close.drafting import draft_of, gross_of
from metering.close.inputs import Account
from metering.errors import MeteringError
from metering.invoices.lines import ADJUSTMENT, USAGE, Issued, Line, Owed, add_tax, make_lines, owed
from metering.invoices.settlement import Credit, Source, Use, give_back, pay, spread, withhold
from metering.values import MICROS_PER_HOUR

GB_HOUR = 10**9 * MICROS_PER_HOUR
PRICE = Decimal("0.01")


def key(month: str, sku: str = "snapshot.vm", region: str = "eu", price: Decimal = PRICE) -> ChargeKey:
    return ChargeKey(month, sku, region, price)


def lines_of(charges: dict[ChargeKey, int], issued: dict[ChargeKey, Issued]) -> list[tuple]:
    due = owed("2026-06", charges, issued, "USD", 10**9)
    lines = make_lines(due) if due else []
    assert sum(line.amount_minor for line in lines) == (due.subtotal_minor if due else 0)
    return [(line.kind, line.month, line.byte_micros, line.amount_minor) for line in lines]


def line(amount: int, kind: str = USAGE, month: str = "2026-06") -> Line:
    return Line(kind, month, "snapshot.vm", "eu", PRICE, 0, amount)


# Lines


def test_usage_of_the_month_is_a_line_also_when_it_costs_nothing() -> None:
    assert lines_of({key("2026-06"): 150 * GB_HOUR}, {}) == [(USAGE, "2026-06", 150 * GB_HOUR, 150)]
    assert lines_of({key("2026-06"): 0}, {}) == [(USAGE, "2026-06", 0, 0)]


def test_an_earlier_month_gets_the_difference_of_amounts() -> None:
    """100 GB-h were billed at 1.00; now there are 90, or 130, or the same; or there were none at all."""
    before = {key("2026-05"): Issued(100 * GB_HOUR, 100)}
    assert lines_of({key("2026-05"): 90 * GB_HOUR}, before) == [(ADJUSTMENT, "2026-05", -10 * GB_HOUR, -10)]
    assert lines_of({key("2026-05"): 130 * GB_HOUR}, before) == [(ADJUSTMENT, "2026-05", 30 * GB_HOUR, 30)]
    assert lines_of({key("2026-05"): 100 * GB_HOUR}, before) == []
    assert lines_of({}, before) == [(ADJUSTMENT, "2026-05", -100 * GB_HOUR, -100)]
    assert lines_of({key("2026-05"): 7 * GB_HOUR}, {}) == [(ADJUSTMENT, "2026-05", 7 * GB_HOUR, 7)]


def test_a_difference_that_rounds_away_makes_no_line_and_is_not_forgotten() -> None:
    """0.4 cents more make no line; another 0.4 more, 0.8 cents in all, make one of 1 cent."""
    before = {key("2026-05"): Issued(100 * GB_HOUR, 100)}
    assert lines_of({key("2026-05"): 1004 * GB_HOUR // 10}, before) == []
    more = lines_of({key("2026-05"): 1008 * GB_HOUR // 10}, before)
    assert more == [(ADJUSTMENT, "2026-05", 8 * GB_HOUR // 10, 1)]


def test_another_price_is_another_line() -> None:
    """A reprice: what was billed at the old price goes, what the new one costs comes."""
    new = key("2026-05", price=Decimal("0.02"))
    assert lines_of({new: 100 * GB_HOUR}, {key("2026-05"): Issued(100 * GB_HOUR, 100)}) == [
        (ADJUSTMENT, "2026-05", -100 * GB_HOUR, -100),
        (ADJUSTMENT, "2026-05", 100 * GB_HOUR, 200),
    ]


def test_lines_stand_in_their_order() -> None:
    """Usage before adjustments, then by month, SKU, region, price as a number."""
    keys = [
        key("2026-06", region="us"), key("2026-06", price=Decimal("0.1")), key("2026-06", price=Decimal("0.09")),
        key("2026-06", sku="snapshot.volume", region="aa"), key("2026-05", region="zz"), key("2026-04"),
    ]  # fmt: skip
    due = owed("2026-06", dict.fromkeys(keys, GB_HOUR * 100), {}, "USD", 10**9)
    assert due
    made = make_lines(due)
    assert [(made.kind, made.month, made.sku, made.region, made.price_per_gb_hour) for made in made] == [
        (USAGE, "2026-06", "snapshot.vm", "eu", Decimal("0.09")),
        (USAGE, "2026-06", "snapshot.vm", "eu", Decimal("0.1")),
        (USAGE, "2026-06", "snapshot.vm", "us", PRICE),
        (USAGE, "2026-06", "snapshot.volume", "aa", PRICE),
        (ADJUSTMENT, "2026-04", "snapshot.vm", "eu", PRICE),
        (ADJUSTMENT, "2026-05", "snapshot.vm", "zz", PRICE),
    ]


def test_an_amount_that_no_book_holds_is_refused() -> None:
    """10^15 cents are 10^15 GB-hours at 0.01; half a cent more rounds to one more."""
    largest = {key("2026-06"): 10**15 * GB_HOUR}
    assert lines_of(largest, {}) == [(USAGE, "2026-06", 10**15 * GB_HOUR, 10**15)]
    beyond = {key("2026-06"): 10**15 * GB_HOUR + GB_HOUR // 2}
    with pytest.raises(
        MeteringError, match=r"snapshot\.vm in eu would cost an account 10000000000000\.01 USD for 2026-06"
    ):
        lines_of(beyond, {})
    with pytest.raises(MeteringError, match=r"10000000000000\.01 USD for 2026-05"):
        lines_of({}, {key("2026-05"): Issued(0, 10**15 + 1)})


# Tax


def test_tax_is_rounded_once_over_all_usage() -> None:
    """10 % of 4 + 4 + 4 cents is 1.2, so 1 cent; each line alone would be 0.4, so nothing."""
    lines = [line(4), line(4), line(4)]
    assert add_tax(lines, lambda _: "10") == 1
    assert [each.tax_minor for each in lines] == [1, 0, 0]


def test_adjustments_are_taxed_apart_by_rate() -> None:
    """Usage 5 at 10 %: 0.5, so 1. Adjustments at 10 %: −5, so −1; at 20 %: 4 + 4 = 8, 1.6, so 2. Together 2.

    In one sum usage and the adjustment at 10 % would cancel out to 0.
    """
    rates = {"2026-06": "10", "2026-05": "10", "2026-04": "20", "2026-03": "20"}
    lines = [line(5), line(-5, ADJUSTMENT, "2026-05"), line(4, ADJUSTMENT, "2026-04"), line(4, ADJUSTMENT, "2026-03")]
    assert add_tax(lines, lambda each: rates[each.month]) == 2
    assert [each.tax_minor for each in lines] == [1, -1, 1, 1]
    assert [each.tax_rate for each in lines] == ["10", "10", "20", "20"]
    assert [each.gross_minor for each in lines] == [6, -6, 5, 5]


def test_half_a_cent_of_tax_goes_away_from_zero() -> None:
    assert add_tax([line(50)], lambda _: "1") == 1
    assert add_tax([line(-50, ADJUSTMENT)], lambda _: "1") == -1
    assert add_tax([line(100)], lambda _: "8.25") == 8
    assert add_tax([line(200)], lambda _: "8.25") == 17  # 16.5


RATES = st.sampled_from(["0", "7", "19", "8.25"])


@given(st.lists(st.tuples(st.integers(-(10**9), 10**9), st.booleans(), RATES), max_size=8))
def test_the_taxes_of_the_lines_add_up(amounts: list[tuple[int, bool, str]]) -> None:
    lines = [line(amount, USAGE if usage else ADJUSTMENT, rate) for amount, usage, rate in amounts]
    total = add_tax(lines, lambda each: each.month)
    assert sum(each.tax_minor for each in lines) == total
    exact = sum(Fraction(each.amount_minor) * Fraction(each.tax_rate) / 100 for each in lines)
    groups = {(each.kind, each.tax_rate) for each in lines}
    assert abs(total - exact) * 2 <= len(groups)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=6), st.integers(-9, 9), RATES, RATES)
def test_an_invoice_comes_to_what_its_lines_do(amounts: list[int], change: int, now: str, then: str) -> None:
    """A forecast does not share the tax of usage out over lines, of which it shows none."""
    inputs: Any = SimpleNamespace(accounts={"a": Account(1, "USD", now)}, tax_rates={("2026-05", "a"): then})
    usage = [(key("2026-06", region=f"r{place}"), 1, amount) for place, amount in enumerate(amounts)]
    due = Owed(usage, [(key("2026-05"), 1, change)] if change else [], sum(amounts) + change)
    draft = draft_of(inputs, "", "a", make_lines(due))
    assert draft.subtotal_minor == due.subtotal_minor
    assert gross_of(inputs, "a", due) == (draft.total_minor, draft.corrections)
    if not change:
        assert draft.tax_minor == floor(Fraction(sum(amounts)) * Fraction(now) / 100 + Fraction(1, 2))


# Payment


def test_credit_pays_before_balance_and_the_earliest_expiry_first() -> None:
    credits = [Credit("never", None, 9), Credit("late", "2026-12-31", 5), Credit("soon", "2026-06-01", 3)]
    assert pay(14, credits, 100, "2026-06-01") == [Use("soon", 3), Use("late", 5), Use("never", 6)]
    assert pay(20, credits, 2, "2026-06-01") == [Use("soon", 3), Use("late", 5), Use("never", 9), Use(None, 2)]
    assert pay(2, credits, 2, "2026-06-02") == [Use("late", 2)]  # soon's last day was 1 June
    assert pay(7, [], 3, "2026-06-01") == [Use(None, 3)]
    assert pay(7, [Credit("spent", None, 0)], 0, "2026-06-01") == []


def test_equal_expiries_are_used_in_the_order_of_posting() -> None:
    credits = [Credit("b", "2026-12-31", 2), Credit("a", "2026-12-31", 2)]
    assert pay(3, credits, 0, "2026-06-01") == [Use("b", 2), Use("a", 1)]


def test_what_is_given_back_goes_the_way_it_came_the_last_first() -> None:
    paid = [Source("I", "credit", "promo", 20), Source("I", "balance", None, 30), Source("I", "card", None, 32)]
    assert give_back(65, paid) == [
        Source("I", "card", None, 32), Source("I", "balance", None, 30), Source("I", "credit", "promo", 3),
    ]  # fmt: skip
    assert give_back(5, paid) == [Source("I", "card", None, 5)]
    assert give_back(85, paid)[-1] == Source(None, "balance", None, 3)
    assert give_back(4, []) == [Source(None, "balance", None, 4)]


@pytest.mark.parametrize(
    ("correction", "limit", "withheld", "result"),
    [
        (-50, 100, 0, 0),  # all of it can be given back
        (-50, 30, 0, 20),  # 20 of it were given back by a credit note
        (-50, 0, 0, 50),
        (-50, -5, 0, 50),  # nothing is kept, and never less than nothing
        (40, 0, 20, -20),  # owed again: first what was withheld
        (10, 0, 20, -10),
        (10, 100, 0, 0),
        (-50, None, 0, 0),  # nothing went back another way
    ],
)
def test_only_what_was_kept_is_given_back(correction: int, limit: int | None, withheld: int, result: int) -> None:
    assert withhold(correction, limit, withheld) == result


@pytest.mark.parametrize(
    ("amount", "corrections", "shares"),
    [
        (30, {"2026-04": -20, "2026-05": -20}, [("2026-05", 20), ("2026-04", 10)]),
        (5, {"2026-04": -20, "2026-05": -20}, [("2026-05", 5)]),
        (10, {"2026-04": -20, "2026-05": 10}, [("2026-04", 10)]),
        (0, {"2026-05": -5}, []),
    ],
)
def test_a_negative_payable_goes_to_the_latest_corrected_months(
    amount: int, corrections: dict[str, int], shares: list[tuple[str, int]]
) -> None:
    assert spread(amount, corrections) == shares


@given(st.integers(1, 1000), st.lists(st.tuples(st.sampled_from(["card", "balance"]), st.integers(1, 300)), max_size=5))
def test_giving_back_gives_all_of_it_and_takes_no_source_twice(amount: int, paid: list[tuple[str, int]]) -> None:
    sources = [Source(f"I{count}", kind, None, value) for count, (kind, value) in enumerate(paid)]
    steps = give_back(amount, sources)
    assert sum(step.amount_minor for step in steps) == amount
    for step in steps:
        limit = next((source.amount_minor for source in sources if source.invoice == step.invoice), amount)
        assert 0 < step.amount_minor <= limit
