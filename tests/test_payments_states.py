"""When an attempt is due, and what an answer means: the pure part of the payments, as tables."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.payments.gateway import Intent
from metering.payments.states import (
    ATTEMPT_MOVES,
    ATTEMPT_STATES,
    INTENT_MOVES,
    INTENT_STATES,
    Action,
    Attempt,
    Calendar,
    Case,
    Live,
    Terms,
    is_due,
    is_exhausted,
    judge,
    next_action,
)
from metering.values import MICROS_PER_DAY, parse_instant

TERMS = Terms("sandbox", 1000, 0)


def attempt(number: int = 1, status: str = "declined", at: str = "2026-06-01T12:00:00Z", **other: object) -> Attempt:
    values = {
        "payment": f"PAY-{number}",
        "attempt": number,
        "intent": "I/1" if status != "no_card" else None,
        "customer": "cus_1" if status != "no_card" else "",
        "payment_method": "pm_a" if status != "no_card" else "",
        "amount_minor": 1000,
        "status": status,
        "reason": "generic_decline" if status == "declined" else None,
        "retryable": 1,
        "charge": f"ch_{number}" if status == "declined" else None,
        "created_at": parse_instant(at),
        "settled_at": parse_instant(at) if status != "unknown" else None,
    }
    return Attempt(**values | other)


def case(*attempts: Attempt, live: bool = True, method: str = "pm_a", **other: object) -> Case:
    values = {
        "invoice": "I",
        "account_id": "acc",
        "currency": "USD",
        "status": "open",
        "receivable_minor": 1000,
        "carried_minor": 0,
        "reserved_minor": 0,
        "customer": "cus_1",
        "payment_method": method,
        "attempts": attempts,
        "intent": Live("I/1", "I", "sandbox", "pi_1", "cus_1", "USD", 1000, "created") if live else None,
        "intents_made": 1,
    }
    return Case(**values | other)


def reading(status: str = "unconfirmed", **other: object) -> Intent:
    values = {
        "ref": "pi_1",
        "status": status,
        "amount_minor": 1000,
        "currency": "USD",
        "customer": "cus_1",
        "invoice": "I",
        "intent": "I/1",
        "captured_minor": 1000 if status == "succeeded" else 0,
    }
    return Intent(**values | other)


def at(now: str, zone: str = "UTC", days: tuple[int, ...] = (1, 3, 5, 7)) -> Calendar:
    return Calendar(parse_instant(now), ZoneInfo(zone), days)


@pytest.mark.parametrize(
    ("tried", "now", "zone", "due"),
    [
        # from the start of the calendar day, in the billing zone
        (["2026-06-01T12:00:00Z"], "2026-06-01T23:59:59Z", "UTC", False),
        (["2026-06-01T12:00:00Z"], "2026-06-02T00:00:00Z", "UTC", True),
        (["2026-06-01T12:00:00Z"], "2026-06-02T03:59:59Z", "America/New_York", False),
        (["2026-06-01T12:00:00Z"], "2026-06-02T04:00:00Z", "America/New_York", True),
        # 01:00 UTC on 2 June is still 1 June in New York
        (["2026-06-02T01:00:00Z"], "2026-06-02T04:00:00Z", "America/New_York", True),
        # the day on which the clocks change has 23 or 25 hours; Cairo and Havana skip midnight itself
        (["2026-03-28T12:00:00Z"], "2026-03-28T22:59:59Z", "Europe/Berlin", False),
        (["2026-03-28T12:00:00Z"], "2026-03-28T23:00:00Z", "Europe/Berlin", True),
        (["2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"], "2026-03-30T21:59:59Z", "Europe/Berlin", False),
        (["2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"], "2026-03-30T22:00:00Z", "Europe/Berlin", True),
        (["2026-04-23T12:00:00Z"], "2026-04-23T21:59:59Z", "Africa/Cairo", False),
        (["2026-04-23T12:00:00Z"], "2026-04-23T22:00:00Z", "Africa/Cairo", True),
        # counted from the first attempt, not from the last
        (["2026-06-01T12:00:00Z", "2026-06-02T06:00:00Z"], "2026-06-03T12:00:00Z", "UTC", False),
        (["2026-06-01T12:00:00Z", "2026-06-02T06:00:00Z"], "2026-06-04T00:00:00Z", "UTC", True),
        # several missed are one
        (["2026-06-01T12:00:00Z"], "2026-06-07T09:00:00Z", "UTC", True),
        (["2026-06-01T12:00:00Z", "2026-06-07T09:00:00Z"], "2026-06-07T10:00:00Z", "UTC", False),
        (["2026-06-01T12:00:00Z", "2026-06-07T09:00:00Z"], "2026-06-08T00:00:00Z", "UTC", True),
        # the last one is the last
        (["2026-06-01T12:00:00Z", "2026-06-08T00:00:00Z"], "2027-06-08T00:00:00Z", "UTC", False),
    ],
)
def test_the_calendar_of_retries(tried: list[str], now: str, zone: str, due: bool) -> None:
    attempts = [attempt(number, at=when) for number, when in enumerate(tried, 1)]
    assert is_due(case(*attempts), at(now, zone)) is due


NEW_CARD = {"method": "pm_b"}


@pytest.mark.parametrize(
    ("attempts", "account", "due"),
    [
        ([], {}, True),
        # a card that may not be tried again; another one may, but not the first once more
        ([attempt(retryable=0)], {}, False),
        ([attempt(retryable=0)], NEW_CARD, True),
        ([attempt(retryable=0), attempt(2, payment_method="pm_b")], {}, False),
        # the last day is over: only another card opens the case again
        ([attempt(at="2026-06-01T00:00:00Z"), attempt(2, at="2026-06-09T00:00:00Z")], {}, False),
        ([attempt(at="2026-06-01T00:00:00Z"), attempt(2, at="2026-06-09T00:00:00Z")], NEW_CARD, True),
        ([attempt(status="no_card")], {"method": ""}, False),
        ([attempt(status="no_card")], {}, True),
        ([attempt(status="action_required")], {}, False),
        ([attempt(status="action_required")], NEW_CARD, True),
        # nothing is sent while an outcome is not known, whatever the card
        ([attempt(status="unknown")], NEW_CARD, False),
        # an attempt that met a cancelled intent was none
        ([attempt(reason="intent_cancelled")], {}, True),
    ],
)
def test_who_is_tried_again(attempts: list[Attempt], account: dict[str, str], due: bool) -> None:
    assert is_due(case(*attempts, **account), at("2026-06-10T00:00:00Z")) is due


OVER = [attempt(at="2026-06-01T00:00:00Z"), attempt(2, at="2026-06-08T00:00:00Z")]


@pytest.mark.parametrize(
    ("attempts", "account", "exhausted"),
    [
        (OVER, {}, True),
        (OVER, NEW_CARD, False),
        (OVER, {"status": "uncollectible"}, False),
        # the last day is still to come, or was missed
        (OVER[:1], {}, False),
        ([attempt(at="2026-06-09T00:00:00Z")], {}, False),
        # only a declined card is: the others wait for somebody
        ([*OVER[:1], attempt(2, "unknown", at="2026-06-08T00:00:00Z")], {}, False),
        ([*OVER[:1], attempt(2, "action_required", at="2026-06-08T00:00:00Z")], {}, False),
        ([attempt(status="no_card")], {"method": ""}, False),
        ([attempt(retryable=0)], {}, True),
        ([attempt(retryable=0), attempt(2, payment_method="pm_b")], {}, True),
        ([], {}, False),
    ],
)
def test_whose_collection_is_exhausted(attempts: list[Attempt], account: dict[str, str], exhausted: bool) -> None:
    assert is_exhausted(case(*attempts, **account), at("2026-06-10T00:00:00Z")) is exhausted


def test_a_decline_that_is_read_back_on_a_later_day_uses_that_day_up() -> None:
    """Its confirm may have been sent again on that day: no card is tried twice on one, as far as is known."""
    late = attempt(at="2026-06-01T12:00:00Z", settled_at=parse_instant("2026-06-02T00:00:00Z"))
    assert not is_due(case(late), at("2026-06-03T23:00:00Z"))
    assert is_due(case(late), at("2026-06-04T00:00:00Z"))


@pytest.mark.parametrize(
    ("attempts", "answer", "own", "kind"),
    [
        # a definite answer to the send
        ([attempt(status="unknown")], reading("succeeded"), True, "succeeded"),
        ([attempt(status="unknown")], reading(charge="ch_1", decline="expired_card"), True, "declined"),
        ([attempt(status="unknown")], reading(decline="expired_card"), True, "declined"),
        ([attempt(status="unknown")], reading(), True, "open"),
        # reading back
        ([attempt(status="unknown")], reading(), False, "open"),
        ([attempt(status="unknown")], reading(decline="expired_card"), False, "open"),
        ([attempt(status="unknown")], reading(charge="ch_1"), False, "declined"),
        ([attempt(status="unknown")], reading("processing"), False, "processing"),
        ([attempt(status="unknown")], reading("cancelled"), False, "cancelled"),
        # the charge of the attempt before says nothing about this one
        ([attempt(), attempt(2, "unknown")], reading(charge="ch_1", decline="x"), False, "open"),
        ([attempt(), attempt(2, "unknown")], reading(charge="ch_1", decline="x"), True, "open"),
        ([attempt(), attempt(2, "unknown")], reading(charge="ch_2", decline="x"), False, "declined"),
        (
            [attempt(), attempt(2, charge=None), attempt(3, "unknown")],
            reading(charge="ch_1", decline="x"),
            False,
            "open",
        ),
        # an action that an earlier attempt asked for is not this one's
        ([attempt(status="action_required"), attempt(2, "unknown")], reading("action_required"), False, "open"),
        (
            [attempt(status="action_required"), attempt(2, "unknown", payment_method="pm_b")],
            reading("action_required", payment_method="pm_b"),
            False,
            "action_required",
        ),
        ([attempt(status="unknown")], reading("action_required"), False, "action_required"),
        ([attempt(status="action_required")], reading(), False, "declined"),
        # anything but what was asked for is no success
        ([attempt(status="unknown")], reading("succeeded", captured_minor=999), True, "wrong"),
        ([attempt(status="unknown")], reading("succeeded", amount_minor=999, captured_minor=999), True, "wrong"),
        ([attempt(status="unknown")], reading("succeeded", currency="EUR"), True, "wrong"),
        ([attempt(status="unknown")], reading("succeeded", customer="cus_2"), True, "wrong"),
        ([attempt(status="unknown")], reading("succeeded", invoice="J"), True, "wrong"),
        ([attempt(status="unknown")], reading("requires_capture"), True, "wrong"),
        ([attempt(status="unknown")], reading("cancelled", captured_minor=1), True, "wrong"),
    ],
)
def test_what_an_answer_means(attempts: list[Attempt], answer: Intent, own: bool, kind: str) -> None:
    assert judge(case(*attempts), answer, own=own).kind == kind


NEVER = attempt(status="unknown")


@pytest.mark.parametrize(
    ("found", "read", "by_balance", "action"),
    [
        (case(live=False), None, False, Action.START),
        (case(live=False, method=""), None, False, Action.NO_CARD),
        (case(live=False), None, True, Action.USE_BALANCE),
        (case(live=False, reserved_minor=5), None, True, Action.USE_RESERVED),
        (case(live=False, status="carried", receivable_minor=0), None, False, Action.NOTHING),
        (case(NEVER), None, False, Action.READ),
        (case(NEVER), reading(), False, Action.CONFIRM),
        (case(NEVER), reading("processing"), True, Action.NOTHING),
        (case(NEVER), reading(), True, Action.CANCEL),
        (case(NEVER, reserved_minor=5), reading(), False, Action.CANCEL),
        (case(NEVER, status="paid"), reading(), False, Action.CANCEL),
        (case(NEVER, customer="cus_2"), reading(), False, Action.CANCEL),
        (case(attempt()), reading(), False, Action.START),
        (case(attempt(status="action_required")), reading("action_required"), False, Action.NOTHING),
        (case(attempt(status="action_required"), method="pm_b"), reading("action_required"), False, Action.START),
    ],
)
def test_the_next_step(found: Case, read: Intent | None, by_balance: bool, action: Action) -> None:
    assert next_action(found, read, TERMS, at("2026-06-03T00:00:00Z"), by_balance=by_balance) is action


@pytest.mark.parametrize(
    "terms", [Terms("stripe", 1000, 0), Terms("sandbox", 999, 0), Terms("sandbox", 0, 20), Terms("sandbox", 0, 0)]
)
def test_an_intent_that_would_not_be_made_now_is_cancelled(terms: Terms) -> None:
    """Amount and gateway; the customer is in the table above."""
    found = next_action(case(attempt()), reading(), terms, at("2026-06-01T13:00:00Z"))
    assert found is Action.CANCEL


@given(
    status=st.sampled_from(["open", "carried", "paid", "void", "uncollectible"]),
    statuses=st.lists(st.sampled_from(["declined", "action_required", "no_card", "succeeded"]), max_size=3),
    last=st.sampled_from(["unknown", None]),
    read=st.sampled_from([None, "unconfirmed", "processing", "action_required"]),
    reserved=st.integers(0, 1),
    by_balance=st.booleans(),
    charge=st.sampled_from([0, 1000]),
    days=st.integers(0, 20),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_no_step_overtakes_a_live_intent(
    status: str,
    statuses: list[str],
    last: str | None,
    read: str | None,
    reserved: int,
    by_balance: bool,
    charge: int,
    days: int,
) -> None:
    """While an intent lives nothing else may pay; while an attempt is unknown none is started."""
    attempts = [attempt(number, name) for number, name in enumerate([*statuses, *([last] if last else [])], 1)]
    found = case(*attempts, live=bool(attempts), status=status, reserved_minor=reserved)
    calendar = Calendar(parse_instant("2026-06-01T12:00:00Z") + days * MICROS_PER_DAY, ZoneInfo("UTC"), (1, 3))
    known = reading(read) if read and found.intent else None
    action = next_action(found, known, Terms("sandbox", charge, 0), calendar, by_balance=by_balance)
    if found.intent is not None:
        assert action not in (Action.USE_RESERVED, Action.USE_BALANCE, Action.CARRY)
        assert known is not None or action is Action.READ
    if last == "unknown":
        assert action not in (Action.START, Action.NO_CARD)
    if action in (Action.START, Action.CONFIRM):
        assert found.status == "open" and not by_balance and not reserved


def test_the_moves_lead_from_state_to_state() -> None:
    """Every state but the first ones is reached, and none of the final ones is left, but by a late success."""
    for states, moves, first, final in (
        (ATTEMPT_STATES, ATTEMPT_MOVES, {"unknown", "no_card"}, {"succeeded", "no_card"}),
        (INTENT_STATES, INTENT_MOVES, {"creating"}, {"succeeded", "cancelled"}),
    ):
        before, after = {move[0] for move in moves}, {move[1] for move in moves}
        assert before | after | first == set(states)
        assert after == set(states) - first
        assert before == set(states) - final
    assert {after for before, after in ATTEMPT_MOVES if before == "declined"} == {"succeeded"}


def test_an_intent_can_be_written_and_read() -> None:
    assert msgspec.json.decode(msgspec.json.encode(reading()), type=Intent) == reading()
