"""The relations of usage, computed by a cluster from the lake's files through the same `.sql` files."""

from __future__ import annotations

import re
from functools import reduce
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from metering.config import Engine
from metering.errors import MeteringError
from metering.lake.duck import every, nothing
from metering.lake.elsewhere import Parts
from metering.lake.layout import FIRST_LAYOUT
from metering.lake.relations import gather
from metering.schema import arrow_schema, empty_table
from metering.spark.session import open_session, told
from metering.sql import has_sql, sql

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from metering.lake.store import File

ROOMS = ("spark", "usage")
"""Where relations are looked for: one that Spark must say in other words has a twin in this room."""
_TABLES = ("events", "quarantine")
_TYPES = {pa.int64(): "BIGINT", pa.string(): "STRING", pa.binary(): "BINARY"}
_COUNTED: set[tuple[str, ...]] = set()
"""Lists of files whose rows the cluster has counted in this process."""


class OnCluster:
    """Usage over some parts of the lake, in a session of its own."""

    room = "usage"

    def __init__(self, parts: Parts, settings: Engine) -> None:
        self._parts = parts
        self._settings = settings
        self._given: dict[str, pa.Table] = {}
        self._defined: set[str] = set()
        self._wanted: dict[str, dict[str, pa.Table]] = {}
        self._kept: dict[str, DataFrame] = {}
        self._opened: SparkSession | None = None

    def give(self, name: str, rows: pa.Table) -> None:
        """Take rows for the relation of a name; what is kept stays as it was computed."""
        self._given[name] = rows
        self._defined.discard(name)

    def take(self, name: str) -> None:
        """Forget what was given under a name: it is the room's own relation again."""
        del self._given[name]
        self._defined.discard(name)

    def keep(self, name: str) -> None:
        """Keep a relation, made of what is given now, in the workers' memory and disks from the first question on."""
        self._wanted[name] = dict(self._given)

    def answer(self, name: str) -> pa.Table:
        """All rows of a relation."""
        session = self.open()
        with told(self._settings):
            self._keep_wanted(session)
            self._define(session, every(name), self._given)
            return session.table(name).toArrow()

    def close(self) -> None:
        """Let go of what is kept: the cluster frees it when nobody holds it any more."""
        self._kept.clear()

    def open(self) -> SparkSession:
        """The session, in which the lake's rows are defined. Raises MeteringError where the cluster sees others."""
        if self._opened is None:
            session = open_session(self._settings)
            with told(self._settings):
                self._read(session, "events", self._parts.events)
                self._read(session, "quarantine", self._parts.quarantine)
            self._opened = session
        return self._opened

    def _keep_wanted(self, session: SparkSession) -> None:
        """Define what is kept."""
        for name, given in self._wanted.items():
            query = _text(name)
            self._define(session, query, given)
            # A cache would not do: Spark drops it as soon as one of the small relations behind it is given anew.
            self._kept[name] = _bound(session, session.sql(query).localCheckpoint(eager=False))
            self._kept[name].createOrReplaceTempView(name)
            self._defined -= given.keys()
        self._wanted.clear()

    def _define(self, session: SparkSession, query: str, given: dict[str, pa.Table]) -> None:
        """Define what a query reads as views, as far as they are not: what was given, and relations of the room."""
        for name in given.keys() - self._defined:
            _frame(session, given[name]).createOrReplaceTempView(name)
            self._defined.add(name)
        for name, text in gather(query, ROOMS, {*_TABLES, *given, *self._kept}).items():
            if name not in self._defined:
                # A view finds what it reads by name whenever it is asked, so that it need not be defined anew.
                session.sql(f"CREATE OR REPLACE TEMPORARY VIEW {name} AS\n{text}")
                self._defined.add(name)

    def _read(self, session: SparkSession, table: str, files: list[File]) -> None:
        """Define the rows of a table of the lake, when the cluster has found as many as the manifest names."""
        if not files:
            _frame(session, empty_table(table)).createOrReplaceTempView(table)
            return
        oldest = FIRST_LAYOUT if table == "events" else 0
        old, new = [f for f in files if f.layout <= oldest], [f for f in files if f.layout > oldest]
        found = [self._files(session, table, new)] if new else []
        if old:
            self._files(session, table, old).createOrReplaceTempView("old_events")
            found.append(session.sql(sql("spark", "keyed_events")))
        rows = reduce(lambda some, others: some.unionByName(others), found)
        if self._parts.through is not None:
            rows = rows.where(f"batch <= {self._parts.through}")
        rows.createOrReplaceTempView(table)

    def _files(self, session: SparkSession, table: str, files: list[File]) -> DataFrame:
        """The rows of some files; their columns are those of the dictionary, so that Spark need not open one first."""
        paths = [f"{self._root}/{file.path}" for file in files]
        columns = ", ".join(f"{field.name} {_TYPES[field.type]}" for field in arrow_schema(table))
        rows = session.read.schema(columns).parquet(*paths)
        self._count(rows, paths, sum(file.rows for file in files))
        return rows

    def _count(self, rows: DataFrame, paths: list[str], expected: int) -> None:
        """Raise MeteringError if the cluster sees other files under the lake's address than are there."""
        if tuple(paths) in _COUNTED:
            return
        found = rows.count()
        if found != expected:
            raise MeteringError(
                f"The cluster finds {found} rows in {len(paths)} files below {self._root}; the lake has {expected}.",
                unchanged="Nothing was computed or written.",
                remedy="Another lake lies there for the workers, or an old copy: let them see the very same files.",
            )
        _COUNTED.add(tuple(paths))

    @property
    def _root(self) -> str:
        """The lake's address as the cluster knows it; in a path Spark would take some characters for a pattern."""
        given = (self._settings.lake_url or self._parts.url).rstrip("/")
        if "://" in given:
            return re.sub(r"^s3://", "s3a://", given)
        return "file://" + re.sub(r"([\\{}\[\]*?])", r"\\\1", given)


def _frame(session: SparkSession, rows: pa.Table) -> DataFrame:
    """Rows on the cluster; Spark Connect takes no table without rows."""
    if rows.num_rows:
        return session.createDataFrame(rows)
    return session.sql(nothing({field.name: _TYPES[field.type] for field in rows.schema}))


def _bound(session: SparkSession, kept: DataFrame) -> DataFrame:
    """What a session keeps as that session's own: pyspark's Connect client takes it for the process' first one's."""
    plan: Any = getattr(kept, "_plan", None)
    if plan is None:
        return kept
    plan._spark_session = session
    frame: Any = type(kept)
    return cast("DataFrame", frame(plan, session))


def _text(name: str) -> str:
    """The SQL of a relation."""
    return next(sql(room, name) for room in ROOMS if has_sql(room, name))
