"""The jobs that cron starts: bounded, one at a time, safe to repeat, with the engine's exit codes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from homes import Home

JOBS = Path(__file__).parent.parent / "jobs"
READY = "2026-05-01T00 ready s1 acc=acc-1 gb=100"


def job(
    name: str, home: Path | None, *options: str, now: str = "2026-06-01T04:15:00Z"
) -> subprocess.CompletedProcess[str]:
    """Run a job as cron does."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("METERING_")}
    environment |= {"METERING_NOW": now} | ({"METERING_HOME": str(home)} if home else {})
    command = [sys.executable, str(JOBS / f"{name}.py"), *options]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def ready(home: Home) -> Home:
    """An account, a price, and a snapshot that waits in the inbox; its card is declined."""
    home.prices("snapshot.vm,,USD,0.000068,2026-01-01,")
    home.accounts("acc-1,USD,20,pm_card_chargeDeclined")
    home.events(READY)
    return home


def hold(path: Path) -> int:
    """Hold a lock as another run does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def test_nightly_takes_the_inbox_and_can_be_repeated(ready: Home) -> None:
    """The second run finds nothing to do."""
    first = job("nightly", ready.path)
    assert (first.returncode, "1 events" in first.stderr) == (0, True), first.stderr
    again = job("nightly", ready.path)
    assert (again.returncode, "0 events" in again.stderr) == (0, True), again.stderr


def test_month_close_every_day_of_the_first_week(ready: Home) -> None:
    """It closes on the first day, needs a person while the card is declined, and makes no second invoice."""
    done = job("month_close", ready.path)
    assert done.returncode == 3 and "1 invoices" in done.stderr
    for day in (2, 3):
        later = job("month_close", ready.path, now=f"2026-06-0{day}T04:15:00Z")
        assert later.returncode == 0 and "nothing to close" in later.stderr, later.stderr
    ready.now = "2026-06-04T00:00:00Z"
    assert ready.column("invoices", "invoice") == ["INV-2026-05-000001"]


def test_bounded(ready: Home) -> None:
    """A job that takes too long ends with 1; nothing is half-done, and the next one does it all."""
    cut = job("month_close", ready.path, "--limit", "0")
    assert cut.returncode == 1
    assert "ended after 0 s. Nothing is half-done" in cut.stderr
    assert job("month_close", ready.path).returncode == 3
    ready.now = "2026-06-02T00:00:00Z"
    assert ready.column("invoices", "total") == ["6.07"]
    ready.run("verify")


@pytest.mark.parametrize(("name", "command"), [("nightly", "nightly"), ("month_close", "close")])
def test_locked(ready: Home, name: str, command: str) -> None:
    """75 where the same job still runs, and where another run holds the home's lock."""
    for lock in (f".job-{command}.lock", ".metering.lock"):
        descriptor = hold(ready.path / lock)
        try:
            done = job(name, ready.path)
        finally:
            os.close(descriptor)
        assert done.returncode == 75, done.stderr
        assert done.stderr
    assert list((ready.path / "inbox").glob("*.jsonl"))


def test_no_home(tmp_path: Path) -> None:
    """Without a home the job is refused in a sentence, and writes nothing."""
    for home in (tmp_path, tmp_path / "gone", None):
        done = job("nightly", home)
        assert done.returncode == 2
        assert "is no home" in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_configuration_errors_keep_their_exit_code(ready: Home) -> None:
    """What the engine refuses, cron's mail says, with the engine's exit code."""
    ready.file("metering.toml", "[billing]\ntimezon = 'UTC'\n")
    done = job("nightly", ready.path)
    assert done.returncode == 2
    assert "timezon" in done.stderr


@pytest.mark.parametrize("name", ["nightly", "month_close"])
def test_docstrings_answer_the_operator(name: str) -> None:
    """Each job says when it runs, whether it is safe to repeat, and what to do if it fails."""
    done = job(name, None, "--help")
    assert done.returncode == 0
    for question in ("When:", "Safe to repeat:", "If it fails:", "Exit 75:"):
        assert question in done.stdout


def test_crontab_lines() -> None:
    """Every line of the crontab has five fields of time and starts a job that is there."""
    lines = [line.split() for line in (JOBS / "crontab").read_text("utf-8").splitlines() if line.startswith(" ")]
    assert [Path(line[-1]).name for line in lines] == ["nightly.py", "month_close.py"]
    assert all(len(line) == 7 and (JOBS / Path(line[-1]).name).is_file() for line in lines)
