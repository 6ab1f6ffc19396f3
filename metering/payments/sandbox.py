"""A gateway in local files, for demos and rehearsals.

`captures.jsonl` is the truth: a card is charged by the one write that appends a line to it. `intents.db` has
the intents, and how far it has read the captures; every call first reads what is new. So whatever is killed
between the two, the intent reads as succeeded. A file lock lets one call in at a time, from any process.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from metering.failpoints import failpoint
from metering.payments.cards import Card, card
from metering.payments.gateway import CardRefund, Dispute, Intent, Limits, NoAnswer, Order, Refused
from metering.values import format_instant, format_money, parse_instant, parse_money

_META = sa.MetaData()
_INTENTS = sa.Table(
    "intents",
    _META,
    sa.Column("ref", sa.Text, primary_key=True),
    sa.Column("customer", sa.Text, nullable=False, index=True),
    sa.Column("invoice", sa.Text, nullable=False),
    sa.Column("created_at", sa.Integer, nullable=False, index=True),
    sa.Column("confirms", sa.Integer, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sqlite_strict=True,
)
_ANSWERS = sa.Table(
    "answers",
    _META,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sqlite_strict=True,
)
_PLACE = sa.Table(
    "place",
    _META,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("bytes_read", sa.Integer, nullable=False),
    sqlite_strict=True,
)


class Capture(msgspec.Struct, frozen=True):
    """A line of the capture record: money that left a card."""

    intent: str
    invoice: str
    customer: str
    amount: str
    currency: str
    captured_at: str


class Sandbox(Limits):
    """The sandbox below a folder; nothing is written before the first call."""

    name = "sandbox"
    per_second = None
    is_live = False

    def __init__(self, folder: Path, now: Callable[[], int]) -> None:
        self.folder = folder
        self.captures_file = folder / "captures.jsonl"
        self._now = now
        self._engine: sa.Engine | None = None

    def create(self, order: Order, key: str) -> Intent:
        """A new, unconfirmed intent."""
        with self._turn() as con:
            request = _text(["create", order])
            known = _answered(con, key, request)
            if known is not None:
                return known
            self._refuse(order)
            intent = Intent(
                ref=f"pi_sandbox_{_digest(key, request)}",
                status="unconfirmed",
                amount_minor=order.amount_minor,
                currency=order.currency,
                customer=order.customer,
                invoice=order.invoice,
                intent=order.intent,
                created_at=self._now(),
            )
            _store(con, intent)
            _remember(con, key, request, intent)
        if order.customer == "cus_sandbox_lostCreate":
            raise NoAnswer("connection_cut")
        return intent

    def confirm(self, ref: str, payment_method: str, key: str) -> Intent:
        """Charge the card."""
        with self._turn() as con:
            request = _text(["confirm", ref, payment_method])
            known = _answered(con, key, request)
            if known is not None:
                return known
            intent, confirms = _load(con, ref)
            if intent.status == "succeeded":
                return intent
            if intent.status in ("cancelled", "processing"):
                raise Refused("intent_unexpected_state", f"{ref} is {intent.status}")
            done = card(payment_method)
            if done is None:
                raise Refused("resource_missing", f"no such payment method: {payment_method}")
            answer = self._charge(con, intent, payment_method, done, confirms)
            if answer is not None:
                _remember(con, key, request, answer)
        if answer is None or (confirms == 0 and done.effect in ("lose_answer", "lose_decline")):
            raise NoAnswer("connection_cut")
        return answer

    def cancel(self, ref: str, key: str) -> Intent:
        """Make sure that it never succeeds."""
        with self._turn() as con:
            intent, confirms = _load(con, ref)
            late = confirms and card(intent.payment_method or "") == card("pm_sandbox_lateSuccess")
            if late and intent.status == "unconfirmed":
                intent = self._capture(con, intent)
            if intent.status in ("succeeded", "processing"):
                refusal: Refused | None = Refused("intent_unexpected_state", f"{ref} is {intent.status}")
            else:
                refusal = None
                intent = msgspec.structs.replace(intent, status="cancelled")
                _store(con, intent)
        if refusal:
            raise refusal
        if intent.customer == "cus_sandbox_lostCancel":
            raise NoAnswer("connection_cut")
        return intent

    def read(self, ref: str) -> Intent:
        """The intent as it is now."""
        with self._turn() as con:
            return _load(con, ref)[0]

    def find(self, customer: str, invoice: str) -> Sequence[Intent]:
        """The customer's intents for an invoice."""
        wanted = (_INTENTS.c.customer == customer) & (_INTENTS.c.invoice == invoice)
        with self._turn() as con:
            return [_intent(row.body) for row in con.execute(_INTENTS.select().where(wanted))]

    def list(self, since: int) -> Iterator[Intent]:
        """Every intent made since an instant."""
        made = _INTENTS.c.created_at
        query = _INTENTS.select().where(made >= since).order_by(made, _INTENTS.c.ref)
        if not self.folder.exists():
            return iter(())
        with self._turn() as con:
            bodies = [row.body for row in con.execute(query)]
        return map(_intent, bodies)

    def complete_action(self, ref: str, *, succeed: bool = True) -> Intent:
        """What the customer does: pass or fail 3-D Secure; it also ends `processing`."""
        with self._turn() as con:
            intent, _ = _load(con, ref)
            if intent.status not in ("action_required", "processing"):
                raise Refused("intent_unexpected_state", f"{ref} is {intent.status}")
            if succeed:
                return self._capture(con, intent)
            intent = msgspec.structs.replace(intent, status="unconfirmed", decline="authentication_failed")
            _store(con, intent)
            return intent

    def refund(self, ref: str, amount_minor: int, correction: str, key: str) -> CardRefund:
        """Give captured money back to the card; the same correction gives it back once."""
        with self._turn() as con:
            intent, _ = _load(con, ref)
            made = self._refunds(ref)
            known = next((refund for refund in made if refund.correction == correction), None)
            if known is not None:
                return known
            left = intent.captured_minor - sum(refund.amount_minor for refund in made)
            if not 0 < amount_minor <= left:
                raise Refused("amount_too_large", f"{left} minor units of {ref} can be given back")
            refund = CardRefund(
                ref=f"re_sandbox_{_digest(ref, correction)}",
                intent=ref,
                correction=correction,
                amount_minor=amount_minor,
                currency=intent.currency,
            )
            with self._refunds_file.open("ab") as file:
                file.write(msgspec.json.encode(refund) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            return refund

    def refunds(self, ref: str) -> Sequence[CardRefund]:
        """Every refund of an intent."""
        with self._turn():
            return self._refunds(ref)

    @property
    def _refunds_file(self) -> Path:
        return self.folder / "refunds.jsonl"

    def _refunds(self, ref: str) -> Sequence[CardRefund]:
        if not self._refunds_file.exists():
            return []
        lines = self._refunds_file.read_bytes().splitlines()
        made = [msgspec.json.decode(line, type=CardRefund) for line in lines]
        return [refund for refund in made if refund.intent == ref]

    def disputes(self, since: int) -> Iterator[Dispute]:
        """Every dispute in `disputes.jsonl`, which people write to rehearse; the last line of one counts."""
        path = self.folder / "disputes.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        try:
            made = {dispute.ref: dispute for line in lines for dispute in [msgspec.json.decode(line, type=Dispute)]}
        except msgspec.DecodeError as error:
            raise NoAnswer(f"sandbox: {type(error).__name__}") from error
        return (dispute for dispute in made.values() if dispute.created_at >= since)

    def captures(self) -> Sequence[Capture]:
        """The whole record of captures, in order."""
        if not self.captures_file.exists():
            return []
        lines = self.captures_file.read_bytes().split(b"\n")
        return [msgspec.json.decode(line, type=Capture) for line in lines[:-1]]

    def close(self) -> None:
        """Let go of the database."""
        if self._engine is not None:
            with self._locked():
                self._engine.dispose()
            self._engine = None

    def _refuse(self, order: Order) -> None:
        if order.customer == "cus_sandbox_missing":
            raise Refused("resource_missing", f"no such customer: {order.customer}")
        small = order.customer == "cus_sandbox_tooSmall"
        if small or order.amount_minor < max(1, self.minimum_minor(order.currency)):
            raise Refused("amount_too_small")
        if order.amount_minor > self.maximum_minor(order.currency):
            raise Refused("amount_too_large")
        if order.amount_minor % self.unit_minor(order.currency):
            raise Refused("amount_invalid", f"not a multiple of {self.unit_minor(order.currency)}")

    def _charge(self, con: sa.Connection, intent: Intent, method: str, done: Card, confirms: int) -> Intent | None:
        """Do what the card does; None if the caller is to get no answer and nothing happened."""
        first = confirms == 0
        tried = msgspec.structs.replace(intent, payment_method=method, decline=None, retryable=True)
        effect = done.effect
        if effect == "spend" and intent.intent.endswith("/1"):
            raise Refused("intent_spent", "the intent takes no more attempts", spent=True)
        if effect in ("unavailable", "late") or (effect == "lose_request" and first):
            _store(con, tried if effect == "late" else intent, confirms + 1)
            return None
        if effect in ("act", "process"):
            status = "action_required" if effect == "act" else "processing"
            tried = msgspec.structs.replace(tried, status=status)
        elif effect in ("decline", "lose_decline") or (effect == "decline_once" and first):
            tried = msgspec.structs.replace(
                tried,
                status="unconfirmed",
                charge=f"ch_sandbox_{_digest(intent.ref, str(confirms))}",
                decline=done.code,
                retryable=done.retryable,
            )
        else:
            _store(con, tried, confirms + 1)
            more = self.unit_minor(intent.currency) if effect == "overcharge" else 0
            return self._capture(con, tried, more)
        _store(con, tried, confirms + 1)
        return tried

    def _capture(self, con: sa.Connection, intent: Intent, more: int = 0) -> Intent:
        line = Capture(
            intent=intent.ref,
            invoice=intent.invoice,
            customer=intent.customer,
            amount=format_money(intent.amount_minor + more, intent.currency),
            currency=intent.currency,
            captured_at=format_instant(self._now()),
        )
        failpoint("sandbox.before_capture")
        self._append(con, msgspec.json.encode(line) + b"\n")
        failpoint("sandbox.after_capture")
        self._catch_up(con)
        return _load(con, intent.ref)[0]

    def _append(self, con: sa.Connection, line: bytes) -> None:
        descriptor = os.open(self.captures_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # What lies behind the last whole line is a write that was cut off: nobody was told of it.
            whole = con.scalar(sa.select(_PLACE.c.bytes_read)) or 0
            os.ftruncate(descriptor, whole)
            written = os.pwrite(descriptor, line, whole)
            if written != len(line):
                raise NoAnswer("disk_full")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _catch_up(self, con: sa.Connection) -> None:
        """Read the captures that the intents do not know yet."""
        try:
            size = self.captures_file.stat().st_size
        except FileNotFoundError:
            size = 0
        place = con.scalar(sa.select(_PLACE.c.bytes_read)) or 0
        if size == place:
            return
        # A shorter file than was read is another file: it is read anew.
        start = place if place < size else 0
        with self.captures_file.open("rb") as file:
            file.seek(start)
            tail = file.read()
        whole = tail[: tail.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self._apply(con, msgspec.json.decode(line, type=Capture))
        read = start + len(whole)
        row = insert(_PLACE).values(id=1, bytes_read=read)
        con.execute(row.on_conflict_do_update(set_={"bytes_read": read}))

    def _apply(self, con: sa.Connection, capture: Capture) -> None:
        amount = parse_money(capture.amount, capture.currency)
        row = con.execute(_INTENTS.select().where(_INTENTS.c.ref == capture.intent)).first()
        known = (
            _intent(row.body)
            if row
            else Intent(
                ref=capture.intent,
                status="succeeded",
                amount_minor=amount,
                currency=capture.currency,
                customer=capture.customer,
                invoice=capture.invoice,
                intent="",
                created_at=parse_instant(capture.captured_at),
            )
        )
        succeeded = msgspec.structs.replace(
            known,
            status="succeeded",
            captured_minor=amount,
            charge=f"ch_sandbox_{_digest(capture.intent, 'capture')}",
            decline=None,
            retryable=True,
        )
        _store(con, succeeded)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _turn(self) -> Iterator[sa.Connection]:
        with self._locked():
            try:
                if self._engine is None:
                    self._engine = _open(self.folder / "intents.db")
                with self._engine.connect() as con:
                    con.exec_driver_sql("BEGIN IMMEDIATE")
                    try:
                        self._catch_up(con)
                        yield con
                    except Refused:
                        con.exec_driver_sql("COMMIT")
                        raise
                    except BaseException:
                        con.exec_driver_sql("ROLLBACK")
                        raise
                    con.exec_driver_sql("COMMIT")
            except (sa.exc.DBAPIError, OSError, msgspec.DecodeError) as error:
                raise NoAnswer(f"sandbox: {type(error).__name__}") from error


def _open(path: Path) -> sa.Engine:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    engine = sa.create_engine(
        f"sqlite:///{path}",
        isolation_level="AUTOCOMMIT",
        connect_args={"check_same_thread": False, "timeout": 60},
    )
    sa.event.listen(engine, "connect", _configure)
    _META.create_all(engine)
    return engine


def _configure(connection: sqlite3.Connection, _: object) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL"):
        connection.execute(f"PRAGMA {pragma}").close()


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _intent(body: str) -> Intent:
    return msgspec.json.decode(body, type=Intent)


def _load(con: sa.Connection, ref: str) -> tuple[Intent, int]:
    row = con.execute(_INTENTS.select().where(_INTENTS.c.ref == ref)).first()
    if row is None:
        raise NoAnswer("not_found")
    return _intent(row.body), row.confirms


def _store(con: sa.Connection, intent: Intent, confirms: int | None = None) -> None:
    values = {"body": _text(intent)} | ({} if confirms is None else {"confirms": confirms})
    row = insert(_INTENTS).values(
        ref=intent.ref,
        customer=intent.customer,
        invoice=intent.invoice,
        created_at=intent.created_at,
        confirms=confirms or 0,
        body=_text(intent),
    )
    con.execute(row.on_conflict_do_update(set_=values))


def _answered(con: sa.Connection, key: str, request: str) -> Intent | None:
    row = con.execute(_ANSWERS.select().where(_ANSWERS.c.key == key)).first()
    if row is None:
        return None
    if row.request != request:
        raise Refused("idempotency_error", f"the key {key} was sent with another body")
    return _intent(row.answer)


def _remember(con: sa.Connection, key: str, request: str, answer: Intent) -> None:
    con.execute(insert(_ANSWERS).values(key=key, request=request, answer=_text(answer)))
