"""Killed with -9 at every point, and run by several at once: the sandbox's record of captures tells the truth."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from payments_given import DAY, INVOICE, NOON, Given

from metering.errors import MeteringError
from metering.failpoints import FAILPOINTS
from metering.home import Home, Run
from metering.ledger import sqlite
from metering.payments import charge, record
from metering.payments.collect import Outcome, collect, released
from metering.values import parse_money

POINTS = [name for name in FAILPOINTS if name.startswith(("payment.", "sandbox."))]
CANCELLING = {"payment.before_cancel", "payment.after_cancel"}


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path / "home")


def at_point(point: str, act: Callable[[], object], patch: pytest.MonkeyPatch) -> None:
    """Have something happen whenever a payment comes to a point."""
    for module in (charge, record):
        patch.setattr(module, "failpoint", lambda name: act() if name == point else None)


class Process:
    """A collect in a process of its own: forked, because a new interpreter takes a second to start.

    At a failpoint it is killed, or does something else.
    """

    def __init__(
        self, given: Given, failpoint: str = "", workers: int = 1, act: Callable[[], object] | None = None
    ) -> None:
        self.pid = os.fork()
        if self.pid:
            return
        code = 1
        try:
            if act is None:
                os.environ["METERING_FAILPOINT"] = failpoint
            else:
                at_point(failpoint, act, pytest.MonkeyPatch())
            given.workers = workers
            given.collect()
            code = 0
        finally:
            os._exit(code)

    def wait(self) -> int:
        """0, or minus the signal that killed it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def assert_books_equal_captures(given: Given) -> None:
    captures = given.sandbox.captures()
    refs = {row["intent"]: row["gateway_ref"] for row in given.table("intents")}
    paid = [row for row in given.table("payments") if row["status"] == "succeeded"]
    assert Counter((c.intent, c.invoice, parse_money(c.amount, c.currency)) for c in captures) == Counter(
        (refs[row["intent"]], row["invoice"], row["amount_minor"]) for row in paid
    )
    assert given.captured() == sum(parse_money(c.amount, c.currency) for c in captures)
    assert max(Counter(c.invoice for c in captures).values(), default=0) <= 1


@pytest.mark.parametrize(
    ("point", "card"),
    [
        (point, card)
        for card in ("pm_card_visa", "pm_sandbox_lostAnswer", "pm_card_chargeDeclined")
        for point in POINTS
        if point not in CANCELLING and not (card == "pm_card_chargeDeclined" and point.startswith("sandbox."))
    ],
)
def test_killed_while_charging(given: Given, point: str, card: str) -> None:
    """The next run finds what the dead one did, and finishes it once."""
    given.account(method=card)
    given.invoice()
    reached = not (card == "pm_sandbox_lostAnswer" and point == "payment.after_confirm")
    assert Process(given, point).wait() == (-signal.SIGKILL if reached else 0)
    given.collect()
    expected = ["declined:generic_decline"] if card == "pm_card_chargeDeclined" else ["succeeded"]
    assert given.statuses() == expected
    assert len(given.table("intents")) == 1
    assert_books_equal_captures(given)
    given.collect()
    assert given.statuses() == expected


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    "point",
    [
        *sorted(CANCELLING),
        "payment.before_record",
        "payment.after_record",
    ],
)
def test_killed_while_balance_takes_over(given: Given, point: str, late: bool) -> None:
    """The intent is cancelled before balance pays; if a late success wins, the balance stays."""
    given.account(method="pm_sandbox_lateSuccess" if late else "pm_card_chargeDeclined")
    given.invoice()
    given.collect()
    given.topup(1500)
    given.account(method="pm_card_visa")
    died = Process(given, point).wait()
    if point in CANCELLING:
        assert died == -signal.SIGKILL
        assert given.balance() == 1500
    for _ in range(2):
        given.collect()
    assert given.case().status == "paid"
    assert given.balance() == (1500 if late else 500)
    assert len(given.sandbox.captures()) == int(late)
    assert_books_equal_captures(given)


@pytest.mark.each_engine
def test_two_collects_at_once(given: Given) -> None:
    """Two processes of several threads each never touch one invoice."""
    for number in range(1, 41):
        given.account(f"acc-{number:02}")
        given.invoice(number=number, account=f"acc-{number:02}")
    runs = [Process(given, workers=4) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    given.collect()
    assert len(given.sandbox.captures()) == 40
    assert {row["attempt"] for row in given.table("payments")} == {1}
    assert_books_equal_captures(given)


@pytest.mark.each_engine
def test_killed_again_and_again_among_many(given: Given) -> None:
    """Whatever point the kill meets in the middle of many charges, each card is charged once."""
    for number in range(1, 25):
        given.account(f"acc-{number:02}", method="pm_sandbox_lostAnswer" if number % 3 else "pm_sandbox_timeout")
        given.invoice(number=number, account=f"acc-{number:02}")
    for turn, point in enumerate(POINTS):
        if point not in CANCELLING:
            Process(given, f"{point}:{turn % 4 + 1}", workers=4).wait()
            assert_no_second_capture(given)
    given.collect()
    assert len(given.sandbox.captures()) == 24
    assert_books_equal_captures(given)


def assert_no_second_capture(given: Given) -> None:
    assert max(Counter(c.invoice for c in given.sandbox.captures()).values(), default=0) <= 1


# Hindered while an outcome is recorded


@pytest.mark.each_engine
@pytest.mark.parametrize("point", ["payment.before_confirm", "payment.after_confirm", "payment.before_record"])
def test_stopped_while_another_run_finishes(given: Given, point: str) -> None:
    """It keeps its claim as long as it is stopped: the other run charges all but its invoice."""
    for number in range(1, 4):
        given.account(f"acc-{number}")
        given.invoice(number=number, account=f"acc-{number}")
    stopped = Process(given, point, act=lambda: os.kill(os.getpid(), signal.SIGSTOP))
    assert os.WIFSTOPPED(os.waitpid(stopped.pid, os.WUNTRACED)[1])
    # Before the record it stands in a write transaction: the others would wait for their turn until it goes on.
    if point != "payment.before_record":
        assert given.collect().counts == {"busy": 1, "succeeded": 2}
    while os.WIFSTOPPED(status := gone_on(stopped.pid)):
        pass
    assert os.waitstatus_to_exitcode(status) == 0
    given.collect()
    assert len(given.sandbox.captures()) == 3
    assert {row["attempt"] for row in given.table("payments")} == {1}
    assert_books_equal_captures(given)


def gone_on(pid: int) -> int:
    """How a stopped process stands after it went on: it stops again at the point's next passing, or ends."""
    os.kill(pid, signal.SIGCONT)
    return os.waitpid(pid, os.WUNTRACED)[1]


def test_the_disk_is_full_when_a_success_is_recorded(given: Given) -> None:
    given.account()
    given.invoice()
    full = Process(
        given,
        "payment.after_confirm",
        act=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY)),
    )
    assert full.wait() == 1
    assert given.statuses() == ["unknown"] and len(given.sandbox.captures()) == 1
    assert given.collect().counts == {"succeeded": 1}
    assert_books_equal_captures(given)


def test_the_ledger_is_locked_when_a_success_is_recorded(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another program, for longer than we wait."""
    given.account()
    given.invoice()
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(given.path / "ledger.db", isolation_level=None)) as other:
        with monkeypatch.context() as patch, pytest.raises(MeteringError, match="locked"):
            at_point("payment.after_confirm", lambda: other.execute("BEGIN IMMEDIATE"), patch)
            given.collect()
        assert given.statuses() == ["unknown"] and len(given.sandbox.captures()) == 1
        other.execute("ROLLBACK")
    assert given.collect().counts == {"succeeded": 1}
    assert_books_equal_captures(given)


@pytest.mark.parametrize(("days", "tries"), [(-3, 2), (3, 1)])
def test_the_clock_of_the_next_run_is_three_days_off(given: Given, days: int, tries: int) -> None:
    """What an earlier run left unknown is read back, whatever the time.

    The declined card is first tried while the clock is off: three days after that the retry is due, before it not.
    """
    for number, card in enumerate(("pm_card_visa", "pm_card_chargeDeclined"), 1):
        given.account(f"acc-{number}", method=card)
        given.invoice(number=number, account=f"acc-{number}")
    Process(given, "payment.after_confirm").wait()
    given.now += days * DAY
    given.collect()
    given.now -= days * DAY
    given.collect()
    assert given.statuses() == ["succeeded"]
    assert len(given.case("INV-2026-05-000002").attempts) == tries
    assert_books_equal_captures(given)
    # Whatever the clocks say, nothing ends before it began.
    assert all(row["created_at"] <= row["settled_at"] for row in given.table("payments"))
    assert all(row["created_at"] <= row["ended_at"] for row in given.table("intents") if not row["live"])


# What happens between the runs


def test_retries_follow_the_calendar_on_one_intent(given: Given) -> None:
    """Every night for three weeks: the first attempt and four retries, all on the same intent."""
    given.account(method="pm_card_chargeDeclined")
    given.invoice()
    days = []
    for day in range(21):
        given.now = NOON + day * DAY
        if given.collect().counts["declined"]:
            days.append(day)
    assert days == [0, 1, 3, 5, 7]
    assert len(given.table("intents")) == 1
    given.account(method="pm_card_visa")
    given.collect()
    assert given.case().status == "paid"


def test_charging_after_a_close_makes_no_retries(given: Given) -> None:
    given.account(method="pm_card_chargeDeclined")
    given.invoice()
    given.charge()
    given.now += 2 * DAY
    given.account(method="pm_card_visa")
    assert given.charge().counts == {}
    assert given.statuses() == ["declined:generic_decline"]


def test_charging_after_a_close_finishes_what_is_unknown(given: Given) -> None:
    given.account(method="pm_card_visa")
    given.invoice()
    Process(given, "payment.after_confirm").wait()
    assert given.statuses() == ["unknown"]
    assert given.charge().counts == {"succeeded": 1}


def test_a_smaller_amount_due_makes_a_new_intent(given: Given) -> None:
    """At most one intent lives: the old one is cancelled first."""
    given.account(method="pm_card_chargeDeclined")
    given.invoice(1000)
    given.collect()
    given.credit_note(400)
    given.now += DAY
    given.account(method="pm_card_visa")
    given.collect()
    assert [(row["state"], row["amount_minor"]) for row in given.table("intents")] == [
        ("cancelled", 1000),
        ("succeeded", 600),
    ]
    assert [capture.amount for capture in given.sandbox.captures()] == ["6.00"]


def test_a_late_success_stands(given: Given) -> None:
    """The amount due became less meanwhile: what is no longer owed is the customer's balance."""
    given.account(method="pm_sandbox_lateSuccess")
    given.invoice(1000)
    assert given.collect().counts == {"unknown": 1}
    given.credit_note(400)
    assert given.collect().counts == {"succeeded": 1}
    assert (given.case().status, given.balance()) == ("paid", 400)
    assert_books_equal_captures(given)


@pytest.mark.parametrize(("late", "balance", "card"), [(False, 0, 700), (True, 300, 1000)])
def test_reserved_balance_waits_for_the_intent(given: Given, late: bool, balance: int, card: int) -> None:
    """It is applied once the intent reads back as cancelled, and set free if a late success wins."""
    given.account(method="pm_sandbox_lateSuccess" if late else "pm_card_chargeDeclined")
    given.invoice(1000)
    given.collect()
    given.topup(300)
    given.set_aside(300)
    given.account(method="pm_card_visa")
    given.collect()
    case = given.case()
    assert (case.status, case.reserved_minor, given.balance()) == ("paid", 0, balance)
    assert given.captured() == card


def test_balance_pays_oldest_first_and_only_what_it_covers_wholly(given: Given) -> None:
    given.account(method="")
    first = given.invoice(1000, month="2026-05")
    second = given.invoice(600, month="2026-06")
    third = given.invoice(300, month="2026-07")
    given.carry(600, second)
    given.topup(950)
    given.collect()
    assert [given.case(name).status for name in (first, second, third)] == ["open", "paid", "paid"]
    assert given.balance() == 50


def test_what_falls_below_the_minimum_is_carried(given: Given) -> None:
    given.account(method="pm_card_chargeDeclined")
    given.invoice(1000)
    given.collect()
    given.credit_note(970)
    assert given.collect().counts == {"carried": 1}
    assert (given.case().status, given.case().carried_minor) == ("carried", 30)


def test_a_wrong_amount_is_an_alarm_and_blocks(given: Given) -> None:
    """No success is recorded and no other intent is made, however often it is looked at."""
    given.account(method="pm_sandbox_wrongAmount")
    given.invoice()
    for _ in range(3):
        outcome = given.collect()
        assert outcome.counts["alarm"] == 1 and outcome.exit_code == 3
        given.account(method="pm_card_visa")
        given.now += DAY
    assert given.statuses() == ["unknown:wrong_amount"]
    assert len(given.table("intents")) == 1
    assert given.captured() == 0


def test_a_gateway_that_is_down_is_left_alone(given: Given) -> None:
    """After some calls in vain no new attempt is stored; the next run makes them."""
    for number in range(1, 31):
        given.account(f"acc-{number:02}", method="pm_sandbox_unavailable")
        given.invoice(number=number, account=f"acc-{number:02}")
    silent = given.sandbox

    class Silent(type(silent)):  # type: ignore[misc]
        def _turn(self):
            from metering.payments.gateway import NoAnswer

            raise NoAnswer("connection_cut")

    given.gateway = Silent(given.path / "sandbox", lambda: given.now)
    outcome = given.collect()
    assert outcome.counts["unknown"] + outcome.counts["postponed"] == 30
    assert outcome.counts["postponed"] > 15
    assert outcome.exit_code == 3
    assert len(given.table("payments")) == outcome.counts["unknown"]
    given.gateway = None
    for number in range(1, 31):
        given.account(f"acc-{number:02}", method="pm_card_visa")
    given.collect()
    given.collect()
    assert len(given.sandbox.captures()) + outcome.counts["unknown"] >= 30
    assert_books_equal_captures(given)


@pytest.mark.each_engine
def test_a_claimed_invoice_is_left_to_the_other_run(given: Given) -> None:
    given.account()
    given.invoice()
    home = given.home
    with home.book.claim(f"payment of {INVOICE}") as mine:
        assert mine
        assert given.collect().counts == {"busy": 1}
    assert given.statuses() == []


@pytest.mark.parametrize("late", [False, True])
def test_an_invoice_is_released_for_a_correction(given: Given, late: bool) -> None:
    """It may become void only after its intent reads back as cancelled, and while no other run can charge it."""
    given.account(method="pm_sandbox_lateSuccess" if late else "pm_card_chargeDeclined")
    given.invoice()
    given.collect()

    def correct(home: Home, run: Run) -> Outcome:
        with released(home, run, INVOICE) as (cleared, outcome):
            assert cleared
            assert collect(home, run).counts == ({} if late else {"busy": 1})
        return outcome

    assert given.run(correct).counts == ({"succeeded": 1} if late else {})
    (intent,) = given.table("intents")
    assert (intent["state"], intent["live"]) == ("succeeded" if late else "cancelled", 0)
    assert given.case().status == ("paid" if late else "open")


def test_an_intent_that_may_still_succeed_is_not_released(given: Given) -> None:
    given.account(method="pm_sandbox_processing")
    given.invoice()
    given.collect()

    def correct(home: Home, run: Run) -> Outcome:
        with released(home, run, INVOICE) as (cleared, outcome):
            assert not cleared
        return outcome

    given.run(correct)
    assert given.case().intent is not None
