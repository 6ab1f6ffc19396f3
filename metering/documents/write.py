"""Documents written to files or standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from metering.errors import MeteringError, NeedsPerson, UsageError

FORMATS = ("pdf", "html", "json")
Make = Callable[[dict[str, Any]], bytes]


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


def write_one(document: dict[str, Any], format: str, output: str | None) -> None:
    """Write a document to a file, or to standard output."""
    if output is None and format == "pdf" and sys.stdout.isatty():
        raise UsageError("A PDF is nothing for a terminal.", remedy="Name a file with --output, or redirect it.")
    content = maker(format)(document)
    if output is None:
        sys.stdout.buffer.write(content)
    else:
        _write(Path(output), content)


def write_all(documents: Any, format: str, folder: str) -> int:
    """Write documents into a folder, each under its number; how many.

    A document that cannot be set does not stop the others: NeedsPerson names them at the end.
    """
    make = maker(format)
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror or error}.") from None
    count = 0
    failed = []
    for document in documents:
        try:
            _write(target / f"{document['number']}.{format}", make(document))
            count += 1
        except UsageError:
            raise
        except MeteringError as error:
            failed.append(error)
    if failed:
        raise NeedsPerson(
            "\n".join(error.message for error in failed),
            unchanged=f"{count} documents were written, {len(failed)} were not.",
            remedy=failed[0].remedy,
        )
    return count


def _write(path: Path, content: bytes) -> None:
    """Write a file whole: beside its place, then renamed."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}.") from None
