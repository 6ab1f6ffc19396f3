"""Reads README.md: its shell commands, and the transcripts with what they print."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [body for name, body in _BLOCK.findall(README.read_text("utf-8")) if name == language]


def transcript() -> list[tuple[str, str]]:
    """Every command of the console blocks, with what it prints."""
    found: list[tuple[str, str]] = []
    for line in "".join(blocks("console")).splitlines(keepends=True):
        command, output = found[-1] if found else ("", "")
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif line.startswith("> ") and not output:
            found[-1] = (command + line[2:], output)
        else:
            found[-1] = (command, output + line)
    return found


def commands() -> list[list[str]]:
    """The words after `metering` wherever the README names a command."""
    text = README.read_text("utf-8")
    quoted = [*re.findall(r"`(?:\S*/)?metering ([^`]+)`", text)]
    run = [command.partition(" ")[2] for command, _ in transcript() if command.startswith("metering ")]
    return [re.split(r"\s+", each.strip()) for each in quoted + run]
