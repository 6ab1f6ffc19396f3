"""A lake of thousands of nightly batches: what a night, a report, verify and a close take before and after `compact`.

PYTHONPATH=tests:. python tests/bench/nights.py [BATCHES]
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

import msgspec
import pyarrow.parquet as pq
from homes import Home, event

from metering.lake.store import MANIFEST, Batch, File, Lake, Manifest, sha256_of

NIGHTS = 3000


def many(home: Home, count: int) -> None:
    """Give the one batch's files a thousand younger siblings: each with one event under its own number."""
    lake = Lake(home.path / "lake")
    (first,) = lake.manifest().batches
    assert first.events is not None and first.raw is not None
    table, line = pq.read_table(lake.root / first.events.path), lake.root / first.raw.path
    names = table.column_names
    batches = [first]
    for number in range(2, count + 1):
        row = table.slice(0, 1)
        for name, value in {"batch": number, "id": f"e{number}", "subject": f"s{number}"}.items():
            index = names.index(name)
            row = row.set_column(index, row.schema.field(index), [[value]])
        path = lake.root / f"events/{number:08}.parquet"
        pq.write_table(row.cast(table.schema), path, compression="zstd")
        raw = lake.root / f"raw/{number:08}.jsonl.zst"
        shutil.copyfile(line, raw)
        files = [File(str(p.relative_to(lake.root)), 1, sha256_of(p)) for p in (path, raw)]
        batches.append(Batch(batch=number, ingested_at=first.ingested_at, events=files[0], raw=files[1]))
    (lake.root / MANIFEST).write_bytes(msgspec.json.encode(Manifest(batches=batches)))
    shutil.rmtree(lake.root / "state", ignore_errors=True)


def timed(home: Home, *words: str) -> None:
    """Print the CPU seconds of a command."""
    began = time.process_time()
    done = home.run(*words, exit_code=None)
    print(f"  {' '.join(words):<40} {time.process_time() - began:6.1f} s of CPU, exit {done.exit_code}", flush=True)


def main() -> None:
    """Before and after."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else NIGHTS
    folder = Path(mkdtemp(prefix="nights-"))
    home = Home(folder / "home")
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,10,pm_card_visa")
    assert event("2026-05-01 ready s1")["subject"] == "s1"
    home.events("2026-05-01 ready s1 gb=1")
    home.run("ingest")
    many(home, count)
    for title in (f"{count} batches in files of their own", "the same after compact and gc"):
        print(title)
        for words in (("report", "usage"), ("nightly",), ("verify",), ("close", "--dry-run")):
            timed(home, *words)
        if title.startswith("the same"):
            break
        timed(home, "compact")
        timed(home, "gc", "--grace", "0")
    files = sum(path.is_file() for path in (home.path / "lake").rglob("*"))
    print(f"  {files} files in the lake")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
