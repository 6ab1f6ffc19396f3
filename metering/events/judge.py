"""Whether one decoded object is an event that the engine takes, and if not, the one reason why: pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from metering.values import InvalidValue, parse_instant, to_instant

MAX_TEXT = 255
MAX_SIZE = 2**63 - 1
EARLIEST = to_instant(datetime.min.replace(tzinfo=UTC))
LATEST = to_instant(datetime.max.replace(tzinfo=UTC))
RESOURCE_TYPES = ("vm", "volume")
TYPES = (
    "snapshot.creating",
    "snapshot.ready",
    "snapshot.resized",
    "snapshot.failed",
    "snapshot.deleted",
    "vm.deleted",
    "event.retracted",
)
REASONS = (
    "malformed_json",
    "not_an_object",
    "duplicate_key",
    "missing_field",
    "wrong_type",
    "too_long",
    "out_of_range",
    "unknown_type",
    "bad_time",
    "negative_size",
    "conflict",
)

# A reverse-DNS prefix has a top-level domain and a name: one bare word before the type may be another noun
# ("schedule.snapshot.deleted"), and that is not guessed at.
_PREFIX = r"(?:[A-Za-z0-9][A-Za-z0-9_-]*\.){2,}?"
_TYPE = re.compile(rf"(?:{_PREFIX})?({'|'.join(map(re.escape, TYPES))})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Fault(Exception):
    """Why a line is no event: a reason code and a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Accepted(NamedTuple):
    """The columns of an accepted event; what its type does not use is None."""

    source: str
    id: str
    type: str
    subject: str
    time: int
    account_id: str | None = None
    project_id: str | None = None
    region: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    name: str | None = None
    size_bytes: int | None = None
    retracted_source: str | None = None
    retracted_id: str | None = None


def judge(event: Any) -> Accepted:
    """The columns of an event; raises Fault with the first thing that is wrong.

    The attributes are looked at before the data, each in the order of the table in the contract.
    """
    if not isinstance(event, dict):
        raise Fault("not_an_object", f"The line is {_kind(event)}, not an object.")
    # CloudEvents: an attribute that is null counts as absent.
    attributes = {key: event[key] for key in _ATTRIBUTES if event.get(key) is not None}
    _specversion(attributes)
    identity = _text(attributes, "id")
    source = _text(attributes, "source")
    kind = _type(attributes)
    subject = _text(attributes, "subject")
    instant = _time(attributes)
    if kind not in _DATA:
        return Accepted(source, identity, kind, subject, instant)
    if "data" not in event:
        raise Fault("missing_field", f"data is missing; {kind} needs it.")
    data = event["data"]
    if not isinstance(data, dict):
        raise Fault("wrong_type", f"data is {_kind(data)}, not an object.")
    return Accepted(source, identity, kind, subject, instant, **_DATA[kind](data))


_ATTRIBUTES = ("specversion", "id", "source", "type", "subject", "time")


def bare_type(text: str) -> str | None:
    """An event type without its reverse-DNS prefix; None if there is no such type."""
    match = _TYPE.fullmatch(text)
    return match[1] if match else None


def instant_of(text: str) -> int:
    """The instant of an RFC 3339 text that also is a date in UTC; raises InvalidValue."""
    instant = parse_instant(text)
    if not EARLIEST <= instant <= LATEST:
        raise InvalidValue(f"{text!r} is outside the years 1 to 9999 in UTC")
    return instant


def _ready(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "account_id": _text(data, "account_id", "data."),
        "project_id": _text(data, "project_id", "data."),
        "region": _text(data, "region", "data."),
        "resource_type": _resource_type(data),
        "resource_id": _text(data, "resource_id", "data."),
        "size_bytes": _size(data),
        "name": _name(data),
    }


def _resized(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"size_bytes": _size(data)}


def _retracted(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _text(data, key, "data.") for key in ("retracted_source", "retracted_id")}


_DATA = {"snapshot.ready": _ready, "snapshot.resized": _resized, "event.retracted": _retracted}


def _specversion(attributes: Mapping[str, Any]) -> None:
    version = _filled(attributes, "specversion")
    if version != "1.0":
        raise Fault("out_of_range", f'specversion is {_show(version)}; only "1.0" is known.')


def _type(attributes: Mapping[str, Any]) -> str:
    kind = bare_type(full := _filled(attributes, "type"))
    if kind is None:
        raise Fault("unknown_type", f"type {_show(full)} is none of {', '.join(TYPES)}.")
    return kind


def _time(attributes: Mapping[str, Any]) -> int:
    try:
        return instant_of(_filled(attributes, "time"))
    except InvalidValue:
        shown = _show(attributes["time"])
        wanted = "an RFC 3339 time with an offset, such as 2026-05-03T10:00:00.25Z"
        raise Fault("bad_time", f"time {shown} is not {wanted}.") from None


def _resource_type(data: Mapping[str, Any]) -> str:
    value = _filled(data, "resource_type", "data.")
    if value not in RESOURCE_TYPES:
        raise Fault("out_of_range", f"data.resource_type is {_show(value)}, none of {', '.join(RESOURCE_TYPES)}.")
    return value


def _size(data: Mapping[str, Any]) -> int:
    if "size_bytes" not in data:
        raise Fault("missing_field", "data.size_bytes is missing.")
    size = data["size_bytes"]
    if type(size) is not int:
        raise Fault("wrong_type", f"data.size_bytes is {_kind(size)}, not an integer.")
    if size < 0:
        raise Fault("negative_size", "data.size_bytes is less than zero.")
    if size > MAX_SIZE:
        raise Fault("out_of_range", f"data.size_bytes is more than {MAX_SIZE}.")
    return size


def _name(data: Mapping[str, Any]) -> str | None:
    name = data.get("name")
    if name is None or name == "":
        return None
    if not isinstance(name, str):
        raise Fault("wrong_type", f"data.name is {_kind(name)}, not a text.")
    return _fitting(name, "data.name")


def _text(fields: Mapping[str, Any], key: str, path: str = "") -> str:
    return _fitting(_filled(fields, key, path), path + key)


def _filled(fields: Mapping[str, Any], key: str, path: str = "") -> str:
    if key not in fields:
        raise Fault("missing_field", f"{path}{key} is missing.")
    value = fields[key]
    if not isinstance(value, str):
        raise Fault("wrong_type", f"{path}{key} is {_kind(value)}, not a text.")
    if not value:
        raise Fault("missing_field", f"{path}{key} is empty.")
    return value


def _fitting(text: str, path: str) -> str:
    if len(text) > MAX_TEXT:
        raise Fault("too_long", f"{path} has {len(text)} characters; {MAX_TEXT} are allowed.")
    if _CONTROL.search(text):
        raise Fault("out_of_range", f"{path} {_show(text)} holds a control character.")
    return text


_KINDS = {
    str: "a text",
    int: "a number",
    dict: "an object",
    list: "an array",
    # Only columns know these.
    bytes: "bytes",
    date: "a date",
    time: "a time of day",
    timedelta: "a duration",
}


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _KINDS.get(type(value), "a number with a fraction or an exponent")


def _show(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
