"""Refunds to cards: stored first, made at the gateway under our name, posted on its word.

A refund whose answer was lost is found again by its name in the gateway's list, so it is never made twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from metering.corrections.money import end_card_refund, pending_card_refunds, refuse_card_refund
from metering.errors import NeedsPerson
from metering.home import Home, Run
from metering.ledger.book import rows
from metering.payments.gateway import CardRefund, Gateway, NoAnswer, Refused, open_gateway

if TYPE_CHECKING:
    from metering.payments.collect import Outcome

FAILED = "refund_failed"
"""Why a refund ended that the gateway had taken and could not carry out."""


def card_sentences(home: Home, run: Run, outcome: Outcome) -> Iterator[str]:
    """What became of the charges, told before the refunds to cards are gone on with, which may end the run."""
    yield from outcome.sentences()
    yield from finish_card_refunds(home, run)


def finish_card_refunds(home: Home, run: Run) -> Iterator[str]:
    """Finish every refund that is stored and not known to be made; what came of each, as sentences.

    Raises NeedsPerson at the end if one failed or was refused, or if the gateway does not say what became of it: then
    the next `metering collect` asks again. None of them keeps the others from being finished.
    """
    with home.book.read() as con:
        pending = pending_card_refunds(con)
    trouble: list[NeedsPerson] = []
    for row in pending:
        try:
            sentence = _finish(home, run, row)
        except NeedsPerson as needs:
            trouble.append(needs)
        else:
            if sentence:
                yield sentence
    for further in trouble[1:]:
        yield further.message
    if trouble:
        raise trouble[0]


def _finish(home: Home, run: Run, row: dict[str, Any]) -> str:
    name = row["correction"]
    with home.book.claim(f"refund {name}") as mine:
        if not mine:
            return ""
        with home.book.read() as con:
            (payment,) = rows(con, "payments", payment=row["payment"])
            (intent,) = rows(con, "intents", intent=payment["intent"])
        gateway = open_gateway(home, payment["gateway"])
        try:
            made = _find_or_make(gateway, intent["gateway_ref"], row)
        except NoAnswer as silence:
            raise NeedsPerson(
                f"{name}: the gateway did not say whether {row['payment']} was refunded ({silence}).",
                unchanged="The refund is stored; nothing of it is posted yet.",
                remedy="Run `metering collect`: it asks the gateway again and posts the refund once it is made.",
            ) from None
        except Refused as refusal:
            with home.book.write() as con:
                refuse_card_refund(con, name, refusal.code, home.now, run.run)
            raise NeedsPerson(
                f"{name}: the gateway refused the refund of {row['payment']}: {refusal.code}.",
                unchanged="Nothing of it is posted; the payment stands as before the refund.",
                remedy=f"Look at the payment there; `metering refund {row['payment']}` gives it to the balance.",
            ) from None
        finally:
            gateway.close()
        if made.status == "failed":
            with home.book.write() as con:
                refuse_card_refund(con, name, FAILED, home.now, run.run)
            raise NeedsPerson(
                f"{name}: the refund of {row['payment']} failed at the gateway: the card did not take the money back.",
                unchanged="Nothing of it is posted; the payment stands as before the refund.",
                remedy=f"Give it back to the balance: metering refund {row['payment']}, or pay it out another way.",
            )
        if made.status != "succeeded":
            return f"{name}: the refund of {row['payment']} is {made.status} at the gateway"
        with home.book.write() as con:
            end_card_refund(con, name, home.now, run.run)
        return f"{name}: {row['payment']} refunded to the card"


def _find_or_make(gateway: Gateway, ref: str, row: dict[str, Any]) -> CardRefund:
    name, amount = row["correction"], row["amount_minor"]
    for made in gateway.refunds(ref):
        if made.correction == name and made.amount_minor != amount:
            # The ledger had lost a refund of that name; the next one gets another.
            raise Refused("refund_name_taken")
        if made.correction == name:
            return made
    return gateway.refund(ref, amount, name, f"{name}/refund")
