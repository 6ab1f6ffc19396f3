"""Progress: on a terminal only, after a second, without colours where NO_COLOR asks for none."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from homes import Home

from metering.checks.verify import count_checks
from metering.cli import progress
from metering.cli.app import Context

COLOUR = re.compile(r"\x1b\[[0-9;]*[34]\d")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, seconds: int, context: Context, stderr: io.StringIO) -> str:
    """What half of eight steps shows after so many seconds."""
    watch: Callable[[], Callable[[], int]] = lambda: lambda: seconds * 10**6  # noqa: E731
    monkeypatch.setattr(progress, "stopwatch", watch)
    monkeypatch.setattr(sys, "stderr", stderr)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    with progress.steps(context, "checks") as show:
        show(4, 8, "to /disk[/b]")
    return stderr.getvalue()


def test_rate_and_what_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four of eight in two seconds are two a second."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    said = shown(monkeypatch, 2, Context(), Terminal())
    assert "4/8" in said and "2.0 checks/s" in said and "to /disk[/b]" in said
    assert COLOUR.search(said)


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    said = shown(monkeypatch, 2, Context(), Terminal())
    assert "2.0 checks/s" in said and not COLOUR.search(said)


def test_work_whose_end_is_not_known_and_then_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is, without a rate; with a number in all it begins anew, so that the rate is of that work alone."""
    ticks = iter([5, 5, 5, 0, 7, 2])
    watch: Callable[[], Callable[[], int]] = lambda: lambda: next(ticks) * 10**6  # noqa: E731
    stderr = Terminal()
    monkeypatch.setattr(progress, "stopwatch", watch)
    monkeypatch.setattr(sys, "stderr", stderr)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "100", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    with progress.steps(Context(), "accounts") as show:
        show(0, 0, "2026-05: files")
        show(0, 90, "cards")
        show(30, 90, "cards")
    said = stderr.getvalue()
    assert "2026-05: files" in said and "30/90 15.0 accounts/s" in said and "0.0" not in said


WORK = {
    "close": (1, 1, "cards"),
    "nightly": (0, 0, "reports"),
    "explain INV-2026-05-000001": (0, 0, "computing INV-2026-05-000001 again"),
    "verify": (1, count_checks(), "ledger_there"),
}


@pytest.mark.parametrize("command", WORK)
def test_commands_show_what_is_at_work(home: Home, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Each command hands its progress to the terminal; the sentences stay as they are elsewhere."""
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_visa")
    home.events("2026-05-01 ready s1 gb=100")
    if command != "close":
        home.run("close")
    told: list[tuple[int, int, str]] = []

    @contextmanager
    def steps(context: Context, unit: str) -> Iterator[Callable[[int, int, str], None]]:
        yield lambda done, total, name: told.append((done, total, name))

    monkeypatch.setattr(progress, "steps", steps)
    home.run(*command.split())
    assert WORK[command] in told


@pytest.mark.parametrize(
    ("seconds", "context", "stderr"),
    [
        (0, Context(), Terminal()),
        (2, Context(quiet=True), Terminal()),
        (2, Context(json_logs=True), Terminal()),
        (2, Context(), io.StringIO()),
    ],
)
def test_nothing_is_shown(monkeypatch: pytest.MonkeyPatch, seconds: int, context: Context, stderr: io.StringIO) -> None:
    """Within a second, where only data or JSON is wanted, and where nobody looks."""
    assert shown(monkeypatch, seconds, context, stderr).strip("\n") == ""
