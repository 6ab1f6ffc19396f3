"""Many small write transactions in few commits: what waits meanwhile is committed together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from metering.ledger.book import Book

T = TypeVar("T")


@dataclass
class _Job:
    work: Callable[[sa.Connection], Any]
    done: bool = False
    result: Any = None
    error: BaseException | None = None


class Commits:
    """`write(work)` returns when what `work` wrote is committed; each work is whole or not at all."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._waiting: list[_Job] = []
        self._queue = threading.Lock()
        self._leader = threading.Lock()

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` and commit; its exception is raised here and undoes only its own writes."""
        job = _Job(work)
        with self._queue:
            self._waiting.append(job)
        with self._leader:
            if not job.done:
                self._commit()
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def _commit(self) -> None:
        with self._queue:
            jobs, self._waiting = self._waiting, []
        try:
            with self._book.write() as con:
                if len(jobs) == 1:
                    jobs[0].result = jobs[0].work(con)
                else:
                    for job in jobs:
                        _run(con, job)
        except BaseException as error:
            for job in jobs:
                job.error = job.error or error
        finally:
            for job in jobs:
                job.done = True


def _run(con: sa.Connection, job: _Job) -> None:
    con.exec_driver_sql("SAVEPOINT job")
    try:
        job.result = job.work(con)
    except Exception as error:
        job.error = error
        con.exec_driver_sql("ROLLBACK TO job")
    con.exec_driver_sql("RELEASE job")
