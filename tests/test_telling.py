"""Metrics, pings and JSON logs: who watches learns how a run ended, and no run fails because of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from homes import Home

from metering.clock import Clock
from metering.telling.ping import ping


@pytest.fixture
def ready(home: Home) -> Home:
    """100 GB all of May at 0.001: 74.40, declined; 5.00 of credit and 2.50 of balance belong to another."""
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_chargeDeclined", "acc-2,USD,0,")
    home.funds("acc-2,credit,5.00,USD,c,", "acc-2,topup,2.50,USD,t,")
    home.events("2026-05-01 ready s1 acc=acc-1 gb=100")
    home.file("inbox/bad.jsonl", '{"no": "event"}\n')
    return home


def metrics(home: Home) -> dict[str, str]:
    """Every sample by its name and labels; the text must be of the exposition format."""
    found = {}
    for line in (home.path / "metrics" / "metering.prom").read_text().splitlines():
        if not line.startswith("# "):
            sample = re.fullmatch(r'([a-z_]+(?:\{(?:[a-z]+="[^"\\]*",?)+\})?) (-?\d+(?:\.\d+)?)', line)
            assert sample, line
            assert sample[1] not in found
            found[sample[1].removeprefix("metering_")] = sample[2]
    return found


def test_metrics_after_a_close(ready: Home) -> None:
    ready.run("close", "2026-05", exit_code=3)
    found = metrics(ready)
    (seal,) = re.findall(r"seal (\w{16})", ready.ledger("runs")[-1]["summary"])
    assert found == {
        **{name: value for name, value in found.items() if name.startswith("build_info")},
        'last_run{command="accounts"}': "1",
        'last_run{command="funds"}': "2",
        'last_run{command="close"}': "3",
        'last_exit_code{command="accounts"}': "0",
        'last_exit_code{command="funds"}': "0",
        'last_exit_code{command="close"}': "3",
        **{f'last_run_seconds{{command="{name}"}}': "0.000000" for name in ("accounts", "funds", "close")},
        **{
            f'last_success_timestamp_seconds{{command="{name}"}}': "1780300800.000000"  # 1 June 2026, 08:00 Z
            for name in ("accounts", "funds", "close")
        },
        "batch": "1",
        "events": "1",
        "lake_parts": "1",
        "quarantine_unresolved": "1",
        "snapshots_alive": "1",
        "invoices": "1",
        'invoices_open{currency="USD"}': "1",
        'invoices_open_amount{currency="USD"}': "74.40",
        'payments{status="declined"}': "1",
        'held_amount{kind="balance",currency="USD"}': "2.50",
        'held_amount{kind="credit",currency="USD"}': "5.00",
        f'seal{{seal="{seal}"}}': "2",
        "last_seal_timestamp_seconds": "1780300800.000000",
    }


def test_a_failed_run_is_in_the_metrics(ready: Home) -> None:
    """A price list that cannot be read: exit 2, and the last success stays what it was."""
    ready.run("nightly", exit_code=3)
    ready.file("prices.csv", "no,prices\n")
    ready.run("nightly", now="2026-06-02T08:00:00Z", exit_code=2)
    found = metrics(ready)
    assert found['last_exit_code{command="nightly"}'] == "2"
    assert found['last_success_timestamp_seconds{command="nightly"}'] == "1780300800.000000"


def test_metrics_that_cannot_be_written_fail_nothing(ready: Home) -> None:
    ready.file("metrics", "a file, where the folder should be")
    done = ready.run("close", "2026-05", exit_code=3)
    assert "metrics: metrics/metering.prom is as it was" in done.stderr


class _Monitor(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(302 if "moved" in self.path else 200)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def monitor() -> Iterator[tuple[str, list[str]]]:
    """A monitor on this machine, and what it was asked for."""
    asked: list[str] = []
    server = HTTPServer(("127.0.0.1", 0), type("Monitor", (_Monitor,), {"asked": asked}))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/secret-id", asked
    server.shutdown()
    server.server_close()


def test_a_job_pings_when_it_begins_and_ends(ready: Home, monitor: tuple[str, list[str]]) -> None:
    """By the real clock, with its exit code; a rehearsal under a set clock is silent."""
    url, asked = monitor
    environment = {**os.environ, "METERING_PING_URL": url, "METERING_HOME": str(ready.path)}
    command = [sys.executable, "-m", "metering", "collect"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert asked == ["/secret-id/start", "/secret-id/0"]
    rehearsal = [*command, "--now", "2030-01-01T00:00:00Z"]
    assert subprocess.run(rehearsal, env=environment, capture_output=True, timeout=600).returncode == 0
    assert len(asked) == 2


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/secret-id", "http://example.org/secret-id", "ftp://secret-id", "secret-id", "http://["]
)
def test_a_monitor_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Nothing fails, it is said in one sentence, and the address is told to nobody."""
    monkeypatch.setenv("METERING_PING_URL", url)
    said: list[str] = []
    ping(Clock(), "0", said.append)
    assert len(said) == 1 and "secret-id" not in said[0]


def test_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch, monitor: tuple[str, list[str]]) -> None:
    url, asked = monitor
    monkeypatch.setenv("METERING_PING_URL", f"{url}/moved")
    said: list[str] = []
    ping(Clock(), "0", said.append)
    assert asked == ["/secret-id/moved/0"] and len(said) == 1


def test_json_logs_bear_the_run(ready: Home) -> None:
    """One object a line, and each says which run it is of."""
    done = ready.run("--json-logs", "close", "2026-05", exit_code=3)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines and {line["run"] for line in lines} == {3}
    assert {line["level"] for line in lines} == {"info"}
    failed = ready.run("--json-logs", "funds", "import", "no-such-file", exit_code=2)
    (line,) = (json.loads(line) for line in failed.stderr.splitlines())
    assert (line["level"], line["run"], line["exit_code"]) == ("error", 4, 2)


def test_a_wrong_option_is_json_too() -> None:
    """What the command line itself refuses."""
    command = [sys.executable, "-m", "metering", "--json-logs", "close", "--no-such-option"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    (line,) = (json.loads(line) for line in done.stderr.splitlines())
    assert (done.returncode, line["exit_code"], line["level"]) == (2, 2, "error")
    assert "--no-such-option" in line["message"]


def test_no_secret_is_ever_told(ready: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment reach no log, no error, no metric, no file of the home."""
    secrets = ["sk_test_TELLNOBODY", "airwallex-TELLNOBODY", "http://127.0.0.1:9/TELLNOBODY"]
    for name, value in zip(("STRIPE_API_KEY", "AIRWALLEX_API_KEY", "METERING_PING_URL"), secrets, strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRWALLEX_CLIENT_ID", "client-TELLNOBODY")
    for gateway in ("stripe", "airwallex"):
        ready.file(
            "metering.toml",
            f'[payments]\ngateway = "{gateway}"\n[payments.{gateway}]\napi_base = "http://127.0.0.1:9"\n',
        )
        for command in ("doctor", "collect", "nightly", "status", "close"):
            done = ready.run(command, exit_code=None)
            assert "TELLNOBODY" not in done.stdout + done.stderr, done
    for path in ready.path.rglob("*"):
        assert path.is_dir() or b"TELLNOBODY" not in path.read_bytes(), path


def test_shell_completion() -> None:
    """What the README says to put into the shell's start-up file prints a script."""
    environment = {**os.environ, "_METERING_COMPLETE": "bash_source"}
    script = Path(sys.executable).with_name("metering")
    done = subprocess.run([script], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "_metering_completion" in done.stdout
