"""Billing as the contract words it, slow and exact: what `sample_data/` must come to. No project code.

    python tests/reference_billing.py        writes sample_data/expected/

Metering is `tests/reference.py`; here are prices, lines, adjustments, tax, and who pays, over the sample's
calendar. Money is a Fraction of minor units until it is rounded. It knows only the cards that the sample uses.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import reference

SAMPLE = Path(__file__).parent.parent / "sample_data"
GB_HOUR = 10**9 * 3_600 * 10**6
DIGITS = {"USD": 2, "EUR": 2, "JPY": 0}
MINIMUM = {"USD": 50, "EUR": 50}
RETRY_DAYS = (1, 3, 5, 7)
DECLINED = {"pm_card_chargeDeclined", "pm_card_chargeDeclinedInsufficientFunds"}
ACTS = {"pm_card_authenticationRequired"}
SNAPSHOT_TYPES = ("creating", "ready", "resized", "failed", "deleted")
TYPES = {*(f"snapshot.{name}" for name in SNAPSHOT_TYPES), "vm.deleted", "event.retracted"}
READY_TEXTS = ("account_id", "project_id", "region", "resource_type", "resource_id")
REPORTS = ("usage", "invoices", "invoice-lines", "balances")


# Reading


class Bad(Exception):
    """A line that no meter can take."""


def read_csv(name: str) -> list[dict[str, str]]:
    """The rows of a file of the sample."""
    return list(csv.DictReader(io.StringIO((SAMPLE / name).read_text("utf-8"))))


def instant(text: str) -> int:
    """Microseconds since the epoch."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", text):
        raise Bad(text)
    return int((datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


def midnight(day: str) -> int:
    """The first instant of a day, UTC."""
    return instant(f"{day}T00:00:00Z")


def parse(line: str, batch: int) -> reference.Event:
    """One event of the sample, or Bad."""
    try:
        event = json.loads(line)
    except ValueError as error:
        raise Bad(line) from error
    kind = ".".join(event["type"].split(".")[-2:])
    if kind not in TYPES:
        raise Bad(kind)
    data = event.get("data", {})
    made = reference.Event(event["source"], event["id"], kind, event["subject"], instant(event["time"]), batch)
    if kind in ("snapshot.ready", "snapshot.resized"):
        size = data.get("size_bytes")
        if type(size) is not int or not 0 <= size < 2**63:
            raise Bad(size)
        made = replace(made, size_bytes=size)
    if kind == "snapshot.ready":
        if not all(data.get(name) for name in READY_TEXTS):
            raise Bad(data)
        made = replace(made, name=data.get("name"), **{name: data[name] for name in READY_TEXTS})
    if kind == "event.retracted":
        made = replace(made, retracted_source=data["retracted_source"], retracted_id=data["retracted_id"])
    return made


# Values


def half_up(value: Fraction) -> int:
    """To an integer, halves away from zero."""
    whole = int(abs(value) + Fraction(1, 2))
    return whole if value >= 0 else -whole


def money(amount: int, currency: str) -> str:
    """In major units."""
    return decimal(amount, DIGITS[currency])


def decimal(scaled: int, places: int) -> str:
    """An integer that counts units of 10^-places."""
    text = f"{abs(scaled):0{places + 1}}"
    return ("-" if scaled < 0 else "") + (f"{text[:-places]}.{text[-places:]}" if places else text)


def gb_hours(byte_micros: int) -> str:
    """With 9 decimals."""
    return decimal(half_up(Fraction(byte_micros * 10**9, GB_HOUR)), 9)


def month_after(month: str) -> str:
    """The next month."""
    year, number = map(int, month.split("-"))
    return f"{year + number // 12:04}-{number % 12 + 1:02}"


def bounds(month: str) -> tuple[int, int]:
    """Half-open, UTC."""
    return midnight(f"{month}-01"), midnight(f"{month_after(month)}-01")


# Prices and lines


class Key(NamedTuple):
    """What a line is about."""

    month: str
    account: str
    sku: str
    region: str
    price: Fraction
    price_text: str


def price_at(
    prices: Sequence[dict[str, str]], account: str, currency: str, sku: str, region: str, when: int
) -> str | None:
    """The price in force at an instant: the right account before none, then the right region."""
    for owner in (account, ""):
        for place in (region, ""):
            rows = [
                row
                for row in prices
                if (row["sku"], row["region"], row["currency"], row["account_id"]) == (sku, place, currency, owner)
                and midnight(row["effective_from"]) <= when
            ]
            if rows:
                return max(rows, key=lambda row: row["effective_from"])["price_per_gb_hour"]
    return None


def rated(
    events: Iterable[reference.Event],
    months: Sequence[str],
    prices: Sequence[dict[str, str]],
    currency_of: dict[str, str],
) -> dict[Key, int]:
    """Byte-microseconds by line, of the accounts that are known."""
    now = bounds(months[-1])[1]
    found: dict[Key, int] = defaultdict(int)
    spans = [span for span in reference.lifespans(events).values() if span.ready.account_id in currency_of]
    for month in months:
        start, end = bounds(month)
        changes = {midnight(row["effective_from"]) for row in prices}
        edges = [start, *sorted(change for change in changes if start < change < end), end]
        for span in spans:
            account, region = str(span.ready.account_id), str(span.ready.region)
            sku = f"snapshot.{span.ready.resource_type}"
            for since, until in pairwise(edges):
                usage = reference.byte_micros(span, since, until, now)
                if usage is None:
                    continue
                price = price_at(prices, account, currency_of[account], sku, region, since)
                assert price is not None, (account, sku, region)
                found[Key(month, account, sku, region, Fraction(price), price)] += usage
    return found


# The book


@dataclass
class Credit:
    """Promotional money."""

    reference: str
    expires: str
    left: int


@dataclass
class Invoice:
    """One invoice with all that happens to it."""

    number: str
    month: str
    account: str
    currency: str
    lines: list[tuple[str, Key, int, int]]
    tax: int
    issued_at: str
    events_through: int
    brought: int = 0
    paid_by: list[tuple[str, str, int]] = field(default_factory=list)
    returned: list[tuple[str, str, int]] = field(default_factory=list)
    due: int = 0
    status: str = "paid"
    first_try: date | None = None
    last_try: date | None = None
    acting: bool = False
    acted: bool = False

    @property
    def subtotal(self) -> int:
        return sum(amount for *_, amount in self.lines)

    @property
    def total(self) -> int:
        return self.subtotal + self.tax

    def applied(self, source: str) -> int:
        """What a source paid, less what it got back."""
        return sum(a for s, _, a in self.paid_by if s == source) - sum(a for s, _, a in self.returned if s == source)


class Book:
    """The sample's life, a step of the calendar at a time."""

    def __init__(self) -> None:
        self.prices = read_csv("prices.csv")
        self.accounts: dict[str, dict[str, str]] = {}
        self.events: dict[tuple[str, str], reference.Event] = {}
        self.quarantined = 0
        self.batches = 0
        self.balance: dict[str, int] = defaultdict(int)
        self.credits: dict[str, list[Credit]] = defaultdict(list)
        self.invoices: list[Invoice] = []
        self.rates: dict[tuple[str, str], str] = {}
        self.closed: list[str] = []

    def accounts_import(self, name: str) -> None:
        for row in read_csv(name):
            self.accounts[row["account_id"]] = row

    def funds(self, at: str, what: str) -> None:
        for row in read_csv(what):
            amount = half_up(Fraction(row["amount"]) * 10 ** DIGITS[row["currency"]])
            if row["kind"] == "topup":
                self.balance[row["account_id"]] += amount
            else:
                self.credits[row["account_id"]].append(Credit(row["reference"], row["expires"], amount))

    def act(self, at: str, what: str) -> None:
        for invoice in self.invoices:
            if invoice.account == what and invoice.acting:
                invoice.acted = True

    def nightly(self, at: str, what: str) -> None:
        if what:
            self.ingest((SAMPLE / "events" / what).read_text("utf-8"))
        for invoice in self.invoices:
            self.collect(invoice, date.fromisoformat(at[:10]))

    def ingest(self, text: str) -> None:
        fresh = 0
        for line in filter(None, text.split("\n")):
            try:
                event = parse(line, self.batches + 1)
            except Bad:
                self.quarantined += 1
                fresh += 1
                continue
            known = self.events.setdefault(event.key, event)
            if known is event:
                fresh += 1
            elif replace(known, batch=0) != replace(event, batch=0):
                self.quarantined += 1
                fresh += 1
        self.batches += fresh > 0

    # The close

    def close(self, at: str, month: str) -> None:
        currency_of = {name: row["currency"] for name, row in self.accounts.items()}
        now = rated(self.events.values(), [*self.closed, month], self.prices, currency_of)
        issued: dict[Key, tuple[int, int]] = defaultdict(lambda: (0, 0))
        for invoice in self.invoices:
            for _, key, usage, amount in invoice.lines:
                issued[key] = (issued[key][0] + usage, issued[key][1] + amount)
        lines: dict[str, list[tuple[str, Key, int, int]]] = defaultdict(list)
        for key in {*now, *issued}:
            usage = now.get(key, 0)
            amount = half_up(Fraction(usage, GB_HOUR) * key.price * 10 ** DIGITS[currency_of[key.account]])
            if key.month == month:
                lines[key.account].append(("usage", key, usage, amount))
            elif amount != issued[key][1]:
                lines[key.account].append(("adjustment", key, usage - issued[key][0], amount - issued[key][1]))
        for count, (account, mine) in enumerate(sorted(lines.items()), 1):
            mine.sort(key=lambda line: (line[0] == "adjustment", *line[1]))
            tax = sum(self.tax(account, mine).values())
            number = f"INV-{month}-{count:06}"
            invoice = Invoice(number, month, account, currency_of[account], mine, tax, at, self.batches)
            self.settle(invoice)
            self.invoices.append(invoice)
        for held in self.credits.values():
            for credit in held:
                if credit.expires and credit.expires < f"{month_after(month)}-01":
                    credit.left = 0
        for name, row in self.accounts.items():
            self.rates[month, name] = row["tax_rate"]
        self.closed.append(month)
        for invoice in self.invoices:
            if invoice.month == month:
                self.charge(invoice, date.fromisoformat(at[:10]))

    def tax(self, account: str, lines: Sequence[tuple[str, Key, int, int]]) -> dict[tuple[str, str], int]:
        """Rounded once for usage, and once per rate for adjustments."""
        current = self.accounts[account]["tax_rate"]
        sums: dict[tuple[str, str], int] = defaultdict(int)
        for kind, key, _, amount in lines:
            sums[kind, current if kind == "usage" else self.rates.get((key.month, account), current)] += amount
        return {group: half_up(amount * Fraction(group[1]) / 100) for group, amount in sums.items()}

    def settle(self, invoice: Invoice) -> None:
        """Brought forward, then credit by expiry, then balance; what is too little for a card is carried."""
        account = invoice.account
        for earlier in self.invoices:
            if earlier.account == account and earlier.status == "carried" and earlier.due:
                invoice.brought += earlier.due
                earlier.due = 0
        due = invoice.total + invoice.brought
        if due < 0:
            self.give_back(invoice, -due)
            return
        last_day = f"{month_after(invoice.month)}-01"
        usable = [credit for credit in self.credits[account] if not credit.expires or credit.expires >= last_day]
        for credit in sorted(usable, key=lambda credit: credit.expires or "9999"):
            part = min(due, credit.left)
            credit.left -= part
            due -= part
            invoice.paid_by.append(("credit", credit.reference, part))
        part = min(due, self.balance[account])
        self.balance[account] -= part
        invoice.paid_by.append(("balance", "", part))
        invoice.due = due - part
        if invoice.due:
            invoice.status = "carried" if invoice.due < MINIMUM.get(invoice.currency, 0) else "open"

    def give_back(self, invoice: Invoice, amount: int) -> None:
        """To the corrected months, latest first, in the reverse order of how they were paid."""
        gross: dict[str, int] = defaultdict(int)
        for _, key, _, line in invoice.lines:
            gross[key.month] += line
        for kind_rate, tax in self.tax(invoice.account, invoice.lines).items():
            months = {key.month for kind, key, *_ in invoice.lines if kind == kind_rate[0]}
            assert len(months) == 1, "the sample gives back to one month at a time"
            gross[months.pop()] += tax
        for month in sorted((month for month in gross if gross[month] < 0), reverse=True):
            share = min(amount, -gross[month])
            amount -= share
            (paid,) = (other for other in self.invoices if (other.account, other.month) == (invoice.account, month))
            for source, name, part in reversed(paid.paid_by):
                back = min(share, part)
                share -= back
                if source == "credit":
                    next(c for c in self.credits[invoice.account] if c.reference == name).left += back
                    invoice.returned.append(("credit", name, back))
                else:
                    self.balance[invoice.account] += back
                    invoice.returned.append(("balance", "", back))
            assert not share
        assert not amount

    # Cards

    def charge(self, invoice: Invoice, today: date) -> None:
        """One attempt on the account's card, if there is something to charge and a card."""
        if invoice.status != "open":
            return
        invoice.first_try = invoice.first_try or today
        invoice.last_try = today
        card = self.accounts[invoice.account]["payment_method"]
        if not card or card in DECLINED:
            return
        if card in ACTS:
            invoice.acting = True
            return
        self.capture(invoice)

    def capture(self, invoice: Invoice) -> None:
        invoice.paid_by.append(("card", "", invoice.due))
        invoice.due, invoice.status, invoice.acting = 0, "paid", False

    def collect(self, invoice: Invoice, today: date) -> None:
        """Read back, then balance where it covers all of it, then a retry where one is due."""
        if invoice.acting and invoice.acted:
            self.capture(invoice)
        if invoice.status not in ("open", "carried") or not invoice.due:
            return
        if self.balance[invoice.account] >= invoice.due:
            self.balance[invoice.account] -= invoice.due
            invoice.paid_by.append(("balance", "", invoice.due))
            invoice.due, invoice.status = 0, "paid"
            return
        if invoice.status == "open" and not invoice.acting and invoice.first_try and invoice.last_try:
            due_days = [invoice.first_try + timedelta(days=days) for days in RETRY_DAYS]
            if any(invoice.last_try < day <= today for day in due_days):
                self.charge(invoice, today)

    # Reports

    def report(self, name: str) -> list[list[str]]:
        """Header and rows of a report."""
        return {
            "usage": self.usage,
            "invoices": self.invoice_rows,
            "invoice-lines": self.line_rows,
            "balances": self.balance_rows,
        }[name]()

    def usage(self) -> list[list[str]]:
        rows = [["month", "account_id", "gb_hours", "snapshots"]]
        spans = reference.lifespans(self.events.values()).values()
        for month in self.closed:
            start, end = bounds(month)
            sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
            for span in spans:
                usage = reference.byte_micros(span, start, end, end)
                if usage is not None:
                    sums[str(span.ready.account_id)][0] += usage
                    sums[str(span.ready.account_id)][1] += 1
            rows += [[month, account, gb_hours(usage), str(count)] for account, (usage, count) in sorted(sums.items())]
        return rows

    def invoice_rows(self) -> list[list[str]]:
        names = "invoice,month,account_id,currency,subtotal,tax,total,brought_forward,credit_applied,balance_applied"
        rows = [f"{names},card_charged,amount_due,status,issued_at,events_through".split(",")]
        for i in sorted(self.invoices, key=lambda invoice: invoice.number):
            amounts = (
                *(i.subtotal, i.tax, i.total, i.brought),
                *(i.applied("credit"), i.applied("balance"), i.applied("card"), i.due),
            )
            texts = [money(amount, i.currency) for amount in amounts]
            head = [i.number, i.month, i.account, i.currency]
            rows.append([*head, *texts, i.status, i.issued_at, str(i.events_through)])
        return rows

    def line_rows(self) -> list[list[str]]:
        head = "invoice,line,kind,month,account_id,sku,region,gb_hours,price_per_gb_hour,currency,amount"
        rows = [head.split(",")]
        for i in sorted(self.invoices, key=lambda invoice: invoice.number):
            for count, (kind, key, usage, amount) in enumerate(i.lines, 1):
                about = [i.number, str(count), kind, key.month, key.account, key.sku, key.region]
                rows.append([*about, gb_hours(usage), key.price_text, i.currency, money(amount, i.currency)])
        return rows

    def balance_rows(self) -> list[list[str]]:
        rows = [["account_id", "currency", "balance", "credit", "owed"]]
        for account, details in sorted(self.accounts.items()):
            owed = sum(i.due for i in self.invoices if i.account == account)
            credit = sum(credit.left for credit in self.credits[account])
            amounts = (self.balance[account], credit, owed)
            currency = details["currency"]
            rows.append([account, currency, *(money(amount, currency) for amount in amounts)])
        return rows


def expected() -> dict[str, str]:
    """Every expected report as CSV."""
    book = Book()
    steps = {"nightly": book.nightly, "close": book.close, "funds": book.funds, "act": book.act}
    for step in read_csv("calendar.csv"):
        if step["do"] == "accounts":
            book.accounts_import(step["what"])
        else:
            steps[step["do"]](step["at"], step["what"])
    found = {}
    for name in REPORTS:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(book.report(name))
        found[name] = text.getvalue()
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE / "expected"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in expected().items():
        (folder / f"{name}.csv").write_text(text, "utf-8")
