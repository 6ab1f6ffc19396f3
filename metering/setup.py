"""`metering init`: what a new home begins with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from metering.errors import UsageError
from metering.shipped import shipped

TEMPLATES = ("metering.toml", "prices.csv", "accounts.csv")


def write_home(path: Path) -> Iterator[tuple[Path, bool]]:
    """Write the templates and the inbox into a folder, keeping what is there; yields paths and if written."""
    try:
        # What a new home holds is nobody else's to read.
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in TEMPLATES:
            target = path / name
            try:
                with target.open("x", encoding="utf-8") as file:
                    file.write(shipped(f"schemas/home/{name}").read_text("utf-8"))
                yield target, True
            except FileExistsError:
                yield target, False
        inbox = path / "inbox"
        existed = inbox.is_dir()
        inbox.mkdir(exist_ok=True)
        yield inbox, not existed
    except OSError as error:
        raise UsageError(
            f"{path} cannot be a home: {error.strerror or error}.", remedy="Name another folder."
        ) from None
