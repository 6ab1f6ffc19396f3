"""Short keys of texts: of subjects and identities for joins, and shorter ones of identities to find repeats."""

from __future__ import annotations

import threading
from hashlib import sha256

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

KEY_BYTES = 16
SEPARATOR = "\x1f"
"""Between source and id; no text of an event holds a control character."""
FEW = 2048
"""Up to so many texts are hashed one by one: handing them over would cost more."""

Keys = npt.NDArray[np.uint64]

_ODD = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_WORD = 8
_LOW_BYTES = np.array([2 ** (8 * count) - 1 for count in range(_WORD + 1)], np.uint64)
_SAMPLE = 1024
"""So many texts tell whether it pays to hash each one once."""
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
    is_vm = pc.equal(events["resource_type"], "vm")
    texts = {
        "event": _identities(events, ""),
        "subject": events["subject"],
        "retracted": _identities(events, "retracted_"),
        "vm": pc.if_else(is_vm, events["resource_id"], pa.scalar(None, pa.string())),
    }
    return {name: key for whole in texts for name, key in zip(_halves(whole), text_keys(texts[whole]), strict=True)}


def _halves(name: str) -> tuple[str, str]:
    return f"{name}_high", f"{name}_low"


LAKE_KEYS = tuple(half for name in ("event", "subject", "retracted", "vm") for half in _halves(name))


def _identities(events: pa.Table, prefix: str) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(events[f"{prefix}source"], events[f"{prefix}id"], SEPARATOR)


def text_keys(texts: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """The first and the second 8 bytes of each text's SHA-256, as big-endian signed integers; empty where it is."""
    given = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    if given.null_count == len(given):
        nothing = pa.nulls(len(given), pa.int64())
        return nothing, nothing
    if not given.null_count and len(given.slice(0, _SAMPLE).unique()) >= min(len(given), _SAMPLE) // 2:
        high, low = _halves_of_digests(given).T
        return pa.array(np.ascontiguousarray(high)), pa.array(np.ascontiguousarray(low))
    encoded = given.dictionary_encode()
    high, low = (pa.array(np.ascontiguousarray(half)) for half in _halves_of_digests(encoded.dictionary).T)
    return high.take(encoded.indices), low.take(encoded.indices)


def _halves_of_digests(texts: pa.Array) -> npt.NDArray[np.int64]:
    """The first bytes of each text's SHA-256 as two integers; DuckDB lets go of the interpreter meanwhile."""
    if len(texts) <= FEW:
        digests = b"".join([sha256(text.encode()).digest()[:KEY_BYTES] for text in texts.to_pylist()])
        return np.frombuffer(digests, ">i8").astype(np.int64).reshape(-1, 2)
    if not hasattr(_own, "con"):
        _own.con = duckdb.connect(config={"threads": 1})
    hashed = _own.con.from_arrow(pa.table({"given": texts})).project("sha256(given) AS hashed").to_arrow_table()
    column = hashed["hashed"].combine_chunks()
    _, offsets, data = column.buffers()
    first = int(np.frombuffer(offsets, np.int32)[column.offset])
    digits = np.frombuffer(data, np.uint8)[first : first + 4 * KEY_BYTES * len(texts)].reshape(len(texts), -1)
    pairs = np.ascontiguousarray(digits[:, : 2 * KEY_BYTES]).view(np.uint16)
    return _BYTE[pairs].view(">i8").astype(np.int64)


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
