"""Whatever comes through a door is taken or refused in a sentence: no crash, and nothing half-taken."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from homes import ACCOUNTS, FUNDS, PRICES, Home, event_lines
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.accounts.imports import import_accounts, import_funds
from metering.charges.prices import read_prices
from metering.config import load_config
from metering.errors import UsageError
from metering.events import sources
from metering.events.ingest import ingest
from metering.events.sources import Source
from metering.lake import Lake
from metering.ledger.sqlite import SqliteBook
from metering.reconcile.inventory import read_inventory
from metering.shipped import shipped

NOW = 1_780_300_800_000_000
ODD = [
    b"[" * 300,
    b"\x00",
    b"\xff\xfe",
    b'"',
    b"\n",
    b",",
    b"\xef\xbb\xbf",
    b"1e999",
    b"-1",
    b"=",
    b"\xe2\x80\xae",
    b"{",
    b"[" * 300,
]
FEW = settings(derandomize=True, max_examples=25, deadline=None, database=None)


def spoiled(sample: bytes) -> st.SearchStrategy[bytes]:
    """A good file with pieces cut out and odd ones put in, or any bytes at all."""
    place = st.integers(0, len(sample))
    edit = st.tuples(place, st.integers(0, 40), st.one_of(st.sampled_from(ODD), st.binary(max_size=12)))
    return st.one_of(st.lists(edit, max_size=4).map(lambda edits: _edited(sample, edits)), st.binary(max_size=300))


def _edited(sample: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, put in edits:
        sample = sample[:at] + put + sample[at + length :]
    return sample


GOOD_EVENTS = event_lines("2026-05-01 ready s1 gb=1\n2026-05-02 resized s1 gb=2\n2026-05-03 deleted s1\n").encode()
GOOD_ACCOUNTS = f"{ACCOUNTS}\nacc-1,Name,a@b.example,DE,USD,20,cus_1,pm_card_visa\nacc-2,Näme,,,KWD,0,,\n".encode()
GOOD_FUNDS = f"{FUNDS}\nacc-1,topup,1.50,USD,r-1,\nacc-1,credit,2.00,USD,r-2,2026-12-31\n".encode()
GOOD_PRICES = f"{PRICES}\nsnapshot.vm,,USD,0.000068,2026-01-01,\nsnapshot.vm,eu,USD,0.1,2026-02-01,acc-1\n".encode()
GOOD_CONFIG = shipped("schemas/home/metering.toml").read_bytes()
GOOD_LIST = b'snapshot_id,size\ns1,5\n"s,2",6\n'
GOOD_LINES = b'{"snapshot_id":"s1"}\n{"snapshot_id":"s2","x":[1]}\n'


@FEW
@given(spoiled(GOOD_EVENTS))
def test_events(content: bytes) -> None:
    """Every line that is not blank is accepted, a repeat, or in the quarantine; a second time adds nothing."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "events.jsonl")
        path.write_bytes(content)
        lake = Lake(Path(folder, "lake"))
        result = ingest(lake, [Source(path.name, path)], NOW)
        lines = [line for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip(b" \t\r")]
        assert result.accepted + result.duplicates + result.quarantined == len(lines)
        again = ingest(lake, [Source(path.name, path)], NOW)
        assert (again.batch, again.accepted, again.quarantined) == (None, 0, 0)


def test_the_good_files_are_good(tmp_path: Path) -> None:
    """What is spoiled above was taken before."""
    for content, door in (
        (GOOD_ACCOUNTS, _accounts), (GOOD_PRICES, lambda path: read_prices(str(path))), (GOOD_CONFIG, load_config),
        (GOOD_LIST, lambda path: read_inventory(str(path))), (GOOD_LINES, lambda path: read_inventory(str(path))),
    ):  # fmt: skip
        path = tmp_path / "file"
        path.write_bytes(content)
        door(path)
    _funds(path_of(tmp_path, GOOD_FUNDS))


def path_of(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


def _accounts(path: Path) -> None:
    with SqliteBook(path.with_name("no.db")).rehearse() as con:
        import_accounts(con, str(path), NOW, 1)


def _funds(path: Path) -> None:
    with SqliteBook(path.with_name("no.db")).rehearse() as con:
        import_accounts(con, _given(path), NOW, 1)
        import_funds(con, str(path), NOW, 1)


def _given(path: Path) -> str:
    known = path.with_name("accounts.csv")
    known.write_bytes(GOOD_ACCOUNTS)
    return str(known)


def knock(door: Callable[[Path], object], content: bytes) -> None:
    """The door takes it, or refuses it with a sentence that is no Python."""
    with TemporaryDirectory() as folder:
        try:
            door(path_of(Path(folder), content))
        except UsageError as error:
            assert error.message and "Traceback" not in str(error)


@FEW
@given(spoiled(GOOD_ACCOUNTS))
def test_accounts(content: bytes) -> None:
    knock(_accounts, content)


@FEW
@given(spoiled(GOOD_FUNDS))
def test_funds(content: bytes) -> None:
    knock(_funds, content)


@FEW
@given(spoiled(GOOD_PRICES))
def test_prices(content: bytes) -> None:
    knock(lambda path: read_prices(str(path)), content)


@FEW
@given(spoiled(GOOD_CONFIG))
def test_configuration(content: bytes) -> None:
    knock(load_config, content)


@FEW
@given(st.one_of(spoiled(GOOD_LIST), spoiled(GOOD_LINES)))
def test_inventory(content: bytes) -> None:
    knock(lambda path: read_inventory(str(path)), content)


@pytest.mark.skipif(not hasattr(sources, "MAX_LINE_BYTES"), reason="needs the limit of a line")
def test_a_compressed_bomb(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Endless zeros in a few bytes: refused at the limit of a line, left where it lies, and the rest is taken."""
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 2**20)
    (home.path / "inbox" / "a.jsonl.gz").write_bytes(gzip.compress(bytes(2**26)))
    home.events("2026-05-01 ready s1", "b.jsonl")
    assert "a line is longer than" in home.run("ingest", exit_code=3).stderr
    assert (home.path / "inbox" / "a.jsonl.gz").exists()
    assert home.report("usage")


def test_a_new_home_is_nobody_elses(tmp_path: Path) -> None:
    """The folder, the ledger, the sandbox and what is told: no rights for others."""
    home = Home(tmp_path / "home")
    for path in home.path.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    home.path.rmdir()
    home.run("init", str(home.path))
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_visa")
    home.events("2026-05-01 ready s1 gb=100")
    home.run("close", "2026-05")
    assert home.path.stat().st_mode & 0o077 == 0
    for name in ("ledger.db", "sandbox", "sandbox/captures.jsonl", "outbox", ".metering.lock"):
        assert (home.path / name).stat().st_mode & 0o077 == 0, name
    assert json.loads(next((home.path / "outbox").iterdir()).read_text())["specversion"] == "1.0"
