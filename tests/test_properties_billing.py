"""Whatever comes in, however late: in the end every month has been billed what its usage costs, and the book agrees.

The reference is plain Python over the events (tests/reference.py meters, fractions rate); it shares no code with
the engine but the reading of a month's bounds.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from homes import GIGABYTE, Home, event
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from reference import Event, byte_micros, lifespans

PRICES = (
    ("snapshot.vm", "", "USD", "0.001", "2026-01-01", ""),
    ("snapshot.vm", "", "USD", "0.0013", "2026-06-11", ""),
    ("snapshot.vm", "us", "USD", "0.002", "2026-01-01", ""),
    ("snapshot.vm", "", "USD", "0.0007", "2026-05-20", "acc-2"),
    ("snapshot.volume", "", "USD", "0.0000333", "2026-01-01", ""),
    ("snapshot.vm", "", "JPY", "0.11", "2026-01-01", ""),
    ("snapshot.volume", "", "JPY", "0.07", "2026-07-15", ""),
    ("snapshot.volume", "", "JPY", "0.03", "2026-01-01", ""),
)
CURRENCIES = {"acc-1": "USD", "acc-2": "USD", "acc-3": "JPY"}
DIGITS = {"USD": 2, "JPY": 0}
MONTHS = ("2026-05", "2026-06", "2026-07")
HOUR = 3_600_000_000
DAY = 24 * HOUR


def instant(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1_000_000


BOUNDS = {month: (instant(f"{month}-01"), instant(f"2026-{int(month[-2:]) + 1:02}-01")) for month in MONTHS}
CUTS = sorted({instant(row[4]) for row in PRICES})


def moment(hours: int) -> str:
    """A time so many hours after the first of May."""
    at = datetime.fromtimestamp(instant("2026-05-01") // 1_000_000 + hours * 3600, UTC)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def month_index(hours: int) -> int:
    return 0 if hours < 744 else 1 if hours < 744 + 720 else 2


@st.composite
def snapshots(draw: st.DrawFn, number: int) -> list[tuple[str, int]]:
    """Event lines of one snapshot, each with the number of the close before which it arrives."""
    name = f"s{number}"
    hour = draw(st.integers(0, 2000))
    fields = {
        "acc": draw(st.sampled_from(sorted(CURRENCIES))),
        "prj": draw(st.sampled_from(["p1", "p2"])),
        "reg": draw(st.sampled_from(["eu", "us"])),
        "type": draw(st.sampled_from(["vm", "vm", "volume"])),
        "res": f"vm-{number % 2}",
        "gb": str(draw(st.integers(0, 400))),
    }
    found = [(hour, f"{moment(hour)} ready {name} " + " ".join(f"{k}={v}" for k, v in fields.items()))]
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(hour, 2200))
        found.append((at, f"{moment(at)} resized {name} gb={draw(st.integers(0, 400))} id=r{number}-{at}"))
    if draw(st.booleans()):
        at = draw(st.integers(max(0, hour - 5), 2200))
        found.append((at, f"{moment(at)} deleted {name}"))
    if draw(st.integers(0, 5)) == 0:
        at = draw(st.integers(0, 2200))
        found.append((at, f"{moment(at)} vm-deleted vm-{number % 2} id=v{number}-{at}"))
    if draw(st.integers(0, 4)) == 0:
        wrong = event(draw(st.sampled_from(found))[1])
        gone = f"retracted_source={wrong['source']} retracted_id={wrong['id']}"
        found.append((hour, f"{moment(hour)} retracted x {gone} id=t{number}"))
    return [(line, max(min(month_index(at), 2), draw(st.sampled_from([0, 0, 1, 2])))) for at, line in found]


STREAMS = st.integers(2, 5).flatmap(lambda count: st.tuples(*(snapshots(number) for number in range(count))))


def reference_events(lines: list[str]) -> list[Event]:
    found = []
    for made in map(event, lines):
        data: dict[str, Any] = made["data"]
        time = int(datetime.fromisoformat(made["time"]).timestamp()) * 1_000_000
        kind = made["type"]
        found.append(Event(source=made["source"], id=made["id"], type=kind, subject=made["subject"], time=time, **data))
    return found


def price_of(account: str, sku: str, region: str, at: int) -> str:
    """The rows in force: the account's own before the common ones, then the region's."""
    ranked = [
        (row[5] == account, row[1] == region, instant(row[4]), row[3])
        for row in PRICES
        if row[0] == sku
        and row[2] == CURRENCIES[account]
        and row[1] in ("", region)
        and row[5] in ("", account)
        and instant(row[4]) <= at
    ]
    return max(ranked)[3]


def expected_amounts(lines: list[str]) -> dict[tuple[str, ...], int]:
    """Minor units by month, account, SKU, region and price: usage × price, rounded once, half away from zero."""
    usage: dict[tuple[str, ...], int] = defaultdict(int)
    for span in lifespans(reference_events(lines)).values():
        ready = span.ready
        assert ready.account_id and ready.region and ready.resource_type
        sku = f"snapshot.{ready.resource_type}"
        for month, (start, end) in BOUNDS.items():
            edges = [start, *(cut for cut in CUTS if start < cut < end), end]
            for since, until in pairwise(edges):
                used = byte_micros(span, since, until, instant("2026-09-01"))
                if used is not None:
                    price = price_of(ready.account_id, sku, ready.region, since)
                    usage[month, ready.account_id, sku, ready.region, price] += used
    found = {}
    for key, used in usage.items():
        exact = Fraction(used, GIGABYTE * HOUR) * Fraction(key[4]) * 10 ** DIGITS[CURRENCIES[key[1]]]
        found[key] = int(exact + Fraction(1, 2))
    return found


def billed_amounts(home: Home) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = defaultdict(int)
    for line in home.ledger("invoice_lines"):
        key = (line["month"], line["account_id"], line["sku"], line["region"], line["price_per_gb_hour"])
        found[key] += line["amount_minor"]
    return found


def held(home: Home, ledger_account: str) -> dict[str, int]:
    """What an asset account holds by customer account; a liability is negative."""
    found: dict[str, int] = defaultdict(int)
    for entry in home.ledger("entries"):
        if entry["ledger_account"] == ledger_account:
            found[entry["account_id"]] += entry["debit_minor"] - entry["credit_minor"]
    return found


def check_books(home: Home) -> None:
    """Opening (nothing) + money in − what was billed = what is held less what is owed; nothing comes from nowhere."""
    billed: dict[str, int] = defaultdict(int)
    for invoice in home.ledger("invoices"):
        billed[invoice["account_id"]] += invoice["total_minor"]
    names = ("bank", "promotions", "gateway", "balance", "reserved", "credit", "receivable", "carried")
    parts = {name: held(home, name) for name in names}
    captured: dict[str, int] = defaultdict(int)
    for capture in home.captures():
        digits = DIGITS[capture["currency"]]
        captured[capture["customer"].removeprefix("cus_")] += int(Fraction(capture["amount"]) * 10**digits)
    for account in CURRENCIES:
        assert parts["gateway"][account] == captured[account]
        money_in = parts["bank"][account] + parts["promotions"][account] + parts["gateway"][account]
        holds = -parts["balance"][account] - parts["reserved"][account] - parts["credit"][account]
        owes = parts["receivable"][account] + parts["carried"][account]
        assert money_in - billed[account] == holds - owes, account
        assert min(-parts["balance"][account], -parts["reserved"][account], -parts["credit"][account], owes) >= 0
    due: dict[str, int] = defaultdict(int)
    for status in home.ledger("invoice_status"):
        due[status["account_id"]] += status["amount_due_minor"]
    assert dict(due) == {account: parts["receivable"][account] + parts["carried"][account] for account in due}


CALMLY = settings(deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])
TAXES = st.sampled_from(["0", "8.25", "19"])


@settings(CALMLY, max_examples=4)
@given(st.sampled_from(["pm_card_visa", "pm_card_chargeDeclined"]), STREAMS, st.booleans(), TAXES)
def test_every_month_is_billed_what_its_usage_costs(card: str, stream: tuple, collects: bool, tax: str) -> None:
    check(card, stream, collects, tax)


@pytest.mark.soak
@pytest.mark.parametrize("card", ["pm_card_visa", "pm_card_chargeDeclined", "pm_sandbox_lateSuccess", ""])
@settings(CALMLY, max_examples=100)
@given(stream=STREAMS, collects=st.booleans(), tax=TAXES)
def test_every_month_is_billed_what_its_usage_costs_for_long(
    card: str, stream: tuple, collects: bool, tax: str
) -> None:
    check(card, stream, collects, tax)


def check(card: str, stream: tuple, collects: bool, tax: str) -> None:
    with TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home", "2026-05-01T08:00:00Z", config='[billing]\nstart = "2026-05"\n')
        home.prices(*(",".join(row) for row in PRICES))
        home.accounts(*(f"{account},{currency},{tax},{card}" for account, currency in CURRENCIES.items()))
        home.funds("acc-1,topup,25.00,USD,t1,", "acc-1,credit,10.00,USD,c1,2026-07-15", "acc-3,credit,500,JPY,c3,")
        lines = [each for snapshot in stream for each in snapshot]
        for number, month in enumerate(MONTHS):
            arriving = [line for line, close in lines if close == number]
            home.events("\n".join(reversed(arriving)), f"{number}.jsonl")
            home.now = f"2026-{number + 6:02}-02T08:00:00Z"
            home.run("close", month, exit_code=None)
            assert home.last.exit_code in (0, 3), home.last
            if collects:
                home.now = f"2026-{number + 6:02}-20T08:00:00Z"
                home.run("collect", exit_code=None)
        wanted = expected_amounts([line for line, _ in lines])
        billed = billed_amounts(home)
        for key in wanted.keys() | billed.keys():
            assert billed.get(key, 0) == wanted.get(key, 0), key
        check_books(home)
        home.run("verify")
