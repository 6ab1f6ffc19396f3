"""The gateway `stripe`: off-session PaymentIntents through the official SDK.

An answer is trusted only if it is what the API documents: a PaymentIntent, or an error object whose status says that
the request was refused. Everything else is no answer, and the caller reads the intent back. Texts of errors that come
from outside are never passed on, only codes, so that no secret can be in them.
"""

from __future__ import annotations

import os
import socket
import threading
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib.resources import files
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from metering.errors import UsageError
from metering.payments.gateway import CardRefund, Intent, Limits, NoAnswer, Order, Refused
from metering.values import MICROS_PER_SECOND, currencies, parse_money

if TYPE_CHECKING:
    import requests
    from stripe import StripeClient, StripeError

T = TypeVar("T")

TIMEOUT_SECONDS = (5, 30)
"""For the connection, and for silence within an answer."""
LONGEST_SECONDS = 60
"""For the whole of an answer, also where it comes drop by drop."""
KEY = "STRIPE_API_KEY"
PAGE = 100
LONGEST = 8
_STATUS = {
    "requires_payment_method": "unconfirmed",
    "requires_confirmation": "unconfirmed",
    "requires_action": "action_required",
    "processing": "processing",
    "succeeded": "succeeded",
    "canceled": "cancelled",
}
_REFUND_STATUS: dict[str, Literal["succeeded", "pending", "failed"]] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "failed",
}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


# What Stripe sends


class _Failure(msgspec.Struct):
    code: str | None = None
    decline_code: str | None = None
    advice_code: str | None = None
    charge: str | None = None
    payment_method: str | dict[str, Any] | None = None

    @property
    def reason(self) -> str:
        return self.decline_code or self.code or "declined"

    @property
    def asks_for_action(self) -> bool:
        return not {self.code, self.decline_code}.isdisjoint(_published()["declines"]["action"])

    @property
    def retryable(self) -> bool:
        return self.advice_code != "do_not_try_again" and self.reason not in _published()["declines"]["final"]


class _PaymentIntent(msgspec.Struct, tag_field="object", tag="payment_intent"):
    id: str
    amount: int
    currency: str
    status: str
    created: int
    amount_received: int = 0
    customer: str | dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    payment_method: str | dict[str, Any] | None = None
    latest_charge: str | dict[str, Any] | None = None
    last_payment_error: _Failure | None = None


class _Refund(msgspec.Struct, tag_field="object", tag="refund"):
    id: str
    amount: int
    currency: str
    status: str
    payment_intent: str | dict[str, Any] | None = None
    metadata: dict[str, str] | None = None


class _Page(msgspec.Struct, tag_field="object", tag="list"):
    data: list[dict[str, Any]]
    has_more: bool


class _Declined(NoAnswer):
    """A card was declined, and the answer tells how the intent stands now."""

    def __init__(self, intent: object) -> None:
        super().__init__("card_error")
        self.intent = intent


# The gateway


class StripeLimits(Limits):
    """What Stripe takes in one charge, as published."""

    name = "stripe"

    def minimum_minor(self, currency: str) -> int:
        """The smallest charge that Stripe publishes, else 0."""
        text = _published()["minimum"].get(currency)
        return 0 if text is None else parse_money(text, currency)

    def unit_minor(self, currency: str) -> int:
        """0.010 in currencies of three digits; whole units where Stripe's amounts have fewer digits than ours."""
        return max(super().unit_minor(currency), _power(-_shift(currency)))

    def maximum_minor(self, currency: str) -> int:
        """The largest number of digits that Stripe takes, all of them nines."""
        largest = _power(_published()["longest"].get(currency, LONGEST)) - 1
        shift = _shift(currency)
        return largest // _power(shift) * _power(-shift)


class Stripe(StripeLimits):
    """Stripe's API; safe to use from many threads."""

    per_second = 100
    """What Stripe stands in live mode; in test mode it is 25."""

    def __init__(self, api_base: str, *, real_clock: bool) -> None:
        key = _secret(real_clock=real_clock)
        host = urlsplit(api_base)
        if host.scheme != "https" and (host.scheme != "http" or host.hostname not in _LOOPBACK):
            raise UsageError(
                f"[payments.stripe] api_base = {api_base!r}: the secret key travels only by https.",
                unchanged="No card was charged.",
                remedy='Set api_base = "https://api.stripe.com".',
            )
        self.is_live = _is_live()
        self._sessions = _Sessions()
        self._client = _open(key, api_base.rstrip("/"), self._sessions)

    def create(self, order: Order, key: str) -> Intent:
        """A new, unconfirmed intent for cards only, so that no other way of paying needs a page to return to."""
        answer = self._ask(
            "post",
            "/v1/payment_intents",
            customer=order.customer,
            amount=_outward(order.amount_minor, order.currency),
            currency=order.currency.lower(),
            capture_method="automatic",
            payment_method_types=["card"],
            metadata={"invoice": order.invoice, "intent": order.intent},
            idempotency_key=key,
        )
        return _intent(answer)

    def confirm(self, ref: str, payment_method: str, key: str) -> Intent:
        """Charge the card while its owner is away."""
        try:
            answer = self._ask(
                "post",
                f"/v1/payment_intents/{ref}/confirm",
                payment_method=payment_method,
                off_session=True,
                idempotency_key=key,
            )
        except _Declined as declined:
            answer = declined.intent
        return _intent(answer, ref)

    def cancel(self, ref: str, key: str) -> Intent:
        """Make sure that it never succeeds.

        The key is not sent: Stripe would replay a failure under it for a day, and cancelling twice does no harm.
        """
        return _intent(self._ask("post", f"/v1/payment_intents/{ref}/cancel"), ref)

    def read(self, ref: str) -> Intent:
        """The intent as it is now."""
        return _intent(self._ask("get", f"/v1/payment_intents/{ref}"), ref)

    def find(self, customer: str, invoice: str) -> Sequence[Intent]:
        """The customer's intents for an invoice, from the listing: a search would lag behind."""
        listed = map(_intent, self._pages("/v1/payment_intents", customer=customer))
        return [intent for intent in listed if (intent.customer, intent.invoice) == (customer, invoice)]

    def list(self, since: int) -> Iterator[Intent]:
        """Every intent made since an instant, the latest first; also those that others made."""
        return map(_intent, self._pages("/v1/payment_intents", created={"gte": max(since, 0) // MICROS_PER_SECOND}))

    def refund(self, ref: str, amount_minor: int, correction: str, key: str) -> CardRefund:
        """Give captured money back to the card."""
        currency = self.read(ref).currency
        answer = self._ask(
            "post",
            "/v1/refunds",
            payment_intent=ref,
            amount=_outward(amount_minor, currency),
            metadata={"correction": correction},
            idempotency_key=key,
        )
        return _refund(answer)

    def refunds(self, ref: str) -> Sequence[CardRefund]:
        """Every refund of an intent."""
        return [_refund(data) for data in self._pages("/v1/refunds", payment_intent=ref)]

    def close(self) -> None:
        """Let go of the connections."""
        self._sessions.close()

    def _pages(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        seen: set[str] = set()
        after: dict[str, str] = {}
        while True:
            page = _read(self._ask("get", path, limit=PAGE, **params, **after), _Page)
            yield from page.data
            if not page.has_more:
                return
            last = page.data[-1].get("id") if page.data else None
            if not isinstance(last, str) or last in seen:
                raise NoAnswer("unreadable")
            seen.add(last)
            after = {"starting_after": last}

    def _ask(self, method: str, path: str, **params: Any) -> object:
        import stripe

        try:
            return self._client.raw_request(method, path, **params).data
        except stripe.StripeError as error:
            raise _meaning(error, writes=method == "post") from None
        except Exception:
            # What is no error object at all lets the SDK stumble.
            raise NoAnswer("unreadable") from None


class _Sessions:
    """Stands for one session of connections, and is one for each thread: requests' own are not made to be shared.

    No redirect is followed: it would turn a POST into a GET.
    """

    def __init__(self) -> None:
        self._mine = threading.local()
        self._all: list[requests.Session] = []

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request over this thread's connection."""
        session: requests.Session | None = getattr(self._mine, "session", None)
        if session is None:
            session = self._mine.session = self._open(str(args[1]))
            self._all.append(session)
        kwargs["allow_redirects"] = False
        limit = threading.Timer(LONGEST_SECONDS, _cut, (self._mine.__dict__,))
        limit.daemon = True
        limit.start()
        try:
            return session.request(*args, **kwargs)
        finally:
            limit.cancel()

    def _open(self, url: str) -> requests.Session:
        """A session for this thread, which knows the socket that it waits for an answer on."""
        import requests
        from requests.utils import get_environ_proxies

        session = requests.Session()
        # Looked up once, not at every request; and no password file replaces the secret.
        session.proxies = get_environ_proxies(url)
        session.trust_env = False
        mine = self._mine.__dict__
        for adapter in session.adapters.values():
            classes = adapter.poolmanager.pool_classes_by_scheme  # type: ignore[attr-defined]
            adapter.poolmanager.pool_classes_by_scheme = {  # type: ignore[attr-defined]
                scheme: _noting(pool, mine) for scheme, pool in classes.items()
            }
        return session

    def close(self) -> None:
        """Close every thread's connection."""
        for session in self._all:
            session.close()


def _noting(pool: Any, mine: dict[str, Any]) -> Any:
    """A kind of connection pool whose connections note their socket when they are made."""

    def connect(connection: Any) -> None:
        pool.ConnectionCls.connect(connection)
        mine["socket"] = connection.sock

    kind = type("Connection", (pool.ConnectionCls,), {"connect": connect})
    return type("Pool", (pool,), {"ConnectionCls": kind})


def _cut(mine: dict[str, Any]) -> None:
    """End the connection below whatever is being read from it."""
    if "socket" in mine:
        with suppress(OSError):
            socket.socket.shutdown(mine["socket"], socket.SHUT_RDWR)


def _open(key: str, api_base: str, sessions: _Sessions) -> StripeClient:
    try:
        import stripe
    except ImportError:
        raise UsageError(
            '[payments] gateway = "stripe": the Stripe SDK is not installed.',
            unchanged="No card was charged.",
            remedy='Install the extra: pip install "metering[stripe]".',
        ) from None
    stripe.enable_telemetry = False
    http: Any = stripe.RequestsClient(timeout=TIMEOUT_SECONDS, session=sessions)  # type: ignore[arg-type]
    return stripe.StripeClient(key, base_addresses={"api": api_base}, max_network_retries=0, http_client=http)


def _secret(*, real_clock: bool) -> str:
    key = os.environ.get(KEY, "").strip()
    if not key.startswith(("sk_", "rk_")):
        raise UsageError(
            f"{KEY} is {'no secret key' if key else 'not set'}, and without one no card can be charged.",
            unchanged="Nothing was changed.",
            remedy=f"Put the secret key (sk_… or rk_…) into the environment variable {KEY}.",
        )
    if not real_clock:
        refuse_live_key()
    return key


def _is_live() -> bool:
    return "_live_" in os.environ.get(KEY, "")


def refuse_live_key() -> None:
    """Refuse a key that charges real cards; for runs whose clock is set."""
    if _is_live():
        raise UsageError(
            f"{KEY} is a live key, and --now sets the clock: real cards are charged by the real clock only.",
            unchanged="Nothing was changed.",
            remedy="Rehearse with a test key or with the sandbox; leave --now and METERING_NOW away to charge.",
        )


def _meaning(error: StripeError, *, writes: bool) -> NoAnswer | Refused:
    """What an error says: refused, declined, or nothing at all."""
    import stripe

    status = error.http_status
    if isinstance(error, stripe.APIConnectionError):
        return NoAnswer(_connection(error))
    if isinstance(error, stripe.IdempotencyError):
        return Refused("idempotency_error")
    if isinstance(error, stripe.CardError):
        told = error.json_body
        intent = told["error"].get("payment_intent") if isinstance(told, dict) else None
        return _Declined(intent) if intent else NoAnswer(_code(error) or "card_error")
    if isinstance(error, stripe.InvalidRequestError) and status == 400 and writes:
        code = _code(error) or "invalid_request"
        return Refused(code, spent=code == "payment_intent_unexpected_state")
    if status is None or 200 <= status < 300:
        return NoAnswer("unreadable")
    return NoAnswer({404: "not_found", 429: "rate_limit"}.get(status, f"http_{status}"))


def _connection(error: StripeError) -> str:
    import requests

    cause = error.__cause__
    if isinstance(cause, requests.exceptions.Timeout):
        return "timeout"
    return "tls" if isinstance(cause, requests.exceptions.SSLError) else "connection_cut"


def _code(error: StripeError) -> str:
    """The error's code, if it is one: lower-case letters, digits and underscores."""
    code = error.code if isinstance(error.code, str) else ""
    return "".join(takewhile(lambda letter: letter.isascii() and (letter.isalnum() or letter == "_"), code))[:100]


# Into our words


def _intent(data: object, ref: str | None = None) -> Intent:
    """A PaymentIntent in our words; NoAnswer if it is none, or another one than was asked for."""
    found = _read(data, _PaymentIntent)
    if ref not in (None, found.id):
        raise NoAnswer("unreadable")
    status = _STATUS.get(found.status, found.status)
    failure = found.last_payment_error
    if status == "unconfirmed" and failure and failure.asks_for_action:
        status = "action_required"
    currency = found.currency.upper()
    metadata = found.metadata or {}
    return Intent(
        ref=found.id,
        status=status,
        amount_minor=_inward(found.amount, currency),
        currency=currency,
        customer=_id(found.customer) or "",
        invoice=metadata.get("invoice", ""),
        intent=metadata.get("intent", ""),
        payment_method=_id(found.payment_method) or (_id(failure.payment_method) if failure else None),
        charge=_id(found.latest_charge) or (failure.charge if failure else None),
        decline=failure.reason if failure else None,
        retryable=failure.retryable if failure else True,
        captured_minor=_inward(found.amount_received, currency),
        created_at=found.created * MICROS_PER_SECOND,
    )


def _refund(data: object) -> CardRefund:
    found = _read(data, _Refund)
    currency = found.currency.upper()
    return CardRefund(
        ref=found.id,
        intent=_id(found.payment_intent) or "",
        correction=(found.metadata or {}).get("correction", ""),
        amount_minor=_inward(found.amount, currency),
        currency=currency,
        status=_REFUND_STATUS.get(found.status, "pending"),
    )


def _read(data: object, kind: type[T]) -> T:
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError:
        raise NoAnswer("unreadable") from None


def _id(value: str | dict[str, Any] | None) -> str | None:
    """The id of an object that comes as its id or in full."""
    found = value.get("id") if isinstance(value, dict) else value
    return found if isinstance(found, str) else None


@cache
def _published() -> dict[str, Any]:
    return tomllib.loads(files("metering.payments").joinpath("stripe.toml").read_text("utf-8"))


def _shift(currency: str) -> int:
    """How many decimal places more Stripe's amounts have than ours."""
    ours = currencies().get(currency, 2)
    return int(_published()["digits"].get(currency, ours)) - ours


def _outward(amount_minor: int, currency: str) -> int:
    """An amount in Stripe's unit."""
    shift = _shift(currency)
    amount, rest = divmod(amount_minor * _power(shift), _power(-shift))
    if rest:
        raise Refused("amount_invalid")
    return amount


def _inward(amount: int, currency: str) -> int:
    """An amount of Stripe's in minor units; -1, which nothing equals, if it is no whole number of them."""
    shift = _shift(currency)
    found, rest = divmod(amount * _power(-shift), _power(shift))
    return -1 if rest else found


def _power(digits: int) -> int:
    """Ten to that power; 1 where there are no digits to move."""
    return int(10 ** max(digits, 0))
