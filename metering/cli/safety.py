"""The commands that hold the engine against the world: reconcile, backup, restore."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from metering.cli.app import Context, app, command, group, output_format
from metering.errors import DONE, NEEDS_PERSON, MeteringError, wrong_value

_FORMATS = click.Choice(["table", "csv", "json", "parquet"])


def _printed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that prints rows."""
    function = click.option("--output", metavar="FILE", help="Write to a file.")(function)
    return click.option("--format", "format", type=_FORMATS)(function)


@group("reconcile")
def reconcile(context: Context) -> None:
    """Hold the books against what others say; exit 3 if anything differs. Only the run is recorded."""


@command(reconcile, "gateway")
@click.option("--since", metavar="TIME", help="Only what was made from then on: a date or RFC 3339.")
@_printed
def reconcile_gateway(context: Context, since: str | None, format: str | None, output: str | None) -> int:
    """Compare the ledger with the gateway's own list, both ways."""
    from metering.reconcile.gateway import reconcile_gateway as run
    from metering.reports.catalog import reconciliations
    from metering.reports.render import write_rows

    home = context.open()
    found = run(home, _since(since, home.config.billing.zone))
    report = reconciliations()["gateway"]
    write_rows(home, report, found.table(), output_format(format), output)
    foreign = f" ({found.foreign} more name no invoice of ours)" if found.foreign else ""
    sentence = f"{found.intents} intents compared{foreign}: {_count(len(found.differences))}"
    context.say(f"{sentence}.")
    words = f"reconcile gateway{f' --since {since}' if since else ''}"
    return context.note(home, words, NEEDS_PERSON if found.differences else DONE, sentence)


@command(reconcile, "inventory")
@click.argument("file")
@_printed
def reconcile_inventory(context: Context, file: str, format: str | None, output: str | None) -> int:
    """Compare the snapshots held for alive with the provider's list: CSV or JSON Lines with snapshot_id."""
    from metering.reconcile.inventory import reconcile_inventory as run
    from metering.reports.catalog import reconciliations
    from metering.reports.render import write_rows

    home = context.open()
    found = run(home, file)
    report = reconciliations()["inventory"]
    write_rows(home, report, found.table(), output_format(format), output)
    told = "".join(f"; {sentence}" for sentence in found.sums())
    sentence = f"{found.here} alive here, {found.there} in the list: {_count(len(found.differences))}{told}"
    context.say(f"{sentence}.")
    code = NEEDS_PERSON if found.differences else DONE
    return context.note(home, f"reconcile inventory {file}", code, sentence)


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
        raise wrong_value("--since", error) from None


@command(app, "backup")
@click.argument("destination", metavar="DEST")
def backup(context: Context, destination: str) -> int:
    """Copy the home to DEST, consistent while other runs go on: a folder, or one file (.tar.zst, .tar.gz, .tar)."""
    from metering.cli.progress import steps
    from metering.recovery.backup import back_up

    home = context.open()
    try:
        with steps(context, "files") as show:
            show(0, 0, f"copying to {destination}")
            manifest = back_up(home, Path(destination))
    except MeteringError as error:
        context.note(home, f"backup {destination}", error.exit_code, error.message)
        raise
    size = sum(entry.bytes for entry in manifest.files.values())
    sentence = f"{len(manifest.files)} files, {size:,} bytes"
    context.say(f"{destination}: {sentence}.")
    # Recorded when it is whole: the copy does not hold a run that never ended there.
    return context.note(home, f"backup {destination}", DONE, sentence)


@command(app, "restore")
@click.argument("backup", required=False)
def restore(context: Context, backup: str | None) -> int:
    """Put a backup's files back into the home, and bring an older ledger to where it was.

    Without BACKUP: the ledger was put back by hand, or is lost. Nothing that is there is overwritten; what the ledger
    lacks is taken from the lake, and from the gateway's list. Exit 3 if a payment needs a person.
    """
    from metering.cli.progress import steps
    from metering.recovery.restore import restore as run

    home = Path(context.home_path or os.environ.get("METERING_HOME") or ".")
    with steps(context, "files") as show:
        return run(home, Path(backup) if backup else None, context.clock(), context.say, show)
