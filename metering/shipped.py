"""Where the files lie that ship with the package: `schemas/` and `sample_data/`.

A wheel carries them under `metering/_shipped/`; a checkout has them beside the package.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped(name: str) -> Path:
    """The path of a shipped file or folder, such as `schemas/events.toml`."""
    installed = _PACKAGE / "_shipped"
    return (installed if installed.is_dir() else _PACKAGE.parent) / name
