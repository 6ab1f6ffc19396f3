"""Ingest against DuckDB's lenient reader: `python tests/bench/ingest.py [LINES] [--mixed] [--rounds N]`.

One seeded file of about 418 bytes a line. Ours checks every line, finds repeats and keeps the raw text; DuckDB's
`read_json` → Parquet (zstd too) does nothing of that. Each runs in a process of its own, in turns, so that both meet
the same machine; of each the best round counts.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BAD = ("nope", '{"specversion":"1.0"}', '{"specversion":"1.0","id":"x","id":"y"}')
EVERY_BAD = 50_000
"""Every so many lines one is bad."""

OURS = """
import sys
from pathlib import Path
from metering.events.ingest import ingest
from metering.events.sources import expand
from metering.lake import Lake
result = ingest(Lake(Path(sys.argv[2]) / "lake"), expand([sys.argv[1]]), 1_780_000_000_000_000)
print(result.accepted, result.quarantined)
"""
DUCKDB = """
import sys, duckdb
con = duckdb.connect(config={"preserve_insertion_order": False})
source = f"read_json('{sys.argv[1]}', format = 'newline_delimited', ignore_errors = true)"
con.execute(f"COPY (FROM {source}) TO '{sys.argv[2]}/duckdb.parquet' (FORMAT parquet, COMPRESSION zstd)")
"""


def write(path: Path, lines: int, *, mixed: bool) -> int:
    """A month of events, nearly in the order of their times; how many of the lines are bad."""
    chance = random.Random(418)

    def unique() -> str:
        text = f"{chance.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    bad = 0
    with path.open("w") as file:
        for number in range(lines):
            if number % EVERY_BAD == EVERY_BAD - 1:
                file.write(BAD[bad % len(BAD)] + "\n")
                bad += 1
                continue
            at = number * 30 * 86_400_000 // lines + chance.randrange(600_000)
            second, milli = divmod(at, 1000)
            day, second = divmod(second, 86_400)
            when = f"2026-05-{1 + day % 31:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{milli:03}Z"
            kind = "snapshot." + (chance.choice(("creating", "ready", "ready", "deleted")) if mixed else "ready")
            region = chance.choice(("us-east", "us-west", "eu-central"))
            data = (
                f',"data":{{"account_id":"acc-{chance.randrange(20_000):05}","project_id":"prj-{chance.randrange(60_000):06}",'
                f'"region":"{region}","resource_type":"{chance.choice(("vm", "volume"))}",'
                f'"resource_id":"vm-{chance.getrandbits(96):024x}","name":"vm-finance-{number % 1000:03}-05-03-26",'
                f'"size_bytes":{chance.randrange(10, 1000) * 10**9}}}'
                if kind == "snapshot.ready"
                else ""
            )
            file.write(
                f'{{"specversion":"1.0","id":"{unique()}","source":"/compute/{region}","type":"{kind}",'
                f'"subject":"snap-{unique()}","time":"{when}"{data}}}\n'
            )
    return bad


def measured(code: str, source: Path, folder: Path) -> tuple[float, float, int, str]:
    """Wall seconds, CPU seconds, peak memory in MB and output of a process."""
    began = time.monotonic()
    child = subprocess.Popen([sys.executable, "-c", code, str(source), str(folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - began
    assert status == 0
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024, said


def main() -> None:
    """Run both in turns, and print what they took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("lines", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--mixed", action="store_true", help="four types of event instead of snapshot.ready alone")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    best: dict[str, tuple[float, float, int]] = {}
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "events.jsonl"
        bad = write(source, options.lines, mixed=options.mixed)
        print(f"{options.lines:,} lines, {source.stat().st_size / options.lines:.0f} bytes each, {bad} bad")
        for _ in range(options.rounds):
            for title, code in (("ours", OURS), ("duckdb", DUCKDB)):
                with tempfile.TemporaryDirectory(dir=name) as folder:
                    wall, cpu, peak, said = measured(code, source, Path(folder))
                if title == "ours":
                    assert said.split() == [str(options.lines - bad), str(bad)], said
                old = best.get(title, (wall, cpu, peak))
                best[title] = (min(wall, old[0]), min(cpu, old[1]), max(peak, old[2]))
    for title, (wall, cpu, peak) in best.items():
        print(
            f"{title:7} {options.lines / wall:12,.0f} lines/s  {wall:7.2f} s wall  {cpu:7.2f} s CPU  "
            f"{cpu / options.lines * 1e6:6.2f} µs CPU a line  {peak:6} MB"
        )
    ours, theirs = best["ours"], best["duckdb"]
    print(f"ours over DuckDB: {theirs[0] / ours[0]:.2f} by wall, {theirs[1] / ours[1]:.2f} by CPU")


if __name__ == "__main__":
    main()
