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
    "bucket.before_upload": "a file is written here; the bucket does not have it",
    "bucket.during_upload": "a part of a large file is in the bucket, which is no object yet",
    "bucket.after_upload": "the bucket has the file; the manifest does not name it",
    "bucket.before_replace": "all files are in the bucket; its manifest is the one before",
    "bucket.after_replace": "the bucket has the new manifest; nothing here knows it",
    "compact.before_swap": "merged files are written, the manifest names the old ones",
    "compact.after_swap": "the manifest names the merged files; the old ones still lie there",
    "archive.before_swap": "raw lines are copied out; the manifest still asks for them",
    "archive.after_swap": "the manifest lets raw lines go; they still lie there",
    "upgrade.before_commit": "the ledger is changed inside its open transaction",
    "notices.before_told": "notices are written under hidden names; the ledger does not know of them",
    "notices.before_shown": "the ledger has told the notices; their files are still hidden",
    "identities.after_run": "the batch is committed, the index of identities is being brought up to it",
    "inbox.before_move": "the batch is committed, its files still lie in the inbox",
    "inbox.during_move": "some files are moved, some are not",
    "state.during_files": "some files of a new state are written, state.json names none of them",
    "state.before_swap": "the new state is written, state.json names the one before",
    "state.after_swap": "state.json names the new state; what it replaced still lies there",
    "close.before_commit": "everything is posted inside the ledger's open transaction",
    "close.after_commit": "the close is visible; no file of it is written",
    "close.during_files": "some of the close's files are written",
    "close.after_files": "all files are written; no card is charged",
    "ledger.before_archive": "what is committed is not in the lake's copy of the ledger yet",
    "payment.before_create": "the attempt is stored; the gateway knows nothing",
    "payment.after_create": "the gateway has the intent; its id is not stored",
    "payment.before_confirm": "the intent's id is stored; it is not confirmed",
    "payment.after_confirm": "the gateway may have charged; its answer is not stored",
    "payment.before_record": "the outcome is posted inside the ledger's open transaction",
    "payment.after_record": "the outcome is stored",
    "payment.before_cancel": "a cancellation is decided; the gateway was not asked",
    "payment.after_cancel": "the gateway has cancelled; its answer is not stored",
    "sandbox.before_capture": "the sandbox is asked; it has recorded nothing",
    "restore.before_ledger": "the lake's files are put back, the ledger is not",
    "restore.after_ledger": "the ledger is put back; it lacks what came after the backup",
    "restore.before_take_over": "what the ledger lacks is written inside its open transaction",
    "restore.after_take_over": "the ledger is as it was; the gateway was not asked",
    "restore.during_adopt": "an intent that was lost is stored; what became of it is not",
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
