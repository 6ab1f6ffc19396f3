"""The commands of finance: questions in SQL, other prices, exports."""

from __future__ import annotations

import click

from metering.cli.app import Context, app, command, output_format
from metering.cli.commands import FORMATS, export, month_of
from metering.errors import DONE


@command(app, "sql")
@click.argument("query")
@click.option("--format", "format", type=click.Choice(FORMATS))
@click.option("--output", metavar="FILE", help="Write to a file.")
def sql(context: Context, query: str, format: str | None, output: str | None) -> int:
    """Ask the reports a question in SQL, as they stand now.

    Each report is a table; `SHOW TABLES` lists them, and a name may be written usage_by_day or "usage-by-day".
    """
    from metering.reports.ask import state_of
    from metering.reports.query import query_reports
    from metering.reports.render import write

    home = context.open()
    format = output_format(format)
    about = {**state_of(home), "query": query} if format == "xlsx" else None
    write(query_reports(home, query, about), format, output)
    return DONE


@command(app, "simulate")
@click.option("--prices", required=True, metavar="FILE", help="The other price book, in the form of prices.csv.")
@click.option("--month", required=True, metavar="MONTH")
@click.option("--account", metavar="A", help="Only this account.")
@click.option("--format", "format", type=click.Choice(FORMATS))
@click.option("--output", metavar="FILE", help="Write to a file.")
def simulate(
    context: Context, prices: str, month: str, account: str | None, format: str | None, output: str | None
) -> int:
    """Rate a month's usage under another price book and show the difference; nothing is written to the books."""
    from metering.reports.ask import state_of
    from metering.reports.catalog import reports
    from metering.reports.render import Asked, write
    from metering.reports.simulate import simulate as run_simulate

    home = context.open()
    rows, sentences = run_simulate(home, month_of(month), prices, account)
    for sentence in sentences:
        context.say(sentence)
    format = output_format(format)
    about = {**state_of(home), "month": month, "price book": prices} if format == "xlsx" else {}
    write(Asked(reports()["simulation"], rows, home.config.billing.gigabyte_bytes, about), format, output)
    return DONE


@command(export, "focus")
@click.option("--month", required=True, metavar="MONTH", help="A closed month.")
@click.option("--output", metavar="DIR", help="The folder to write into (focus-MONTH).")
@click.option("--format", "format", type=click.Choice(["csv", "parquet"]), default="csv", show_default=True)
def export_focus(context: Context, month: str, output: str | None, format: str) -> int:
    """A closed month as FinOps FOCUS 1.4: cost and usage, its billing period, invoice details."""
    from metering.reports.focus import write_focus

    folder = output or f"focus-{month_of(month)}"
    for path, rows in write_focus(context.open(), month_of(month), folder, format):
        context.say(f"{path}: {rows} rows")
    return DONE
