"""Accounts and funds: all or nothing, tokens only, each reference once."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledgers import ledger_url

from metering.accounts.imports import current_accounts, import_accounts, import_funds, looks_like_card
from metering.errors import UsageError
from metering.ledger.book import Book, open_book, rows

pytestmark = pytest.mark.each_engine
HEAD = "account_id,name,email,country,currency,tax_rate,payment_customer,payment_method\n"
FUNDS = "account_id,kind,amount,currency,reference,expires\n"


@pytest.fixture
def book(tmp_path: Path) -> Book:
    """A ledger with the accounts a-1 (USD) and a-2 (JPY)."""
    made = open_book(ledger_url(tmp_path), tmp_path)
    take(made, tmp_path, "a-1,Ann,,US,USD,20,cus_1,pm_1\na-2,Bo,,JP,JPY,10,,\n")
    return made


def take(book: Book, folder: Path, body: str, head: str = HEAD) -> tuple[int, int]:
    """Import accounts (or funds) from a text."""
    path = folder / "import.csv"
    path.write_text(head + body, "utf-8")
    with book.write() as con:
        return (import_funds if head == FUNDS else import_accounts)(con, str(path), 1_000, 1)


def test_an_import_is_all_or_nothing(book: Book, tmp_path: Path) -> None:
    """A mistake anywhere leaves every row of the file untaken, and the message names its line."""
    for bad, line, word in (
        ("a-3,C,,US,USD,0,,\na-3,C,,US,USD,0,,\n", 3, "already"),
        ("a-3,C,,US,USD,0,,\n,D,,US,USD,0,,\n", 3, "empty"),
        ("a-3,C,,US,XXX,0,,\n", 2, "ISO 4217"),
        ("a-3,C,,US,USD,101,,\n", 2, "percentage"),
        ("a-3,C,,US,USD,-1,,\n", 2, "percentage"),
        ("a-3,C,,US,USD,1e1,,\n", 2, "decimal"),
        ("a-3,C,,US,USD,0,\n", 2, "7 values"),
    ):
        with pytest.raises(UsageError, match=f"line {line}: .*{word}"):
            take(book, tmp_path, bad)
    with book.read() as con:
        assert sorted(current_accounts(con)) == ["a-1", "a-2"]


def test_only_what_changes_makes_a_version(book: Book, tmp_path: Path) -> None:
    """The same row again is no new version; a changed one is, and the old one is kept."""
    assert take(book, tmp_path, "a-1,Ann,,US,USD,20,cus_1,pm_1\na-2,Bo,,JP,JPY,8,,\n") == (1, 1)
    with book.read() as con:
        kept = [(row["version"], row["tax_rate"]) for row in rows(con, "account_versions", account_id="a-2")]
        assert kept == [(1, "10"), (2, "8")]
        assert current_accounts(con)["a-2"]["tax_rate"] == "8"


@pytest.mark.parametrize(
    ("text", "is_card"),
    [
        ("4242 4242 4242 4242", True),
        ("pay to 4242-4242-4242-4242 please", True),
        ("4242 4242 4242 4241", False),
        ("cus_1234", False),
        ("invoice 2026-05-000001", False),
    ],
)
def test_what_looks_like_a_card(text: str, is_card: bool) -> None:
    """Digits that pass the Luhn check are a card number, with spaces and dashes too."""
    assert looks_like_card(text) is is_card


def test_what_looks_like_a_card_is_refused(book: Book, tmp_path: Path) -> None:
    """No column that people write into takes a card number; a token's column takes no long digits at all."""
    for row in (
        "a-3,4242 4242 4242 4242,,US,USD,0,,\n",
        "a-3,C,,US,USD,0,4242424242424242,\n",
        "a-3,C,,US,USD,0,,1234 5678 9012\n",
    ):
        with pytest.raises(UsageError, match="card number"):
            take(book, tmp_path, row)


def test_the_first_posting_fixes_the_currency(book: Book, tmp_path: Path) -> None:
    """Before it an account may change its currency, after it not."""
    assert take(book, tmp_path, "a-2,Bo,,JP,EUR,10,,\n") == (1, 0)
    assert take(book, tmp_path, "a-1,topup,5.00,USD,r-1,\n", FUNDS) == (1, 0)
    with pytest.raises(UsageError, match="currency cannot change"):
        take(book, tmp_path, "a-1,Ann,,US,EUR,20,cus_1,pm_1\n")


def test_a_reference_is_taken_once(book: Book, tmp_path: Path) -> None:
    """The same money again adds nothing; another under its reference is refused."""
    assert take(book, tmp_path, "a-1,topup,5.00,USD,r-1,\n", FUNDS) == (1, 0)
    assert take(book, tmp_path, "a-1,topup,5,USD,r-1,\na-1,credit,1.00,USD,r-2,2026-12-31\n", FUNDS) == (1, 1)
    with pytest.raises(UsageError, match="another content"):
        take(book, tmp_path, "a-1,topup,6.00,USD,r-1,\n", FUNDS)
    with book.read() as con:
        assert [(row["reference"], row["amount_minor"]) for row in rows(con, "funds")] == [("r-1", 500), ("r-2", 100)]


def test_funds_are_refused(book: Book, tmp_path: Path) -> None:
    """Unknown accounts, wrong kinds, currencies, amounts and dates, and a top-up that expires."""
    for bad, word in (
        ("a-9,topup,1.00,USD,r,\n", "not known"),
        ("a-1,gift,1.00,USD,r,\n", "neither"),
        ("a-1,topup,1.00,EUR,r,\n", "has USD"),
        ("a-1,topup,1.001,USD,r,\n", "decimal places"),
        ("a-2,topup,1.50,JPY,r,\n", "decimal places"),
        ("a-1,topup,0.00,USD,r,\n", "not more than zero"),
        ("a-1,topup,-1.00,USD,r,\n", "not more than zero"),
        ("a-1,topup,1.00,USD,,\n", "reference is empty"),
        ("a-1,topup,1.00,USD,r,2026-12-31\n", "does not expire"),
        ("a-1,credit,1.00,USD,r,2026-02-30\n", "not a date"),
    ):
        with pytest.raises(UsageError, match=word):
            take(book, tmp_path, bad, FUNDS)
    with book.read() as con:
        assert rows(con, "funds") == []
