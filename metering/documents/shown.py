"""A document in the words that people read: titles, sentences and days for HTML and PDF alike."""

from __future__ import annotations

from calendar import month_name
from typing import Any
from zoneinfo import ZoneInfo

from metering.charges.prices import SKUS
from metering.values import format_scaled, parse_instant, parse_scaled, round_half_up, to_datetime, visible

Row = dict[str, Any]

STATUS = {
    "paid": "Paid: nothing is owed on this invoice.",
    "open": "Open: {due} {currency} are owed.",
    "carried": "Carried: {due} {currency} are too little to charge; the next invoice brings them forward.",
    "void": "Void: this invoice was taken back.",
    "uncollectible": "Written off: nothing is asked for any more.",
}
ATTEMPTS = {
    "unknown": "Card asked, without an answer yet",
    "declined": "Card declined",
    "action_required": "Card needs the customer's confirmation",
    "no_card": "No card saved",
}


def shown(document: Row) -> Row:
    """The document with what only people need: every text visible, titles, sentences and days."""
    made: Row = _visible(document)
    zone = ZoneInfo(document["period"]["timezone"] if "period" in document else document["timezone"])
    issued = to_datetime(parse_instant(document["issued_at"]), zone)
    made["date"] = [issued.year, issued.month, issued.day]
    made["facts"] = [["Number", made["number"]], ["Issued", day(document["issued_at"], zone)]]
    made["stamp"] = None
    if document["document"] == "invoice":
        _show_invoice(made, zone)
    else:
        _show_note(made, zone)
    return made


def _visible(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {name: _visible(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_visible(member) for member in value]
    return value


def day(instant: str, zone: ZoneInfo) -> str:
    """A calendar day in words, such as 1 June 2026."""
    moment = to_datetime(parse_instant(instant), zone)
    return f"{moment.day} {month_name[moment.month]} {moment.year}"


def month(text: str) -> str:
    """A month in words, such as May 2026."""
    return f"{month_name[int(text[5:])]} {text[:4]}"


def _show_invoice(made: Row, zone: ZoneInfo) -> None:
    made["title"] = f"Invoice {made['number']}"
    made["facts"] += [
        ["Period", month(made["period"]["month"])],
        ["Account", made["customer"]["account_id"]],
        ["Currency", made["currency"]],
    ]
    unit = made["counting"]["gigabyte_bytes"]
    for line in made["lines"]:
        _show_line(line, unit)
    for tax in made["taxes"]:
        of = (
            ""
            if len(made["taxes"]) == 1
            else f" of {tax['net'].replace('-', '−')} {'usage' if tax['kind'] == 'usage' else 'corrections'}"
        )
        tax["title"] = f"Tax {tax['rate']} %{of}"
    made["settlement"] = list(_settlement(made))
    made["counting"]["sentences"] = list(_counting(made))
    if "standing" in made:
        _show_standing(made, zone)


def _show_line(line: Row, unit: int) -> None:
    where = f" in {line['region']}" if line["region"] else ""
    line["title"] = f"{SKUS[line['sku']]}s{where}, {month(line['month'])}"
    line["note"] = ""
    if line["kind"] == "adjustment":
        invoice = line["corrects"]["invoice"]
        about = f"of {invoice}" if invoice else "that had not been billed"
        line["note"] = f"Correction {about}: usage of {month(line['month'])} as known now, less what was billed"
    for snapshot in line["snapshots"]:
        name = snapshot["name"] or snapshot["snapshot_id"]
        snapshot["title"] = name
        parts = [snapshot["snapshot_id"]] if name != snapshot["snapshot_id"] else []
        snapshot["under"] = " · ".join([*parts, *([snapshot["project_id"]] if snapshot["project_id"] else [])])
        for span in snapshot["stretches"]:
            span["from"], span["until"] = _stamp(span["from"]), _stamp(span["until"])
            span["size"] = gigabytes(span["size_bytes"], unit)


def _stamp(instant: str) -> str:
    """A time in UTC that a column can hold: 2026-05-03 10:00:00."""
    return instant.replace("T", " ").removesuffix("Z")


def gigabytes(size_bytes: int, unit: int) -> str:
    """A size in gigabytes with up to 9 decimals."""
    text = format_scaled(round_half_up(size_bytes * 10**9, unit), 9)
    return text.rstrip("0").rstrip(".")


def _settlement(made: Row) -> Any:
    def row(title: str, amount: str, *, strong: bool = False) -> Row:
        return {"title": title, "amount": amount, "strong": strong}

    for earlier in made["brought_forward_from"]:
        yield row(f"Brought forward from {earlier['invoice']}", earlier["amount"])
    for held in made["withheld"]:
        yield row(f"Given back before, for {month(held['month'])}", held["amount"])
    moved = False
    for credit in made["credit_applied"]:
        moved = True
        word = "Returned to credit" if credit["amount"].startswith("-") else "Paid from credit"
        yield row(f"{word} {credit['reference']}", _negative(credit["amount"]))
    if _is_some(made["balance_applied"]):
        moved = True
        back = made["balance_applied"].startswith("-")
        yield row("Returned to the balance" if back else "Paid from the balance", _negative(made["balance_applied"]))
    if moved or made["brought_forward_from"] or made["withheld"]:
        yield row(f"Due at issue {made['currency']}", made["due_at_issue"], strong=True)


def _negative(amount: str) -> str:
    return amount[1:] if amount.startswith("-") else f"-{amount}"


def _is_some(amount: str) -> bool:
    return parse_scaled(amount, 3) != 0


def _counting(made: Row) -> Any:
    unit = made["counting"]["gigabyte_bytes"]
    power = "10⁹" if unit == 10**9 else "2³⁰"
    period = made["period"]
    yield (
        f"A gigabyte ({made['counting']['gigabyte']}) is {unit:,} bytes ({power}). A snapshot counts from the moment"
        " at which it is ready until it is deleted, to the microsecond; hours are elapsed time, neither rounded up"
        " nor subject to a minimum. GB-hours are size × hours, computed exactly and rounded only where they are"
        " printed (9 decimals). An amount is exact GB-hours × price, rounded once per line, half up."
    )
    yield (
        f"{month(period['month'])} is {period['from']} to {period['until']}"
        f" (calendar month in {period['timezone']}). Everything reported up to batch {period['events_through']} is"
        " counted; what is reported later is corrected on a later invoice."
    )


def _show_standing(made: Row, zone: ZoneInfo) -> None:
    standing = made["standing"]
    standing["day"] = day(standing["as_of"], zone)
    due = standing["amount_due"]
    settled = standing["status"] == "carried" and not _is_some(due)
    text = "Carried: a later invoice brought it forward; nothing is owed on this one." if settled else ""
    standing["sentence"] = text or STATUS[standing["status"]].format(due=due, currency=made["currency"])
    rows = [(m["at"], m["what"], m["document"] or "", m["owed_change"]) for m in standing["movements"]]
    rows += [
        (p["at"], f"{ATTEMPTS[p['status']]}{_because(p['reason'])}", p["payment"], p["amount"])
        for p in standing["payments"]
        if p["status"] != "succeeded"
    ]
    told = {m["document"] for m in standing["movements"]}
    rows += [
        (c["at"], f"{c['what']}{_because(c['reason'])}", c["correction"], c["amount"])
        for c in standing["corrections"]
        if c["correction"] not in told
    ]
    standing["rows"] = [
        {"day": day(at, zone), "what": what, "document": document, "amount": amount}
        for at, what, document, amount in sorted(rows, key=lambda row: parse_instant(row[0]))
    ]
    if standing["status"] == "void":
        void = next(c for c in standing["corrections"] if c["kind"] == "void")
        made["stamp"] = {"word": "VOID", "text": f"since {day(void['at'], zone)}{_because(void['reason'])}"}


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _show_note(made: Row, zone: ZoneInfo) -> None:
    made["title"] = f"Credit note {made['number']}"
    made["facts"] += [["Account", made["customer"]["account_id"]], ["Currency", made["currency"]]]
    made["corrects_month"] = month(made["corrects"]["month"])
    made["corrects_issued"] = day(made["corrects"]["issued_at"], zone)
    titles = {
        "taken_off_due": f"Taken off what is owed on {made['corrects']['invoice']}",
        "taken_off_carried": f"Taken off what {made['corrects']['invoice']} carried",
        "to_balance": "Added to the balance",
    }
    made["settlement"] = [
        {"title": title, "amount": made[name], "strong": False}
        for name, title in titles.items()
        if _is_some(made[name])
    ]
