"""The jobs that cron starts: bounded, one at a time, safe to repeat, with the engine's exit codes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest
from homes import Home

JOBS = Path(__file__).parent.parent / "jobs"
READY = "2026-05-01T00 ready s1 acc=acc-1 gb=100"


def job(
    name: str, home: Path | None, *options: str, now: str = "2026-06-01T04:15:00Z", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a job as cron does."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("METERING_")}
    environment |= {"METERING_NOW": now} | ({"METERING_HOME": str(home)} if home else {}) | more
    command = [sys.executable, str(JOBS / f"{name}.py"), *options]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=600)


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
    assert (first.returncode, "1 event" in first.stderr) == (0, True), first.stderr
    again = job("nightly", ready.path)
    assert (again.returncode, "0 events" in again.stderr) == (0, True), again.stderr


def test_month_close_every_day_of_the_first_week(ready: Home) -> None:
    """It closes on the first day, needs a person while the card is declined, and makes no second invoice later."""
    done = job("month_close", ready.path)
    assert done.returncode == 3 and "1 invoice," in done.stderr
    later = job("month_close", ready.path, now="2026-06-02T04:15:00Z")
    assert later.returncode == 0 and "nothing to close" in later.stderr, later.stderr
    ready.now = "2026-06-04T00:00:00Z"
    assert ready.column("invoices", "invoice") == ["INV-2026-05-000001"]


def test_bounded(ready: Home) -> None:
    """A job that takes too long ends with 1; nothing is half-done, and the next one does it all."""
    cut = job("month_close", ready.path, "--limit", "0")
    assert cut.returncode == 1
    assert "`metering close` was ended: the time was up. Nothing is half-done" in cut.stderr
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


def test_upkeep_proves_copies_and_tidies(ready: Home, tmp_path: Path) -> None:
    """Every step leaves its run; the backup that was made earlier on the same day is not overwritten."""
    ready.run("nightly")
    places = tmp_path / "backups"
    places.mkdir()
    earlier = places / "metering-2026-06-01.tar.zst"
    earlier.write_bytes(b"as it was")
    done = job("upkeep", ready.path, METERING_BACKUPS=str(places))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in places.iterdir()) == ["metering-2026-06-01.2.tar.zst", earlier.name]
    assert earlier.read_bytes() == b"as it was"
    told = [row["command"].split()[0] for row in ready.report("runs")]
    assert told[2:] == ["verify", "backup", "compact", "gc"]


def test_upkeep_removes_nothing_where_something_does_not_hold(ready: Home, tmp_path: Path) -> None:
    """`verify` finds a file that is gone: nothing after it is run, and its exit code is cron's."""
    ready.run("nightly")
    next((ready.path / "lake" / "events").iterdir()).unlink()
    done = job("upkeep", ready.path, METERING_BACKUPS=str(tmp_path))
    assert done.returncode == 3 and "is missing" in done.stdout
    assert not list(tmp_path.glob("*.zst"))
    assert [row["command"] for row in ready.ledger("runs")][2:] == ["verify"]
    nowhere = job("upkeep", ready.path, METERING_BACKUPS=str(tmp_path / "nowhere"))
    assert nowhere.returncode == 2 and "Make it, or name another." in nowhere.stderr


@pytest.mark.parametrize("name", ["nightly", "month_close", "upkeep"])
def test_docstrings_answer_the_operator(name: str) -> None:
    """Each job says when it runs, whether it is safe to repeat, and what to do if it fails."""
    done = job(name, None, "--help")
    assert done.returncode == 0
    for question in ("When:", "Safe to repeat:", "If it fails:", "Exit 75:"):
        assert question in done.stdout


def test_crontab_lines() -> None:
    """Every line of the crontab has five fields of time and starts a job that is there."""
    lines = [line.split() for line in (JOBS / "crontab").read_text("utf-8").splitlines() if line.startswith(" ")]
    assert [Path(line[-1]).name for line in lines] == ["nightly.py", "month_close.py", "upkeep.py"]
    assert all(len(line) == 7 and (JOBS / Path(line[-1]).name).is_file() for line in lines)


SYSTEMD = JOBS / "systemd"
KUBERNETES = JOBS / "kubernetes"


@pytest.mark.skipif(not which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """With the engine's path replaced by one that is here."""
    for unit in SYSTEMD.iterdir():
        text = unit.read_text("utf-8").replace("/opt/metering/.venv/bin/metering", "/bin/true")
        (tmp_path / unit.name).write_text(text.replace("User=metering", "User=root"))
    units = sorted(str(path) for path in tmp_path.iterdir())
    command = ["systemd-analyze", "verify", "--man=no", *units]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "metering-" in line]
    assert complaints == [] and done.returncode == 0, done.stderr


@pytest.mark.skipif(not which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize(
    ("timer", "after", "next_start"),
    [
        ("nightly", "2026-06-10 12:00 UTC", "Thu 2026-06-11 02:15:00 UTC"),
        ("close", "2026-06-07 12:00 UTC", "Wed 2026-07-01 04:15:00 UTC"),
        ("upkeep", "2026-06-10 12:00 UTC", "Sun 2026-06-14 05:15:00 UTC"),
    ],
)
def test_timers_start_when_they_say(timer: str, after: str, next_start: str) -> None:
    lines = (SYSTEMD / f"metering-{timer}.timer").read_text("utf-8").splitlines()
    assert "Persistent=yes" in lines
    (when,) = (line.removeprefix("OnCalendar=") for line in lines if line.startswith("OnCalendar="))
    done = subprocess.run(
        ["systemd-analyze", "calendar", f"--base-time={after}", when],
        capture_output=True, text=True, timeout=600, env={**os.environ, "TZ": "UTC"},
    )  # fmt: skip
    assert next_start in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(KUBERNETES.iterdir()), ids=lambda path: path.name)
def test_cron_jobs_of_kubernetes(path: Path) -> None:
    """One at a time, exit codes that no retry mends end the job, and nothing runs as root."""
    yaml = pytest.importorskip("yaml")
    spec = yaml.safe_load(path.read_text("utf-8"))["spec"]
    job = spec["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    crontab = (JOBS / "crontab").read_text("utf-8")
    assert spec["concurrencyPolicy"] == "Forbid" and spec["startingDeadlineSeconds"] >= 3600
    assert " ".join(spec["schedule"].split()) in " ".join(crontab.split())
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2, 3, 75]
    assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    if path.stem == "metering-upkeep":
        steps = container["args"][0].splitlines()
        assert container["command"][1].startswith("-e") and all(
            step.startswith("metering --json-logs") for step in steps
        )
        assert [step.split()[2] for step in steps] == ["verify", "backup", "compact", "gc"]
    else:
        assert container["args"] == ["metering", "--json-logs", path.stem.removeprefix("metering-")]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize(
    "path", sorted([*SYSTEMD.glob("*.service"), *KUBERNETES.iterdir()]), ids=lambda path: path.name
)
def test_units_answer_the_operator(path: Path) -> None:
    text = path.read_text("utf-8")
    for question in ("# When:", "# Safe to repeat:", "# If it fails:", "# What to do"):
        assert question in text


def test_a_week_off_and_two_missed_closes(ready: Home) -> None:
    """The next run does it all, in order, and says so."""
    ready.file("metering.toml", '[billing]\nstart = "2026-05"\n')
    ready.run("nightly", now="2026-05-02T02:15:00Z")
    ready.accounts("acc-1,USD,20,pm_card_visa")
    ready.events("2026-05-03 ready s2 acc=acc-1 gb=1", "b.jsonl")
    late = ready.run("nightly", now="2026-05-09T02:15:00Z", exit_code=None)
    assert "the last night was 2026-05-02T02:15:00Z: catching up after 7 days" in late.stderr
    assert "1 event" in late.stderr
    soon = ready.run("nightly", now="2026-05-10T03:15:00Z", exit_code=None)
    assert "catching up" not in soon.stderr
    done = ready.run("close", now="2026-07-05T04:15:00Z", exit_code=None)
    assert "Catching up: 2026-05, 2026-06, in this order." in done.stderr
    ready.now = "2026-07-05T04:15:00Z"
    assert ready.column("invoices", "invoice") == ["INV-2026-05-000001", "INV-2026-06-000001"]
