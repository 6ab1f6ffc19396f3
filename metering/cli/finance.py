"""What finance reads"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from metering.cli.app import Context, app, command
from metering.cli.options import DOCUMENTS, Command, format_of, month_of, month_option, output_format, printed
from metering.durable import write_whole
from metering.errors import DONE, NEEDS_PERSON, UsageError, meant
from metering.values import counted


def report_options(function: Command) -> Command:
    """The options of every report."""
    function = printed(function)
    for option in (
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
        click.option(
            "--by",
            type=click.Choice(["account", "project", "snapshot", "day"]),
            default="account",
            help="A row for each.",
        ),
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
    from metering.reports.ask import IDLE_DAYS, Filter, applicable, ask, state_of
    from metering.reports.catalog import reports
    from metering.reports.render import Asked, write

    if month is not None and (first is not None or last is not None):
        raise UsageError("--month names one month, --from and --to name several.", remedy="Give one or the other.")
    home = context.open()
    first, last = (first, last) if month is None else (month, month)
    days = IDLE_DAYS if days is None else days
    given = Filter(month_option(first), month_option(last), account, as_of, snapshot, days)
    wanted, left_out = applicable(name, given)
    if left_out:
        context.say(left_out)
    format = output_format(format, output)
    rows = ask(home, name, wanted)
    about = {**state_of(home), "filter": wanted.told} if format == "xlsx" else {}
    write(Asked(reports()[name], rows, home.config.billing.gigabyte_bytes, about), format, output)
    return DONE


class _ListsReports(click.Command):
    """A command whose help names every report, and what one row of it is."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from metering.reports.catalog import GIVEN, reports

        with formatter.section("Reports, and what one row of each is"):
            formatter.write_dl([(name, report.grain) for name, report in reports().items() if name not in GIVEN])


@command(app, "report", cls=_ListsReports)
@click.argument("name")
@report_options
@usage_options
@click.option("--days", type=click.IntRange(0, 100_000), help="For `idle`: alive for longer than so many days (90).")
def report(context: Context, name: str, by: str, billed: bool, as_of: int | None, **options: Any) -> int:
    """Print a report. `metering schema NAME` says what its columns mean."""
    return _report(context, name, by, billed, as_of, **options)


@command(app, "usage")
@report_options
@usage_options
def usage(context: Context, by: str, billed: bool, as_of: int | None, **options: Any) -> int:
    """GB-hours as known now: the report `usage`."""
    return _report(context, "usage", by, billed, as_of, **options)


def _report(
    context: Context, name: str, by: str, billed: bool, as_of: int | None, days: int | None = None, **options: Any
) -> int:
    from metering.reports.ask import report_name

    chosen = report_name(name, by=by, billed=billed, as_of=as_of, days=days)
    return print_report(context, chosen, as_of=as_of, days=days, **options)


@command(app, "sql")
@click.argument("query")
@printed
def sql(context: Context, query: str, format: str | None, output: str | None) -> int:
    """Ask the reports a question in SQL.

    They are read as they stand now. Each report is a table; `SHOW TABLES` lists them, and a name may be written
    usage_by_day or "usage-by-day".
    """
    from metering.reports.ask import state_of
    from metering.reports.query import query_reports
    from metering.reports.render import write

    home = context.open()
    format = output_format(format, output)
    about = {**state_of(home), "query": query} if format == "xlsx" else None
    write(query_reports(home, query, about), format, output)
    return DONE


@command(app, "schema")
@click.argument("name", required=False)
def schema(context: Context, name: str | None) -> int:
    """What every column of every table and report means.

    NAME is a table or a report; `reports` lists the reports, and without NAME all is listed.
    """
    from metering.reports.catalog import reports
    from metering.schema import tables

    entries: dict[str, Any] = {**tables(), **{f"report {key}": value for key, value in reports().items()}}
    if name in (None, "reports"):
        for title, entry in entries.items():
            if name is None or title.startswith("report "):
                _echo_beside(f"{title:<36} ", entry.grain)
        return DONE
    found = [(title, entry) for title, entry in entries.items() if title in (name, f"report {name}")]
    if not found:
        like = meant(name or "", (title.removeprefix("report ") for title in entries))
        raise UsageError(f"There is no table or report {name!r}.", remedy=f"{like}`metering schema` lists them.")
    for title, entry in found:
        click.echo(f"{title}: {entry.grain}")
        for column in entry.columns:
            _echo_beside(f"  {column.name:<24} {column.kind:<9} ", column.doc)
    return DONE


def _echo_beside(head: str, text: str) -> None:
    """Print a text beside its head; a terminal gets it folded to its width."""
    if sys.stdout.isatty():
        text = click.wrap_text(text, shutil.get_terminal_size().columns - len(head))
    click.echo(head + text.replace("\n", "\n" + " " * len(head)))


@command(app, "explain")
@click.argument("invoice", required=False)
@click.option("--line", type=int, metavar="N", help="Only this line.")
@click.option("--snapshot", metavar="ID", help="Instead: every invoice line that a snapshot is on.")
@click.option("--events", is_flag=True, help="With --snapshot: the events that its figures stand on.")
@click.option("--format", "format", type=click.Choice(["table", "csv", "json"]), help="For --snapshot.")
def explain(
    context: Context, invoice: str | None, line: int | None, snapshot: str | None, events: bool, format: str | None
) -> int:
    """Compute an invoice again, and show the arithmetic.

    From its stored inputs and the events. Exit 3 if it differs from what was issued.
    """
    from metering.cli.progress import steps
    from metering.close.explain import explain as run_explain
    from metering.close.explain import sentences

    if (invoice is None) == (snapshot is None):
        raise UsageError(
            "Nothing, or two things, to explain.", remedy="Name an invoice, or a snapshot with --snapshot."
        )
    if snapshot is not None:
        return print_report(
            context, "snapshot-events" if events else "snapshot-lines", snapshot=snapshot, format=format
        )
    if events:
        raise UsageError("--events are those of a snapshot.", remedy="Name one with --snapshot.")
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
@click.option("--format", "format", type=click.Choice(DOCUMENTS), help="[default: as FILE ends, else pdf]")
@click.option("--output", metavar="FILE", help="Write to a file; with --month into this folder.")
@click.option("--as-issued", is_flag=True, help="Without what happened since: never changes.")
def invoice(
    context: Context, number: str | None, month: str | None, format: str | None, output: str | None, as_issued: bool
) -> int:
    """An invoice or credit note as people get it.

    Made again, it is the same until something happens to it.
    """
    from metering.documents.issued import document, documents_of_month
    from metering.documents.write import write_all, write_one

    if (number is None) == (month is None):
        raise UsageError(
            "No document, or two, to write.", remedy="Name an invoice or a credit note, or a month with --month."
        )
    home = context.open()
    if month is None:
        format = format or format_of(output, DOCUMENTS) or "pdf"
        write_one(document(home, number or "", as_issued=as_issued), format, output)
        return DONE
    if output is None:
        raise UsageError("The documents of a month are many files.", remedy="Name a folder with --output.")
    count = write_all(documents_of_month(home, month_of(month), as_issued=as_issued), format or "pdf", output)
    context.say(f"{month}: {counted(count, 'document')} written to {output}")
    return DONE


@command(app, "simulate")
@click.option("--prices", required=True, metavar="FILE", help="The other price list, in the form of prices.csv.")
@click.option("--month", required=True, metavar="MONTH")
@click.option("--account", metavar="A", help="Only this account.")
@printed
def simulate(
    context: Context, prices: str, month: str, account: str | None, format: str | None, output: str | None
) -> int:
    """What other prices would have made of a month.

    Nothing is written to the books.
    """
    from metering.reports.ask import state_of
    from metering.reports.catalog import reports
    from metering.reports.render import Asked, write
    from metering.reports.simulate import simulate as run_simulate

    home = context.open()
    rows, sentences = run_simulate(home, month_of(month), prices, account)
    for sentence in sentences:
        context.say(sentence)
    format = output_format(format, output)
    about = {**state_of(home), "month": month, "price list": prices} if format == "xlsx" else {}
    write(Asked(reports()["simulation"], rows, home.config.billing.gigabyte_bytes, about), format, output)
    return DONE


@app.group("export")
def export() -> None:
    """The books and reports in other tools' formats."""


@command(export, "dashboard")
@click.option("--output", metavar="FILE", help="Write to a file.")
def export_dashboard(context: Context, output: str | None) -> int:
    """One HTML page that needs no network.

    Usage, revenue, what is open, how the cards did, idle snapshots, the health of the data.
    """
    from metering.dashboard.page import dashboard

    text = dashboard(context.open())
    if output is None:
        click.echo(text, nl=False)
    else:
        write_whole(Path(output), text.encode())
    return DONE


@command(export, "focus")
@click.option("--month", required=True, metavar="MONTH", help="A closed month.")
@click.option("--output", metavar="DIR", help="The folder to write into [default: focus-MONTH in the home].")
@click.option("--format", "format", type=click.Choice(["csv", "parquet"]), default="csv", show_default=True)
def export_focus(context: Context, month: str, output: str | None, format: str) -> int:
    """A closed month as FinOps FOCUS 1.4.

    Three files: cost and usage, its billing period, invoice details.
    """
    from metering.reports.focus import write_focus

    home = context.open()
    folder = output or str(home.path / f"focus-{month_of(month)}")
    for path, rows in write_focus(home, month_of(month), folder, format):
        context.say(f"{path}: {counted(rows, 'row')}")
    return DONE


@command(export, "beancount")
@click.option("--output", metavar="FILE", help="Write to a file.")
def export_beancount(context: Context, output: str | None) -> int:
    """The ledger as Beancount, with every balance asserted."""
    from metering.reports.beancount import beancount

    text = "\n".join(beancount(context.open())) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        write_whole(Path(output), text.encode())
    return DONE
