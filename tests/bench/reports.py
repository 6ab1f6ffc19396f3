"""How long people wait for a report, beside a plain DuckDB aggregate over the same Parquet files.

    python tests/bench/reports.py [FOLDER] [--snapshots 1000000] [--accounts 20000]

Makes a home of one year (once), then asks each report as the command line does, twice, and prints the better time,
the time of the plain aggregate that reads the same columns, and how often the one goes into the other.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import duckdb

from metering.clock import Clock
from metering.home import Home
from metering.lake.store import Batch
from metering.ledger.book import insert
from metering.reports.ask import Filter, ask, report_name
from metering.reports.catalog import reports
from metering.reports.publish import publish
from metering.reports.render import Asked, write
from metering.values import Month, parse_instant

NOW = parse_instant("2026-12-20T00:00:00Z")
YEAR = parse_instant("2026-01-01T00:00:00Z")
MONTH = Month.parse("2026-12")
EVENTS = """
    WITH made AS (
        SELECT
            i, 'acc-' || lpad(CAST(hash(i, 1) % {accounts} AS VARCHAR), 6, '0') AS account_id,
            {year} + CAST(hash(i, 2) % 30000000 AS BIGINT) * 1000000 AS ready_at,
            CAST(hash(i, 3) % 9000000 AS BIGINT) * 1000000 AS life,
            CAST(10000000000 + hash(i, 4) % 990000000000 AS BIGINT) AS size_bytes
        FROM range({snapshots}) AS t(i)
    )
    SELECT
        1 AS batch, {now} AS ingested_at, '/compute' AS source, 'r' || i AS id, 'snapshot.ready' AS type,
        's' || i AS subject,
        ready_at AS time, account_id, 'prj-' || hash(i, 5) % 5 AS project_id, 'eu' AS region,
        CASE WHEN i % 3 = 0 THEN 'volume' ELSE 'vm' END AS resource_type, 'v' || i // 10 AS resource_id,
        CAST(NULL AS VARCHAR) AS name, size_bytes,
        CAST(NULL AS VARCHAR) AS retracted_source, CAST(NULL AS VARCHAR) AS retracted_id, '{{}}' AS raw
    FROM made
    UNION ALL
    SELECT
        1, {now}, '/compute', 'd' || i, 'snapshot.deleted', 's' || i, ready_at + life,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{{}}'
    FROM made
    WHERE i % 5 < 3
"""
PLAIN = """
    SELECT
        r.account_id {key},
        sum(
            CAST(r.size_bytes AS DECIMAL(20, 0))
            * CAST(least(coalesce(d.time, {now}), {now}) - greatest(r.time, {start}) AS DECIMAL(17, 0))
        ) AS used,
        count(*) AS snapshots
    FROM (FROM '{files}' WHERE type = 'snapshot.ready') AS r
    LEFT JOIN (FROM '{files}' WHERE type = 'snapshot.deleted') AS d ON d.subject = r.subject
    WHERE coalesce(d.time, {now}) > {start} AND r.time < {now}
    GROUP BY r.account_id {key}
    ORDER BY r.account_id {key}
"""


def make_home(path: Path, snapshots: int, accounts: int) -> None:
    """A home with a year of events in one batch, accounts and prices, written without the commands."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "metering.toml").write_text('[billing]\nstart = "2026-12"\n')
    rows = [f"snapshot.{sku},,USD,0.000068,2026-01-01\n" for sku in ("vm", "volume")]
    (path / "prices.csv").write_text("".join(["sku,region,currency,price_per_gb_hour,effective_from\n", *rows]))
    home = Home(path, Clock(NOW))
    query = EVENTS.format(snapshots=snapshots, accounts=accounts, year=YEAR, now=NOW)

    def copy(part: Path) -> None:
        duckdb.execute(f"COPY ({query}) TO '{part}' (FORMAT parquet, COMPRESSION zstd)")

    file = home.lake.write("events/1.parquet", copy, snapshots)
    home.lake.commit(Batch(batch=1, ingested_at=NOW, events=file))
    with home.book.write() as con:
        insert(con, "account_versions", (_account(f"acc-{i:06}") for i in range(accounts)))
    home.book.close()


def _account(name: str) -> dict[str, object]:
    texts = (
        "email",
        "country",
        "payment_customer",
        "payment_method",
        "address",
        "city",
        "postcode",
        "tax_id",
        "tax_note",
    )
    row: dict[str, object] = {**dict.fromkeys(texts, ""), "account_id": name, "version": 1, "name": name}
    return {**row, "currency": "USD", "tax_rate": "20", "imported_at": YEAR, "run": 1}


def best(work: Callable[[], object]) -> float:
    """The better of two times, in seconds."""
    found = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def asked(home: Home, name: str, wanted: Filter) -> None:
    """A report as the command line prints it."""
    with redirect_stdout(io.StringIO()):
        write(Asked(reports()[name], ask(home, name, wanted), 10**9, {}), "csv", None)


def main() -> None:
    """Make the home if it is not there, and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", default=f"{tempfile.gettempdir()}/metering-bench-reports")
    parser.add_argument("--snapshots", type=int, default=1_000_000)
    parser.add_argument("--accounts", type=int, default=20_000)
    parser.add_argument("--only", nargs="*", help="Only these.")
    options = parser.parse_args()
    path = Path(options.folder)
    if not (path / "ledger.db").exists():
        make_home(path, options.snapshots, options.accounts)
    home = Home(path, Clock(NOW))
    month = Filter(MONTH, MONTH)
    start = MONTH.bounds(home.config.billing.zone)[0]

    def plain(key: str = "", since: int = start) -> Callable[[], object]:
        files = str(path / "lake/events/*.parquet")
        query = PLAIN.format(key=key, now=NOW, start=since, files=files)
        return lambda: duckdb.sql(query).to_arrow_table()

    cases: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        ("usage", lambda: asked(home, "usage", month), plain()),
        ("usage --by project", lambda: asked(home, report_name("usage", by="project"), month), plain(", r.project_id")),
        ("usage --by snapshot", lambda: asked(home, report_name("usage", by="snapshot"), month), plain(", r.subject")),
        ("forecast", lambda: asked(home, "forecast", Filter()), plain(since=YEAR)),
        ("idle", lambda: asked(home, "idle", Filter()), plain(", r.subject", YEAR)),
        ("balances", lambda: asked(home, "balances", Filter()), plain()),
        ("publish", lambda: publish(home), plain(", r.subject", YEAR)),
    ]
    for name, work, other in cases:
        if options.only and name not in options.only:
            continue
        ours, theirs = best(work), best(other)
        print(f"{name:<22} {ours:8.2f} s   plain {theirs:6.2f} s   {ours / theirs:5.1f} times", flush=True)


if __name__ == "__main__":
    main()
