"""`metering demo`: what it shows, and what it refuses. The figures are in test_sample_data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("METERING_", "COLUMNS"))}


def metering(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command in a folder."""
    command = [sys.executable, "-m", "metering", *arguments]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)


def test_demo(tmp_path: Path) -> None:
    """It tells its story in 80 columns without escape codes, and the commands that it names work."""
    done = metering("demo", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines if "METERING_HOME=" not in line) <= 80
    for sentence in (
        "86,400 GB-hours × 0.000068 USD = 5.8752, rounded once: 5.88 USD",
        "Together 3.31 USD",
        "acc-cedar passes 3-D Secure",
        "difference 0.00",
        "checks, nothing found",
        "The home is yours: metering-demo",
    ):
        assert sentence in done.stdout
    assert f"  export METERING_HOME={tmp_path}/metering-demo" in lines
    commands = [line.split()[1:] for line in lines if line.startswith("  metering ")]
    assert len(commands) == 5
    for command in commands:
        tried = metering(*command, folder=tmp_path / "metering-demo")
        assert tried.returncode == (3 if "nightly" in command else 0), tried.stderr
        assert tried.stdout or "nightly" in command

    again = metering("demo", folder=tmp_path)
    assert again.returncode == 2
    assert "metering-demo is not an empty folder" in again.stderr
    assert "metering demo DIR" in again.stderr


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """A name that is taken by a file is refused."""
    (tmp_path / "taken").write_text("x")
    assert metering("demo", "taken", folder=tmp_path).returncode == 2
    assert metering("demo", "taken/inside", folder=tmp_path).returncode == 2
