"""What must be true of a ledger and its gateway: at every moment, and once all has been read back."""

from __future__ import annotations

from collections import Counter

from payments_fake import FakeGateway
from payments_given import Given


def nothing_is_charged_twice(given: Given, gateway: FakeGateway) -> None:
    """At most one capture of an invoice; the book never says more than was captured."""
    assert max(Counter(invoice for _, invoice, _ in gateway.captures).values(), default=0) <= 1
    assert given.captured() <= sum(amount for *_, amount in gateway.captures)


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
