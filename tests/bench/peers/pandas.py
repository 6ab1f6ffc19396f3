"""pandas: frames of NumPy integers; sums in limbs of 21 bits, put together in Python's integers."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from ..question import Question, Row

KEY = ["subject_high", "subject_low"]
ENDS = ["snapshot.deleted", "snapshot.failed"]
BITS = 21
"""Products of two limbs have 42 bits, so that two million of them fit into a 64-bit sum."""


def month(question: Question) -> list[Row]:
    """Usage per account × SKU × region."""
    pa.set_cpu_count(question.threads)
    start, end = question.start, question.end
    events = ds.dataset(question.files)
    kind, time = ds.field("type"), ds.field("time")
    gone = _frame(events, kind == "event.retracted", ["retracted_source", "retracted_id"])
    gone.columns = pd.Index(["source", "id"])

    def counting(which: ds.Expression, *columns: str) -> pd.DataFrame:
        # The few ids are looked for while reading; only the subjects that have one are compared by source as well.
        wanted = list(dict.fromkeys([*KEY, "time", *columns]))
        suspects = _frame(events, which & ds.field("id").isin(gone["id"]), KEY)
        frame = _frame(events, which, wanted)
        if suspects.empty:
            return frame
        touched = ds.field(KEY[0]).isin(suspects[KEY[0]])
        exact = _frame(events, which & touched, list(dict.fromkeys([*wanted, "source", "id"])))
        kept = _anti(exact, gone, ["source", "id"])[wanted]
        return pd.concat([_anti(frame, exact, KEY[:1]), kept], ignore_index=True)

    ended = counting(kind.isin(ENDS) & (time <= start))[KEY]
    told = ("account_id", "region", "resource_type", "resource_id", "size_bytes")
    alive = _anti(counting((kind == "snapshot.ready") & (time < end), *told, "source", "id"), ended, KEY)
    first = alive.sort_values(["time", "source", "id"]).drop_duplicates(KEY)
    ends = counting(kind.isin(ENDS) & (time > start) & (time < end)).groupby(KEY, as_index=False)["time"].min()
    vm_ends = (
        counting((kind == "vm.deleted") & (time < end), "subject").groupby("subject", as_index=False)["time"].min()
    )
    resizes = counting((kind == "snapshot.resized") & (time < end), "size_bytes")
    lives = first.merge(ends.rename(columns={"time": "ended_at"}), on=KEY, how="left")
    lives = lives.merge(
        vm_ends.rename(columns={"subject": "resource_id", "time": "vm_ended_at"}), on="resource_id", how="left"
    )
    lives.loc[lives["resource_type"] != "vm", "vm_ended_at"] = None
    # A column with gaps is a float here, whose 53 bits hold every instant until the year 2255 exactly.
    until = lives[["ended_at", "vm_ended_at"]].min(axis=1).fillna(end)
    lives["used_from"] = lives["time"].clip(lower=start)
    lives["used_until"] = until.astype("int64")
    lives = lives[lives["used_from"] < lives["used_until"]]
    return _sums(_cut(lives, resizes))


def _frame(events: ds.Dataset, which: ds.Expression, columns: list[str]) -> pd.DataFrame:
    return events.to_table(columns=columns, filter=which).to_pandas()


def _anti(left: pd.DataFrame, right: pd.DataFrame, on: list[str]) -> pd.DataFrame:
    """The rows of the left without a partner."""
    marked = left.merge(right[on].drop_duplicates().assign(met=True), on=on, how="left")
    return marked[marked["met"].isna()].drop(columns="met")


def _cut(lives: pd.DataFrame, resizes: pd.DataFrame) -> pd.DataFrame:
    """The lifespans cut where a size changes."""
    changes = resizes.rename(columns={"time": "changed_at", "size_bytes": "new_size"})
    changes = changes.groupby([*KEY, "changed_at"], as_index=False)["new_size"].max().sort_values("changed_at")
    changes["next_at"] = changes.groupby(KEY)["changed_at"].shift(-1)
    before = changes.groupby(KEY, as_index=False)["changed_at"].min().rename(columns={"changed_at": "next_at"})
    steps = pd.concat([changes, before.assign(changed_at=-1, new_size=0)], ignore_index=True)
    steps["next_at"] = steps["next_at"].fillna(2**53).astype("int64")
    whole = _anti(lives, changes, KEY).assign(changed_at=-1, new_size=0, next_at=2**53)
    cut = pd.concat([whole, lives.merge(steps, on=KEY)], ignore_index=True)
    cut["size"] = (
        cut["new_size"].astype("int64").where(cut["changed_at"] >= cut["time"], cut["size_bytes"]).astype("int64")
    )
    cut["since"] = cut[["used_from", "changed_at"]].max(axis=1)
    cut["micros"] = cut[["used_until", "next_at"]].min(axis=1) - cut["since"]
    cut["snapshots"] = (cut["since"] == cut["used_from"]).astype("int64")
    return cut[cut["micros"] > 0]


def _sums(cut: pd.DataFrame) -> list[Row]:
    mask = 2**BITS - 1
    size, micros = cut["size"].to_numpy(), cut["micros"].to_numpy()
    keys = ["account_id", "resource_type", "region"]
    frame = cut[[*keys, "snapshots"]].copy()
    limbs = [(s, m) for s in range(3) for m in range(2)]
    for s, m in limbs:
        frame[f"{s}{m}"] = ((size >> (BITS * s)) & mask) * ((micros >> (BITS * m)) & mask)
    groups = frame.groupby(keys)
    assert int(groups.size().max()) < 2**BITS
    rows = []
    for row in groups.sum().reset_index().to_dict("records"):
        used = sum(int(row[f"{s}{m}"]) << (BITS * (s + m)) for s, m in limbs)
        account, kind, region = (str(row[key]) for key in keys)
        rows.append((account, f"snapshot.{kind}", region, used, int(row["snapshots"])))
    return rows
