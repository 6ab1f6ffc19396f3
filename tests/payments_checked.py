"""What must be true of a ledger and its gateway: at every moment, and once all has been read back."""

from __future__ import annotations

from collections import Counter

from payments_fake import DECLINES, FakeGateway
from payments_given import Given

EVIDENT = {
    *("intent_cancelled", "resource_missing", "authentication_failed"),
    *("authentication_not_completed", "replaced_by_another_card"),
}
"""Reasons that no decline of the gateway is behind."""


def nothing_is_charged_twice(given: Given, gateway: FakeGateway) -> None:
    """At most one capture of an invoice; the book never says more than was captured."""
    assert max(Counter(invoice for _, invoice, _ in gateway.captures).values(), default=0) <= 1
    assert given.captured() <= sum(amount for *_, amount in gateway.captures)


def every_payment_has_its_evidence(given: Given, gateway: FakeGateway) -> None:
    """At most one live intent and one unknown attempt for an invoice; no decline that nobody told of."""
    intents, payments = given.table("intents"), given.table("payments")
    live = Counter(row["invoice"] for row in intents if row["live"])
    unknown = Counter(row["invoice"] for row in payments if row["status"] == "unknown")
    assert max([*live.values(), *unknown.values()], default=0) <= 1
    assert all(invoice in live for invoice in unknown)
    refs = {row["intent"]: row["gateway_ref"] for row in intents}
    codes = {code for code, _ in DECLINES.values()}
    told = Counter((refs[row["intent"]], row["reason"]) for row in payments if row["reason"] in codes)
    assert told <= gateway.declines
    assert {row["reason"] for row in payments if row["status"] == "declined"} <= codes | EVIDENT


def everything_is_known(given: Given, gateway: FakeGateway, *invoices: str) -> None:
    """The book says what was captured, no more and no less; no attempt is unknown; nothing is left set aside."""
    nothing_is_charged_twice(given, gateway)
    payments, intents = given.table("payments"), given.table("intents")
    assert "unknown" not in {row["status"] for row in payments}
    succeeded = Counter(
        (row["gateway_ref"], row["invoice"], row["amount_minor"]) for row in intents if row["state"] == "succeeded"
    )
    assert succeeded == Counter(gateway.captures)
    paid = Counter((row["invoice"], row["amount_minor"]) for row in payments if row["status"] == "succeeded")
    assert paid == Counter((invoice, amount) for _, invoice, amount in gateway.captures)
    assert given.captured() == sum(amount for *_, amount in gateway.captures)
    for invoice in invoices:
        case = given.case(invoice)
        assert case.receivable_minor >= 0
        assert case.status == "open" or (case.intent is None and case.reserved_minor == 0)
        if case.intent is not None:
            assert gateway.intents[case.intent.gateway_ref].status in ("unconfirmed", "action_required")
        elif case.status == "open":
            assert case.reserved_minor == 0
    assert given.balance() >= 0
