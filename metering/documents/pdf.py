"""Documents as PDF: tagged and archivable (PDF/A-2a, PDF/UA-1), made by typst in this process.

The standards refuse a character that no font can show, so nothing is printed as an empty box.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metering.documents.shown import shown
from metering.errors import MeteringError, UsageError

if TYPE_CHECKING:
    from typst import Compiler

_LONG = re.compile(r"\S{37,}")
_PIECE = re.compile(r"\S{12}(?=\S)")


@cache
def _compiler(system_fonts: bool) -> Compiler:
    """The compiler with the fonts of typst and, if wanted, of this machine; looking these up takes half a second."""
    import typst

    template = Path(__file__).with_name("invoice.typ")
    return typst.Compiler(template, template.parent, ignore_system_fonts=not system_fonts)


class Press:
    """Makes one PDF after the other."""

    def __init__(self, *, system_fonts: bool = True) -> None:
        try:
            from typst import TypstError
        except ModuleNotFoundError:
            raise UsageError(
                "PDF needs typst.", remedy="Install the extra: pip install 'metering[pdf]', or ask for --format html."
            ) from None
        self._error = TypstError
        self._compiler = _compiler(system_fonts)

    def make(self, document: dict[str, Any]) -> bytes:
        """The PDF of a document; MeteringError if a character in it is in no font."""
        data = json.dumps(breakable(shown(document)), ensure_ascii=False)
        try:
            made = self._compiler.compile(format="pdf", sys_inputs={"document": data}, pdf_standards=["a-2a", "ua-1"])
        except self._error as error:
            raise self._explain(document["number"], error) from None
        assert isinstance(made, bytes)
        return made

    def _explain(self, number: str, error: Exception) -> MeteringError:
        missing = re.search(r'the text `"(.*)"` could not be displayed', str(error))
        if missing is None:
            raise error
        return MeteringError(
            f"{number}: no font of this machine has the characters of {missing[1]!r}.",
            unchanged="This document was not written.",
            remedy="Install a font that has them (Noto has them all), or ask for --format html.",
        )


def breakable(value: Any) -> Any:
    """Every text with places at which a very long word may be broken (zero-width spaces, which no reader sees)."""
    if isinstance(value, str):
        return _LONG.sub(lambda word: _PIECE.sub("\\g<0>\u200b", word[0]), value)
    if isinstance(value, dict):
        return {name: breakable(member) for name, member in value.items()}
    if isinstance(value, list):
        return [breakable(member) for member in value]
    return value
