"""The limits, tried for real: what is huge is taken or named in bounded memory. Minutes each, so all are soaks.

METERING_LIMIT_BYTES sets the size of the large event file (1 GB).
"""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from homes import ACCOUNTS, PRICES, Home, Result

from metering.values import Month

pytestmark = pytest.mark.soak
LARGE = int(os.environ.get("METERING_LIMIT_BYTES", "1000000000"))
MIB = 2**20
READY = (
    '{{"specversion":"1.0","id":"e-{0}","source":"/compute/us-east","type":"snapshot.ready","subject":"snap-{0}",'
    '"time":"2026-05-{1:02}T{2:02}:00:00.250Z","data":{{"account_id":"{3}","project_id":"prj-{4}","region":"us-east",'
    '"resource_type":"vm","resource_id":"vm-{0}","name":"vm-finance-{0}","size_bytes":{5}}}}}\n'
)


def lines(count: int, account: str = "") -> Iterator[str]:
    """Snapshots, of one account or of a thousand: number n has (n mod 7 + 1) GB."""
    for n in range(count):
        yield READY.format(n, n % 28 + 1, n % 24, account or f"acc-{n % 1000}", n % 10, (n % 7 + 1) * 10**9)


def measured(home: Home, *args: str, exit_code: int = 0) -> tuple[Result, int]:
    """A command in a process of its own, and the most memory that it took, in MiB."""
    words = [sys.executable, "-m", "metering", "--home", str(home.path), "--now", home.now, *args]
    # Linux counts in KiB, and the largest of all children: a fork measures one alone.
    code = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(done.returncode)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=3000)
    *said, peak = done.stderr.splitlines()
    assert done.returncode == exit_code, done.stderr
    print(f"{' '.join(args)[:60]}: {int(peak) // 1024} MiB at most")
    return Result(done.returncode, done.stdout, "\n".join(said)), int(peak) // 1024


def family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from family(int(child))


def own_memory(pid: int) -> int:
    """What a process has allocated and not mapped from a file, in MiB; 0 if it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) // 1024
    return 0


def test_a_line_of_100_mb(home: Home) -> None:
    """It is quarantined whole, its neighbours are taken."""
    with (home.path / "inbox" / "a.jsonl").open("w") as file:
        first, second = lines(2)
        file.write(first + '{"x":"' + "x" * 100_000_000 + '"}\n' + second)
    done, peak = measured(home, "ingest", exit_code=3)
    assert "2 events, 0 repeats, 1 line quarantined" in done.stderr
    assert "a.jsonl, line 2: too_long: The line has 100000008 bytes" in done.stderr
    assert peak < 2500
    assert measured(home, "status")[0].stdout.count("1 line unresolved") == 1


def test_a_million_bad_lines(home: Home) -> None:
    """All are in the quarantine, each with its number; 20 are named, and the rest counted."""
    with (home.path / "inbox" / "a.jsonl").open("w") as file:
        file.writelines(f'{{"no": {number}}}\n' for number in range(1_000_000))
    done, peak = measured(home, "ingest", exit_code=3)
    assert done.stderr.count("quarantined: a.jsonl, line ") == 20
    assert "quarantined: 999980 more lines: see `metering quarantine`" in done.stderr
    assert peak < 2500
    home.now = "2026-06-02T08:00:00Z"
    again, _ = measured(home, "ingest", str(home.path / "inbox" / "done" / "a.jsonl"))
    assert "no batch" in again.stderr
    listed, peak = measured(home, "quarantine", "--format", "csv")
    assert sum(1 for _ in csv.DictReader(io.StringIO(listed.stdout))) == 1_000_000
    assert peak < 2500


def test_ten_thousand_small_files(home: Home) -> None:
    """One batch, one file in the lake; all are moved."""
    for number, line in enumerate(lines(10_000)):
        (home.path / "inbox" / f"{number:05}.jsonl").write_text(line)
    done, peak = measured(home, "ingest")
    assert "batch 1: 10000 files, 10000 events, 0 repeats, 0 lines quarantined" in done.stderr
    assert peak < 1000
    assert len(list((home.path / "inbox" / "done").iterdir())) == 10_000
    assert len(list((home.path / "lake" / "events").iterdir())) == 1


def test_a_large_file(tmp_path: Path) -> None:
    """It is taken in 1.7 GiB, whatever its size.

    Pages of the scratch file, a fourth of a GiB, which the system takes back when it wants to, are not counted.
    """
    count = LARGE // (len(next(lines(1))) + 12)
    path = tmp_path / "large.jsonl"
    with path.open("w") as file:
        file.writelines(lines(count))
    home = Home(tmp_path / "home")
    words = [sys.executable, "-m", "metering", "--home", str(home.path), "--now", home.now, "ingest", str(path)]
    peak = 0
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, sum(own_memory(pid) for pid in family(process.pid)))
            time.sleep(0.1)
        assert process.stderr
        assert f" {count} events, 0 repeats, 0 lines quarantined" in process.stderr.read()
    print(f"{path.stat().st_size} bytes, {count} lines: {peak} MiB at most")
    assert peak < 1740


def test_an_account_with_a_million_snapshots(home: Home) -> None:
    """Usage, close, explanation and detail by snapshot; 1,000,000 snapshots, each to the 1st of June."""
    home.prices("snapshot.vm,,USD,0.000068,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_visa")
    with (home.path / "inbox" / "a.jsonl").open("w") as file:
        file.writelines(lines(1_000_000, "acc-1"))
    measured(home, "ingest")
    # By hand: number n has n % 7 + 1 GB from day n % 28 + 1, hour n % 24 (and a quarter of a second) on.
    micros = sum(
        (n % 7 + 1) * ((31 - n % 28) * 86400_000_000 - (n % 24) * 3600_000_000 - 250_000) for n in range(1_000_000)
    )
    hours = f"{(micros * 10**9 * 2 // 3_600_000_000 + 1) // 2 / 10**9:.9f}"[:12]
    used, _ = measured(home, "usage", "--format", "json")
    assert json.loads(used.stdout)[0]["gb_hours"].startswith(hours)
    peaks = [
        measured(home, *words)[1]
        for words in (
            ("close", "2026-05"), ("explain", "INV-2026-05-000001"), ("usage", "--by", "snapshot", "--format", "csv"),
            ("report", "allocations", "--format", "csv"), ("invoice", "INV-2026-05-000001", "--format", "json"),
            ("verify",),
        )
    ]  # fmt: skip
    assert max(peaks) < 6000, peaks
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 < 3000


def test_a_close_grows_little_with_its_invoices(home: Home) -> None:
    """A million accounts are to fit into 1.5 GB, so an invoice more may take about a kilobyte."""
    count = int(os.environ.get("METERING_LIMIT_ACCOUNTS", "100000"))
    home.file("prices.csv", f"{PRICES}\nsnapshot.vm,,USD,0.001,2026-01-01,\n")
    peaks = []
    for month, number in (("2026-05", count // 4), ("2026-06", count)):
        rows = (f"acc-{n:07},Name {n},,DE,USD,19,,\n" for n in range(number))
        home.run("accounts", "import", str(home.file("accounts.csv", ACCOUNTS + "\n" + "".join(rows))))
        with (home.path / "inbox" / f"{month}.jsonl").open("w") as file:
            for n in range(number):
                first = READY.format(f"{month}-{n}", 2, 3, f"acc-{n:07}", 1, 10**12).replace("2026-05-", f"{month}-")
                ended = {"specversion": "1.0", "id": f"d-{month}-{n}", "source": "/compute/us-east"}
                ended |= {"type": "snapshot.deleted", "subject": f"snap-{month}-{n}", "time": f"{month}-02T04:00:00Z"}
                file.write(first + json.dumps(ended) + "\n")
        home.now = f"{Month.parse(month).plus(1)}-01T08:00:00Z"
        measured(home, "ingest")
        # Without a card every invoice is open.
        _, peak = measured(home, "close", month, exit_code=3)
        peaks.append(peak)
    assert (peaks[1] - peaks[0]) * MIB < (count - count // 4) * 1300
