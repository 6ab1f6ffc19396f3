"""The published JSON Schema says the same as the engine."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from test_events_lines import CASES

from metering.events.judge import RESOURCE_TYPES, TYPES, Fault, judge
from metering.events.strict_json import parse
from metering.shipped import shipped

SCHEMA = json.loads(shipped("schemas/event.schema.json").read_text("utf-8"))
BEYOND = {"duplicate_key", "malformed_json"}
"""Reasons that are about the text, which a schema never sees."""


def fits(schema: dict[str, Any], value: Any) -> bool:
    """Whether a value fits a schema: the keywords that ours uses, and no others."""
    known = {"$schema", "$defs", "title", "description", "format"}
    return all(_CHECKS[word](schema[word], value, schema) for word in schema.keys() - known)


def _is(kind: str, value: Any) -> bool:
    python = {"object": dict, "string": str, "integer": int, "null": type(None)}[kind]
    return isinstance(value, python) and not isinstance(value, bool)


def _found(pattern: str, text: str) -> bool:
    # In Python a `$` also stands before a last line feed; in a schema it does not.
    return re.search(re.sub(r"\$$", r"\\Z", pattern), text) is not None


def _pointed(pointer: str) -> dict[str, Any]:
    return SCHEMA["$defs"][pointer.removeprefix("#/$defs/")]


_CHECKS: dict[str, Any] = {
    "$ref": lambda pointer, value, _: fits(_pointed(pointer), value),
    "type": lambda kinds, value, _: any(_is(k, value) for k in ([kinds] if isinstance(kinds, str) else kinds)),
    "const": lambda wanted, value, _: value == wanted,
    "enum": lambda wanted, value, _: value in wanted,
    "required": lambda keys, value, _: not isinstance(value, dict) or set(keys) <= value.keys(),
    "properties": lambda members, value, _: (
        not isinstance(value, dict) or all(fits(members[key], value[key]) for key in members.keys() & value.keys())
    ),
    "minLength": lambda limit, value, _: not isinstance(value, str) or len(value) >= limit,
    "maxLength": lambda limit, value, _: not isinstance(value, str) or len(value) <= limit,
    "minimum": lambda limit, value, _: not isinstance(value, int) or value >= limit,
    "maximum": lambda limit, value, _: not isinstance(value, int) or value <= limit,
    "pattern": lambda pattern, value, _: not isinstance(value, str) or _found(pattern, value),
    "allOf": lambda parts, value, _: all(fits(part, value) for part in parts),
    "if": lambda test, value, schema: not fits(test, value) or fits(schema["then"], value),
    "then": lambda *_: True,
}


@pytest.mark.parametrize(("want", "line"), [(want.split()[0], line) for want, _, line in CASES if want not in BEYOND])
def test_the_schema_accepts_what_the_engine_accepts(want: str, line: bytes) -> None:
    """Each line of the table fits the schema exactly if it is accepted, dates that do not exist aside."""
    try:
        value = parse(line)
        judge(value)
        accepted = True
    except Fault:
        accepted = False
    assert accepted == (want == "accepted")
    if want == "bad_time" and not accepted:
        return
    assert fits(SCHEMA, value) == accepted


def test_the_schema_has_the_types_of_the_engine() -> None:
    """Those of events as the alternatives of one pattern."""
    pattern = SCHEMA["properties"]["type"]["pattern"].partition(")?")[2].replace("\\", "")
    alone = [kind for kind in re.findall(r"[a-z]+\.[a-z]+", pattern) if not kind.startswith("snapshot")]
    of_snapshots = re.findall(r"snapshot\.\(([a-z|]+)\)", pattern)[0].split("|")
    assert sorted([*alone, *(f"snapshot.{kind}" for kind in of_snapshots)]) == sorted(TYPES)
    assert SCHEMA["$defs"]["ready"]["properties"]["resource_type"]["enum"] == [*RESOURCE_TYPES]
