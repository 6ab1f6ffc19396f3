"""Arrow's arrays out of NumPy's and Python's: `pa.array` would do, but it loads pandas, which takes half a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def whole(
    numbers: npt.NDArray[Any], kind: pa.DataType | None = None, filled: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """An array of 64-bit integers, int64 if nothing else is said; null where it is not filled."""
    kind = kind or pa.int64()
    values = np.ascontiguousarray(numbers, np.uint64 if kind == pa.uint64() else np.int64)
    return pa.Array.from_buffers(kind, len(values), [_bitmap(filled), pa.py_buffer(values)])


def numbers(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    """The numbers of a column that has one in each row."""
    kind = column.type.to_pandas_dtype()
    parts = [
        np.frombuffer(chunk.buffers()[1], kind, len(chunk), chunk.offset * np.dtype(kind).itemsize)
        for chunk in (column.chunks if isinstance(column, pa.ChunkedArray) else [column])
        if len(chunk)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, kind), *parts])


def repeated(text: str, count: int) -> pa.Array:
    """One text so many times."""
    data = text.encode()
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(len(data))
    return pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data * count)])


def column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """An array of integers, texts or bytes; null where there is None."""
    filled = np.array([value is not None for value in values], np.bool_)
    if pa.types.is_integer(kind):
        return whole(np.array([value or 0 for value in values], np.int64), kind, filled)
    data = [b"" if value is None else value.encode() if isinstance(value, str) else value for value in values]
    offsets = np.zeros(len(data) + 1, np.int64)
    np.cumsum([len(each) for each in data], out=offsets[1:])
    buffers = [_bitmap(filled), pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(b"".join(data))]
    return pa.Array.from_buffers(kind, len(data), buffers)


def _bitmap(filled: npt.NDArray[np.bool_] | None) -> pa.Buffer | None:
    if filled is None or filled.all():
        return None
    return pa.py_buffer(np.packbits(filled, bitorder="little"))
