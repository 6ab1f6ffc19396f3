"""The settlement soak in short, its replay, and a checker that sees what is wrong.

The whole soak is `PYTHONPATH=tests python -m settlement_soak`.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from ledgers import POSTGRESQL
from settlement_soak import CANCELS, KILLS, check, report, soaking
from stripe_fake import Capture


def test_the_soak_in_short(tmp_path: Path) -> None:
    """Killed once at every point of a payment, under faults: nothing twice, nothing lost; a checker that can fail."""
    with soaking(tmp_path, server="fake", seed=5, accounts=10) as soak:
        verdict = soak.go(rounds=1, together=False)
        assert verdict.faults == [], report(soak, verdict)
        assert set(soak.kills) >= {*KILLS, *CANCELS}
        assert sum(soak.network.hits.values()) > 10
        assert verdict.captures > 10 and soak.topped_up
        seen = list(soak.network.api.captures)
        ledger = soak.rows("SELECT invoice FROM payments WHERE status = 'succeeded'")
        charged = {capture.invoice for capture in seen}
        assert {row["invoice"] for row in ledger} == charged
        last = seen[-1]
        assert {"doubles", "losses", "differing_totals"} <= set(check(soak, [*seen, last], 0, "").faults)
        assert {"inventions", "differing_totals"} <= set(check(soak, seen[:-1], 0, "").faults)
        other = Capture(last.intent, last.invoice, last.customer, last.amount + 1, last.currency)
        assert {"losses", "inventions"} <= set(check(soak, [*seen[:-1], other], 0, "").faults)
        assert "posts_of_a_quiet_run" in check(soak, seen, 1, "").faults


@pytest.mark.soak
def test_the_soak_on_a_server(tmp_path: Path) -> None:
    """The ledger on PostgreSQL, whose server dies and comes back; several workers, of which one after another dies."""
    with soaking(tmp_path, server="fake", seed=1, accounts=100, ledger=POSTGRESQL) as soak:
        verdict = soak.go(rounds=2)
        print(report(soak, verdict))
        assert verdict.faults == []
        assert {code for scene, code in soak.codes if scene == "server dies"} <= {0, 1, 3}
        assert soak.codes["server dies", 1] and soak.kills["workers"] > 2
        assert soak.codes["workers", 1] and not soak.codes["workers", -signal.SIGTERM]


@pytest.mark.soak
def test_a_seed_replays_request_by_request(tmp_path: Path) -> None:
    logs = []
    for turn in range(2):
        with soaking(tmp_path / str(turn), server="fake", seed=7, accounts=30) as soak:
            assert soak.go(rounds=2, together=False).faults == []
            logs.append(soak.network.log)
    assert logs[0] == logs[1]


@pytest.mark.soak
@pytest.mark.parametrize("server", ["fake", "localstripe"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_whole_soak(tmp_path: Path, server: str, seed: int) -> None:
    with soaking(tmp_path, server=server, seed=seed, accounts=200) as soak:
        verdict = soak.go(rounds=6)
        print(report(soak, verdict))
        assert verdict.faults == []
