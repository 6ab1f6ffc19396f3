"""What an account was billed, has paid and still owes for a month: read when a correction gives money back.

The account's documents are gone through again in the order in which they were made: the closes' invoices, credit
notes, write-offs and voids. What an adjustment gave back counts as gone, also where it did not leave the invoice
but paid for something else on it: that part of the invoice was then paid by what had paid the corrected month.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from metering.invoices.settlement import Source, give_back
from metering.ledger.book import rows
from metering.ledger.tables import metadata

PAID_BY = {
    "credit_use": "credit",
    "balance_use": "balance",
    "reserved_use": "balance",
    "card_payment": "card",
}
"""The transactions that pay an invoice, and the source that each stands for."""

Amounts = dict[str, int]
"""Gross amounts by month."""


class History:
    """The documents of one account, as the ledger has them now."""

    def __init__(self, con: sa.Connection, account: str) -> None:
        self.invoices = {row["invoice"]: row for row in rows(con, "invoices", account_id=account)}
        names = list(self.invoices)
        self._gross: dict[str, Amounts] = defaultdict(lambda: defaultdict(int))
        for line in rows(con, "invoice_lines", invoice=names):
            self._gross[line["invoice"]][line["month"]] += line["amount_minor"] + line["tax_minor"]
        self._withheld_on: dict[str, Amounts] = defaultdict(dict)
        for row in rows(con, "withheld", invoice=names):
            self._withheld_on[row["invoice"]][row["month"]] = row["amount_minor"]
        self._returns = rows(con, "returns", invoice=names)
        self._entries = _entries(con, names)
        corrections = [row for row in rows(con, "corrections", invoice=names) if row["kind"] in _REDUCING]
        self._void = {row["invoice"] for row in corrections if row["kind"] == "void"}
        self._kept: Amounts = defaultdict(int)
        self._corrected: set[str] = set()
        self._withheld: Amounts = defaultdict(int)
        self._noted: Amounts = defaultdict(int)
        self._reduced: dict[str, Amounts] = defaultdict(lambda: defaultdict(int))
        self._unreturned: dict[str, list[Source]] = {}
        self._netted: dict[str, list[Source]] = {}
        for document in _in_order(con, self.invoices, corrections):
            self._add(document)

    def withheld(self, month: str) -> int:
        """What was withheld of corrections of a month, because the account had it back already."""
        return self._withheld[month]

    def limit(self, month: str) -> int | None:
        """What can be given back of a month: what the account has paid or still owes for it.

        None where no void, credit note or write-off touched the month: then nothing went back another way, and
        the taxes of several adjustments, each rounded once, may differ by a cent from the tax that was billed.
        """
        return self._kept[month] if month in self._corrected else None

    def noted(self, name: str) -> int:
        """What credit notes have taken off an invoice, gross."""
        return self._noted[name]

    def voidable(self, name: str, *, rebill: bool) -> int:
        """What a void takes back of an invoice's total.

        Credit notes have taken their part back already; so have later adjustments, unless the usage is billed
        again and they go on to count against that bill.
        """
        if rebill:
            return int(self.invoices[name]["total_minor"]) - self._noted[name]
        return sum(self._takes_back(name).values()) - sum(self._withheld_on[name].values())

    def give_back(self, month: str, amount: int) -> list[Source]:
        """Give an amount of what paid for a month back, the way it was paid; it is gone from then on."""
        if amount <= 0:
            return []
        steps = give_back(amount, [source for _, source in self._sources(month)])
        for step in steps:
            self._take(month, step)
        return steps

    def paid(self, name: str) -> list[Source]:
        """What paid an invoice and what it brought forward, in order of payment, less what went back since."""
        brought = _up_to(self._paid(name), self._brought(name))
        own = [source for source in self._unreturned[name] if source.invoice == name]
        return [source for source in (*brought, *own) if source.source != "due"]

    # One document after the other

    def _add(self, document: dict[str, Any]) -> None:
        name, kind = document["invoice"], document.get("kind", "invoice")
        if kind == "invoice":
            self._issue(name)
        elif kind == "void":
            self._take_back(name, rebill=bool(document["rebill"]))
        else:
            self._reduce(name, document)

    def _issue(self, name: str) -> None:
        net = self._net(name)
        for month, amount in net.items():
            self._kept[month] += amount
        for month, amount in self._withheld_on[name].items():
            self._withheld[month] += amount
        self._netted[name] = []
        for month in sorted(month for month in net if net[month] < 0)[::-1]:
            returned = self._returned(name, month)
            self._netted[name] += self.give_back(month, -net[month] - returned)
        own = _without_first(self._paid(name), self._brought(name))
        self._unreturned[name] = [*self._netted[name][::-1], *own]

    def _returned(self, name: str, month: str) -> int:
        """What left an invoice for a month: it is taken off what paid for the month."""
        steps = [step for step in self._returns if (step["invoice"], step["month"]) == (name, month)]
        for step in steps:
            self._take(month, _source(step))
        return sum(step["amount_minor"] for step in steps)

    def _reduce(self, name: str, document: dict[str, Any]) -> None:
        """A credit note or a write-off: of the invoice's own month first, then of the latest."""
        left = document["amount_minor"]
        own = self.invoices[name]["month"]
        reduced = self._reduced[name]
        for month in sorted(self._gross[name], key=lambda month: (month == own, month), reverse=True):
            part = min(left, max(self._gross[name][month] - reduced[month], 0))
            left -= part
            self._lower(name, month, part)
        self._lower(name, own, left)
        if document["kind"] == "credit_note":
            self._noted[name] += document["amount_minor"]
            to_balance = sum(
                entry["credit_minor"] - entry["debit_minor"]
                for entry in self._entries[name]
                if entry["reference"] == document["correction"] and entry["ledger_account"] == "balance"
            )
            for step in give_back(to_balance, self._unreturned[name]) if to_balance else []:
                self._unreturned[name] = _less(self._unreturned[name], step)

    def _lower(self, name: str, month: str, amount: int) -> None:
        self._reduced[name][month] += amount
        self._kept[month] -= amount
        if amount:
            self._corrected.add(month)

    def _take_back(self, name: str, *, rebill: bool) -> None:
        """A void: of lines that go on to count, what it could not or did not take back counts as withheld."""
        net = self._net(name)
        self._corrected.update(net)
        if rebill:
            for month, amount in net.items():
                self._kept[month] -= amount
                self._withheld[month] -= self._withheld_on[name].get(month, 0)
        else:
            for month, part in self._takes_back(name).items():
                self._kept[month] -= part
                self._withheld[month] += max(net[month], 0) - part
        for source in self._netted.pop(name):
            if source.invoice in self._netted:
                self._unreturned[source.invoice].append(source)
        self._unreturned[name] = []

    def _takes_back(self, name: str) -> Amounts:
        """What a void takes back by month, at most what is kept of it; what the invoice gave back is owed again."""
        parts = {
            month: min(amount, max(self._kept[month], 0)) if amount > 0 else amount
            for month, amount in self._net(name).items()
        }
        missing = -sum(parts.values())
        for month in sorted(parts, reverse=True):
            spared = min(max(missing, 0), max(-parts[month], 0))
            parts[month] += spared
            missing -= spared
        return parts

    def _net(self, name: str) -> Amounts:
        """What an invoice bills or gives back by month, without what it withholds and what was taken off it."""
        withheld, reduced = self._withheld_on[name], self._reduced[name]
        return {
            month: self._gross[name].get(month, 0) + withheld.get(month, 0) - reduced.get(month, 0)
            for month in {**self._gross[name], **withheld, **reduced}
        }

    # What paid

    def _sources(self, month: str) -> list[tuple[str, Source]]:
        """What paid for a month and was not given back yet, each with the invoice that it paid.

        Later invoices come first, the month's own last, because that is given back first.
        """
        found: list[tuple[str, Source]] = []
        own: list[tuple[str, Source]] = []
        for name, sources in self._unreturned.items():
            gross = self._gross[name].get(month, 0)
            if self.invoices[name]["month"] == month:
                own = [(name, source) for source in sources]
            elif gross > 0:
                found += [(name, source) for source in reversed(_up_to(sources[::-1], gross))]
        return [(name, source) for name, source in (*found, *own) if source.amount_minor]

    def _take(self, month: str, wanted: Source) -> None:
        """Take an amount off the sources of a month that it came from, the last paid first.

        What was given back while it was due has been set aside since and may have paid the invoice: then it is
        the last payment that is gone.
        """
        left = wanted.amount_minor
        for exact in (True, False):
            for name, source in reversed(self._sources(month)):
                same = source[:3] == wanted[:3]
                if same if exact else (wanted.source == "due" and source.invoice == wanted.invoice):
                    taken = source._replace(amount_minor=min(left, source.amount_minor))
                    self._unreturned[name] = _less(self._unreturned[name], taken)
                    left -= taken.amount_minor

    def _brought(self, name: str) -> int:
        """What an invoice brought forward of what earlier ones had carried."""
        return int(self.invoices[name]["brought_forward_minor"]) - sum(self._withheld_on[name].values())

    def _paid(self, name: str) -> list[Source]:
        """What paid an invoice with all that it brought forward, in order of payment, what is due last."""
        sources = []
        carried_to = None
        due = 0
        reserved = 0
        for entry in self._entries[name]:
            amount = entry["credit_minor"] - entry["debit_minor"]
            if entry["ledger_account"] == "receivable":
                due -= amount
                if entry["kind"] in PAID_BY and amount > 0:
                    reference = entry["reference"] if entry["kind"] == "credit_use" else None
                    sources.append(Source(name, PAID_BY[entry["kind"]], reference, amount))
            elif entry["ledger_account"] == "carried":
                due -= amount
                if entry["kind"] == "carried_pay":
                    sources.append(Source(name, "balance", None, amount))
                elif entry["kind"] == "brought_forward" and amount > 0:
                    carried_to = (entry["reference"], amount)
            elif entry["ledger_account"] == "reserved":
                reserved += amount
        if carried_to and carried_to[0] in self.invoices and carried_to[0] not in self._void:
            sources += [source._replace(invoice=name) for source in _up_to(self._paid(carried_to[0]), carried_to[1])]
        if due - reserved > 0:
            sources.append(Source(name, "due", None, due - reserved))
        return sources


_REDUCING = ("void", "credit_note", "write_off")


def _in_order(
    con: sa.Connection, invoices: dict[str, dict[str, Any]], corrections: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Invoices and corrections in the order in which they were made; a run makes the invoices of its months in turn."""
    closed_by = {row["month"]: row["run"] for row in rows(con, "closes")}
    made = [(closed_by[row["month"]], name, row) for name, row in invoices.items()]
    made += [(row["run"], row["correction"], row) for row in corrections]
    for _, _, document in sorted(made, key=lambda one: one[:2]):
        yield document


def _entries(con: sa.Connection, names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The entries of invoices with the kinds of their transactions, in the order of posting."""
    entries, transactions = metadata().tables["entries"], metadata().tables["transactions"]
    query = (
        sa.select(entries, transactions.c.kind)
        .join(transactions, transactions.c.transaction == entries.c.transaction)
        .where(entries.c.invoice.in_(names))
        .order_by(entries.c.entry)
    )
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in con.execute(query).mappings():
        found[row["invoice"]].append(dict(row))
    return found


def _source(step: dict[str, Any]) -> Source:
    return Source(step["origin_invoice"], step["source"], step["reference"], step["amount_minor"])


def _up_to(sources: list[Source], amount: int) -> list[Source]:
    """The first sources up to an amount."""
    found = []
    for source in sources:
        taken = min(amount, source.amount_minor)
        if taken > 0:
            found.append(source._replace(amount_minor=taken))
            amount -= taken
    return found


def _without_first(sources: list[Source], amount: int) -> list[Source]:
    """The sources after the first ones that add up to an amount."""
    found = []
    for source in sources:
        dropped = min(max(amount, 0), source.amount_minor)
        amount -= dropped
        if source.amount_minor > dropped:
            found.append(source._replace(amount_minor=source.amount_minor - dropped))
    return found


def _less(sources: list[Source], taken: Source) -> list[Source]:
    """The sources less an amount that came from one of them, the last paid first."""
    left = taken.amount_minor
    found = []
    for source in reversed(sources):
        part = min(left, source.amount_minor) if source[:3] == taken[:3] else 0
        left -= part
        if source.amount_minor > part:
            found.append(source._replace(amount_minor=source.amount_minor - part))
    return found[::-1]
