"""A file is put in its place whole, or nothing of it is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from metering.durable import put, write_whole
from metering.errors import UsageError


@pytest.mark.parametrize("synced", [False, True])
def test_a_file_takes_the_place_of_the_old_one(tmp_path: Path, synced: bool) -> None:
    place = tmp_path / "note.json"
    for content in (b"old and longer", b"new"):
        put(place, content, synced=synced)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("note.json", b"new")]


def test_what_could_not_be_put_leaves_nothing(tmp_path: Path) -> None:
    place = tmp_path / "taken"
    (place / "by a folder").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        put(place, b"new")
    with pytest.raises(UsageError, match="taken: Is a directory") as refused:
        write_whole(place, b"new")
    assert refused.value.unchanged == "Nothing was written."
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
