"""Documents written to files or standard output."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec

from metering.durable import write_whole
from metering.errors import MeteringError, NeedsPerson, UsageError, unwritable

Document = dict[str, Any]
Make = Callable[[Document], bytes]


def maker(format: str) -> Make:
    """What makes documents of a format; UsageError where its extra is not installed."""
    if format == "pdf":
        from metering.documents.pdf import Press

        return Press().make
    if format == "html":
        from metering.documents.html import environment, html

        environment()
        return lambda document: html(document).encode()
    return lambda document: msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def write_one(document: Document, format: str, output: str | None) -> None:
    """Write a document to a file, or to standard output."""
    if output is None and format == "pdf" and sys.stdout.isatty():
        raise UsageError("A PDF is nothing for a terminal.", remedy="Name a file with --output, or redirect it.")
    content = maker(format)(document)
    if output is None:
        sys.stdout.buffer.write(content)
    else:
        write_whole(Path(output), content)


def write_all(documents: Iterable[Document], format: str, folder: str) -> int:
    """Write documents into a folder, each under its number; how many.

    A document that cannot be set does not stop the others: NeedsPerson names them at the end.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    count = 0
    failed = []
    for number, made in _made(documents, format):
        if isinstance(made, bytes):
            write_whole(target / f"{number}.{format}", made)
            count += 1
        else:
            failed.append(made)
    if failed:
        raise NeedsPerson(
            "\n".join(error.message for error in failed),
            unchanged=f"{count} documents were written, {len(failed)} were not.",
            remedy=failed[0].remedy,
        )
    return count


Made = tuple[str, bytes | MeteringError]
FEW = 100
"""So many PDFs are made in this process: others take a second to start."""
TOGETHER = 10
"""So many are handed to another process at once."""
AHEAD = 3
"""For each process so many such parts are gathered ahead, so that none has to wait."""


def _made(documents: Iterable[Document], format: str) -> Iterator[Made]:
    """Every document with its number, made, or with what keeps it from being made; in their order."""
    make = maker(format)
    waiting = iter(documents)
    first = list(islice(waiting, FEW))
    processes = os.cpu_count() or 1
    if format != "pdf" or len(first) < FEW or processes == 1:
        yield from (_one(make, document) for document in chain(first, waiting))
        return
    everything = chain(first, waiting)
    being_made: deque[Future[list[Made]]] = deque()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        while part := list(islice(everything, TOGETHER)):
            being_made.append(pool.submit(_pdfs, part))
            if len(being_made) > AHEAD * processes:
                yield from being_made.popleft().result()
        for rest in being_made:
            yield from rest.result()


def _pdfs(documents: list[Document]) -> list[Made]:
    make = maker("pdf")
    return [_one(make, document) for document in documents]


def _one(make: Make, document: Document) -> Made:
    try:
        return document["number"], make(document)
    except UsageError:
        raise
    except MeteringError as error:
        return document["number"], MeteringError(error.message, unchanged=error.unchanged, remedy=error.remedy)
