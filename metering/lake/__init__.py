"""The lake: immutable Parquet files and the one manifest that says which of them count.

Owns the folder `lake/`. A file is written whole, synced, and never changed; it counts from the moment that the
manifest names it, and the manifest is swapped in one step. So a killed run leaves the lake as it was or as it
is after. What only the ledger decides (closes, documents) lies here too, under `closes/`, made from the ledger.
"""

from metering.lake.duck import (
    add,
    answer,
    attached,
    comment,
    connect,
    copy,
    count,
    drop,
    drop_all_but,
    every,
    give,
    give_files,
    give_rows,
    give_stream,
    has,
    nothing,
    single,
    table,
    together,
    view,
    write_table,
    write_view,
)
from metering.lake.relations import compose, define, reads
from metering.lake.store import Batch, Lake, Manifest, Merged

__all__ = [
    "Batch",
    "Lake",
    "Manifest",
    "Merged",
    "add",
    "answer",
    "attached",
    "comment",
    "compose",
    "connect",
    "copy",
    "count",
    "define",
    "drop",
    "drop_all_but",
    "every",
    "give",
    "give_files",
    "give_rows",
    "give_stream",
    "has",
    "nothing",
    "reads",
    "single",
    "table",
    "together",
    "view",
    "write_table",
    "write_view",
]
