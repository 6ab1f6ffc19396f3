"""Price lists: which row is in force, and what closed months keep."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from metering.charges.prices import SKUS, MonthPrices, PriceList, PriceRow, read_prices
from metering.charges.stored import store_list, stored_lists
from metering.errors import UsageError
from metering.events.judge import RESOURCE_TYPES
from metering.ledger.book import Book
from metering.ledger.sqlite import SqliteBook
from metering.values import parse_instant

HEAD = "sku,region,currency,price_per_gb_hour,effective_from,account_id\n"
UTC = ZoneInfo("UTC")
VM = "snapshot.vm"


def row(price: str, day: str = "2026-01-01", region: str = "", account: str = "", currency: str = "USD") -> PriceRow:
    """A price of VM snapshots."""
    return PriceRow(VM, region, currency, account, day, Decimal(price))


def test_every_kind_of_snapshot_has_a_sku() -> None:
    assert SKUS.keys() == {f"snapshot.{kind}" for kind in RESOURCE_TYPES}


@pytest.mark.parametrize(
    ("account", "region", "moment", "price"),
    [
        ("a", "us", "2026-05-01T00:00:00Z", "4"),  # account and region
        ("a", "eu", "2026-05-01T00:00:00Z", "3"),  # the account before the region
        ("b", "us", "2026-05-01T00:00:00Z", "2"),  # the region before none
        ("b", "eu", "2026-05-01T00:00:00Z", "1"),
        ("b", "eu", "2026-06-01T00:00:00Z", "9"),  # from its first instant on
        ("b", "eu", "2026-05-31T23:59:59.999999Z", "1"),
        ("b", "eu", "2025-12-31T23:59:59Z", None),
    ],
)
def test_the_row_in_force(account: str, region: str, moment: str, price: str | None) -> None:
    """The right account wins over none, then the right region over none, then the latest day."""
    prices = PriceList(
        [
            row("1"),
            row("9", day="2026-06-01"),
            row("2", region="us"),
            row("3", account="a"),
            row("4", region="us", account="a"),
            row("7", currency="EUR"),
        ]
    )
    found = prices.find(account, VM, region, "USD", parse_instant(moment), UTC)
    assert (found and str(found.price_per_gb_hour)) == price


def test_a_day_begins_in_the_billing_zone() -> None:
    """A price of the 1st of June counts from 22:00 UTC of the day before in Berlin."""
    prices = PriceList([row("1"), row("2", day="2026-06-01")])
    berlin = ZoneInfo("Europe/Berlin")
    for moment, price in (("2026-05-31T21:59:59.999999Z", "1"), ("2026-05-31T22:00:00Z", "2")):
        found = prices.find("a", VM, "us", "USD", parse_instant(moment), berlin)
        assert found is not None
        assert str(found.price_per_gb_hour) == price


def test_what_is_no_price_is_refused(tmp_path: Path) -> None:
    """Each mistake is named with its line."""
    path = tmp_path / "prices.csv"
    for bad, word in (
        ("snapshot.disk,,USD,1,2026-01-01,\n", "sku"),
        ("snapshot.vm,,US,1,2026-01-01,\n", "ISO 4217"),
        ("snapshot.vm,,USD,-1,2026-01-01,\n", "negative"),
        ("snapshot.vm,,USD,0.0000000000001,2026-01-01,\n", "12 decimal places"),
        ("snapshot.vm,,USD,1e-5,2026-01-01,\n", "decimal number"),
        ("snapshot.vm,,USD,1,2026-13-01,\n", "effective_from"),
    ):
        path.write_text(HEAD + "snapshot.vm,,USD,1,2026-01-01,\n" + bad, "utf-8")
        with pytest.raises(UsageError, match=rf"line 3: .*{word}"):
            read_prices(str(path))
    path.write_text(HEAD + "snapshot.vm,,USD,1,2026-01-01,\nsnapshot.vm,,USD,1,2026-01-01,\n", "utf-8")
    with pytest.raises(UsageError, match=r"line 3: .*already on line 2"):
        read_prices(str(path))


def test_equal_lists_have_one_hash() -> None:
    """The order of rows and zeros at the end of a price change nothing."""
    assert PriceList([row("0.10"), row("2", region="us")]).hash != PriceList([row("0.11"), row("2", region="us")]).hash
    one = PriceList([row("1"), row("2", region="us")])
    assert one.hash == PriceList([row("2", region="us"), row("1")]).hash


def keep(book: Book, *layers: tuple[str, PriceList]) -> MonthPrices:
    """What prices May after lists were taken into force one after the other."""
    for run, (kind, prices) in enumerate(layers, 1):
        with book.write() as con:
            month = "2026-05" if kind != "reprice" else None
            store_list(
                con, prices, month="2026-05", kind=kind, recorded_at=run, run=run, close_month=month, reason=kind
            )
    with book.read() as con:
        return MonthPrices(stored_lists(con)["2026-05"], UTC)


def price_of(prices: MonthPrices, region: str) -> str | None:
    """The price of a region in May."""
    found = prices.find("a", VM, region, "USD", parse_instant("2026-05-10T00:00:00Z"))
    return str(found[1].price_per_gb_hour) if found else None


def test_a_reprice_comes_before_what_it_replaces(tmp_path: Path) -> None:
    """The latest reprice counts first; what it does not price, the older lists go on to price."""
    prices = keep(
        SqliteBook(tmp_path / "ledger.db"),
        ("close", PriceList([row("1", region="us"), row("2", region="eu")])),
        ("reprice", PriceList([row("5", region="us")])),
        ("reprice", PriceList([row("6", region="us")])),
    )
    assert (price_of(prices, "us"), price_of(prices, "eu"), price_of(prices, "asia")) == ("6", "2", None)


def test_a_gap_list_prices_only_gaps(tmp_path: Path) -> None:
    """What the close's own list prices, no later list changes."""
    prices = keep(
        SqliteBook(tmp_path / "ledger.db"),
        ("close", PriceList([row("1", region="us")])),
        ("gap", PriceList([row("8", region="eu"), row("9", region="us")])),
        ("gap", PriceList([row("7", region="eu")])),
    )
    assert (price_of(prices, "us"), price_of(prices, "eu")) == ("1", "8")


def test_a_row_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    """A closed month keeps its stored price where the current list has none."""
    stored = keep(SqliteBook(tmp_path / "ledger.db"), ("close", PriceList([row("1", region="us")])))
    with_current = MonthPrices([*stored.lists, PriceList([])], UTC)
    assert price_of(with_current, "us") == "1"
