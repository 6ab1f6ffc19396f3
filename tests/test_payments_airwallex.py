"""The gateway `airwallex`, against a small server of our own: what is no definite answer is read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from airwallex_fake import SECRETS, Airwallex, airwallex
from payments_given import DAY, INVOICE, NOON, Given

from metering.errors import UsageError
from metering.payments import airwallex as adapter
from metering.payments.gateway import NoAnswer, Order, Refused
from metering.values import parse_instant

ORDER = Order(f"{INVOICE}/1", INVOICE, "cus_1", "USD", 1000)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def server() -> Iterator[Airwallex]:
    with airwallex() as fake:
        yield fake


@pytest.fixture
def gateway(server: Airwallex) -> Iterator[adapter.Airwallex]:
    opened = adapter.Airwallex(server.url, real_clock=True)
    yield opened
    opened.close()


def given(path: Path, server: Airwallex, method: str = "cst_ok", due: int = 1000, currency: str = "USD") -> Given:
    """A home that charges there; every run opens the gateway anew."""
    home = Given(path, config=f'[payments]\ngateway = "airwallex"\n[payments.airwallex]\napi_base = "{server.url}"\n')
    home.account(method=method, currency=currency)
    home.invoice(due, currency=currency)
    return home


# One call at a time


def test_two_steps_and_the_names_by_which_an_intent_is_found(server: Airwallex, gateway: adapter.Airwallex) -> None:
    made = gateway.create(ORDER, "k")
    assert (made.status, made.amount_minor, made.currency, made.customer) == ("unconfirmed", 1000, "USD", "cus_1")
    assert (made.invoice, made.intent, made.captured_minor, made.charge) == (INVOICE, f"{INVOICE}/1", 0, None)
    assert made.created_at == parse_instant("2026-06-01T08:01:00Z")
    assert server.captures == []
    done = gateway.confirm(made.ref, "cst_ok", "k2")
    assert (done.status, done.captured_minor, done.payment_method) == ("succeeded", 1000, "cst_ok")
    assert gateway.read(made.ref) == done
    assert gateway.find("cus_1", INVOICE) == [done]
    assert gateway.find("cus_2", INVOICE) == []
    assert server.intents[made.ref]["merchant_order_id"] == INVOICE


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [(1010, "USD", "10.10"), (5, "JPY", "5"), (1230, "KWD", "1.230"), (99_999_999, "EUR", "999999.99")],
)  # fmt: skip
def test_amounts_travel_as_exact_numbers(
    server: Airwallex, gateway: adapter.Airwallex, minor: int, currency: str, text: str
) -> None:
    made = gateway.create(Order("i/1", "i", "cus_1", currency, minor), "k")
    assert f'"amount":{text},' in server.bodies[-1][1]
    assert made.amount_minor == minor


@pytest.mark.parametrize(
    ("consent", "status"),
    [
        ("cst_act", "action_required"),
        ("cst_pending", "processing"),
        ("cst_review", "processing"),
        ("cst_capture", "requires_capture"),
    ],
)
def test_statuses(gateway: adapter.Airwallex, consent: str, status: str) -> None:
    """REQUIRES_CAPTURE was never asked for: no status of ours, so that it is an alarm."""
    ref = gateway.create(ORDER, "k").ref
    assert gateway.confirm(ref, consent, "k2").status == status


@pytest.mark.parametrize(
    ("consent", "reason", "retryable"),
    [
        ("cst_declined", "issuer_declined", True),
        ("cst_poor", "insufficient_funds", True),
        ("cst_stolen", "stolen_card", False),
    ],
)
def test_a_decline_is_an_answer(gateway: adapter.Airwallex, consent: str, reason: str, retryable: bool) -> None:
    ref = gateway.create(ORDER, "k").ref
    answer = gateway.confirm(ref, consent, "k2")
    assert (answer.status, answer.decline, answer.retryable) == ("unconfirmed", reason, retryable)
    assert answer.charge is not None
    assert answer.charge.startswith("att_")


@pytest.mark.parametrize(
    "fault",
    [
        *("drop_before", "drop_after", "500", "503", "429", "409", "html"),
        *("issuer_unavailable", "provider_unavailable!", "duplicate_request", "invalid_status_for_operation"),
        *("internal_error", "a_code_that_nobody_knows"),
    ],
)
@pytest.mark.parametrize("call", ["create", "confirm", "cancel"])
def test_what_says_nothing_is_no_answer(server: Airwallex, gateway: adapter.Airwallex, call: str, fault: str) -> None:
    ref = gateway.create(ORDER, "k").ref
    server.faults = [fault]
    calls = {
        "create": lambda: gateway.create(ORDER, "other"),
        "confirm": lambda: gateway.confirm(ref, "cst_ok", "k2"),
        "cancel": lambda: gateway.cancel(ref, "k3"),
    }
    with pytest.raises(NoAnswer) as silence:
        calls[call]()
    assert not any(secret in str(silence.value) for secret in SECRETS.values())


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (Order("i/1", "i", "cus_gone", "USD", 1000), "resource_not_found"),
        (Order("i/1", "i", "cus_1", "USD", 5), "amount_too_small"),
    ],
)
def test_a_definite_refusal(gateway: adapter.Airwallex, order: Order, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        gateway.create(order, "k")
    assert refusal.value.code == code


def test_a_repeated_request_is_not_taken_for_an_answer_and_then_goes_under_a_new_id(
    server: Airwallex, gateway: adapter.Airwallex
) -> None:
    """The first send was carried out and its answer lost; another process has the same key, and the same id."""
    made = gateway.create(ORDER, "k")
    again = adapter.Airwallex(server.url, real_clock=True)
    with pytest.raises(NoAnswer, match="duplicate_request"):
        again.create(ORDER, "k")
    assert again.find("cus_1", INVOICE) == [made]
    assert again.create(ORDER, "k").ref != made.ref
    again.close()


def test_not_found_is_no_evidence(gateway: adapter.Airwallex) -> None:
    with pytest.raises(NoAnswer, match="not_found"):
        gateway.read("int_none")


def test_a_token_that_dies_is_renewed_and_a_dead_key_is_no_answer(
    server: Airwallex, gateway: adapter.Airwallex, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = gateway.create(ORDER, "k").ref
    server.kill_tokens()
    assert gateway.confirm(ref, "cst_ok", "k2").status == "succeeded"
    assert server.logins == 2
    assert len(server.captures) == 1
    monkeypatch.setenv("AIRWALLEX_API_KEY", "another-secret")
    other = adapter.Airwallex(server.url, real_clock=True)
    with pytest.raises(NoAnswer, match=r"^login_refused$"):
        other.read(ref)
    other.close()


def test_lists_are_paged_and_bounded(server: Airwallex, gateway: adapter.Airwallex) -> None:
    refs = [gateway.create(Order(f"i{n}/1", f"i{n}", "cus_1", "USD", 1000), f"k{n}").ref for n in range(5)]
    server.page = 2
    assert sorted(intent.ref for intent in gateway.list(0)) == sorted(refs)
    assert [intent.ref for intent in gateway.list(parse_instant("2026-06-01T08:04:00Z"))] == refs[:2:-1]
    assert [intent.ref for intent in gateway.find("cus_1", "i3")] == [refs[3]]


def test_a_refund_is_found_again_by_its_name(server: Airwallex, gateway: adapter.Airwallex) -> None:
    ref = gateway.create(ORDER, "k").ref
    gateway.confirm(ref, "cst_ok", "k2")
    server.faults = ["drop_after"]
    with pytest.raises(NoAnswer):
        gateway.refund(ref, 250, "RF-000001", "r")
    (made,) = gateway.refunds(ref)
    assert (made.correction, made.amount_minor, made.status, made.intent) == ("RF-000001", 250, "pending", ref)
    server.refunds[made.ref]["status"] = "SETTLED"
    assert gateway.refunds(ref)[0].status == "succeeded"


# Opening


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_without_its_keys_it_is_refused_by_name_only(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(missing)
    with pytest.raises(UsageError, match=missing):
        adapter.Airwallex("https://api-demo.airwallex.com", real_clock=True)


@pytest.mark.parametrize(
    ("base", "real_clock"),
    [("http://api.airwallex.com", True), ("ftp://127.0.0.1", True), ("https://api.airwallex.com", False)],
)
def test_where_no_card_may_be_charged(base: str, real_clock: bool) -> None:
    with pytest.raises(UsageError) as error:
        adapter.Airwallex(base, real_clock=real_clock)
    assert not any(secret in str(error.value) for secret in SECRETS.values())


def test_the_keys_are_in_no_text_of_the_gateway(gateway: adapter.Airwallex) -> None:
    assert not any(secret in text for secret in SECRETS.values() for text in (repr(gateway), str(gateway)))


# Whole runs


def test_a_card_is_charged_and_the_success_posted(tmp_path: Path, server: Airwallex) -> None:
    home = given(tmp_path / "home", server, due=1234, currency="KWD")
    assert home.charge().exit_code == 0
    assert server.captures == [(INVOICE, "1.230", "KWD")]
    assert (home.captured(), home.case().status) == (1230, "carried")


@pytest.mark.parametrize(
    "fault", ["drop_before", "drop_after", "500", "html", "provider_unavailable", "provider_unavailable!"]
)
@pytest.mark.parametrize("at", [0, 1], ids=["create", "confirm"])
def test_whatever_gets_lost_the_card_is_charged_once(tmp_path: Path, server: Airwallex, at: int, fault: str) -> None:
    home = given(tmp_path / "home", server)
    server.faults = [""] * at + [fault]
    home.charge()
    home.collect()
    assert server.captures == [(INVOICE, "10.00", "USD")]
    assert home.captured() == 1000
    assert home.statuses() == ["succeeded"]


def test_everything_gets_lost_twice_and_the_next_run_goes_on(tmp_path: Path, server: Airwallex) -> None:
    home = given(tmp_path / "home", server)
    server.faults = ["", "500", "500", "500"]
    assert home.charge().exit_code == 3
    assert home.statuses() == ["unknown:http_500"]
    assert home.collect().counts["succeeded"] == 1
    assert len(server.captures) == 1


def test_a_declined_card_is_tried_again_on_the_same_intent(tmp_path: Path, server: Airwallex) -> None:
    home = given(tmp_path / "home", server, "cst_poor")
    home.charge()
    assert home.statuses() == ["declined:insufficient_funds"]
    home.now = NOON + DAY
    home.collect()
    assert home.statuses() == ["declined:insufficient_funds"] * 2
    home.account(method="cst_ok")
    home.collect()
    assert home.statuses()[-1] == "succeeded"
    assert (len(server.intents), len(server.captures)) == (1, 1)


def test_an_amount_that_changed_cancels_the_intent_first(tmp_path: Path, server: Airwallex) -> None:
    home = given(tmp_path / "home", server, "cst_declined")
    home.charge()
    home.credit_note(400)
    home.account(method="cst_ok")
    home.collect()
    assert [intent["status"] for intent in server.intents.values()] == ["CANCELLED", "SUCCEEDED"]
    assert server.captures == [(INVOICE, "6.00", "USD")]


def test_a_capture_that_waits_is_an_alarm(tmp_path: Path, server: Airwallex) -> None:
    outcome = given(tmp_path / "home", server, "cst_capture").charge()
    assert [(event.kind, event.reason) for event in outcome.notable if event.kind == "alarm"] == [
        ("alarm", "unexpected_status")
    ]
