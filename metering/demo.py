"""`metering demo`: the sample data through three closed months, told on the terminal, in a home to play with."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metering import story
from metering.checks.verify import verify
from metering.clock import Clock
from metering.errors import DONE, NEEDS_PERSON, UsageError
from metering.home import Home
from metering.reports.ask import Filter, ask
from metering.reports.catalog import reports
from metering.reports.publish import publish
from metering.reports.render import rows_of
from metering.values import Month, to_datetime

if TYPE_CHECKING:
    from rich.console import Console

    from metering.cli.app import Context

DEFAULT = "metering-demo"
PENCIL = "acc-aurora"
"""The account whose arithmetic is shown: its figures fit a pencil."""

WHAT = {
    "nightly": "night",
    "close": "close",
    "accounts": "accounts",
    "funds": "funds",
    "act": "customer",
}
EVERYTHING = Filter()
Row = dict[str, Any]


def run_demo(directory: str | None, context: Context) -> int:
    """Play the sample in a fresh folder and show what came of it."""
    from rich.console import Console

    path = Path(directory or context.home_path or DEFAULT)
    _check_fresh(path)
    console = Console(highlight=False, quiet=context.quiet)
    try:
        story.make_home(path)
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"{path} cannot be a home: {why}.", remedy="Name another folder.") from None
    _greet(console, path)
    last = 0
    for played in story.play(path):
        _tell(console, played)
        last = played.step.at
    home = Home(path, Clock(last))
    _show_refused(console, home)
    _show_arithmetic(console, home)
    _show_correction(console, home)
    _show_invoices(console, home)
    clean = _show_books(console, home)
    publish(home)
    _say_goodbye(console, path)
    return DONE if clean else NEEDS_PERSON


def _check_fresh(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(
            f"{path} is not an empty folder.",
            unchanged="Nothing was written.",
            remedy="Name a new folder: `metering demo DIR`.",
        )


def _rows(home: Home, name: str, wanted: Filter = EVERYTHING) -> list[Row]:
    """The rows of a report as they are printed."""
    report = reports()[name]
    names = [column.name for column in report.columns]
    table = ask(home, name, wanted)
    return [dict(zip(names, row, strict=True)) for row in rows_of(report, table, home.config.billing.gigabyte_bytes)]


def _title(console: Console, text: str) -> None:
    console.print()
    console.print(f"[bold]{text}[/bold]")


def _greet(console: Console, path: Path) -> None:
    _title(console, f"Three months of a small cloud provider, played in {path}")
    console.print(
        "Twelve accounts, two regions, three currencies; the cards are the sandbox's. Every step below is what"
        " the command of that name does, at the time on the left; nights in which nothing came are left out. Exit 3"
        " means: done, and a person should look."
    )
    console.print()


def _tell(console: Console, played: story.Played) -> None:
    from rich.table import Table
    from rich.text import Text

    step = played.step
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=6, no_wrap=True)
    grid.add_column(width=8, no_wrap=True)
    grid.add_column()
    said = [line for line in played.said if not line.startswith(("the last night", "anomalies:", "Look at"))]
    if step.do == "act":
        said = [f"{step.what} passes 3-D Secure for {line}; only the gateway knows yet" for line in said]
    elif step.do in ("accounts", "funds"):
        said = [f"{step.what}: {line}" for line in said]
    if played.exit_code:
        said.append(f"exit {played.exit_code}")
    day = f"{to_datetime(step.at):%d %b}"
    for count, line in enumerate(said):
        style = "yellow" if line.startswith("exit") else ("bold" if step.do == "close" and count == 0 else "")
        grid.add_row(*(("", "") if count else (day, WHAT[step.do])), Text(line.strip(), style=style))
    console.print(grid)


def _table(console: Console, columns: str, rows: Sequence[tuple[str, ...]]) -> None:
    """A small table; the columns after | are numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    texts, _, numbers = columns.partition("|")
    for name in texts.split():
        table.add_column(name, overflow="fold", no_wrap=name != "why")
    for name in numbers.split():
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(value) for value in row))
    console.print(table)


def _show_refused(console: Console, home: Home) -> None:
    manifest = home.lake.manifest()
    events = sum(batch.events.rows for batch in manifest.batches if batch.events)
    refused = _rows(home, "quarantine")
    _title(console, "What came in, and what was refused")
    console.print(
        f"{events} events in {len(manifest.batches)} batches; repeats were dropped; {len(refused)} lines are in"
        " quarantine, each with the reason, and none was repaired or guessed:"
    )
    console.print()
    _table(console, "where reason why", [(f"{r['file']}:{r['line']}", r["reason"], r["message"]) for r in refused])


def _show_arithmetic(console: Console, home: Home) -> None:
    month = Month.parse("2026-03")
    first = _rows(home, "invoice-lines", Filter(month, month, PENCIL))[0]
    _title(console, f"From GB-hours to money: {PENCIL} in {month}")
    rows = []
    for usage in _rows(home, "usage-by-snapshot", Filter(month, month, PENCIL)):
        size = Decimal(usage["size_bytes"]) / home.config.billing.gigabyte_bytes
        hours = Decimal(usage["gb_hours"]) / size
        figures = (f"{size:f}", f"{hours.normalize():f}", _plain(usage["gb_hours"]))
        rows.append((str(usage["snapshot_id"]), str(usage["name"]), *figures))
    _table(console, "snapshot name | GB hours GB-hours", rows)
    exact = Decimal(first["gb_hours"]) * Decimal(first["price_per_gb_hour"])
    console.print()
    console.print(
        f"{_plain(first['gb_hours'])} GB-hours × {first['price_per_gb_hour']} {first['currency']}"
        f" = {exact.normalize():f}, rounded once: {first['amount']} {first['currency']}"
    )


def _plain(number: str) -> str:
    return f"{Decimal(number).normalize():,f}"


def _show_correction(console: Console, home: Home) -> None:
    lines = _rows(home, "invoice-lines", Filter(account_id=PENCIL))
    month = next(line["month"] for line in lines if line["kind"] == "adjustment")
    _title(console, "A late event corrects a closed month, in the next invoice")
    ended = next(u for u in _rows(home, "usage-by-snapshot", Filter(account_id=PENCIL)) if u["ended_at"] > "2026-04")
    console.print(
        f"{ended['snapshot_id']} was deleted on {ended['ended_at'][:10]}. The event came on 8 May, after April had"
        " been closed. April's invoice stays as it was issued; May's takes back what was too much:"
    )
    console.print()
    about = [line for line in lines if line["month"] == month]
    _table(
        console,
        "invoice kind for | GB-hours price amount",
        [
            (*(line[name] for name in ("invoice", "kind", "month")), _plain(line["gb_hours"]),
             line["price_per_gb_hour"], line["amount"])
            for line in about
        ],
    )  # fmt: skip
    console.print()
    console.print(
        f"Together {sum(Decimal(line['amount']) for line in about)} {about[0]['currency']}:"
        f" what {_plain(str(sum(Decimal(line['gb_hours']) for line in about)))} GB-hours of {month} cost."
        " (The price changed on 16 April, so April has two lines.)"
    )


def _show_invoices(console: Console, home: Home) -> None:
    invoices = _rows(home, "invoices")
    last = invoices[-1]["month"]
    _title(console, f"Who paid how: the {len(invoices)} invoices' last month, {last}")
    columns = ("total", "brought_forward", "credit_applied", "balance_applied", "card_charged", "amount_due")
    rows = [
        (i["account_id"].removeprefix("acc-"), i["currency"], i["status"], *(_dash(i[name]) for name in columns))
        for i in invoices
        if i["month"] == last
    ]
    _table(console, "account cur. status | total brought credit balance card due", rows)
    console.print()
    console.print(
        "juniper: a capture of April was retracted, so money came back to the balance. harbor: too little for a"
        " card, carried to the next invoice. nimbus: April too, for its account was known only in May. lumen: the"
        " card is declined; the next nights try again."
    )
    _title(console, "Payments that did not go straight")
    tries = _rows(home, "payments")
    twice = {payment["invoice"] for payment in tries if payment["status"] != "succeeded" or payment["attempt"] > 1}
    waited = {payment["invoice"] for payment in tries if payment["settled_at"] != payment["created_at"]}
    _table(
        console,
        "invoice account day outcome | amount",
        [
            (p["invoice"], p["account_id"].removeprefix("acc-"), p["settled_at"][5:10],
             ": ".join(filter(None, (p["status"], p["reason"]))), p["amount"])
            for p in tries
            if p["invoice"] in twice | waited
        ],
    )  # fmt: skip
    console.print()
    console.print(
        "birch: declined twice, then the new card worked. cedar: 3-D Secure, read back as paid. ember: no card;"
        " a top-up paid it. One payment intent per invoice, so nobody can be charged twice."
    )


def _dash(amount: str) -> str:
    return amount if Decimal(amount) else "·"


def _show_books(console: Console, home: Home) -> bool:
    _title(console, "The books")
    sums: dict[str, list[Decimal]] = defaultdict(lambda: [Decimal(0), Decimal(0)])
    for entry in _rows(home, "ledger"):
        for side, name in enumerate(("debit", "credit")):
            sums[entry["currency"]][side] += Decimal(entry[name])
    for currency, (debit, credit) in sorted(sums.items()):
        console.print(f"{currency}: debit {debit:,f}, credit {credit:,f}, difference {debit - credit:f}")
    checks = list(verify(home))
    found = [f"{name}: {problem}" for name, problems in checks for problem in problems]
    console.print(f"verify: {len(checks)} checks, {len(found) or 'nothing'} found")
    for problem in found:
        console.print(f"  {problem}", markup=False)
    return not found


def _say_goodbye(console: Console, path: Path) -> None:
    _title(console, f"The home is yours: {path}")
    console.print(f"  export METERING_HOME={shlex.quote(str(path.absolute()))}", soft_wrap=True, markup=False)
    for command in (
        "status",
        "report invoices --month 2026-05",
        "usage --by snapshot --account acc-aurora --month 2026-04",
        "report invoice-lines --account acc-nimbus",
        "nightly --now 2026-06-04T02:00:00Z",
    ):
        console.print(f"  metering {command}", soft_wrap=True, markup=False)
