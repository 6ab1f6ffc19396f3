"""Where events come from: files, folders, globs, standard input."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import IO, Any

from metering.errors import UsageError
from metering.events.lines import BOM

TEXT = (".jsonl", ".ndjson")
PACKED = (".gz", ".zst")
PARQUET = ".parquet"
EXTENSIONS = (*TEXT, *(text + packed for text in TEXT for packed in PACKED), PARQUET)
CHUNK_BYTES = 8 * 2**20
"""How much of a file is checked at once; a chunk ends with a line."""


class Unreadable(Exception):
    """A file that cannot be read to its end; the message says why."""


@dataclass(frozen=True)
class Source:
    """One file of events, or standard input."""

    name: str
    path: Path | None = None
    stream: IO[bytes] | None = None

    @property
    def is_parquet(self) -> bool:
        """Whether its rows are columns already."""
        return self.path is not None and self.path.name.lower().endswith(PARQUET)

    @property
    def size_bytes(self) -> int:
        """How large the file is, 0 where that is not known."""
        try:
            return self.path.stat().st_size if self.path else 0
        except OSError:
            return 0


def expand(sources: Sequence[str], *, stdin: Any = None) -> list[Source]:
    """The files that sources name, each once; a folder's and a glob's in the order of their paths.

    Folders are searched to their depth. What is still being written (`*.part`, `*.tmp`, dotfiles) is left
    alone. Raises UsageError for what is not there, and for a file named or matched that holds no events.
    """
    found: list[Source] = []
    seen: set[Path] = set()
    for text in sources:
        if text == "-":
            found.append(Source("-", stream=getattr(stdin, "buffer", stdin)))
            continue
        for path in _paths(text):
            if (real := path.resolve()) not in seen:
                seen.add(real)
                found.append(Source(path.name, path))
    return found


def waiting(inbox: Path) -> list[Path]:
    """The files in the inbox that an ingest would take, in the order of their names."""
    return [path for path in _members(inbox) if path.is_file() and _holds_events(path)]


def strangers(inbox: Path) -> list[Path]:
    """The files in the inbox that no ingest takes, because their names do not say that they hold events."""
    return [path for path in _members(inbox) if path.is_file() and not _holds_events(path)]


def _members(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if not _is_unfinished(path)), key=lambda path: path.name)


def _paths(text: str) -> list[Path]:
    if text.startswith("s3://"):
        raise UsageError(
            f"{text}: reading from an object store comes with the extra `s3`.",
            unchanged="Nothing was ingested.",
            remedy="Install metering[s3], or copy the files to a folder.",
        )
    path = Path(text)
    if path.is_dir():
        return _below(path)
    if path.exists():
        return _taken([path])
    # Path.glob takes no absolute pattern.
    if has_magic(text) and (matches := sorted(glob(text, recursive=True))):  # noqa: PTH207
        folders = [each for match in matches if (each := Path(match)).is_dir() and not _is_unfinished(each)]
        files = [each for match in matches if not (each := Path(match)).is_dir()]
        return sorted({*_taken(files), *(file for folder in folders for file in _below(folder))}, key=str)
    raise UsageError(
        f"{text}: {'no file matches' if has_magic(text) else 'there is no such file or folder'}.",
        unchanged="Nothing was ingested.",
        remedy="Check the name.",
    )


def _taken(files: list[Path]) -> list[Path]:
    files = [file for file in files if not _is_unfinished(file)]
    for file in files:
        if not _holds_events(file):
            raise UsageError(
                f"{file}: not a file of events; their names end in {', '.join(EXTENSIONS)}.",
                unchanged="Nothing was ingested.",
                remedy="Rename the file if it holds events.",
            )
    return files


def _below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root) / name for name in files]
    return sorted((path for path in found if not _is_unfinished(path) and _holds_events(path)), key=str)


def _is_unfinished(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower().endswith((".part", ".tmp"))


def _holds_events(path: Path) -> bool:
    return path.name.lower().endswith(EXTENSIONS)


# Reading


def chunks(source: Source, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The bytes of a source in pieces that end with a line, without a byte-order mark; raises Unreadable."""
    rest: list[bytes] = []
    first = True
    for block in _blocks(source, size):
        if first:
            block, first = block.removeprefix(BOM), False
        cut = block.rfind(b"\n") + 1
        if cut:
            yield b"".join([*rest, block[:cut]])
            rest = []
        if cut < len(block):
            rest.append(block[cut:])
    if rest:
        yield b"".join(rest)


def _blocks(source: Source, size: int) -> Iterator[bytes]:
    try:
        with _open(source) as file:
            while block := _read(file, size):
                yield block
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unreadable(reason or type(error).__name__) from error


def _read(file: Any, size: int) -> bytes:
    """So many bytes, fewer only at the end: a pipe gives what it has, which may cut a byte-order mark."""
    parts: list[bytes] = []
    left = size
    while left and (part := file.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _open(source: Source) -> Any:
    if source.path is None:
        if source.stream is None:
            raise OSError("standard input is not connected")
        return _Borrowed(source.stream)
    name = source.path.name.lower()
    if not name.endswith(PACKED):
        return source.path.open("rb", buffering=0)
    if source.path.stat().st_size == 0:
        raise EOFError("the file is empty, which no compressed file is")
    if name.endswith(".gz"):
        return gzip.open(source.path, "rb")
    import pyarrow as pa

    return pa.CompressedInputStream(pa.OSFile(str(source.path), "rb"), "zstd")


class _Borrowed:
    """A stream that is not ours to close."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.read = stream.read

    def __enter__(self) -> _Borrowed:
        return self

    def __exit__(self, *_: object) -> None:
        return None
