"""What several commands are asked for: a month, a format, a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metering.errors import wrong_value

if TYPE_CHECKING:
    from metering.values import Month

Command = Callable[..., Any]
FILES = ("csv", "json", "parquet", "xlsx")
DOCUMENTS = ("pdf", "html", "json")


def printed(function: Command) -> Command:
    """The options of a command that prints rows."""
    function = click.option("--output", metavar="FILE", help="Write to a file.")(function)
    return click.option(
        "--format", "format", type=click.Choice(["table", *FILES]), help="[default: as FILE ends, else table or csv]"
    )(function)


def output_format(value: str | None, output: str | None) -> str:
    """The format asked for, or that of the file's name; else a table on a terminal, and CSV anywhere else."""
    return value or format_of(output, FILES) or ("table" if sys.stdout.isatty() else "csv")


def format_of(output: str | None, formats: Collection[str]) -> str | None:
    """The format that a file's name ends in, if it is one of these."""
    suffix = Path(output or "").suffix.removeprefix(".").lower()
    return suffix if suffix in formats else None


def month_option(text: str | None) -> Month | None:
    """The month that an option or argument names, if it is given."""
    return None if text is None else month_of(text)


def month_of(text: str) -> Month:
    """The month that a text names."""
    from metering.values import InvalidValue, Month

    try:
        return Month.parse(text)
    except InvalidValue as error:
        raise wrong_value("month", error) from None
