"""`metering reconcile gateway`: the ledger against the gateway's own list, both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa

from metering.errors import MeteringError
from metering.home import Home
from metering.ledger.book import rows
from metering.payments.gateway import NOT_FOUND, CardRefund, Dispute, Gateway, Intent, NoAnswer, open_gateway, paced
from metering.values import format_money

T = TypeVar("T")


class Difference(NamedTuple):
    """One difference; amounts in minor units of its currency."""

    kind: str
    invoice: str | None
    intent: str | None
    gateway_ref: str
    account_id: str | None
    currency: str
    here: int | None
    there: int | None
    cost: int
    detail: str


@dataclass(frozen=True)
class Here:
    """What the ledger knows about one gateway's intents, by the gateway's id, and about refunds and disputes."""

    intents: dict[str, dict[str, Any]]
    succeeded: dict[str, dict[str, Any]]
    """The payment that succeeded, by our name of the intent."""
    refunds: dict[str, dict[str, Any]]
    """Refunds to cards by our name; those that the gateway refused are left out."""
    disputes: dict[str, str]
    """The latest outcome by payment."""
    account_of: dict[str, str]

    @classmethod
    def read(cls, home: Home, gateway: str) -> Here:
        """As the ledger stands now."""
        with home.book.read() as con:
            intents = [row for row in rows(con, "intents", gateway=gateway) if row["gateway_ref"]]
            payments = rows(con, "payments", gateway=gateway, status="succeeded")
            corrections = rows(con, "corrections", kind={"refund", "refund_refused", "dispute"})
            accounts = {row["invoice"]: row["account_id"] for row in rows(con, "invoices")}
        refused = {row["about"] for row in corrections if row["kind"] == "refund_refused"}
        ours = {row["payment"] for row in payments}
        return cls(
            {row["gateway_ref"]: row for row in intents},
            {row["intent"]: row for row in payments},
            {
                row["correction"]: row
                for row in corrections
                if row["kind"] == "refund"
                and row["to_card"]
                and row["correction"] not in refused
                and row["payment"] in ours
            },
            {row["payment"]: row["outcome"] for row in corrections if row["kind"] == "dispute"},
            accounts,
        )


@dataclass(frozen=True)
class There:
    """What the gateway tells."""

    intents: dict[str, Intent]
    refunds: dict[str, list[CardRefund]]
    """Refunds by the id of their intent."""
    disputes: list[Dispute]
    foreign: int
    """Intents that name no invoice of ours."""


@dataclass(frozen=True)
class Reconciled:
    """What was compared, and what differs."""

    intents: int
    foreign: int
    differences: list[Difference]

    def table(self) -> pa.Table:
        """The differences as rows."""
        kinds = {"here": pa.int64(), "there": pa.int64(), "cost": pa.int64()}
        columns = [
            pa.array([row[place] for row in self.differences], kinds.get(name, pa.string()))
            for place, name in enumerate(Difference._fields)
        ]
        return pa.table(columns, names=list(Difference._fields))


def reconcile_gateway(home: Home, since: int = 0, *, gateway: Gateway | None = None) -> Reconciled:
    """Compare everything made since an instant, at the configured gateway and at every other that the ledger names.

    Raises MeteringError if a gateway does not answer.
    """
    with home.book.read() as con:
        used = {row["gateway"] for row in rows(con, "intents") if row["created_at"] >= since}
    found: list[Difference] = []
    intents = foreign = 0
    for name in sorted(used | {gateway.name if gateway else home.config.payments.gateway}):
        opened = gateway if gateway and gateway.name == name else open_gateway(home, name)
        try:
            there, differences = _compare(home, opened, since)
        finally:
            opened.close()
        intents += len(there.intents)
        foreign += there.foreign
        found += differences
    return Reconciled(intents, foreign, sorted(found, key=lambda row: (row.invoice or "", row.gateway_ref, row.kind)))


def _compare(home: Home, gateway: Gateway, since: int) -> tuple[There, list[Difference]]:
    ask = _asking(home, gateway)
    there = _listed(gateway, ask, Here.read(home, gateway.name), since)
    here = Here.read(home, gateway.name)
    suspects = {row.gateway_ref for row in _intents(here, there, since)}
    # A run may have moved an intent between the two looks, so what differs is looked at once more.
    for ref in suspects:
        seen = _read(gateway, ask, ref)
        if seen is None:
            there.intents.pop(ref, None)
        else:
            there.intents[ref] = seen
    here = Here.read(home, gateway.name)
    found = [*_intents(here, there, since), *_refunds(here, there), *_disputes(here, there)]
    return there, found


def _asking(home: Home, gateway: Gateway) -> Callable[[Callable[[], T]], T]:
    pace = paced(gateway, home.config.payments.requests_per_second)

    def ask(call: Callable[[], T]) -> T:
        if pace is not None:
            pace.wait()
        try:
            return call()
        except NoAnswer as silence:
            if str(silence) == NOT_FOUND:
                raise
            raise MeteringError(
                f"The gateway {gateway.name} did not answer: {silence}.",
                unchanged="Nothing was written.",
                remedy="Look at the network and the gateway's status, then run this again.",
            ) from None

    return ask


def _listed(gateway: Gateway, ask: Callable[[Callable[[], Any]], Any], here: Here, since: int) -> There:
    listed: list[Intent] = ask(lambda: list(gateway.list(since)))
    ours = {intent.ref: intent for intent in listed if intent.invoice or intent.ref in here.intents}
    with_money = {ref for ref, intent in ours.items() if intent.captured_minor or intent.status == "succeeded"}
    refunds = {ref: list(ask(lambda ref=ref: gateway.refunds(ref))) for ref in sorted(with_money)}  # type: ignore[misc]
    disputes = ask(lambda: list(gateway.disputes(since)))
    return There(ours, refunds, disputes, len(listed) - len(ours))


def _read(gateway: Gateway, ask: Callable[[Callable[[], Any]], Any], ref: str) -> Intent | None:
    try:
        intent: Intent = ask(lambda: gateway.read(ref))
    except NoAnswer:
        return None
    return intent


def _intents(here: Here, there: There, since: int) -> Iterator[Difference]:
    for ref, intent in there.intents.items():
        row = here.intents.get(ref)
        if row is None and intent.status == "cancelled" and not intent.captured_minor:
            # A creation that arrived late, put aside by hand: nothing can come of it any more.
            continue
        if row is None:
            yield Difference(
                "unknown_intent", intent.invoice or None, intent.intent or None, ref,
                here.account_of.get(intent.invoice), intent.currency, None, intent.amount_minor,
                intent.captured_minor, f"{intent.status} at the gateway; the ledger does not know it",
            )  # fmt: skip
        else:
            yield from _both(here, row, intent)
    for ref, row in here.intents.items():
        if ref not in there.intents and row["created_at"] >= since:
            paid = here.succeeded.get(row["intent"])
            yield Difference(
                "missing_intent", row["invoice"], row["intent"], ref, here.account_of.get(row["invoice"]),
                row["currency"], row["amount_minor"], None, -paid["amount_minor"] if paid else 0,
                f"{row['state']} in the ledger; the gateway does not know it",
            )  # fmt: skip


def _both(here: Here, row: dict[str, Any], intent: Intent) -> Iterator[Difference]:
    """What differs in one intent that both sides know."""
    paid = here.succeeded.get(row["intent"])
    booked = paid["amount_minor"] if paid else 0
    account = here.account_of.get(row["invoice"])

    def differs(kind: str, cost: int, detail: str) -> Difference:
        amounts = (row["amount_minor"], intent.amount_minor, cost)
        return Difference(kind, row["invoice"], row["intent"], intent.ref, account, intent.currency, *amounts, detail)

    if intent.currency != row["currency"]:
        # Amounts of two currencies cannot be set off: each side is told as it is.
        told = f"{format_money(row['amount_minor'], row['currency'])} {row['currency']} in the ledger"
        yield differs("currency", intent.captured_minor, told)._replace(here=None)
        return
    if intent.status == "succeeded" and not paid:
        yield differs("capture_unbooked", intent.captured_minor, f"succeeded there; {row['state']} in the ledger")
    elif intent.status != "succeeded" and paid:
        yield differs("capture_missing", intent.captured_minor - booked, f"succeeded here; {intent.status} there")
    elif paid and intent.captured_minor != booked:
        told = f"{format_money(intent.captured_minor, intent.currency)} captured"
        yield differs("captured", intent.captured_minor - booked, told)
    elif row["state"] == "cancelled" and intent.status != "cancelled":
        yield differs("alive_there", intent.captured_minor, f"cancelled here; {intent.status} there")
    elif row["live"] and intent.status == "cancelled":
        yield differs("cancelled_there", 0, f"{row['state']} here; `metering collect` reads it back")
    for kind, ours, theirs in (
        ("amount", row["amount_minor"], intent.amount_minor),
        ("customer", row["customer"], intent.customer),
        ("invoice", row["invoice"], intent.invoice),
        ("name", row["intent"], intent.intent),
    ):
        if ours != theirs:
            yield differs(kind, 0, f"{ours} here; {theirs or 'nothing'} there")


def _refunds(here: Here, there: There) -> Iterator[Difference]:
    made = {}
    for ref, refunds in there.refunds.items():
        row = here.intents.get(ref)
        invoice = row["invoice"] if row else there.intents[ref].invoice
        for refund in refunds:
            if refund.status == "failed":
                continue
            made[refund.correction] = refund
            ours = here.refunds.get(refund.correction)
            kind, amount = None, ours["amount_minor"] if ours else None
            moved = -refund.amount_minor if refund.status == "succeeded" else 0
            if ours is None:
                kind, detail = "refund_unknown", f"{refund.status} there; the ledger does not know it"
            elif refund.amount_minor != amount:
                kind, detail = "refund_amount", f"{ours['correction']} in the ledger"
                moved += ours["amount_minor"] if ours["transaction"] is not None else 0
            elif ours["transaction"] is None and refund.status == "succeeded":
                kind, detail = "refund_unbooked", f"{ours['correction']}: `metering collect` posts it"
            if kind is not None:
                yield Difference(
                    kind, invoice, row["intent"] if row else None, refund.ref, here.account_of.get(invoice),
                    refund.currency, amount, refund.amount_minor, moved, detail,
                )  # fmt: skip
    intent_of = {row["payment"]: row["intent"] for row in here.succeeded.values()}
    ref_of = {row["intent"]: ref for ref, row in here.intents.items()}
    for name, row in here.refunds.items():
        ref = ref_of.get(intent_of[row["payment"]], "")
        # What was not asked about is no difference: an intent from before the time asked for.
        if name not in made and row["transaction"] is not None and ref in there.refunds:
            yield Difference(
                "refund_missing", row["invoice"], intent_of[row["payment"]], ref, row["account_id"],
                row["currency"], row["amount_minor"], None, row["amount_minor"],
                f"{name} is posted; the gateway has not made it",
            )  # fmt: skip


def _disputes(here: Here, there: There) -> Iterator[Difference]:
    for dispute in there.disputes:
        row = here.intents.get(dispute.intent)
        paid = here.succeeded.get(row["intent"]) if row else None
        known = here.disputes.get(paid["payment"]) if paid else None
        if known == dispute.outcome:
            continue
        taken = {"opened": dispute.amount_minor, "lost": dispute.amount_minor, "won": 0}
        invoice = row["invoice"] if row else None
        yield Difference(
            "dispute_outcome" if known else "dispute_unknown", invoice, row["intent"] if row else None, dispute.ref,
            here.account_of.get(invoice or ""), dispute.currency, taken[known] if known else None,
            dispute.amount_minor, (taken[known] if known else 0) - taken[dispute.outcome],
            f"{dispute.outcome} there; {known or 'not recorded'} in the ledger"
            + (f": `metering dispute {paid['payment']} --{dispute.outcome}` records it" if paid else ""),
        )  # fmt: skip
