"""What each of the sandbox's cards leads to, as tables."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from payments_given import DAY, INVOICE, Given

from metering.config import Payments
from metering.errors import UsageError
from metering.payments.cards import CARDS, CUSTOMERS, card
from metering.payments.gateway import NoAnswer, Order, Refused, open_gateway
from metering.payments.split import chargeable


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path / "home")


@pytest.mark.parametrize(
    ("method", "statuses", "captures", "exit_code"),
    [
        ("pm_card_visa", ["succeeded"], 1, 0),
        ("pm_card_mastercard", ["succeeded"], 1, 0),
        ("pm_1PxYz", ["succeeded"], 1, 0),
        ("pm_card_chargeDeclined", ["declined:generic_decline"], 0, 3),
        ("pm_card_visa_chargeDeclined", ["declined:generic_decline"], 0, 3),
        ("pm_card_chargeCustomerFail", ["declined:generic_decline"], 0, 3),
        ("pm_card_chargeDeclinedInsufficientFunds", ["declined:insufficient_funds"], 0, 3),
        ("pm_card_chargeDeclinedExpiredCard", ["declined:expired_card"], 0, 3),
        ("pm_card_chargeDeclinedIncorrectCvc", ["declined:incorrect_cvc"], 0, 3),
        ("pm_card_chargeDeclinedProcessingError", ["declined:processing_error"], 0, 3),
        ("pm_card_visa_chargeDeclinedVelocityLimitExceeded", ["declined:card_velocity_exceeded"], 0, 3),
        ("pm_card_visa_chargeDeclinedLostCard", ["declined:lost_card"], 0, 3),
        ("pm_card_chargeDeclinedStolenCard", ["declined:stolen_card"], 0, 3),
        ("pm_card_chargeDeclinedFraudulent", ["declined:fraudulent"], 0, 3),
        ("pm_card_authenticationRequired", ["action_required"], 0, 3),
        ("pm_sandbox_processing", ["unknown:processing"], 0, 3),
        ("pm_sandbox_lostAnswer", ["succeeded"], 1, 0),
        ("pm_sandbox_lostDecline", ["declined:generic_decline"], 0, 3),
        ("pm_sandbox_timeout", ["succeeded"], 1, 0),
        ("pm_sandbox_unavailable", ["unknown:connection_cut"], 0, 3),
        ("pm_sandbox_wrongAmount", ["unknown:wrong_amount"], 1, 3),
        ("pm_sandbox_spentIntent", ["declined:intent_cancelled", "succeeded"], 1, 0),
        ("tok_nonsense", ["declined:resource_missing"], 0, 3),
        ("", ["no_card"], 0, 3),
    ],
)
def test_the_first_attempt(given: Given, method: str, statuses: list[str], captures: int, exit_code: int) -> None:
    given.account(method=method)
    given.invoice()
    outcome = given.charge()
    assert (given.statuses(), len(given.sandbox.captures()), outcome.exit_code) == (statuses, captures, exit_code)
    # What is known already is no news, and a quiet day brings no second attempt.
    again = given.collect()
    assert given.statuses() == statuses
    assert again.exit_code == (3 if method == "pm_sandbox_wrongAmount" else 0)


@pytest.mark.parametrize("method", [name for name, done in CARDS.items() if not done.retryable])
def test_a_card_that_must_not_be_tried_again_is_not(given: Given, method: str) -> None:
    given.account(method=method)
    given.invoice()
    given.collect()
    given.now += 40 * DAY
    given.collect()
    assert len(given.statuses()) == 1
    given.account(method="pm_card_visa")
    given.collect()
    given.account(method=method)
    assert given.case().status == "paid"


@pytest.mark.parametrize(
    ("customer", "statuses", "status"),
    [
        ("cus_sandbox_missing", ["declined:resource_missing"], "open"),
        ("cus_sandbox_tooSmall", ["declined:amount_too_small"], "carried"),
        ("cus_sandbox_lostCreate", ["succeeded"], "paid"),
        ("cus_sandbox_lostCancel", ["succeeded"], "paid"),
        ("anybody", ["succeeded"], "paid"),
    ],
)
def test_customers(given: Given, customer: str, statuses: list[str], status: str) -> None:
    given.account(customer=customer)
    given.invoice()
    given.charge()
    assert (given.statuses(), given.case().status) == (statuses, status)
    assert len(given.table("intents")) == 1


def test_every_customer_of_the_table_is_tried_above() -> None:
    """The table in the code and the table of cases do not drift apart."""
    marks = test_customers.pytestmark  # type: ignore[attr-defined]
    assert set(CUSTOMERS) <= {case[0] for case in marks[0].args[1]}


def test_the_customer_acts(given: Given) -> None:
    """3-D Secure: each collect reads back, and the day the customer has acted the invoice is paid."""
    given.account(method="pm_card_authenticationRequired")
    given.invoice()
    given.collect()
    given.now += 30 * DAY
    given.collect()
    assert given.statuses() == ["action_required"]
    (intent,) = given.table("intents")
    given.sandbox.complete_action(intent["gateway_ref"])
    assert given.collect().counts == {"succeeded": 1}
    assert given.case().status == "paid"


def test_the_customer_fails_to_act(given: Given) -> None:
    """A failed 3-D Secure is a decline, with the usual retries."""
    given.account(method="pm_card_authenticationRequired")
    given.invoice()
    given.collect()
    (intent,) = given.table("intents")
    given.sandbox.complete_action(intent["gateway_ref"], succeed=False)
    given.collect()
    assert given.statuses() == ["declined:authentication_failed"]
    given.now += 3 * DAY
    given.collect()
    assert given.statuses() == ["declined:authentication_failed", "action_required"]
    assert len(given.table("intents")) == 1


def test_a_new_card_while_the_old_one_waits_for_the_customer(given: Given) -> None:
    """The new card is confirmed on the same intent."""
    given.account(method="pm_card_authenticationRequired")
    given.invoice()
    given.collect()
    given.account(method="pm_card_visa")
    given.collect()
    assert given.statuses() == ["declined:replaced_by_another_card", "succeeded"]
    assert len(given.table("intents")) == 1


def test_a_card_is_imported_later(given: Given) -> None:
    """`no_card` is stored once; the card that comes is tried at once."""
    given.account(method="")
    given.invoice()
    for _ in range(3):
        given.now += DAY
        given.collect()
    assert given.statuses() == ["no_card"]
    given.account(method="pm_card_visa")
    given.collect()
    assert given.statuses() == ["no_card", "succeeded"]


def test_a_gateway_that_is_not_installed_is_named(given: Given) -> None:
    given.config = '[payments]\ngateway = "airwallex"\n'
    given.__post_init__()
    with pytest.raises(UsageError, match="airwallex"):
        open_gateway(given.home)


def test_an_intent_of_another_gateway_blocks_until_that_gateway_can_be_asked(given: Given) -> None:
    """The gateway changed: no second intent while the first may still succeed."""
    given.account(method="pm_card_chargeDeclined")
    given.invoice()
    given.collect()

    class Other(type(given.sandbox)):  # type: ignore[misc]
        name = "airwallex"

    given.gateway = Other(given.path / "other", lambda: given.now)
    given.now += 3 * DAY
    given.account(method="pm_card_visa")
    given.collect()
    assert [intent["gateway"] for intent in given.table("intents")] == ["sandbox", "airwallex"]
    assert [intent["state"] for intent in given.table("intents")] == ["cancelled", "succeeded"]
    given.invoice(number=2, month="2026-06")
    given.account(method="pm_card_chargeDeclined")
    given.collect()
    given.gateway = None
    given.now += 3 * DAY
    assert given.collect().counts == {"postponed": 1}
    assert [intent["state"] for intent in given.table("intents")][2:] == ["created"]


@pytest.mark.parametrize(
    ("due", "currency", "charge", "carry"),
    [
        (1000, "USD", 1000, 0),
        (50, "USD", 50, 0),
        (49, "USD", 0, 49),
        (0, "USD", 0, 0),
        (-5, "USD", 0, 0),
        (1, "JPY", 1, 0),
        (12345, "KWD", 12340, 5),
        (9, "KWD", 0, 9),
        (99_999_999, "USD", 99_999_999, 0),
        (100_000_000, "USD", 0, 0),
        (99_999_999, "KWD", 99_999_990, 9),
    ],
)
def test_what_a_card_can_pay(tmp_path: Path, due: int, currency: str, charge: int, carry: int) -> None:
    sandbox = Given(tmp_path).sandbox
    assert chargeable(due, currency, Payments(), sandbox) == (charge, carry)


def test_the_leftover_is_carried_with_the_success(given: Given) -> None:
    given.account(currency="KWD")
    given.invoice(12345, currency="KWD")
    given.collect()
    case = given.case()
    assert (case.status, case.receivable_minor, case.carried_minor) == ("carried", 0, 5)
    assert given.sandbox.captures()[0].amount == "12.340"


def test_too_large_stays_open_without_an_attempt(given: Given) -> None:
    given.account()
    given.invoice(100_000_000)
    given.collect()
    assert (given.statuses(), given.case().status) == ([], "open")


# The sandbox itself


def _order(**other: object) -> Order:
    return Order(**{"intent": "i/1", "invoice": "i", "customer": "c", "currency": "USD", "amount_minor": 1000} | other)


def test_keys_are_remembered(given: Given) -> None:
    """Same key, same body: same answer. Another body: refused."""
    sandbox = given.sandbox
    first = sandbox.create(_order(), "k")
    assert sandbox.create(_order(), "k") == first
    with pytest.raises(Refused, match="another body"):
        sandbox.create(_order(amount_minor=2), "k")
    done = sandbox.confirm(first.ref, "pm_card_visa", "k2")
    assert done.status == "succeeded"
    assert sandbox.confirm(first.ref, "pm_card_visa", "k2") == done
    assert sandbox.confirm(first.ref, "pm_card_visa", "k3") == done
    with pytest.raises(Refused):
        sandbox.cancel(first.ref, "k4")
    assert len(sandbox.captures()) == 1


def test_a_cancelled_intent_is_never_confirmed(given: Given) -> None:
    sandbox = given.sandbox
    intent = sandbox.create(_order(), "k")
    assert sandbox.cancel(intent.ref, "c").status == "cancelled"
    with pytest.raises(Refused):
        sandbox.confirm(intent.ref, "pm_card_visa", "k2")
    assert sandbox.read(intent.ref).status == "cancelled"
    assert [found.ref for found in sandbox.find("c", "i")] == [intent.ref]
    assert [found.ref for found in sandbox.list(0)] == [intent.ref]
    with pytest.raises(NoAnswer):
        sandbox.read("pi_unheard_of")


def test_a_torn_line_is_cut_off_by_the_next_capture(given: Given) -> None:
    """A write that was cut off charged nobody; whole lines stay as they are."""
    sandbox = given.sandbox
    refs = [sandbox.create(_order(intent=f"i/{n}"), f"{n}").ref for n in range(3)]
    sandbox.confirm(refs[0], "pm_card_visa", "a")
    whole = sandbox.captures_file.read_bytes()
    sandbox.captures_file.write_bytes(whole + b'{"intent":"pi_torn","inv')
    assert [sandbox.read(ref).status for ref in refs] == ["succeeded", "unconfirmed", "unconfirmed"]
    assert len(given.sandbox.captures()) == 1
    given.sandbox.confirm(refs[1], "pm_card_visa", "b")
    assert sandbox.captures_file.read_bytes().startswith(whole)
    assert [capture.intent for capture in sandbox.captures()] == refs[:2]


def test_the_capture_record_is_the_truth(given: Given) -> None:
    """Whatever the intents' file says, what is captured reads as succeeded: also if that file is lost."""
    sandbox = given.sandbox
    intent = sandbox.create(_order(), "k")
    sandbox.confirm(intent.ref, "pm_card_visa", "a")
    sandbox.close()
    for file in sandbox.folder.glob("intents.db*"):
        file.unlink()
    read = given.sandbox.read(intent.ref)
    assert (read.status, read.captured_minor, read.amount_minor) == ("succeeded", 1000, 1000)


def test_files_are_for_the_owner_only(given: Given) -> None:
    given.account()
    given.invoice()
    given.collect()
    folder = given.path / "sandbox"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}


def test_the_amounts_of_the_record_are_decimals_in_major_units(given: Given) -> None:
    given.account(currency="JPY")
    given.invoice(1234, currency="JPY")
    given.collect()
    (line,) = given.sandbox.captures_file.read_text().splitlines()
    (intent,) = given.table("intents")
    assert line == (
        f'{{"intent":"{intent["gateway_ref"]}","invoice":"{INVOICE}","customer":"cus_1","amount":"1234",'
        '"currency":"JPY","captured_at":"2026-06-01T12:00:00Z"}'
    )
    assert Decimal("1234") * 1 == given.captured()


@pytest.mark.parametrize("token", ["pm_card_chargeDeclined", "pm_card_visa_chargeDeclined"])
def test_both_spellings_of_a_token(token: str) -> None:
    assert card(token) == CARDS["pm_card_chargeDeclined"]
