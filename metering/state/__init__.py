"""The maintained lifespans: a cache below the lake, from which a night computes with what is new and what is alive."""

from metering.state.build import advance
from metering.state.changes import changed_usage
from metering.state.relations import open_usage, with_usage

__all__ = ["advance", "changed_usage", "open_usage", "with_usage"]
