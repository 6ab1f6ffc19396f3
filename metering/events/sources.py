"""Where events come from: files, folders, globs, standard input, object stores."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob, has_magic
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import IO, Any

from metering.errors import UsageError
from metering.events.lines import BOM
from metering.values import printable

TEXT = (".jsonl", ".ndjson")
PACKED = (".gz", ".zst")
PARQUET = ".parquet"
EXTENSIONS = (*TEXT, *(text + packed for text in TEXT for packed in PACKED), PARQUET)
CHUNK_BYTES = 4 * 2**20
"""How much of a file is checked at once; a chunk ends with a line."""
MAX_LINE_BYTES = 2**28
"""A file with a longer line is no file of events, and is left aside whole."""

FREE_BYTES = 2**28
"""So much may come of any packed file."""
MOST_TIMES = 300
"""So many times its size may come of a larger one: events pack to a fiftieth, and what explodes to a thousandth."""

DONE = "done"
"""The folder in the inbox that holds what was taken."""


Fetch = Callable[[str], list[Path]]
"""Copies the objects of an `s3://` URL to this machine."""


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
    def is_packed(self) -> bool:
        """Whether it is compressed."""
        return self.path is not None and self.path.name.lower().endswith(PACKED)

    @property
    def size_bytes(self) -> int:
        """How large the file is, 0 where that is not known."""
        try:
            return self.path.stat().st_size if self.path else 0
        except OSError:
            return 0


def expand(sources: Sequence[str], *, stdin: Any = None, fetch: Fetch | None = None) -> list[Source]:
    """The files that sources name, each once; a folder's and a glob's in the order of their paths.

    Objects of a store are had through `fetch`.
    Folders are searched to their depth. What is still being written (`*.part`, `*.tmp`, dotfiles) is left
    alone. Raises UsageError for what is not there, and for a file named or matched that holds no events.
    """
    found: list[Source] = []
    seen: set[Path] = set()
    for text in sources:
        if text == "-":
            found.append(Source("-", stream=getattr(stdin, "buffer", stdin)))
            continue
        for path in fetch(text) if fetch and text.startswith("s3://") else _paths(text):
            if (real := path.resolve()) not in seen:
                seen.add(real)
                found.append(Source(printable(path.name), path))
    return found


def waiting(inbox: Path) -> list[Path]:
    """The files in the inbox that an ingest would take, in the order of their names."""
    return [path for path in _members(inbox) if path.is_file() and holds_events(path)]


def strangers(inbox: Path) -> list[str]:
    """What lies in the inbox and no ingest takes, by name: folders, and files whose names do not say that they hold
    events."""
    taken = {inbox / DONE, *waiting(inbox)}
    return [printable(path.name) + ("/" if path.is_dir() else "") for path in _members(inbox) if path not in taken]


def _members(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if not is_unfinished(path)), key=lambda path: path.name)


def _paths(text: str) -> list[Path]:
    if not text:
        raise UsageError(
            "A source has an empty name.", unchanged="Nothing was ingested.", remedy="Name it; this folder is `.`."
        )
    path = Path(text)
    if path.is_dir():
        return _below(path)
    if path.exists():
        return _taken([path])
    # Path.glob takes no absolute pattern.
    if has_magic(text) and (matches := sorted(glob(text, recursive=True))):  # noqa: PTH207
        folders = [each for match in matches if (each := Path(match)).is_dir() and not is_unfinished(each)]
        files = [each for match in matches if not (each := Path(match)).is_dir()]
        return sorted({*_taken(files), *(file for folder in folders for file in _below(folder))}, key=str)
    raise UsageError(
        f"{text}: {'no file matches' if has_magic(text) else 'there is no such file or folder'}.",
        unchanged="Nothing was ingested.",
        remedy="Check the name.",
    )


def _taken(files: list[Path]) -> list[Path]:
    files = [file for file in files if not is_unfinished(file)]
    for file in files:
        if not holds_events(file):
            raise not_events(str(file))
    return files


def not_events(name: str) -> UsageError:
    """What was named is no file of events."""
    return UsageError(
        f"{name}: not a file of events; their names end in {', '.join(EXTENSIONS)}.",
        unchanged="Nothing was ingested.",
        remedy="Rename the file if it holds events.",
    )


def _below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root) / name for name in files]
    return sorted((path for path in found if not is_unfinished(path) and holds_events(path)), key=str)


def is_unfinished(path: PurePath) -> bool:
    """Whether a producer is still writing it, or nobody is to see it."""
    return path.name.startswith(".") or path.name.lower().endswith((".part", ".tmp"))


def holds_events(path: PurePath) -> bool:
    """Whether its name says that it holds events."""
    return path.name.lower().endswith(EXTENSIONS)


# Reading


@dataclass(frozen=True)
class Piece:
    """Whole lines of a file, or of several small ones.

    `begins` are the files that begin here, each with the number of lines before it. `done` counts the bytes of the
    sources read so far, packed as they are.
    """

    text: bytes
    begins: list[tuple[int, int]]
    done: int


@dataclass(frozen=True)
class Broken:
    """A file that cannot be read to its end: none of its lines count, also of pieces that came before."""

    file_no: int
    reason: str


SMALL_BYTES = 2**18
"""Files up to this size are read whole and gathered."""


def pieces(sources: Sequence[Source]) -> Iterator[Piece | Broken | int]:
    """What text files hold, in order; a Parquet file comes as its number alone."""
    gathered: list[bytes] = []
    begins: list[tuple[int, int]] = []
    lines = size = done = 0
    for file_no, source in enumerate(sources):
        before, done = done, done + source.size_bytes
        is_small = source.path is not None and source.size_bytes <= SMALL_BYTES and not source.is_parquet
        if gathered and (not is_small or size >= CHUNK_BYTES):
            yield Piece(b"".join(gathered), begins, before)
            gathered, begins, lines, size = [], [], 0, 0
        if source.is_parquet:
            yield file_no
            continue
        try:
            read = chunks(source)
            head = list(islice(read, 2))
            # A packed file shows only when it is read how much it holds.
            if is_small and len(head) < 2:
                texts = [_ended(text) for text, _ in head]
                gathered += texts
                begins.append((file_no, lines))
                lines += sum(text.count(b"\n") for text in texts)
                size += sum(map(len, texts))
                continue
            if gathered:
                yield Piece(b"".join(gathered), begins, before)
                gathered, begins, lines, size = [], [], 0, 0
            mark = [(file_no, 0)]
            for text, place in chain(head, read):
                yield Piece(text, mark, before + place)
                mark = []
            if mark:
                yield Piece(b"", mark, done)
        except Unreadable as error:
            yield Broken(file_no, str(error))
    if gathered or begins:
        yield Piece(b"".join(gathered), begins, done)


def _ended(text: bytes) -> bytes:
    return text if text.endswith(b"\n") else text + b"\n"


def chunks(source: Source, size: int | None = None) -> Iterator[tuple[bytes, int]]:
    """The bytes of a source in pieces that end with a line, without a byte-order mark; raises Unreadable.

    With each piece comes how many bytes of the file were read for it, packed as they are.
    """
    rest: list[bytes] = []
    held = 0
    first = True
    place = 0
    for block, place in _blocks(source, size or CHUNK_BYTES):
        if first:
            block, first = block.removeprefix(BOM), False
        cut = block.rfind(b"\n") + 1
        if cut:
            yield b"".join([*rest, memoryview(block)[:cut]]), place
            rest, held = [], 0
        if cut < len(block):
            rest.append(block[cut:])
            held += len(rest[-1])
        if held > MAX_LINE_BYTES:
            raise Unreadable(f"a line is longer than {MAX_LINE_BYTES} bytes")
    if rest:
        yield b"".join(rest), place


def _blocks(source: Source, size: int) -> Iterator[tuple[bytes, int]]:
    most = max(MOST_TIMES * source.size_bytes, FREE_BYTES) if source.is_packed else None
    unpacked = 0
    try:
        with _open(source) as (file, place):
            while block := _read(file, size):
                unpacked += len(block)
                if most is not None and unpacked > most:
                    raise Unreadable(
                        f"more than {most} bytes come of {source.size_bytes}: no file of events packs so well"
                    )
                yield block, place()
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unreadable(reason or type(error).__name__) from error


def _read(file: Any, size: int) -> bytes:
    """So many bytes, fewer only at the end: a pipe gives what it has, which may cut a byte-order mark."""
    part: bytes = file.read(size)
    if not part or len(part) == size:
        return part
    parts = [part]
    left = size - len(part)
    while left and (part := file.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


@contextmanager
def _open(source: Source) -> Iterator[tuple[Any, Callable[[], int]]]:
    """The unpacked bytes of a source, and how far its file has been read."""
    if source.path is None:
        if source.stream is None:
            raise OSError("standard input is not connected")
        yield source.stream, lambda: 0
        return
    name = source.path.name.lower()
    with source.path.open("rb", buffering=0) as file:
        if not name.endswith(PACKED):
            yield file, file.tell
            return
        if source.path.stat().st_size == 0:
            raise EOFError("the file is empty, which no compressed file is")
        if name.endswith(".gz"):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked, file.tell
            return
        import pyarrow as pa

        with pa.PythonFile(file, "r") as plain, pa.CompressedInputStream(plain, "zstd") as stream:
            yield stream, file.tell
