"""A run that is told to end does so in order: with a word, an exit code, and an end in the ledger."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

import pytest
from homes import Home

from metering import nightly
from metering.cli import app


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """Each test begins with the system's own, also where the suite runs under nohup; those of the tests come back."""
    kept = {number: signal.getsignal(number) for number in app.SIGNALS}
    for number in kept:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def ended(home: Home, monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    """The exit code of the command, run as a person or cron does."""
    monkeypatch.setattr(sys, "argv", ["metering", "--home", str(home.path), "--now", home.now, *args])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    with pytest.raises(SystemExit) as end:
        app.main()
    return int(end.value.code or 0)


@pytest.mark.parametrize("number", app.SIGNALS)
def test_a_run_is_ended_in_order(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    """In the middle of a night: no later step runs, the run has an end, and the next does what this one did not."""
    home.events("2026-05-01 ready s1 gb=1")
    steps = [("stop", lambda *_: signal.raise_signal(number)), *nightly.STEPS]
    with monkeypatch.context() as patch:
        patch.setattr(nightly, "STEPS", steps)
        assert ended(home, patch, "--json-logs", "nightly") == 1
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert said[-1]["message"].startswith(f"Stopped by {number.name}.\n") and said[-1]["exit_code"] == 1
    (run,) = home.report("runs")
    assert (run["exit_code"], run["summary"]) == ("1", f"Stopped: by {number.name}")
    assert list((home.path / "inbox").glob("*.jsonl"))
    assert "cut off" not in home.run("nightly", exit_code=None).stderr
    assert not list((home.path / "inbox").glob("*.jsonl"))


def test_a_second_signal_ends_it_at_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks twice does not want to wait."""
    found = []

    def step(*_: object) -> NoReturn:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            found.extend(signal.getsignal(number) for number in app.SIGNALS)
        raise AssertionError

    monkeypatch.setattr(nightly, "STEPS", [("stop", step)])
    assert ended(home, monkeypatch, "nightly") == 1
    assert found == [signal.SIG_DFL] * 3


def test_what_is_ignored_stays_so(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A night under nohup outlives its terminal."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(nightly, "STEPS", [("hang up", lambda *_: signal.raise_signal(signal.SIGHUP) or 0)])
    assert ended(home, monkeypatch, "nightly") == 0
