"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest
from homes import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A fresh home without prices, accounts and events."""
    return Home(tmp_path / "home")
