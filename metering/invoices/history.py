"""What an account was billed, has paid and still owes for a month: read when a correction gives money back."""

from __future__ import annotations

from collections import defaultdict
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


class History:
    """The documents of one account, as the ledger has them now."""

    def __init__(self, con: sa.Connection, account: str) -> None:
        self._con = con
        self.invoices = {row["invoice"]: row for row in rows(con, "invoices", account_id=account)}
        names = list(self.invoices)
        self._gross: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for line in rows(con, "invoice_lines", invoice=names):
            self._gross[line["invoice"]][line["month"]] += line["amount_minor"] + line["tax_minor"]
        self._withheld: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for row in rows(con, "withheld", invoice=names):
            self._withheld[row["invoice"]][row["month"]] += row["amount_minor"]
        self._returns = rows(con, "returns", invoice=names)
        self._corrections = [
            row
            for row in rows(con, "corrections", invoice=names)
            if row["kind"] in ("void", "credit_note", "write_off")
        ]
        self._void = {row["invoice"] for row in self._corrections if row["kind"] == "void"}

    def withheld(self, month: str) -> int:
        """What closes have withheld of corrections of a month."""
        return sum(months.get(month, 0) for name, months in self._withheld.items() if name not in self._void)

    def kept(self, month: str) -> int:
        """What the account has paid or still owes for a month, after voids, credit notes and write-offs."""
        return sum(
            self._gross[name].get(month, 0) + self._withheld[name].get(month, 0) - self._reduced(name).get(month, 0)
            for name in self.invoices
            if name not in self._void
        )

    def noted(self, name: str) -> int:
        """What credit notes have taken off an invoice, gross."""
        return sum(
            row["amount_minor"] for row in self._corrections if row["invoice"] == name and row["kind"] == "credit_note"
        )

    def given_back_since(self, name: str) -> int:
        """What adjustments on later invoices have given back of what paid an invoice."""
        return sum(row["amount_minor"] for row in self._returns if row["origin_invoice"] == name)

    def _reduced(self, name: str) -> dict[str, int]:
        """Credit notes and write-offs of an invoice by month: its own month first, then the latest."""
        left = sum(row["amount_minor"] for row in self._corrections if row["invoice"] == name)
        own = self.invoices[name]["month"]
        found: dict[str, int] = {}
        for month in sorted(self._gross[name], key=lambda month: (month == own, month), reverse=True):
            found[month] = min(left, max(self._gross[name][month], 0))
            left -= found[month]
        found[own] = found.get(own, 0) + left
        return found

    def sources(self, month: str) -> list[Source]:
        """What paid for a month and was not given back yet: later invoices first, its own invoice last."""
        found: list[Source] = []
        own: list[Source] = []
        for name, invoice in self.invoices.items():
            gross = self._gross[name].get(month, 0)
            if name in self._void or gross <= 0:
                continue
            if invoice["month"] == month:
                own = self.unreturned(name)
            else:
                found += reversed(_up_to(self.unreturned(name)[::-1], gross))
        return found + own

    def unreturned(self, name: str, *, with_brought: bool = False) -> list[Source]:
        """What paid an invoice, in order of payment, less what went back since.

        Without what it brought forward, which is paid first; or with it.
        """
        sources = self._paid(name)
        if not with_brought:
            sources = _without_first(sources, max(self.invoices[name]["brought_forward_minor"], 0))
        for returned in self._returns:
            if returned["origin_invoice"] == name:
                sources = _less(sources, returned)
        noted = sum(
            entry["credit_minor"] - entry["debit_minor"]
            for entry in self._entries(name)
            if entry["kind"] == "credit_note" and entry["ledger_account"] == "balance"
        )
        for step in give_back(noted, sources) if noted else []:
            sources = _less(sources, step._asdict())
        return [source for source in sources if source.amount_minor > 0]

    def _paid(self, name: str) -> list[Source]:
        """What paid an invoice with all that it brought forward, in order of payment, what is due last."""
        sources = []
        carried_to = None
        due = 0
        reserved = 0
        for entry in self._entries(name):
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
            sources += _up_to(self._paid(carried_to[0]), carried_to[1])
        if due - reserved > 0:
            sources.append(Source(name, "due", None, due - reserved))
        return sources

    def _entries(self, name: str) -> list[dict[str, Any]]:
        entries, transactions = metadata().tables["entries"], metadata().tables["transactions"]
        query = (
            sa.select(entries, transactions.c.kind)
            .join(transactions, transactions.c.transaction == entries.c.transaction)
            .where(entries.c.invoice == name)
            .order_by(entries.c.entry)
        )
        return [dict(row) for row in self._con.execute(query).mappings()]


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
        dropped = min(amount, source.amount_minor)
        amount -= dropped
        if source.amount_minor > dropped:
            found.append(source._replace(amount_minor=source.amount_minor - dropped))
    return found


def _less(sources: list[Source], returned: dict[str, Any]) -> list[Source]:
    """The sources less an amount that went back to one of them."""
    left = returned["amount_minor"]
    found = list(sources)
    for index, source in enumerate(found):
        if (source.source, source.reference) == (returned["source"], returned["reference"]):
            taken = min(left, source.amount_minor)
            found[index] = source._replace(amount_minor=source.amount_minor - taken)
            left -= taken
    return found
