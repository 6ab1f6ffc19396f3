"""Every error that a user can meet.

    MeteringError            exit 1   failed, nothing half-done, safe to run again
    ├── UsageError           exit 2   wrong use or configuration
    ├── NeedsPerson          exit 3   stopped before writing, or done but somebody must look
    └── Locked               exit 75  another run holds the lock

A message says what happened and where; `unchanged` says what was left as it was, `remedy` what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable

DONE = 0
FAILED = 1
WRONG_USE = 2
NEEDS_PERSON = 3
LOCKED = 75


class MeteringError(Exception):
    """Something failed; nothing is half-done and the command can be run again."""

    exit_code = FAILED

    def __init__(self, message: str, *, unchanged: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.unchanged = unchanged
        self.remedy = remedy

    def __str__(self) -> str:
        return "\n".join(part for part in (self.message, self.unchanged, self.remedy) if part)


class UsageError(MeteringError):
    """The command, a file given to it, or the configuration is wrong; found before anything was changed."""

    exit_code = WRONG_USE

    def __init__(self, message: str, *, unchanged: str = "Nothing was changed.", remedy: str) -> None:
        super().__init__(message, unchanged=unchanged, remedy=remedy)


class NeedsPerson(MeteringError):
    """The run stopped before it wrote anything, because a person must decide."""

    exit_code = NEEDS_PERSON


class Locked(MeteringError):
    """Another run holds the lock of this home."""

    exit_code = LOCKED


def meant(name: str, known: Iterable[str]) -> str:
    """The question after the name that was meant, for the beginning of a remedy; empty if none is like it."""
    from difflib import get_close_matches

    return "".join(f"Did you mean `{like}`? " for like in get_close_matches(name, sorted(known), 1))


def wrong_value(name: str, why: object) -> UsageError:
    """A value of an option or of a call that is none of its kind."""
    return UsageError(f"{name}: {why}.", remedy="Give it as `--help` shows it.")


def unreadable(path: object, error: OSError) -> UsageError:
    """A file named by the user that cannot be read."""
    return UsageError(f"{path}: {error.strerror or error}.", remedy="Name a file that is there and that you may read.")


def unwritable(path: object, error: OSError) -> UsageError:
    """A place named by the user that cannot be written to."""
    return UsageError(
        f"{path}: {error.strerror or error}.",
        unchanged="Nothing was written.",
        remedy="Name a place that is there, has room, and that you may write to.",
    )


def worst(*exit_codes: int) -> int:
    """The exit code of several steps: a failure before a question, wrong use before a failure.

    The order is 0 < 3 < 75 < 1 < 2: from "done" to "nothing can be done before the configuration is mended".
    """
    severity = (DONE, NEEDS_PERSON, LOCKED, FAILED, WRONG_USE)
    return max(exit_codes, key=severity.index, default=DONE)
