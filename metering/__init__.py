"""Metering and billing for cloud storage: lifecycle events in, settled invoices out, every cent provable.

import metering
metering.open_home("/srv/metering").report("invoices", month="2026-05")    # a pandas DataFrame
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from metering.api import Books

__version__ = "0.5.0"


def open_home(path: str | Path, *, now: str | None = None) -> Books:
    """The reports of the home in a folder; `now` (RFC 3339), else METERING_NOW, sets their clock."""
    from metering.api import Books

    return Books(path, now)
