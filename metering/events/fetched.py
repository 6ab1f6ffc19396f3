"""Event files in an object store: copied to this machine for as long as a run reads them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
    """Copy one object, or all event files below a prefix that ends at a slash, in the order of their names."""
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
    below = f"{key.rstrip('/')}/" if key else ""
    found = [item.name for item in objects.items(key)]
    if key and key in found:
        if not holds_events(PurePosixPath(key)):
            raise not_events(url)
        return [key]
    members = [name for name in found if name.startswith(below)]
    if not members:
        raise UsageError(
            f"{url}: there is no such object, and none below it.",
            unchanged="Nothing was ingested.",
            remedy="Check the name; an object store knows no globs.",
        )
    parts = {name: PurePosixPath(name.removeprefix(below)) for name in members}
    hidden = {name for name, path in parts.items() if any(part.startswith(".") for part in path.parts)}
    return [n for n, path in parts.items() if n not in hidden and not is_unfinished(path) and holds_events(path)]
