"""Figures: sums, counts and values of reports, each with the command that reproduces it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import msgspec

from metering.home import Home
from metering.reports.ask import Filter, ask
from metering.reports.catalog import reports
from metering.reports.render import rows_of
from metering.values import Month, minor_digits

Row = dict[str, Any]
_TERM = re.compile(r"([+-]?)(\w+)")


@dataclass(frozen=True, slots=True)
class Question:
    """A report and its filter, as one asks for it on the command line."""

    report: str
    month_from: Month | None = None
    month_to: Month | None = None

    @property
    def filter(self) -> str:
        """The options of the command."""
        if self.month_from is None and self.month_to is None:
            return ""
        if self.month_from == self.month_to:
            return f"--month {self.month_from}"
        return " ".join(
            f"{name} {month}" for name, month in (("--from", self.month_from), ("--to", self.month_to)) if month
        )

    @property
    def command(self) -> str:
        """The command that prints the report."""
        return f"metering report {self.report} {self.filter}".strip()


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a report.

    `how` says what it is of the rows that `where` names: their `count`, or the `sum` of a column; a column may be
    several with signs between them, such as `total-tax`.
    """

    question: Question
    how: str
    column: str
    where: Mapping[str, Any]
    value: Decimal

    @property
    def text(self) -> str:
        """The exact value."""
        return f"{self.value:f}"

    @property
    def shown(self) -> str:
        """The value for people: thousands apart; GB-hours without their decimals."""
        value = self.value.quantize(Decimal(1), ROUND_HALF_UP) if self._is_usage else self.value
        return f"{value:,f}".replace("-", "−")

    @property
    def short(self) -> str:
        """The value in three digits or four, such as 1.23 M."""
        return short(self.value)

    @property
    def where_text(self) -> str:
        """The rows that count, as JSON."""
        return msgspec.json.encode(dict(self.where)).decode()

    @property
    def _is_usage(self) -> bool:
        kinds = {column.name: column.kind for column in reports()[self.question.report].columns}
        return self.how == "sum" and kinds.get(self.column) == "gb_hours"


UNITS = (("T", 12), ("G", 9), ("M", 6), ("k", 3), ("", 0))


def short(value: Decimal) -> str:
    """A number in about three digits: 950, 1.23 k, 12.3 M."""
    for unit, power in UNITS:
        scaled = value.scaleb(-power)
        if abs(scaled) >= 1 or not power:
            digits = max(0, 2 - max(scaled.copy_abs().adjusted(), 0)) if scaled else 0
            rounded = scaled.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
            return f"{rounded:f} {unit}".strip().replace("-", "−")
    raise AssertionError(value)


class Figures:
    """Asks each report once; every figure of the page comes from here."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._answers: dict[Question, list[Row]] = {}

    def rows(self, question: Question) -> list[Row]:
        """The rows of a report, every value as it is printed."""
        if question not in self._answers:
            report = reports()[question.report]
            names = [column.name for column in report.columns]
            table = ask(self._home, question.report, Filter(question.month_from, question.month_to))
            unit = self._home.config.billing.gigabyte_bytes
            self._answers[question] = [dict(zip(names, row, strict=True)) for row in rows_of(report, table, unit)]
        return self._answers[question]

    def sum(self, question: Question, column: str, **where: Any) -> Figure:
        """The sum of a column over the rows with some values."""
        terms = [(sign, name) for sign, name in _TERM.findall(column)]
        value = Decimal(0).scaleb(-minor_digits(where["currency"])) if "currency" in where else Decimal(0)
        for row in self.matching(question, where):
            for sign, name in terms:
                amount = Decimal(row[name] or 0)
                value += -amount if sign == "-" else amount
        return Figure(question, "sum", column, where, value)

    def count(self, question: Question, **where: Any) -> Figure:
        """How many rows have some values."""
        return Figure(question, "count", "", where, Decimal(len(self.matching(question, where))))

    def matching(self, question: Question, where: Mapping[str, Any]) -> list[Row]:
        """The rows with some values."""
        wanted = where.items()
        return [row for row in self.rows(question) if all(row[name] == value for name, value in wanted)]

    def values(self, question: Question, column: str) -> list[Any]:
        """The different values of a column that are there, sorted."""
        return distinct(row[column] for row in self.rows(question))


def distinct(values: Iterable[Any]) -> list[Any]:
    """The different values, sorted, without what is missing."""
    return sorted({value for value in values if value is not None})
