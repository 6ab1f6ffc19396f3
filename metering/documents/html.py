"""Documents as HTML: one page without script or network, in which every text of people is escaped and isolated."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from metering.documents.shown import shown
from metering.values import visible

if TYPE_CHECKING:
    from jinja2 import Environment


class Parts(NamedTuple):
    """A number in the pieces in which it is set: a true minus, groups of thousands, and zeros that only align."""

    sign: str
    groups: list[str]
    fraction: str
    missing: str


def parts(text: str, places: int = 0) -> Parts:
    """The pieces of a decimal number, padded to so many places."""
    whole, point, fraction = text.removeprefix("-").partition(".")
    start = len(whole) % 3
    groups = [whole[:start]] * bool(start) + [whole[at : at + 3] for at in range(start, len(whole), 3)]
    lacking = max(places - len(fraction), 0)
    missing = ("" if point else "." * bool(lacking)) + "0" * lacking
    return Parts("−" if text.startswith("-") else "", groups, f"{point}{fraction}", missing)


def environment() -> Environment:
    """Jinja with escaping always on."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("metering", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    made.filters["visible"] = visible
    return made


@cache
def _pages() -> Environment:
    made = environment()
    made.globals.update(
        parts=parts,
        most_places=lambda lines: max(len(line["price_per_gb_hour"].partition(".")[2]) for line in lines),
    )
    return made


def html(document: dict[str, Any]) -> str:
    """The page of a document."""
    return _pages().get_template("documents/invoice.html").render(doc={"standing": None, **shown(document)})
