"""Three months of the sample, as `metering demo` plays them: what it shows, and the reports of the home that it makes.

They are those of a slow reference that knows no project code.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import make_sample_data
import pytest
import reference_billing
from homes import Home as Hands

from metering import story
from metering.checks.verify import verify
from metering.clock import Clock
from metering.home import Home
from metering.reports.ask import Filter, ask
from metering.reports.catalog import reports
from metering.reports.render import rows_of
from metering.values import Month

SAMPLE = Path(__file__).parent.parent / "sample_data"


ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("METERING_", "COLUMNS"))}


def metering(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command in a folder, in an interpreter of its own."""
    command = [sys.executable, "-m", "metering", *arguments]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo is played."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(folder: Path) -> subprocess.CompletedProcess[str]:
    """The demo, played once."""
    return metering("demo", folder=folder)


@pytest.fixture(scope="module")
def played(demo: subprocess.CompletedProcess[str], folder: Path) -> Home:
    """The home after the whole calendar; only read."""
    return Home(folder / "metering-demo", Clock(story.calendar()[-1].at))


# The demo


def test_the_demo(demo: subprocess.CompletedProcess[str], played: Home, tmp_path: Path) -> None:
    """It tells its story in 80 columns without escape codes, and the commands that it names work."""
    assert (demo.returncode, demo.stderr) == (0, "")
    assert "\x1b" not in demo.stdout
    lines = demo.stdout.splitlines()
    assert max(len(line) for line in lines if "METERING_HOME=" not in line) <= 80
    for sentence in (
        "86,400 GB-hours × 0.000068 USD = 5.8752, rounded once: 5.88 USD",
        "Together 3.31 USD",
        "acc-cedar passes 3-D Secure",
        "difference 0.00",
        "checks, nothing found",
        "The home is yours: metering-demo",
    ):
        assert sentence in demo.stdout
    assert f"  export METERING_HOME={played.path}" in lines
    commands = [line.split()[1:] for line in lines if line.startswith("  metering ")]
    assert len(commands) == 5
    copy = Hands(Path(shutil.copytree(played.path, tmp_path / "metering-demo")), now="2026-06-03T02:00:00Z")
    for command in commands:
        tried = copy.run(*command, exit_code=3 if "nightly" in command else 0)
        assert tried.stdout or "nightly" in command


def test_the_demo_overwrites_nothing(played: Home, folder: Path, tmp_path: Path) -> None:
    """A folder that is not empty is refused, and a name that is taken by a file."""
    again = metering("demo", folder=folder)
    assert again.returncode == 2
    assert "metering-demo is not an empty folder" in again.stderr
    assert "metering demo DIR" in again.stderr
    (tmp_path / "taken").write_text("x")
    for name in ("taken", "taken/inside"):
        Hands(tmp_path / "home").run("demo", str(tmp_path / name), exit_code=2)


# The sample


def test_generator_makes_the_same_bytes() -> None:
    """What is committed is what the generator makes."""
    made = make_sample_data.files()
    assert {name: (SAMPLE / name).read_bytes() for name in made} == {n: text.encode() for n, text in made.items()}
    there = {str(path.relative_to(SAMPLE)) for path in SAMPLE.rglob("*") if path.is_file()}
    assert there - made.keys() == {"README.md", *(f"expected/{name}.csv" for name in reference_billing.REPORTS)}
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()) < 200_000


def test_expected_is_what_the_reference_computes() -> None:
    """What is committed is what the reference computes."""
    committed = {name: (SAMPLE / "expected" / f"{name}.csv").read_text("utf-8") for name in reference_billing.REPORTS}
    assert committed == reference_billing.expected()


@pytest.mark.parametrize("name", reference_billing.REPORTS)
def test_reports(played: Home, name: str) -> None:
    """Every figure of the reports is the reference's."""
    wanted = Filter(month_to=Month.parse("2026-05")) if name == "usage" else Filter()
    found = rows_of(reports()[name], ask(played, name, wanted), played.config.billing.gigabyte_bytes)
    text = io.StringIO()
    text.write(",".join(column.name for column in reports()[name].columns) + "\n")
    text.writelines(",".join("" if value is None else str(value) for value in row) + "\n" for row in found)
    assert text.getvalue() == (SAMPLE / "expected" / f"{name}.csv").read_text("utf-8")


def test_the_books_are_clean(played: Home) -> None:
    """verify finds nothing after three months with everything in them."""
    assert [name for name, problems in verify(played) if problems] == []


def test_the_sample_shows_what_it_is_for(played: Home) -> None:
    """What the demo tells of is still in the sample."""

    def column(report: str, name: str) -> set[str]:
        return set(ask(played, report).column(name).to_pylist())

    assert column("quarantine", "reason") == {
        *("wrong_type", "negative_size", "bad_time", "missing_field", "malformed_json", "conflict", "unknown_type")
    }
    assert column("anomalies", "kind") == {"conflict", "end_without_ready", "ready_twice"}
    assert column("payments", "status") == {"succeeded", "declined", "no_card"}
    assert column("invoices", "status") == {"paid", "open", "carried"}
    assert column("invoices", "currency") == {"USD", "EUR", "JPY"}
    assert {"credit_lapse", "topup", "credit_grant", "carry", "brought_forward"} <= column("ledger", "kind")
