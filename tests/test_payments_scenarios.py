"""The rare orders of events that decide whether a card is charged twice, each written out."""

from __future__ import annotations

from pathlib import Path

import pytest
from payments_fake import LIES, FakeGateway
from payments_given import DAY, Given

from metering.payments.gateway import Intent, Refused


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def given(tmp_path: Path, gateway: FakeGateway) -> Given:
    made = Given(tmp_path / "home", gateway=gateway)
    made.account(method="pm_good")
    made.invoice(1000)
    return made


LOST_CONFIRMS = ["none", "delayed", "none", "delayed"]
"""create arrives; both confirms stay under way, and the intent reads as unconfirmed between them."""


def test_a_cancel_that_did_not_arrive_is_no_cancel(given: Given, gateway: FakeGateway) -> None:
    """The amount due changed while a confirm is under way: no second intent before the first reads as cancelled."""
    gateway.faults = list(LOST_CONFIRMS)
    given.collect()
    assert given.statuses() == ["unknown:delayed"]
    given.credit_note(400)
    gateway.faults = ["none", "request_lost"]
    given.collect()
    assert given.statuses() == ["unknown:cancelling"]
    assert len(gateway.intents) == 1
    gateway.deliver_late()
    given.collect()
    assert given.statuses() == ["succeeded"]
    assert (len(gateway.captures), given.captured(), given.balance()) == (1, 1000, 400)


def test_a_confirm_that_arrives_after_the_cancel_charges_nothing(given: Given, gateway: FakeGateway) -> None:
    gateway.faults = list(LOST_CONFIRMS)
    given.collect()
    given.credit_note(400)
    given.collect()
    gateway.deliver_late()
    given.collect()
    assert given.statuses() == ["declined:intent_cancelled", "succeeded"]
    assert [amount for *_, amount in gateway.captures] == [600]


def test_an_old_decline_is_not_taken_for_the_new_attempts(given: Given, gateway: FakeGateway) -> None:
    """The retry never arrived; the intent still shows the decline of the attempt before."""
    given.account(method="pm_declined")
    given.collect()
    given.now += DAY
    gateway.faults = ["none", "request_lost", "none", "request_lost"]
    given.collect()
    assert given.statuses() == ["declined:generic_decline", "unknown:request_lost"]
    given.collect()
    assert given.statuses() == ["declined:generic_decline"] * 2
    assert sum(gateway.declines.values()) == 2


def test_an_unknown_attempt_is_sent_again_with_its_own_card(given: Given, gateway: FakeGateway) -> None:
    """A key has one body: the new card has to wait for an attempt of its own."""
    given.account(method="pm_declined")
    gateway.faults = ["none", "request_lost", "none", "request_lost"]
    given.collect()
    given.account(method="pm_good")
    given.collect()
    assert given.statuses() == ["declined:generic_decline", "succeeded"]


@pytest.mark.parametrize("remembered", [True, False])
def test_a_lost_id_is_found_again(given: Given, gateway: FakeGateway, remembered: bool) -> None:
    """The answer to the creation was lost, also beyond the memory of keys: there is still one intent."""
    gateway.faults = ["answer_lost", "request_lost"]
    given.collect()
    assert given.table("intents")[0]["gateway_ref"] is None
    if not remembered:
        gateway.forget_keys()
    given.collect()
    assert (len(gateway.intents), len(gateway.captures)) == (1, 1)
    assert given.case().status == "paid"


def test_a_refused_confirm_is_believed_only_after_reading(given: Given, gateway: FakeGateway) -> None:
    """The first send succeeded and its answer was lost; the second is refused because of that."""
    confirm = gateway.confirm

    def refusing(ref: str, payment_method: str, key: str) -> Intent:
        confirm(ref, payment_method, key)
        raise Refused("unexpected_state")

    gateway.confirm = refusing  # type: ignore[method-assign]
    assert given.collect().counts == {"succeeded": 1}
    assert given.statuses() == ["succeeded"]


def test_keys_forgotten_between_the_sends(given: Given, gateway: FakeGateway) -> None:
    """The intent, not the key, keeps the card from being charged twice."""
    gateway.faults = ["none", "answer_lost", "request_lost"]
    given.collect()
    assert given.statuses() == ["unknown:request_lost"]
    gateway.forget_keys()
    given.collect()
    assert (given.statuses(), len(gateway.captures)) == (["succeeded"], 1)


def test_an_action_that_is_still_open_is_not_the_new_attempts(given: Given, gateway: FakeGateway) -> None:
    """The intent waits for the old card's 3-D Secure while the new card's confirm never arrived."""
    given.account(method="pm_action")
    given.collect()
    given.account(method="pm_good")
    gateway.faults = ["none", "request_lost", "none", "request_lost"]
    given.collect()
    assert given.statuses() == ["action_required", "unknown:request_lost"]
    given.collect()
    assert given.statuses() == ["declined:replaced_by_another_card", "succeeded"]


def test_a_silent_gateway_is_told_even_if_nothing_is_unknown(given: Given, gateway: FakeGateway) -> None:
    given.account(method="pm_declined")
    given.collect()
    given.now += DAY
    gateway.faults = ["request_lost"]
    outcome = given.collect()
    assert (outcome.counts, outcome.exit_code) == ({"postponed": 1}, 3)


@pytest.mark.parametrize("lie", sorted(LIES))
@pytest.mark.parametrize("step", ["create", "confirm", "read"])
def test_an_answer_that_was_not_asked_for_is_an_alarm(given: Given, gateway: FakeGateway, lie: str, step: str) -> None:
    """It proves nothing: nothing is recorded from it, and the next true answer goes on with the same intent."""
    given.account(method="pm_action" if step == "read" else "pm_good")
    if step == "read":
        given.collect()
    before = given.statuses()
    gateway.faults = {"create": [lie], "confirm": ["none", lie], "read": [lie]}[step]
    outcome = given.collect()
    reason = {"wrong_status": "unexpected_status", "wrong_invoice": "wrong_intent"}.get(lie, lie)
    assert [(event.kind, event.reason) for event in outcome.notable if event.kind == "alarm"] == [("alarm", reason)]
    assert outcome.exit_code == 3
    assert given.statuses() == (before or [f"unknown:{reason}"])
    given.collect()
    assert len(gateway.intents) == 1
    assert given.statuses() == (["action_required"] if step == "read" else ["succeeded"])


@pytest.mark.parametrize("arrives", ["before the cancel", "after the cancel"])
def test_money_that_comes_in_while_a_confirm_is_under_way(given: Given, gateway: FakeGateway, arrives: str) -> None:
    """The customer pays once: by the card if it was first, else by the balance."""
    gateway.faults = list(LOST_CONFIRMS)
    given.collect()
    given.topup(1000)
    if arrives == "before the cancel":
        gateway.deliver_late()
    given.collect()
    gateway.deliver_late()
    given.collect()
    by_card = arrives == "before the cancel"
    assert given.case().status == "paid"
    assert (len(gateway.captures), given.balance()) == ((1, 1000) if by_card else (0, 0))
