"""Corrections of invoices: credit note, void, write-off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import sqlalchemy as sa

from metering.corrections.register import next_number, register
from metering.errors import UsageError, wrong_value
from metering.invoices.history import History
from metering.invoices.settlement import give_back, set_aside
from metering.ledger import postings as post
from metering.ledger.book import insert, rows
from metering.ledger.postings import Journal
from metering.ledger.purses import balance_of, open_minor
from metering.ledger.tables import metadata
from metering.values import InvalidValue, format_money, parse_money, round_half_up


@dataclass(frozen=True, slots=True)
class Standing:
    """An invoice as a correction finds it; amounts in minor units of its currency."""

    invoice: dict[str, Any]
    status: str
    due_minor: int
    carried_minor: int
    reserved_minor: int

    @property
    def who(self) -> tuple[str, str, str]:
        """Account, currency, invoice: what every posting about it begins with."""
        return self.invoice["account_id"], self.invoice["currency"], self.invoice["invoice"]


def credit_note(con: sa.Connection, number: str, amount: str, reason: str, now: int, run: int, month: str) -> str:
    """Issue a credit note over a gross amount; its number.

    It reduces what is due on the invoice, then what it carries; the rest becomes balance.
    """
    standing = _standing(con, number)
    account, currency, _ = standing.who
    if standing.status in ("void", "uncollectible"):
        _refuse(number, f"it is {standing.status}")
    gross = _amount(amount, currency)
    noted = History(con, account).noted(number)
    left = standing.invoice["total_minor"] - noted
    if gross > left:
        _refuse(number, f"its total less earlier credit notes is {format_money(left, currency)} {currency}")
    tax = _tax_in(standing, noted, gross)
    due = min(gross, max(standing.due_minor, 0))
    carried = min(gross - due, standing.carried_minor)
    name = next_number(con, f"CN-{month}")
    journal = Journal(con, now, run)
    entries = post.credit_note(*standing.who, name, net=gross - tax, tax=tax, due=due, carried=carried)
    transaction = journal.post("credit_note", entries)
    register(
        con, name, "credit_note", now, run,
        invoice=number, account_id=account, currency=currency,
        amount_minor=gross, tax_minor=tax, reason=reason, transaction=transaction,
    )  # fmt: skip
    journal.flush()
    return name


def write_off(con: sa.Connection, number: str, reason: str, now: int, run: int) -> str:
    """Give up what is owed on an invoice; the correction's number. The caller has cancelled its intent."""
    standing = _released(con, number)
    account, currency, _ = standing.who
    journal = Journal(con, now, run)
    due = _use_reserved(journal, standing)
    owed = due + standing.carried_minor
    if standing.status not in ("open", "carried") or owed <= 0:
        _refuse(number, f"it is {standing.status} and nothing is owed on it")
    name = next_number(con, "WO")
    entries = post.write_off(*standing.who, name, due=due, carried=standing.carried_minor)
    transaction = journal.post("write_off", entries)
    register(
        con, name, "write_off", now, run,
        invoice=number, account_id=account, currency=currency,
        amount_minor=owed, reason=reason, transaction=transaction,
    )  # fmt: skip
    journal.flush()
    return name


def void(con: sa.Connection, number: str, reason: str, now: int, run: int, *, rebill: bool) -> str:
    """Take an invoice back; the correction's number. The caller has cancelled its intent.

    What was paid on it returns as it was paid, and what it brought forward falls due with the next invoice. With
    `rebill` its lines count as never issued, so the next close bills the usage again.
    """
    standing = _released(con, number)
    account, currency, _ = standing.who
    if standing.status in ("void", "uncollectible"):
        _refuse(number, f"it is {standing.status}")
    if standing.invoice["total_minor"] + min(standing.invoice["brought_forward_minor"], 0) < 0:
        _refuse(number, "it gives money back; what is wrong with it is corrected by the next close")
    journal = Journal(con, now, run)
    due = _use_reserved(journal, standing)
    if standing.carried_minor:
        journal.post("uncarry", post.uncarry(*standing.who, standing.carried_minor))
        due += standing.carried_minor
    journal.flush()
    history = History(con, account)
    gross = history.voidable(number, rebill=rebill)
    tax = _tax_in(standing, history.noted(number), gross)
    name = next_number(con, "VOID")
    transaction = journal.post("void", post.void(*standing.who, name, net=gross - tax, tax=tax))
    brought = _brought(con, number)
    back = gross + sum(part.amount_minor for part in brought) - due
    if back < 0:
        _refuse(number, "part of what is due on it was set off against a later invoice; it has to be paid first")
    back = _less_gone(con, journal, standing, back)
    back = _send_back(journal, standing, brought, back)
    to_balance = _return(con, journal, standing, history, back)
    register(
        con, name, "void", now, run,
        invoice=number, account_id=account, currency=currency,
        amount_minor=gross, tax_minor=tax, rebill=int(rebill), reason=reason, transaction=transaction,
    )  # fmt: skip
    journal.touch(number)
    journal.flush()
    to_balance -= _pay_void(con, journal, standing, brought)
    for other, aside in set_aside(to_balance, open_minor(con, account)):
        journal.post("set_aside", post.set_aside(account, currency, other, aside))
    journal.flush()
    return name


def _tax_in(standing: Standing, before: int, gross: int) -> int:
    """The tax in a gross part of an invoice's total, after earlier parts: the parts' tax adds up to the invoice's."""
    total, tax = standing.invoice["total_minor"], standing.invoice["tax_minor"]
    if not total:
        return 0
    return round_half_up((before + gross) * tax, total) - round_half_up(before * tax, total)


class Brought(NamedTuple):
    """A part of what an invoice brought forward: of an earlier invoice, or what it withheld where there is none."""

    earlier: str | None
    is_void: bool
    """Whether the earlier invoice has been made void since."""
    amount_minor: int


def _brought(con: sa.Connection, number: str) -> list[Brought]:
    """What an invoice brought forward and withheld, in the order of posting."""
    entries, transactions = metadata().tables["entries"], metadata().tables["transactions"]
    status = metadata().tables["invoice_status"]
    query = (
        sa.select(
            sa.case((transactions.c.kind == "brought_forward", entries.c.reference)),
            status.c.status,
            entries.c.debit_minor - entries.c.credit_minor,
        )
        .join(transactions, transactions.c.transaction == entries.c.transaction)
        .outerjoin(status, status.c.invoice == entries.c.reference)
        .where(
            entries.c.invoice == number,
            entries.c.ledger_account == "receivable",
            transactions.c.kind.in_(("brought_forward", "withheld")),
        )
        .order_by(entries.c.entry)
    )
    return [Brought(earlier, state == "void", amount) for earlier, state, amount in con.execute(query)]


def _send_back(journal: Journal, standing: Standing, brought: list[Brought], back: int) -> int:
    """Undo what an invoice brought forward and withheld; what is left to return of an amount.

    What it paid of an invoice that is void by now does not fall due there again, because that void has returned it
    already: it is not returned a second time instead.
    """
    account, currency, number = standing.who
    for earlier, is_void, amount in brought:
        if earlier is None:
            journal.post("sent_back", post.withheld(account, currency, number, -amount))
            continue
        settled = min(amount, back) if is_void else 0
        back -= settled
        journal.post("sent_back", post.brought_forward(account, currency, number, earlier, settled - amount))
    return back


def _pay_void(con: sa.Connection, journal: Journal, standing: Standing, brought: list[Brought]) -> int:
    """Pay from the balance what void invoices got back nevertheless, because it had not been paid; how much."""
    account, currency, _ = standing.who
    paid = 0
    for earlier, is_void, _ in brought:
        if earlier is not None and is_void:
            owed = min(_standing(con, earlier).carried_minor, balance_of(con, account) - paid)
            journal.post("carried_pay", post.carried_pay(account, currency, earlier, owed))
            paid += owed
    return paid


def _less_gone(con: sa.Connection, journal: Journal, standing: Standing, amount: int) -> int:
    """What is left to return of an amount, less what refunds and lost disputes gave back before."""
    account, currency, number = standing.who
    for ledger_account, gone in _gone(con, number).items():
        part = min(gone, amount)
        journal.post("gone_already", post.gone_already(account, currency, number, ledger_account, part))
        amount -= part
    return amount


def _return(con: sa.Connection, journal: Journal, standing: Standing, history: History, amount: int) -> int:
    """Give back what was paid on a void invoice; how much of it is balance."""
    account, currency, number = standing.who
    to_balance = 0
    steps = []
    for step, source in enumerate(give_back(amount, history.paid(number)), 1):
        reference = source.reference if source.source == "credit" else None
        if reference is not None:
            entries = post.credit_use(account, currency, number, reference, -source.amount_minor)
            journal.post("credit_return", entries)
        else:
            journal.post("balance_return", post.balance_use(account, currency, number, -source.amount_minor))
            to_balance += source.amount_minor
        steps.append(
            {
                "invoice": number,
                "step": step,
                "month": standing.invoice["month"],
                "origin_invoice": source.invoice,
                "source": source.source,
                "reference": reference,
                "amount_minor": source.amount_minor,
            }
        )
    insert(con, "returns", steps)
    return to_balance


def _gone(con: sa.Connection, number: str) -> dict[str, int]:
    """What refunds and lost disputes have taken of an invoice's card payments, by ledger account."""
    found = {"refunds": 0, "disputes_lost": 0}
    for entry in rows(con, "entries", invoice=number):
        if entry["ledger_account"] in found:
            found[entry["ledger_account"]] += entry["debit_minor"] - entry["credit_minor"]
    return {name: amount for name, amount in found.items() if amount > 0}


def _standing(con: sa.Connection, number: str) -> Standing:
    found = rows(con, "invoices", invoice=number)
    if not found:
        raise UsageError(
            f"There is no invoice {number!r}.",
            unchanged="Nothing was changed.",
            remedy="`metering report invoices` lists them.",
        )
    (status,) = rows(con, "invoice_status", invoice=number)
    sums = {"receivable": 0, "carried": 0, "reserved": 0}
    for entry in rows(con, "entries", invoice=number):
        if entry["ledger_account"] in sums:
            sums[entry["ledger_account"]] += entry["debit_minor"] - entry["credit_minor"]
    return Standing(found[0], status["status"], sums["receivable"], sums["carried"], -sums["reserved"])


def _released(con: sa.Connection, number: str) -> Standing:
    standing = _standing(con, number)
    if rows(con, "intents", invoice=number, live=1):
        _refuse(number, "a payment of it is on its way; its intent does not read back as cancelled yet")
    return standing


def _use_reserved(journal: Journal, standing: Standing) -> int:
    """Apply what was set aside for an invoice; what is due on it after that."""
    used = min(standing.reserved_minor, max(standing.due_minor, 0))
    journal.post("reserved_use", post.reserved_use(*standing.who, used))
    journal.post("set_free", post.set_free(*standing.who, standing.reserved_minor - used))
    return standing.due_minor - used


def _amount(text: str, currency: str) -> int:
    try:
        amount = parse_money(text, currency)
    except InvalidValue as error:
        raise wrong_value("--amount", error) from None
    if amount <= 0:
        raise wrong_value("--amount", f"{text} is not more than zero")
    return amount


def _refuse(number: str, why: str) -> NoReturn:
    raise UsageError(
        f"{number} cannot be corrected so: {why}.",
        unchanged="Nothing was changed.",
        remedy="`metering report invoices` and `metering report payments` show how it stands.",
    )
