"""Named points at which a test can end the process as kill -9 would.

`METERING_FAILPOINT=name` ends the process at that point; `name:3` at its third passing. A point that nobody
named costs a dictionary look-up. The list is the register: an unknown name is refused.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

FAILPOINTS = {
    "lake.before_commit": "event files are written, the manifest does not name them",
    "lake.after_commit": "the manifest names the batch; nothing after it is done",
    "inbox.before_move": "the batch is committed, its files still lie in the inbox",
    "inbox.during_move": "some files are moved, some are not",
    "state.during_files": "some files of a new state are written, state.json names none of them",
    "state.before_swap": "the new state is written, state.json names the one before",
    "state.after_swap": "state.json names the new state; what it replaced still lies there",
    "close.before_commit": "everything is posted inside the ledger's open transaction",
    "close.after_commit": "the close is visible; no file of it is written",
    "close.during_files": "some of the close's files are written",
    "close.after_files": "all files are written; no card is charged",
    "payment.before_create": "the attempt is stored; the gateway knows nothing",
    "payment.after_create": "the gateway has the intent; its id is not stored",
    "payment.before_confirm": "the intent's id is stored; it is not confirmed",
    "payment.after_confirm": "the gateway may have charged; its answer is not stored",
    "payment.before_record": "the outcome is posted inside the ledger's open transaction",
    "payment.after_record": "the outcome is stored",
    "payment.before_cancel": "a cancellation is decided; the gateway was not asked",
    "payment.after_cancel": "the gateway has cancelled; its answer is not stored",
    "sandbox.before_capture": "the sandbox is asked; it has recorded nothing",
    "sandbox.after_capture": "the sandbox has recorded the capture; its intent is not updated",
}
"""Every failpoint with the state that a kill leaves behind."""

_passed: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """End the process here if `METERING_FAILPOINT` names this point."""
    wanted = os.environ.get("METERING_FAILPOINT")
    if wanted is None:
        return
    if name not in FAILPOINTS:
        raise KeyError(name)
    point, _, count = wanted.partition(":")
    if point == name:
        _passed[name] += 1
        if _passed[name] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)
