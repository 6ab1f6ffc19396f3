"""`metering.open_home(path).report(…)`: the reports as DataFrames, exact to the last digit."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from homes import Home

import metering
from metering.api import Books
from metering.cli.app import app
from metering.errors import UsageError
from metering.reports.catalog import reports

NOW = "2026-06-11T00:00:00Z"


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Books:
    """Two accounts, a size that no float holds, May closed, June running."""
    home = Home(tmp_path_factory.mktemp("books") / "home")
    home.prices("snapshot.vm,,USD,0.000000000001,2026-01-01,")
    home.accounts("acc-1,USD,10,pm_card_visa", "acc-2,USD,0,pm_card_visa")
    home.events(
        """
        2026-05-01 ready s1 bytes=9007199254740993 prj=web
        2026-05-01 ready s2 bytes=1 prj=db
        2026-05-01 ready t1 acc=acc-2 gb=5
        2026-05-02 deleted t1
        """
    )
    home.run("close", "2026-05")
    return metering.open_home(home.path, now=NOW)


def test_decimals_are_exact(books: Books) -> None:
    """9,007,199,254,740,994 bytes × 744 h = 6,701,356,245.527299536 GB-hours, also when pandas adds them."""
    frame = books.report("usage", by="project", month="2026-05", account="acc-1")
    assert list(frame.columns) == ["month", "account_id", "project_id", "gb_hours", "snapshots"]
    assert list(frame["gb_hours"]) == [Decimal("0.000000744"), Decimal("6701356245.527298792")]
    assert frame["gb_hours"].sum() == Decimal("6701356245.527299536")
    by_account = books.report("usage", by="project", month="2026-05").groupby("account_id")["gb_hours"].sum()
    assert by_account["acc-1"] == Decimal("6701356245.527299536")


def test_types(books: Books) -> None:
    """Money, prices and usage are decimals, times are in UTC, nothing is a float."""
    frame = books.report("invoices")
    assert frame["total"].iloc[0] == Decimal("0.01")
    assert str(frame["issued_at"].dtype) == "timestamp[us, tz=UTC][pyarrow]"
    assert frame["issued_at"].iloc[0] == pd.Timestamp("2026-06-01T08:00:00Z")
    lines = books.report("invoice-lines", account="acc-1")
    assert lines["price_per_gb_hour"].iloc[0] == Decimal("0.000000000001")
    for name in ("invoices", "invoice-lines", "balances", "forecast", "idle", "revenue", "usage"):
        assert not [dtype for dtype in books.report(name).dtypes if dtype.kind == "f"], name


def test_filters(books: Books) -> None:
    """Those of the command line, by the same words."""
    assert set(books.report("usage")["month"]) == {"2026-05", "2026-06"}
    assert set(books.report("usage", from_="2026-06")["month"]) == {"2026-06"}
    assert set(books.report("usage", to="2026-05")["month"]) == {"2026-05"}
    assert set(books.report("usage", by="snapshot", account="acc-2")["snapshot_id"]) == {"t1"}
    assert len(books.report("usage", by="day", month="2026-05", account="acc-2")) == 1
    assert len(books.report("usage", as_of=0)) == 0
    assert len(books.report("usage", billed=True)) == 2
    assert list(books.report("idle", days=40)["snapshot_id"]) == ["s1", "s2"]
    assert books.sql("SELECT sum(total) AS total FROM invoices")["total"].iloc[0] == Decimal("0.01")


def test_what_there_is_not_is_refused(books: Books, tmp_path: Path) -> None:
    """With the error of the command line."""
    with pytest.raises(UsageError, match="no report 'invoice'"):
        books.report("invoice")
    with pytest.raises(UsageError, match="month: 'May' is not a month"):
        books.report("usage", month="May")
    with pytest.raises(UsageError, match="belong to the report `usage`"):
        books.report("invoices", by="day")
    with pytest.raises(UsageError, match="no usage by 'week'"):
        books.report("usage", by="week")
    with pytest.raises(UsageError, match="metering simulate"):
        books.report("simulation")
    with pytest.raises(UsageError, match="not a metering home"):
        metering.open_home(tmp_path)


def test_the_clock_is_that_of_the_command_line(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """METERING_NOW sets it, as it does for `metering report`; one that is named goes before it."""
    monkeypatch.setenv("METERING_NOW", "2026-07-02T00:00:00Z")
    home = books._path
    assert sorted(set(metering.open_home(home).report("usage")["month"])) == ["2026-05", "2026-06", "2026-07"]
    assert sorted(set(metering.open_home(home, now="2026-06-15T00:00:00Z").report("usage")["month"])) == [
        "2026-05",
        "2026-06",
    ]


def test_the_dictionary_lists_the_reports() -> None:
    """As the README says: `metering schema reports`."""
    listed = CliRunner().invoke(app, ["schema", "reports"])
    names = {line.split()[1] for line in listed.stdout.splitlines()}
    assert listed.exit_code == 0 and names == reports().keys()


def test_importing_is_light() -> None:
    """`import metering` loads nothing that takes long; pandas comes with the first report."""
    heavy = "{'pandas', 'duckdb', 'pyarrow', 'sqlalchemy', 'msgspec'}"
    for names in ("metering", "metering.cli.app, metering.cli.decisions, metering.cli.finance, metering.cli.jobs"):
        code = f"import sys, {names}; found = {heavy} & sys.modules.keys(); assert not found, found"
        subprocess.run([sys.executable, "-c", code], check=True)
