"""Documents do not drift from the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from readme import README

from metering.reports.catalog import reports
from metering.schema import tables

ROOT = Path(__file__).parent.parent
DECISIONS = ROOT / "schemas" / "DECISIONS.md"
THREATS = ROOT / "schemas" / "THREATS.md"
PRIVATE = re.compile(r"(?<![\w.])/(?:work|root|tmp|home)/\w|pypi\.|(?:index|registry)[.-]url", re.ASCII)
DOCUMENTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("*/**/*.md"), ROOT / "jobs" / "crontab")
    if not any(part.startswith(".") or part in ("build", "dist") for part in path.relative_to(ROOT).parts)
)


def functions() -> dict[str, set[str]]:
    """Every test function by the name of its file."""
    return {
        path.name: set(re.findall(r"^\s*def (test_\w+)", path.read_text("utf-8"), re.MULTILINE))
        for path in (ROOT / "tests").glob("test_*.py")
    }


def named_tests(cell: str) -> list[tuple[str, str]]:
    """The tests that a cell names, as file and function; either may be empty."""
    return re.findall(r"(?:(test_\w+\.py)(?:::)?)?(?:(?<![\w/])(test_\w+)(?!\w|\.py))?", cell)


def rows_of(text: str) -> list[list[str]]:
    """The rows of a Markdown table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    heads = {index for index, row in enumerate(rows) if all(re.fullmatch(r":?-+:?", cell) for cell in row)}
    return [row for index, row in enumerate(rows) if index not in heads and index + 1 not in heads]


def unknown_tests(text: str) -> list[str]:
    """The rows of a table of decisions that name no test, or one that is not there."""
    known = functions()
    everything = set().union(*known.values())
    wrong = []
    for row in rows_of(text):
        found = [pair for pair in named_tests(row[-1]) if any(pair)]
        paths = re.findall(r"`((?:tests/)?(?:golden|cases|corrections)/[\w./-]+)`", row[-1])
        there = all(
            (not file or file in known) and (not name or name in known.get(file, everything)) for file, name in found
        ) and all((ROOT / "tests" / path.removeprefix("tests/")).exists() for path in paths)
        if len(row) != 3 or not (found or paths) or not there:
            wrong.append(" | ".join(row))
    return wrong


def test_decisions_name_tests() -> None:
    """Every decision names a test, or a case, that exists."""
    assert rows_of(DECISIONS.read_text("utf-8"))
    assert unknown_tests(DECISIONS.read_text("utf-8")) == []


def test_threats_name_tests() -> None:
    """What stands against a threat names a test, too."""
    threats = THREATS.read_text("utf-8").partition("## What could be attacked")[2]
    assert rows_of(threats) and unknown_tests(threats) == []


def test_the_guard_over_decisions_can_fail() -> None:
    """A decision without a test, with one that is gone, or with cells missing is found."""
    head = "| Question | Choice | Test |\n| --- | --- | --- |\n"
    good = "| why | so | `test_docs.py::test_decisions_name_tests` |\n"
    bad = (
        "| why | so | |\n",
        "| why | so | `test_docs.py::test_gone` |\n",
        "| why | so | `test_gone.py` |\n",
        "| why | `test_decisions_name_tests` |\n",
    )
    assert unknown_tests(head + good) == []
    assert [len(unknown_tests(head + good + row)) for row in bad] == [1, 1, 1, 1]


@pytest.mark.parametrize("name", sorted(reports()))
def test_report_columns_are_documented(name: str) -> None:
    """Every column of a report has a sentence."""
    report = reports()[name]
    assert report.grain
    assert [column.name for column in report.columns if not column.doc.endswith(".")] == []


@pytest.mark.parametrize("name", sorted(tables()))
def test_table_columns_are_documented(name: str) -> None:
    """Every column of a table has a sentence."""
    assert [column.name for column in tables()[name].columns if not column.doc.endswith(".")] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents(path: Path) -> None:
    """Links lead to files that are there, and nothing names a machine or a registry."""
    text = path.read_text("utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)]
    missing = [link for link in links if link and "://" not in link and not (path.parent / link).exists()]
    assert missing == []
    assert PRIVATE.findall(text) == []


def test_readme_names_the_jobs() -> None:
    """The cron lines of the README are those of jobs/crontab."""
    lines = [line for line in (ROOT / "jobs" / "crontab").read_text("utf-8").splitlines() if line.startswith(" ")]
    assert len(lines) == 3
    assert all(f"{line}\n" in README.read_text("utf-8") for line in lines)
