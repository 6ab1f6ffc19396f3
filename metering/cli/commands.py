"""The commands that run and settle."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metering.cli.app import Context, app, command, output_format
from metering.durable import write_whole
from metering.errors import DONE, NEEDS_PERSON, MeteringError, UsageError, worst, wrong_value

if TYPE_CHECKING:
    from metering.values import Month

Command = Callable[..., Any]
FORMATS = ["table", "csv", "json", "parquet", "xlsx"]


def month_option(text: str | None) -> Month | None:
    """The month that an option or argument names, if it is given."""
    return None if text is None else month_of(text)


def month_of(text: str) -> Month:
    """The month that a text names."""
    from metering.values import InvalidValue, Month

    try:
        return Month.parse(text)
    except InvalidValue as error:
        raise wrong_value("month", error) from None


@command(app, "init")
@click.argument("directory", required=False)
def init(context: Context, directory: str | None) -> int:
    """Write a new home: metering.toml, prices.csv, accounts.csv, inbox/. Nothing is overwritten."""
    from metering.setup import write_home

    path = Path(directory or context.home_path or ".")
    for name, written in write_home(path):
        context.say(f"{'wrote' if written else 'kept '} {name}")
    return DONE


@command(app, "ingest")
@click.argument("sources", nargs=-1)
def ingest(context: Context, sources: tuple[str, ...]) -> int:
    """Read events: files, folders, globs, s3:// URLs, - for standard input; without SOURCES the inbox.

    Exit 3 if lines were quarantined or a file could not be read.
    """
    from metering.cli.progress import reading
    from metering.events.fetched import fetching
    from metering.events.inbox import take_inbox
    from metering.events.ingest import ingest as read
    from metering.events.sources import expand
    from metering.values import printable

    home = context.open()
    with home.lock(), home.run(printable(" ".join(("ingest", *sources))), needs_book=False) as run:
        home.check_lake()
        limit = home.config.engine.memory_limit
        with reading(context) as progress:
            if sources:
                with fetching(home.lake.root) as fetch:
                    files = expand(sources, stdin=sys.stdin, fetch=fetch)
                    result = read(home.lake, files, home.now, progress=progress, memory_limit=limit)
            else:
                result = take_inbox(home.lake, home.inbox, home.now, progress=progress, memory_limit=limit)
        run.batch = result.batch
        sentence = (
            f"{'no batch' if result.batch is None else f'batch {result.batch}'}: {result.files} files,"
            f" {result.accepted} events, {result.duplicates} repeats, {result.quarantined} lines quarantined"
        )
        run.say(sentence)
        context.say(sentence)
        for reason in result.unreadable:
            context.say(f"not read: {reason}")
        for line in result.bad_lines():
            context.say(f"quarantined: {line}")
        run.exit_code = NEEDS_PERSON if result.needs_person else DONE
    return run.exit_code


@command(app, "close")
@click.argument("month", required=False)
@click.option("--dry-run", is_flag=True, help="Compute, print the hash of inputs and lines, write nothing.")
@click.option("--approve", metavar="HASH", help="Close only if inputs and lines still have this hash.")
def close(context: Context, month: str | None, dry_run: bool, approve: str | None) -> int:
    """Close a month: invoices, credit, balance, card. Without MONTH every ended month, in order."""
    from metering.cli.progress import steps
    from metering.close.run import Options, run_close
    from metering.reports.publish import publish_reports
    from metering.telling.notices import tell

    home = context.open(charging=not dry_run)
    options = Options(month_option(month), dry_run, approve)
    if dry_run:
        from metering.home import Run

        with steps(context, "accounts") as home.show:
            result = run_close(home, Run(0, home.now), options, context.say)
        if result.hash:
            click.echo(result.hash)
        return result.exit_code
    with context.job(home, f"close {month or ''}".strip()) as run, steps(context, "accounts") as home.show:
        result = run_close(home, run, options, context.say)
        home.show(0, 0, "notices and reports")
        run.exit_code = worst(result.exit_code, tell(home, run, context.say))
        # The books are closed whether or not the reports can be written; the next night writes them.
        publish_reports(home, run, context.say)
    return run.exit_code


@command(app, "collect")
def collect(context: Context) -> int:
    """Read back payments that are not final, apply balance, and try what is due."""
    from metering.cli.progress import steps
    from metering.corrections.card_refunds import card_sentences
    from metering.payments.adopt import check_gateway
    from metering.payments.collect import collect as run_collect
    from metering.telling.notices import tell

    home = context.open(charging=True)
    with context.job(home, "collect") as run:
        check_gateway(home, run)
        with steps(context, "accounts") as home.show:
            outcome = run_collect(home, run)
        for sentence in card_sentences(home, run, outcome):
            run.say(sentence)
            context.say(sentence)
        for event in outcome.notable:
            context.say(f"look at {event.invoice}: {event.kind}{f' ({event.reason})' if event.reason else ''}")
        run.exit_code = worst(outcome.exit_code, tell(home, run, context.say))
    return run.exit_code


@command(app, "nightly")
def nightly(context: Context) -> int:
    """What cron runs every night: inbox, lifespans, anomalies, collect, reports and metrics."""
    from metering.cli.progress import steps
    from metering.nightly import run_nightly
    from metering.reports.publish import publish_reports

    home = context.open()
    with context.job(home, "nightly", needs_book=False) as run, steps(context, "accounts") as home.show:
        code = run_nightly(home, run, context.say)
        home.show(0, 0, "reports")
        run.exit_code = worst(code, publish_reports(home, run, context.say))
    return run.exit_code


@command(app, "verify")
def verify(context: Context) -> int:
    """Check every invariant of events, usage, invoices, books and payments. Exit 3 if one does not hold."""
    from metering.checks.verify import count_checks
    from metering.checks.verify import verify as run_verify
    from metering.cli.progress import steps

    try:
        home = context.open()
    except UsageError:
        raise
    except MeteringError:
        # A ledger that cannot be read is a finding, which verify itself makes.
        home = context.open(checked=False)
    problems: list[str] = []
    with steps(context, "checks") as show:
        for number, (name, found) in enumerate(run_verify(home), 1):
            show(number, count_checks(), name)
            problems += [f"{name}: {len(found)}"] if found else []
            context.say(f"{'ok  ' if not found else 'FAIL'} {name}")
            for detail in found[:20]:
                click.echo(f"{name}: {detail}")
    summary = f"does not hold: {', '.join(problems)}" if problems else f"{count_checks()} checks hold"
    return context.note(home, "verify", NEEDS_PERSON if problems else DONE, summary)


@command(app, "explain")
@click.argument("invoice", required=False)
@click.option("--line", type=int, metavar="N", help="Only this line.")
@click.option("--snapshot", metavar="ID", help="Instead: every invoice line that a snapshot is on.")
@click.option("--format", "format", type=click.Choice(["table", "csv", "json"]), help="For --snapshot.")
def explain(context: Context, invoice: str | None, line: int | None, snapshot: str | None, format: str | None) -> int:
    """Compute an invoice again from its stored inputs and events, and show the arithmetic. Exit 3 if it differs."""
    from metering.cli.progress import steps
    from metering.close.explain import explain as run_explain
    from metering.close.explain import sentences

    if (invoice is None) == (snapshot is None):
        raise UsageError(
            "Nothing, or two things, to explain.", remedy="Name an invoice, or a snapshot with --snapshot."
        )
    if snapshot is not None:
        return print_report(context, "snapshot-lines", snapshot=snapshot, format=format)
    with steps(context, "invoices") as show:
        show(0, 0, f"computing {invoice} again")
        explained = run_explain(context.open(), invoice or "")
    if line is not None and line not in {issued["line"] for issued in explained.lines}:
        raise UsageError(
            f"{invoice} has no line {line}.", remedy=f"Its lines are numbered from 1 to {len(explained.lines)}."
        )
    for sentence in sentences(explained, line):
        click.echo(sentence)
    return NEEDS_PERSON if explained.differences else DONE


@command(app, "invoice")
@click.argument("number", required=False)
@click.option("--month", metavar="MONTH", help="Instead: every invoice and credit note of a month.")
@click.option("--format", "format", type=click.Choice(["pdf", "html", "json"]), default="pdf", show_default=True)
@click.option("--output", metavar="FILE", help="Write to a file; with --month into this folder.")
@click.option("--as-issued", is_flag=True, help="Without what happened since: never changes.")
def invoice(
    context: Context, number: str | None, month: str | None, format: str, output: str | None, as_issued: bool
) -> int:
    """An invoice or credit note as people get it. Made again, it is the same until something happens to it."""
    from metering.documents.issued import document, documents_of_month
    from metering.documents.write import write_all, write_one

    if (number is None) == (month is None):
        raise UsageError(
            "No document, or two, to write.", remedy="Name an invoice or a credit note, or a month with --month."
        )
    home = context.open()
    if month is None:
        write_one(document(home, number or "", as_issued=as_issued), format, output)
        return DONE
    if output is None:
        raise UsageError("The documents of a month are many files.", remedy="Name a folder with --output.")
    count = write_all(documents_of_month(home, month_of(month), as_issued=as_issued), format, output)
    context.say(f"{month}: {count} documents written to {output}")
    return DONE


@command(app, "status")
def status(context: Context) -> int:
    """What is closed, what is open, and what needs a person."""
    from metering.status import sentences

    for sentence in sentences(context.open()):
        click.echo(sentence)
    return DONE


@command(app, "demo")
@click.argument("directory", required=False)
def demo(context: Context, directory: str | None) -> int:
    """Run the sample data through three months in a fresh folder, and leave a home to play with."""
    from metering.demo import run_demo

    return run_demo(directory, context)


# Reading


def report_options(function: Command) -> Command:
    """The options of every report."""
    for option in (
        click.option("--output", metavar="FILE", help="Write to a file."),
        click.option("--format", "format", type=click.Choice(FORMATS)),
        click.option("--account", metavar="A", help="Only this account."),
        click.option("--to", "last", metavar="MONTH", help="Up to this month."),
        click.option("--from", "first", metavar="MONTH", help="From this month on."),
        click.option("--month", metavar="MONTH", help="Only this month."),
    ):
        function = option(function)
    return function


def usage_options(function: Command) -> Command:
    """The options of the usage report."""
    for option in (
        click.option("--as-of", type=int, metavar="BATCH", help="From the events up to that batch."),
        click.option("--by", type=click.Choice(["account", "project", "snapshot", "day"]), default="account"),
        click.option("--billed", is_flag=True, help="As invoiced, not as known now."),
    ):
        function = option(function)
    return function


def print_report(
    context: Context,
    name: str,
    *,
    month: str | None = None,
    first: str | None = None,
    last: str | None = None,
    account: str | None = None,
    format: str | None = None,
    output: str | None = None,
    as_of: int | None = None,
    snapshot: str | None = None,
    days: int | None = None,
) -> int:
    """Print a report in the format asked for."""
    from metering.reports.ask import IDLE_DAYS, Filter, ask, state_of
    from metering.reports.catalog import reports
    from metering.reports.render import Asked, write

    if month and (first or last):
        raise UsageError("--month names one month, --from and --to name several.", remedy="Give one or the other.")
    home = context.open()
    days = IDLE_DAYS if days is None else days
    wanted = Filter(month_option(month or first), month_option(month or last), account, as_of, snapshot, days)
    format = output_format(format)
    rows = ask(home, name, wanted)
    about = {**state_of(home), "filter": wanted.told} if format == "xlsx" else {}
    write(Asked(reports()[name], rows, home.config.billing.gigabyte_bytes, about), format, output)
    return DONE


@command(app, "report")
@click.argument("name")
@report_options
@usage_options
@click.option("--days", type=click.IntRange(0, 100_000), help="For `idle`: alive for longer than so many days (90).")
def report(context: Context, name: str, by: str, billed: bool, as_of: int | None, **options: Any) -> int:
    """Print a report; `metering schema` lists them."""
    return _report(context, name, by, billed, as_of, **options)


@command(app, "usage")
@report_options
@usage_options
def usage(context: Context, by: str, billed: bool, as_of: int | None, **options: Any) -> int:
    """GB-hours as known now, by account, project, snapshot or day (the report `usage`)."""
    return _report(context, "usage", by, billed, as_of, **options)


def _report(
    context: Context, name: str, by: str, billed: bool, as_of: int | None, days: int | None = None, **options: Any
) -> int:
    from metering.reports.ask import report_name

    chosen = report_name(name, by=by, billed=billed, as_of=as_of, days=days)
    return print_report(context, chosen, as_of=as_of, days=days, **options)


@command(app, "schema")
@click.argument("name", required=False)
def schema(context: Context, name: str | None) -> int:
    """Print the data dictionary: a table or report by NAME, the list of `reports`, or the list of all."""
    from metering.reports.catalog import reports
    from metering.schema import tables

    entries: dict[str, Any] = {**tables(), **{f"report {key}": value for key, value in reports().items()}}
    if name in (None, "reports"):
        for title, entry in entries.items():
            if name is None or title.startswith("report "):
                click.echo(f"{title:<36} {entry.grain}")
        return DONE
    found = [(title, entry) for title, entry in entries.items() if title in (name, f"report {name}")]
    if not found:
        raise UsageError(f"There is no table or report {name!r}.", remedy="`metering schema` lists them.")
    for title, entry in found:
        click.echo(f"{title}: {entry.grain}")
        for column in entry.columns:
            click.echo(f"  {column.name:<24} {column.kind:<9} {column.doc}")
    return DONE


# Exports


@app.group("export")
def export() -> None:
    """The books and reports in other tools' formats."""


@command(export, "dashboard")
@click.option("--output", metavar="FILE", help="Write to a file.")
def export_dashboard(context: Context, output: str | None) -> int:
    """One HTML page that needs no network: usage, revenue, what is open, cards, idle snapshots, health."""
    from metering.dashboard.page import dashboard

    text = dashboard(context.open())
    if output is None:
        click.echo(text, nl=False)
    else:
        write_whole(Path(output), text.encode())
    return DONE


@command(export, "beancount")
@click.option("--output", metavar="FILE", help="Write to a file.")
def export_beancount(context: Context, output: str | None) -> int:
    """The ledger as a Beancount file, with every balance asserted."""
    from metering.reports.beancount import beancount

    text = "\n".join(beancount(context.open())) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        write_whole(Path(output), text.encode())
    return DONE
