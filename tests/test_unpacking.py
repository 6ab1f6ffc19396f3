"""What is no backup is refused: an archive that explodes, links, devices, other places, more or less than it names."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from homes import Home
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.recovery import unpack as unpack_module
from metering.recovery.unpack import NoBackup, unpack

FILES = {"metering.toml": b"[issuer]\nname = 'Pencil Ltd'\n", "prices.csv": b"", "inbox/a b\n.jsonl": b"{}\n" * 40}
Members = Iterator[tuple[tarfile.TarInfo, bytes]]


def named(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[Any, bytes]:
    """A member of an archive."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, link
    return info, content


def manifest(holds: dict[str, bytes] = FILES, **said: object) -> bytes:
    """What `backup.json` says of files; `said` stands in its place."""
    entries = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in holds.items()}
    return json.dumps({"version": 1, "made_at": 0, "engine": "0", "files": entries} | said).encode()


def whole(files: dict[str, bytes] = FILES, first: bytes | None = None, *more: tuple[Any, bytes]) -> bytes:
    """An archive as `metering backup` packs it, with more members at its end."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for info, content in (
            named("backup.json", first or manifest(files)), *(named(*each) for each in files.items()), *more
        ):  # fmt: skip
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def packed_in(folder: Path, content: bytes, name: str = "b.tar") -> Path:
    """An archive on disk, packed as its name says."""
    kind = {".zst": "zstd", ".gz": "gzip"}.get(Path(name).suffix)
    path = folder / name
    if kind is None:
        path.write_bytes(content)
    else:
        with pa.CompressedOutputStream(str(path), kind) as file:
            file.write(content)
    return path


def below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def silent(*_: object) -> None:
    """Shows nothing."""


def raw(kind: bytes, size: int, name: str = "x") -> bytes:
    """A header, as no library would write it."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def sparse() -> bytes:
    """A file of ten terabytes that takes a block."""
    head = bytearray(raw(tarfile.GNUTYPE_SPARSE, 0, "prices.csv"))
    head[386:410] = b"00000000000\x0000000000000\x00"
    head[483:495] = b"\x80" + (10**13).to_bytes(11, "big")
    head[148:156] = b" " * 8
    head[148:156] = f"{sum(head):06o}\0 ".encode()
    return bytes(head)


def odd(name: str) -> bytes:
    """A manifest that names something else."""
    return manifest({**FILES, name: b""})


BEGIN = whole()[: whole().index(b"metering.toml\0")]
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "above": (lambda: whole(FILES, None, named("../evil", b"x")), "'../evil', which its backup.json does not name"),
    "elsewhere": (lambda: whole(FILES, None, named("/tmp/evil")), "'/tmp/evil', which its backup.json does not name"),
    "above, named": (lambda: whole(FILES, odd("../evil"), named("../evil")), "names '../evil', which is no file of"),
    "elsewhere, named": (lambda: whole(FILES, odd("/evil"), named("/evil")), "names '/evil', which is no file of"),
    "within, by a detour": (lambda: whole(FILES, odd("a/./b")), "names 'a/./b', which is no file"),
    "no name": (lambda: whole(FILES, odd("")), "names '', which is no file"),
    "itself": (lambda: whole(FILES, odd("backup.json")), "names 'backup.json', which is no file"),
    "file and folder": (lambda: whole(FILES, odd("inbox")), "names inbox as a file and as a folder"),
    "a link": (lambda: whole(FILES, None, named("prices.csv", b"", tarfile.SYMTYPE, "/etc/passwd")), "no plain file"),
    "a hard link": (lambda: whole(FILES, None, named("x", b"", tarfile.LNKTYPE, "prices.csv")), "'x' in it is no"),
    "a device": (lambda: whole(FILES, None, named("x", b"", tarfile.CHRTYPE)), "'x' in it is no plain file"),
    "a pipe": (lambda: whole(FILES, None, named("x", b"", tarfile.FIFOTYPE)), "'x' in it is no plain file"),
    "a folder": (lambda: whole(FILES, None, named("x", b"", tarfile.DIRTYPE)), "'x' in it is no plain file"),
    "a sparse file": (lambda: BEGIN + sparse(), "'prices.csv' in it is no plain file"),
    "twice": (lambda: whole(FILES, None, named("prices.csv")), "it holds 'prices.csv' twice"),
    "more than named": (lambda: whole(FILES, None, named("lake/x")), "'lake/x', which its backup.json does not name"),
    "less than named": (lambda: whole(FILES, odd("lake/x")), "lake/x is missing"),
    "changed": (lambda: whole(FILES, manifest({**FILES, "prices.csv": b"x"})), "prices.csv was changed"),
    "changed within": (lambda: whole().replace(b"Pencil", b"Pencyl"), "metering.toml was changed"),
    "not led": (lambda: whole({"a": b"x"}, None)[1024:], "does not begin with its backup.json"),
    "nothing": (lambda: b"", "cannot be unpacked"),
    "no archive": (lambda: b"no archive" * 1000, "cannot be unpacked"),
    "no settings": (lambda: whole({"prices.csv": b""}), "metering.toml is missing"),
    "cut": (lambda: whole()[: whole().index(b"{}\n{}") + 7], "cannot be unpacked"),
    "cut between": (lambda: BEGIN, "metering.toml is missing"),
    "no manifest": (lambda: whole(FILES, b"{"), "its backup.json cannot be read"),
    "deep": (lambda: whole(FILES, b'{"x":' * 10**5), "its backup.json cannot be read"),
    "another version": (lambda: whole(FILES, manifest(version=2)), "it has version 2, this engine knows 1"),
    "below zero": (lambda: whole(FILES, manifest(files={"a": {"bytes": -1, "sha256": ""}})), "that a has -1 bytes"),
    "too much": (
        lambda: whole(FILES, manifest(files={"a": {"bytes": 10**15, "sha256": ""}})),
        "1000000000000000 bytes would come of",
    ),
    "a long name": (lambda: BEGIN + raw(tarfile.GNUTYPE_LONGNAME, 2**30) + bytes(2**21), "more than 65536 bytes stand"),
    "a long header": (lambda: BEGIN + raw(tarfile.XHDTYPE, 2**33) + bytes(2**21), "more than 65536 bytes stand"),
    "many headers": (lambda: BEGIN + raw(tarfile.XGLTYPE, 0) * 3000, "more than 65536 bytes stand"),
    "a long manifest": (lambda: raw(tarfile.REGTYPE, 2**33, "backup.json") + bytes(2**21), "backup.json has 858993"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_what_is_no_backup_is_refused(home: Home, tmp_path: Path, suffix: str) -> None:
    """The home stays as it is, nothing is left beside it, no file comes elsewhere, and little memory is taken."""
    before = home.fingerprint()
    for what, (made, said) in REFUSED.items():
        path = packed_in(tmp_path, made(), f"b.tar{suffix}")
        tracemalloc.start()
        done = home.run("restore", str(path), exit_code=2)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert said in done.stderr and "Nothing was put back." in done.stderr, (what, done)
        assert peak < 2**25, (what, peak)
        path.unlink()
        assert home.fingerprint() == before, what
        assert sorted(each.name for each in tmp_path.iterdir()) == [home.path.name], what


def test_what_explodes_is_refused_before_it_is_written(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of zeros that says truly how large it is; up to 300 times the archive's size may come."""
    monkeypatch.setattr(unpack_module, "FREE_BYTES", 2**20)
    monkeypatch.setattr(unpack_module, "_write", lambda *_: pytest.fail("it was written"))
    path = packed_in(tmp_path, whole({**FILES, "lake/zeros": bytes(2**26)}), "b.tar.zst")
    done = home.run("restore", str(path), exit_code=2)
    size = 2**26 + sum(map(len, FILES.values()))
    assert f"{size} bytes would come of {path.stat().st_size}: no home packs so well" in done.stderr


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_whole_one_is_unpacked(tmp_path: Path, suffix: str) -> None:
    """File by file, private, and as it was."""
    (tmp_path / "out").mkdir()
    unpack(packed_in(tmp_path, whole(), f"b.tar{suffix}"), tmp_path / "out", silent)
    assert below(tmp_path / "out") == FILES
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*")} == {0o600, 0o700}


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_one_is_whole_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Bytes changed or cut off anywhere: either every file comes as it was, or none counts."""
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(whole())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(len(content) // 2, 2 * len(content))) :]
    (folder / "out").mkdir()
    try:
        unpack(packed_in(folder, bytes(content)), folder / "out", silent)
    except NoBackup:
        return
    assert below(folder / "out") == FILES


def test_a_folder_holds_what_it_names_and_no_more(home: Home, tmp_path: Path) -> None:
    """A file too many would come into the lake unproven."""
    home.run("backup", str(tmp_path / "copy"))
    (tmp_path / "copy" / "lake" / "events").mkdir(parents=True, exist_ok=True)
    (tmp_path / "copy" / "lake" / "events" / "x.parquet").write_bytes(b"x")
    other = Home(tmp_path / "other")
    before = other.fingerprint()
    done = other.run("restore", str(tmp_path / "copy"), exit_code=2)
    assert "it holds 'lake/events/x.parquet', which its backup.json does not name" in done.stderr
    assert other.fingerprint() == before
