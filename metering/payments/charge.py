"""The two-step protocol for one invoice, one step at a time.

Where an invoice stands is always and only in the ledger and at the gateway. A visit reads both, does the one
step that `states.next_action` names, and looks again. So a run that died between any two steps is simply gone
on with, and a lost answer is the same as a death.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import sqlalchemy as sa

from metering.failpoints import failpoint
from metering.payments import record
from metering.payments.cases import load_case, terms_of
from metering.payments.desk import Desk
from metering.payments.gateway import FINAL, Gateway, Intent, NoAnswer, Order, Refused
from metering.payments.record import Event
from metering.payments.states import Action, Case, Finding, Live, is_exhausted, judge, next_action

T = TypeVar("T")

MOST_STEPS = 24
MOST_STARTS = 2
"""Attempts that one visit may store: the second only where the first one's intent took no attempt at all."""
MOST_CONFIRMS = 2
"""A confirm that got no answer is sent once more in a visit; after that the next run looks again."""
SERVER_ERROR = "http_5"
"""How the code begins of an answer that a gateway may keep under its key, and repeat for a day."""

_FOUND_FIRST = {"unconfirmed": 1, "cancelled": 2}
"""Of several intents of one name the one that money may have moved through is taken."""
_CLEARING = frozenset({Action.READ, Action.CANCEL})
_PAYING = _CLEARING | {Action.USE_RESERVED, Action.USE_BALANCE}
_SETTLING = frozenset(Action) - {Action.USE_BALANCE}


class Visit:
    """One claimed invoice in one run."""

    def __init__(self, desk: Desk, invoice: str, *, retries: bool = True) -> None:
        self.desk = desk
        self.invoice = invoice
        self.retries = retries
        self.events: list[Event] = []
        self.stuck = False
        """Whether nothing more can be done for this invoice in this run; `why` says why."""
        self.why = "no_answer"
        self._silent = False
        self._case: Case | None = None
        self._reading: Intent | None = None
        self._fresh: str | None = None
        self._starts = 0
        self._confirms = 0
        self._server_errors = 0
        self._create_failed = False

    @property
    def case(self) -> Case:
        """What the ledger knows now."""
        if self._case is None:
            with self.desk.book.read() as con:
                self._case = load_case(con, self.invoice)
        return self._case

    def read_back(self) -> None:
        """Read the live intent; cancel it if another is wanted; then apply what was set aside."""
        self._go(_CLEARING | {Action.USE_RESERVED})

    def clear(self) -> bool:
        """Cancel the live intent; True if none lives any more."""
        self._go(_CLEARING, by_balance=True)
        return self.case.intent is None

    def use_balance(self) -> None:
        """Pay all that is due from the balance, once the live intent reads back as cancelled."""
        self._go(_PAYING, by_balance=True)
        self._case = None

    def settle(self) -> None:
        """Do everything that is due."""
        self._go(_SETTLING)

    def adopt(self, found: Intent, number: int) -> None:
        """Store an intent that the ledger had lost, as the invoice's intent of that number, and what became of it."""
        self._write(lambda con: record.adopt(con, self.desk, self.invoice, found, number))
        failpoint("restore.during_adopt")
        self._reading = None
        self.read_back()

    def finish(self) -> None:
        """Store why an attempt is still unknown, if it is; else tell if the gateway kept silent, or nothing is left."""
        if any(event.kind == "declined" for event in self.events) and is_exhausted(self.case, self.desk.calendar):
            self.events.append(Event("exhausted", self.invoice, self.case.currency, self.case.receivable_minor))
        if not self.stuck:
            return
        told = len(self.events)
        self._write(lambda con: record.unknown(con, self.invoice, self.why))
        if self._silent and len(self.events) == told:
            self._postponed()

    def _go(self, allowed: frozenset[Action], *, by_balance: bool = False) -> None:
        last: Action | None = None
        for _ in range(MOST_STEPS):
            if self.stuck or last is Action.USE_BALANCE:
                return
            terms = terms_of(self.case, self.desk.payments, self.desk.gateway)
            last = next_action(self.case, self._reading, terms, self.desk.calendar, by_balance=by_balance)
            if last is Action.NOTHING and self._reading is not None and self._reading.status == "processing":
                self._stop("processing")
            if last is Action.NOTHING or last not in allowed:
                return
            try:
                self._do(last)
            except NoAnswer as silence:
                self._reading = None
                self.why = str(silence) or self.why
                self.stuck = self._silent = last is Action.READ
        self._stop("too_many_steps")

    def _do(self, action: Action) -> None:
        live = self.case.intent
        if action is Action.START:
            self._start()
        elif action is Action.NO_CARD:
            self._no_card()
        elif action is Action.CARRY:
            self._write(lambda con: record.carry(con, self.desk, self.invoice))
        elif action is Action.USE_RESERVED:
            self._write(lambda con: record.use_reserved(con, self.desk, self.invoice))
        elif action is Action.USE_BALANCE:
            self._write(lambda con: record.use_balance(con, self.desk, self.invoice))
        elif live is not None and live.gateway_ref is None:
            self._obtain(live)
        elif live is not None and live.gateway_ref is not None:
            steps = {Action.READ: self._read, Action.CANCEL: self._cancel, Action.CONFIRM: self._confirm}
            steps[action](live, live.gateway_ref)

    # Steps in the ledger

    def _start(self) -> None:
        case = self.case
        if self._starts == MOST_STARTS or (case.tries and not self.retries):
            self._stop("tried")
        elif self.desk.gateway_is_down:
            self._stop("gateway_down")
            self._postponed()
        else:
            self._starts += 1
            self._confirms = self._server_errors = 0
            self._write(lambda con: record.start(con, self.desk, self.invoice, case))
            made = self.case.intent
            if case.intent is None and made is not None and not self.desk.run.looks_first:
                self._fresh = made.intent

    def _no_card(self) -> None:
        case = self.case
        if case.tries and not self.retries:
            self._stop("tried")
        else:
            self._write(lambda con: record.no_card(con, self.desk, self.invoice, case))

    # Steps at the gateway

    def _obtain(self, live: Live) -> None:
        """Make the intent, or find the one whose id was lost; its id is stored before all else."""
        order = Order(live.intent, live.invoice, live.customer, live.currency, live.amount_minor)
        fresh, self._fresh = self._fresh == live.intent, None
        answer = None if fresh else self._find(live)
        if answer is None:
            failpoint("payment.before_create")
            try:
                key = self._create_key(live)
                answer = self._call(live, lambda gateway: gateway.create(order, key))
            except NoAnswer as silence:
                failed_before, self._create_failed = self._create_failed, str(silence).startswith(SERVER_ERROR)
                if not fresh and (failed_before or not self._create_failed):
                    raise
                self.why = str(silence) or self.why
                return
            except Refused as refusal:
                self._refused_create(live, refusal)
                return
            failpoint("payment.after_create")
        found = judge(self.case, answer, own=False)
        if found.kind == "wrong":
            self._alarm(live, found.reason, answer)
            return
        ref = answer.ref
        case = replace(self.case, intent=replace(live, gateway_ref=ref, state="created"))
        self._write(lambda con: record.name_intent(con, live, ref), then=case)
        self._reading = answer if (found.kind, answer.status) == ("open", "unconfirmed") else None

    def _create_key(self, live: Live) -> str:
        """The key of the creation; another one where the gateway may keep a failure under that.

        An intent of which nobody stored the id is never confirmed, so a second one of its name moves no money.
        """
        usual = f"{live.intent}/create"
        return f"{usual}/run-{self.desk.run.run}" if self._create_failed else usual

    def _find(self, live: Live) -> Intent | None:
        listed = self._call(live, lambda gateway: gateway.find(live.customer, live.invoice))
        ours = [intent for intent in listed if intent.intent == live.intent]
        return min(ours, key=lambda intent: (_FOUND_FIRST.get(intent.status, 0), intent.ref), default=None)

    def _refused_create(self, live: Live, refusal: Refused) -> None:
        if refusal.code == "idempotency_error":
            self._alarm(live, refusal.code)
        else:
            self._write(lambda con: record.refused(con, self.desk, live, refusal))

    def _read(self, live: Live, ref: str) -> None:
        self._learn(live, self._call(live, lambda gateway: gateway.read(ref)))

    def _confirm(self, live: Live, ref: str) -> None:
        if self._confirms == MOST_CONFIRMS:
            self._leave(live)
            return
        self._confirms += 1
        attempt = self.case.attempts[-1]
        key = f"{live.intent}/attempt-{attempt.attempt}/confirm"
        failpoint("payment.before_confirm")
        try:
            answer = self._call(live, lambda gateway: gateway.confirm(ref, attempt.payment_method, key))
        except NoAnswer as silence:
            self._server_errors += str(silence).startswith(SERVER_ERROR)
            raise
        except Refused as refusal:
            self._refused_confirm(live, ref, refusal)
            return
        failpoint("payment.after_confirm")
        self._learn(live, answer, own=True)

    def _leave(self, live: Live) -> None:
        """Leave a confirm without an answer to the next run.

        If it is one of an earlier run and the gateway fails again at every send of it, the failure may be kept
        under its key: then the intent, which still reads as unconfirmed, takes no attempt any more.
        """
        if self._server_errors == MOST_CONFIRMS and not self._starts:
            self._write(lambda con: record.cancelling(con, live))
        else:
            self._stop(self.why)

    def _refused_confirm(self, live: Live, ref: str, refusal: Refused) -> None:
        """This send did nothing, but an earlier one of it may have: the intent tells."""
        self.why = refusal.code
        if refusal.code == "idempotency_error":
            self._alarm(live, refusal.code)
            return
        answer = self._call(live, lambda gateway: gateway.read(ref))
        if judge(self.case, answer, own=False).kind != "open":
            self._learn(live, answer)
            return
        self._reading = answer
        if refusal.spent:
            self._write(lambda con: record.cancelling(con, live))
        else:
            self._record(live, Finding("declined", refusal.code, retryable=False))

    def _cancel(self, live: Live, ref: str) -> None:
        self._write(lambda con: record.cancelling(con, live))
        failpoint("payment.before_cancel")
        try:
            self._call(live, lambda gateway: gateway.cancel(ref, f"{live.intent}/cancel"))
        except (NoAnswer, Refused) as silence:
            self.why = str(silence) or self.why
        failpoint("payment.after_cancel")
        # The answer is not believed: what counts is how the intent reads.
        answer = self._call(live, lambda gateway: gateway.read(ref))
        self._learn(live, answer)
        if answer.status not in FINAL and not self.stuck:
            self._stop("cancelling")

    # What came of it

    def _learn(self, live: Live, answer: Intent, *, own: bool = False) -> None:
        found = judge(self.case, answer, own=own)
        if found.kind == "wrong":
            self._alarm(live, found.reason, answer)
            return
        self._reading = answer
        if found.kind not in ("open", "processing"):
            self._record(live, found)

    def _record(self, live: Live, found: Finding) -> None:
        self._write(lambda con: record.finding(con, self.desk, live, found))
        failpoint("payment.after_record")
        if self.case.intent is None:
            self._reading = None

    def _alarm(self, live: Live, reason: str | None, answer: Intent | None = None) -> None:
        captured = answer.captured_minor if answer else 0
        self.events.append(Event("alarm", self.invoice, live.currency, captured, reason))
        self._stop(reason or "wrong")

    def _postponed(self) -> None:
        due = self.case.receivable_minor
        self.events.append(Event("postponed", self.invoice, self.case.currency, due, self.why))

    def _stop(self, why: str) -> None:
        self.stuck, self.why = True, why

    def _write(self, work: Callable[[sa.Connection], list[Event]], then: Case | None = None) -> None:
        """Do a transaction's work, and learn how the case stands then, unless that is known."""

        def write(con: sa.Connection) -> tuple[list[Event], Case]:
            return work(con), then or load_case(con, self.invoice)

        events, self._case = self.desk.commits.write(write)
        self.events += events

    def _call(self, live: Live, call: Callable[[Gateway], T]) -> T:
        gateway = self.desk.gateway_named(live.gateway)
        self.desk.turn()
        try:
            answer = call(gateway)
        except NoAnswer:
            self.desk.heard(False)
            raise
        except Refused:
            self.desk.heard(True)
            raise
        self.desk.heard(True)
        return answer
