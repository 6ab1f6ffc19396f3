"""The gateway `airwallex`: payment intents confirmed with a payment consent that the merchant may use alone.

Nearly every error of this API is an HTTP 400, and some of these say nothing about what happened. So only codes that
are known to be definite are taken for an answer; after all others the caller reads the intent back. A `request_id`
keeps a first send from happening twice, but its replay is never taken for an answer. Texts from outside are never
passed on, only codes, so that no secret can be in them.
"""

from __future__ import annotations

import os
import re
import threading
import uuid
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from metering.errors import UsageError
from metering.payments.gateway import NOT_FOUND, CardRefund, Intent, Limits, NoAnswer, Order, Refused
from metering.values import InvalidValue, format_instant, format_money, parse_instant, parse_money

T = TypeVar("T")

CLIENT_ID, API_KEY = "AIRWALLEX_CLIENT_ID", "AIRWALLEX_API_KEY"
TIMEOUT_SECONDS, CONNECT_SECONDS = 30, 5
PAGE = 100
MOST_DIGITS = 18
INTENTS, REFUNDS = "/api/v1/pa/payment_intents", "/api/v1/pa/refunds"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_STATUS = {
    "REQUIRES_PAYMENT_METHOD": "unconfirmed",
    "REQUIRES_CUSTOMER_ACTION": "action_required",
    "PENDING": "processing",
    "PENDING_REVIEW": "processing",
    "SUCCEEDED": "succeeded",
    "CANCELLED": "cancelled",
}
"""Any other status, such as REQUIRES_CAPTURE, is passed on as it is: an alarm, because it was never asked for."""
_REFUND_STATUS: dict[str, Literal["succeeded", "pending", "failed"]] = {
    "SUCCEEDED": "succeeded",
    "SETTLED": "succeeded",
    "FAILED": "failed",
}
DECLINES = frozenset(
    {
        *("issuer_declined", "provider_declined", "risk_declined", "authentication_declined", "suspected_fraud"),
        *("3ds_not_supported", "no_3ds_liability_shift", "card_brand_not_supported", "card_information_invalid"),
    }
)
"""The card was asked and said no; the intent tells by which attempt."""
REFUSALS = {
    "validation_error": "validation_error",
    "resource_not_found": "resource_not_found",
    "configuration_error": "configuration_error",
    "currency_not_supported": "currency_not_supported",
    "payment_method_not_allowed": "payment_method_not_allowed",
    "amount_below_limit": "amount_too_small",
    "amount_above_limit": "amount_too_large",
    "refund_amount_above_limit": "amount_too_large",
}
"""Codes by which a request was definitely refused, in our words. All that is not here is no definite answer."""
ISSUER_CODES = {
    "04": "pickup_card",
    "07": "pickup_card",
    "41": "lost_card",
    "43": "stolen_card",
    "51": "insufficient_funds",
    "54": "expired_card",
    "R0": "revocation_of_authorization",
    "R1": "revocation_of_all_authorizations",
}
_NEVER_AGAIN = frozenset(
    {
        *("pickup_card", "lost_card", "stolen_card", "revocation_of_authorization"),
        *("revocation_of_all_authorizations", "risk_declined", "suspected_fraud"),
    }
)
_ADVICE_NEVER = frozenset({"03", "21"})
_ENCODER = msgspec.json.Encoder(decimal_format="number")


# What Airwallex sends


class _Attempt(msgspec.Struct):
    id: str
    status: str = ""
    failure_code: str | None = None
    provider_original_response_code: str | None = None
    merchant_advice_code: str | None = None
    payment_consent_id: str | None = None

    @property
    def failed(self) -> bool:
        return self.status == "FAILED" or bool(self.failure_code)

    @property
    def reason(self) -> str:
        return ISSUER_CODES.get(self.provider_original_response_code or "") or _code(self.failure_code) or "declined"

    @property
    def retryable(self) -> bool:
        return self.reason not in _NEVER_AGAIN and self.merchant_advice_code not in _ADVICE_NEVER


class _PaymentIntent(msgspec.Struct):
    id: str
    amount: Decimal
    currency: str
    status: str
    captured_amount: Decimal = Decimal(0)
    customer_id: str | None = None
    metadata: dict[str, Any] | None = None
    payment_consent_id: str | None = None
    latest_payment_attempt: _Attempt | None = None
    created_at: str = ""


class _Refund(msgspec.Struct):
    id: str
    amount: Decimal
    currency: str
    status: str
    payment_intent_id: str = ""
    metadata: dict[str, Any] | None = None


class _Page(msgspec.Struct):
    items: list[msgspec.Raw]
    has_more: bool


class _Token(msgspec.Struct):
    token: str


class _Failure(msgspec.Struct):
    code: str = ""


class _Declined(NoAnswer):
    """A card was declined; how the intent stands has to be read."""


# The gateway


class Airwallex(Limits):
    """Airwallex's API; safe to use from many threads."""

    name = "airwallex"
    per_second = 20

    def __init__(self, api_base: str, *, real_clock: bool) -> None:
        _check_base(api_base, real_clock=real_clock)
        self.is_live = _is_live(api_base)
        self._secrets = {"x-client-id": _secret(CLIENT_ID), "x-api-key": _secret(API_KEY)}
        self._http = _open(api_base)
        self._lock = threading.Lock()
        self._token: str | None = None
        self._used: set[str] = set()
        """Keys whose first request_id is used up."""

    def create(self, order: Order, key: str) -> Intent:
        """A new, unconfirmed intent."""
        body = {
            "amount": _major(order.amount_minor, order.currency),
            "currency": order.currency,
            "customer_id": order.customer,
            "merchant_order_id": order.invoice,
            "metadata": {"invoice": order.invoice, "intent": order.intent},
        }
        return _intent(self._post(f"{INTENTS}/create", body, key))

    def confirm(self, ref: str, payment_method: str, key: str) -> Intent:
        """Charge the consent's card while its owner is away."""
        try:
            return _intent(self._post(f"{INTENTS}/{ref}/confirm", {"payment_consent_id": payment_method}, key), ref)
        except _Declined as declined:
            code = str(declined)
        # The error names no attempt, and only an attempt of its own makes a decline this send's.
        answer = self.read(ref)
        if answer.decline is not None or answer.status != "unconfirmed":
            return answer
        return msgspec.structs.replace(answer, decline=code, retryable=code not in _NEVER_AGAIN)

    def cancel(self, ref: str, key: str) -> Intent:
        """Make sure that it never succeeds."""
        try:
            return _intent(self._post(f"{INTENTS}/{ref}/cancel", {"cancellation_reason": "requested"}, key), ref)
        except Refused as refusal:
            raise NoAnswer(refusal.code) from None

    def read(self, ref: str) -> Intent:
        """The intent as it is now."""
        return _intent(self._ask("GET", f"{INTENTS}/{ref}"), ref)

    def find(self, customer: str, invoice: str) -> Sequence[Intent]:
        """The customer's intents for an invoice, by the order id that is our invoice number."""
        listed = [_intent(item) for item in self._pages(INTENTS, merchant_order_id=invoice)]
        return [intent for intent in listed if (intent.customer, intent.invoice) == (customer, invoice)]

    def list(self, since: int) -> Iterator[Intent]:
        """Every intent made since an instant, also those that others made."""
        bounds = {"from_created_at": format_instant(since).replace("Z", "+0000")} if since > 0 else {}
        return (_intent(item) for item in self._pages(INTENTS, **bounds))

    def refund(self, ref: str, amount_minor: int, correction: str, key: str) -> CardRefund:
        """Give captured money back to the card."""
        body = {
            "payment_intent_id": ref,
            "amount": _major(amount_minor, self.read(ref).currency),
            "reason": correction,
            "metadata": {"correction": correction},
        }
        return _refund(self._post(f"{REFUNDS}/create", body, key))

    def refunds(self, ref: str) -> Sequence[CardRefund]:
        """Every refund of an intent."""
        listed = [_refund(item) for item in self._pages(REFUNDS, payment_intent_id=ref)]
        return [refund for refund in listed if refund.intent == ref]

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def _pages(self, path: str, **params: str) -> Iterator[bytes]:
        """Every item of a list; what is new meanwhile moves others to a later page, so that none is missed."""
        seen: set[str] = set()
        number = 0
        while True:
            page = _read(self._ask("GET", path, params={**params, "page_num": number, "page_size": PAGE}), _Page)
            for item in page.items:
                name = _read(bytes(item), dict).get("id")
                if name not in seen:
                    seen.add(str(name))
                    yield bytes(item)
            if not page.has_more:
                return
            if not page.items:
                raise NoAnswer("unreadable")
            number += 1

    def _post(self, path: str, body: dict[str, Any], key: str) -> bytes:
        """Send a request that changes something, under a request_id made of the key.

        Where that id is used up the answer is lost; once the caller has read back, it sends again under a new one.
        """
        with self._lock:
            first = key not in self._used
        request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"metering:{key}") if first else uuid.uuid4())
        try:
            return self._ask("POST", path, content=_ENCODER.encode({**body, "request_id": request_id}))
        except (NoAnswer, Refused):
            with self._lock:
                self._used.add(key)
            raise

    def _ask(self, method: str, path: str, **sent: Any) -> bytes:
        token = self._bearer(None)
        status, body = self._send(method, path, token, **sent)
        if status == 401:
            # A token lives for half an hour. What was sent with a dead one did nothing, so it is sent again.
            status, body = self._send(method, path, self._bearer(token), **sent)
        if 200 <= status < 300:
            return body
        raise _meaning(status, body, writes=method == "POST")

    def _bearer(self, dead: str | None) -> str:
        """A token; another one than the one that was found dead."""
        with self._lock:
            if self._token is None or self._token == dead:
                self._token = None
                status, body = self._send("POST", "/api/v1/authentication/login", None, headers=self._secrets)
                if not 200 <= status < 300:
                    raise NoAnswer("login_refused" if status in (400, 401, 403) else f"http_{status}")
                self._token = _read(body, _Token).token
            return self._token

    def _send(self, method: str, path: str, token: str | None, **sent: Any) -> tuple[int, bytes]:
        import httpx

        headers = {"Content-Type": "application/json", **sent.pop("headers", {})}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            answer = self._http.request(method, path, headers=headers, **sent)
        except httpx.TimeoutException:
            raise NoAnswer("timeout") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError):
            raise NoAnswer("connection_cut") from None
        return answer.status_code, answer.content


def _check_base(api_base: str, *, real_clock: bool) -> None:
    host = urlsplit(api_base)
    if host.scheme != "https" and (host.scheme != "http" or host.hostname not in _LOOPBACK):
        raise UsageError(
            f"[payments.airwallex] api_base = {api_base!r}: the keys travel only by https.",
            unchanged="No card was charged.",
            remedy='Set api_base = "https://api.airwallex.com", or "https://api-demo.airwallex.com" to rehearse.',
        )
    if not real_clock:
        refuse_live_key(api_base)


def _is_live(api_base: str) -> bool:
    host = urlsplit(api_base).hostname or ""
    return host not in _LOOPBACK and "demo" not in host


def refuse_live_key(api_base: str) -> None:
    """Refuse the place where real cards are charged; for runs whose clock is set."""
    if _is_live(api_base):
        raise UsageError(
            f"[payments.airwallex] api_base = {api_base!r} charges real cards, and --now sets the clock: real cards"
            " are charged by the real clock only.",
            unchanged="Nothing was changed.",
            remedy="Rehearse with https://api-demo.airwallex.com or the sandbox; leave --now away to charge.",
        )


def _secret(name: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value or not value.isascii() or not value.isprintable():
        raise UsageError(
            f"{name} is {'no key' if value else 'not set'}, and without it no card can be charged.",
            unchanged="Nothing was changed.",
            remedy=f"Put it into the environment variable {name}.",
        )
    return value


def _open(api_base: str) -> Any:
    try:
        import httpx
    except ImportError:
        raise UsageError(
            '[payments] gateway = "airwallex": httpx is not installed.',
            unchanged="No card was charged.",
            remedy='Install the extra: pip install "metering[airwallex]".',
        ) from None
    return httpx.Client(
        base_url=api_base.rstrip("/"),
        timeout=httpx.Timeout(TIMEOUT_SECONDS, connect=CONNECT_SECONDS),
        follow_redirects=False,
        trust_env=urlsplit(api_base).hostname not in _LOOPBACK,
    )


# Into our words


def _meaning(status: int, body: bytes, *, writes: bool) -> NoAnswer | Refused:
    """What an error says: declined, refused, or nothing at all."""
    if status == 404:
        return NoAnswer(NOT_FOUND)
    if status != 400:
        return NoAnswer({401: "unauthorized", 429: "rate_limit"}.get(status, f"http_{status}"))
    try:
        code = _code(msgspec.json.decode(body, type=_Failure).code)
    except msgspec.MsgspecError:
        code = ""
    if not code:
        return NoAnswer("unreadable")
    if not writes:
        return NoAnswer(NOT_FOUND if code == "resource_not_found" else code)
    if code in DECLINES:
        return _Declined(code)
    return Refused(REFUSALS[code]) if code in REFUSALS else NoAnswer(code)


def _code(text: str | None) -> str:
    """A code as it stands if it is one, else nothing: other text from outside is not passed on."""
    return text.lower() if text and re.fullmatch(r"[A-Za-z0-9_]{1,64}", text) else ""


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise NoAnswer("unreadable") from None


def _intent(body: bytes, ref: str | None = None) -> Intent:
    found = _read(body, _PaymentIntent)
    if ref is not None and found.id != ref:
        raise NoAnswer("unreadable")
    attempt = found.latest_payment_attempt
    failed = attempt is not None and attempt.failed
    # An attempt that has not failed, on an intent that is unconfirmed, has charged nothing yet.
    charged = failed or found.status != "REQUIRES_PAYMENT_METHOD"
    named = found.metadata or {}
    return Intent(
        ref=found.id,
        status=_STATUS.get(found.status, found.status.lower()),
        amount_minor=_minor(found.amount, found.currency),
        captured_minor=_minor(found.captured_amount, found.currency),
        currency=found.currency,
        customer=found.customer_id or "",
        invoice=str(named.get("invoice", "")),
        intent=str(named.get("intent", "")),
        payment_method=(attempt and attempt.payment_consent_id) or found.payment_consent_id,
        charge=attempt.id if attempt and charged else None,
        decline=attempt.reason if attempt and failed else None,
        retryable=attempt.retryable if attempt and failed else True,
        created_at=_instant(found.created_at),
    )


def _refund(body: bytes) -> CardRefund:
    found = _read(body, _Refund)
    return CardRefund(
        ref=found.id,
        intent=found.payment_intent_id,
        correction=str((found.metadata or {}).get("correction", "")),
        amount_minor=_minor(found.amount, found.currency),
        currency=found.currency,
        status=_REFUND_STATUS.get(found.status, "pending"),
    )


def _major(amount_minor: int, currency: str) -> Decimal:
    return Decimal(format_money(amount_minor, currency))


def _minor(amount: Decimal, currency: str) -> int:
    """Minor units of an exact decimal; NoAnswer for what the currency does not have."""
    try:
        if not amount.is_finite() or amount.adjusted() > MOST_DIGITS:
            raise InvalidValue(f"{amount} is no amount")
        text = f"{amount:f}"
        return parse_money(text.rstrip("0").rstrip(".") if "." in text else text, currency)
    except InvalidValue:
        raise NoAnswer("unreadable") from None


def _instant(text: str) -> int:
    """An instant of a time such as 2026-06-01T08:00:00+0000; 0 if it is none."""
    try:
        return parse_instant(re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", text))
    except InvalidValue:
        return 0
