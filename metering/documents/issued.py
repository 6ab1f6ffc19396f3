"""Issued invoices and credit notes as data: everything that HTML and PDF show stands here, as it is printed.

What was issued comes from what the close stored (lines, parties, tax, settlement) and never changes. What happened
to the document since is a part of its own, `standing`, dated by the last thing that happened; so a document made
again is the same to the byte until something happens to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from metering.close.inputs import stored_inputs
from metering.documents.detail import Detail
from metering.documents.standing import by_invoice, entries_of, standing
from metering.errors import UsageError
from metering.home import Home
from metering.ledger.book import rows
from metering.values import Month, format_gb_hours, format_instant, format_money

Row = dict[str, Any]

CHUNK = 2_000
"""Invoices that are gathered at once: a database takes so many names in one question."""
PARTY = ("name", "address", "postcode", "city", "country", "tax_id", "email")
RECEIVED = ("brought_forward", "withheld", "credit_use", "balance_use")
"""The transactions by which a close settles an invoice, besides issuing it."""


def document(home: Home, number: str, *, as_issued: bool = False) -> Row:
    """One invoice or credit note; UsageError if there is none of that number.

    With `as_issued` it leaves out what happened since: then it never changes.
    """
    with home.book.read() as con:
        invoice = rows(con, "invoices", invoice=number)
        if invoice:
            (made,) = _invoices(home, con, invoice, as_issued=as_issued)
            return made
        note = rows(con, "corrections", correction=number, kind="credit_note")
        if note:
            return _credit_note(con, note[0])
    raise UsageError(
        f"There is no invoice or credit note {number!r}.", remedy="`metering report invoices` lists the invoices."
    )


def documents_of_month(home: Home, month: Month, *, as_issued: bool = False) -> Iterator[Row]:
    """Every invoice of a closed month, then every credit note that was made in it; UsageError if it has none."""
    with home.book.read() as con:
        invoices = rows(con, "invoices", month=str(month))
        notes = [
            row for row in rows(con, "corrections", kind="credit_note") if row["correction"].startswith(f"CN-{month}-")
        ]
        if not invoices and not notes:
            raise UsageError(f"{month} has no documents.", remedy="`metering status` says which months are closed.")
        for start in range(0, len(invoices), CHUNK):
            yield from _invoices(home, con, invoices[start : start + CHUNK], as_issued=as_issued)
        for note in notes:
            yield _credit_note(con, note)


def _invoices(home: Home, con: sa.Connection, invoices: list[Row], *, as_issued: bool) -> Iterator[Row]:
    """The documents of some invoices of one month."""
    month = invoices[0]["month"]
    names = [row["invoice"] for row in invoices]
    lines = rows(con, "invoice_lines", invoice=names)
    detail = Detail(home, con, stored_inputs(con, month), lines)
    (close,) = rows(con, "closes", month=month)
    issuer = _issuer(con, month)
    customers = _customers(con, invoices)
    known = {name: by_invoice(rows(con, name, invoice=names)) for name in ("withheld", "returns")}
    lines_of, entries = by_invoice(lines), entries_of(con, names)
    corrected = _corrected(con, lines)
    since = None if as_issued else standing(con, names, entries)
    for invoice in invoices:
        number, currency = invoice["invoice"], invoice["currency"]
        mine = lines_of[number]
        at_issue = [entry for entry in entries[number] if entry["run"] == close["run"]]
        made = {
            "document": "invoice",
            "number": number,
            "issued_at": format_instant(invoice["issued_at"]),
            "currency": currency,
            "issuer": issuer,
            "customer": customers[invoice["account_id"]],
            "period": _period(close),
            "lines": [_line(line, detail, corrected, close["gigabyte_bytes"]) for line in mine],
            "subtotal": format_money(invoice["subtotal_minor"], currency),
            "taxes": _taxes(mine, currency),
            "tax": format_money(invoice["tax_minor"], currency),
            "total": format_money(invoice["total_minor"], currency),
            **_settlement(invoice, at_issue, known["withheld"][number], known["returns"][number]),
            "counting": _counting(close),
        }
        yield made if since is None else {**made, "standing": since(invoice, close["run"])}


def _period(close: Row) -> Row:
    return {
        "month": close["month"],
        "from": format_instant(close["period_start"]),
        "until": format_instant(close["period_end"]),
        "timezone": close["timezone"],
        "events_through": close["events_through"],
    }


def _issuer(con: sa.Connection, month: str) -> Row:
    (found,) = rows(con, "close_issuers", month=month)
    return {name: found[name] for name in PARTY}


def _customers(con: sa.Connection, invoices: list[Row]) -> dict[str, Row]:
    """The accounts as they were when the invoices were issued."""
    version = {row["account_id"]: row["account_version"] for row in invoices}
    return {
        row["account_id"]: {name: row[name] for name in ("account_id", *PARTY, "tax_note")}
        for row in rows(con, "account_versions", account_id=set(version))
        if row["version"] == version[row["account_id"]]
    }


def _line(line: Row, detail: Detail, corrected: dict[tuple[str, str], str], gigabyte: int) -> Row:
    currency = line["currency"]
    made = {
        "line": line["line"],
        "kind": line["kind"],
        "month": line["month"],
        "sku": line["sku"],
        "region": line["region"],
        "gb_hours": format_gb_hours(line["byte_micros"], gigabyte),
        "price_per_gb_hour": line["price_per_gb_hour"],
        "amount": format_money(line["amount_minor"], currency),
        "tax_rate": line["tax_rate"],
        "tax": format_money(line["tax_minor"], currency),
        "snapshots": detail.of(line),
    }
    if line["kind"] == "adjustment":
        made["corrects"] = {"month": line["month"], "invoice": corrected.get((line["account_id"], line["month"]))}
    return made


def _corrected(con: sa.Connection, lines: list[Row]) -> dict[tuple[str, str], str]:
    """The invoice of each corrected month, by account and month."""
    accounts = {line["account_id"] for line in lines if line["kind"] == "adjustment"}
    if not accounts:
        return {}
    return {(row["account_id"], row["month"]): row["invoice"] for row in rows(con, "invoices", account_id=accounts)}


def _taxes(lines: list[Row], currency: str) -> list[Row]:
    """The sums on which tax was rounded: one for usage, one for each rate of adjustments."""
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for line in lines:
        group = sums[line["kind"], line["tax_rate"]]
        group[0] += line["amount_minor"]
        group[1] += line["tax_minor"]
    return [
        {"kind": kind, "rate": rate, "net": format_money(net, currency), "tax": format_money(tax, currency)}
        for (kind, rate), (net, tax) in sums.items()
    ]


def _settlement(invoice: Row, entries: list[Row], withheld: list[Row], returns: list[Row]) -> Row:
    """How the close settled an invoice: what it brought forward, what credit and balance paid, what was left."""
    currency = invoice["currency"]

    def money(amount: int) -> str:
        return format_money(amount, currency)

    owed = [entry for entry in entries if entry["ledger_account"] == "receivable" and entry["kind"] in RECEIVED]
    amount_of = {id(entry): entry["debit_minor"] - entry["credit_minor"] for entry in owed}
    credit = [entry for entry in owed if entry["kind"] == "credit_use"]
    balance = -sum(amount_of[id(entry)] for entry in owed if entry["kind"] == "balance_use")
    payable = invoice["total_minor"] + invoice["brought_forward_minor"]
    left = payable + sum(amount_of[id(entry)] for entry in credit) - balance
    return {
        "brought_forward": money(invoice["brought_forward_minor"]),
        "brought_forward_from": [
            {"invoice": entry["reference"], "amount": money(amount_of[id(entry)])}
            for entry in owed
            if entry["kind"] == "brought_forward"
        ],
        "withheld": [{"month": row["month"], "amount": money(row["amount_minor"])} for row in withheld],
        "payable": money(payable),
        "credit_applied": [
            {"reference": entry["reference"], "amount": money(-amount_of[id(entry)])} for entry in credit
        ],
        "balance_applied": money(balance),
        "returns": [
            {
                "month": row["month"],
                "paid_on": row["origin_invoice"],
                "paid_by": row["source"],
                "returned_to": "credit" if row["source"] == "credit" else "balance",
                "reference": row["reference"],
                "amount": money(row["amount_minor"]),
            }
            for row in returns
            if payable < 0
        ],
        "due_at_issue": money(left),
    }


def _counting(close: Row) -> Row:
    return {
        "gigabyte_bytes": close["gigabyte_bytes"],
        "gigabyte": "GiB" if close["gigabyte_bytes"] == 2**30 else "GB",
        "rules_version": close["rules_version"],
        "inputs_hash": close["inputs_hash"],
    }


def _credit_note(con: sa.Connection, note: Row) -> Row:
    """A credit note, with what it did to the invoice that it corrects."""
    (invoice,) = rows(con, "invoices", invoice=note["invoice"])
    currency = note["currency"]
    moved: dict[str, int] = defaultdict(int)
    for entry in rows(con, "entries", invoice=note["invoice"], reference=note["correction"]):
        moved[entry["ledger_account"]] += entry["credit_minor"] - entry["debit_minor"]
    (close,) = rows(con, "closes", month=invoice["month"])
    rates = {line["tax_rate"] for line in rows(con, "invoice_lines", invoice=note["invoice"])}
    return {
        "document": "credit_note",
        "number": note["correction"],
        "issued_at": format_instant(note["made_at"]),
        "timezone": close["timezone"],
        "currency": currency,
        "issuer": _issuer(con, invoice["month"]),
        "customer": _customers(con, [invoice])[invoice["account_id"]],
        "corrects": {
            "invoice": invoice["invoice"],
            "month": invoice["month"],
            "issued_at": format_instant(invoice["issued_at"]),
            "total": format_money(invoice["total_minor"], currency),
        },
        "reason": note["reason"],
        "net": format_money(note["amount_minor"] - note["tax_minor"], currency),
        "tax_rate": rates.pop() if len(rates) == 1 else None,
        "tax": format_money(note["tax_minor"], currency),
        "total": format_money(note["amount_minor"], currency),
        "taken_off_due": format_money(moved["receivable"], currency),
        "taken_off_carried": format_money(moved["carried"], currency),
        "to_balance": format_money(moved["balance"], currency),
    }
