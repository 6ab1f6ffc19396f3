"""The gateway `stripe` against localstripe, a server that we did not write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from payments_given import DAY, Given
from stripe_local import LocalStripe, local_stripe
from stripe_network import Network

pytest.importorskip("localstripe")
DECLINED = "pm_card_chargeCustomerFail"


@pytest.fixture(scope="module")
def server() -> Iterator[LocalStripe]:
    with local_stripe() as made:
        yield made


@pytest.fixture
def network(server: LocalStripe) -> Iterator[Network]:
    with Network(server).serving() as made:
        yield made


@pytest.fixture
def given(tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Given:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_secret")
    made = Given(
        tmp_path / "home", config=f'[payments]\ngateway = "stripe"\n[payments.stripe]\napi_base = "{network.url}"\n'
    )
    made.account(method="pm_card_visa", customer=f"cus_{request.node.name}")
    return made


def captured(server: LocalStripe, given: Given) -> list[int]:
    return [found.amount for found in server.captures if found.customer == given.case().customer]


def test_a_card_is_charged_once(given: Given, server: LocalStripe) -> None:
    given.invoice(1234)
    given.collect()
    given.collect()
    assert (given.statuses(), given.case().status) == (["succeeded"], "paid")
    assert captured(server, given) == [1234]


def test_a_declined_card(given: Given, server: LocalStripe) -> None:
    """It tells the decline without the intent, so the intent is read back."""
    given.account(method=DECLINED, customer="cus_declined")
    given.invoice(1000)
    given.collect()
    assert given.statuses() == ["declined:card_declined"]
    assert captured(server, given) == []


def test_balance_takes_over(given: Given, server: LocalStripe) -> None:
    """The intent is cancelled and read back as cancelled before the balance pays."""
    given.account(method=DECLINED, customer="cus_balance")
    given.invoice(1000)
    given.collect()
    given.topup(1000)
    given.now += DAY
    given.collect()
    assert (given.case().status, given.balance(), captured(server, given)) == ("paid", 0, [])
    assert [row["state"] for row in given.table("intents")] == ["cancelled"]


@pytest.mark.parametrize("step", ["create", "confirm"])
@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "500_after", "duplicate", "html", "409"])
def test_nothing_is_charged_twice_although_no_key_is_remembered(
    given: Given, server: LocalStripe, network: Network, fault: str, step: str
) -> None:
    network.plan = lambda its, subject, count: fault if (its, count) == (step, 1) else None
    given.account(method="pm_card_visa", customer=f"cus_{fault}_{step}")
    given.invoice(1000)
    for _ in range(3):
        given.collect()
    assert network.hits[fault, step] == 1
    assert (given.case().status, captured(server, given)) == ("paid", [1000])
