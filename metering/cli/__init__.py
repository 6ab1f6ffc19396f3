"""The command line: it parses, makes one call, and prints."""

from metering.cli.app import main

__all__ = ["main"]
