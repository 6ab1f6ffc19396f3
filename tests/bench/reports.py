"""How long people wait for a report, beside a plain DuckDB aggregate over the same Parquet files.

    PYTHONPATH=tests:. python tests/bench/reports.py [FOLDER] [--snapshots 1000000] [--accounts 10000] [--only NAME …]

Makes a home of one year with its last month closed (once), then asks each report and prints it as CSV, twice, and does
the same with a plain query of the same grain: one aggregate written for this one question, over the event files, over
the close's files, or over a Parquet copy of the ledger's tables. The better time of each counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from metering.clock import Clock
from metering.close.run import Options, run_close
from metering.dashboard.page import dashboard
from metering.events.keys import lake_keys
from metering.home import Home
from metering.lake import Batch, connect
from metering.ledger.arrow import attach_ledger
from metering.ledger.book import insert
from metering.payments.collect import Outcome
from metering.reports.ask import Filter, ask, report_name
from metering.reports.catalog import reports
from metering.reports.publish import publish
from metering.reports.query import query_reports
from metering.reports.render import Asked, write
from metering.reports.simulate import simulate
from metering.schema import arrow_schema
from metering.state import advance
from metering.values import MICROS_PER_DAY, Month, parse_instant

CLOSED, OPEN = Month.parse("2026-11"), Month.parse("2026-12")
YEAR = parse_instant("2026-01-01T00:00:00Z")
NOW = parse_instant("2026-12-20T00:00:00Z")
NOWHERE = f"{tempfile.gettempdir()}/metering-bench-reports.csv"
"""DuckDB writes beside a place and renames: as root it would take the place of a device."""
LEDGER = ("entries", "transactions", "account_versions")
MADE = """
    SELECT
        i, 'acc-' || lpad(CAST(hash(i, 1) % {accounts} AS VARCHAR), 6, '0') AS account_id,
        {year} + CAST(hash(i, 2) % 30000000 AS BIGINT) * 1000000 AS ready_at,
        CAST(hash(i, 3) % 9000000 AS BIGINT) * 1000000 AS life,
        CAST(10000000000 + hash(i, 4) % 990000000000 AS BIGINT) AS size_bytes
    FROM range({snapshots}) AS t(i)
"""
DELETED = """
    SELECT
        'd' || i AS id, 'snapshot.deleted' AS type, 's' || i AS subject, ready_at + life AS time,
        CAST(NULL AS VARCHAR) AS account_id, CAST(NULL AS VARCHAR) AS project_id, CAST(NULL AS VARCHAR) AS region,
        CAST(NULL AS VARCHAR) AS resource_type, CAST(NULL AS VARCHAR) AS resource_id, CAST(NULL AS BIGINT) AS size_bytes
    FROM ({made}) WHERE i % 5 < 3 AND ready_at + life < {now} ORDER BY time
"""
READY = """
    SELECT
        'r' || i AS id, 'snapshot.ready' AS type, 's' || i AS subject, ready_at AS time, account_id,
        'prj-' || hash(i, 5) % 5 AS project_id, 'eu' AS region,
        CASE WHEN i % 3 = 0 THEN 'volume' ELSE 'vm' END AS resource_type, 'v' || i // 10 AS resource_id, size_bytes
    FROM ({made}) WHERE ready_at < {now} ORDER BY time
"""

# What one would write by hand; the joins go by the lake's keys, which is what costs least.

LIVES = """
    SELECT r.*, coalesce(d.time, {now}) AS ended_at, d.time AS deleted_at
    FROM (FROM '{events}' WHERE type = 'snapshot.ready') AS r
    LEFT JOIN (FROM '{events}' WHERE type = 'snapshot.deleted') AS d USING (subject_high, subject_low)
"""
USED = """
    SELECT
        p.name, {key},
        sum(
            CAST(size_bytes AS DECIMAL(20, 0))
            * CAST(least(ended_at, p.until) - greatest(time, p.since) AS DECIMAL(17, 0))
        ) AS used,
        count(*) AS snapshots
    FROM ({lives}) JOIN periods AS p ON ended_at > p.since AND time < p.until
    GROUP BY p.name, {key} ORDER BY p.name, {key}
"""
EXPECTED = """
    SELECT
        account_id, resource_type,
        sum(
            CAST(size_bytes AS DECIMAL(20, 0))
            * CAST(least(ended_at, {now}) - greatest(time, {since}) AS DECIMAL(17, 0))
        ) AS used,
        sum(
            CASE WHEN deleted_at IS NULL
                THEN CAST(size_bytes AS DECIMAL(20, 0)) * CAST({until} - {now} AS DECIMAL(17, 0))
            END
        ) AS remaining
    FROM ({lives}) WHERE ended_at > {since} GROUP BY account_id, resource_type ORDER BY account_id, resource_type
"""
IDLE = """
    SELECT account_id, subject, any_value(size_bytes), any_value(time),
        sum(CAST(size_bytes AS DECIMAL(20, 0)) * CAST({now} - greatest(time, {since}) AS DECIMAL(17, 0))) AS used
    FROM ({lives}) WHERE deleted_at IS NULL AND {now} - time > 90 * {day}
    GROUP BY account_id, subject ORDER BY used DESC, account_id, subject
"""
SHARES = "FROM '{lake}/closes/*/allocations.parquet' ORDER BY invoice, line, project_id, snapshot_id"
BILLED = """
    SELECT l.month, a.account_id, {key} sum(a.byte_micros) AS used, count(DISTINCT a.snapshot_id) AS snapshots
    FROM '{lake}/closes/*/allocations.parquet' AS a
    JOIN '{lake}/closes/*/invoice_lines.parquet' AS l USING (invoice, line)
    GROUP BY ALL ORDER BY ALL
"""
LINES = """
    SELECT month, {key}, sum(amount_minor)
    FROM '{lake}/closes/*/invoice_lines.parquet' GROUP BY ALL ORDER BY ALL
"""
BALANCES = """
    SELECT account_id, currency, sum(credit_minor - debit_minor), sum(debit_minor)
    FROM '{copies}/entries.parquet' GROUP BY ALL ORDER BY ALL
"""
ENTRIES = """
    FROM '{copies}/entries.parquet' JOIN '{copies}/transactions.parquet' USING (transaction) ORDER BY entry
"""


def make_home(path: Path, snapshots: int, accounts: int) -> None:
    """A home with a year of events in one batch, accounts and prices; its last month is closed, no card is charged."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "inbox").mkdir()
    (path / "metering.toml").write_text(f'[billing]\nstart = "{CLOSED}"\n')
    _prices(path / "prices.csv", "0.000068")
    _prices(path / "dearer.csv", "0.00007")
    home = Home(path, Clock(parse_instant("2026-12-01T06:00:00Z")))
    made = MADE.format(snapshots=snapshots, accounts=accounts, year=YEAR)
    queries = [query.format(made=made, now=NOW) for query in (DELETED, READY)]
    file = home.lake.write_events("00000001", _events(queries), 0)
    rows = duckdb.sql(f"SELECT count(*) FROM '{home.lake.root / file.path}'").fetchall()[0][0]
    with home.book.write() as con:
        insert(con, "account_versions", (_account(f"acc-{i:06}") for i in range(accounts)))
    home.book.close()
    home.lake.commit(Batch(batch=1, ingested_at=NOW, events=msgspec.structs.replace(file, rows=rows)))
    # As the nights before the 1st have done; so the close leaves its note for the next one, and for the forecast.
    advance(home.lake, home.now)
    with patch("metering.close.run.charge_invoices", lambda *_, **__: Outcome()), home.run("close") as run:
        run_close(home, run, Options(CLOSED), lambda sentence: None)
    advance(home.lake, NOW)
    copies = path / "copies"
    copies.mkdir()
    con = connect()
    attach_ledger(con, home.book, LEDGER)
    for name in LEDGER:
        con.execute(f"COPY {name} TO '{copies}/{name}.parquet' (FORMAT parquet, COMPRESSION zstd)")


def _prices(path: Path, price: str) -> None:
    rows = [f"snapshot.{sku},,USD,{price},2026-01-01\n" for sku in ("vm", "volume")]
    path.write_text("".join(["sku,region,currency,price_per_gb_hour,effective_from\n", *rows]))


def _events(queries: list[str]) -> Iterator[pa.Table]:
    """Events as ingest lays them out, some at a time."""
    schema = arrow_schema("events")
    count = 0
    for query in queries:
        for batch in duckdb.sql(query).to_arrow_reader(500_000):
            table = pa.Table.from_batches([batch])
            n = table.num_rows
            whole = {name: pa.nulls(n, schema.field(name).type) for name in schema.names}
            whole |= {name: table[name] for name in table.column_names}
            whole |= {"batch": pa.repeat(1, n), "ingested_at": pa.repeat(NOW, n), "source": pa.repeat("/compute", n)}
            whole |= lake_keys(pa.table(whole))
            whole |= {"seq": pa.array(np.arange(count + 1, count + n + 1))}
            whole |= {"place": whole["seq"]}
            count += n
            yield pa.table(whole).select(schema.names).cast(schema)


def _account(name: str) -> dict[str, object]:
    texts = ("email", "country", "payment_customer", "payment_method", "address", "city", "postcode", "tax_id")
    row: dict[str, object] = {**dict.fromkeys((*texts, "tax_note"), ""), "account_id": name, "version": 1, "name": name}
    return {**row, "currency": "USD", "tax_rate": "20", "imported_at": YEAR, "run": 1}


def asked(home: Home, name: str, wanted: Filter) -> None:
    """A report as the command line prints it."""
    write(Asked(reports()[name], ask(home, name, wanted), 10**9, {}), "csv", NOWHERE)


class Plain:
    """Plain queries over the files of a home."""

    def __init__(self, home: Home) -> None:
        self._zone = home.config.billing.zone
        self._lake = home.lake.root
        self._lives = LIVES.format(events=f"{self._lake}/events/*.parquet", now=NOW)

    def used(self, key: str, *months: Month, daily: bool = False) -> Callable[[], None]:
        """Usage of some months, or of their days."""
        bounds = [month.bounds(self._zone) for month in months]
        if daily:
            bounds = [
                (at, at + MICROS_PER_DAY) for start, end in bounds for at in range(start, min(end, NOW), MICROS_PER_DAY)
            ]
        values = ", ".join(f"({start}, {start}, {min(end, NOW)})" for start, end in bounds)
        periods = f"(SELECT * FROM (VALUES {values}) AS v(name, since, until))"
        return self.copied(USED.format(key=key, lives=self._lives).replace("periods AS", f"{periods} AS"))

    def expected(self) -> Callable[[], None]:
        """Usage of the open month up to now, and what is alive would still use."""
        since, until = OPEN.bounds(self._zone)
        return self.copied(EXPECTED.format(lives=self._lives, now=NOW, since=since, until=until))

    def idle(self) -> Callable[[], None]:
        """What forgotten snapshots cost."""
        since = CLOSED.bounds(self._zone)[0]
        return self.copied(IDLE.format(lives=self._lives, now=NOW, since=since, day=MICROS_PER_DAY))

    def over(self, query: str, **given: str) -> Callable[[], None]:
        """A query over the files of closes or the copies of the ledger."""
        return self.copied(query.format(lake=self._lake, copies=self._lake.parent / "copies", **given))

    def copied(self, query: str) -> Callable[[], None]:
        """The rows of a query as CSV."""
        return lambda: duckdb.execute(f"COPY ({query}) TO '{NOWHERE}' (FORMAT csv)") and None  # type: ignore[func-returns-value]


Case = tuple[str, Callable[[], object], Callable[[], None] | None]


def cases(home: Home) -> Iterator[Case]:
    """Each report with its filter, and the plain query beside it."""
    plain = Plain(home)
    year = [Month.parse(f"2026-{number:02}") for number in range(1, 13)]
    closed, now, ever = Filter(CLOSED, CLOSED), Filter(OPEN, OPEN), Filter()

    def of(name: str, wanted: Filter) -> Callable[[], None]:
        return lambda: asked(home, name, wanted)

    by = {by: report_name("usage", by=by, billed=False) for by in ("account", "project", "snapshot", "day")}
    keys = {"account": "account_id", "project": "account_id, project_id", "snapshot": "account_id, project_id, subject"}
    for way, key in keys.items():
        yield f"usage --by {way} --month {OPEN}", of(by[way], now), plain.used(key, OPEN)
        yield f"usage --by {way} --month {CLOSED}", of(by[way], closed), plain.used(key, CLOSED)
    for way in ("account", "snapshot"):
        yield f"usage --by {way}", of(by[way], ever), plain.used(keys[way], *year)
    yield f"usage --by day --month {CLOSED}", of(by["day"], closed), plain.used("account_id", CLOSED, daily=True)
    one = Filter(OPEN, OPEN, "acc-000007")
    yield "usage --account A", of("usage-by-snapshot", one), plain.used("account_id, project_id, subject", OPEN)
    yield "forecast", of("forecast", ever), plain.expected()
    yield "idle", of("idle", ever), plain.idle()
    yield "anomalies", of("anomalies", ever), plain.used("account_id, resource_type", CLOSED, OPEN)
    yield (
        f"simulate --month {CLOSED}",
        lambda: simulate(home, CLOSED, str(home.path / "dearer.csv")),
        plain.used("account_id, resource_type", CLOSED),
    )
    yield "usage --billed", of("billed-usage", ever), plain.over(BILLED, key="")
    yield "usage --billed --by snapshot", of("billed-usage-by-snapshot", ever), plain.over(BILLED, key="a.snapshot_id,")
    yield "usage-difference", of("usage-difference", ever), plain.used("account_id", CLOSED)
    yield (
        f"allocations --month {CLOSED}",
        of("allocations", closed),
        plain.over(SHARES),
    )
    for name in ("invoices", "invoice-lines"):
        rows = f"FROM '{{lake}}/closes/*/{name.replace('-', '_')}.parquet' ORDER BY invoice"
        yield f"{name} --month {CLOSED}", of(name, closed), plain.over(rows)
    yield "revenue", of("revenue", ever), plain.over(LINES, key="sku, region")
    yield "receivables", of("receivables", ever), plain.over(LINES, key="account_id")
    yield "balances", of("balances", ever), plain.over(BALANCES)
    yield "statement", of("statement", ever), plain.over(ENTRIES)
    yield "trial-balance", of("trial-balance", ever), plain.over(BALANCES)
    yield "ledger", of("ledger", ever), plain.over(ENTRIES)
    yield "payments", of("payments", ever), None
    yield "runs", of("runs", ever), None
    yield "sql (count of invoices)", lambda: query_reports(home, "SELECT count(*) FROM invoices"), None
    yield "export dashboard", lambda: dashboard(home), None
    yield "publish, all anew", lambda: _anew(home), None
    yield "publish again", lambda: publish(home), None


def _anew(home: Home) -> None:
    (home.lake.root / "state" / "published.json").unlink(missing_ok=True)
    publish(home)


def best(work: Callable[[], object], times: int) -> tuple[float, float]:
    """The best of some times: seconds on the wall, and of the processors."""
    found = []
    for _ in range(times):
        start, cpu = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - start, time.process_time() - cpu))
    return min(found)


def main() -> None:
    """Make the home if it is not there, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=f"{tempfile.gettempdir()}/metering-bench-reports")
    parser.add_argument("--snapshots", type=int, default=1_000_000)
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="Only what begins so.")
    options = parser.parse_args()
    path = Path(options.folder)
    if not (path / "copies").exists():
        start = time.perf_counter()
        make_home(path, options.snapshots, options.accounts)
        print(f"made in {time.perf_counter() - start:.0f} s")
    home = Home(path, Clock(NOW))
    print(f"{'':<36} {'wall':>7} {'CPU':>7}   {'plain':>7} {'CPU':>7}   times")
    for name, work, other in cases(home):
        if options.only and not name.startswith(tuple(options.only)):
            continue
        ours, cpu = best(work, options.times)
        line = f"{name:<36} {ours:7.2f} {cpu:7.2f}"
        if other:
            theirs, their_cpu = best(other, options.times)
            line += f"   {theirs:7.2f} {their_cpu:7.2f}   {ours / theirs:5.1f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
