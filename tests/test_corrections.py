"""Corrections over several closes, worked out with a pencil: tests/corrections/*.txt, the arithmetic beside them.

At the end of each story what was billed must equal what the usage costs, the books must balance, every invariant
must hold, and every invoice must come out of its stored inputs again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import reference
import reference_billing
from homes import Home, _steps, event_lines

from metering.checks.verify import verify
from metering.clock import Clock
from metering.close.drafting import draft
from metering.close.explain import differences, explain
from metering.close.inputs import stored_inputs
from metering.home import Home as Engine
from metering.ledger.book import rows
from metering.reports.ask import ask
from metering.values import parse_instant

STORIES = sorted((Path(__file__).parent / "corrections").glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_corrections_come_out_as_the_pencil_says(home: Home, path: Path) -> None:
    story = path.read_text("utf-8")
    home.tell(story)
    engine = Engine(home.path, Clock(parse_instant(home.now)))
    assert billed(engine) == costs(story)
    balanced(engine)
    assert [(name, found) for name, found in verify(engine) if found] == []
    explained(engine)


def everything_once(factory: pytest.TempPathFactory, worker_id: str) -> Home:
    """A home with everything in it, at the end of its story; made once for all workers, and never to be changed."""
    base = factory.getbasetemp()
    base = base if worker_id == "master" else base.parent
    done = base / "everything.done"
    descriptor = os.open(base / "everything.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(base / "everything", ignore_errors=True)
        home = Home(base / "everything")
        if not done.exists():
            home.tell((STORIES[0].parent / "everything.txt").read_text("utf-8"))
            done.write_text(home.now)
    finally:
        os.close(descriptor)
    home.now = done.read_text()
    return home


def costs(story: str) -> dict[tuple[str, ...], int]:
    """What the usage of each closed month costs by line key, recomputed from the story alone, in minor units."""
    prices: list[dict[str, str]] = []
    of_month: dict[str, list[dict[str, str]]] = {}
    currency_of: dict[str, str] = {}
    events = []
    month = ""
    for _, head, body in _steps(story):
        word, *rest = head.split()
        if word == "now":
            month = _month_before(rest[0][:7])
        elif word == "file" and rest == ["prices.csv"]:
            prices = [dict(zip(_NAMES, [*row.split(","), ""], strict=False)) for row in body[1:]]
        elif word == "file" and rest == ["accounts.csv"]:
            currency_of |= {row.split(",")[0]: row.split(",")[4] for row in body[1:]}
        elif word == "events":
            events += [_event(json.loads(line)) for line in event_lines("\n".join(body)).splitlines()]
        elif word == "$" and rest[0] == "close" and rest[-1] != "2":
            of_month.setdefault(month, prices)
        elif word == "$" and rest[:2] == ["prices", "reprice"] and rest[-1] != "2":
            of_month[rest[2]] = prices
    found: dict[tuple[str, ...], int] = {}
    for month, listed in of_month.items():
        for key, usage in reference_billing.rated(events, [month], listed, currency_of).items():
            digits = reference_billing.DIGITS[currency_of[key.account]]
            exact = Fraction(usage, reference_billing.GB_HOUR) * key.price * 10**digits
            found[key.month, key.account, key.sku, key.region, key.price_text] = reference_billing.half_up(exact)
    return {key: amount for key, amount in found.items() if amount}


def billed(engine: Engine) -> dict[tuple[str, ...], int]:
    """What all lines come to by key, without those of invoices that were voided to be billed again."""
    found: dict[tuple[str, ...], int] = defaultdict(int)
    with engine.book.read() as con:
        again = {row["invoice"] for row in rows(con, "corrections", kind="void", rebill=1)}
        for line in rows(con, "invoice_lines"):
            if line["invoice"] not in again:
                names = ("month", "account_id", "sku", "region", "price_per_gb_hour")
                found[tuple(line[name] for name in names)] += line["amount_minor"]
    return {key: amount for key, amount in found.items() if amount}


def balanced(engine: Engine) -> None:
    """The trial balance adds up to zero in every currency."""
    sums: dict[str, int] = defaultdict(int)
    for row in ask(engine, "trial-balance").to_pylist():
        sums[row["currency"]] += row["closing"]
    assert sums
    assert set(sums.values()) == {0}


def explained(engine: Engine) -> None:
    """Every invoice comes out of its stored inputs again: as `explain` shows the last one, all of them."""
    with engine.book.read() as con:
        invoices = rows(con, "invoices")
        again = {
            (month, made.account_id): made
            for month in {row["month"] for row in invoices}
            for made in draft(engine, con, stored_inputs(con, month)).invoices
        }
        differing = {
            row["invoice"]: differences(
                row, rows(con, "invoice_lines", invoice=row["invoice"]), again.get((row["month"], row["account_id"]))
            )
            for row in invoices
        }
    assert differing and not any(differing.values()), differing
    assert explain(engine, invoices[-1]["invoice"]).differences == []


_NAMES = ("sku", "region", "currency", "price_per_gb_hour", "effective_from", "account_id")


def _month_before(month: str) -> str:
    year, number = map(int, month.split("-"))
    return f"{year - (number == 1):04}-{(number - 2) % 12 + 1:02}"


def _event(event: dict[str, Any]) -> reference.Event:
    """An event as the reference takes it."""
    instant = reference_billing.instant(event["time"])
    return reference.Event(event["source"], event["id"], event["type"], event["subject"], instant, **event["data"])


def test_there_are_stories() -> None:
    assert len(STORIES) >= 12
