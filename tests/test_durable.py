"""A file is put in its place whole, or nothing of it is left."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from metering.durable import put, write_whole, written_whole
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


def test_a_link_stays_one(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"before")
    link = tmp_path / "link"
    link.symlink_to(there)
    write_whole(link, b"after")
    assert link.is_symlink() and there.read_bytes() == b"after"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "there"]


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    """As root, a rename would put a file in the place of /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, b"all of it")
        assert os.read(reader, 100) == b"all of it"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_what_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    """A report that is cut off at the end of a row would look whole."""
    place = tmp_path / "usage.csv"
    place.write_text("old")
    place.chmod(0o640)
    with pytest.raises(UsageError, match="No space left on device"), written_whole(place) as part:
        part.write_text("half of")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(KeyboardInterrupt), written_whole(place) as part:
        part.write_text("half of")
        raise KeyboardInterrupt
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("usage.csv", "old")]
    with written_whole(place) as part:
        part.write_text("new")
        assert place.read_text() == "old"
    assert (place.read_text(), stat.S_IMODE(place.stat().st_mode)) == ("new", 0o640)
