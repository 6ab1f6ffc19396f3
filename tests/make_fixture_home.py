"""Makes `tests/fixtures/home-LEDGER-VERSION.tar.gz`: a small home of this version, which every later one must open.

    PYTHONPATH=. python tests/make_fixture_home.py

Run it once for each version, commit the new file, and never change an old one. LEDGER is the version of its ledger.
"""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from homes import Home

from metering import __version__
from metering.ledger import runs
from metering.ledger.book import VERSION

FOLDER = Path(__file__).parent / "fixtures"


def play(home: Home) -> None:
    """Two closed months: a card, a declined card, a credit, a balance, a bad line, a late deletion, a credit note."""
    home.prices("snapshot.vm,,USD,0.000068,2026-01-01,", "snapshot.volume,eu,KWD,0.00005,2026-01-01,")
    home.accounts("acc-1,USD,20,pm_card_visa", "acc-2,KWD,0,pm_card_visa", "acc-3,USD,0,pm_card_chargeDeclined")
    home.funds("acc-1,credit,1.00,USD,promo,2026-12-31", "acc-1,topup,0.50,USD,top,")
    home.events(
        """
        2026-05-01 ready s1 acc=acc-1 gb=100
        2026-05-02 ready s2 acc=acc-2 gb=50 type=volume
        2026-05-03 ready s3 acc=acc-3 gb=70
        2026-05-20 resized s1 gb=150
        """
    )
    home.file("inbox/bad.jsonl", '{"no": "event"}\n')
    home.run("close", "2026-05", exit_code=3)
    home.events("2026-05-25 deleted s2", "late.jsonl")
    home.now = "2026-07-01T08:00:00Z"
    home.run("close", "2026-06", exit_code=3)
    home.run("credit-note", "INV-2026-05-000001", "--amount", "1.00", "--reason", "goodwill")
    home.run("nightly", exit_code=None)


def main() -> None:
    """Write the file unless it is there."""
    FOLDER.mkdir(exist_ok=True)
    target = FOLDER / f"home-{VERSION}-{__version__}.tar.gz"
    # What a run was told is kept: relative paths are of no machine, and neither is who ran it.
    nobody = patch.object(runs, "origin", lambda: runs.Origin("metering", "fixture"))
    with TemporaryDirectory() as folder, chdir(folder), nobody:
        home = Home(Path("home"))
        play(home)
        home.run("backup", str(target))
    print(f"{target.name}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
