"""Closing one month, and finishing one that was cut off."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import pyarrow as pa
import sqlalchemy as sa

from metering.charges.rating import Unbillable
from metering.charges.stored import store_list
from metering.close import files
from metering.close.drafting import Drafts, draft
from metering.close.earlier import earlier_to_rate, leave_note
from metering.close.guards import beyond_limits, check_approval, check_sources
from metering.close.inputs import RULES_VERSION, Inputs, fix_inputs
from metering.close.settling import Settled, Settlement
from metering.errors import NeedsPerson
from metering.failpoints import failpoint
from metering.home import Home, Run
from metering.ledger.book import insert, insert_rows
from metering.payments.adopt import check_numbers
from metering.state.files import BROKEN
from metering.values import Month


@dataclass
class Closed:
    """What closing a month came to."""

    month: Month
    hash: str
    byte_micros: int
    """The usage of the month that is billed."""
    unbillable: list[Unbillable]
    settled: Settled
    made: dict[str, pa.Table] = field(repr=False)
    """The tables of its files, as they are recorded."""
    stopped: NeedsPerson | None = None
    """What a dry run found that would stop the close."""


def close_month(home: Home, run: Run, month: Month, *, dry_run: bool, approve: str | None) -> Closed:
    """Compute a month and commit it to the ledger; the caller holds the run lock.

    A dry run is the same without the commit. Raises NeedsPerson where a guard stops the close before it writes,
    unless `approve` is the hash of these very inputs and lines.
    """
    with without_collector():
        return _close_month(home, run, month, dry_run=dry_run, approve=approve)


@contextmanager
def without_collector() -> Iterator[None]:
    """Spare the collector of cycles its walks over millions of rows, in which there are none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _close_month(home: Home, run: Run, month: Month, *, dry_run: bool, approve: str | None) -> Closed:
    with home.book.read() as con:
        inputs = fix_inputs(home, con, month, hashed=True)
        check_sources(home, inputs)
        drafts = _draft(home, con, inputs)
        check_numbers(home, con, str(month), ((draft.number, draft.account_id) for draft in drafts.invoices))
        if approve is not None:
            check_approval(drafts, approve)
        stopped = None if approve is not None else beyond_limits(home, con, drafts)
        if stopped and not dry_run:
            raise stopped
        allocations = files.allocations_of(home, con, drafts)
        # What it holds of the events is not needed any more.
        drafts.usage.close()
    with home.book.rehearse() if dry_run else home.book.write() as con:
        settled = Settlement(home, con, drafts, run.run).post()
        invoices = files.ledger_invoices(con, str(month))
        made = {"invoices": invoices, "invoice_lines": drafts.lines, "allocations": allocations}
        _record(home, con, run, drafts, made, approved=approve is not None)
        if not dry_run:
            failpoint("close.before_commit")
    if not dry_run:
        failpoint("close.after_commit")
        home.keep_copy(run)
        leave_note(home, drafts, run.run)
    return Closed(month, drafts.hash, drafts.byte_micros, drafts.rated.unbillable, settled, made, stopped)


def _draft(home: Home, con: sa.Connection, inputs: Inputs) -> Drafts:
    """The lines, from the state where it can be read, else from all events."""
    try:
        return draft(home, con, inputs, earlier_to_rate(home, con, inputs))
    except BROKEN:
        return draft(home, con, inputs)


def _record(
    home: Home, con: sa.Connection, run: Run, drafts: Drafts, made: Mapping[str, pa.Table], *, approved: bool
) -> None:
    """Store the close with everything that it was computed from."""
    inputs = drafts.inputs
    month = str(inputs.month)
    insert(
        con,
        "closes",
        [
            {
                "month": month,
                "closed_at": home.now,
                "run": run.run,
                "events_through": inputs.events_through,
                "period_start": inputs.period_start,
                "period_end": inputs.period_end,
                "timezone": inputs.timezone,
                "gigabyte_bytes": inputs.gigabyte_bytes,
                "rules_version": RULES_VERSION,
                "inputs_hash": inputs.hash,
                "lines_hash": drafts.hash,
                "approved": int(approved),
                "accounts_hash": inputs.accounts_hash,
            }
        ],
    )
    versions = ((month, name, account.version) for name, account in inputs.accounts.items())
    insert_rows(con, "close_accounts", ("month", "account_id", "version"), versions)
    decided = {"corrections_through": inputs.corrections_through, "prices_through": inputs.prices_through}
    insert(con, "close_decisions", [{"month": month, **decided}])
    insert(con, "close_issuers", [{"month": month, **msgspec.structs.asdict(home.config.issuer)}])
    _store_prices(home, con, run, drafts)
    insert(
        con,
        "close_files",
        (
            {
                "month": month,
                "name": name,
                "row_count": made[name].num_rows,
                "content_hash": files.content_hash(made[name]),
            }
            for name in files.NAMES
        ),
    )


def _store_prices(home: Home, con: sa.Connection, run: Run, drafts: Drafts) -> None:
    inputs: Inputs = drafts.inputs
    month = str(inputs.month)
    store_list(con, inputs.prices, month=month, kind="close", recorded_at=home.now, run=run.run, close_month=month)
    for earlier, keys in sorted(drafts.rated.gaps.items()):
        store_list(
            con,
            inputs.prices.of_keys(keys),
            month=earlier,
            kind="gap",
            recorded_at=home.now,
            run=run.run,
            close_month=month,
        )
