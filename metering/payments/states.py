"""The life of an invoice's payment: its states and moves as data, what an answer means, what to do next.

An attempt (a row of `payments`): one try of a card, or none where there is none.

(nothing) ──▶ unknown ──▶ succeeded
    │            ├──────▶ declined ─────────▶ succeeded   (a late success stands)
    ▼            └──────▶ action_required ──▶ succeeded | declined
 no_card

An intent (a row of `intents`): the one object at the gateway that attempts move money through. At most one of an
invoice lives, which is every one that is neither succeeded nor cancelled.

(nothing) ──▶ creating ──▶ created ──▶ cancelling
                 ├───────────┴──┬─────────┤
                 ▼              ▼         │
             cancelled      succeeded ◀───┘  (a late success wins)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta, tzinfo
from enum import Enum
from typing import NamedTuple

from metering.payments.gateway import FINAL, STATUSES, Intent
from metering.values import first_instant, to_datetime

Moves = dict[tuple[str, str], str]
"""Every allowed move, from a state to a state, with the evidence that it takes."""

ATTEMPT_STATES = {
    "unknown": "stored before the gateway hears of it; while one is unknown no other is stored",
    "action_required": "the customer has to act before the card is charged",
    "declined": "it has moved no money, as far as the gateway has told",
    "succeeded": "the card was charged",
    "no_card": "there was no card to try",
}
ATTEMPT_MOVES: Moves = {
    ("unknown", "succeeded"): "captured, with the amount, currency and customer that were asked for",
    ("unknown", "declined"): "a definite answer, a charge that no earlier attempt made, or a cancelled intent",
    ("unknown", "action_required"): "the intent waits for the customer, not for an earlier attempt's card",
    ("action_required", "succeeded"): "captured: the customer has acted",
    ("action_required", "declined"): "unconfirmed again or cancelled, or another card took over",
    ("declined", "succeeded"): "captured after all: a late success stands",
}

INTENT_STATES = {
    "creating": "the gateway may have it, but its id there is not stored: it is never confirmed",
    "created": "its id at the gateway is stored, so it can always be read back: only now it may be confirmed",
    "cancelling": "not wanted any more: never confirmed again, but it lives until it reads back as cancelled",
    "succeeded": "the gateway has captured its amount, once",
    "cancelled": "nothing can be captured through it any more",
}
INTENT_MOVES: Moves = {
    ("creating", "created"): "its id, from the creation's answer or found by our name among the customer's intents",
    ("creating", "cancelled"): "a definite refusal to make it",
    ("created", "cancelling"): "another one would be made now, balance pays instead, or it takes no attempt any more",
    ("created", "succeeded"): "it reads as captured, with the amount, currency and customer that were asked for",
    ("created", "cancelled"): "it reads as cancelled, by whomever",
    ("cancelling", "succeeded"): "it reads as captured: a late success wins over the cancellation",
    ("cancelling", "cancelled"): "it reads as cancelled; the answer to the cancellation itself is not enough",
}

CANCELLED = "intent_cancelled"
REPLACED = "replaced_by_another_card"
NOT_ACTED = "authentication_not_completed"
AUTHENTICATION_FAILED = "authentication_failed"
NOT_A_TRY = frozenset({CANCELLED, "amount_too_small"})
"""Reasons of declined attempts that never reached a card."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of `payments`, with the customer of its intent."""

    payment: str
    attempt: int
    intent: str | None
    customer: str
    payment_method: str
    amount_minor: int
    status: str
    reason: str | None
    retryable: int
    charge: str | None
    created_at: int
    settled_at: int | None

    @property
    def card(self) -> tuple[str, str]:
        """Which card it tried."""
        return self.customer, self.payment_method

    @property
    def is_try(self) -> bool:
        """Whether it counts as an attempt on a card."""
        return not (self.status == "declined" and self.reason in NOT_A_TRY)

    @property
    def last_seen(self) -> int:
        """When the card was last touched by it, as far as is known."""
        return max(self.created_at, self.settled_at or 0)


@dataclass(frozen=True, slots=True)
class Live:
    """The live row of `intents` of an invoice."""

    intent: str
    invoice: str
    gateway: str
    gateway_ref: str | None
    customer: str
    currency: str
    amount_minor: int
    state: str


@dataclass(frozen=True, slots=True)
class Case:
    """All that the ledger knows about one invoice's payment."""

    invoice: str
    account_id: str
    currency: str
    status: str
    receivable_minor: int
    carried_minor: int
    reserved_minor: int
    customer: str
    payment_method: str
    attempts: tuple[Attempt, ...]
    intent: Live | None
    intents_made: int

    @property
    def due_minor(self) -> int:
        """What balance can pay; a void invoice may owe what it carried before it was paid."""
        return self.receivable_minor + self.carried_minor if self.status in ("open", "carried", "void") else 0

    @property
    def card(self) -> tuple[str, str]:
        """The account's card as it is now."""
        return self.customer, self.payment_method

    @property
    def has_card(self) -> bool:
        """Whether there is a card at all."""
        return bool(self.customer and self.payment_method)

    @property
    def tries(self) -> tuple[Attempt, ...]:
        """The attempts since the last success that count."""
        last = max((a.attempt for a in self.attempts if a.status == "succeeded"), default=0)
        return tuple(a for a in self.attempts if a.attempt > last and a.is_try)

    @property
    def card_is_barred(self) -> bool:
        """Whether the gateway said of the account's card that it must not be tried again."""
        return any(not attempt.retryable and attempt.card == self.card for attempt in self.tries)

    def attempts_on(self, intent: str) -> tuple[Attempt, ...]:
        """The attempts on an intent."""
        return tuple(a for a in self.attempts if a.intent == intent)


class Terms(NamedTuple):
    """What a new attempt would be: at which gateway, for how much, and what would be carried."""

    gateway: str
    charge_minor: int
    carry_minor: int


class Calendar(NamedTuple):
    """When retries are due."""

    now: int
    zone: tzinfo
    retry_after_days: tuple[int, ...]

    def slots(self, first_try: int) -> list[int]:
        """The starts of the days on which an attempt is made again."""
        day = to_datetime(first_try, self.zone).date()
        return [first_instant(day + timedelta(days=n), self.zone) for n in self.retry_after_days]


# What an answer means


class Finding(NamedTuple):
    """What an answer says about the latest attempt on an intent.

    `kind` is succeeded, cancelled, declined or action_required; `open` and `processing` decide nothing;
    `wrong` is not what was asked for.
    """

    kind: str
    reason: str | None = None
    retryable: bool = True
    charge: str | None = None


def judge(case: Case, answer: Intent, *, own: bool) -> Finding:
    """What an answer about the live intent means; `own` if it answers the latest attempt's confirm."""
    live = case.intent
    assert live is not None
    odd = _wrong(live, answer)
    if odd:
        return Finding("wrong", odd)
    *earlier, last = case.attempts_on(live.intent)
    known = {attempt.charge for attempt in earlier} | ({last.charge} if last.status == "declined" else set())
    charge = answer.charge if answer.charge not in known else None
    if answer.status in ("succeeded", "processing"):
        return Finding(answer.status, charge=charge)
    if answer.status == "cancelled":
        reason = (answer.decline or "declined") if charge else None
        return Finding("cancelled", reason, answer.retryable, charge)
    if answer.status == "action_required":
        others = any(attempt.status == "action_required" for attempt in earlier)
        ours = own or not others or answer.payment_method == last.payment_method
        return Finding("action_required" if ours else "open", charge=charge)
    if last.status == "action_required":
        return Finding("declined", answer.decline or AUTHENTICATION_FAILED, answer.retryable, charge)
    # A charge that an earlier attempt made says nothing about this one, nor does an old decline beside it.
    stale = answer.charge is not None and charge is None
    if charge or (own and answer.decline and not stale):
        return Finding("declined", answer.decline or "declined", answer.retryable, charge)
    return Finding("open")


def _wrong(live: Live, answer: Intent) -> str | None:
    if answer.status not in STATUSES:
        return "unexpected_status"
    if answer.status == "cancelled":
        return "cancelled_but_captured" if answer.captured_minor else None
    expected = {
        "wrong_currency": answer.currency == live.currency,
        "wrong_amount": answer.amount_minor == live.amount_minor
        and answer.captured_minor == (live.amount_minor if answer.status == "succeeded" else 0),
        "wrong_customer": answer.customer == live.customer,
        "wrong_intent": (answer.invoice, answer.intent) == (live.invoice, live.intent),
    }
    return next((reason for reason, holds in expected.items() if not holds), None)


# What to do next


class Action(Enum):
    """The next step for an invoice."""

    NOTHING = "nothing to do now"
    READ = "read the live intent back"
    CANCEL = "cancel the live intent"
    USE_RESERVED = "apply the balance that was set aside"
    USE_BALANCE = "pay all of it from the balance"
    CARRY = "carry what is too little to charge"
    NO_CARD = "store that there is no card"
    START = "store a new attempt"
    CONFIRM = "confirm the intent for the stored attempt"


def next_action(
    case: Case, reading: Intent | None, terms: Terms, calendar: Calendar, *, by_balance: bool = False
) -> Action:
    """The one step that is due, from what the ledger knows and how the live intent just read.

    With `by_balance` the account's balance covers all that is due.
    """
    live = case.intent
    if live is not None:
        if reading is None:
            return Action.READ
        if reading.status in FINAL or reading.status == "processing":
            return Action.NOTHING
        if by_balance or must_cancel(case, live, terms):
            return Action.CANCEL
        if case.attempts[-1].status == "unknown":
            return Action.CONFIRM
    elif case.reserved_minor:
        return Action.USE_RESERVED
    elif by_balance:
        return Action.USE_BALANCE
    if case.status != "open" or terms.charge_minor == 0:
        return Action.CARRY if case.status == "open" and terms.carry_minor else Action.NOTHING
    if not is_due(case, calendar):
        return Action.NOTHING
    return Action.START if case.has_card else Action.NO_CARD


def must_cancel(case: Case, live: Live, terms: Terms) -> bool:
    """Whether the live intent is no longer the one that would be made now."""
    wanted = terms.charge_minor if case.status == "open" and not case.reserved_minor else 0
    return live.state == "cancelling" or (live.gateway, live.customer, live.amount_minor) != (
        terms.gateway,
        case.customer,
        wanted,
    )


def is_due(case: Case, calendar: Calendar) -> bool:
    """Whether a new attempt is due now."""
    tries = case.tries
    if not tries:
        return True
    last = tries[-1]
    if last.status == "unknown" or case.card_is_barred:
        return False
    if last.status == "no_card":
        return case.has_card
    if last.card != case.card:
        return True
    # Several days missed are one; an attempt uses up every day before it.
    return last.status == "declined" and any(slot <= calendar.now for slot in _slots_left(tries, calendar))


def is_exhausted(case: Case, calendar: Calendar) -> bool:
    """Whether an invoice stays open with nothing more to be tried: the last retry is over, or its card is barred.

    Another card or money can still pay it; else a person writes it off.
    """
    tries = case.tries
    if case.status != "open" or not tries or tries[-1].status != "declined" or is_due(case, calendar):
        return False
    return case.card_is_barred or not _slots_left(tries, calendar)


def _slots_left(tries: tuple[Attempt, ...], calendar: Calendar) -> list[int]:
    """The days of retries that no attempt has used up."""
    first = next(t.created_at for t in tries if t.status != "no_card")
    return [slot for slot in calendar.slots(first) if slot > tries[-1].last_seen]
