"""Polars: lazy, by its streaming engine; sums in Int128."""

from __future__ import annotations

import polars as pl

from ..question import Question, Row

KEY = ["h", "l"]
EVENT = ["event_high", "event_low"]
ENDS = ["snapshot.deleted", "snapshot.failed"]


def month(question: Question) -> list[Row]:
    """Usage per account × SKU × region."""
    start, end = question.start, question.end
    events = pl.scan_parquet(question.files).rename({"subject_high": "h", "subject_low": "l"})
    retracted = (
        events.filter(pl.col("type") == "event.retracted")
        .select(event_high="retracted_high", event_low="retracted_low")
        .collect(engine="streaming")
        .lazy()
    )

    def counting(kinds: list[str], time: pl.Expr, *columns: str) -> pl.LazyFrame:
        chosen = events.filter(pl.col("type").is_in(kinds) & time)
        chosen = chosen.select(*KEY, "time", *EVENT, *columns)
        return chosen.join(retracted, on=EVENT, how="anti")

    ended = counting(ENDS, pl.col("time") <= start).select(KEY)
    told = ("source", "id", "account_id", "region", "resource_type", "resource_id", "size_bytes")
    alive = counting(["snapshot.ready"], pl.col("time") < end, *told).join(ended, on=KEY, how="anti")
    first = alive.collect(engine="streaming").sort("time", "source", "id").unique(KEY, keep="first").lazy()
    within = pl.col("time").is_between(start, end, closed="none")
    ends = counting(ENDS, within).group_by(KEY).agg(ended_at=pl.col("time").min())
    vm_ends = (
        counting(["vm.deleted"], pl.col("time") < end, "subject")
        .group_by(resource_id="subject", resource_type=pl.lit("vm"))
        .agg(vm_ended_at=pl.col("time").min())
    )
    lifespans = (
        first.join(ends, on=KEY, how="left")
        .join(vm_ends, on=["resource_id", "resource_type"], how="left")
        .with_columns(
            used_from=pl.max_horizontal("time", pl.lit(start)),
            used_until=pl.min_horizontal("ended_at", "vm_ended_at", pl.lit(end)),
        )
        .filter(pl.col("used_from") < pl.col("used_until"))
    )
    usage = (
        lifespans.join(_steps(counting(["snapshot.resized"], pl.col("time") < end, "size_bytes")), on=KEY, how="left")
        .with_columns(
            size=pl.when(pl.col("changed_at") >= pl.col("time")).then("new_size").otherwise("size_bytes"),
            since=pl.max_horizontal("used_from", "changed_at"),
            until=pl.min_horizontal("used_until", "next_at"),
        )
        .filter(pl.col("since") < pl.col("until"))
        .group_by("account_id", "resource_type", "region")
        .agg(
            used=(pl.col("size").cast(pl.Int128) * (pl.col("until") - pl.col("since")).cast(pl.Int128)).sum(),
            snapshots=(pl.col("since") == pl.col("used_from")).sum(),
        )
        .collect(engine="streaming")
    )
    return [(account, f"snapshot.{kind}", region, used, count) for account, kind, region, used, count in usage.rows()]


def _steps(resizes: pl.LazyFrame) -> pl.LazyFrame:
    """Each new size with the time for which it holds, and the time before the first."""
    changes = resizes.group_by(*KEY, changed_at="time").agg(new_size=pl.col("size_bytes").max()).sort("changed_at")
    after = changes.with_columns(next_at=pl.col("changed_at").shift(-1).over(KEY))
    before = changes.group_by(KEY).agg(next_at=pl.col("changed_at").min())
    return pl.concat([after, before], how="diagonal")
