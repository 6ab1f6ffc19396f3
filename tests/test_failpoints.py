"""Killed anywhere and run again, a command ends where an undisturbed one ends: nothing lost, nothing doubled.

Every failpoint of the register is reached in a command that people run, the process dies there as by kill -9,
the same command runs again to its end, and everything that was taken in, billed, booked and charged must be as
if nothing had happened. By default one command dies at one point after the other; a soak kills it at each alone.
"""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from homes import KILLED, Home
from test_compaction import ARCHIVE_POINTS as ARCHIVING
from test_compaction import POINTS as MERGING
from test_lake_s3 import POINTS as IN_A_BUCKET
from test_notices import POINTS as TELLING
from test_restore import POINTS as RESTORING
from test_upgrade import POINTS as UPGRADING

from metering.failpoints import FAILPOINTS, failpoint
from metering.payments.desk import WORKERS

CHARGING = ("payment.", "sandbox.", "ledger.")
"""Points that lie after all that a state of the lifespans is read or written for."""


@pytest.fixture(autouse=True)
def worth(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small a lake is, it has a state, if that can matter to the kill."""
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if not all(point.startswith(CHARGING) for point in params.get("points", ("",))):
        monkeypatch.setenv("METERING_STATE_FROM", "0")


PAYING = (
    *("payment.before_confirm", "payment.after_confirm", "payment.before_record", "payment.after_record"),
    *("sandbox.before_capture", "sandbox.after_capture"),
)
KEEPING = ("state.during_files", "state.during_files:6", "state.before_swap", "state.after_swap")
TAKING = ("lake.before_commit", "lake.after_commit", "inbox.before_move", "inbox.during_move")
SCENARIOS: dict[str, tuple[tuple[str, ...], ...]] = {
    "ingest": (TAKING, ("identities.after_run",)),
    "close": (
        (
            *("lake.after_commit", "inbox.before_move", "state.during_files", "state.before_swap"),
            *("close.before_commit", "close.after_commit", "close.during_files", "close.after_files"),
        ),
        (
            *("ledger.before_archive", "payment.before_create", "payment.after_create", "payment.before_confirm"),
            *("sandbox.before_capture", "sandbox.after_capture", "payment.after_confirm"),
            *("payment.before_record", "payment.after_record"),
        ),
        ("close.during_files:2", "payment.after_create", "payment.after_confirm", "payment.before_record"),
        ("sandbox.after_capture", "sandbox.after_capture"),
    ),
    "nightly": (
        ("lake.after_commit", "inbox.before_move", *KEEPING, "payment.before_cancel", "payment.after_cancel"),
        ("sandbox.after_capture",),
    ),
}
"""Each command with the failpoints at which it is killed, one after the other; `:2` is the second passing."""

MORE: dict[str, tuple[tuple[str, ...], ...]] = {
    "close": (
        TAKING,
        ("payment.after_create:3",),
        ("sandbox.after_capture:2", "payment.after_record:2"),
        ("ledger.before_archive:2",),
    ),
    "nightly": (
        (
            *("payment.before_confirm", "sandbox.before_capture", "payment.after_confirm"),
            *("payment.before_record", "payment.after_record"),
        ),
    ),
}
"""The same points in other places and orders; a soak."""


def stories(scenarios: dict[str, tuple[tuple[str, ...], ...]]) -> list[tuple[str, tuple[str, ...]]]:
    """Each command with the points of one story."""
    return [(command, points) for command, told in scenarios.items() for points in told]


ALONE = sorted(
    {(command, (point,)) for command, points in (*stories(SCENARIOS), *stories(MORE)) for point in points}
    | {("close", (point,)) for point in PAYING}
    | {("nightly", (point,)) for point in PAYING}
)


@cache
def before(command: str, state_from: str | None) -> Path:
    """A home in which the command has much to do, with a state or without; one a worker, copied for each test."""
    home = Home(Path(mkdtemp()) / "home")
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,", "snapshot.vm,,KWD,0.001,2026-01-01,")
    home.accounts(
        "acc-1,USD,10,pm_card_visa", "acc-2,KWD,0,pm_card_visa",
        "acc-3,USD,0,pm_card_chargeDeclined", "acc-4,USD,0,pm_sandbox_declineOnce",
    )  # fmt: skip
    home.funds("acc-1,credit,1.00,USD,promo,2026-12-31", "acc-1,topup,2.00,USD,top,")
    home.events("2026-05-02 ready one acc=acc-1 gb=1000\n2026-05-02T10 deleted one\n", "a.jsonl")
    home.events(
        """
        2026-05-02T10 ready two acc=acc-2 gb=1234
        2026-05-02T11 deleted two
        2026-05-02 ready three acc=acc-3 gb=1000
        2026-05-02T05 deleted three
        2026-05-02 ready four acc=acc-4 gb=1000
        2026-05-02T07 deleted four
        """,
        "b.jsonl",
    )
    (home.path / "inbox" / "c.jsonl").write_text('{"no": "event"}\n')
    if command == "nightly":
        # acc-3 was declined and now has balance; acc-4 was declined and its retry is due; events wait.
        home.run("close", exit_code=3)
        home.run("funds", "add", "acc-3", "5.00", "--reference", "late", now="2026-06-02T06:00:00Z")
        home.events("2026-05-02T03 deleted three id=late\n2026-06-01 ready five acc=acc-1\n", "d.jsonl")
        home.events("2026-06-01 ready six acc=acc-9\n", "e.jsonl")
    return home.path


def given(command: str, path: Path) -> Home:
    """A copy of that home."""
    shutil.copytree(before(command, os.environ.get("METERING_STATE_FROM")), path)
    return Home(path, "2026-06-02T07:00:00Z" if command == "nightly" else "2026-06-01T08:00:00Z")


@cache
def undisturbed(command: str) -> dict[str, Any]:
    """What the command comes to when nothing happens to it."""
    home = given(command, Path(mkdtemp()) / "home")
    home.run(command, exit_code=3)
    return home.state()


def finish_and_compare(home: Home, command: str) -> None:
    home.run(command, exit_code=None)
    assert home.last.exit_code in (0, 3), home.last
    found, expected = home.state(), undisturbed(command)
    for name, value in expected.items():
        assert found[name] == value, name
    home.run("verify")


def killed_and_run_again(home: Home, command: str, points: tuple[str, ...]) -> None:
    # Side by side, a second charge may or may not have passed the next point when the first one dies.
    workers = 1 if len(points) > 1 else WORKERS
    for point in points:
        died = home.run_apart(command, failpoint=point, workers=workers)
        assert died.exit_code == KILLED, f"{point} was never reached: {died}"
    finish_and_compare(home, command)


@pytest.mark.parametrize(("command", "points"), stories(SCENARIOS))
def test_killed_at_one_point_after_the_other(tmp_path: Path, command: str, points: tuple[str, ...]) -> None:
    killed_and_run_again(given(command, tmp_path / "home"), command, points)


@pytest.mark.soak
@pytest.mark.parametrize(("command", "points"), stories(MORE))
def test_killed_elsewhere_too(tmp_path: Path, command: str, points: tuple[str, ...]) -> None:
    killed_and_run_again(given(command, tmp_path / "home"), command, points)


@pytest.mark.soak
@pytest.mark.parametrize(("command", "points"), ALONE)
def test_killed_at_one_point_alone(tmp_path: Path, command: str, points: tuple[str, ...]) -> None:
    killed_and_run_again(given(command, tmp_path / "home"), command, points)


def test_the_undisturbed_runs_are_what_they_should_be() -> None:
    """The measure itself, by pencil: the prices are 0.001, so 1,000 GB cost 1.00 an hour.

    Close: acc-1 10.00 + 10 % = 11.00, of which credit pays 1.00, balance 2.00, card 8.00. acc-2: 1.234, of which
    the card pays 1.230. acc-3 (5.00) and acc-4 (7.00) are declined. Nightly: acc-4's 7.00 are charged, acc-3's
    5.00 are paid from its balance; the late deletion waits for the next close.
    """
    closed = undisturbed("close")
    due = {row["account_id"]: (row["status"], row["amount_due_minor"]) for row in closed["invoice_status"]}
    assert due == {"acc-1": ("paid", 0), "acc-2": ("carried", 4), "acc-3": ("open", 500), "acc-4": ("open", 700)}
    assert len(closed["captures"]) == 2
    assert sum(row["row_count"] for row in closed["close_files"]) == 12  # 4 invoices of one line of one snapshot
    night = undisturbed("nightly")
    assert [row["status"] for row in night["invoice_status"]] == ["paid", "carried", "paid", "paid"]
    assert len(night["captures"]) == 3
    assert len(undisturbed("ingest")["files"]) == 2  # events and one quarantined line


def test_every_failpoint_is_reached_by_a_test() -> None:
    reached = {point.split(":")[0] for _, points in stories(SCENARIOS) for point in points}
    assert reached | IN_A_BUCKET | RESTORING | MERGING | ARCHIVING | TELLING | UPGRADING == set(FAILPOINTS)


def test_a_failpoint_that_is_not_in_the_register_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERING_FAILPOINT", "lake.after_commit")
    with pytest.raises(KeyError, match=r"no\.such\.point"):
        failpoint("no.such.point")


def test_a_disturbed_state_differs(tmp_path: Path) -> None:
    """The guard itself: a run that was killed and not run again is not taken for a finished one."""
    home = given("close", tmp_path / "home")
    assert home.run_apart("close", failpoint="payment.after_confirm").exit_code == KILLED
    assert home.state() != undisturbed("close")
