"""Months whose every figure was worked out with a pencil: tests/golden/*.txt, the arithmetic beside the figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from homes import Home

STORIES = sorted((Path(__file__).parent / "golden").glob("*.txt"))


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_month_comes_out_as_the_pencil_says(home: Home, story: Path) -> None:
    home.tell(story.read_text("utf-8"))


def test_there_are_stories() -> None:
    assert len(STORIES) >= 8


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("$ status => 3", "exit 0"),
        ("> no such text", "not said"),
        ("= balances\n    account_id\n    acc-9", "expected"),
    ],
)
def test_a_story_that_is_not_true_fails(home: Home, wrong: str, told: str) -> None:
    """The guard itself: a story with a wrong exit code, a wrong sentence or a wrong row must not pass."""
    with pytest.raises(AssertionError, match=told):
        home.tell(wrong)
