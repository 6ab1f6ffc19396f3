"""Event files in an object store: copied to this machine for as long as a run reads them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path, PurePosixPath

from metering.errors import UsageError
from metering.events.sources import Fetch, holds_events, is_unfinished, not_events
from metering.lake.objects import Objects

FOLDER = ".fetched.part"
"""Below the lake's folder on this machine; a killed run's is swept by the next."""
_WORKERS = 8


@contextmanager
def fetching(root: Path) -> Iterator[Fetch]:
    """What copies the objects of a URL, below a folder that is gone in the end."""
    folder = root / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield lambda url: _fetch(url, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetch(url: str, folder: Path) -> list[Path]:
    """Copy one object, or all event files below a folder, in the order of their names; a glob stands for either."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    objects = Objects(f"s3://{bucket}")
    names = _names(objects, key, url)
    begun = len([*folder.iterdir()]) if folder.exists() else 0
    # Only the last part of a name is used: it may hold anything.
    paths = [folder / f"{number:06}" / PurePosixPath(name).name for number, name in enumerate(names, begun + 1)]
    for path in paths:
        path.parent.mkdir(parents=True)
    with ThreadPoolExecutor(_WORKERS) as pool:
        for _ in pool.map(objects.download, names, paths):
            pass
    return paths


def _names(objects: Objects, key: str, url: str) -> list[str]:
    names = [item.name for item in objects.items(re.split(r"[*?[]", key)[0])]
    pattern = [part for part in key.split("/") if part]
    found = (
        {key: []} if key in names else {n: rest for n in names if (rest := _below(n.split("/"), pattern)) is not None}
    )
    if not found:
        raise UsageError(
            f"{url}: {'no object matches' if has_magic(key) else 'there is no such object, and none below it'}.",
            unchanged="Nothing was ingested.",
            remedy="Check the name.",
        )
    seen = {n: rest for n, rest in found.items() if not is_unfinished(PurePosixPath(n)) and not _is_hidden(rest)}
    strangers = {name for name in seen if not holds_events(PurePosixPath(name))}
    if named := sorted(name for name in strangers if not seen[name]):
        raise not_events(f"s3://{objects.bucket}/{named[0]}")
    return [name for name in seen if name not in strangers]


def _is_hidden(parts: list[str]) -> bool:
    return any(part.startswith(".") for part in parts)


def _below(parts: list[str], pattern: list[str]) -> list[str] | None:
    """The parts of a name below what a pattern names, none if it names all of it; None if it does not."""
    return next((parts[count:] for count in range(len(parts) + 1) if _fits(parts[:count], pattern)), None)


def _fits(parts: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not parts
    head, *rest = pattern
    if head == "**":
        return any(_fits(parts[count:], rest) for count in range(len(parts) + 1) if not _is_hidden(parts[:count]))
    if not parts or not fnmatchcase(parts[0], head) or parts[0].startswith(".") > head.startswith("."):
        return False
    return _fits(parts[1:], rest)
