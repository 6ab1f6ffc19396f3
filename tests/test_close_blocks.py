"""A close goes through its rows in blocks: where one ends changes nothing."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from homes import Home

from metering import columns
from metering.charges.rating import ChargeKey
from metering.close.drafting import each_account
from metering.close.inputs import ListDigest, digest
from metering.columns import Columns, numbered, rows_of, table_of, whole_rows_of
from metering.invoices.lines import Issued
from metering.lake import answer, connect, table
from metering.lake.duck import FEW

FIELDS = pa.schema([("name", pa.string()), ("usage", pa.decimal128(38, 0))])


@pytest.mark.parametrize("parts", [[], [[]], [[1, "é"]], [[1], [], [2, None], [[3, "x"]]]])
@pytest.mark.parametrize("first", [(), ("a hash",)])
def test_a_list_in_parts_has_the_digest_of_the_whole(parts: list[list[Any]], first: tuple[str, ...]) -> None:
    whole = [item for part in parts for item in part]
    found = ListDigest(*first)
    for part in parts:
        found.add(part)
    assert found.hexdigest() == digest([*first, whole] if first else whole)
    if parts and whole:
        found.add(["more"])
        assert found.hexdigest() != digest([*first, whole] if first else whole)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
def test_rows_become_columns_and_rows_again(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MANY", 2)
    rows = [(f"n{place}", 10**37 + place) for place in range(count)]
    made = table_of(FIELDS, rows)
    assert made.schema == FIELDS
    assert list(rows_of(made)) == rows
    grown = Columns(FIELDS)
    for row in rows:
        grown.extend([row])
        assert list(rows_of(grown.table()))[-1] == row


def test_usage_of_any_length_comes_out_as_integers() -> None:
    values = [0, 1, -1, 2**63 - 1, 2**63, -(2**63), 2**64, -(2**64), 10**38 - 1, 1 - 10**38, None, 5]
    decimals = pa.array([None if value is None else Decimal(value) for value in values], pa.decimal128(38, 0))
    rows = pa.table({"usage": decimals, "name": pa.array(["n"] * len(values))})
    assert list(whole_rows_of(rows)) == [(value, "n") for value in values]
    assert list(whole_rows_of(rows.slice(3, 5))) == [(value, "n") for value in values[3:8]]


@pytest.mark.parametrize("parts", [[], [["a", "b"]], [["b"], ["a", "b", "c"], []]])
def test_what_several_columns_say_is_numbered(parts: list[list[str]]) -> None:
    """Each row's number leads to its values, and no two numbers to the same."""
    tables = [
        pa.table({"sku": pa.array(part, pa.string()), "start": pa.array(range(len(part)), pa.int64())})
        for part in parts
    ]
    whole = pa.concat_tables([*tables, *tables, pa.schema([("sku", pa.string()), ("start", pa.int64())]).empty_table()])
    values, numbers = numbered(whole, ["sku", "start"])
    assert [values[number] for number in numbers] == list(rows_of(whole))
    assert len(set(values)) == len(values) == len(set(rows_of(whole)))


BILLED = {ChargeKey("2026-05", "snapshot.vm", "eu", Decimal(1)): Issued(1, 1)}


def test_an_account_meets_what_was_issued_to_it() -> None:
    """Also one that has used nothing since, before, between or after those that have."""
    issued = [(account, BILLED) for account in ("a", "c", "d", "f")]
    found = each_account([("b", [1, 2]), ("c", [3]), ("e", [4])], issued)
    assert [(account, list(used), before) for account, used, before in found] == [
        ("a", [], BILLED),
        ("b", [1, 2], {}),
        ("c", [3], BILLED),
        ("d", [], BILLED),
        ("e", [4], {}),
        ("f", [], BILLED),
    ]


@pytest.mark.parametrize("again", [["a", "b", "a"], ["b", "a"], ["a", "a"]])
def test_an_account_that_comes_again_gets_no_two_invoices(again: list[str]) -> None:
    with pytest.raises(ValueError, match="accounts are to come in order"):
        list(each_account([(account, [1]) for account in again], []))
    with pytest.raises(ValueError, match="accounts are to come in order"):
        list(each_account([("c", [1])], [(account, BILLED) for account in again]))


@pytest.mark.parametrize("few", [True, False])
def test_an_answer_comes_in_the_order_that_it_asks_for(few: bool) -> None:
    """Several threads hand on its vectors, and with DuckDB's plain result every third answer was mixed up."""
    con = connect()
    if few:
        table(con, FEW, "SELECT 1")
    con.execute("CREATE TEMP TABLE numbers AS SELECT range AS number FROM range(60_000)")
    for _ in range(30):
        found = answer(con, "SELECT number, count(*) AS times FROM numbers GROUP BY number ORDER BY number")
        assert found.column("number").to_pylist() == list(range(60_000))


def test_accounts_come_in_order_however_many_there_are(tmp_path: Path) -> None:
    """Each of 2,100 accounts gets one invoice of two months, of nothing to pay, on which nothing is corrected."""
    home = Home(tmp_path / "home")
    home.prices("snapshot.vm,,USD,0.000001,2026-01-01,")
    home.accounts(*(f"acc-{n:04},USD,0," for n in range(2100)))
    home.events("".join(f"2026-05-30 ready s{n} acc=acc-{n:04} gb=9\n2026-06-02 deleted s{n}\n" for n in range(2100)))
    for month, now in (("2026-05", "2026-06-01T08:00:00Z"), ("2026-06", "2026-07-01T08:00:00Z")):
        home.run("close", month, now=now)
    lines = home.ledger("invoice_lines")
    assert {row["kind"] for row in lines} == {"usage"}
    assert sorted((row["month"], row["account_id"]) for row in lines) == [
        (month, f"acc-{n:04}") for month in ("2026-05", "2026-06") for n in range(2100)
    ]


def closes(path: Path) -> list[Any]:
    """What two closes come to, the second with adjustments, changed rates, and accounts that cannot be billed."""
    home = Home(path)
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,", "snapshot.vm,,USD,0.002,2026-05-11,")
    home.accounts(*(f"acc-{n},USD,19,pm_card_visa" for n in range(5)), "acc-6,EUR,0,")
    home.events("".join(f"2026-05-02 ready s{n} acc=acc-{n} gb={100 + n}\n" for n in range(7)))
    home.run("close", "2026-05", exit_code=3)
    home.accounts("acc-1,USD,7,pm_card_visa")
    home.events("".join(f"2026-05-{10 + n} deleted s{n}\n" for n in (0, 1, 3)), "late.jsonl")
    home.now = "2026-07-01T08:00:00Z"
    home.run("close", "2026-06", exit_code=3)
    home.run("verify")
    return [home.ledger("closes"), home.ledger("close_files"), home.ledger("invoice_lines"), home.report("allocations")]


def test_blocks_of_two_rows_make_the_same_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = closes(tmp_path / "whole")
    monkeypatch.setattr(columns, "MANY", 2)
    assert closes(tmp_path / "blocks") == whole
    # Two prices in May for five accounts, one in June for the two alive; of the late deletions one moves both prices.
    kinds = [row["kind"] for row in whole[2]]
    assert (kinds.count("usage"), kinds.count("adjustment")) == (5 * 2 + 2, 4)
