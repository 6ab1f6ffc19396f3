"""A Stripe of our own: the part of its API that the adapter uses, with its own list of what was captured.

It is as strict as the real one: unknown parameters are refused, keys are remembered with their bodies, a listing is
never late. `Stripe.call` is the API without a network; `stripe_network.py` puts one before it, that misbehaves.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

Answer = tuple[int, dict[str, Any]]
MINIMUM = 50
DECLINES = {
    "pm_card_chargeDeclined": "generic_decline",
    "pm_card_chargeDeclinedInsufficientFunds": "insufficient_funds",
    "pm_card_chargeDeclinedLostCard": "lost_card",
    "pm_card_chargeDeclinedStolenCard": "stolen_card",
    "pm_card_chargeDeclinedDoNotHonor": "do_not_honor",
    "pm_card_authenticationRequired": "authentication_required",
}
ADVISED = {"pm_card_advisedNotToTryAgain": "do_not_try_again"}
"""Cards whose decline says nothing, but whose network advises."""
OVERCHARGING = "pm_overcharge"
"""More is captured than was asked for."""
KNOWN = {
    "create": {"amount", "currency", "customer", "capture_method", "payment_method_types[0]"},
    "confirm": {"payment_method", "off_session"},
    "cancel": set(),
    "refund": {"payment_intent", "amount"},
}


class Refusal(Exception):
    """An answer that is an error object."""

    def __init__(self, status: int, code: str | None, **more: Any) -> None:
        self.status = status
        self.error = {"code": code, "message": "told to sk_test_secret", "type": "invalid_request_error", **more}


@dataclass
class Capture:
    """Money that left a card."""

    intent: str
    invoice: str
    customer: str
    amount: int
    currency: str


@dataclass
class Stripe:
    """The API and what it remembers; `now` is its clock, in seconds since the epoch."""

    now: int = 1_780_000_000
    intents: dict[str, dict[str, Any]] = field(default_factory=dict)
    refunds: list[dict[str, Any]] = field(default_factory=list)
    captures: list[Capture] = field(default_factory=list)
    bodies: dict[str, set[str]] = field(default_factory=dict)
    """Every body that was ever sent under a key."""
    calls: Counter[str] = field(default_factory=Counter)
    declined_once: set[str] = field(default_factory=set)
    _answers: dict[str, tuple[str, Answer]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, method: str, path: str, params: dict[str, str], key: str | None) -> Answer:
        """An answer of the API: status and body."""
        step = step_of(method, path)
        with self._lock:
            self.calls[step] += 1
            if key is None or method == "GET":
                return self._answer(step, path, params)
            body = f"{path} {sorted(params.items())}"
            self.bodies.setdefault(key, set()).add(body)
            if key in self._answers:
                before, answer = self._answers[key]
                if before != body:
                    return _told(Refusal(400, None, type="idempotency_error"))
                return answer
            answer = self._answer(step, path, params)
            # What is refused before it is tried is not kept under its key.
            if answer[0] in (200, 402):
                self._answers[key] = (body, answer)
            return answer

    def forget_keys(self) -> None:
        """A day has passed."""
        with self._lock:
            self._answers.clear()

    def act(self, ref: str) -> None:
        """The customer comes and proves who they are."""
        self._capture(self.intents[ref])

    def _answer(self, step: str, path: str, params: dict[str, str]) -> Answer:
        unknown = {name for name in params if not name.startswith("metadata[")} - KNOWN.get(step, set(params))
        try:
            if unknown:
                raise Refusal(400, "parameter_unknown")
            return 200, dict(getattr(self, f"_{step}")(path, params))
        except Refusal as refusal:
            return _told(refusal)

    def _create(self, path: str, params: dict[str, str]) -> dict[str, Any]:
        amount = int(params["amount"])
        if params["customer"] == "cus_missing":
            raise Refusal(400, "resource_missing", param="customer")
        if amount < MINIMUM:
            raise Refusal(400, "amount_too_small")
        if amount > 99_999_999:
            raise Refusal(400, "amount_too_large")
        name = params["metadata[intent]"]
        # Deterministic, so that a seed replays; a second one of the same name gets another id.
        ref = f"pi_{hashlib.sha256(f'{name} {len(self._named(name))}'.encode()).hexdigest()[:20]}"
        self.intents[ref] = {
            "id": ref,
            "object": "payment_intent",
            "amount": amount,
            "amount_received": 0,
            "currency": params["currency"],
            "customer": params["customer"],
            "metadata": {key[9:-1]: value for key, value in params.items() if key.startswith("metadata[")},
            "status": "requires_payment_method",
            "payment_method": None,
            "latest_charge": None,
            "last_payment_error": None,
            "created": self.now,
        }
        return self.intents[ref]

    def _confirm(self, path: str, params: dict[str, str]) -> dict[str, Any]:
        intent = self._found(path)
        card = params["payment_method"]
        if intent["status"] not in ("requires_payment_method", "requires_confirmation"):
            raise Refusal(400, "payment_intent_unexpected_state", payment_intent=dict(intent))
        if params.get("off_session") != "true":
            raise Refusal(400, "off_session_required")
        if not card.startswith("pm_"):
            raise Refusal(400, "resource_missing", param="payment_method")
        if card == "pm_processing":
            intent.update(status="processing", payment_method=card)
            return intent
        if card == "pm_action":
            intent.update(status="requires_action", payment_method=card)
            return intent
        code = DECLINES.get(card) or ("generic_decline" if card in ADVISED else None)
        if card == "pm_declineOnce" and intent["id"] not in self.declined_once:
            self.declined_once.add(intent["id"])
            code = "generic_decline"
        if code:
            return self._decline(intent, card, code)
        intent["payment_method"] = card
        return self._capture(intent)

    def _decline(self, intent: dict[str, Any], card: str, code: str) -> dict[str, Any]:
        charge = self._charge(intent)
        main = code if code == "authentication_required" else "card_declined"
        error = {
            "type": "card_error",
            "code": main,
            "decline_code": code,
            "charge": charge,
            "payment_method": {"id": card, "object": "payment_method"},
        }
        if card in ADVISED:
            error["advice_code"] = ADVISED[card]
        intent.update(
            status="requires_payment_method", payment_method=None, latest_charge=charge, last_payment_error=dict(error)
        )
        raise Refusal(402, error.pop("code"), **error, payment_intent=dict(intent))

    def _capture(self, intent: dict[str, Any]) -> dict[str, Any]:
        amount = intent["amount"] + (100 if intent["payment_method"] == OVERCHARGING else 0)
        self.captures.append(
            Capture(intent["id"], intent["metadata"]["invoice"], intent["customer"], amount, intent["currency"])
        )
        charge = self._charge(intent)
        intent.update(status="succeeded", amount_received=amount, latest_charge=charge, last_payment_error=None)
        return intent

    def _charge(self, intent: dict[str, Any]) -> str:
        intent["charges"] = intent.get("charges", 0) + 1
        return f"ch_{intent['id'][3:]}_{intent['charges']}"

    def _cancel(self, path: str, params: dict[str, str]) -> dict[str, Any]:
        intent = self._found(path)
        if intent["status"] in ("succeeded", "canceled", "processing"):
            raise Refusal(400, "payment_intent_unexpected_state")
        intent["status"] = "canceled"
        return intent

    def _read(self, path: str, params: dict[str, str]) -> dict[str, Any]:
        return self._found(path)

    def _find(self, path: str, params: dict[str, str]) -> dict[str, Any]:
        return self._list(path, params)

    def _list(self, path: str, params: dict[str, str]) -> dict[str, Any]:
        rows = list(reversed(self.refunds if path.endswith("refunds") else list(self.intents.values())))
        for name in ("customer", "payment_intent"):
            if name in params:
                rows = [row for row in rows if row[name] == params[name]]
        if "created[gte]" in params:
            rows = [row for row in rows if row["created"] >= int(params["created[gte]"])]
        if "starting_after" in params:
            place = [row["id"] for row in rows].index(params["starting_after"])
            rows = rows[place + 1 :]
        limit = int(params.get("limit", 10))
        return {"object": "list", "data": [dict(row) for row in rows[:limit]], "has_more": len(rows) > limit}

    def _refund(self, path: str, params: dict[str, str]) -> dict[str, Any]:
        intent = self.intents[params["payment_intent"]]
        amount = int(params["amount"])
        left = intent["amount_received"] - sum(r["amount"] for r in self.refunds if r["payment_intent"] == intent["id"])
        if amount > left:
            raise Refusal(400, "charge_already_refunded" if not left else "amount_too_large")
        made = {
            "id": f"re_{len(self.refunds) + 1}",
            "object": "refund",
            "amount": amount,
            "currency": intent["currency"],
            "payment_intent": intent["id"],
            "status": "succeeded",
            "metadata": {key[9:-1]: value for key, value in params.items() if key.startswith("metadata[")},
        }
        self.refunds.append(made)
        return made

    def _other(self, path: str, params: dict[str, str]) -> dict[str, Any]:
        raise Refusal(404, "resource_missing")

    def _found(self, path: str) -> dict[str, Any]:
        ref = path.split("/")[3]
        if ref not in self.intents:
            raise Refusal(404, "resource_missing")
        return self.intents[ref]

    def _named(self, name: str) -> list[str]:
        return [ref for ref, intent in self.intents.items() if intent["metadata"].get("intent") == name]


def step_of(method: str, path: str) -> str:
    """What a request is for: create, confirm, cancel, read, find, refund, list or other."""
    parts = path.strip("/").split("/")[1:]
    if method == "POST":
        if len(parts) == 3:
            return parts[2]
        return {"payment_intents": "create", "refunds": "refund"}.get(parts[0], "other")
    if len(parts) == 2:
        return "read"
    return {"payment_intents": "find", "refunds": "list"}.get(parts[0], "other")


def _told(refusal: Refusal) -> Answer:
    return refusal.status, {"error": refusal.error}
