"""The sandbox's test tokens: what each card and customer does.

Any other `pm_…` succeeds, as `pm_card_visa` does; `pm_card_visa_X` is `pm_card_X`. Other texts are no card.
"""

from __future__ import annotations

from typing import NamedTuple

_NEVER = "declined, never to be tried again"


class Card(NamedTuple):
    """How a confirm of it ends: `effect` is what the sandbox does, `code` what a decline says."""

    effect: str
    code: str | None = None
    retryable: bool = True
    doc: str = ""


CARDS = {
    "pm_card_visa": Card("succeed", doc="succeeds"),
    "pm_card_mastercard": Card("succeed", doc="succeeds"),
    "pm_card_amex": Card("succeed", doc="succeeds"),
    "pm_card_chargeDeclined": Card("decline", "generic_decline", doc="declined"),
    "pm_card_chargeCustomerFail": Card("decline", "generic_decline", doc="saved well, declined when charged"),
    "pm_card_chargeDeclinedInsufficientFunds": Card("decline", "insufficient_funds", doc="declined"),
    "pm_card_chargeDeclinedExpiredCard": Card("decline", "expired_card", doc="declined"),
    "pm_card_chargeDeclinedIncorrectCvc": Card("decline", "incorrect_cvc", doc="declined"),
    "pm_card_chargeDeclinedProcessingError": Card("decline", "processing_error", doc="declined"),
    "pm_card_chargeDeclinedVelocityLimitExceeded": Card(
        "decline", "card_velocity_exceeded", doc="declined: over its limit"
    ),
    "pm_card_chargeDeclinedLostCard": Card("decline", "lost_card", False, _NEVER),
    "pm_card_chargeDeclinedStolenCard": Card("decline", "stolen_card", False, _NEVER),
    "pm_card_chargeDeclinedFraudulent": Card("decline", "fraudulent", False, _NEVER),
    "pm_card_chargeDeclinedPickupCard": Card("decline", "pickup_card", False, _NEVER),
    "pm_card_chargeDeclinedDoNotRetry": Card("decline", "do_not_try_again", False, _NEVER),
    "pm_card_radarBlock": Card("decline", "fraudulent", False, "blocked, never to be tried again"),
    "pm_card_authenticationRequired": Card("act", doc="the customer must act (3-D Secure)"),
    "pm_card_threeDSecure2Required": Card("act", doc="the customer must act (3-D Secure)"),
    "pm_card_threeDSecureRequired": Card("act", doc="the customer must act (3-D Secure)"),
    "pm_sandbox_processing": Card("process", doc="is processed until somebody completes it"),
    "pm_sandbox_declineOnce": Card("decline_once", "generic_decline", doc="declined, then succeeds"),
    "pm_sandbox_lostAnswer": Card("lose_answer", doc="succeeds, but the first answer is lost"),
    "pm_sandbox_lostDecline": Card("lose_decline", "generic_decline", doc="declined, but the first answer is lost"),
    "pm_sandbox_timeout": Card("lose_request", doc="the first confirm never arrives; then it succeeds"),
    "pm_sandbox_unavailable": Card("unavailable", doc="no confirm is ever answered or arrives"),
    "pm_sandbox_lateSuccess": Card("late", doc="no confirm is answered; it succeeds when a cancel arrives"),
    "pm_sandbox_wrongAmount": Card("overcharge", doc="captures one unit more than was asked for"),
    "pm_sandbox_spentIntent": Card("spend", doc="the first intent takes no attempt; the next one succeeds"),
}
"""Every card that does something of its own, and the usual names of those that just succeed."""

CUSTOMERS = {
    "cus_sandbox_missing": "every intent is refused: no such customer",
    "cus_sandbox_tooSmall": "every intent is refused: the amount is too small",
    "cus_sandbox_lostCreate": "the first answer to each creation is lost",
    "cus_sandbox_lostCancel": "no answer to a cancellation arrives",
}
"""Every customer that does something of its own; any other name is a customer."""


def card(token: str) -> Card | None:
    """What a card does; None if it is none."""
    known = CARDS.get(token) or CARDS.get(token.replace("pm_card_visa_", "pm_card_", 1))
    if known is not None:
        return known
    return Card("succeed") if token.startswith("pm_") else None
