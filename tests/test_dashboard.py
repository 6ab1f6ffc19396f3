"""The dashboard: every figure is what its report says, and the page stands by itself."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
from collections import Counter
from decimal import ROUND_HALF_UP, Decimal
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from homes import Home

from metering.dashboard.charts import columns
from metering.dashboard.figures import Figure, Question, short

ACCOUNTS = (
    "acc-1,USD,10,pm_card_visa",
    "acc-2,USD,0,pm_card_chargeDeclined",
    "acc-3,JPY,10,pm_card_visa",
    "acc-4,USD,0,pm_card_visa",
)
PRICES = (
    "snapshot.vm,,USD,0.001,2026-01-01,",
    "snapshot.volume,,USD,0.0005,2026-01-01,",
    "snapshot.vm,,JPY,0.1,2026-01-01,",
)
APRIL = """
2026-04-01 ready a1 acc=acc-1 gb=100
2026-04-05 ready b1 acc=acc-2 gb=50 reg=us&<east>
2026-04-06 ready v1 acc=acc-2 gb=10 type=volume res=vol-1
2026-04-07 ready c1 acc=acc-3 gb=3
2026-04-08 deleted lost
"""
MAY = """
2026-04-11 deleted a1
2026-05-02 ready d1 acc=acc-4 gb=10
2026-05-03 ready x1 acc=acc-unknown gb=10
"""
"""a1 ended in April, which is heard of in May: an adjustment; nobody knows acc-unknown."""
NOW = "2026-07-12T06:00:00Z"
POWERS = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12}
SECTIONS = ["key", "months", "flow", "places", "accounts", "open", "cards", "idle", "health"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Two closed months with all that a dashboard shows; only read."""
    home = Home(tmp_path_factory.mktemp("dashboard") / "home", now="2026-05-01T02:00:00Z")
    home.file("metering.toml", '[billing]\nstart = "2026-04"\n[issuer]\nname = "Example <Cloud>"\n')
    home.prices(*PRICES)
    home.accounts(*ACCOUNTS)
    home.funds("acc-1,credit,5.00,USD,promo,2027-01-01", "acc-1,topup,7.00,USD,top,")
    home.events(APRIL, "april.jsonl")
    home.run("close", "2026-04", now="2026-05-01T03:00:00Z", exit_code=3)
    home.events(MAY, "may.jsonl")
    home.file("inbox/bad.jsonl", "{}\nnot json\n")
    home.run("close", "2026-05", now="2026-06-01T03:00:00Z", exit_code=3)
    home.run("nightly", now="2026-07-12T02:00:00Z", exit_code=None)
    home.now = NOW
    return home


@pytest.fixture(scope="module")
def text(home: Home) -> str:
    """The page."""
    path = home.path / "dashboard.html"
    home.run("export", "dashboard", "--output", str(path))
    return path.read_text()


class Page(HTMLParser):
    """The page's elements: their attributes and the text directly in them."""

    void = frozenset(("meta", "br", "line", "rect", "link", "img"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))
        if tag not in self.void:
            self._open.append(self.elements[-1][2])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1].append(data)

    def all(self, *tags: str) -> list[tuple[dict[str, str], str]]:
        """The elements of some tags."""
        return [(attrs, "".join(words)) for tag, attrs, words in self.elements if tag in tags]


def test_every_figure_is_what_its_report_says(home: Home, text: str) -> None:
    page = Page(text)
    drawn = [
        ({**attrs, "value": attrs["data-value"]}, words) for attrs, words in page.all("text") if "data-value" in attrs
    ]
    figures = page.all("data") + drawn
    assert drawn
    rows: dict[tuple[str, str], list[dict[str, str]]] = {}
    for figure, shown in figures:
        asked = (figure["data-report"], figure["data-filter"])
        if asked not in rows:
            done = home.run("report", asked[0], *shlex.split(asked[1]), "--format", "csv")
            rows[asked] = list(csv.DictReader(io.StringIO(done.stdout)))
        where: dict[str, Any] = json.loads(figure["data-where"])
        wanted = {name: "" if value is None else str(value) for name, value in where.items()}
        members = [row for row in rows[asked] if all(row[name] == value for name, value in wanted.items())]
        if figure["data-how"] == "count":
            expected = Decimal(len(members))
        else:
            terms = re.findall(r"([+-]?)(\w+)", figure["data-column"])
            amounts = [(sign, Decimal(row[name] or 0)) for row in members for sign, name in terms]
            expected = sum((-amount if sign == "-" else amount for sign, amount in amounts), Decimal(0))
        assert Decimal(figure["value"]) == expected, figure
        number, _, unit = shown.replace(",", "").replace("−", "-").partition(" ")
        scaled = expected.scaleb(-POWERS[unit])
        assert Decimal(number) == scaled.quantize(Decimal(number), ROUND_HALF_UP), (figure, shown)
    reports = Counter(figure["data-report"] for figure, _ in figures)
    assert reports.keys() == {
        *("forecast", "invoices", "receivables", "revenue", "invoice-lines", "payments", "idle"),
        *("quarantine", "anomalies", "runs"),
    }
    assert len(figures) >= 100


def test_some_figures_with_a_pencil(text: str) -> None:
    found = {
        (figure["data-report"], figure["data-filter"], figure["data-column"], figure["data-where"]): shown
        for figure, shown in Page(text).all("data")
    }
    # May: b1 744 h × 50 GB × 0.001 = 37.20, v1 744 × 10 × 0.0005 = 3.72, d1 720 × 10 × 0.001 = 7.20,
    # and a1 of April back: 480 h × 100 GB × 0.001 = -48.00. Together 0.12.
    assert found["invoices", "--month 2026-05", "subtotal", '{"currency":"USD"}'] == "0.12"
    # July to date: 11.25 days = 270 h: b1 13.50, v1 1.35, d1 2.70.
    assert found["forecast", "", "amount_to_date", '{"currency":"USD","month":"2026-07"}'] == "17.55"
    # acc-2 was declined for April (b1 31.20 + v1 3.00) and for May (40.92).
    assert found["receivables", "", "total", '{"currency":"USD"}'] == "75.12"
    assert found["quarantine", "", "", "{}"] == "2"


def test_the_page_stands_by_itself(text: str) -> None:
    page = Page(text)
    tags = {tag for tag, _, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object"}
    assert not re.search(r"https?://|url\(|@import", text)
    assert "Example &lt;Cloud&gt;" in text and "us&amp;&lt;east&gt;" in text
    assert [attrs["id"] for attrs, _ in page.all("section")] == SECTIONS


def test_the_page_can_be_read_aloud(text: str) -> None:
    page = Page(text)
    identifiers = Counter(attrs["id"] for _, attrs, _ in page.elements if "id" in attrs)
    assert set(identifiers.values()) == {1}
    referred = [
        name
        for _, attrs, _ in page.elements
        for key in ("aria-labelledby", "aria-describedby")
        for name in attrs.get(key, "").split()
    ]
    assert referred and set(referred) <= identifiers.keys()
    assert all(attrs["href"].removeprefix("#") in identifiers for attrs, _ in page.all("a"))
    for attrs, _ in page.all("svg"):
        assert attrs.get("aria-hidden") == "true" or (attrs["role"] == "img" and "aria-labelledby" in attrs)
    assert all("scope" in attrs for attrs, _ in page.all("th"))
    scrolling = [attrs for attrs, _ in page.all("div") if attrs.get("class") == "wide"]
    assert scrolling and all(attrs["tabindex"] == "0" and attrs["role"] == "group" for attrs in scrolling)
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(text: str, scheme: str) -> None:
    """Text has 4.5 to 1 against the page, marks have 3 to 1 (WCAG 2.2, 1.4.3 and 1.4.11)."""
    style = text[text.index("<style>") : text.index("</style>")]
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#\w+)", blocks[0 if scheme == "light" else 1]))
    page = _luminance(colours["page"])
    for name, least in {"ink": 4.5, "dim": 4.5, "data": 3, "minus": 3, "a4": 3}.items():
        light, dark = sorted((page, _luminance(colours[name])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= least, name


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_browser_shows_it_without_complaint(text: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    path = tmp_path / "dashboard.html"
    path.write_text(text)
    pdf = tmp_path / "dashboard.pdf"
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path / 'profile'}", "--no-pdf-header-footer", f"--print-to-pdf={pdf}", path.as_uri()],
        capture_output=True, text=True, timeout=600, check=False, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    from pypdf import PdfReader

    pages = PdfReader(io.BytesIO(pdf.read_bytes())).pages
    assert 1 < len(pages) < 8
    assert "Health of the data" in "".join(page.extract_text() for page in pages)


def test_an_empty_home_has_a_dashboard(tmp_path: Path) -> None:
    text = Home(tmp_path / "home").run("export", "dashboard").stdout
    assert "No month is closed yet." in text and "Nothing is open." in text


def figure(value: str) -> Figure:
    """A figure of that value."""
    return Figure(Question("revenue"), "sum", "amount", {}, Decimal(value))


def test_a_thousand_accounts_fit(tmp_path: Path) -> None:
    """The page stays under 500 KB: it shows the first of each list and sums of the rest, not a row for each account."""
    home = Home(tmp_path / "many")
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts(*(f"acc-{number:04}-{'x' * 200},USD,20," for number in range(1000)))
    home.events(
        "\n".join(
            f"2026-01-{number % 28 + 1:02} ready s{number} acc=acc-{number:04}-{'x' * 200} gb={number + 1}"
            for number in range(1000)
        )
    )
    home.run("close", "2026-01", exit_code=3)
    home.run("export", "dashboard", "--output", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_bytes()
    assert b"acc-0999-" in page
    assert len(page) < 500_000


def test_a_bar_is_as_long_as_its_figure() -> None:
    chart = columns(
        "Chart",
        [("2026-01", figure("100"), None), ("2026-02", figure("25"), figure("50")), ("2026-03", figure("-50"), None)],
    )
    first, second, third = chart.bars
    assert abs(first.height - 4 * second.height) <= 4 and abs(first.height - 2 * second.expected_height) <= 2
    assert first.y + first.height == second.y + second.height == third.y == chart.zero
    assert abs(third.height - second.expected_height) <= 1
    assert [label for _, label in chart.ticks] == ["−50", "0", "50", "100"]


def test_values_of_neighbours_do_not_cover_each_other() -> None:
    """Thirteen bars lie 31 apart and a value is some 40 wide: the left one of two ends before the right one begins."""
    months = [(f"2025-{number:02d}", figure(str(number)), None) for number in range(1, 13)]
    bars = columns("Chart", [*months, ("2026-01", figure("7"), figure("14"))]).bars
    left, right = (bar for bar in bars if bar.tells)
    assert (left.anchor, right.anchor) == ("end", "middle")
    assert left.said_at <= right.said_at - 20
    apart = columns("Chart", [*months[::-1], ("2026-01", figure("7"), figure("14"))]).bars
    assert [bar.anchor for bar in apart if bar.tells] == ["middle", "middle"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0", "0"),
        ("7", "7.00"),
        ("950.4", "950"),
        ("999.9", "1000"),
        ("1234", "1.23 k"),
        ("-15000", "−15.0 k"),
        ("9680000", "9.68 M"),
    ],
)
def test_short_numbers(value: str, said: str) -> None:
    assert short(Decimal(value)) == said
