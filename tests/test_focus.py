"""`export focus`: what a linter of others finds right, and what adds up to the invoices."""

from __future__ import annotations

import csv
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from focus_data_toolkit import cli
from focus_data_toolkit.model.validator import lint_focus_1_4_structure
from homes import Home, begun

DATASETS = {
    "cost-and-usage": "Cost and Usage",
    "billing-period": "Billing Period",
    "invoice-detail": "Invoice Detail",
}
SETTLED = {
    "x_InvoiceTotal": "total",
    "x_BroughtForward": "brought_forward",
    "x_CreditApplied": "credit_applied",
    "x_BalanceApplied": "balance_applied",
    "x_CardCharged": "card_charged",
    "x_AmountDue": "amount_due",
}


@begun
def with_two_months(home: Home) -> None:
    home.prices(
        "snapshot.vm,,USD,0.000068,2026-01-01,",
        "snapshot.vm,,USD,0.000072,2026-05-17,",
        "snapshot.vm,,USD,0.00005,2026-01-01,acc-2",
        "snapshot.volume,,USD,0.00004,2026-01-01,",
        "snapshot.vm,,JPY,0.0102,2026-01-01,",
        "snapshot.vm,,KWD,0.0001,2026-01-01,",
    )
    home.accounts(
        "acc-1,USD,8.25,pm_card_visa", "acc-2,USD,0,", "acc-j,JPY,10,pm_card_visa", "acc-k,KWD,5,pm_card_visa"
    )
    home.funds("acc-1,credit,1.00,USD,promo,2026-12-31", "acc-1,topup,2.00,USD,top,")
    home.events(
        """
        2026-05-01 ready a1 gb=333 prj=web
        2026-05-03T01:02:03.456789 ready a2 gb=77 prj=db
        2026-05-04 ready a3 gb=50 type=volume
        2026-05-01 ready b1 acc=acc-2 gb=100
        2026-05-02 ready j1 acc=acc-j gb=10
        2026-05-02 ready k1 acc=acc-k gb=40
        2026-05-02 ready k0 acc=acc-k bytes=0
        """
    )
    home.run("close", "2026-05", now="2026-06-01T08:00:00.123456Z", exit_code=3)
    home.events("2026-05-20 deleted a1", "late.jsonl")
    home.run("close", "2026-06", now="2026-07-01T08:00:00Z", exit_code=3)
    home.now = "2026-07-01T08:00:00Z"


@pytest.fixture
def closed(tmp_path: Path) -> Home:
    """Two closed months: three currencies, tax, credit, balance, a price change and a late deletion."""
    return with_two_months(tmp_path / "home")


def exported(home: Home, month: str, dataset: str) -> list[dict[str, str]]:
    """The rows of an exported file."""
    with (home.path / "focus" / f"focus-{dataset}-{month}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("month", ["2026-05", "2026-06"])
def test_the_linter_finds_nothing_and_all_adds_up(closed: Home, month: str) -> None:
    """Each file lints, both files add up to the invoices, and so does the settlement."""
    folder = closed.path / "focus"
    closed.run("export", "focus", "--month", month, "--output", str(folder))
    found = {name: exported(closed, month, name) for name in DATASETS}
    for name, title in DATASETS.items():
        report = lint_focus_1_4_structure(title, found[name])
        assert report.violations == (), name
    flags = [part for name in DATASETS for part in (f"--{name}", str(folder / f"focus-{name}-{month}.csv"))]
    assert cli.main(["validate-bundle", *flags]) == 0

    invoices = {row["invoice"]: row for row in closed.report("invoices", "--month", month)}
    assert len(invoices) == 4
    for name in ("cost-and-usage", "invoice-detail"):
        sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for row in found[name]:
            sums[row["InvoiceId"], row["ChargeCategory"]] += Decimal(row["BilledCost"])
        for invoice, row in invoices.items():
            assert (sums[invoice, "Usage"], sums[invoice, "Tax"]) == (Decimal(row["subtotal"]), Decimal(row["tax"]))
    for ours, theirs in SETTLED.items():
        paid: dict[str, Decimal] = defaultdict(Decimal)
        for row in found["invoice-detail"]:
            paid[row["InvoiceId"]] += Decimal(row[ours] or 0)
        assert paid == {invoice: Decimal(row[theirs]) for invoice, row in invoices.items()}, ours


def test_what_a_row_says(closed: Home) -> None:
    """May of acc-2: 100 GB × 744 h at a price of its own; 74,400 GB-hours × 0.00005 = 3.72."""
    closed.run("export", "focus", "--month", "2026-05", "--output", str(closed.path / "focus"))
    (row,) = [row for row in exported(closed, "2026-05", "cost-and-usage") if row["BillingAccountId"] == "acc-2"]
    assert row["ConsumedUnit"] == row["PricingUnit"] == "GB-Hours"
    assert Decimal(row["ConsumedQuantity"]) == 74_400
    assert Decimal(row["ContractedUnitPrice"]) == Decimal("0.00005")
    assert Decimal(row["BilledCost"]) == Decimal(row["ContractedCost"]) == Decimal("3.72")
    assert (row["ResourceId"], row["ChargePeriodEnd"]) == ("b1", "2026-06-01T00:00:00Z")
    usage = [row for row in exported(closed, "2026-05", "cost-and-usage") if row["ChargeCategory"] == "Usage"]
    called = {(row["SkuId"], row["ResourceType"]) for row in usage}
    assert called == {("snapshot.vm", "VM snapshot"), ("snapshot.volume", "Volume snapshot")}
    (number,) = {row["InvoiceId"] for row in usage if row["SkuId"] == "snapshot.volume"}
    page = closed.run("invoice", number, "--format", "html").stdout
    assert "VM snapshots in eu, May 2026" in page and "Volume snapshots in eu, May 2026" in page


def test_a_correction_has_its_own_month(closed: Home) -> None:
    """June's invoice takes back what May billed too much: as a correction, of May, negative."""
    closed.run("export", "focus", "--month", "2026-06", "--output", str(closed.path / "focus"))
    rows = [row for row in exported(closed, "2026-06", "cost-and-usage") if row["ChargeClass"] == "Correction"]
    usage = [row for row in rows if row["ChargeCategory"] == "Usage"]
    assert {row["ResourceId"] for row in usage} == {"a1"}
    assert {(row["ChargePeriodStart"], row["BillingPeriodStart"]) for row in rows} == {
        ("2026-05-01T00:00:00Z", "2026-06-01T00:00:00Z")
    }
    # 12 days of 24 h × 333 GB at 0.000072 were billed too much.
    assert sum(Decimal(row["ConsumedQuantity"]) for row in usage) == -95_904
    assert all(Decimal(row["BilledCost"]) < 0 for row in rows)


def test_parquet_is_exact_and_a_month_must_be_closed(closed: Home) -> None:
    """The same rows as decimals; a month without invoices is refused."""
    folder = closed.path / "focus"
    closed.run("export", "focus", "--month", "2026-05", "--output", str(folder), "--format", "parquet")
    table = pq.read_table(folder / "focus-cost-and-usage-2026-05.parquet")
    assert str(table.schema.field("BilledCost").type) == "decimal128(38, 3)"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"focus-{name}-2026-05.parquet" for name in sorted(DATASETS)
    ]
    refused = closed.run("export", "focus", "--month", "2026-07", exit_code=2)
    assert "2026-07 is not closed" in refused.stderr
    assert not (closed.path / "focus-2026-07").exists()


def test_it_lies_in_the_home_if_no_folder_is_named(
    closed: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    closed.run("export", "focus", "--month", "2026-05")
    assert len(list((closed.path / "focus-2026-05").iterdir())) == len(DATASETS)
    assert list(elsewhere.iterdir()) == []
