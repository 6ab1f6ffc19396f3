"""The maintained lifespans: a cache below the lake, by which a night computes only what changed; see README.md."""

from metering.state.build import advance
from metering.state.changes import changed_usage
from metering.state.relations import open_usage, with_usage

__all__ = ["advance", "changed_usage", "open_usage", "with_usage"]
