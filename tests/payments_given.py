"""A home with accounts, issued invoices and a gateway, for the tests of the payments."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import sqlalchemy as sa
from ledgers import DEFAULT_URL, ledger_url, with_ledger

from metering.clock import Clock
from metering.home import Home, Run
from metering.ledger import postings
from metering.ledger.book import insert, rows
from metering.ledger.postings import Entry, Journal
from metering.ledger.purses import balance_of
from metering.ledger.sqlite import SqliteBook
from metering.payments.cases import load_case
from metering.payments.collect import Outcome, charge_invoices, collect
from metering.payments.gateway import Gateway
from metering.payments.sandbox import Sandbox
from metering.payments.states import Case
from metering.values import MICROS_PER_DAY, parse_instant

NOON = parse_instant("2026-06-01T12:00:00Z")
INVOICE = "INV-2026-05-000001"
DAY = MICROS_PER_DAY


@cache
def _empty_ledger() -> Path:
    path = Path(mkdtemp()) / "ledger.db"
    book = SqliteBook(path)
    book.create()
    book.close()
    return path


@dataclass
class Given:
    """A home on disk and the things that happen to it; `now` is the clock of the next run."""

    path: Path
    gateway: Gateway | None = None
    now: int = NOON
    config: str = ""
    workers: int = 1
    versions: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "metering.toml").write_text(with_ledger(self.path, self.config))
        if ledger_url(self.path) == DEFAULT_URL and not (self.path / "ledger.db").exists():
            shutil.copy(_empty_ledger(), self.path / "ledger.db")

    @property
    def home(self) -> Home:
        return Home(self.path, Clock(self.now))

    @property
    def sandbox(self) -> Sandbox:
        return Sandbox(self.path / "sandbox", lambda: self.now)

    @contextmanager
    def journal(self) -> Iterator[tuple[sa.Connection, Journal]]:
        book = self.home.book
        with book.write() as con:
            journal = Journal(con, self.now, 0)
            yield con, journal
            journal.flush()
        book.close()

    def account(
        self,
        account: str = "acc-1",
        method: str = "pm_card_visa",
        customer: str = "cus_1",
        currency: str = "USD",
    ) -> None:
        """A new version of an account."""
        version = self.versions[account] = self.versions.get(account, 0) + 1
        blank = dict.fromkeys(("name", "email", "country", "address", "city", "postcode", "tax_id", "tax_note"), "")
        row = blank | {
            "account_id": account,
            "version": version,
            "currency": currency,
            "tax_rate": "0",
            "payment_customer": customer,
            "payment_method": method,
            "imported_at": self.now,
            "run": 0,
        }
        with self.journal() as (con, _):
            insert(con, "account_versions", [row])

    def invoice(
        self,
        due: int = 1000,
        number: int = 1,
        account: str = "acc-1",
        currency: str = "USD",
        month: str = "2026-05",
    ) -> str:
        """An issued invoice that is owed in full."""
        invoice = f"INV-{month}-{number:06}"
        row = {
            "invoice": invoice,
            "month": month,
            "account_id": account,
            "account_version": 1,
            "currency": currency,
            "subtotal_minor": due,
            "tax_minor": 0,
            "total_minor": due,
            "brought_forward_minor": 0,
            "issued_at": self.now,
            "events_through": 1,
        }
        with self.journal() as (con, journal):
            insert(con, "invoices", [row])
            journal.touch(invoice)
            journal.post("invoice", postings.invoice_issue(account, currency, invoice, due, 0))
        return invoice

    def topup(self, amount: int, account: str = "acc-1", currency: str = "USD") -> None:
        with self.journal() as (_, journal):
            journal.post("topup", postings.topup(account, currency, amount, "t"))

    def set_aside(self, amount: int, invoice: str = INVOICE, account: str = "acc-1") -> None:
        with self.journal() as (_, journal):
            journal.post("set_aside", postings.set_aside(account, "USD", invoice, amount))

    def carry(self, amount: int, invoice: str = INVOICE, account: str = "acc-1") -> None:
        with self.journal() as (_, journal):
            journal.post("carry", postings.carry(account, "USD", invoice, amount))

    def credit_note(self, amount: int, invoice: str = INVOICE, account: str = "acc-1") -> None:
        """What is owed becomes less."""
        entries = [
            Entry("credit_notes", amount, account, "USD", invoice),
            Entry("receivable", -amount, account, "USD", invoice),
        ]
        with self.journal() as (_, journal):
            journal.post("credit_note", entries)

    def collect(self) -> Outcome:
        return self.run(lambda home, run: collect(home, run, gateway=self.gateway, workers=self.workers))

    def charge(self, *invoices: str) -> Outcome:
        names = invoices or (INVOICE,)
        return self.run(lambda home, run: charge_invoices(home, run, names, gateway=self.gateway, workers=self.workers))

    def run(self, work) -> Outcome:
        home = self.home
        try:
            return work(home, Run(0, self.now))
        finally:
            home.book.close()

    def case(self, invoice: str = INVOICE) -> Case:
        with self.home.book.read() as con:
            return load_case(con, invoice)

    def balance(self, account: str = "acc-1") -> int:
        with self.home.book.read() as con:
            return balance_of(con, account)

    def statuses(self, invoice: str = INVOICE) -> list[str]:
        """The invoice's attempts, each as `status` or `status:reason`."""
        return [f"{a.status}:{a.reason}" if a.reason else a.status for a in self.case(invoice).attempts]

    def table(self, name: str) -> list[dict]:
        with self.home.book.read() as con:
            return rows(con, name)

    def captured(self) -> int:
        """Minor units that the book says were captured."""
        return sum(
            entry["debit_minor"] - entry["credit_minor"]
            for entry in self.table("entries")
            if entry["ledger_account"] == "gateway"
        )
