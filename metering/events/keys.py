"""Short keys of texts: of subjects and identities for joins, and shorter ones of identities to find repeats."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from hashlib import sha256

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from metering.events.arrays import numbers, repeated, whole
from metering.events.instants import Bools

KEY_BYTES = 16
SEPARATOR = "\x1f"
"""Between source and id; no text of an event holds a control character."""
FEW = 2048
"""Up to so many texts are hashed one by one: handing them over would cost more."""

Keys = npt.NDArray[np.uint64]
Pair = tuple[pa.Array, pa.Array]
Halves = npt.NDArray[np.int64]
Columns = Mapping[int, pa.Array | pa.ChunkedArray]

_ODD = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_WORD = 8
_LOW_BYTES = np.array([2 ** (8 * count) - 1 for count in range(_WORD + 1)], np.uint64)
_DIGITS = 64
"""Hexadecimal digits of a SHA-256."""
_own = threading.local()


def _bytes_of_digits() -> npt.NDArray[np.uint8]:
    """The byte that two hexadecimal digits, read as one number of this machine's, stand for."""
    found = np.zeros(2**16, np.uint8)
    for byte in range(256):
        found[np.frombuffer(b"%02x" % byte, np.uint16)[0]] = byte
    return found


_BYTE = _bytes_of_digits()


def lake_keys(events: pa.Table) -> dict[str, pa.Array]:
    """The columns of keys (LAKE_KEYS) that the lake keeps beside the texts of events."""
    from pyarrow import compute as pc

    is_vm = pc.equal(events["resource_type"], repeated("vm", len(events)))
    texts = {
        "event": _identities(events, ""),
        "subject": events["subject"],
        "retracted": _identities(events, "retracted_"),
        "vm": pc.if_else(is_vm, events["resource_id"], pa.nulls(len(events), pa.string())),
    }
    keys = _keys_of(texts.values())
    return {
        half: key for name, pair in zip(texts, keys, strict=True) for half, key in zip(_halves(name), pair, strict=True)
    }


def _halves(name: str) -> tuple[str, str]:
    return f"{name}_high", f"{name}_low"


LAKE_KEYS = tuple(half for name in ("event", "subject", "retracted", "vm") for half in _halves(name))


def _identities(events: pa.Table, prefix: str) -> pa.ChunkedArray:
    from pyarrow import compute as pc

    return pc.binary_join_element_wise(
        events[f"{prefix}source"], events[f"{prefix}id"], repeated(SEPARATOR, len(events))
    )


def _keys_of(columns: Iterable[pa.Array | pa.ChunkedArray]) -> list[Pair]:
    """The first and the second 8 bytes of each text's SHA-256, as big-endian signed integers; empty where it is.

    The columns are equally long, and handed over together, because that costs as much as one.
    """
    given = dict(enumerate(columns))
    some = {number: texts for number, texts in given.items() if texts.null_count < len(texts)}
    found = _hashed_one_by_one(some) if len(given[0]) <= FEW else _hashed_by_duckdb(some)
    nothing = pa.nulls(len(given[0]), pa.int64())
    return [_pair(*found[number]) if number in some else (nothing, nothing) for number in given]


def _pair(halves: Halves, filled: Bools) -> Pair:
    """The keys of the texts that there are, with nothing in between."""
    if filled.all():
        high, low = (whole(half) for half in halves.T)
    else:
        spread = np.zeros((len(filled), 2), np.int64)
        spread[filled] = halves
        high, low = (whole(half, filled=filled) for half in spread.T)
    return high, low


def _hashed_one_by_one(columns: Columns) -> dict[int, tuple[Halves, Bools]]:
    found = {}
    for number, texts in columns.items():
        given = texts.to_pylist()
        digests = b"".join([sha256(text.encode()).digest()[:KEY_BYTES] for text in given if text is not None])
        halves = np.frombuffer(digests, ">i8").astype(np.int64).reshape(-1, 2)
        found[number] = (halves, np.array([text is not None for text in given], np.bool_))
    return found


def _hashed_by_duckdb(columns: Columns) -> dict[int, tuple[Halves, Bools]]:
    """DuckDB lets go of the interpreter meanwhile."""
    if not columns:
        return {}
    if not hasattr(_own, "con"):
        _own.con = duckdb.connect(config={"threads": 1})
    given = _own.con.from_arrow(pa.table({f"c{number}": texts for number, texts in columns.items()}))
    hashed = given.project(", ".join(f"sha256(c{number}) AS c{number}" for number in columns)).to_arrow_table()
    return {number: (_of_digits(hashed[f"c{number}"]), _filled(hashed[f"c{number}"])) for number in columns}


def _filled(column: pa.ChunkedArray) -> Bools:
    return numbers(column.is_valid().cast(pa.uint8())).astype(np.bool_)


def _of_digits(column: pa.ChunkedArray) -> Halves:
    """The first bytes of hexadecimal digests as two integers, of those that there are."""
    found = [np.zeros((0, 2), np.int64)]
    for chunk in column.chunks:
        _, offsets, data = chunk.buffers()
        count = len(chunk) - chunk.null_count
        if count:
            first = int(np.frombuffer(offsets, np.int32)[chunk.offset])
            digits = np.frombuffer(data, np.uint8, count * _DIGITS, first).reshape(count, _DIGITS)
            pairs = np.ascontiguousarray(digits[:, : 2 * KEY_BYTES]).view(np.uint16)
            found.append(_BYTE[pairs].view(">i8").astype(np.int64))
    return np.concatenate(found)


def identity_keys(sources: pa.Array, ids: pa.Array) -> Keys:
    """64 bits of each (source, id): equal identities have equal keys; equal keys say nothing for sure.

    They are stored in the index of identities: whoever changes them changes its version.
    """
    return _mixed(_text_keys(sources) * _ODD[0] + _text_keys(ids))


def _text_keys(texts: pa.Array) -> Keys:
    """A multiply-and-shift hash over each text's words of 8 bytes, the last filled with zeros."""
    buffers = texts.buffers()
    offsets = np.frombuffer(buffers[1], np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    if not len(texts):
        return np.zeros(0, np.uint64)
    text = bytes(buffers[2])[offsets[0] : offsets[-1]] if buffers[2] else b""
    words = np.ndarray((len(text) + 1,), "<u8", text + bytes(_WORD), strides=(1,))
    starts, lengths = offsets[:-1] - offsets[0], np.diff(offsets)
    keys = lengths.astype(np.uint64) * _ODD[1]
    for place in range(0, int(lengths.max()), _WORD):
        left = np.clip(lengths - place, 0, _WORD)
        rows = np.flatnonzero(left)
        if len(rows) == len(keys):
            keys = _stirred(keys, words[starts + place] & _LOW_BYTES[left])
        else:
            keys[rows] = _stirred(keys[rows], words[starts[rows] + place] & _LOW_BYTES[left[rows]])
    return _mixed(keys)


def _stirred(keys: Keys, words: Keys) -> Keys:
    keys = (keys ^ words) * _ODD[0]
    keys ^= keys >> np.uint64(29)
    return keys


def _mixed(keys: Keys) -> Keys:
    keys = (keys ^ (keys >> np.uint64(30))) * _ODD[1]
    keys = (keys ^ (keys >> np.uint64(27))) * _ODD[2]
    return np.asarray(keys ^ (keys >> np.uint64(31)), np.uint64)
