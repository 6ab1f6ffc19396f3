"""The commands that hold the engine against the world: reconcile, backup, restore."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from metering.cli.app import Context, command, group, output_format
from metering.errors import DONE, NEEDS_PERSON, UsageError

_FORMATS = click.Choice(["table", "csv", "json", "parquet"])


def _printed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that prints rows."""
    function = click.option("--output", metavar="FILE", help="Write to a file.")(function)
    return click.option("--format", "format", type=_FORMATS)(function)


@group("reconcile")
def reconcile(context: Context) -> None:
    """Hold the books against what others say; exit 3 if anything differs. Nothing is written."""


@command(reconcile, "gateway")
@click.option("--since", metavar="TIME", help="Only what was made from then on: a date or RFC 3339.")
@_printed
def reconcile_gateway(context: Context, since: str | None, format: str | None, output: str | None) -> int:
    """Compare the ledger with the gateway's own list, both ways."""
    from metering.reconcile.gateway import reconcile_gateway as run
    from metering.reports.catalog import reconciliations
    from metering.reports.render import write

    home = context.open()
    found = run(home, _since(since, home.config.billing.zone))
    report = reconciliations()["gateway"]
    write(report, found.table(), home.config.billing.gigabyte_bytes, output_format(format), output)
    foreign = f" ({found.foreign} more name no invoice of ours)" if found.foreign else ""
    context.say(f"{found.intents} intents compared{foreign}: {_count(len(found.differences))}.")
    return NEEDS_PERSON if found.differences else DONE


@command(reconcile, "inventory")
@click.argument("file")
@_printed
def reconcile_inventory(context: Context, file: str, format: str | None, output: str | None) -> int:
    """Compare the snapshots held for alive with the provider's list: CSV or JSON Lines with snapshot_id."""
    from metering.reconcile.inventory import reconcile_inventory as run
    from metering.reports.catalog import reconciliations
    from metering.reports.render import write

    home = context.open()
    found = run(home, file)
    report = reconciliations()["inventory"]
    write(report, found.table(), home.config.billing.gigabyte_bytes, output_format(format), output)
    context.say(f"{found.here} alive here, {found.there} in the list: {_count(len(found.differences))}.")
    return NEEDS_PERSON if found.differences else DONE


def _count(number: int) -> str:
    return {0: "no difference", 1: "1 difference"}.get(number, f"{number} differences")


def _since(text: str | None, zone: Any) -> int:
    from datetime import date

    from metering.values import InvalidValue, first_instant, parse_day, parse_instant

    if text is None:
        return 0
    try:
        return first_instant(date.fromisoformat(parse_day(text)), zone) if len(text) == 10 else parse_instant(text)
    except InvalidValue as error:
        raise UsageError(f"--since: {error}.") from None
