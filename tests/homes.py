"""A home in a temporary folder, the commands that run in it, and stories of such commands.

A story is a text that a person can check with a pencil: files, commands with their exit codes, and the rows
that reports must show. `Home.tell` runs one.

    # a remark: the arithmetic
    now 2026-06-01T08:00:00Z              the clock of what follows
    file prices.csv                       the indented lines are its content
        sku,region,…
    events may.jsonl                      the indented lines are events, written into the inbox
        2026-05-03T10 ready s1 acc=acc-1 gb=100
    $ close 2026-05 => 3                  a command and its exit code (0 if it is left out)
    > text                                is on its standard output
    ! text                                is on its standard error
    = invoices --month 2026-05            a report: all of its rows, in the columns named first; `-` is empty
        invoice             total
        INV-2026-05-000001  12.00
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
import shlex
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pyarrow.parquet as pq
import sqlalchemy as sa
from click.testing import CliRunner
from ledgers import DEFAULT_URL, ledger_url, with_ledger

from metering.cli.app import app, load_commands
from metering.config import load_config
from metering.ledger.book import Book, open_book
from metering.ledger.tables import metadata
from metering.payments import desk
from metering.payments.desk import WORKERS

load_commands()

ACCOUNTS = "account_id,name,email,country,currency,tax_rate,payment_customer,payment_method"
FUNDS = "account_id,kind,amount,currency,reference,expires"
PRICES = "sku,region,currency,price_per_gb_hour,effective_from,account_id"
KILLED = -signal.SIGKILL
GIGABYTE = 10**9

_TYPES = {
    **{name: f"snapshot.{name}" for name in ("creating", "ready", "resized", "failed", "deleted")},
    "vm-deleted": "vm.deleted",
    "retracted": "event.retracted",
}
_KEPT = (
    *("account_versions", "closes", "close_accounts", "close_files", "funds", "intents", "invoice_lines", "invoices"),
    *("invoice_status", "month_prices", "payments", "price_lists", "returns", "withheld"),
)
_NAMES_OF_RUNS = ("run", "transaction", "recorded", "gateway_ref", "charge")
"""Columns that name a run, or the order in which things were recorded, or objects at the gateway."""
_UNPUBLISHED = "\n[reports]\npublish = false\n"
"""Writing every report after every close takes a second, which only the tests of that file need."""
_READY = {"acc": "acc-1", "prj": "prj-1", "reg": "eu", "type": "vm", "gb": "1"}
_FIELDS = {"acc": "account_id", "prj": "project_id", "reg": "region", "type": "resource_type", "res": "resource_id"}


def event(line: str) -> dict[str, Any]:
    """An event of a short line: `TIME KIND SUBJECT [field=value …]`; the same line is the same event."""
    time, kind, subject, *rest = line.split()
    said = dict(word.split("=", 1) for word in rest)
    if kind == "ready":
        said = {"res": f"vm-of-{subject}", **_READY, **said}
    if len(time) == len("2026-05-03"):
        time += "T00"
    if len(time) == len("2026-05-03T10"):
        time += ":00:00"
    made = {
        "specversion": "1.0",
        "id": said.pop("id", f"{subject}/{kind}/{time}"),
        "source": said.pop("source", "/compute"),
        "type": _TYPES[kind],
        "subject": subject,
        "time": time if time.endswith("Z") or "+" in time else f"{time}Z",
    }
    size = said.pop("bytes", None)
    gigabytes = said.pop("gb", None)
    data: dict[str, Any] = {_FIELDS.get(name, name): value for name, value in said.items()}
    if size is not None or gigabytes is not None:
        data["size_bytes"] = int(size) if size is not None else int(gigabytes or 0) * GIGABYTE
    return {**made, "data": data}


def event_lines(text: str) -> str:
    """JSON Lines of short lines."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return "".join(json.dumps(event(line)) + "\n" for line in lines if line)


@dataclass
class Result:
    """How a command ended, and what it said."""

    exit_code: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f"exit {self.exit_code}\n--- stdout\n{self.stdout}--- stderr\n{self.stderr}"


@dataclass
class Home:
    """A home on disk; `now` is the clock of the next command."""

    path: Path
    now: str = "2026-06-01T08:00:00Z"
    config: str = ""
    last: Result = field(default_factory=lambda: Result(0, "", ""))

    def __post_init__(self) -> None:
        if not self.path.exists():
            self.path.mkdir(parents=True)
            (self.path / "inbox").mkdir()
            self.file("metering.toml", self.config)
            self.prices()

    # What is given

    def file(self, name: str, text: str) -> Path:
        """A file in the home."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "metering.toml" and "[reports]" not in text:
            text += _UNPUBLISHED
        path.write_text(with_ledger(self.path, text) if name == "metering.toml" else text)
        return path

    def prices(self, *rows: str) -> None:
        """The current price list: rows of prices.csv."""
        self.file("prices.csv", "\n".join((PRICES, *rows, "")))

    def accounts(self, *rows: str) -> None:
        """Accounts, imported: `account,currency,tax rate,card`."""
        made = []
        for row in rows:
            account, currency, rate, card = row.split(",")
            made.append(f"{account},Name of {account},,DE,{currency},{rate},{f'cus_{account}' if card else ''},{card}")
        self.run("accounts", "import", str(self.file("accounts.csv", "\n".join((ACCOUNTS, *made, "")))))

    def funds(self, *rows: str) -> None:
        """Money, imported: rows of a funds file."""
        self.run("funds", "import", str(self.file("funds.csv", "\n".join((FUNDS, *rows, "")))))

    def events(self, text: str, name: str = "events.jsonl") -> None:
        """Events that wait in the inbox."""
        self.file(f"inbox/{name}", event_lines(text))

    # What is run

    def run(self, *args: str, now: str | None = None, exit_code: int | None = 0) -> Result:
        """Run a command in this process; its exit code must be the given one (None: any)."""
        with _quiet_environment():
            done = CliRunner().invoke(app, ["--home", str(self.path), "--now", now or self.now, *args])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        self.last = Result(done.exit_code, done.stdout, done.stderr)
        assert exit_code in (None, done.exit_code), f"{shlex.join(args)}: {self.last}"
        return self.last

    def start(
        self, *args: str, failpoint: str = "", limit_bytes: int = 0, workers: int = WORKERS
    ) -> multiprocessing.Process:
        """Start a command in a process of its own, which may be killed at a failpoint or hindered by a full disk.

        So many of its charges run at once: which of them gets how far before a kill is chance unless it is one.
        """
        words = ["--home", str(self.path), "--now", self.now, *args]
        environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        environment |= {"METERING_FAILPOINT": failpoint, "METERING_STATE_FROM": os.environ.get("METERING_STATE_FROM")}
        process = _SERVER.Process(target=_serve, args=(words, environment, limit_bytes, workers, str(self._said)))
        process.start()
        return process  # type: ignore[return-value]

    def run_apart(
        self, *args: str, failpoint: str = "", limit_bytes: int = 0, workers: int = WORKERS, seconds: int = 6000
    ) -> Result:
        """Run a command in a process of its own; the exit code of a killed one is KILLED."""
        process = self.start(*args, failpoint=failpoint, limit_bytes=limit_bytes, workers=workers)
        process.join(seconds)
        assert process.exitcode is not None, f"{shlex.join(args)} did not end"
        return Result(process.exitcode, "", self._said.read_text() if self._said.exists() else "")

    @property
    def _said(self) -> Path:
        return self.path.with_name(f"{self.path.name}.said")

    # What came of it

    def report(self, name: str, *args: str) -> list[dict[str, str]]:
        """The rows of a report, every value as it is printed."""
        done = self.run("report", name, *args, "--format", "csv")
        return list(csv.DictReader(io.StringIO(done.stdout)))

    def column(self, name: str, column: str, *args: str) -> list[str]:
        """One column of a report."""
        return [row[column] for row in self.report(name, *args)]

    def ledger(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table of the ledger, as they are stored."""
        return self._ledger(table)[table]

    def _ledger(self, *names: str) -> dict[str, list[dict[str, Any]]]:
        book = self.book
        with book.read() as con:
            asked = {name: sa.select(metadata().tables[name]).order_by(sa.text("1, 2")) for name in names}
            found = {name: [dict(row) for row in con.execute(query).mappings()] for name, query in asked.items()}
        book.close()
        return found

    @property
    def book(self) -> Book:
        """The ledger, opened anew."""
        return open_book(load_config(self.path / "metering.toml").ledger.url, self.path)

    def captures(self) -> list[dict[str, str]]:
        """The sandbox's own record of money that left cards."""
        path = self.path / "sandbox" / "captures.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def state(self) -> dict[str, Any]:
        """Everything that was taken in, billed, booked and charged; without what names runs and transactions."""
        ledger = self._ledger(*_KEPT, "transactions", "entries")
        tables = {name: sorted(_without(ledger[name], *_NAMES_OF_RUNS), key=str) for name in _KEPT}
        heads = {row["transaction"]: row for row in ledger["transactions"]}
        entries = [
            {**row, "kind": heads[row["transaction"]]["kind"], "posted_at": heads[row["transaction"]]["posted_at"]}
            for row in ledger["entries"]
        ]
        files = {
            str(path.relative_to(self.path)): _rows_of(path.read_bytes())
            for path in (self.path / "lake").rglob("*.parquet")
            if not path.name.startswith(".") and path.relative_to(self.path).parts[:2] != ("lake", "state")
        }
        return {
            **tables,
            "entries": sorted(map(str, _without(entries, "entry", *_NAMES_OF_RUNS))),
            "captures": sorted(map(str, _without(self.captures(), "intent"))),
            "files": files,
            "inbox": sorted(str(p.relative_to(self.path)) for p in self.path.glob("inbox/**/*") if p.is_file()),
        }

    def fingerprint(self) -> dict[str, str]:
        """The hash of every file in the home, but for SQLite's shared memory and an empty log: both say nothing."""
        return {
            str(path.relative_to(self.path)): sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and path.suffix != ".db-shm" and (path.suffix != ".db-wal" or path.stat().st_size)
        }

    # Stories

    def tell(self, story: str) -> None:
        """Run a story."""
        for number, head, body in _steps(story):
            try:
                self._step(head, body)
            except AssertionError as error:
                raise AssertionError(f"line {number}: {head}\n{error}") from error

    def _step(self, head: str, body: list[str]) -> None:
        word, _, rest = head.partition(" ")
        if word == "now":
            self.now = rest
        elif word == "file":
            self.file(rest, "\n".join((*body, "")))
        elif word == "events":
            self.events("\n".join(body), rest)
        elif word == "$":
            command, _, code = rest.partition("=>")
            self.run(*(self._argument(word) for word in shlex.split(command)), exit_code=int(code or 0))
        elif word in (">", "!"):
            said = self.last.stdout if word == ">" else self.last.stderr
            assert rest in said, f"not said: {rest}\n{self.last}"
        elif word == "=":
            self._compare(*shlex.split(rest), expected=[line.split() for line in body])
        else:
            raise ValueError(head)

    def _argument(self, word: str) -> str:
        return str(self.path / word) if (self.path / word).is_file() else word

    def _compare(self, name: str, *args: str, expected: list[list[str]]) -> None:
        columns, *rows = expected
        found = [[row[column] or "-" for column in columns] for row in self.report(name, *args)]
        assert found == rows, f"{name}: {columns}\nfound    {found}\nexpected {rows}"


def _steps(story: str) -> Iterator[tuple[int, str, list[str]]]:
    head, at, body = "", 0, []
    for number, line in enumerate(story.splitlines(), 1):
        if line.startswith("#") or not line.strip():
            continue
        if line.startswith(" "):
            body.append(line.strip())
            continue
        if head:
            yield at, head, body
        head, at, body = line.strip(), number, []
    if head:
        yield at, head, body


@lru_cache(maxsize=1000)
def _rows_of(content: bytes) -> list[str]:
    """The rows of a Parquet file; the same file lies in many copies of a home."""
    return sorted(map(str, pq.ParquetFile(io.BytesIO(content)).read().to_pylist()))


def _without(rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in names} for row in rows]


@contextmanager
def _quiet_environment() -> Iterator[None]:
    """No METERING_… variable of the caller's reaches a command that is run here, but for the state's threshold."""
    names = {name for name in os.environ if name.startswith("METERING_")} - {"METERING_STATE_FROM"}
    kept = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(kept)


# Homes that begin alike


def begun(beginning: Callable[[Home], object]) -> Callable[[Path], Home]:
    """Makes homes with a beginning; a worker plays it once and copies it, unless a server keeps the ledgers."""

    @cache
    def first() -> Home:
        home = Home(Path(mkdtemp()) / "home")
        beginning(home)
        return home

    def given(path: Path) -> Home:
        if ledger_url(path) != DEFAULT_URL:
            home = Home(path)
            beginning(home)
            return home
        shutil.copytree(first().path, path)
        return replace(first(), path=path)

    return given


# Processes of their own: forked from a server that has imported everything, which is ten times quicker.

_SERVER = multiprocessing.get_context("forkserver")
PRELOADED = (
    *("duckdb", "pyarrow.parquet", "sqlalchemy.dialects.sqlite"),
    *("metering.cli.decisions", "metering.cli.finance", "metering.cli.jobs", "metering.cli.operations"),
    *("metering.close.run", "metering.nightly", "metering.reports.publish", "metering.reports.forecast"),
    *("metering.telling.metrics", "metering.telling.ping", "sqlalchemy.dialects.postgresql"),
    *("metering.payments.sandbox", "metering.payments.stripe", "stripe", "requests", "forked"),
)
_SERVER.set_forkserver_preload([*PRELOADED])


def run_until(point: str, work: Callable[..., object], *args: Any) -> int:
    """Have a function of the engine's run in a process of its own, which dies at a failpoint; its exit code."""
    process = _SERVER.Process(target=_work_until, args=(point, work, args))
    process.start()
    process.join(60)
    assert process.exitcode is not None, f"{work} did not end"
    return process.exitcode


def _work_until(point: str, work: Callable[..., object], args: tuple[Any, ...]) -> None:
    os.environ["METERING_FAILPOINT"] = point
    work(*args)
    os._exit(0)


def _serve(words: list[str], environment: Mapping[str, str | None], limit_bytes: int, workers: int, said: str) -> None:
    desk.WORKERS = workers
    for name in [name for name in os.environ if name.startswith("METERING_")]:
        del os.environ[name]
    os.environ.update({name: value for name, value in environment.items() if value})
    if limit_bytes:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    stderr = io.StringIO()
    code: Any = 1
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(stderr):
            app(words, prog_name="metering")
    except SystemExit as end:
        code = end.code
    except Exception:
        traceback.print_exc(file=stderr)
    finally:
        Path(said).write_text(stderr.getvalue()[: limit_bytes or None])
    os._exit(int(code or 0))
