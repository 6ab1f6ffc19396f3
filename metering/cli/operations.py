"""The commands of the operator: doctor, compact, gc, upgrade."""

from __future__ import annotations

import os
from pathlib import Path

import click

from metering.cli.app import Context, app, command, output_format
from metering.cli.commands import FORMATS, month_of
from metering.errors import DONE, NEEDS_PERSON, UsageError


def _path(context: Context) -> Path:
    return Path(context.home_path or os.environ.get("METERING_HOME") or ".")


@command(app, "doctor")
@click.option("--format", "format", type=click.Choice(FORMATS))
@click.option("--output", metavar="FILE", help="Write to a file.")
def doctor(context: Context, format: str | None, output: str | None) -> int:
    """Look before anything goes wrong. Writes nothing, takes no lock. Exit 3 if something needs a person."""
    import pyarrow as pa

    from metering.doctor import examine
    from metering.reports.catalog import operations
    from metering.reports.render import Asked, write

    report = operations()["doctor"]
    found = [(name, *finding) for name, finding in examine(_path(context), context.clock())]
    columns = [pa.array(values, pa.string()) for values in zip(*found, strict=True)]
    table = pa.table(columns, names=[column.name for column in report.columns])
    write(Asked(report, table, 1, {}), output_format(format), output)
    counts = {state: sum(row[1] == state for row in found) for state in ("fail", "warn")}
    if not any(counts.values()):
        context.say(f"{len(found)} findings, all well.")
        return DONE
    context.say(f"{len(found)} findings: {counts['fail']} fail, {counts['warn']} warn.")
    return NEEDS_PERSON


@command(app, "compact")
@click.option("--least", type=click.IntRange(2), default=16, show_default=True, help="Neighbouring small files.")
@click.option("--archive-before", "month", metavar="MONTH", help="Move out raw lines that came before this month.")
@click.option("--to", "folder", metavar="DIR", help="Where they go.")
def compact(context: Context, least: int, month: str | None, folder: str | None) -> int:
    """Merge many small files into few large ones; nothing that anybody sees changes.

    With --archive-before and --to, raw lines that came in before a month move to a folder. All months before it must be
    closed. Events stay, and the hashes of what was moved: a file that is put back is proved by `verify`.
    """
    from metering.cli.progress import steps
    from metering.close.closed import closed_months
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
        sentence = "nothing to merge" if done.before == done.after else f"{done.before} files became {done.after}"
        run.say(sentence)
        context.say(sentence + ("" if done.before == done.after else "; `metering gc` removes the old ones later"))
        if before and folder:
            moved = archive(home.lake, before.bounds(home.config.billing.zone)[0], Path(folder).absolute())
            sentence = (
                f"{moved.files} files of raw lines ({moved.bytes:,} bytes, to batch {moved.through}) are archived"
            )
            run.say(f"{sentence} in {folder}")
            context.say(f"{sentence} in {folder}")
    return DONE


@command(app, "gc")
@click.option("--dry-run", is_flag=True, help="Only name what would go.")
@click.option("--grace", "hours", type=click.IntRange(0), default=24, show_default=True, help="Hours; younger stays.")
def gc(context: Context, dry_run: bool, hours: int) -> int:
    """Remove what nothing needs: files of killed runs, and those that were merged into others."""
    from metering.lake.sweep import unneeded
    from metering.ledger.standing import last_known_batch

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
        sentence = f"{len(gone)} files or folders removed, {sum(refuse.bytes for refuse in gone):,} bytes"
        run.say(sentence)
        context.say(sentence)
    return DONE


@command(app, "upgrade")
@click.option("--backup", metavar="DEST", help="Where the backup goes; left out, into backups/ of the home.")
def upgrade(context: Context, backup: str | None) -> int:
    """Bring data of an earlier version of metering to this one; a backup is made first."""
    from metering.recovery.upgrade import upgrade as run_upgrade

    home = context.open(checked=False)
    if not run_upgrade(home, context.say, Path(backup) if backup else None):
        context.say("Everything is of this version.")
        return DONE
    with home.run("upgrade") as run:
        run.say("upgraded")
    return DONE
