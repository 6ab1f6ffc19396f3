"""A month of a rehearsal on top of two that an earlier version closed; `python tests/rehearsal.py` plays years."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import rehearsal
from rehearsal import ACCOUNTS, Broken, rehearse
from rehearsal_world import Price


def test_a_month_with_everything_that_goes_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few accounts, ten days from night to night; then one snapshot or one price less, and the tally differs."""
    few = ("acc-1", "acc-2", "acc-3", "acc-late", "acc-row")
    monkeypatch.setattr(rehearsal, "ACCOUNTS", [account for account in ACCOUNTS if account.id in few])
    said: list[str] = []
    made = rehearse(tmp_path, 5, date(2026, 8, 1), every=10, wild=False, upkeep=25, keep=1, say=said.append)
    assert [line.partition(":")[0] for line in said] == ["2026-07"]
    assert made.count["kills at named points"] >= 1
    assert "no difference" in made.summary(1)
    metered = next(s for s in made.world.snapshots if s.account == "acc-late" and s.end is None)
    made.world.snapshots.remove(metered)
    with pytest.raises(Broken, match="it costs"):
        made.prove_lines()
    made.world.snapshots.append(metered)
    made.world.prices.append(Price("snapshot.vm", "", "GBP", "0.00009", date(2026, 7, 1)))
    with pytest.raises(Broken, match="it costs"):
        made.prove_lines()
