"""Relations that another engine computes: what a query reads of them is brought to its connection.

The engine is told what the connection is told: which events count, and the small relations that are handed in. It
answers with whole relations of its room; the rest of a query runs on the connection, over what came back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol
from weakref import WeakKeyDictionary, finalize

import duckdb
import pyarrow as pa

from metering.lake.duck import every

if TYPE_CHECKING:
    from metering.lake.store import File


class Parts(NamedTuple):
    """The files of a lake that hold the rows of some batches, and of others where `through` is given."""

    url: str
    """Where the lake is: the path of a folder, or the URL of a bucket."""
    events: list[File]
    quarantine: list[File]
    through: int | None
    """The last batch that counts, where a file holds later ones too."""


class Engine(Protocol):
    """What computes the relations of a room over some parts of the lake."""

    room: str

    def give(self, name: str, rows: pa.Table) -> None:
        """Take rows for the relation of a name, in place of what it was."""

    def take(self, name: str) -> None:
        """Forget what was given under a name."""

    def keep(self, name: str) -> None:
        """Compute a relation once for all questions that follow."""

    def answer(self, name: str) -> pa.Table:
        """All rows of a relation, in any order."""

    def close(self) -> None:
        """Let go of what is kept."""


Compute = Callable[[Parts], Engine]


class _Behind:
    """The engine behind one connection, and the relations that it has brought there."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.brought: set[str] = set()


_BEHIND: WeakKeyDictionary[duckdb.DuckDBPyConnection, _Behind] = WeakKeyDictionary()


def compute_elsewhere(con: duckdb.DuckDBPyConnection, engine: Engine) -> None:
    """Have an engine compute its room's relations for a connection, as long as that lives."""
    _forget(con)
    _BEHIND[con] = _Behind(engine)
    finalize(con, engine.close)


def bring(con: duckdb.DuckDBPyConnection, room: str, name: str) -> bool:
    """Bring a relation to the connection; False if the connection computes that room's relations itself."""
    behind = _BEHIND.get(con)
    if behind is None or behind.engine.room != room:
        return False
    con.register(name, behind.engine.answer(name))
    behind.brought.add(name)
    return True


def tell(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """Tell the engine behind a connection, if there is one, what a small relation holds now."""
    if con in _BEHIND:
        _forget(con)
        _BEHIND[con].engine.give(name, con.sql(every(name)).to_arrow_table())


def untell(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """Tell the engine behind a connection, if there is one, that a small relation is gone."""
    if con in _BEHIND:
        _forget(con)
        _BEHIND[con].engine.take(name)


def keep(con: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Have the engine behind a connection keep a relation; False if there is none."""
    if con not in _BEHIND:
        return False
    _BEHIND[con].engine.keep(name)
    return True


def _forget(con: duckdb.DuckDBPyConnection) -> None:
    """Let go of what was brought: another question may have another answer."""
    behind = _BEHIND.get(con)
    while behind and behind.brought:
        con.unregister(behind.brought.pop())
