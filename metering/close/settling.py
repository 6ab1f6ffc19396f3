"""From drafts to the book: numbers, brought forward, credit, balance, carry, and what goes back.

Runs inside the ledger's one write transaction, so that what accounts hold cannot change meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from metering.close.drafting import Draft, Drafts, line_rows
from metering.close.inputs import Inputs
from metering.corrections.closures import pay_out
from metering.home import Home
from metering.invoices.history import History
from metering.invoices.settlement import Credit, Source, Use, pay, set_aside, spread, withhold
from metering.ledger import postings as post
from metering.ledger import purses
from metering.ledger.book import insert, insert_rows
from metering.ledger.postings import Journal
from metering.payments.gateway import limits_of
from metering.payments.split import chargeable
from metering.schema import table as schema

_MANY = 5_000
"""Invoices that are settled before they are written."""


@dataclass
class Purses:
    """What every account holds and has carried, as the close finds it; settling takes from it."""

    balances: dict[str, int]
    credits: dict[str, dict[str, purses.CreditLeft]]
    carried: dict[str, list[purses.Carried]]

    @classmethod
    def read(cls, con: sa.Connection) -> Purses:
        """All purses in the book."""
        credits: dict[str, dict[str, purses.CreditLeft]] = defaultdict(dict)
        for credit in purses.credits(con):
            credits[credit.account_id][credit.reference] = credit
        carried: dict[str, list[purses.Carried]] = defaultdict(list)
        for amount in purses.carried(con):
            carried[amount.account_id].append(amount)
        return cls(purses.balances(con), credits, carried)

    def pay(self, account: str, payable: int, day: str) -> list[Use]:
        """Take a positive payable of the month before `day` from credit, then balance, as far as they go."""
        credits, balance = self.credits.get(account, {}), self.balances.get(account, 0)
        if not credits and not balance:
            return []
        left = [Credit(credit.reference, credit.expires, credit.remaining_minor) for credit in credits.values()]
        uses = pay(payable, left, balance, day)
        for use in uses:
            if use.reference is None:
                self.balances[account] -= use.amount_minor
            else:
                credit = credits[use.reference]
                credits[use.reference] = credit._replace(remaining_minor=credit.remaining_minor - use.amount_minor)
        return uses

    def give_back(
        self, con: sa.Connection, account: str, amount: int, corrections: Mapping[str, int], history: History
    ) -> list[tuple[str, Source]]:
        """Give a negative payable back the way that the corrected months were paid: month by month to what, how much.

        What credit had paid is credit again; what comes to the balance is the caller's to keep or to set aside.
        """
        steps = [
            (month, source)
            for month, share in spread(amount, corrections)
            for source in history.give_back(month, share)
        ]
        credits = self.credits[account]
        for _, source in steps:
            if source.source == "credit":
                assert source.reference is not None
                known = credits.get(source.reference) or purses.one_credit(con, source.reference)
                credits[source.reference] = known._replace(remaining_minor=known.remaining_minor + source.amount_minor)
        return steps


@dataclass
class Settled:
    """Sums of a close by currency, in minor units, for its summary.

    What is invoiced, brought forward and given back is what credit, balance and cards pay, what is carried, and what is
    too much for a card.
    """

    invoices: int = 0
    invoiced: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    brought_forward: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    given_back: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    credit_used: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    balance_used: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    carried: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    to_charge: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    paid_out: list[tuple[str, str, int]] = field(default_factory=list)


class Settlement:
    """The settlement of one close."""

    def __init__(self, home: Home, con: sa.Connection, drafts: Drafts, run: int) -> None:
        self._con = con
        self._drafts = drafts
        self._month = str(drafts.inputs.month)
        self._day = drafts.inputs.month.plus(1).first_day.isoformat()
        """The first day after the month: a credit pays if it expires then or later."""
        self._payments = home.config.payments
        self._gateway = limits_of(home)
        self._purses = Purses.read(con)
        self._journal = Journal(con, home.now, run)
        self._now = home.now
        self._run = run
        self._invoices: list[tuple[Any, ...]] = []
        self._lines: list[tuple[Any, ...]] = []
        self._others: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.settled = Settled()

    def post(self) -> Settled:
        """Issue and settle every invoice, let expired credits lapse, and write it all into the open transaction."""
        for draft in self._drafts.invoices:
            self._issue(draft)
            if len(self._invoices) == _MANY:
                self._flush()
        self._lapse()
        self._flush()
        inputs = self._drafts.inputs
        self.settled.paid_out = pay_out(self._con, self._journal, inputs.period_end, self._month, self._now, self._run)
        return self.settled

    def _flush(self) -> None:
        """Write what is settled so far, so that memory holds a part of it only."""
        insert_rows(self._con, "invoices", schema("invoices").names, self._invoices)
        insert_rows(self._con, "invoice_lines", schema("invoice_lines").names, self._lines)
        for name, records in self._others.items():
            insert(self._con, name, records)
        self._invoices, self._lines, self._others = [], [], defaultdict(list)
        self._journal.flush()

    def _issue(self, draft: Draft) -> None:
        account, currency, number = draft.account_id, draft.currency, draft.number
        corrections = draft.corrections
        history = History(self._con, account) if corrections else None
        withheld = self._withhold(history, number, corrections) if history else {}
        carried = self._purses.carried.pop(account, ())
        held_back = sum(withheld.values())
        brought = sum(amount.amount_minor for amount in carried) + held_back
        self._write(draft, brought)

        self._journal.post(
            "invoice", post.invoice_issue(account, currency, number, draft.subtotal_minor, draft.tax_minor)
        )
        for earlier in carried:
            self._journal.post(
                "brought_forward",
                post.brought_forward(account, currency, number, earlier.invoice, earlier.amount_minor),
            )
        if held_back:
            self._journal.post("withheld", post.withheld(account, currency, number, held_back))
        payable = draft.total_minor + brought
        if payable > 0:
            self._collect(draft, payable)
        elif payable < 0:
            assert history is not None
            net = {month: amount + withheld.get(month, 0) for month, amount in corrections.items()}
            self._return(draft, -payable, net, history)
            self.settled.given_back[currency] -= payable
        self._journal.touch(number)
        self.settled.invoices += 1
        self.settled.invoiced[currency] += draft.total_minor
        self.settled.brought_forward[currency] += brought

    def _withhold(self, history: History, number: str, corrections: Mapping[str, int]) -> dict[str, int]:
        found = {}
        for month, amount in sorted(corrections.items()):
            part = withhold(amount, history.limit(month), history.withheld(month))
            if part:
                found[month] = part
                self._others["withheld"].append({"invoice": number, "month": month, "amount_minor": part})
        return found

    def _collect(self, draft: Draft, payable: int) -> None:
        """Take a positive payable from credit, then balance; carry what is too little to charge."""
        account, currency, number = draft.account_id, draft.currency, draft.number
        left = payable
        for use in self._purses.pay(account, payable, self._day):
            left -= use.amount_minor
            if use.reference is None:
                self.settled.balance_used[currency] += use.amount_minor
                self._journal.post("balance_use", post.balance_use(account, currency, number, use.amount_minor))
            else:
                self.settled.credit_used[currency] += use.amount_minor
                self._journal.post(
                    "credit_use", post.credit_use(account, currency, number, use.reference, use.amount_minor)
                )
        charge, carry = chargeable(left, currency, self._payments, self._gateway)
        if charge:
            self.settled.to_charge[currency] += charge
        elif carry:
            self.settled.carried[currency] += carry
            self._journal.post("carry", post.carry(account, currency, number, carry))

    def _return(self, draft: Draft, amount: int, corrections: Mapping[str, int], history: History) -> None:
        """Return a negative payable the way that the corrected months were paid; set aside what is open."""
        account, currency, number = draft.account_id, draft.currency, draft.number
        to_balance = 0
        for step, (month, source) in enumerate(
            self._purses.give_back(self._con, account, amount, corrections, history), 1
        ):
            self._others["returns"].append(
                {
                    "invoice": number,
                    "step": step,
                    "month": month,
                    "origin_invoice": source.invoice,
                    "source": source.source,
                    "reference": source.reference,
                    "amount_minor": source.amount_minor,
                }
            )
            if source.source == "credit":
                assert source.reference is not None
                self._journal.post(
                    "credit_use",
                    post.credit_use(account, currency, number, source.reference, -source.amount_minor),
                )
            else:
                to_balance += source.amount_minor
        self._journal.post("balance_use", post.balance_use(account, currency, number, -to_balance))
        for earlier, aside in set_aside(to_balance, purses.open_minor(self._con, account)):
            self._journal.post("set_aside", post.set_aside(account, currency, earlier, aside))

    def _lapse(self) -> None:
        """Let what is left of credits lapse that cannot pay this month."""
        for credits in self._purses.credits.values():
            for credit in credits.values():
                if credit.remaining_minor and credit.expires is not None and credit.expires < self._day:
                    self._journal.post(
                        "credit_lapse",
                        post.credit_lapse(credit.account_id, credit.currency, credit.remaining_minor, credit.reference),
                    )

    def _write(self, draft: Draft, brought: int) -> None:
        inputs: Inputs = self._drafts.inputs
        self._invoices.append(
            (
                draft.number,
                self._month,
                draft.account_id,
                inputs.accounts[draft.account_id].version,
                draft.currency,
                draft.subtotal_minor,
                draft.tax_minor,
                draft.total_minor,
                brought,
                self._now,
                inputs.events_through,
            )
        )
        self._lines += line_rows(draft)
