"""What the jobs share: one run at a time of its kind, with an end in time, and the engine's own exit code."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FAILED = 1
WRONG_USE = 2
LOCKED = 75
GRACE_SECONDS = 10


def main(description: str, name: str, commands: list[list[str]], limit_seconds: int) -> int:
    """Run each `metering COMMAND` on the home that METERING_HOME names, until one does not end with 0.

    The exit code is the last one's; 75 if this job already runs there. Options are those of the last command.
    """
    options = _options(description, limit_seconds)
    home = Path(os.environ.get("METERING_HOME") or ".")
    lock_name = f".job-{name}.lock"
    name = f"job {name}"
    if not (home / "metering.toml").is_file():
        print(f"{name}: {home} is no home: METERING_HOME names none. Nothing was done.", file=sys.stderr)
        return WRONG_USE
    lock = os.open(home / lock_name, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{name}: the run before has not ended. Nothing was done.", file=sys.stderr)
        return LOCKED
    *first, last = commands
    end = time.monotonic() + options.limit
    for command in (*first, [*last, *options.more]):
        code = _run(name, [sys.executable, "-m", "metering", *command], end - time.monotonic(), lock)
        if code:
            return code
    return 0


def _options(description: str, limit_seconds: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=limit_seconds, metavar="SECONDS", help="ended after (%(default)s)")
    parser.add_argument("more", nargs="*", metavar="-- OPTION", help="options of the metering command")
    return parser.parse_args()


def _run(name: str, command: list[str], limit_seconds: float, lock: int) -> int:
    # The engine inherits the lock: it stays held should this process be killed and the engine live on.
    with subprocess.Popen(command, pass_fds=(lock,)) as engine:
        signal.signal(signal.SIGTERM, lambda *_: engine.terminate())
        try:
            code = engine.wait(max(limit_seconds, 0))
        except subprocess.TimeoutExpired:
            _end(engine)
            print(
                f"{name}: `metering {command[3]}` was ended: the time was up. Nothing is half-done;"
                " the next run goes on where it was.",
                file=sys.stderr,
            )
            return FAILED
    if code < 0:
        print(f"{name}: killed by signal {-code}. Nothing is half-done; run it again.", file=sys.stderr)
        return FAILED
    return code


def _end(engine: subprocess.Popen[bytes]) -> None:
    engine.terminate()
    try:
        engine.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        engine.kill()
        engine.wait()
