"""What happened to an invoice since it was issued: the only part of a document that changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa

from metering.ledger.book import rows
from metering.ledger.tables import metadata
from metering.values import format_instant, format_money

Row = dict[str, Any]

MOVED = {
    "card_payment": "Charged to the saved card",
    "balance_use": "Paid from the balance",
    "carried_pay": "Paid from the balance",
    "reserved_use": "Paid from the balance",
    "credit_note": "Credit note",
    "write_off": "Written off",
    "void": "Made void",
    "brought_forward": "Carried to a later invoice",
    "sent_back": "Brought forward sent back",
    "balance_return": "Given back to the balance",
    "credit_return": "Given back to the credit",
    "gone_already": "Given back before",
}
"""What each kind of transaction did to what is owed on an invoice, in words."""
CORRECTED = {
    "credit_note": "Credit note",
    "write_off": "Written off",
    "void": "Made void",
    "refund to balance": "Refunded to the balance",
    "refund to card": "Refunded to the card",
    "refund to card, not yet made": "Refund to the card, not made yet",
    "refund_refused": "Refund to the card refused",
    "dispute opened": "Payment disputed: the money is held",
    "dispute won": "Dispute won: the payment stands",
    "dispute lost": "Dispute lost: the payment is gone",
}
"""What each correction did, in words."""
OWED = ("receivable", "carried")
AT_ISSUE = ("invoice", "brought_forward", "withheld", "credit_use", "balance_use")


def standing(con: sa.Connection, names: list[str], entries: dict[str, list[Row]]) -> Callable[[Row, int], Row]:
    """How invoices stand now: a function of an invoice and the run that closed its month."""
    status = {row["invoice"]: row for row in rows(con, "invoice_status", invoice=names)}
    attempts = by_invoice(rows(con, "payments", invoice=names))
    corrections = by_invoice(rows(con, "corrections", invoice=names))

    def of(invoice: Row, close_run: int) -> Row:
        number, currency = invoice["invoice"], invoice["currency"]
        later = [move for move in _moves(entries[number]) if not _is_issue(move, close_run)]
        times = [invoice["issued_at"], *(move["posted_at"] for move in later)]
        times += [row["settled_at"] or row["created_at"] for row in attempts[number]]
        times += [row["made_at"] for row in corrections[number]]
        return {
            "as_of": format_instant(max(times)),
            "status": status[number]["status"],
            "amount_due": format_money(status[number]["amount_due_minor"], currency),
            "movements": [
                {
                    "at": format_instant(move["posted_at"]),
                    "kind": move["kind"],
                    "what": MOVED.get(move["kind"], move["kind"].replace("_", " ").capitalize()),
                    "document": move["payment"] or move["reference"],
                    "owed_change": format_money(move["owed"], currency),
                }
                for move in later
                if move["owed"]
            ],
            "payments": [
                {
                    "payment": row["payment"],
                    "at": format_instant(row["settled_at"] or row["created_at"]),
                    "amount": format_money(row["amount_minor"], currency),
                    "status": row["status"],
                    "reason": row["reason"],
                }
                for row in attempts[number]
            ],
            "corrections": [
                {
                    "correction": row["correction"],
                    "kind": row["kind"],
                    "what": _done(row),
                    "at": format_instant(row["made_at"]),
                    "amount": format_money(row["amount_minor"], currency),
                    "reason": row["reason"],
                }
                for row in corrections[number]
            ],
        }

    return of


def _done(correction: Row) -> str:
    """What a correction did, in words."""
    kind = correction["kind"]
    if kind == "dispute":
        kind = f"dispute {correction['outcome']}"
    if kind == "refund":
        made = "" if correction["transaction"] is not None else ", not yet made"
        kind = f"refund to {'card' if correction['to_card'] else 'balance'}{made}"
    return CORRECTED[kind]


def _is_issue(move: Row, close_run: int) -> bool:
    return move["run"] == close_run and move["kind"] in AT_ISSUE and move["on_receivable"]


def entries_of(con: sa.Connection, names: list[str]) -> dict[str, list[Row]]:
    """The entries of invoices with the kind, run and time of their transactions, in the order of posting."""
    entries, transactions = metadata().tables["entries"], metadata().tables["transactions"]
    query = (
        sa.select(entries, transactions.c.kind, transactions.c.run, transactions.c.posted_at)
        .join(transactions, transactions.c.transaction == entries.c.transaction)
        .where(entries.c.invoice.in_(names))
        .order_by(entries.c.entry)
    )
    return by_invoice(dict(row) for row in con.execute(query).mappings())


def by_invoice(found: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by the invoice that they are about."""
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in found:
        grouped[row["invoice"]].append(row)
    return grouped


def _moves(entries: list[Row]) -> list[Row]:
    """The transactions that concern an invoice, each with how it changed what is owed, in the order of posting."""
    found: dict[int, Row] = {}
    for entry in entries:
        move = found.setdefault(
            entry["transaction"],
            {
                **{name: entry[name] for name in ("kind", "run", "posted_at")},
                **dict.fromkeys(("payment", "reference")),
                "owed": 0,
                "on_receivable": False,
            },
        )
        move["payment"] = move["payment"] or entry["payment"]
        move["reference"] = move["reference"] or entry["reference"]
        if entry["ledger_account"] in OWED:
            move["owed"] += entry["debit_minor"] - entry["credit_minor"]
            move["on_receivable"] = move["on_receivable"] or entry["ledger_account"] == "receivable"
    return list(found.values())
