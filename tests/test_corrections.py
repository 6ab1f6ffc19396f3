"""Corrections over several closes, worked out with a pencil: tests/corrections/*.txt, the arithmetic beside the figures.

At the end of each story what was billed must equal what the usage costs, the books must balance, every invariant
must hold, and every invoice must come out of its stored inputs again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import reference
import reference_billing
from homes import Home, _steps, event_lines

from metering.checks.verify import verify
from metering.clock import Clock
from metering.close.explain import explain
from metering.home import Home as Engine
from metering.reports.ask import ask

STORIES = sorted((Path(__file__).parent / "corrections").glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_corrections_come_out_as_the_pencil_says(home: Home, path: Path) -> None:
    story = path.read_text("utf-8")
    home.tell(story)
    engine = Engine(home.path, Clock(home.now))
    assert billed(engine) == costs(story)
    balanced(engine)
    assert [(name, found) for name, found in verify(engine) if found] == []
    explained(engine)
