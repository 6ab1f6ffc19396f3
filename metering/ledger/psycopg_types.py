"""How values travel to PostgreSQL and back: integers exactly, and nothing that could be rounded."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper, Loader


class _Refused(Dumper):
    """The server would round a fraction to the next integer; no fraction is ever booked."""

    def dump(self, obj: Any) -> Buffer:
        raise psycopg.DataError(f"{type(obj).__name__} {obj} is no integer")


class _Whole(Loader):
    """A numeric, such as the sum of a column of integers."""

    def load(self, data: Buffer) -> int:
        return int(bytes(data))


def configure(connection: psycopg.Connection[Any]) -> None:
    """Have a connection refuse fractions, and read sums as integers."""
    for kind in (float, Decimal):
        connection.adapters.register_dumper(kind, _Refused)
    connection.adapters.register_loader("numeric", _Whole)
