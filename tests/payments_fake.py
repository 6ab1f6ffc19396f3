"""A gateway in memory whose network does the worst: it loses requests and answers, delays them, and forgets keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from metering.payments.gateway import Intent, Limits, NoAnswer, Order, Refused

LIES: dict[str, dict[str, Any]] = {
    "wrong_currency": {"currency": "EUR"},
    "wrong_customer": {"customer": "cus_of_another"},
    "wrong_amount": {"amount_minor": 1},
    "wrong_invoice": {"invoice": "INV-of-another"},
    "wrong_status": {"status": "requires_capture"},
}
"""Answers that are not what was asked for; the intent itself is well."""
DECLINES = {"pm_declined": ("generic_decline", True), "pm_stolen": ("stolen_card", False)}


class FakeGateway(Limits):
    """Behaves as the large gateways do; `faults` says for each next call what the network does to it."""

    name = "sandbox"
    per_second = None

    def __init__(self) -> None:
        self.intents: dict[str, Intent] = {}
        self.captures: list[tuple[str, str, int]] = []
        self.declines: Counter[tuple[str, str]] = Counter()
        """How often each intent was declined, by code."""
        self.faults: list[str] = []
        self.calls: list[str] = []
        self._answers: dict[str, Intent | Refused] = {}
        self._bodies: dict[str, tuple[object, ...]] = {}
        self._late: list[tuple[str, str, tuple[Any, ...]]] = []
        self._count: Counter[str] = Counter()

    def create(self, order: Order, key: str) -> Intent:
        return self._send("create", key, (order,))

    def confirm(self, ref: str, payment_method: str, key: str) -> Intent:
        return self._send("confirm", key, (ref, payment_method))

    def cancel(self, ref: str, key: str) -> Intent:
        return self._send("cancel", key, (ref,))

    def read(self, ref: str) -> Intent:
        return self._over_the_network("read", lambda: self.intents[ref])

    def find(self, customer: str, invoice: str) -> Sequence[Intent]:
        return self._over_the_network(
            "find", lambda: [i for i in self.intents.values() if (i.customer, i.invoice) == (customer, invoice)]
        )

    def list(self, since: int) -> Iterator[Intent]:
        return iter(self.intents.values())

    def close(self) -> None:
        pass

    def forget_keys(self) -> None:
        self._answers.clear()

    def deliver_late(self) -> None:
        """Requests that were under way all the time arrive now."""
        late, self._late = self._late, []
        for request in late:
            with suppress(Refused):
                self._arrive(*request)

    def next_fault(self, name: str) -> str:
        """What the network does to the next call."""
        return self.faults.pop(0) if self.faults else "none"

    def act(self, ref: str, succeed: bool) -> None:
        """The customer passes or fails 3-D Secure."""
        intent = self.intents[ref]
        if intent.status == "action_required" and succeed:
            self.capture(intent)
        elif intent.status == "action_required":
            self._put(intent, status="unconfirmed", decline="authentication_failed")

    def _send(self, name: str, key: str, body: tuple[Any, ...]) -> Intent:
        assert self._bodies.setdefault(key, body) == body, f"the key {key} was sent with two bodies"
        return self._over_the_network(name, lambda: self._arrive(name, key, body), (name, key, body))

    def _arrive(self, name: str, key: str, body: tuple[Any, ...]) -> Intent:
        if key not in self._answers:
            try:
                self._answers[key] = getattr(self, f"_{name}")(*body)
            except Refused as refusal:
                self._answers[key] = refusal
        answer = self._answers[key]
        if isinstance(answer, Refused):
            raise answer
        return answer

    def _over_the_network(
        self, name: str, arrive: Callable[[], Any], request: tuple[str, str, tuple[Any, ...]] | None = None
    ) -> Any:
        self.calls.append(name)
        fault = self.next_fault(name)
        if fault == "delayed" and request:
            self._late.append(request)
        if fault in ("request_lost", "delayed"):
            raise NoAnswer(fault)
        if fault == "answer_lost":
            with suppress(Refused):
                arrive()
            raise NoAnswer(fault)
        answer = arrive()
        if fault in LIES and isinstance(answer, Intent):
            return msgspec.structs.replace(answer, **LIES[fault])
        return answer

    def _create(self, order: Order) -> Intent:
        if order.customer == "cus_gone":
            raise Refused("resource_missing")
        self._count["pi"] += 1
        ref = f"pi_{self._count['pi']}"
        fields = {name: getattr(order, name) for name in order.__struct_fields__}
        self.intents[ref] = Intent(ref=ref, status="unconfirmed", **fields)
        return self.intents[ref]

    def _confirm(self, ref: str, payment_method: str) -> Intent:
        intent = self.intents[ref]
        if intent.status in ("succeeded", "cancelled"):
            raise Refused("unexpected_state")
        if payment_method == "pm_detached":
            raise Refused("resource_missing")
        intent = self._put(intent, payment_method=payment_method, decline=None)
        if payment_method == "pm_action":
            return self._put(intent, status="action_required")
        if payment_method in DECLINES:
            self._count["ch"] += 1
            code, retryable = DECLINES[payment_method]
            self.declines[ref, code] += 1
            charge = f"ch_{self._count['ch']}"
            return self._put(intent, status="unconfirmed", charge=charge, decline=code, retryable=retryable)
        return self.capture(intent)

    def _cancel(self, ref: str) -> Intent:
        intent = self.intents[ref]
        if intent.status == "succeeded":
            raise Refused("unexpected_state")
        return self._put(intent, status="cancelled")

    def capture(self, intent: Intent) -> Intent:
        self._count["ch"] += 1
        self.captures.append((intent.ref, intent.invoice, intent.amount_minor))
        return self._put(
            intent,
            status="succeeded",
            charge=f"ch_{self._count['ch']}",
            captured_minor=intent.amount_minor,
            decline=None,
            retryable=True,
        )

    def _put(self, intent: Intent, **changes: object) -> Intent:
        self.intents[intent.ref] = msgspec.structs.replace(intent, **changes)
        return self.intents[intent.ref]
