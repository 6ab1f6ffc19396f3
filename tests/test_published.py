"""reports/reports.duckdb and `metering sql`: every report, documented, exact, current, and never in the way."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pyarrow.parquet as pq
import pytest
from homes import Home
from hypothesis import HealthCheck, given, settings
from readme import README
from reference import Event
from test_state_properties import nights, take

from metering.clock import Clock
from metering.errors import MeteringError
from metering.home import Home as RealHome
from metering.reports.ask import Filter, ask
from metering.reports.before import AS_BEFORE, NOTE, Before, file_before
from metering.reports.catalog import reports
from metering.reports.publish import FILE, NEEDS_MORE, OF_USAGE, publish, published, table_name
from metering.state import advance
from metering.values import Month, format_instant, parse_instant

PUBLISHING = "[reports]\npublish = true\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """May closed: 100 GB × 744 h × 0.001 USD, and 7 GB × 744 h × 0.5 JPY."""
    home = Home(tmp_path_factory.mktemp("made") / "home")
    home.file("metering.toml", PUBLISHING)
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,", "snapshot.vm,,JPY,0.5,2026-01-01,")
    home.accounts("acc-1,USD,10,pm_card_visa", "acc-j,JPY,0,pm_card_visa")
    home.events("2026-05-01 ready s1 gb=100\n2026-05-01 ready j1 acc=acc-j gb=7")
    home.run("close")
    return home.path


@pytest.fixture
def closed(made: Path, tmp_path: Path) -> Home:
    """That home, to play with."""
    return Home(Path(shutil.copytree(made, tmp_path / "home")))


def opened(path: Path) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(str(path), read_only=True)


@pytest.mark.parametrize("gone", ["allocations", "invoice_lines", "*"])
def test_what_was_billed_is_told_also_before_a_close_has_written_its_files(closed: Home, gone: str) -> None:
    """A close that was killed after its commit leaves files unwritten, and so may a hand that deletes one."""
    for file in (closed.path / "lake" / "closes" / "2026-05").glob(f"{gone}.parquet"):
        file.unlink()
    used = [("acc-1", "s1", "74400.000000000"), ("acc-j", "j1", "5208.000000000")]
    rows = closed.report("usage", "--billed", "--by", "snapshot")
    assert [(row["account_id"], row["snapshot_id"], row["gb_hours"]) for row in rows] == used
    assert closed.column("usage", "gb_hours", "--billed") == [hours for *_, hours in used]
    assert closed.column("allocations", "amount") == ["74.40", "2604"]


def test_the_file_explains_itself_anywhere(closed: Home, tmp_path: Path) -> None:
    """The close wrote it; copied away from a home that is gone, it has every report with every sentence."""
    copied = tmp_path / "elsewhere.duckdb"
    shutil.copy(closed.path / FILE, copied)
    shutil.rmtree(closed.path)
    # DuckDB's header: a checksum, its name, and the version of the storage; 64 is what DuckDB 1.0 reads.
    assert (copied.read_bytes()[8:12], int.from_bytes(copied.read_bytes()[12:20], "little")) == (b"DUCK", 64)
    con = opened(copied)
    assert {report.name for report in published()} == reports().keys() - NEEDS_MORE
    for report in published():
        (grain,) = con.execute(
            "SELECT comment FROM duckdb_tables() WHERE table_name = ?", [table_name(report)]
        ).fetchone()
        assert grain == report.grain
        query = "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index"
        for name in {report.name, table_name(report)}:
            columns = con.execute(query, [name]).fetchall()
            assert [column for column, _ in columns] == [column.name for column in report.columns]
            assert all(
                (said or "").startswith(column.doc) for (_, said), column in zip(columns, report.columns, strict=True)
            )
    # 74.40 and 7.44 tax; 7 GB × 744 h × 0.5 = 2,604.
    totals = con.execute('SELECT account_id, total FROM "invoices" ORDER BY 1').fetchall()
    assert totals == [("acc-1", Decimal("81.840")), ("acc-j", Decimal("2604.000"))]
    assert con.execute('SELECT gb_hours FROM "invoice-lines" ORDER BY 1').fetchall() == [
        (Decimal("5208.000000000"),),
        (Decimal("74400.000000000"),),
    ]


def test_any_duckdb_1_can_open_it(closed: Home) -> None:
    """The storage version in the file's header is that of DuckDB 1.2: 65."""
    header = (closed.path / FILE).read_bytes()[:64]
    assert header[8:12] == b"DUCK"
    assert int.from_bytes(header[12:20], "little") <= 65


def test_nightly_refreshes_it_and_leaves_nothing_else(closed: Home) -> None:
    """After the night it has the night's events."""
    query = "SELECT count(*) FROM usage_by_snapshot WHERE month = '2026-06'"
    with opened(closed.path / FILE) as con:
        assert con.execute(query).fetchone() == (2,)
    closed.events("2026-06-01 ready s2 gb=1", "june.jsonl")
    closed.run("nightly", now="2026-06-02T00:00:00Z")
    with opened(closed.path / FILE) as con:
        assert con.execute(query).fetchone() == (3,)
    assert [path.name for path in (closed.path / FILE).parent.iterdir()] == [FILE.name]


def test_a_file_that_cannot_be_written_does_not_stop_the_money(closed: Home) -> None:
    """The close is whole and says what failed; the night fails for it; the old file stays."""
    old = (closed.path / FILE).read_bytes()
    folder = (closed.path / FILE).parent
    shutil.move(folder, closed.path / "kept")
    folder.write_text("in the way")
    closed.now = "2026-07-01T08:00:00Z"
    done = closed.run("close")
    assert "reports.duckdb could not be written" in done.stderr
    assert closed.column("invoices", "status", "--month", "2026-06") == ["paid", "paid"]
    assert closed.run("nightly", now="2026-07-02T00:00:00Z", exit_code=1).stderr.count("could not be written") == 1
    folder.unlink()
    shutil.move(closed.path / "kept", folder)
    assert (closed.path / FILE).read_bytes() == old


def test_publishing_can_be_left_out(closed: Home) -> None:
    """`publish = false` writes no file; SQL works all the same."""
    shutil.rmtree((closed.path / FILE).parent)
    closed.file("metering.toml", "[reports]\npublish = false\n")
    closed.run("nightly", now="2026-06-02T00:00:00Z")
    assert not (closed.path / FILE).exists()
    assert closed.run("sql", "SELECT count(*) AS n FROM invoices", "--format", "csv").stdout == "n\n2\n"


# SQL


def test_sql_is_exact_and_current(closed: Home) -> None:
    """Decimals as text, times in UTC, numbers as numbers; what came in a moment ago counts."""
    query = "SELECT account_id, sum(total) AS total, max(issued_at) AS at, count(*) AS n FROM invoices GROUP BY 1"
    query += " ORDER BY 1"
    found = json.loads(closed.run("sql", query, "--format", "json").stdout)
    assert found == [
        {"account_id": "acc-1", "total": "81.84", "at": "2026-06-01T08:00:00Z", "n": 1},
        {"account_id": "acc-j", "total": "2604.00", "at": "2026-06-01T08:00:00Z", "n": 1},
    ]
    closed.events("2026-06-01T08 ready s2 gb=2", "new.jsonl")
    closed.run("ingest", now="2026-06-01T09:00:00Z")
    query = "SELECT gb_hours FROM \"usage-by-snapshot\" WHERE snapshot_id = 's2'"
    assert closed.run("sql", query, now="2026-06-01T09:00:00Z").stdout == "gb_hours\n2.000000000\n"


def test_a_notebook_opens_it_as_the_readme_says(closed: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every digit of money."""
    (row,) = [line for line in README.read_text("utf-8").splitlines() if line.lstrip().startswith("| a notebook |")]
    monkeypatch.chdir(closed.path)
    rows = eval(row.split("`")[1], {"duckdb": duckdb})
    assert list(rows.total) == [Decimal("81.840"), Decimal("2604.000")]


def test_what_a_query_may_give_fits_every_format(closed: Home) -> None:
    """Truth values, spans of time, and floats that are no number; a line with nothing in it is a line."""
    query = (
        "SELECT balance > 0 AS rich, 'a,b' AS t, INTERVAL 3 DAYS AS span, 'nan'::DOUBLE AS f,"
        " TIMESTAMP_NS '2026-06-01 00:00:00.000001001' AS at FROM balances LIMIT 1"
    )
    assert closed.run("sql", query).stdout == ('rich,t,span,f,at\nfalse,"a,b",3 days,nan,2026-06-01T00:00:00.000001Z\n')
    assert closed.run("sql", query, "--format", "table").stdout.splitlines()[2].split() == [
        "false", "a,b", "3", "days", "nan", "2026-06-01T00:00:00.000001Z",
    ]  # fmt: skip
    for name in ("a.parquet", "a.xlsx"):
        closed.run("sql", query, "--output", str(closed.path / name))
    assert pq.read_table(closed.path / "a.parquet").to_pylist()[0]["span"] == "3 days"
    row = [cell.value for cell in openpyxl.load_workbook(closed.path / "a.xlsx")["query"][2]]
    assert row == [False, "a,b", "3 days", "nan", datetime(2026, 6, 1, 0, 0, 0, 0)]  # noqa: DTZ001  cells have no zone
    assert closed.run("sql", "SELECT NULL AS n UNION ALL SELECT 'x'").stdout == 'n\n""\nx\n'


def test_a_bad_line_is_the_same_text_everywhere(closed: Home) -> None:
    """As it came, or, where it is no UTF-8, with codes for what is not printable ASCII; which SQL can look into."""
    (closed.path / "inbox" / "bad.jsonl").write_bytes(b'\xff"it\'s" \\ \xc3\xa9\n\xc3\xa9 \\x22')
    closed.run("ingest", exit_code=3)
    expected = [r"""\xFF"it's" \x5C \xC3\xA9""", r"é \x22"]
    assert [row["raw"] for row in closed.report("quarantine")] == expected
    asked = closed.run("sql", "SELECT raw FROM quarantine WHERE raw LIKE '%x%' ORDER BY line", "--format", "json")
    assert [row["raw"] for row in json.loads(asked.stdout)] == expected
    closed.run("quarantine", "--output", str(closed.path / "q.parquet"))
    assert pq.read_table(closed.path / "q.parquet").column("raw").to_pylist() == expected


def test_sql_only_reads(closed: Home) -> None:
    """It takes no lock, changes no file, and has no way out of its tables."""
    before = closed.fingerprint()
    outside = closed.path / "prices.csv"
    for query, told in {
        f"COPY invoices TO '{closed.path}/x.csv'": "no SELECT but COPY",
        "DELETE FROM invoices": "no SELECT but DELETE",
        "SELECT 1; DROP TABLE invoices": "2 statements",
        "": "0 statements",
        f"SELECT * FROM '{outside}'": "disabled",
        f"SELECT * FROM read_text('{outside}')": "disabled",
        "SELEC 1": "syntax error",
        "SELECT totl FROM invoices": "totl",
        "SELECT * FROM invoicess": "invoices",
    }.items():
        refused = closed.run("sql", query, exit_code=2)
        assert told in refused.stderr, query
        assert "Traceback" not in refused.stderr
    assert closed.fingerprint() == before


def test_sql_knows_what_there_is(closed: Home) -> None:
    """SHOW and DESCRIBE list every report and its columns without computing them."""
    names = closed.run("sql", "SHOW TABLES").stdout.splitlines()[1:]
    assert {table_name(report) for report in published()} <= set(names)
    described = closed.run("sql", "DESCRIBE forecast").stdout
    assert [line.split(",")[0] for line in described.splitlines()[1:]] == [
        column.name for column in reports()["forecast"].columns
    ]


def test_no_part_is_left_after_a_failure(closed: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where putting the file in place fails, the old one stays and the new one goes."""
    monkeypatch.setattr(Path, "replace", _refuse)
    with pytest.raises(MeteringError, match=r"reports\.duckdb could not be written"):
        publish(RealHome(closed.path))
    assert os.listdir((closed.path / FILE).parent) == [FILE.name]  # noqa: PTH208


# What is carried over from the file before


def tables_of(path: Path) -> dict[str, Counter]:
    """Every row of every table but that which dates the file."""
    with opened(path) as con:
        return {
            name: Counter(con.execute(f"FROM {name}").fetchall())
            for (name,) in con.execute("SELECT table_name FROM duckdb_tables() WHERE table_name <> 'about'").fetchall()
        }


def door(home: Home) -> RealHome:
    """The home at its instant."""
    return RealHome(home.path, Clock(parse_instant(home.now)))


def published_twice(home: Home, tmp_path: Path) -> bool:
    """Publish upon the file before, and from nothing: the same; whether anything was carried over."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metering.reports.publish.file_before", _watched(found))
        publish(door(home))
    made = tables_of(home.path / FILE)
    kept = [home.path / FILE, home.path / "lake/state" / NOTE]
    for path in kept:
        shutil.copy(path, tmp_path / path.name)
        path.unlink()
    publish(door(home))
    assert made == tables_of(home.path / FILE)
    for path in kept:
        shutil.copy(tmp_path / path.name, path)
    return found[-1] is not None


def _watched(found: list[Before | None]) -> Callable[..., AbstractContextManager[Before | None]]:
    @contextmanager
    def watched(*given: Any) -> Iterator[Before | None]:
        with file_before(*given) as before:
            found.append(before)
            yield before

    return watched


def test_what_is_carried_over_is_what_would_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through late, corrected and retracted events, closes and a void, the file is the same as one from nothing.

    Reports say the same from the state and from all events.
    """
    monkeypatch.setenv("METERING_STATE_FROM", "0")
    some = [report for report in published() if report.name in {*OF_USAGE, *AS_BEFORE}]
    monkeypatch.setattr("metering.reports.publish.published", lambda: some)
    home = Home(tmp_path / "home")
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,10,pm_card_visa", "acc-2,USD,0,pm_card_visa")
    carried = []

    def night(now: str, events: str = "", *commands: str) -> None:
        home.now = now
        if events:
            home.events(events, f"{now[:10]}.jsonl")
            home.run("ingest")
        advance(door(home).lake, door(home).now)
        for command in commands:
            home.run(*command.split())
        carried.append(published_twice(home, tmp_path))

    start = """
        2026-05-01 ready s1 gb=100
        2026-05-02 ready s2 gb=7 acc=acc-2 prj=other
        2026-05-03 ready s3 gb=5 res=vm-x
        2026-05-20 deleted s2 id=gone
        2026-07-20 deleted s1"""
    night("2026-06-01T06:00:00Z", start)
    night("2026-06-03T06:00:00Z", "2026-06-01T12 ready s4 gb=1 acc=acc-2", "close 2026-05")
    late = "2026-05-28 deleted s4\n2026-05-30 deleted s1"
    night("2026-06-05T06:00:00Z", f"2026-06-03T12 resized s1 gb=50\n2026-06-03T13 vm-deleted vm-x\n{late}")
    night("2026-06-06T06:00:00Z", "2026-06-05T10 retracted free retracted_source=/compute retracted_id=gone")
    night("2026-07-01T06:00:00Z", "", "close 2026-06")
    night("2026-07-02T06:00:00Z", "", "void INV-2026-05-000001 --rebill")
    night("2026-07-21T06:00:00Z", "2026-07-20T12 ready s5 gb=2\n2026-06-20 deleted s2")
    assert carried == [False, *[True] * 6]
    for name in ("forecast", "idle", "anomalies", "usage-by-snapshot", "usage-difference"):
        for wanted in (Filter(days=1), Filter(Month(2026, 5), Month(2026, 6), "acc-2", days=1)):
            told = ask(door(home), name, wanted).to_pylist()
            assert told == ask(door(home), name, replace(wanted, all_events=True)).to_pylist(), name


@pytest.mark.soak
@settings(
    max_examples=int(os.environ.get("METERING_EXAMPLES", "20")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
@given(nights())
def test_whatever_comes_in_is_carried_over_right(history: list[tuple[list[Event], int]]) -> None:
    """After each of several nights with events of any kind and age, the file is the same as one from nothing."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("METERING_STATE_FROM", "0")
        some = [report for report in published() if report.name in {*OF_USAGE, *AS_BEFORE}]
        patch.setattr("metering.reports.publish.published", lambda: some)
        scratch = Path(folder)
        home = Home(scratch / "home")
        lake, latest = door(home).lake, 0
        lake.root.mkdir()
        for events, now in history:
            take(lake, events)
            latest = max(latest, now)
            home.now = format_instant(latest)
            advance(lake, latest)
            published_twice(home, scratch)


def _refuse(self: Path, target: Path) -> None:
    raise OSError(28, "No space left on device")
