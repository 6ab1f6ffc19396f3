"""A lake in an object store: immutable objects, copies of them on this machine, and a manifest replaced in one step.

A file is uploaded whole before the manifest names it. The manifest is replaced only if it still is the one that was
read (a conditional PUT); where a store has no such thing, runs take turns by the ledger's lock. An answer that never
came is settled by reading back. A copy is named by its content, and a lost one is fetched again.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec

from metering.durable import sync
from metering.errors import Locked, MeteringError
from metering.failpoints import failpoint
from metering.lake.files import Ability, Changed, Claim, Content, Files, Item, Refuse, sha256_of
from metering.lake.objects import ABSENT, Mismatch, Objects, Silent

PROBE = ".probe-"
_NOTE = ".store.json"
_TRIES = 6
_WAITS = 40
_DIGITS = 16
_DIGEST = re.compile(rf"-([0-9a-f]{{{_DIGITS}}})\.")
_PARQUET = b"PAR1"


class Note(msgspec.Struct, frozen=True):
    """What was found out about a store; it lies beside the copies, and is found out again where it is missing."""

    endpoint: str
    is_conditional: bool


class Bucket(Files):
    """A lake below a prefix of a bucket; `root` holds the copies."""

    workers = 8

    def __init__(self, url: str, root: Path, claim: Claim) -> None:
        self.objects = Objects(url)
        self.url = self.objects.url
        self.root = root
        self._claim = claim
        self._known: dict[str, Content] = {}

    # What is replaced

    def read(self, name: str) -> Content | None:
        found = self.objects.get(name, self._known.get(name))
        if found is None:
            self._known.pop(name, None)
        else:
            self._known[name] = found
        return found

    def replace(self, name: str, data: bytes, tag: str | None) -> None:
        if self.is_conditional():
            self._settle(name, data, tag, condition=tag or ABSENT)
            return
        with self.alone(name) as mine:
            if not mine:
                raise Locked(
                    f"Another run is replacing {self.url}/{name}.",
                    unchanged="Nothing of this run counts.",
                    remedy="Run the command again.",
                )
            found = self.read(name)
            if (found.tag if found else None) != tag:
                raise Changed(f"{self.url}/{name}")
            self._settle(name, data, tag, condition=None)

    def _settle(self, name: str, data: bytes, tag: str | None, condition: str | None) -> None:
        """Write until it is known what the store has: this content, or another one than was read."""
        for pause in _pauses(_TRIES):
            time.sleep(pause)
            failpoint("bucket.before_replace")
            # Refused or silent: also an earlier try of this one may have been what the store holds now.
            with suppress(Mismatch, Silent):
                written = self.objects.put(name, data, condition)
                failpoint("bucket.after_replace")
                if condition is not None:
                    self._known[name] = Content(data, written)
                    return
            with suppress(Silent):
                found = self.read(name)
                if found and found.data == data:
                    return
                if (found.tag if found else None) != tag:
                    raise Changed(f"{self.url}/{name}")
        raise MeteringError(
            f"{self.url}/{name} could not be replaced: the store gave no answer that says what became of it.",
            unchanged="The lake is as it was before this run, or as it is after it.",
            remedy="Run the command again when the store answers: it finds out which.",
        )

    # What is immutable

    def own_name(self, name: str, sha256: str) -> str:
        stem, dot, suffix = name.partition(".")
        return f"{stem}-{sha256[:_DIGITS]}{dot}{suffix}"

    def add(self, part: Path, name: str) -> None:
        failpoint("bucket.before_upload")
        self.objects.upload(part, name)
        failpoint("bucket.after_upload")
        # The copy comes last: what is here is there.
        self._keep(part, name)

    def find(self, name: str, sha256: str = "") -> Path | None:
        path = self.root / name
        wanted = sha256 or _digest_in(name)
        return path if _is_whole(path, wanted) else self._fetch(name, wanted)

    def bring(self, files: Iterable[tuple[str, str]]) -> None:
        lacking = [(name, sha256) for name, sha256 in files if not (self.root / name).exists()]
        if len(lacking) > 1:
            with ThreadPoolExecutor(self.workers) as pool:
                for _ in pool.map(lambda file: self._fetch(*file), lacking):
                    pass

    def _fetch(self, name: str, wanted: str) -> Path | None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            found = self.objects.download(name, part)
            if not found.startswith(wanted):
                raise MeteringError(
                    f"{self.url}/{name} was changed.",
                    unchanged="Nothing was written.",
                    remedy="Run `metering verify`, and put the object back from a backup.",
                )
            sync(part)
            self._keep(part, name)
        except FileNotFoundError:
            return None
        finally:
            part.unlink(missing_ok=True)
        return path

    def _keep(self, part: Path, name: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part.replace(path)

    def copy(self, name: str, path: Path) -> None:
        self.objects.download(name, path)

    def digest(self, name: str) -> str | None:
        try:
            found = self.objects.download(name)
        except FileNotFoundError:
            return None
        path = self.root / name
        if path.exists() and sha256_of(path) != found and found.startswith(_digest_in(name)):
            # The copy was damaged, and is fetched again when it is asked for.
            path.unlink()
        return found

    def items(self, prefix: str = "", after: str = "") -> list[Item]:
        return [item for item in self.objects.items(prefix, after) if not item.name.startswith(".")]

    def last(self, folder: str, suffix: str) -> str | None:
        # What has a copy here is there, so that only what came after it must be listed.
        copies = (f"{folder}/{path.name}" for path in (self.root / folder).glob(f"[!.]*{suffix}"))
        known = max(copies, default="")
        later = (item.name for item in self.objects.items(f"{folder}/", known) if item.name.endswith(suffix))
        return max(later, default=known) or None

    def remove(self, name: str) -> None:
        self.objects.delete(name)
        (self.root / name).unlink(missing_ok=True)

    @contextmanager
    def alone(self, folder: str) -> Iterator[bool]:
        for pause in _pauses(_WAITS, longest=2.0):
            time.sleep(pause)
            with self._claim(f"lake {folder}") as mine:
                if mine:
                    yield True
                    return
        yield False

    def refuse(self) -> Iterator[Refuse]:
        for item in self.objects.items(PROBE):
            yield Refuse(f"{self.url}/{item.name}", item.bytes, item.written, partial(self.objects.delete, item.name))
        for upload in self.objects.unfinished():
            what = f"s3://{self.objects.bucket}/{upload.key} (an upload that was never finished)"
            yield Refuse(what, 0, upload.began, partial(self.objects.give_up, upload))

    # What the store can do

    def ability(self) -> Ability:
        if self.is_conditional(anew=True):
            return Ability(f"{self.url} keeps runs apart by itself (conditional writes)")
        return Ability(
            f"{self.url} cannot keep runs apart by itself (no conditional writes); the ledger's lock does",
            "Have every machine use one ledger, or take a store that knows If-Match and If-None-Match.",
        )

    def is_conditional(self, *, anew: bool = False) -> bool:
        """Whether the store refuses to overwrite an object that is not the one named; tried at first use, or anew."""
        path = self.root / _NOTE
        with suppress(OSError, msgspec.MsgspecError):
            note = msgspec.json.decode(path.read_bytes(), type=Note)
            if not anew and note.endpoint == self.objects.endpoint:
                return note.is_conditional
        found = self._probe()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_bytes(msgspec.json.encode(Note(self.objects.endpoint, found)))
        part.replace(path)
        return found

    def _probe(self) -> bool:
        name = PROBE + secrets.token_hex(8)
        try:
            # What fails here fails for another reason.
            first = self.objects.put(name, b"first")
            return self._keeps_conditions(name, first)
        finally:
            with suppress(MeteringError):
                self.objects.delete(name)

    def _keeps_conditions(self, name: str, first: str) -> bool:
        """Whether writes are refused that must be, and done that must be; stores say in many ways that they cannot."""
        try:
            if not all(self._refuses(name, tag) for tag in (ABSENT, f'"{"0" * 32}"')):
                return False
            self.objects.put(name, b"second", first)
            found = self.objects.get(name)
            self.objects.delete(name)
            self.objects.put(name, b"third", ABSENT)
            return found is not None and found.data == b"second"
        except Silent:
            raise
        except (Mismatch, MeteringError):
            return False

    def _refuses(self, name: str, tag: str) -> bool:
        try:
            self.objects.put(name, b"overwritten", tag)
        except Mismatch:
            return True
        return False


def _pauses(tries: int, longest: float = 20.0) -> Iterator[float]:
    """Seconds to wait before each try: none at first, then growing and random."""
    yield 0.0
    for number in range(1, tries):
        yield random.uniform(0, min(longest, 0.1 * 2**number))


def _digest_in(name: str) -> str:
    """The beginning of a content's SHA-256 that a name tells; empty if it tells none."""
    match = _DIGEST.search(name.rpartition("/")[2])
    return match[1] if match else ""


def _is_whole(path: Path, wanted: str) -> bool:
    """Whether a copy is there to its end: Parquet says itself where it ends, others are read."""
    try:
        if path.suffix != ".parquet":
            return bool(wanted) and sha256_of(path).startswith(wanted)
        with path.open("rb") as file:
            begins = file.read(len(_PARQUET))
            file.seek(-len(_PARQUET), os.SEEK_END)
            return begins == file.read() == _PARQUET and file.tell() > 2 * len(_PARQUET)
    except OSError:
        return False
