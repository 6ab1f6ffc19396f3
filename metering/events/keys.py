"""Short keys of texts: of subjects for joins, of identities to find repeats."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import pyarrow as pa

KEY_BYTES = 16

Keys = npt.NDArray[np.uint64]

_ODD = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_WORD = 8
_LOW_BYTES = np.array([2 ** (8 * count) - 1 for count in range(_WORD + 1)], np.uint64)


def subject_keys(subjects: Iterable[str] | pa.Array) -> tuple[pa.Array, pa.Array]:
    """The first and the second 8 bytes of each text's SHA-256, as big-endian signed integers."""
    texts = subjects.to_pylist() if isinstance(subjects, pa.Array) else subjects
    digests = b"".join([sha256(text.encode()).digest()[:KEY_BYTES] for text in texts])
    pairs = np.frombuffer(digests, ">i8").astype(np.int64).reshape(-1, 2)
    return pa.array(pairs[:, 0]), pa.array(pairs[:, 1])


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
