"""Progress: on a terminal only, after a second, without colours where NO_COLOR asks for none."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable

import pytest

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
        show(4, 8, "seals")
    return stderr.getvalue()


def test_rate_and_what_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four of eight in two seconds are two a second."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    said = shown(monkeypatch, 2, Context(), Terminal())
    assert "4/8" in said and "2.0 checks/s" in said and "seals" in said
    assert COLOUR.search(said)


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    said = shown(monkeypatch, 2, Context(), Terminal())
    assert "2.0 checks/s" in said and not COLOUR.search(said)


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
