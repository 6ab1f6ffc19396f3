"""Asks one engine the question, in its own process."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .child import Stopwatch
from .question import Question, hash_of


def month(watch: Stopwatch, peer: str, question: dict[str, Any]) -> dict[str, Any]:
    """The answer's rows and hash."""
    module = import_module(f".peers.{peer}", __package__)
    asked = Question(**question)
    if hasattr(module, "prepare"):
        module.prepare(asked)
    with watch():
        rows = module.month(asked)
    return {"rows": len(rows), "hash": hash_of(rows)}
