"""What the operator looks after"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from metering.cli.app import Context, app, command, group
from metering.cli.finance import print_report
from metering.cli.options import month_of, output_format, printed
from metering.errors import DONE, NEEDS_PERSON, MeteringError, UsageError, wrong_value
from metering.values import counted


@command(app, "status")
def status(context: Context) -> int:
    """What is closed, what is open, and what needs a person."""
    from metering.status import sentences

    for sentence in sentences(context.open()):
        click.echo(sentence)
    return DONE


@command(app, "runs")
@printed
def runs(context: Context, format: str | None, output: str | None) -> int:
    """What ran, when, and how it ended: the report `runs`."""
    return print_report(context, "runs", format=format, output=output)


@command(app, "doctor")
@printed
def doctor(context: Context, format: str | None, output: str | None) -> int:
    """Look before anything goes wrong.

    Writes nothing, takes no lock. Exit 3 if something needs a person.
    """
    import pyarrow as pa

    from metering.doctor import examine
    from metering.reports.catalog import operations
    from metering.reports.render import Asked, write

    report = operations()["doctor"]
    found = [(name, *finding) for name, finding in examine(context.path, context.clock())]
    columns = [pa.array(values, pa.string()) for values in zip(*found, strict=True)]
    table = pa.table(columns, names=[column.name for column in report.columns])
    write(Asked(report, table, 1, {}), output_format(format, output), output)
    counts = {state: sum(row[1] == state for row in found) for state in ("fail", "warn")}
    if not any(counts.values()):
        context.say(f"{len(found)} findings, all well.")
        return DONE
    context.say(f"{len(found)} findings: {counts['fail']} fail, {counts['warn']} warn.")
    return NEEDS_PERSON


@command(app, "verify")
def verify(context: Context) -> int:
    """Prove every invariant of events, invoices and books.

    Exit 3 if one does not hold.
    """
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


@group("reconcile")
def reconcile(context: Context) -> None:
    """Hold the books against what others say.

    Exit 3 if anything differs. Only the run is recorded.
    """


@command(reconcile, "gateway")
@click.option("--since", metavar="TIME", help="Only what was made from then on: a date or RFC 3339.")
@printed
def reconcile_gateway(context: Context, since: str | None, format: str | None, output: str | None) -> int:
    """Compare the ledger with the gateway's own list, both ways."""
    from metering.reconcile.gateway import reconcile_gateway as run
    from metering.reports.catalog import reconciliations
    from metering.reports.render import write_rows

    home = context.open()
    found = run(home, _since(since, home.config.billing.zone))
    report = reconciliations()["gateway"]
    write_rows(home, report, found.table(), output_format(format, output), output)
    foreign = f" ({found.foreign} more name no invoice of ours)" if found.foreign else ""
    sentence = f"{counted(found.intents, 'intent')} compared{foreign}: {_count(len(found.differences))}"
    context.say(f"{sentence}.")
    words = f"reconcile gateway{f' --since {since}' if since else ''}"
    return context.note(home, words, NEEDS_PERSON if found.differences else DONE, sentence)


@command(reconcile, "inventory")
@click.argument("file")
@printed
def reconcile_inventory(context: Context, file: str, format: str | None, output: str | None) -> int:
    """Compare the snapshots held for alive with the provider's.

    FILE is the provider's list: CSV or JSON Lines with snapshot_id.
    """
    from metering.reconcile.inventory import reconcile_inventory as run
    from metering.reports.catalog import reconciliations
    from metering.reports.render import write_rows

    home = context.open()
    found = run(home, file)
    report = reconciliations()["inventory"]
    write_rows(home, report, found.table(), output_format(format, output), output)
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
    """Copy the home, while other runs go on.

    DEST is a folder, or one file (.tar.zst, .tar.gz, .tar).
    """
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
    sentence = f"{counted(len(manifest.files), 'file')}, {size:,} bytes"
    context.say(f"{destination}: {sentence}.")
    # Recorded when it is whole: the copy does not hold a run that never ended there.
    return context.note(home, f"backup {destination}", DONE, sentence)


@command(app, "restore")
@click.argument("backup", required=False)
def restore(context: Context, backup: str | None) -> int:
    """Put back what is lost, and catch up with lake and gateway.

    Puts the files of BACKUP back into the home, and brings an older ledger to where it was. Without BACKUP: the
    ledger was put back by hand, or is lost. Nothing that is there is overwritten; what the ledger
    lacks is taken from the lake, and from the gateway's list. Exit 3 if a payment needs a person.
    """
    from metering.cli.progress import steps
    from metering.recovery.restore import restore as run

    with steps(context, "files") as show:
        return run(context.path, Path(backup) if backup else None, context.clock(), context.say, show)


@command(app, "upgrade")
@click.option("--backup", metavar="DEST", help="Where the backup goes; left out, into backups/ of the home.")
def upgrade(context: Context, backup: str | None) -> int:
    """Bring the data of an earlier version to this one.

    A backup is made first.
    """
    from metering.recovery.upgrade import upgrade as run_upgrade

    home = context.open(checked=False)
    if not run_upgrade(home, context.say, Path(backup) if backup else None):
        context.say("Everything is of this version.")
        return DONE
    with home.run("upgrade") as run:
        run.say("upgraded")
    return DONE


@command(app, "compact")
@click.option("--least", type=click.IntRange(2), default=16, show_default=True, help="Neighbouring small files.")
@click.option("--archive-before", "month", metavar="MONTH", help="Move out raw lines that came before this month.")
@click.option("--to", "folder", metavar="DIR", help="Where they go.")
def compact(context: Context, least: int, month: str | None, folder: str | None) -> int:
    """Merge many small files of the lake into few large ones.

    Nothing that anybody sees changes.


    With --archive-before and --to, raw lines that came in before a month move to a folder. All months before it must be
    closed. Events stay, and the hashes of what was moved: a file that is put back is proved by `verify`.
    """
    from metering.cli.progress import steps
    from metering.close.order import closed_months
    from metering.lake.compaction import compact as run_compact
    from metering.lake.raw import archive

    if (month is None) != (folder is None):
        raise UsageError("--archive-before and --to go together.", remedy="Name the month and the folder, or neither.")
    home = context.open()
    before = month_of(month) if month else None
    if before:
        with home.book.read() as con:
            closed = closed_months(con)
        if not closed or closed[-1].plus(1) < before:
            raise UsageError(
                f"{before}: a month before it is not closed.",
                unchanged="Nothing was moved.",
                remedy="Close it first, or name an earlier month.",
            )
    with home.lock(), home.run("compact") as run:
        home.check_lake()
        with steps(context, "files") as show:
            done = run_compact(home.lake, least=least, memory_limit=home.config.engine.memory_limit, show=show)
        sentence = (
            "nothing to merge" if done.before == done.after else f"{counted(done.before, 'file')} became {done.after}"
        )
        run.say(sentence)
        context.say(sentence + ("" if done.before == done.after else "; `metering gc` removes the old ones later"))
        if before and folder:
            moved = archive(home.lake, before.bounds(home.config.billing.zone)[0], Path(folder).absolute())
            files = counted(moved.files, "file")
            sentence = f"{files} of raw lines archived ({moved.bytes:,} bytes, to batch {moved.through})"
            run.say(f"{sentence} in {folder}")
            context.say(f"{sentence} in {folder}")
    return DONE


@command(app, "gc")
@click.option("--dry-run", is_flag=True, help="Only name what would go.")
@click.option("--grace", "hours", type=click.IntRange(0), default=24, show_default=True, help="Hours; younger stays.")
def gc(context: Context, dry_run: bool, hours: int) -> int:
    """Remove what nothing needs any more.

    Files of killed runs, and those that were merged into others.
    """
    from metering.lake.sweep import unneeded
    from metering.ledger.runs import last_known_batch

    home = context.open()
    if dry_run:
        with home.book.read() as con:
            known = last_known_batch(con)
        for refuse in unneeded(home.lake, home.path, home.now, hours, known):
            click.echo(refuse.what.removeprefix(f"{home.path}/"))
        return DONE
    with home.lock(), home.run("gc") as run:
        with home.book.read() as con:
            known = last_known_batch(con)
        gone = unneeded(home.lake, home.path, home.now, hours, known)
        for refuse in gone:
            refuse.remove()
        size = sum(refuse.bytes for refuse in gone)
        return context.done(run, f"{counted(len(gone), 'file or folder', 'files or folders')} removed, {size:,} bytes")
