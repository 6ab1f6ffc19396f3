"""Three months of the sample: the product's reports are those of a slow reference that knows no project code."""

from __future__ import annotations

import io
from pathlib import Path

import make_sample_data
import pytest
import reference_billing

from metering import story
from metering.checks.verify import verify
from metering.clock import Clock
from metering.home import Home
from metering.reports.ask import Filter, ask
from metering.reports.catalog import reports
from metering.reports.render import rows_of
from metering.values import Month

pytestmark = pytest.mark.xdist_group("sample_data")  # its home is made once

SAMPLE = Path(__file__).parent.parent / "sample_data"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home after the whole calendar."""
    path = tmp_path_factory.mktemp("sample") / "home"
    story.make_home(path)
    *_, last = story.play(path)
    return Home(path, Clock(last.step.at))


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
