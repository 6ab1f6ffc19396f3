"""`metering sql`: a SELECT over the reports as they stand now.

The reports that a query names are computed when it is asked, so that no answer is older than the question; the
published file is for tools that cannot ask the engine. The connection can neither write nor open a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from metering.errors import UsageError
from metering.home import Home
from metering.lake import connect, every, nothing, write_table
from metering.reports.ask import Reader, with_reader
from metering.reports.catalog import Report, ReportColumn
from metering.reports.publish import KINDS, describe, exact_rows, published, table_name
from metering.sql import sql

READING = ("SELECT", "EXPLAIN")
"""What only reads; SHOW, DESCRIBE and FROM are kinds of SELECT."""


@dataclass(frozen=True)
class Queried:
    """The rows of a query, which have their types already."""

    report: Report
    rows: pa.Table
    about: dict[str, str]

    def printed(self) -> pa.Table:
        """Decimals as text, times as RFC 3339 in UTC, numbers and truth values as they are."""
        con = connect(ordered=True)
        con.register("answer", self.rows)
        shown = (_shown(f'"{_escaped(name)}"', kind) for name, kind in zip(*_described(con), strict=True))
        return con.sql(every("answer", ", ".join(shown))).to_arrow_table()

    def typed(self) -> pa.Table:
        """The rows; spans of time, for which files have no type, are texts."""
        rows, printed = self.rows, self.printed()
        for index, field in enumerate(rows.schema):
            if pa.types.is_interval(field.type):
                rows = rows.set_column(index, field.name, printed.column(index))
        return rows


def query_reports(home: Home, query: str, about: dict[str, str] | None = None) -> Queried:
    """The rows of one SELECT; UsageError for anything else and for SQL that is wrong."""
    con = duckdb.connect(":memory:", config={"autoinstall_known_extensions": False})
    con.execute("SET TimeZone = 'UTC'")
    _check_reading(con, query)
    with_reader(home, lambda reader: _give_reports(con, reader, query), several=True)
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
    try:
        rows = _named_once(con.sql(query).to_arrow_table())
    except duckdb.Error as error:
        raise _wrong(error) from None
    columns = tuple(ReportColumn(field.name, _kind(field.type), "") for field in rows.schema)
    return Queried(Report("query", query, columns), rows, about or {})


def _check_reading(con: duckdb.DuckDBPyConnection, query: str) -> None:
    try:
        statements = con.extract_statements(query)
    except duckdb.Error as error:
        raise _wrong(error) from None
    if len(statements) != 1:
        raise UsageError(
            f"{len(statements)} statements where one SELECT belongs.", remedy="Ask one question at a time."
        )
    if statements[0].type.name not in READING:
        raise UsageError(
            f"This is no SELECT but {statements[0].type.name}.",
            remedy="`metering sql` only reads: ask with SELECT.",
        )


def _give_reports(con: duckdb.DuckDBPyConnection, reader: Reader, query: str) -> None:
    """Every report as a table; those that the query names have their rows."""
    named = [report for report in published() if _is_named(report, query)]
    if named:
        reader.ledger(*(sql("reports", report.name) for report in named))
    for report in published():
        name = table_name(report)
        if report in named:
            reader.prepare(report.name)
            con.register("rows_of_report", reader.con.sql(exact_rows(reader, report)).to_arrow_table())
            write_table(con, name, every("rows_of_report"))
            con.unregister("rows_of_report")
        else:
            kinds = {column.name: KINDS.get(column.kind, "VARCHAR") for column in report.columns}
            write_table(con, name, nothing(kinds))
        describe(con, report)


def _is_named(report: Report, query: str) -> bool:
    """Whether a query may read a report, under its own name or its table's."""
    own, table = re.escape(report.name), table_name(report)
    return re.search(rf"(?<![\w-]){own}(?![\w-])|\b{table}\b", query, re.IGNORECASE) is not None


def _wrong(error: duckdb.Error) -> UsageError:
    return UsageError(
        f"The query cannot be run: {str(error).strip()}",
        remedy="`SHOW TABLES` lists the reports, `DESCRIBE invoices` the columns of one, `metering schema` explains.",
    )


def _described(con: duckdb.DuckDBPyConnection) -> tuple[list[str], list[str]]:
    found = con.execute("DESCRIBE answer").fetchall()
    return [row[0] for row in found], [row[1] for row in found]


def _shown(name: str, kind: str) -> str:
    if kind in ("BOOLEAN", "DOUBLE", "FLOAT") or (kind.endswith("INT") and kind != "HUGEINT") or kind == "INTEGER":
        return name
    if kind.startswith("TIMESTAMP"):
        whole = f"strftime(CAST({name} AS TIMESTAMP), '%Y-%m-%dT%H:%M:%S')"
        fraction = f"rtrim(strftime(CAST({name} AS TIMESTAMP), '.%f'), '0')"
        return f"{whole} || CASE WHEN {fraction} = '.' THEN '' ELSE {fraction} END || 'Z' AS {name}"
    if kind.startswith("DECIMAL") and kind.endswith(",3)"):
        # Money has three places for the sake of a few currencies; the others are used to two.
        return f"regexp_replace(CAST({name} AS VARCHAR), '0$', '') AS {name}"
    return f"CAST({name} AS VARCHAR) AS {name}"


def _kind(type: pa.DataType) -> str:
    if pa.types.is_decimal(type):
        return "decimal"
    if pa.types.is_integer(type):
        return "integer"
    if pa.types.is_floating(type):
        return "number"
    if pa.types.is_boolean(type):
        return "boolean"
    return "instant" if pa.types.is_timestamp(type) else "text"


def _named_once(rows: pa.Table) -> pa.Table:
    """The rows with every column's name told apart: a join may give one twice."""
    names: list[str] = []
    for name in rows.column_names:
        names.append(name if name not in names else f"{name}_{len(names) + 1}")
    return rows.rename_columns(names)


def _escaped(name: str) -> str:
    return name.replace('"', '""')
