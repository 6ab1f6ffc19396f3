"""Invoices as people get them: the figures of the reports, the same bytes each time, and no text that is markup."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from homes import ACCOUNTS, Home, begun

from metering.documents.shown import ATTEMPTS
from metering.payments.states import ATTEMPT_STATES

PRICES = ("snapshot.vm,,USD,0.001,2026-01-01,", "snapshot.volume,,USD,0.0005,2026-01-01,")
MAY = """
2026-05-01 ready a1 acc=acc-1 gb=100 prj=web
2026-05-11 resized a1 gb=200
2026-05-21 deleted a1
2026-05-01 ready v1 acc=acc-1 gb=10 type=volume res=vol-1 prj=db
2026-05-31 deleted v1
"""
"""a1: 240 h × 100 GB + 240 h × 200 GB = 72,000 GB-h × 0.001 = 72.00; v1: 720 h × 10 GB = 7,200 × 0.0005 = 3.60."""
LATE = "2026-05-11T00 deleted a1 id=earlier"
"""a1 ended with its first stretch: 48,000 GB-h too much, -48.00."""
FIRST, SECOND, NOTE = "INV-2026-05-000001", "INV-2026-06-000001", "CN-2026-07-000001"
TURKISH, CHINESE, ARABIC = "Şişli Bulut A.Ş. – İğdır", "云计算有限公司", "شركة الحوسبة السحابية"
HOSTILE = '#eval("1") $x$ `raw` \\ */ <script>alert(1)</script> & {{ 7*7 }} {% raw %} "q" \'q\' [x](y) //c'


NAMES = {
    "hostile": HOSTILE,
    "turkish": TURKISH,
    "chinese": CHINESE,
    "arabic": ARABIC,
    "override": "\u202egpj.exe\u202c",
    "long": "M" * 255,
}


def close_may(home: Home) -> Home:
    """Close May with one account that has credit, balance and a card."""
    home.file("metering.toml", '[issuer]\nname = "Example Cloud"\ntax_id = "IE-1"\n')
    home.prices(*PRICES)
    home.accounts("acc-1,USD,10,pm_card_visa")
    home.funds("acc-1,credit,5.00,USD,promo,2027-01-01", "acc-1,topup,7.00,USD,top,")
    home.events(MAY, "may.jsonl")
    home.run("close", "2026-05")
    return home


with_may_closed = begun(close_may)


@pytest.fixture
def billed(tmp_path: Path) -> Home:
    """A home with May closed."""
    return with_may_closed(tmp_path / "home")


@pytest.fixture(scope="module")
def corrected(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with May and June closed, in which June corrects May; only read."""
    home = with_may_closed(tmp_path_factory.mktemp("corrected") / "home")
    home.events(LATE, "late.jsonl")
    home.run("close", "2026-06", now="2026-07-01T08:00:00Z")
    home.now = "2026-07-02T08:00:00Z"
    home.run("credit-note", FIRST, "--amount", "11.00", "--reason", "Out of order")
    return home


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with an invoice for each of NAMES, in the order of its keys; only read."""
    home = Home(tmp_path_factory.mktemp("named") / "home")
    home.prices(*PRICES)
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(f"{ACCOUNTS},address,tax_note".split(","))
    rows.writerows([key, name, "", "DE", "USD", "0", "", "", name, name] for key, name in NAMES.items())
    home.run("accounts", "import", str(home.file("accounts.csv", text.getvalue())))
    home.events("\n".join(f"2026-05-01 ready s-{key} acc={key} gb=1" for key in NAMES))
    home.run("close", "2026-05", exit_code=3)
    return home


def made(home: Home, number: str, *args: str) -> dict[str, Any]:
    """A document as JSON."""
    found: dict[str, Any] = json.loads(home.run("invoice", number, "--format", "json", *args).stdout)
    return found


def written(home: Home, number: str, format: str, *args: str) -> bytes:
    """A document in a file, as bytes."""
    path = home.path / f"made.{format}"
    home.run("invoice", number, "--format", format, "--output", str(path), *args)
    return path.read_bytes()


def pdf_text(content: bytes) -> str:
    """The text of a PDF, without the invisible places at which words may be broken."""
    from pypdf import PdfReader

    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages).replace("\u200b", "")


class Page(HTMLParser):
    """The tags, the figures and the text of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.figures: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.figures += [value or "" for name, value in attrs if name == "value"]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        """All text."""
        return "".join(self.words)


def test_the_first_invoice_with_a_pencil(corrected: Home) -> None:
    found = made(corrected, FIRST)
    assert [(line["gb_hours"], line["price_per_gb_hour"], line["amount"]) for line in found["lines"]] == [
        ("72000.000000000", "0.001", "72.00"),
        ("7200.000000000", "0.0005", "3.60"),
    ]
    # 75.60 + 10 % = 83.16; less 5.00 credit and 7.00 balance leaves 71.16 for the card.
    assert (found["subtotal"], found["tax"], found["total"]) == ("75.60", "7.56", "83.16")
    assert found["credit_applied"] == [{"reference": "promo", "amount": "5.00"}]
    assert (found["balance_applied"], found["due_at_issue"]) == ("7.00", "71.16")
    (snapshot,) = found["lines"][0]["snapshots"]
    assert [(s["from"], s["until"], s["size_bytes"], s["hours"], s["gb_hours"]) for s in snapshot["stretches"]] == [
        ("2026-05-01T00:00:00Z", "2026-05-11T00:00:00Z", 100 * 10**9, "240.000000", "24000.000000000"),
        ("2026-05-11T00:00:00Z", "2026-05-21T00:00:00Z", 200 * 10**9, "240.000000", "48000.000000000"),
    ]
    standing = found["standing"]
    assert (standing["status"], standing["amount_due"]) == ("paid", "0.00")
    assert [(m["what"], m["owed_change"]) for m in standing["movements"]] == [("Charged to the saved card", "-71.16")]
    assert [(c["correction"], c["amount"]) for c in standing["corrections"]] == [(NOTE, "11.00")]


def test_a_correction_names_the_month_and_the_invoice(corrected: Home) -> None:
    found = made(corrected, SECOND)
    (line,) = found["lines"]
    assert (line["gb_hours"], line["amount"]) == ("-48000.000000000", "-48.00")
    assert line["corrects"] == {"month": "2026-05", "invoice": FIRST}
    (snapshot,) = line["snapshots"]
    assert snapshot["gb_hours_billed_before"] == "72000.000000000"
    assert snapshot["gb_hours_counted_now"] == "24000.000000000"
    # 52.80 with tax go back to what the card had paid.
    assert [(back["paid_by"], back["amount"]) for back in found["returns"]] == [("card", "52.80")]
    assert (found["payable"], found["balance_applied"], found["due_at_issue"]) == ("-52.80", "-52.80", "0.00")
    text = pdf_text(written(corrected, SECOND, "pdf"))
    assert f"Correction of {FIRST}" in text and "−48.00" in text and "−52.80" in text


def test_the_figures_are_those_of_the_reports(corrected: Home) -> None:
    for row in corrected.report("invoices"):
        found = made(corrected, row["invoice"])
        assert {name: found[name] for name in ("subtotal", "tax", "total", "brought_forward")} == {
            name: row[name] for name in ("subtotal", "tax", "total", "brought_forward")
        }
        assert found["standing"]["amount_due"] == row["amount_due"]
        assert found["standing"]["status"] == row["status"]
        assert found["issued_at"] == row["issued_at"]
        lines = [line for line in corrected.report("invoice-lines") if line["invoice"] == row["invoice"]]
        same = ("kind", "month", "sku", "region", "gb_hours", "price_per_gb_hour", "amount")
        assert [[line[name] for name in same] for line in found["lines"]] == [
            [row[name] for name in same] for row in lines
        ]
        shares = [share for share in corrected.report("allocations") if share["invoice"] == row["invoice"]]
        assert sorted(
            (s["snapshot_id"], s["gb_hours"], s["amount"]) for n in found["lines"] for s in n["snapshots"]
        ) == sorted((share["snapshot_id"], share["gb_hours"], share["amount"]) for share in shares)


def test_made_again_it_is_the_same_whatever_came_later(billed: Home) -> None:
    formats = ("pdf", "html", "json")
    before = [written(billed, FIRST, format) for format in formats]
    issued = [written(billed, FIRST, format, "--as-issued") for format in formats]
    billed.events(LATE, "late.jsonl")
    billed.run("ingest")
    billed.file("metering.toml", '[issuer]\nname = "Another Name"\n')
    billed.run("accounts", "import", str(billed.file("accounts.csv", f"{ACCOUNTS}\nacc-1,Renamed,,FR,USD,20,,\n")))
    billed.now = "2026-08-01T00:00:00Z"
    assert [written(billed, FIRST, format) for format in formats] == before
    billed.run("credit-note", FIRST, "--amount", "1.10", "--reason", "Goodwill")
    after = [written(billed, FIRST, format) for format in formats]
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert [written(billed, FIRST, format, "--as-issued") for format in formats] == issued


def test_every_figure_is_in_the_html_and_the_pdf(corrected: Home) -> None:
    for number in (FIRST, SECOND):
        found = made(corrected, number)
        page = Page(written(corrected, number, "html").decode())
        text = re.sub(r"\s", "", pdf_text(written(corrected, number, "pdf")))
        for line in found["lines"]:
            for snapshot in line["snapshots"]:
                spans = [span[name] for span in snapshot["stretches"] for name in ("hours", "gb_hours")]
                for figure in (*spans, snapshot["gb_hours"], snapshot["amount"]):
                    assert figure in page.figures
                    assert figure.replace("-", "−") in text
            for name in ("gb_hours", "price_per_gb_hour", "amount"):
                assert line[name] in page.figures
                assert line[name].replace("-", "−") in text
        for name in ("subtotal", "tax", "total", "due_at_issue"):
            assert found[name] in page.figures
            assert found[name].replace("-", "−") in text


def test_a_sum_stands_below_a_row_on_each_page(corrected: Home) -> None:
    """However many rows there are, the sum of a line is never alone on a page."""
    from pypdf import PdfReader

    from metering.documents.pdf import Press

    document, press, pages = made(corrected, FIRST), Press(system_fonts=False), set()
    line = document["lines"][0]
    document["lines"], line["snapshots"] = [line], line["snapshots"][:1]
    (snapshot,) = line["snapshots"]
    for rows in range(13, 16):
        line["snapshots"] = [snapshot] * (rows // 2)
        if rows % 2:
            line["snapshots"][0] = {**snapshot, "stretches": snapshot["stretches"] * 2}
        made_pages = PdfReader(io.BytesIO(press.make(document))).pages
        assert "00:00:00" in made_pages[-1].extract_text(), rows
        pages.add(len(made_pages))
    assert pages == {1, 2}


def test_a_credit_note(corrected: Home) -> None:
    found = made(corrected, NOTE)
    # Gross 11.00 at 10 %: 10.00 and 1.00; the invoice is paid, so all of it becomes balance.
    assert (found["net"], found["tax"], found["total"]) == ("10.00", "1.00", "11.00")
    assert (found["taken_off_due"], found["to_balance"]) == ("0.00", "11.00")
    assert found["corrects"]["invoice"] == FIRST
    text = pdf_text(written(corrected, NOTE, "pdf"))
    assert "Credit note" in text and FIRST in text and "11.00" in text and "Out of order" in text


def test_what_was_done_to_an_invoice_stands_on_it(corrected: Home, billed: Home) -> None:
    """Also a credit note that changes nothing of what is owed, and each thing once."""
    page = Page(written(corrected, FIRST, "html").decode()).text
    assert page.count("Credit note: Out of order") == page.count(NOTE) == 1
    billed.run("void", FIRST, "--reason", "Wrong customer")
    assert Page(written(billed, FIRST, "html").decode()).text.count("VOID-000001") == 1
    billed.accounts("acc-9,USD,0,")
    billed.events("2026-06-02 ready s9 acc=acc-9 gb=100\n", "june.jsonl")
    billed.now = "2026-07-01T08:00:00Z"
    billed.run("close", "2026-06", exit_code=None)
    (number,) = [row["invoice"] for row in billed.report("invoices", "--account", "acc-9")]
    billed.run("write-off", number, "--reason", "gone")
    page = Page(written(billed, number, "html").decode()).text
    assert "Written off: nothing is asked for any more." in page and page.count("WO-000001") == 1


def test_what_became_of_a_payment_stands_on_its_invoice(billed: Home) -> None:
    """Where a refund went, and whether a dispute was opened, won or lost."""
    (payment,) = [row["payment"] for row in billed.report("payments") if row["invoice"] == FIRST]
    billed.run("refund", payment, "--amount", "1.00")
    billed.run("refund", payment, "--amount", "2.00", "--to-card")
    for outcome in ("--opened", "--won", "--opened", "--lost"):
        billed.run("dispute", payment, outcome)
    assert {row["correction"]: row["what"] for row in made(billed, FIRST)["standing"]["corrections"]} == {
        "RF-000001": "Refunded to the balance",
        "RF-000002": "Refunded to the card",
        "DP-000001": "Payment disputed: the money is held",
        "DP-000002": "Dispute won: the payment stands",
        "DP-000003": "Payment disputed: the money is held",
        "DP-000004": "Dispute lost: the payment is gone",
    }
    page = Page(written(billed, FIRST, "html").decode()).text
    assert page.count("Dispute lost: the payment is gone") == page.count("Refunded to the card") == 1


def test_a_void_invoice_is_marked(billed: Home) -> None:
    billed.run("void", FIRST, "--reason", "Wrong customer")
    assert "VOID since 1 June 2026: Wrong customer" in re.sub(r"\s+", " ", pdf_text(written(billed, FIRST, "pdf")))
    assert "VOID" in Page(written(billed, FIRST, "html").decode()).text
    assert "VOID" not in Page(written(billed, FIRST, "html", "--as-issued").decode()).text


@pytest.mark.parametrize("key", NAMES)
def test_a_name_is_shown_and_nothing_else(named: Home, key: str) -> None:
    name, number = NAMES[key], f"INV-2026-05-{sorted(NAMES).index(key) + 1:06}"
    assert made(named, number)["customer"]["name"] == name
    page = Page(written(named, number, "html").decode())
    assert "script" not in page.tags
    shown = "[U+202E]gpj.exe[U+202C]" if key == "override" else name
    assert page.text.count(shown) == 3
    named.run("invoice", number, "--output", str(named.path / "made.pdf"), exit_code=None)
    if named.last.exit_code == 1 and "no font of this machine" in named.last.stderr:
        pytest.skip(named.last.stderr)
    if key != "arabic":  # A PDF has the shapes of Arabic letters, in the order in which they are drawn.
        text = pdf_text((named.path / "made.pdf").read_bytes())
        assert re.sub(r"\s", "", text).count(re.sub(r"\s", "", shown)) == 3


def test_a_character_without_a_font_is_no_empty_box(corrected: Home) -> None:
    from metering.documents.pdf import Press
    from metering.errors import MeteringError

    document = made(corrected, FIRST)
    document["customer"]["name"] = CHINESE
    with pytest.raises(MeteringError, match=r"INV-2026-05-000001: no font of this machine has the characters of '云"):
        Press(system_fonts=False).make(document)


def test_a_month_into_a_folder(corrected: Home, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    for format in ("pdf", "html", "json"):
        for month in ("2026-05", "2026-07"):
            corrected.run("invoice", "--month", month, "--format", format, "--output", str(folder))
    names = [f"{number}.{format}" for format in ("pdf", "html", "json") for number in (FIRST, NOTE)]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert (folder / f"{FIRST}.pdf").read_bytes() == written(corrected, FIRST, "pdf")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("INV-2026-05-000009",), "There is no invoice or credit note 'INV-2026-05-000009'."),
        ((), "Name an invoice or a credit note, or a month"),
        (("--month", "2026-05"), "Name a folder with --output."),
        (("--month", "2026-01", "--output", "x"), "2026-01 has no documents."),
    ],
)
def test_what_is_refused(corrected: Home, args: tuple[str, ...], said: str) -> None:
    assert said in corrected.run("invoice", *args, exit_code=2).stderr


def test_a_missing_file_of_the_close_is_computed_again(billed: Home) -> None:
    before = written(billed, FIRST, "json")
    Path(billed.path / "lake/closes/2026-05/allocations.parquet").unlink()
    assert written(billed, FIRST, "json") == before


def test_every_attempt_that_did_not_pay_has_words() -> None:
    assert ATTEMPTS.keys() == set(ATTEMPT_STATES) - {"succeeded"}
