"""Imported by the fork server: what every process of a command does before its first words is done once, here.

So a command that is to be killed costs what the command does, and not a second for imports, tables and statements.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from homes import Home
from threads import compute_on_one

from metering.cli.app import Lean
from metering.lake import duck

sys.meta_path.insert(0, Lean())
compute_on_one()
with TemporaryDirectory() as folder:
    home = Home(Path(folder) / "home")
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,10,pm_card_visa")
    home.events("2026-05-02 ready s1 acc=acc-1 gb=1000\n2026-05-02T10 deleted s1")
    home.run("close")
    home.run("nightly")
# No thread of an engine's may live where processes are forked.
duck._engines.clear()
gc.collect()
gc.freeze()
