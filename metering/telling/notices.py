"""Notices for the platform: CloudEvents in `outbox/`, each told exactly once.

The platform takes a file and deletes it; the ledger remembers that it was told. A notice is written under a hidden
name, then recorded, then shown: killed before the record it is made again, killed after it the hidden file is shown
by the next run. So no notice is lost, and none comes back after it was taken.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from metering.durable import sync
from metering.errors import DONE, FAILED
from metering.failpoints import failpoint
from metering.home import Home, Run
from metering.ledger.book import insert, rows
from metering.ledger.tables import metadata
from metering.reports.ask import ask
from metering.reports.catalog import reports
from metering.sql import sql
from metering.values import Month, counted, format_instant, format_money

FOLDER = "outbox"
SOURCE = "/metering"
_HIDDEN = ".new"


class Notice(NamedTuple):
    """What is told: `name` is its identity, and the name of its file."""

    name: str
    kind: str
    subject: str
    happened_at: int
    data: dict[str, Any]

    def encode(self) -> bytes:
        """The CloudEvents object."""
        body = {
            "specversion": "1.0",
            "id": self.name,
            "source": SOURCE,
            "type": self.kind,
            "subject": self.subject,
            "time": format_instant(self.happened_at),
            "datacontenttype": "application/json",
            "data": self.data,
        }
        return msgspec.json.encode(body) + b"\n"


def tell_all(home: Home, run: Run, say: Callable[[str], None]) -> int:
    """Tell what was never told, and whose money will not last, which only passing time changes; an exit code."""
    return tell(home, run, say, _low_balances)


def tell(
    home: Home, run: Run, say: Callable[[str], None], more: Callable[[Home], Iterator[Notice]] = lambda home: iter(())
) -> int:
    """Tell what was never told; an exit code. A run that may not write to the ledger tells nothing."""
    if run.run == 0 or not home.book.exists:
        return DONE
    folder = home.path / FOLDER
    try:
        with home.book.claim("notices") as mine:
            if not mine:
                return DONE
            folder.mkdir(mode=0o700, exist_ok=True)
            _show_told(home, folder)
            told = _tell(home, run, folder, [*_untold(home), *more(home)])
    except OSError as error:
        say(f"notices: {FOLDER}/ cannot be written: {error.strerror or error}. The next run tells them.")
        return FAILED
    if told:
        run.say(counted(told, "notice"))
    return DONE


def _tell(home: Home, run: Run, folder: Path, notices: list[Notice]) -> int:
    if not notices:
        return 0
    for notice in notices:
        _write(_hidden(folder, notice.name), notice.encode())
    sync(folder)
    failpoint("notices.before_told")
    with home.book.write() as con:
        insert(
            con,
            "notices",
            [
                {"notice": n.name, "kind": n.kind, "subject": n.subject, "told_at": home.now, "run": run.run}
                for n in notices
            ],
        )
    failpoint("notices.before_shown")
    for notice in notices:
        _show(folder, notice.name)
    sync(folder)
    return len(notices)


def _show_told(home: Home, folder: Path) -> None:
    """Finish what a killed run left: what was recorded is shown; what was not will be made again."""
    left = [path.name[1:].removesuffix(f".json{_HIDDEN}") for path in folder.glob(f".*{_HIDDEN}")]
    if not left:
        return
    with home.book.read() as con:
        told = {row["notice"] for row in rows(con, "notices", notice=set(left))}
    for name in left:
        if name in told:
            _show(folder, name)
        else:
            _hidden(folder, name).unlink()


def _hidden(folder: Path, name: str) -> Path:
    return folder / f".{name}.json{_HIDDEN}"


def _show(folder: Path, name: str) -> None:
    _hidden(folder, name).replace(folder / f"{name}.json")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


# What there is to tell


def _untold(home: Home) -> Iterator[Notice]:
    with home.book.read() as con:
        found = con.execute(sa.text(sql("telling", "untold"))).mappings().all()
    for row in found:
        data = {
            "account_id": row["account_id"],
            "invoice": row["invoice"],
            "currency": row["currency"],
            "amount": format_money(row["amount_minor"], row["currency"]),
        }
        if row["payment"] is not None:
            data |= {"payment": row["payment"], "reason": row["reason"], "may_be_retried": bool(row["retryable"])}
        yield Notice(row["notice"], row["kind"], row["subject"], row["happened_at"], data)


def _low_balances(home: Home) -> Iterator[Notice]:
    """Prepaid accounts whose money will not last to the 1st, once a month each; needs the report `forecast`."""
    if "forecast" not in reports():
        return
    month = Month.of(home.now, home.config.billing.zone)
    prepaid = _prepaid(home)
    if not prepaid:
        return
    short = {
        f"balance.low.{month}.{_digest(row['account_id'])}": row
        for row in ask(home, "forecast").to_pylist()
        if row["month"] == str(month) and row["account_id"] in prepaid and (row["card_forecast"] or 0) > 0
    }
    with home.book.read() as con:
        told = {row["notice"] for row in rows(con, "notices", notice=set(short))}
    for name, row in short.items():
        if name not in told:
            currency = row["currency"]
            data = {
                "account_id": row["account_id"],
                "month": str(month),
                "currency": currency,
                "balance": format_money(int(row["balance"]), currency),
                "forecast_before_tax": format_money(int(row["amount_forecast"]), currency),
                "shortfall": format_money(int(row["card_forecast"]), currency),
                "due": str(month.plus(1).first_day),
            }
            yield Notice(name, "balance.low", row["account_id"], home.now, data)


def _prepaid(home: Home) -> set[str]:
    """The accounts that have ever topped up."""
    funds = metadata().tables["funds"]
    with home.book.read() as con:
        return set(con.scalars(sa.select(funds.c.account_id).where(funds.c.kind == "topup").distinct()))


def _digest(account: str) -> str:
    """An account's id as a file's name can hold it."""
    return hashlib.sha256(account.encode()).hexdigest()[:32]
