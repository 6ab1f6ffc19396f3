"""Refunds to the card: made once at the gateway, posted on its word, and judged by `verify`."""

from __future__ import annotations

from pathlib import Path

import pytest
from homes import Home, begun

from metering.checks.verify import verify
from metering.corrections.card_refunds import card_sentences
from metering.errors import NeedsPerson
from metering.home import Home as Door
from metering.home import Run
from metering.payments.collect import Outcome
from metering.payments.gateway import CardRefund, NoAnswer, Refused
from metering.payments.record import Event
from metering.payments.sandbox import Sandbox

STORY = """
now 2026-06-01T08:00:00Z
file prices.csv
    sku,region,currency,price_per_gb_hour,effective_from
    snapshot.vm,,USD,0.001,2026-01-01
file accounts.csv
    account_id,name,email,country,currency,tax_rate,payment_customer,payment_method
    acc-1,A,,DE,USD,0,cus_1,pm_card_visa
$ accounts import accounts.csv
events may.jsonl
    2026-05-02T10 ready s1 acc=acc-1 gb=1000
    2026-05-02T20 deleted s1
$ close
"""
PAYMENT = "PAY-2026-05-000001-1"


with_a_payment = begun(lambda home: home.tell(STORY))


@pytest.fixture
def paid(tmp_path: Path) -> Home:
    """A home with one card payment of 10.00."""
    return with_a_payment(tmp_path / "home")


def problems(home: Home) -> list[str]:
    """The checks that find something."""
    return [name for name, found in verify(Door(home.path)) if found]


@pytest.mark.parametrize("late", [False, True], ids=["never arrived", "answer lost"])
def test_a_lost_answer_refunds_once(paid: Home, monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    """Whether the gateway had made it or not: the next collect ends with one refund there and one in the book."""
    real = Sandbox.refund

    def lost(self: Sandbox, ref: str, amount_minor: int, correction: str, key: str) -> object:
        if late:
            real(self, ref, amount_minor, correction, key)
        raise NoAnswer("connection_cut")

    with monkeypatch.context() as patch:
        patch.setattr(Sandbox, "refund", lost)
        done = paid.run("refund", PAYMENT, "--amount", "4.00", "--to-card", exit_code=NeedsPerson.exit_code)
        assert "did not say" in done.stderr
    assert paid.ledger("corrections")[0]["transaction"] is None
    paid.run("refund", PAYMENT, "--amount", "6.01", exit_code=2)
    paid.run("collect")
    paid.run("collect")
    record = (paid.path / "sandbox" / "refunds.jsonl").read_text("utf-8").splitlines()
    assert len(record) == 1
    refunds = [row for row in paid.ledger("entries") if row["ledger_account"] == "refunds"]
    assert [row["debit_minor"] for row in refunds] == [400]
    assert problems(paid) == []


def test_a_changed_record_is_seen(paid: Home) -> None:
    """Another amount, a second line or none at the sandbox breaks a check."""
    paid.run("refund", PAYMENT, "--amount", "4.00", "--to-card")
    path: Path = paid.path / "sandbox" / "refunds.jsonl"
    line = path.read_text("utf-8")
    assert problems(paid) == []
    for changed in (line.replace("400", "401"), line + line, "", "{}\n"):
        path.write_text(changed, "utf-8")
        assert problems(paid), changed
    path.write_text(line, "utf-8")
    assert problems(paid) == []


def test_what_the_cards_did_is_told_although_a_refund_hangs(paid: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refund ends the run with its own word; the charges before it are not kept back."""

    def silent(*_: object) -> object:
        raise NoAnswer("connection_cut")

    with monkeypatch.context() as patch:
        patch.setattr(Sandbox, "refund", silent)
        paid.run("refund", PAYMENT, "--amount", "4.00", "--to-card", exit_code=NeedsPerson.exit_code)
        outcome = Outcome()
        outcome.add(Event("succeeded", "INV-2026-05-000001", "USD", 1000, new=True))
        told = card_sentences(Door(paid.path), Run(0, 0), outcome)
        assert next(told) == "succeeded: 1 (10.00 USD)"
        with pytest.raises(NeedsPerson, match="did not say"):
            next(told)


def test_a_refund_that_the_gateway_refuses_needs_a_person(paid: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing went back: what was asked for is not done, and all of the 10.00 can be given back otherwise."""

    def refuse(*_: object) -> object:
        raise Refused("charge_disputed")

    with monkeypatch.context() as patch:
        patch.setattr(Sandbox, "refund", refuse)
        done = paid.run("refund", PAYMENT, "--to-card", exit_code=NeedsPerson.exit_code)
    assert f"refused the refund of {PAYMENT}: charge_disputed" in done.stderr
    paid.run("collect")
    paid.run("refund", PAYMENT)
    assert paid.column("balances", "balance") == ["10.00"]
    assert problems(paid) == []


def test_a_refund_that_fails_at_the_gateway_leaves_the_money_where_it_was(
    paid: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pending at first, then failed: told once, nothing is posted, and all of it can be given back otherwise."""
    status = "pending"

    def told(self: Sandbox, ref: str) -> list[CardRefund]:
        names = [row["correction"] for row in paid.ledger("corrections") if row["kind"] == "refund"]
        return [
            CardRefund(ref="re_1", intent=ref, correction=name, amount_minor=400, currency="USD", status=status)  # type: ignore[arg-type]
            for name in names
        ]

    monkeypatch.setattr(Sandbox, "refunds", told)
    paid.run("refund", PAYMENT, "--amount", "4.00", "--to-card")
    paid.run("collect")
    paid.run("refund", PAYMENT, "--amount", "6.01", exit_code=2)
    status = "failed"
    done = paid.run("collect", exit_code=NeedsPerson.exit_code)
    assert "failed at the gateway" in done.stderr
    paid.run("collect")
    assert [row["kind"] for row in paid.ledger("corrections")] == ["refund", "refund_refused"]
    assert "corrections_posted" not in problems(paid)
    assert [row for row in paid.ledger("entries") if row["ledger_account"] == "refunds"] == []
    paid.run("refund", PAYMENT, "--amount", "10.00")
