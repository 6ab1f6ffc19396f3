"""The options that every command takes: --home, --now, --quiet, --json-logs, before and after the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from homes import Home, begun

from metering.cli.app import app
from metering.cli.options import FILES
from metering.config import CONFIG_NAME
from metering.reports import render


@begun
def with_a_posting(home: Home) -> None:
    home.accounts("acc-1,USD,0,pm_card_visa")
    home.run("funds", "add", "acc-1", "5.00", "--reference", "t-1")


@pytest.fixture
def billed(tmp_path: Path) -> Home:
    """A home in which 5.00 were posted on 1 June at 08:00."""
    return with_a_posting(tmp_path / "home")


def call(*args: str, **environment: str) -> Result:
    return CliRunner().invoke(app, args, env={"METERING_HOME": None, "METERING_NOW": None, **environment})


NOW = "2026-06-02T08:00:00Z"


@pytest.mark.parametrize("place", ["before", "after", "environment"])
def test_home_and_now_may_stand_anywhere(billed: Home, place: str) -> None:
    path = str(billed.path)
    done = {
        "before": lambda: call("--home", path, "--now", NOW, "status"),
        "after": lambda: call("status", "--home", path, "--now", NOW),
        "environment": lambda: call("status", METERING_HOME=path, METERING_NOW=NOW),
    }[place]()
    assert done.exit_code == 0, done.output
    assert f"Home          {path}" in done.stdout
    assert f"Clock         {NOW} (set)" in done.stdout


def test_an_option_wins_over_the_environment(billed: Home, tmp_path: Path) -> None:
    done = call(
        "status", "--home", str(billed.path), "--now", NOW,
        METERING_HOME=str(tmp_path / "nowhere"), METERING_NOW="2030-01-01T00:00:00Z",
    )  # fmt: skip
    assert done.exit_code == 0
    assert f"Clock         {NOW} (set)" in done.stdout


def test_options_of_a_nested_command_may_stand_at_its_end(billed: Home) -> None:
    done = call("funds", "add", "acc-1", "1.00", "--reference", "t-2", "--home", str(billed.path), "--now", NOW)
    assert done.exit_code == 0, done.output
    assert billed.ledger("transactions")[-1]["posted_at"] == 1_780_387_200_000_000  # 2 June 2026, 08:00 Z


def test_the_current_folder_is_the_home_by_default(billed: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(billed.path)
    assert f"Home          {billed.path}" in call("status", "--now", NOW).stdout


def test_a_folder_that_is_no_home_is_refused(tmp_path: Path) -> None:
    done = call("status", "--home", str(tmp_path))
    assert done.exit_code == 2
    assert "it has no metering.toml" in done.stderr
    assert "metering init" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("now", ["yesterday", "2026-06-02", "2026-06-02T08:00:00", "1780387200", ""])
def test_a_clock_that_is_no_time_is_refused(billed: Home, now: str) -> None:
    done = call("status", "--home", str(billed.path), "--now", now)
    if now:
        assert done.exit_code == 2
        assert "is not an RFC 3339 time" in done.stderr
    else:
        assert "(set)" not in done.stdout  # an empty one is none


def test_an_empty_month_is_not_every_month(billed: Home) -> None:
    """As a script gives it whose variable is not set."""
    for options in (["--month", ""], ["--from", ""], ["--month", "2026-05", "--to", ""]):
        done = call("report", "invoices", "--home", str(billed.path), "--now", NOW, *options)
        assert (done.exit_code, done.stdout) == (2, ""), options


@pytest.mark.parametrize(
    "command", [["close"], ["ingest"], ["collect"], ["nightly"], ["report", "balances"], ["status"], ["verify"]]
)
def test_a_clock_before_the_last_posting_is_refused(billed: Home, command: list[str]) -> None:
    before = billed.fingerprint()
    done = billed.run(*command, now="2026-06-01T07:59:59.999999Z", exit_code=2)
    assert "the ledger's last posting is of 2026-06-01T08:00:00Z" in done.stderr
    assert billed.fingerprint() == before
    billed.run("status", now="2026-06-01T08:00:00Z")


def test_quiet_leaves_only_data_and_errors(billed: Home) -> None:
    assert billed.run("--quiet", "verify").stderr == ""
    assert billed.run("report", "balances", "--quiet").stdout != ""
    assert "2030-13" in billed.run("--quiet", "close", "2030-13", exit_code=2).stderr


def test_json_logs_are_one_object_a_line(billed: Home) -> None:
    done = billed.run("ingest", "--json-logs")
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()]
    failed = billed.run("--json-logs", "close", "2030-01", exit_code=2)
    told = [json.loads(line) for line in failed.stderr.splitlines()]
    assert told[-1]["level"] == "error"
    assert told[-1]["exit_code"] == 2


def test_json_logs_tell_the_engines_time(billed: Home) -> None:
    """A rehearsal reads no other clock; where `--now` itself is wrong there is only the real one."""
    done = billed.run("ingest", "--json-logs", now=NOW)
    assert {json.loads(line)["time"] for line in done.stderr.splitlines()} == {NOW}
    (told,) = billed.run("ingest", "--json-logs", now="yesterday", exit_code=2).stderr.splitlines()
    assert json.loads(told)["time"] > NOW


def test_init_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "new"
    done = call("init", str(path))
    assert done.exit_code == 0
    assert sorted(child.name for child in path.iterdir()) == ["accounts.csv", "inbox", CONFIG_NAME, "prices.csv"]
    assert done.stderr.count("wrote") == 4
    (path / "prices.csv").write_text("mine")
    again = call("init", "--home", str(path))
    assert again.exit_code == 0
    assert again.stderr.count("kept") == 4
    assert (path / "prices.csv").read_text() == "mine"
    assert call("prices", "check", "--home", str(path)).exit_code == 2  # "mine" is no price list


@pytest.mark.parametrize("place", ["option", "environment", "argument"])
def test_init_writes_where_the_home_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """And an argument is another place than that, as whoever makes a second home wants it."""
    monkeypatch.chdir(tmp_path)
    done = {
        "option": lambda: call("init", "--home", "new"),
        "environment": lambda: call("init", METERING_HOME="new"),
        "argument": lambda: call("init", "new", METERING_HOME="another"),
    }[place]()
    assert done.exit_code == 0
    assert [child.name for child in tmp_path.iterdir()] == ["new"]


def test_a_fresh_home_works_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "new")
    call("init", path)
    for command in (["ingest"], ["close"], ["nightly"], ["verify"], ["report", "invoices"], ["status"]):
        done = call("--home", path, "--now", NOW, *command)
        assert done.exit_code == 0, f"{command}: {done.output}"


def test_the_formats_say_the_same(billed: Home, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    args = ["report", "balances", "--format"]
    head, line = billed.run(*args, "csv").stdout.splitlines()
    assert (head, line) == ("account_id,currency,balance,credit,owed", "acc-1,USD,5.00,0.00,0.00")
    row = {"account_id": "acc-1", "currency": "USD", "balance": "5.00", "credit": "0.00", "owed": "0.00"}
    assert json.loads(billed.run(*args, "json").stdout) == [row]
    assert "5.00" in billed.run(*args, "table").stdout
    billed.run(*args, "parquet", "--output", str(tmp_path / "b.parquet"))
    (found,) = pq.read_table(tmp_path / "b.parquet").to_pylist()
    assert {name: str(value) for name, value in found.items()} == {
        name: f"{value}0" if "." in value else value for name, value in row.items()
    }
    billed.run(*args, "csv", "--output", str(tmp_path / "b.csv"))
    assert (tmp_path / "b.csv").read_text().splitlines()[1] == "acc-1,USD,5.00,0.00,0.00"
    assert billed.run(*args, "json", "--account", "acc-2").stdout.strip().replace("\n", "") == "[]"


@pytest.mark.parametrize("format", ["parquet", "xlsx"])
def test_what_is_no_text_goes_into_a_pipe(billed: Home, tmp_path: Path, format: str) -> None:
    args = ("report", "balances", "--home", str(billed.path), "--now", NOW, "--format", format)
    assert call(*args, "--output", str(tmp_path / "b")).exit_code == 0
    assert call(*args).stdout_bytes == (tmp_path / "b").read_bytes()


def test_a_file_has_the_format_that_it_is_named_for(billed: Home, tmp_path: Path) -> None:
    """Without --format; one that is given wins, and any other name says nothing."""
    for name, begin in {
        "b.json": "[",
        "b.PARQUET": "PAR1",
        "b.xlsx": "PK",
        "b.csv": "account_id,",
        "b.txt": "account_id,",
    }.items():
        billed.run("report", "balances", "--output", str(tmp_path / name))
        assert (tmp_path / name).read_bytes().startswith(begin.encode()), name
    billed.run("report", "balances", "--format", "csv", "--output", str(tmp_path / "b.json"))
    assert (tmp_path / "b.json").read_text().startswith("account_id,")
    billed.events("2026-05-01 ready s1 acc=acc-1 gb=100")
    billed.prices("snapshot.vm,,USD,0.000001,2026-01-01,")
    billed.run("close", "2026-05", exit_code=None)
    for name, begin in {"i.html": "<!", "i.json": "{"}.items():
        billed.run("invoice", "INV-2026-05-000001", "--output", str(tmp_path / name))
        assert (tmp_path / name).read_text().lower().startswith(begin), name


def test_what_is_offered_as_a_format_can_be_written() -> None:
    assert {"table", *FILES} == {*render._TEXTS, *render._FILES}


COMMANDS = (
    "init ingest quarantine usage close collect nightly report invoice explain accounts funds prices refund void"
    " credit-note write-off dispute reconcile verify runs status doctor schema export sql simulate backup restore"
    " upgrade compact gc demo"
)
"""Section 9 of the contract."""


def test_there_are_the_commands_of_the_contract(billed: Home) -> None:
    assert sorted(app.commands) == sorted(COMMANDS.split())
    assert call("--home", str(billed.path), "runs").stdout == billed.run("report", "runs").stdout != ""
