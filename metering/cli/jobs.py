"""What runs by itself"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from metering.cli.app import Context, app, command
from metering.cli.options import month_option
from metering.errors import DONE, NEEDS_PERSON, worst


@command(app, "init")
@click.argument("directory", required=False)
def init(context: Context, directory: str | None) -> int:
    """Write a new home: settings, a price list, an inbox.

    metering.toml, prices.csv, accounts.csv and inbox/, into DIRECTORY, or where the home is said to be. Nothing is
    overwritten.
    """
    from metering.setup import write_home

    for name, written in write_home(Path(directory) if directory else context.path):
        context.say(f"{'wrote' if written else 'kept '} {name}")
    return DONE


@command(app, "ingest")
@click.argument("sources", nargs=-1)
def ingest(context: Context, sources: tuple[str, ...]) -> int:
    """Read events from the inbox, or from SOURCES.

    Sources are files, folders, globs, s3:// URLs, and - for standard input. Exit 3 if lines were quarantined or a
    file could not be read.
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
        sentence = f"{'no batch' if result.batch is None else f'batch {result.batch}'}: {result.told}"
        context.done(run, sentence)
        for sentence in result.left():
            context.say(sentence)
        run.exit_code = NEEDS_PERSON if result.needs_person else DONE
    return run.exit_code


@command(app, "nightly")
def nightly(context: Context) -> int:
    """What cron runs every night.

    Takes the inbox, says what cannot be billed, retries cards, tells the platform, publishes reports and metrics.
    """
    from metering.cli.progress import steps
    from metering.nightly import run_nightly
    from metering.reports.publish import publish_reports

    home = context.open()
    with context.job(home, "nightly", needs_book=False) as run, steps(context, "accounts") as home.show:
        code = run_nightly(home, run, context.say)
        home.show(0, 0, "reports")
        run.exit_code = worst(code, publish_reports(home, run, context.say))
    return run.exit_code


@command(app, "close")
@click.argument("month", required=False)
@click.option("--dry-run", is_flag=True, help="Compute, print the hash of inputs and lines, write nothing.")
@click.option("--approve", metavar="HASH", help="Close only if inputs and lines still have this hash.")
def close(context: Context, month: str | None, dry_run: bool, approve: str | None) -> int:
    """Invoice a month that has ended, and charge the cards.

    Credit is used first, then balance, then the saved card. Without MONTH every ended month, in order.
    """
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
    """Read back open payments, use balance, try what is due."""
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
        if not outcome.counts:
            context.say("There is nothing to collect.")
        for sentence in card_sentences(home, run, outcome):
            context.done(run, sentence)
        for event in outcome.notable:
            context.say(f"look at {event.invoice}: {event.kind}{f' ({event.reason})' if event.reason else ''}")
        run.exit_code = worst(outcome.exit_code, tell(home, run, context.say))
    return run.exit_code


@command(app, "demo")
@click.argument("directory", required=False)
def demo(context: Context, directory: str | None) -> int:
    """Play three months of the sample data in a fresh folder.

    It leaves a home to play with.
    """
    from metering.demo import run_demo

    return run_demo(directory, context)
