"""The gateway `stripe`: what it sends, and what every answer of Stripe means."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from homes import Home
from payments_given import DAY, INVOICE, Given
from stripe_fake import Stripe as Api
from stripe_fake import step_of
from stripe_network import FAULTS, WRITES_ONLY, Network

from metering.errors import UsageError
from metering.home import Run
from metering.payments import stripe as adapter
from metering.payments.collect import collect
from metering.payments.gateway import Intent, NoAnswer, Order, Refused, limits_of, open_gateway
from metering.payments.stripe import Stripe, StripeLimits
from metering.values import currencies, parse_money

SECRET = "sk_test_secret"  # pragma: allowlist secret; made up
ORDER = Order("INV-1/1", "INV-1", "cus_1", "USD", 1000)
OF_GET = sorted(set(FAULTS) - WRITES_ONLY - {"hang", "wrong_amount"})
"""Faults that leave a reading caller without an answer."""


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", SECRET)


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def network(api: Api) -> Iterator[Network]:
    with Network(api).serving() as made:
        yield made


@pytest.fixture
def stripe(network: Network) -> Iterator[Stripe]:
    made = Stripe(network.url, real_clock=False)
    yield made
    made.close()


def test_half_a_request_is_none(network: Network, api: Api) -> None:
    """A client that is killed while it sends asks nothing; it is no second body of its key."""
    place = urlsplit(network.url)
    head = f"Authorization: Bearer {network.secret}\r\nIdempotency-Key: k\r\nContent-Length: 100"
    with socket.create_connection((place.hostname, place.port)) as client:
        client.sendall(f"POST /v1/payment_intents HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\namount=5".encode())
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""
    assert api.bodies == {}


def always(fault: str, step: str) -> Any:
    return lambda its, subject, count: fault if its == step else None


def confirmed(stripe: Stripe, card: str, **order: Any) -> Intent:
    made = stripe.create(Order(**{**{name: getattr(ORDER, name) for name in ORDER.__struct_fields__}, **order}), "c")
    return stripe.confirm(made.ref, card, "k")


# What is sent and what comes back


def test_two_steps(stripe: Stripe, api: Api) -> None:
    """Created unconfirmed, for cards only, with our names; confirmed off-session, once."""
    made = stripe.create(ORDER, "INV-1/1/create")
    assert made == Intent(
        ref=made.ref,
        status="unconfirmed",
        amount_minor=1000,
        currency="USD",
        customer="cus_1",
        invoice="INV-1",
        intent="INV-1/1",
        created_at=api.now * 1_000_000,
    )
    assert api.captures == []
    done = stripe.confirm(made.ref, "pm_card_visa", "INV-1/1/attempt-1/confirm")
    assert (done.status, done.captured_minor, done.payment_method) == ("succeeded", 1000, "pm_card_visa")
    assert [(c.invoice, c.amount, c.customer) for c in api.captures] == [("INV-1", 1000, "cus_1")]
    assert api.bodies == {
        "INV-1/1/create": {
            "/v1/payment_intents [('amount', '1000'), ('capture_method', 'automatic'), ('currency', 'usd'), "
            "('customer', 'cus_1'), ('metadata[intent]', 'INV-1/1'), ('metadata[invoice]', 'INV-1'), "
            "('payment_method_types[0]', 'card')]"
        },
        "INV-1/1/attempt-1/confirm": {
            f"/v1/payment_intents/{made.ref}/confirm [('off_session', 'true'), ('payment_method', 'pm_card_visa')]"
        },
    }
    assert stripe.read(made.ref) == done
    assert list(stripe.find("cus_1", "INV-1")) == [done]
    assert list(stripe.list(0)) == [done]


def test_a_cancelled_intent(stripe: Stripe) -> None:
    made = stripe.create(ORDER, "c")
    assert stripe.cancel(made.ref, "x").status == "cancelled"
    with pytest.raises(Refused) as refused:
        stripe.confirm(made.ref, "pm_card_visa", "k")
    assert (refused.value.code, refused.value.spent) == ("payment_intent_unexpected_state", True)
    assert stripe.read(made.ref).status == "cancelled"


def test_a_failure_kept_under_a_key_does_not_keep_an_intent_from_being_cancelled(
    stripe: Stripe, network: Network
) -> None:
    made = stripe.create(ORDER, "c")
    network.plan = lambda step, subject, count: "500_cached" if (step, count) == ("cancel", 1) else None
    with pytest.raises(NoAnswer):
        stripe.cancel(made.ref, "INV-1/1/cancel")
    assert stripe.cancel(made.ref, "INV-1/1/cancel").status == "cancelled"


@pytest.mark.parametrize(
    ("card", "status", "decline", "retryable"),
    [
        ("pm_card_visa", "succeeded", None, True),
        ("pm_card_chargeDeclined", "unconfirmed", "generic_decline", True),
        ("pm_card_chargeDeclinedInsufficientFunds", "unconfirmed", "insufficient_funds", True),
        ("pm_card_chargeDeclinedDoNotHonor", "unconfirmed", "do_not_honor", True),
        ("pm_card_chargeDeclinedLostCard", "unconfirmed", "lost_card", False),
        ("pm_card_chargeDeclinedStolenCard", "unconfirmed", "stolen_card", False),
        ("pm_card_advisedNotToTryAgain", "unconfirmed", "generic_decline", False),
        ("pm_card_authenticationRequired", "action_required", "authentication_required", True),
        ("pm_action", "action_required", None, True),
        ("pm_processing", "processing", None, True),
    ],
)
def test_what_a_card_comes_to(stripe: Stripe, card: str, status: str, decline: str | None, retryable: bool) -> None:
    """The answer to the confirm and the reading afterwards say the same."""
    done = confirmed(stripe, card)
    assert (done.status, done.decline, done.retryable) == (status, decline, retryable)
    assert stripe.read(done.ref) == done
    assert done.payment_method == card
    assert (done.charge is None) == (card in ("pm_action", "pm_processing"))


def _body(**other: Any) -> dict[str, Any]:
    return {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 1000,
        "currency": "usd",
        "status": "requires_payment_method",
        "created": 1,
    } | other


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (_body(), {"status": "unconfirmed", "customer": "", "invoice": ""}),
        (_body(status="requires_confirmation"), {"status": "unconfirmed"}),
        (_body(status="requires_capture"), {"status": "requires_capture"}),
        (_body(customer={"id": "cus_9", "object": "customer"}), {"customer": "cus_9"}),
        (_body(latest_charge={"id": "ch_9"}), {"charge": "ch_9"}),
        (_body(last_payment_error={"code": "card_declined", "charge": "ch_8"}), {"charge": "ch_8"}),
        (_body(last_payment_error={"code": "expired_card"}), {"decline": "expired_card", "retryable": True}),
        (_body(status="succeeded", amount_received=999), {"captured_minor": 999, "amount_minor": 1000}),
        (_body(currency="jpy", amount=500), {"amount_minor": 500, "currency": "JPY"}),
        (_body(currency="kwd", amount=5120), {"amount_minor": 5120}),
        (_body(currency="isk", amount=500), {"amount_minor": 5}),
        (_body(currency="isk", amount=550), {"amount_minor": -1}),
        (_body(currency="mga", amount=5), {"amount_minor": 500}),
        (_body(currency="zzz", amount=5), {"amount_minor": 5, "currency": "ZZZ"}),
    ],
)
def test_an_intent_in_our_words(body: dict[str, Any], found: dict[str, Any]) -> None:
    intent = adapter._intent(body)
    assert {name: getattr(intent, name) for name in found} == found


@pytest.mark.parametrize(
    "body",
    [
        [],
        "text",
        None,
        {},
        _body(id="pi_2"),
        _body(id=1),
        _body(object="charge"),
        _body(amount=10.5),
        _body(amount="1000"),
        _body(amount=True),
        _body(status=None),
        _body(metadata={"invoice": 1}),
    ],
)
def test_what_is_no_such_intent_is_no_answer(body: object) -> None:
    with pytest.raises(NoAnswer, match="unreadable"):
        adapter._intent(body, "pi_1")


# What is refused, and what says nothing


@pytest.mark.parametrize(
    ("order", "code"),
    [
        ({"amount_minor": 49}, "amount_too_small"),
        ({"amount_minor": 100_000_000}, "amount_too_large"),
        ({"customer": "cus_missing"}, "resource_missing"),
        ({"currency": "MGA", "amount_minor": 150}, "amount_invalid"),
    ],
)
def test_a_refused_order(stripe: Stripe, order: dict[str, Any], code: str) -> None:
    with pytest.raises(Refused) as refused:
        confirmed(stripe, "pm_card_visa", **order)
    assert refused.value.code == code


def test_a_key_with_another_body_is_refused(stripe: Stripe) -> None:
    made = stripe.create(ORDER, "k")
    with pytest.raises(Refused, match="idempotency_error"):
        stripe.confirm(made.ref, "pm_card_visa", "k")


SILENCES = [
    ("drop_before", "connection_cut"),
    ("drop_after", "connection_cut"),
    ("500_before", "http_500"),
    ("500_after", "http_500"),
    ("429", "rate_limit"),
    ("401", "http_401"),
    ("truncated", "connection_cut"),
    ("half", "unreadable"),
    ("html", "unreadable"),
    ("gateway_html", "http_502"),
    ("409", "http_409"),
]


@pytest.mark.parametrize(
    ("step", "fault", "code"),
    [
        (step, fault, code)
        for step in ("create", "confirm", "read", "find", "cancel")
        for fault, code in SILENCES
        if fault != "409" or step not in ("read", "find")
    ],
)
def test_what_says_nothing(stripe: Stripe, network: Network, step: str, fault: str, code: str) -> None:
    """Whatever is asked, it is no answer, and the code holds nothing that came from outside."""
    calls = {
        "create": lambda: stripe.create(ORDER, "other"),
        "confirm": lambda: stripe.confirm(made.ref, "pm_card_visa", "k"),
        "read": lambda: stripe.read(made.ref),
        "find": lambda: stripe.find("cus_1", "INV-1"),
        "cancel": lambda: stripe.cancel(made.ref, "x"),
    }
    made = stripe.create(ORDER, "c")
    network.plan = always(fault, step)
    with pytest.raises(NoAnswer) as silence:
        calls[step]()
    assert str(silence.value) == code


def test_silence_ends_at_the_timeout(network: Network, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer came, and yet it was carried out."""
    monkeypatch.setattr(adapter, "TIMEOUT_SECONDS", (5, 0.2))
    network.plan = always("hang", "create")
    network.hang_seconds = 20
    with pytest.raises(NoAnswer, match="timeout"):
        Stripe(network.url, real_clock=False).create(ORDER, "c")
    assert len(api.intents) == 1


def test_nobody_listens(network: Network) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(NoAnswer, match="connection_cut"):
            Stripe(f"http://127.0.0.1:{free.getsockname()[1]}", real_clock=False).read("pi_1")


def test_not_found_is_no_evidence(stripe: Stripe) -> None:
    """Under another account's key our intent is not there, and yet it is."""
    for call in (lambda: stripe.read("pi_9"), lambda: stripe.confirm("pi_9", "pm_card_visa", "k")):
        with pytest.raises(NoAnswer, match="not_found"):
            call()


def test_a_redirect_is_not_followed(stripe: Stripe, network: Network, api: Api) -> None:
    """A POST that is redirected would become a GET."""
    network.plan = lambda step, subject, count: None
    network.handle = lambda *args: (302, {})  # type: ignore[method-assign]
    with pytest.raises(NoAnswer, match="http_302"):
        stripe.create(ORDER, "c")


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"{}", b'{"error": "text"}', b'{"error": []}', b"\xff\xfe"])
@pytest.mark.parametrize("status", [200, 400, 402, 500])
def test_odd_bodies_are_no_answer(stripe: Stripe, network: Network, body: bytes, status: int) -> None:
    network.handle = lambda *args: (status, body)  # type: ignore[assignment, method-assign, return-value]
    with pytest.raises((NoAnswer, Refused)) as said:
        stripe.create(ORDER, "c")
    assert isinstance(said.value, NoAnswer) or status == 400


def test_the_secret_is_in_no_error(stripe: Stripe, network: Network) -> None:
    """Stripe's own texts may quote the key: none of them is passed on."""
    said = []
    for fault in (None, *OF_GET):
        network.plan = always(fault, "read") if fault else lambda *_: None
        try:
            stripe.read("pi_1")
        except NoAnswer as silence:
            said += [str(silence), repr(silence), repr(silence.__cause__)]
    network.plan = lambda *_: None
    with pytest.raises(Refused) as refused:
        confirmed(stripe, "pm_card_visa", amount_minor=1)
    assert not [text for text in (*said, str(refused.value), repr(stripe)) if SECRET in text or "secret" in text]


# Listings and refunds


def test_listings_are_read_to_their_end(stripe: Stripe, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "PAGE", 3)
    for number in range(10):
        api.now += 1
        stripe.create(Order(f"INV-{number}/1", f"INV-{number}", f"cus_{number % 2}", "USD", 1000), f"k{number}")
    assert [found.invoice for found in stripe.list(0)] == [f"INV-{n}" for n in range(9, -1, -1)]
    assert [found.invoice for found in stripe.list((api.now - 1) * 1_000_000)] == ["INV-9", "INV-8"]
    assert [found.intent for found in stripe.find("cus_0", "INV-2")] == ["INV-2/1"]
    assert stripe.find("cus_1", "INV-2") == []


def test_a_listing_that_turns_in_circles_ends(stripe: Stripe, network: Network) -> None:
    page = {"object": "list", "data": [_body()], "has_more": True}
    network.handle = lambda *args: (200, page)  # type: ignore[method-assign]
    with pytest.raises(NoAnswer, match="unreadable"):
        list(stripe.list(0))


def test_a_refund(stripe: Stripe) -> None:
    done = confirmed(stripe, "pm_card_visa")
    made = stripe.refund(done.ref, 400, "CORR-1", "CORR-1/refund")
    assert (made.intent, made.correction, made.amount_minor, made.status) == (done.ref, "CORR-1", 400, "succeeded")
    assert stripe.refund(done.ref, 400, "CORR-1", "CORR-1/refund") == made
    assert list(stripe.refunds(done.ref)) == [made]
    with pytest.raises(Refused, match="amount_too_large"):
        stripe.refund(done.ref, 601, "CORR-2", "CORR-2/refund")


# Amounts


@pytest.mark.parametrize(
    ("currency", "minimum", "unit", "maximum"),
    [
        ("USD", "0.50", "0.01", "999999.99"),
        ("GBP", "0.30", "0.01", "999999.99"),
        ("JPY", "50", "1", "99999999"),
        ("KWD", "0.000", "0.010", "99999.999"),
        ("CLP", "0", "1", "99999999"),
        # Stripe counts króna and shilling in hundredths that must be zero, and the ariary without any.
        ("ISK", "0", "1", "999999"),
        ("UGX", "0", "1", "999999"),
        ("MGA", "0.00", "1.00", "99999999.00"),
        ("INR", "0.50", "0.01", "9999999.99"),
    ],
)
def test_limits(currency: str, minimum: str, unit: str, maximum: str) -> None:
    limits = StripeLimits()
    found = (limits.minimum_minor(currency), limits.unit_minor(currency), limits.maximum_minor(currency))
    assert found == tuple(parse_money(text, currency) for text in (minimum, unit, maximum))


@pytest.mark.parametrize(
    ("currency", "minor", "sent"),
    [("USD", 1050, 1050), ("JPY", 500, 500), ("KWD", 5120, 5120), ("ISK", 5, 500), ("UGX", 5, 500), ("MGA", 500, 5)],
)
def test_amounts_are_sent_in_stripes_unit(stripe: Stripe, api: Api, currency: str, minor: int, sent: int) -> None:
    if sent < 50:
        minor, sent = minor * 100, sent * 100
    made = stripe.create(Order("i/1", "i", "cus_1", currency, minor), "c")
    assert (api.intents[made.ref]["amount"], made.amount_minor) == (sent, minor)


def test_every_amount_comes_back_as_it_went() -> None:
    for currency in currencies():
        amount = 12_340 * StripeLimits().unit_minor(currency)
        assert adapter._inward(adapter._outward(amount, currency), currency) == amount


def test_every_published_currency_is_one() -> None:
    published = adapter._published()
    assert {*published["minimum"], *published["digits"], *published["longest"]} <= set(currencies())


# Opening


def test_opening_writes_nothing_and_calls_nobody(tmp_path: Path, network: Network) -> None:
    given = Given(tmp_path / "home", config=_config(network.url))
    before = sorted(given.path.iterdir())
    open_gateway(given.home).close()
    assert (network.log, sorted(given.path.iterdir())) == ([], before)


def _config(url: str) -> str:
    return f'[payments]\ngateway = "stripe"\n[payments.stripe]\napi_base = "{url}"\n'


@pytest.mark.parametrize(
    ("key", "word"), [("", "not set"), ("pk_test_1", "no secret key"), ("sk_live_1", "live key")], ids=lambda x: x
)
@pytest.mark.parametrize("command", ["close", "collect"])
def test_without_a_fitting_key_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, key: str, word: str
) -> None:
    home = Home(tmp_path / "home", config=_config("https://api.stripe.com"))
    home.run("quarantine")
    home.events("2026-05-02 ready one")
    monkeypatch.setenv("STRIPE_API_KEY", key)
    before = home.fingerprint()
    done = home.run(command, exit_code=2)
    assert "STRIPE_API_KEY" in done.stderr and word in done.stderr
    assert key not in done.stderr or not key
    assert home.fingerprint() == before


def test_a_live_key_is_for_the_real_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "rk_live_1")
    Stripe("https://api.stripe.com", real_clock=True).close()
    with pytest.raises(UsageError, match="live key"):
        Stripe("https://api.stripe.com", real_clock=False)


def test_a_dry_run_needs_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "home", config=_config("https://api.stripe.com"))
    monkeypatch.delenv("STRIPE_API_KEY")
    home.run("close", "--dry-run")
    home.run("report", "invoices")


@pytest.mark.parametrize("base", ["http://api.stripe.com", "ftp://127.0.0.1", "api.stripe.com"])
def test_the_secret_travels_only_by_https(base: str) -> None:
    with pytest.raises(UsageError, match="https"):
        Stripe(base, real_clock=False)


def test_the_sdk_reports_nothing_about_us(stripe: Stripe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import stripe as sdk

    monkeypatch.setenv("HOME", str(tmp_path))
    stripe.create(ORDER, "c")
    assert sdk.enable_telemetry is False
    assert list(tmp_path.iterdir()) == []


def test_limits_need_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STRIPE_API_KEY")
    given = Given(tmp_path / "home", config=_config("https://api.stripe.com"))
    assert limits_of(given.home).minimum_minor("HUF") == 17_500


# With the protocol around it


@pytest.fixture
def given(tmp_path: Path, network: Network) -> Given:
    return Given(tmp_path / "home", config=_config(network.url))


@pytest.mark.parametrize(
    ("card", "statuses", "captures"),
    [
        ("pm_card_visa", ["succeeded"], 1),
        ("pm_card_chargeDeclined", ["declined:generic_decline"], 0),
        ("pm_card_chargeDeclinedStolenCard", ["declined:stolen_card"], 0),
        ("pm_card_authenticationRequired", ["action_required"], 0),
        ("pm_action", ["action_required"], 0),
        ("pm_processing", ["unknown:processing"], 0),
        ("card_of_old", ["declined:resource_missing"], 0),
    ],
)
def test_the_first_attempt(given: Given, api: Api, card: str, statuses: list[str], captures: int) -> None:
    given.account(method=card)
    given.invoice()
    given.charge()
    assert (given.statuses(), len(api.captures)) == (statuses, captures)
    given.collect()
    assert given.statuses() == statuses


def test_the_customer_acts_or_brings_another_card(given: Given, api: Api) -> None:
    """A bank asked for the customer: the intent waits, and takes the customer's action or the next card."""
    for number in (1, 2):
        given.account(f"acc-{number}", method="pm_card_authenticationRequired", customer=f"cus_{number}")
        given.invoice(number=number, account=f"acc-{number}")
    given.collect()
    first = f"{INVOICE[:-1]}1"
    ref = next(row["gateway_ref"] for row in given.table("intents") if row["invoice"] == first)
    api.act(ref)
    given.account("acc-2", method="pm_card_visa", customer="cus_2")
    given.now += DAY
    given.collect()
    assert given.statuses(first) == ["succeeded"]
    assert given.statuses(f"{INVOICE[:-1]}2")[-1] == "succeeded"
    assert len(api.captures) == len(api.intents) == 2


def test_too_small_is_carried(given: Given, api: Api) -> None:
    """What Stripe converts may be too little although it is above the configured minimum."""
    (given.path / "metering.toml").write_text(
        (given.path / "metering.toml")
        .read_text()
        .replace("[payments]", '[payments]\nminimum_charge = { USD = "0.10" }')
    )
    given.account()
    given.invoice(30)
    given.collect()
    assert (given.statuses(), given.case().status) == (["declined:amount_too_small"], "carried")
    assert api.intents == {}


def test_what_is_too_much_for_a_card_is_no_close_that_was_cut_off(tmp_path: Path, network: Network) -> None:
    """5,000 GB-hours at 200.00 are 1,000,000.00, a cent beyond eight digits: open, and nothing of May is unfinished."""
    home = Home(tmp_path / "home", config=_config(network.url))
    home.prices("snapshot.vm,,USD,200,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_visa")
    home.events("2026-05-02T10 ready one gb=1000\n2026-05-02T15 deleted one")
    home.run("close", exit_code=3)
    assert home.column("invoices", "amount_due") == ["1000000.00"]
    home.run("close", "2026-05", exit_code=3)
    home.run("close")
    home.run("close", now="2026-07-01T08:00:00Z")


def test_cards_are_charged_side_by_side(given: Given, api: Api) -> None:
    """No confirm is answered before four are under way, each over a connection of its own."""
    together = threading.Barrier(4, timeout=20)

    call = api.call

    def held(method: str, path: str, params: dict[str, str], key: str | None) -> Any:
        if step_of(method, path) == "confirm":
            together.wait()
        return call(method, path, params, key)

    api.call = held  # type: ignore[method-assign]
    given.workers = None  # type: ignore[assignment]
    numbers = range(1, 5)
    for number in numbers:
        given.account(f"acc-{number}", customer=f"cus_{number}")
    names = [given.invoice(number=number, account=f"acc-{number}") for number in numbers]
    assert given.charge(*names).counts == {"succeeded": 4}
    assert len(api.captures) == 4


def test_steps_are_told_apart() -> None:
    assert [
        step_of("POST", "/v1/payment_intents"),
        step_of("POST", "/v1/payment_intents/pi_1/confirm"),
        step_of("POST", "/v1/payment_intents/pi_1/cancel"),
        step_of("GET", "/v1/payment_intents/pi_1"),
        step_of("GET", "/v1/payment_intents"),
    ] == ["create", "confirm", "cancel", "read", "find"]


@pytest.mark.parametrize("step", ["create", "confirm"])
def test_a_failure_that_the_gateway_repeats_for_ever_is_got_round(
    given: Given, api: Api, network: Network, step: str
) -> None:
    """A 500 kept under a key: one quiet run ends it with one capture, and the next one makes no POST."""
    given.account()
    given.invoice(1000)
    network.plan = always("500_cached", step)
    _collect_as(given, 1)
    assert given.statuses() == ["unknown:http_500"]
    network.plan = lambda *_: None
    _collect_as(given, 2)
    assert [capture.amount for capture in api.captures] == [1000]
    assert given.statuses()[-1] == "succeeded"
    before = len(network.log)
    _collect_as(given, 3)
    assert {its for its, *_ in network.log[before:]} <= {"read", "find"}
    assert all(len(bodies) == 1 for bodies in api.bodies.values())


def _collect_as(given: Given, number: int) -> None:
    given.run(lambda home, _: collect(home, Run(number, given.now)))


def test_a_late_confirm_wins_over_going_round_it(given: Given, api: Api, network: Network) -> None:
    """The first confirm is still under way when the intent is given up: it arrives first, and nothing is made anew."""
    given.account()
    given.invoice(1000)
    network.plan = always("late", "confirm")
    given.collect()
    network.plan = lambda its, subject, count: {"confirm": "500_cached"}.get(its)
    network.on_request = lambda count: network.deliver_late(1) and None if network.log[-1][0] == "cancel" else None
    given.collect()
    network.plan = lambda *_: None
    given.collect()
    assert [capture.amount for capture in api.captures] == [1000]
    assert (given.statuses()[-1], len(api.intents)) == ("succeeded", 1)


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{"])
def test_an_answer_that_drips_ends_in_a_bounded_time(monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    """Every read of it succeeds in time; the whole does not. The connection after it is limited too."""
    monkeypatch.setattr(adapter, "LONGEST_SECONDS", 0.2)
    ended = threading.Event()

    def drip(listener: socket.socket) -> None:
        for _ in range(2):
            connection, _peer = listener.accept()
            connection.recv(65536)
            connection.sendall(start)
            try:
                while not ended.wait(0.02):
                    connection.sendall(b" ")
            except OSError:
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        dripping = Stripe(f"http://127.0.0.1:{listener.getsockname()[1]}", real_clock=False)
        for _ in range(2):
            with pytest.raises(NoAnswer):
                dripping.read("pi_1")
        ended.set()
        dripping.close()
