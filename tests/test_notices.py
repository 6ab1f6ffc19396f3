"""Notices: each told exactly once, whoever takes it and whatever dies."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from homes import KILLED, Home

from metering.reports.catalog import reports

POINTS = {"notices.before_told", "notices.before_shown"}
MAY = {"invoice.issued.INV-2026-05-000001", "invoice.issued.INV-2026-05-000002", "payment.failed.PAY-2026-05-000002-1"}


@cache
def made() -> Path:
    """Two accounts with 100 GB all of May (74,400 GB-hours x 0.001 = 74.40); the second's card is declined."""
    home = Home(Path(mkdtemp()) / "home")
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_visa", "acc-2,USD,0,pm_card_chargeDeclined")
    home.events("2026-05-01 ready s1 acc=acc-1 gb=100\n2026-05-01 ready s2 acc=acc-2 gb=100")
    home.run("ingest")
    return home.path


@pytest.fixture
def due(tmp_path: Path) -> Home:
    shutil.copytree(made(), tmp_path / "home")
    return Home(tmp_path / "home")


def told(home: Home) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in (home.path / "outbox").glob("[!.]*")}


def test_what_a_close_tells(due: Home) -> None:
    """CloudEvents whose id is the name of the file, with money as text in major units."""
    due.run("close", "2026-05", exit_code=3)
    assert "3 notices" in due.ledger("runs")[-1]["summary"]
    found = told(due)
    assert set(found) == MAY
    assert found["payment.failed.PAY-2026-05-000002-1"] == {
        "specversion": "1.0",
        "id": "payment.failed.PAY-2026-05-000002-1",
        "source": "/metering",
        "type": "payment.failed",
        "subject": "PAY-2026-05-000002-1",
        "time": "2026-06-01T08:00:00Z",
        "datacontenttype": "application/json",
        "data": {
            "account_id": "acc-2",
            "invoice": "INV-2026-05-000002",
            "currency": "USD",
            "amount": "74.40",
            "payment": "PAY-2026-05-000002-1",
            "reason": "generic_decline",
            "may_be_retried": True,
        },
    }
    due.run("verify")


def test_what_was_taken_does_not_come_back(due: Home) -> None:
    """The platform deletes what it has taken; the next night tells only what is new: the retry that failed."""
    due.run("close", "2026-05", exit_code=3)
    shutil.rmtree(due.path / "outbox")
    due.run("close", "2026-05", exit_code=3)
    assert told(due) == {}
    due.run("nightly", now="2026-06-02T08:00:00Z", exit_code=3)
    assert set(told(due)) == {"payment.failed.PAY-2026-05-000002-2"}
    due.run("verify", now="2026-06-02T08:00:00Z")


@pytest.mark.parametrize("point", sorted(POINTS))
@pytest.mark.parametrize("taken", [False, True])
def test_killed_and_run_again(due: Home, point: str, *, taken: bool) -> None:
    """Nothing is shown before it is recorded, so that what the platform took in between never comes back."""
    assert due.run_apart("close", "2026-05", failpoint=point).exit_code == KILLED
    assert told(due) == {}
    due.run("collect", exit_code=None)
    assert set(told(due)) == MAY
    if taken:
        shutil.rmtree(due.path / "outbox")
        due.run("collect")
        assert told(due) == {}
    assert not [*(due.path / "outbox").glob(".*")]
    due.run("verify")


def test_an_outbox_that_cannot_be_written_fails_no_close(due: Home) -> None:
    """The close stands with exit 1, and the next run tells."""
    due.file("outbox", "a file")
    assert "notices: outbox/ cannot be written" in due.run("close", "2026-05", exit_code=1).stderr
    assert due.column("invoices", "status") == ["paid", "open"]
    (due.path / "outbox").unlink()
    due.run("collect")
    assert set(told(due)) == MAY


def test_a_customer_who_must_act(due: Home) -> None:
    due.accounts("acc-2,USD,0,pm_card_authenticationRequired")
    due.run("close", "2026-05", exit_code=3)
    assert "payment.action_required.PAY-2026-05-000002-1" in told(due)


@pytest.mark.skipif("forecast" not in reports(), reason="needs the report forecast")
def test_money_that_will_not_last(due: Home) -> None:
    """100 GB in all of June come to 72.00; 50.00 are there, so 22.00 will be short. Told once a month."""
    due.run("close", "2026-05", exit_code=3)
    shutil.rmtree(due.path / "outbox")
    due.run("funds", "add", "acc-1", "50.00", "--reference", "t")
    due.now = "2026-06-11T00:00:00Z"
    due.run("nightly", exit_code=None)
    low = [notice for notice in told(due).values() if notice["type"] == "balance.low"]
    assert [(n["subject"], n["data"]["shortfall"], n["data"]["due"]) for n in low] == [("acc-1", "22.00", "2026-07-01")]
    shutil.rmtree(due.path / "outbox")
    due.run("nightly", exit_code=None)
    assert told(due) == {}
