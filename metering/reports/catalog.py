"""Every report with its columns, as `schemas/reports.toml` lists them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache

from metering.shipped import shipped

GIVEN = {"simulation": "metering simulate --prices FILE --month M"}
"""Reports that need more than a filter, and the command that gives it."""


@dataclass(frozen=True, slots=True)
class ReportColumn:
    """A column of a report: its kind says how it is printed, the sentence what it holds."""

    name: str
    kind: str
    doc: str


@dataclass(frozen=True, slots=True)
class Report:
    """A report: what one row is, and its columns in order."""

    name: str
    grain: str
    columns: tuple[ReportColumn, ...]


@cache
def reports() -> dict[str, Report]:
    """Every report by name."""
    return _read("schemas/reports.toml")


@cache
def reconciliations() -> dict[str, Report]:
    """What `metering reconcile` prints, by name."""
    return _read("schemas/reconcile.toml")


@cache
def operations() -> dict[str, Report]:
    """What the operator's commands print, by name."""
    return _read("schemas/operations.toml")


def _read(path: str) -> dict[str, Report]:
    document = tomllib.loads(shipped(path).read_text("utf-8"))
    return {
        name: Report(
            name,
            body["grain"],
            tuple(ReportColumn(column, kind, doc) for column, (kind, doc) in body["columns"].items()),
        )
        for name, body in document.items()
    }
