"""One measured run in a process of its own: `python -m bench.child MODULE FUNCTION ARGUMENTS`, JSON out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

MISSING = 42
"""Exit code of a run whose engine is not installed."""


@dataclass(frozen=True)
class Measured:
    """What a run took: seconds of the clock and of all processors, the most memory in bytes, and its answer."""

    wall: float
    cpu: float
    peak: int
    answer: Any


class Failed(Exception):
    """A run that came to no answer; the message says why."""


def run(module: str, function: str, threads: int, **arguments: Any) -> Measured:
    """Call a function of a module of this package in a new process. Raises Failed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment |= {"POLARS_MAX_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", f"{__package__}.child", module, function, json.dumps(arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == MISSING:
        raise Failed(f"not installed ({done.stderr.strip()})")
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"]
        raise Failed(words[-1][:200])
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


class Stopwatch:
    """Measures the one block that counts; what comes before it is preparation."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall, self.cpu = time.perf_counter() - wall, time.process_time() - cpu


def peak() -> int:
    """The most memory that this process ever had, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(module: str, function: str, arguments: str) -> None:
    """Import, then measure, then tell."""
    try:
        loaded = import_module(f".{module}", __package__)
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(MISSING)
    watch = Stopwatch()
    answer = getattr(loaded, function)(watch, **json.loads(arguments))
    print(json.dumps({"wall": watch.wall, "cpu": watch.cpu, "peak": peak(), "answer": answer}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    main(*sys.argv[1:])
