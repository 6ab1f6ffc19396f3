"""The exact reading of one line: slow, and nothing is forgiven."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from metering.events.judge import Fault

MAX_DEPTH = 200
"""Deeper nesting is refused, so that the answer does not hang on an interpreter's recursion limit."""

_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"?|([\[{])|([\]}])', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


class _Fraction:
    """A number with a fraction or an exponent: no float is ever made of it."""


def parse(line: bytes) -> Any:
    """The value of a line that is exactly one JSON document; raises Fault.

    A number with a fraction or an exponent comes back as an opaque object. A line that is both malformed and
    has a key twice is malformed.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Fault("malformed_json", f"Not UTF-8 at byte {error.start + 1}.") from None
    if deeper_than(text, MAX_DEPTH):
        raise Fault("malformed_json", f"Nested deeper than {MAX_DEPTH} levels.")
    repeated: list[str] = []

    def members(pairs: list[tuple[str, Any]]) -> Any:
        found = dict(pairs)
        if len(found) != len(pairs):
            counted = Counter(key for key, _ in pairs)
            repeated.append(next(key for key in found if counted[key] > 1))
        return found

    try:
        value = json.loads(
            text,
            object_pairs_hook=members,
            parse_int=_integer,
            parse_float=_fraction,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")
        raise Fault("malformed_json", f"Not one JSON document: {what} at character {error.pos + 1}.") from None
    if has_lone_surrogate(text):
        raise Fault("malformed_json", "Half of a surrogate pair stands alone.")
    if isinstance(value, dict) and repeated:
        raise Fault("duplicate_key", f"The key {repeated[0][:60]!r} stands twice in one object.")
    return value


def deeper_than(text: str, limit: int) -> bool:
    """Whether arrays and objects are nested deeper than a limit."""
    if text.count("[") + text.count("{") <= limit:
        return False
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        depth += bool(match[1]) - bool(match[2])
        if depth > limit:
            return True
    return False


def has_lone_surrogate(text: str) -> bool:
    """Whether a JSON text escapes half of a surrogate pair without its other half."""
    if "\\ud" not in text.lower():
        return False
    open_at = -1
    for match in _ESCAPE.finditer(text):
        unit = int(match[1], 16) if match[1] else 0
        if open_at >= 0 and not (0xDC00 <= unit <= 0xDFFF and match.start() == open_at):
            return True
        if open_at < 0 and 0xDC00 <= unit <= 0xDFFF:
            return True
        open_at = match.end() if 0xD800 <= unit <= 0xDBFF else -1
    return open_at >= 0


def _integer(digits: str) -> int:
    # Python refuses to read integers of thousands of digits; of one beyond 64 bits only the sign matters.
    if len(digits) > 40:
        return -(2**64) if digits.startswith("-") else 2**64
    return int(digits)


def _fraction(_digits: str) -> _Fraction:
    return _Fraction()


def _constant(name: str) -> Any:
    raise Fault("malformed_json", f"{name} is not JSON.")
