"""Plays the calendar of `sample_data/` in a home: each step at its own time, with what the commands run."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from metering.clock import Clock
from metering.errors import DONE
from metering.home import Home, Run
from metering.setup import write_home
from metering.shipped import shipped
from metering.values import counted, parse_instant

SETTINGS = ("metering.toml", "prices.csv", "accounts.csv")


class Step(NamedTuple):
    """A line of the calendar: `nightly` (with the file that came in), `close`, `accounts`, `funds`, or `act`."""

    at: int
    do: str
    what: str


@dataclass
class Played:
    """What a step said and how it ended."""

    step: Step
    said: list[str] = field(default_factory=list)
    exit_code: int = DONE


def sample() -> Path:
    """Where the sample lies."""
    return shipped("sample_data")


def calendar() -> list[Step]:
    """Every step in order."""
    with (sample() / "calendar.csv").open(encoding="utf-8", newline="") as file:
        return [Step(parse_instant(row["at"]), row["do"], row["what"]) for row in csv.DictReader(file)]


def make_home(path: Path) -> None:
    """A home with the sample's settings."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in SETTINGS:
        shutil.copyfile(sample() / name, path / name)
    for _ in write_home(path):
        pass


def play(path: Path) -> Iterator[Played]:
    """Play the whole calendar, a step at a time."""
    for step in calendar():
        home = Home(path, Clock(step.at))
        played = Played(step)
        if step.do == "act":
            _act(home, step.what, played)
        else:
            command, player = _PLAYERS[step.do]
            with home.run(command.format(step.what)) as run:
                player(home, run, played)
                run.exit_code = played.exit_code
        yield played


def _nightly(home: Home, run: Run, played: Played) -> None:
    from metering.nightly import run_nightly

    if played.step.what:
        shutil.copyfile(sample() / "events" / played.step.what, home.inbox / played.step.what)
    played.exit_code = run_nightly(home, run, played.said.append)


def _close(home: Home, run: Run, played: Played) -> None:
    from metering.close.run import Options, run_close
    from metering.values import Month

    options = Options(Month.parse(played.step.what))
    played.exit_code = run_close(home, run, options, played.said.append).exit_code


def _accounts(home: Home, run: Run, played: Played) -> None:
    from metering.accounts.imports import import_accounts

    with home.lock(), home.book.write() as con:
        changed, _ = import_accounts(con, str(sample() / played.step.what), home.now, run.run)
    played.said.append(f"{counted(changed, 'account')} new or changed")


def _funds(home: Home, run: Run, played: Played) -> None:
    from metering.accounts.imports import import_funds

    with home.lock(), home.book.write() as con:
        added, _ = import_funds(con, str(sample() / played.step.what), home.now, run.run)
    played.said.append(f"{counted(added, 'reference')} added")


def _act(home: Home, account: str, played: Played) -> None:
    """The customer passes 3-D Secure, between two runs: only the gateway knows of it."""
    from metering.payments.sandbox import Sandbox
    from metering.reports.ask import Filter, ask

    sandbox = Sandbox(home.path / "sandbox", home.clock.now)
    for payment in ask(home, "payments", Filter(account_id=account)).to_pylist():
        if payment["status"] == "action_required":
            sandbox.complete_action(payment["gateway_ref"])
            played.said.append(payment["invoice"])
    sandbox.close()


_PLAYERS = {
    "nightly": ("nightly", _nightly),
    "close": ("close {}", _close),
    "accounts": ("accounts import {}", _accounts),
    "funds": ("funds import {}", _funds),
}
