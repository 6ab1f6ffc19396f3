"""What every gateway can do, and what its answers mean.

Exception
├── NoAnswer   says nothing about what happened: time-out, cut connection, 5xx, 429, 401, 409, unreadable,
│              "not found"
└── Refused    this request was definitely refused and moved no money
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from metering.clock import Pace
from metering.errors import UsageError
from metering.values import minor_digits

if TYPE_CHECKING:
    from metering.home import Home

Status = Literal["unconfirmed", "processing", "action_required", "succeeded", "cancelled"]
STATUSES: frozenset[str] = frozenset(Status.__args__)  # type: ignore[attr-defined]
FINAL = frozenset({"succeeded", "cancelled"})
"""What an intent never leaves again."""

MAXIMUM_MINOR = 99_999_999
"""Eight digits of minor units: more than that no card network takes at once."""

TOO_SMALL = frozenset({"amount_too_small"})
"""Codes of a refusal that says: too little to charge."""


class Order(msgspec.Struct, frozen=True):
    """What an intent is made for; all of it is sent, so that the intent can be found again by it."""

    intent: str
    invoice: str
    customer: str
    currency: str
    amount_minor: int


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A payment intent as the gateway tells it: the answer of every call.

    A decline leaves it `unconfirmed`, with the code and the charge of the latest try.
    """

    ref: str
    status: str
    amount_minor: int
    currency: str
    customer: str
    invoice: str
    intent: str
    payment_method: str | None = None
    charge: str | None = None
    decline: str | None = None
    retryable: bool = True
    captured_minor: int = 0
    created_at: int = 0


class CardRefund(msgspec.Struct, frozen=True, kw_only=True):
    """Money that went back to the card; `correction` is our name for it."""

    ref: str
    intent: str
    correction: str
    amount_minor: int
    currency: str
    status: Literal["succeeded", "pending", "failed"] = "succeeded"


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """A card payment that its holder disputes, as it stands now."""

    ref: str
    intent: str
    amount_minor: int
    currency: str
    outcome: Literal["opened", "won", "lost"] = "opened"
    created_at: int = 0


NOT_FOUND = "not_found"
"""The code of a NoAnswer that says: no such object under this key."""


class NoAnswer(Exception):
    """The gateway said nothing about what happened, so the intent has to be read back; the text is a code."""


class Refused(Exception):
    """The gateway refused this request and did nothing; `spent` if the intent takes no further attempt."""

    def __init__(self, code: str, message: str = "", *, spent: bool = False) -> None:
        super().__init__(message or code)
        self.code = code
        self.spent = spent


class Limits:
    """What a gateway takes in one charge."""

    name = ""

    def minimum_minor(self, currency: str) -> int:
        """The smallest charge that the gateway publishes, else 0."""
        return 0

    def unit_minor(self, currency: str) -> int:
        """What every charge must be a multiple of: 0.010 in currencies of three digits."""
        return 10 if minor_digits(currency) == 3 else 1

    def maximum_minor(self, currency: str) -> int:
        """The largest charge."""
        return MAXIMUM_MINOR

    def disputes(self, since: int) -> Iterator[Dispute]:
        """Every dispute opened since an instant; a gateway that does not tell has none."""
        return iter(())


class Gateway(Protocol):
    """Two steps: `create` makes an intent and moves no money; only `confirm` does, and succeeds at most once.

    A key makes a call repeatable: the same key with the same arguments gives the same answer, as long as the
    gateway remembers it. Every call raises NoAnswer or Refused.
    """

    @property
    def name(self) -> str: ...
    @property
    def per_second(self) -> int | None:
        """How many calls a second it stands beside what is configured; None if it needs no pace at all."""

    @property
    def is_live(self) -> bool:
        """Whether it charges real cards."""

    def minimum_minor(self, currency: str) -> int: ...
    def unit_minor(self, currency: str) -> int: ...
    def maximum_minor(self, currency: str) -> int: ...

    def create(self, order: Order, key: str) -> Intent:
        """A new, unconfirmed intent."""

    def confirm(self, ref: str, payment_method: str, key: str) -> Intent:
        """Charge the card; a declined card is an answer, not an error."""

    def cancel(self, ref: str, key: str) -> Intent:
        """Make sure that it never succeeds; refused if it has."""

    def read(self, ref: str) -> Intent:
        """The intent as it is now; NoAnswer if it is not found."""

    def find(self, customer: str, invoice: str) -> Sequence[Intent]:
        """The customer's intents for an invoice, from a listing that is never late."""

    def list(self, since: int) -> Iterator[Intent]:
        """Every intent made since an instant."""

    def refund(self, ref: str, amount_minor: int, correction: str, key: str) -> CardRefund:
        """Give captured money of an intent back to its card, under our correction's name."""

    def refunds(self, ref: str) -> Sequence[CardRefund]:
        """Every refund of an intent, from a listing that is never late."""

    def disputes(self, since: int) -> Iterator[Dispute]:
        """Every dispute opened since an instant, each as it stands now."""

    def close(self) -> None:
        """Let go of files and connections."""


def paced(gateway: Gateway, requests_per_second: int) -> Pace | None:
    """The pace for a gateway's calls; None for one without limits."""
    if gateway.per_second is None:
        return None
    return Pace(min(requests_per_second, gateway.per_second))


def open_gateway(home: Home, name: str | None = None) -> Gateway:
    """The configured gateway, or the named one; opening it calls nobody and writes nothing."""
    name = name or home.config.payments.gateway
    if name == "sandbox":
        from metering.payments.sandbox import Sandbox

        return Sandbox(home.path / "sandbox", home.clock.now)
    if name == "stripe":
        from metering.payments.stripe import Stripe

        return Stripe(home.config.payments.stripe.api_base, real_clock=home.clock.is_real)
    if name == "airwallex":
        from metering.payments.airwallex import Airwallex

        return Airwallex(home.config.payments.airwallex.api_base, real_clock=home.clock.is_real)
    raise UsageError(
        f'[payments] gateway = "{name}": this installation has no such gateway.',
        unchanged="No card was charged.",
        remedy=f'Install the extra: pip install "metering[{name}]", or set gateway = "sandbox".',
    )


def limits_of(home: Home) -> Limits:
    """What the configured gateway takes in one charge; it needs neither a key nor an installed extra."""
    if home.config.payments.gateway == "stripe":
        from metering.payments.stripe import StripeLimits

        return StripeLimits()
    return Limits()


def refuse_live_key(home: Home) -> None:
    """Refuse a live key of the configured gateway; for runs whose clock is set."""
    if home.config.payments.gateway == "stripe":
        from metering.payments import stripe

        stripe.refuse_live_key()
    if home.config.payments.gateway == "airwallex":
        from metering.payments import airwallex

        airwallex.refuse_live_key(home.config.payments.airwallex.api_base)
