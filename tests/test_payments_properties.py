"""No card is charged twice and no charge is forgotten, whatever is lost and whatever dies, in any order."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from payments_checked import every_payment_has_its_evidence, everything_is_known, nothing_is_charged_twice
from payments_fake import LIES, FakeGateway
from payments_given import DAY, INVOICE, Given

from metering.payments import charge, record

SECOND = "INV-2026-06-000001"
METHODS = ["pm_good", "pm_declined", "pm_stolen", "pm_action", "pm_detached", ""]
FAULTS = st.lists(
    st.sampled_from(["none", "none", "request_lost", "answer_lost", "delayed"]) | st.sampled_from(sorted(LIES)),
    max_size=10,
)


class Crash(BaseException):
    """The process dies here."""


class PaymentsMachine(RuleBasedStateMachine):
    """Runs that collect and die, between customers who change their cards and an operator who corrects."""

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = Path(mkdtemp(dir=memory if memory.is_dir() else None))
        self.gateway = FakeGateway()
        self.given = Given(self.folder, gateway=self.gateway)
        self.given.account(method="pm_good")
        self.given.invoice(1000)
        self.given.invoice(700, month="2026-06")
        self.crash_at: int | None = None
        self.points = pytest.MonkeyPatch()
        for module in (charge, record):
            self.points.setattr(module, "failpoint", self.pass_point)

    def pass_point(self, name: str) -> None:
        if self.crash_at is not None:
            self.crash_at -= 1
            if self.crash_at < 0:
                raise Crash(name)

    @initialize(method=st.sampled_from(METHODS))
    def first_card(self, method: str) -> None:
        self.given.account(method=method)

    @rule(faults=FAULTS, crash_at=st.none() | st.integers(0, 8), days=st.sampled_from([0, 0, 1, 2, 9]))
    def collect(self, faults: list[str], crash_at: int | None, days: int) -> None:
        self.given.now += days * DAY
        self.attempt(self.given.collect, faults, crash_at)

    @rule(faults=FAULTS, crash_at=st.none() | st.integers(0, 8))
    def charge(self, faults: list[str], crash_at: int | None) -> None:
        self.attempt(lambda: self.given.charge(INVOICE, SECOND), faults, crash_at)

    def attempt(self, work, faults: list[str], crash_at: int | None) -> None:
        self.gateway.faults, self.crash_at = list(faults), crash_at
        try:
            work()
        except Crash:
            pass
        finally:
            self.gateway.faults, self.crash_at = [], None

    @rule(method=st.sampled_from(METHODS), customer=st.sampled_from(["cus_1", "cus_1", "cus_2", "cus_gone", ""]))
    def new_card(self, method: str, customer: str) -> None:
        self.given.account(method=method, customer=customer)

    @rule(amount=st.sampled_from([1, 400, 980]))
    def credit_note(self, amount: int) -> None:
        if self.given.case().receivable_minor >= amount:
            self.given.credit_note(amount)

    @rule(amount=st.sampled_from([30, 700, 1000]))
    def topup(self, amount: int) -> None:
        self.given.topup(amount)

    @rule(amount=st.integers(1, 500))
    def set_aside(self, amount: int) -> None:
        case = self.given.case()
        if case.status == "open" and self.given.balance() >= amount <= case.receivable_minor - case.reserved_minor:
            self.given.set_aside(amount)

    @rule()
    def forget_keys(self) -> None:
        self.gateway.forget_keys()

    @rule()
    def deliver_late(self) -> None:
        self.gateway.deliver_late()

    @precondition(lambda self: any(i.status == "action_required" for i in self.gateway.intents.values()))
    @rule(succeed=st.booleans())
    def act(self, succeed: bool) -> None:
        for ref in list(self.gateway.intents):
            self.gateway.act(ref, succeed)

    @invariant()
    def no_invoice_is_charged_twice(self) -> None:
        nothing_is_charged_twice(self.given, self.gateway)

    @invariant()
    def every_payment_has_its_evidence(self) -> None:
        every_payment_has_its_evidence(self.given, self.gateway)

    def teardown(self) -> None:
        try:
            self.gateway.deliver_late()
            for _ in range(2):
                self.given.collect()
            everything_is_known(self.given, self.gateway, INVOICE, SECOND)
            before = self.given.table("payments"), self.given.table("entries")
            calls = len(self.gateway.calls)
            self.given.collect()
            assert (self.given.table("payments"), self.given.table("entries")) == before
            assert set(self.gateway.calls[calls:]) <= {"read"}
        finally:
            self.points.undo()
            shutil.rmtree(self.folder)


PaymentsMachine.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=14,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestPayments = PaymentsMachine.TestCase
