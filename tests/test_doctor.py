"""The doctor names what will go wrong, with a remedy, and touches nothing."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import shutil
import sqlite3
from contextlib import closing
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import mkdtemp
from threading import Thread

import pytest
from homes import Home
from ledgers import behind_the_triggers

READY = "2026-05-01T00 ready s1 acc=acc-1 gb=100"
SECRET = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"  # pragma: allowlist secret; the example of the gateway's own documentation


@cache
def made() -> Path:
    """A home in which nothing is amiss: taken, closed, paid, and a night just over."""
    home = Home(Path(mkdtemp()) / "home")
    home.path.chmod(0o700)
    home.file("metering.toml", '[issuer]\nname = "Issuer Ltd"\n')
    home.prices("snapshot.vm,,USD,0.000068,2026-01-01,")
    home.accounts("acc-1,USD,20,pm_card_visa")
    home.events(READY)
    home.run("close", "2026-05")
    home.run("nightly")
    home.run("verify")
    home.run("backup", str(home.path.with_name("copy.tar")))
    return home.path


@pytest.fixture
def well(tmp_path: Path) -> Home:
    """That home, copied."""
    shutil.copytree(made(), tmp_path / "home")
    return Home(tmp_path / "home")


def found(home: Home, exit_code: int = 3, **more: str) -> dict[str, list[tuple[str, str, str]]]:
    """What the doctor finds, by check."""
    done = home.run("doctor", "--format", "csv", exit_code=exit_code, **more)
    rows: dict[str, list[tuple[str, str, str]]] = {}
    for row in csv.DictReader(io.StringIO(done.stdout)):
        assert row["state"] == "ok" or row["remedy"], row
        rows.setdefault(row["check"], []).append((row["state"], row["what"], row["remedy"]))
    return rows


def only(home: Home, check: str, state: str, *words: str) -> None:
    """The check is the only one with something to say, and says these words."""
    rows = found(home)
    assert {name for name, listed in rows.items() if any(row[0] != "ok" for row in listed)} == {check}, rows
    told = [row for row in rows[check] if row[0] == state]
    assert told and all(word in " ".join(told[0]) for word in words), rows[check]


def test_all_is_well_and_nothing_is_touched(well: Home) -> None:
    """Exit 0, every check is told, and no byte of the home differs afterwards."""
    before = well.fingerprint()
    rows = found(well, exit_code=0)
    assert len(rows) == 23 and well.fingerprint() == before


def test_a_broken_configuration_is_a_finding(well: Home) -> None:
    """With its line; other checks need the configuration and are left out."""
    well.file("metering.toml", '[billing]\ntimezone = "Mars/Olympus"\n')
    rows = found(well)
    assert list(rows) == ["configuration"]
    assert "line 2" in rows["configuration"][0][1] and "Mars/Olympus" in rows["configuration"][0][1]


def test_no_home_is_wrong_use(tmp_path: Path) -> None:
    nowhere = Home(tmp_path / "home")
    (nowhere.path / "metering.toml").unlink()
    assert "is not a metering home" in nowhere.run("doctor", exit_code=2).stderr


def test_a_time_zone_that_was_changed(well: Home) -> None:
    well.file("metering.toml", '[billing]\ntimezone = "Europe/Berlin"\n[issuer]\nname = "I"\n')
    assert found(well)["configuration"][0][0] == "fail"


def test_a_clock_before_the_last_posting(well: Home) -> None:
    """The refusal of every other command is a finding here."""
    rows = found(well, now="2026-05-31T00:00:00Z")
    assert rows["clock"][0][0] == "fail" and "last posting" in rows["clock"][0][1]


def test_rights(well: Home) -> None:
    (well.path / "ledger.db").chmod(0o644)
    only(well, "rights", "warn", "ledger.db", "0644", "chmod 0600")


def test_who_holds_the_lock(well: Home) -> None:
    """A held lock is named with its process, and does not stand in the doctor's way."""
    descriptor = os.open(well.path / ".metering.lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert f"process {os.getpid()} (" in found(well, exit_code=0)["locks"][0][1]
    finally:
        os.close(descriptor)


def test_a_missing_file_of_the_lake(well: Home) -> None:
    (well.path / "lake" / "events" / "00000001.parquet").unlink()
    rows = found(well)
    assert rows["lake"][0][:2] == ("fail", "events/00000001.parquet is missing")


def test_a_damaged_ledger(well: Home) -> None:
    """Pages overwritten with noise."""
    path = well.path / "ledger.db"
    content = bytearray(path.read_bytes())
    content[4096:12288] = b"\xa5" * 8192
    path.write_bytes(content)
    assert found(well)["ledger"][0][0] == "fail"


def test_a_ledger_put_back_from_a_backup(well: Home) -> None:
    """It is older than the lake knows it."""
    kept = well.path.with_name("kept.db")
    with closing(sqlite3.connect(well.path / "ledger.db")) as here, closing(sqlite3.connect(kept)) as there:
        here.backup(there)
    well.run("funds", "add", "acc-1", "5.00", "--reference", "t")
    kept.replace(well.path / "ledger.db")
    (well.path / "ledger.db").chmod(0o600)
    rows = found(well)
    assert rows["ledger"][0][0] == "fail" and "older" in rows["ledger"][0][1]


def test_a_newer_ledger(well: Home) -> None:
    with closing(sqlite3.connect(well.path / "ledger.db")) as con:
        con.execute("PRAGMA user_version = 99")
    rows = found(well)
    assert any("version 99" in row[1] for row in rows["ledger"])


def test_one_fault_is_told_once(well: Home) -> None:
    """A price list that nobody can read fails three checks; the later two point to the first."""
    well.file("prices.csv", "sku;region;currency;price_per_gb_hour;effective_from\n")
    rows = found(well)
    assert "semicolons" in rows["prices"][0][1]
    assert {rows[name][0][:2] for name in ("accounts", "money")} == {("fail", "fails as prices does")}


def test_usage_without_price_and_account(well: Home) -> None:
    """200 GB for ten hours, unknown account; 1 GB for 8 hours in a SKU without price."""
    well.events("2026-06-01T00 ready s2 acc=acc-9 gb=200\n2026-06-01T00 ready s3 acc=acc-1 type=volume gb=1", "b.jsonl")
    well.run("nightly", exit_code=3)
    rows = found(well)
    assert "8.000000000 GB-hours of acc-1 in 2026-06: snapshot.volume" in rows["prices"][0][1]
    assert "1600.000000000 GB-hours of acc-9 in 2026-06" in rows["accounts"][0][1]


def test_a_card_that_is_sure_to_fail(well: Home) -> None:
    """Usage, and neither card nor money; a top-up mends it."""
    well.accounts("acc-1,USD,20,pm_card_visa", "acc-2,USD,0,")
    well.events("2026-06-01T00 ready s2 acc=acc-2 gb=200", "b.jsonl")
    well.run("nightly")
    only(well, "cards", "warn", "acc-2", "neither card")
    # To be paid: 200 GB x 720 h x 0.000068 = 9.792.
    well.run("funds", "add", "acc-2", "1.00", "--reference", "t")
    only(well, "money", "warn", "acc-2 has no card, and 8.79 USD too little for what 2026-06 is to cost it")
    # And July's 744 h: 10.1184.
    (later,) = found(well, now="2026-07-02T00:00:00Z")["money"]
    assert later[1] == "acc-2 has no card, and 18.91 USD too little for what 2026-06 to 2026-07 are to cost it"
    well.run("funds", "add", "acc-2", "8.79", "--reference", "u")
    found(well, exit_code=0)


def test_a_card_that_was_refused_for_good(well: Home) -> None:
    """A stolen card pays no invoice; another one is worth a try. June is 100 GB x 720 h."""
    well.accounts("acc-1,USD,20,pm_card_chargeDeclinedStolenCard")
    well.now = "2026-07-01T08:00:00Z"
    well.run("close", "2026-06", exit_code=3)
    well.run("nightly", exit_code=None)
    rows = found(well)
    assert rows["cards"][0][:2] == (
        "warn", "acc-1's card was refused for good (stolen_card), 2026-07-01T08:00:00Z",
    )  # fmt: skip
    well.accounts("acc-1,USD,20,pm_card_visa")
    assert found(well)["cards"][0][0] == "ok"


def test_what_would_stop_the_close(well: Home) -> None:
    """June comes to 100 GB x 720 h x 0.000068 = 4.90; and nothing has come from one of the sources."""
    limits = 'max_invoice = { USD = "4.89" }\nrequire_sources = ["/compute", "/other"]'
    well.file("metering.toml", f'[issuer]\nname = "I"\n[close]\n{limits}\n')
    rows = found(well)
    assert rows["money"][0][0] == "warn" and "4.90 USD before tax for 2026-06" in rows["money"][0][1]
    assert [row[1].split(": a close")[0] for row in rows["sources"]] == [
        "nothing has come from /compute since 2026-05-01T00:00:00Z",
        "nothing has come from /other ever",
    ]


def test_a_run_that_was_cut_off(well: Home) -> None:
    """Until the next run tells of it."""
    well.events("2026-06-01 ready s7 gb=1", "b.jsonl")
    well.run_apart("ingest", failpoint="lake.before_commit")
    only(well, "runs", "warn", "(ingest), begun 2026-06-01T08:00:00Z, was cut off")
    well.run("ingest")
    found(well, exit_code=0)


def test_no_proof_and_no_backup_for_a_week(well: Home) -> None:
    """Eight days after the last; and at once where `verify` found something."""
    well.now = "2026-06-09T08:00:00Z"
    well.run("nightly")
    assert {found(well, exit_code=0)[check][0][0] for check in ("proofs", "backups")} == {"ok"}
    well.now = "2026-06-09T08:00:01Z"
    rows = found(well)
    assert {rows[check][0][0] for check in ("proofs", "backups")} == {"warn"}
    next((well.path / "lake" / "closes").rglob("*.parquet")).unlink()
    well.run("verify", exit_code=3)
    assert "ended with exit 3: does not hold: close_files: 1" in found(well)["proofs"][0][1]


def test_notices_that_nobody_takes(well: Home) -> None:
    for path in (well.path / "outbox").glob("*.json"):
        os.utime(path, (0, 0))
    only(well, "outbox", "warn", "1 notice in")


def test_an_older_engine_than_the_last_run(well: Home) -> None:
    behind_the_triggers(well.book, "UPDATE runs SET version = '99.1' WHERE run = (SELECT max(run) FROM runs)")
    only(well, "versions", "warn", "metering 99.1")


def test_strangers_and_leftovers_in_the_inbox(well: Home) -> None:
    well.file("inbox/notes.txt", "?")
    only(well, "inbox", "warn", "notes.txt")
    (well.path / "inbox" / "notes.txt").unlink()
    well.file("inbox/monday/a.jsonl", "{}")
    only(well, "inbox", "warn", "monday/: no run takes it")


def test_missed_nights_and_overdue_closes(well: Home) -> None:
    """Seven nights and, on the fourth day of July, the close of June."""
    well.now = "2026-06-08T09:00:00Z"
    only(well, "nights", "warn", "7 missed")
    well.now = "2026-07-04T00:00:01Z"
    rows = found(well)
    assert rows["closes"][0][:2] == ("warn", "2026-06 ended more than three days ago and is not closed")
    well.now = "2026-07-04T00:00:00Z"
    assert found(well)["closes"][0][0] == "ok"
    well.now = "2026-08-05T00:00:00Z"
    (late,) = found(well)["closes"]
    assert late[:2] == ("warn", "2026-06 to 2026-07 ended more than three days ago and are not closed")


def test_findings_tell_seconds(well: Home) -> None:
    (clock,) = found(well, exit_code=0, now="2026-06-01T08:00:07.654321Z")["clock"]
    assert clock[1] == "2026-06-01T08:00:07Z (set by --now)"


def test_a_bad_line_waits(well: Home) -> None:
    well.file("inbox/bad.jsonl", '{"no": "event"}\n')
    well.run("nightly", exit_code=3)
    only(well, "quarantine", "warn", "1 line unresolved")


class _Gateway(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        body = b'{"object":"list","data":[],"has_more":false}' if self.status == 200 else b'{"error":{}}'
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(("status", "state", "word"), [(200, "ok", "test mode"), (401, "fail", "the key is refused")])
def test_the_gateway_is_asked(well: Home, monkeypatch: pytest.MonkeyPatch, status: int, state: str, word: str) -> None:
    """Its answer and its mode are told, the key never is."""
    server = HTTPServer(("127.0.0.1", 0), type("Answering", (_Gateway,), {"status": status}))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        _stripe(well, f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("STRIPE_API_KEY", "sk_test_abcdef123456")
        row = found(well, exit_code=0 if state == "ok" else 3)["gateway"][0]
    finally:
        server.shutdown()
        server.server_close()
    assert row[0] == state and word in row[1]
    assert "abcdef" not in well.last.stdout + well.last.stderr


def test_a_gateway_that_cannot_be_asked_is_a_finding(well: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, nobody there, and a live key under a set clock; the key is not told."""
    _stripe(well, "http://127.0.0.1:9")
    monkeypatch.delenv("STRIPE_API_KEY", raising=False)
    only(well, "gateway", "fail", "STRIPE_API_KEY")
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_abcdef123456")
    only(well, "gateway", "fail", "there is no connection")
    monkeypatch.setenv("STRIPE_API_KEY", SECRET)
    only(well, "gateway", "fail", "live key")
    assert SECRET not in json.dumps([well.last.stdout, well.last.stderr])


def _stripe(home: Home, api_base: str) -> None:
    home.file(
        "metering.toml",
        f'[issuer]\nname = "I"\n[payments]\ngateway = "stripe"\n[payments.stripe]\napi_base = "{api_base}"\n',
    )
