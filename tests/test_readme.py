"""The README's commands do what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from readme import README, blocks, commands, transcript

from metering.cli.app import app, load_commands
from metering.reports.catalog import reports

load_commands()

MARK = "--- the next command ---"


def test_transcript(tmp_path: Path) -> None:
    """Every command prints what stands below it."""
    steps = transcript()
    script = "".join(f"{command}echo '{MARK}'\n" for command, _ in steps)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("METERING_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"exec 2>&1\n{script}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    printed = done.stdout.split(f"{MARK}\n")[:-1]
    assert list(zip([command for command, _ in steps], printed, strict=True)) == steps


def test_two_commands_come_first() -> None:
    """The demo and the tests, one line each, before any heading."""
    demo, tests = blocks("sh")
    assert demo.endswith(".venv/bin/metering demo\n") and tests.endswith(".venv/bin/pytest\n")
    assert demo.count("\n") == tests.count("\n") == 1
    text = README.read_text("utf-8")
    assert text.index(tests) < text.index("\n## ")


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_exist(words: list[str]) -> None:
    """A command that the README names is there, with its options, and the report that it asks for."""
    found: click.Command = app
    rest = list(words)
    if rest == ["COMMAND", "--help"]:
        return
    while rest and isinstance(found, click.Group):
        if rest[0] not in found.commands:
            break
        found = found.commands[rest.pop(0)]
    assert found is not app, f"no command {words[0]!r}"
    options = {option for parameter in found.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= options | {"--help"}
    if found.name == "report":
        assert rest[0] in reports()


def test_correction_commands_exist() -> None:
    """Command names that stand alone in the list of corrections."""
    (line,) = [line for line in README.read_text("utf-8").splitlines() if "wrong invoice or payment" in line]
    names = re.findall(r"`(?:metering )?([a-z-]+)`", line)
    assert names and set(names) <= set(app.commands)
