"""Trial balance, statement, ledger and balances tell the same money, month after month."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from itertools import pairwise

import pytest
from homes import Home
from test_corrections import everything_once

MONTHS = ["2026-06", "2026-07", "2026-08"]
PURSES = ("balance", "credit", "owed")
HELD_IN = {"balance": ("balance", "reserved"), "credit": ("credit",), "owed": ("receivable", "carried")}


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Home:
    return everything_once(tmp_path_factory, worker_id)


def test_the_trial_balance_is_the_ledger(everything: Home) -> None:
    """Debits and credits by ledger account and currency; all of it adds up to nothing."""
    debit: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    credit: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for entry in everything.report("ledger"):
        debit[entry["ledger_account"], entry["currency"]] += Decimal(entry["debit"])
        credit[entry["ledger_account"], entry["currency"]] += Decimal(entry["credit"])
    closing: dict[str, Decimal] = defaultdict(Decimal)
    rows = everything.report("trial-balance")
    assert {(row["ledger_account"], row["currency"]) for row in rows} == debit.keys()
    for row in rows:
        key = row["ledger_account"], row["currency"]
        assert (Decimal(row["debit"]), Decimal(row["credit"])) == (debit[key], credit[key]), row
        assert Decimal(row["opening"]) == 0
        assert Decimal(row["closing"]) == debit[key] - credit[key]
        closing[row["currency"]] += Decimal(row["closing"])
    assert closing == {"EUR": 0, "USD": 0}


def test_the_trial_balance_goes_on_month_after_month(everything: Home) -> None:
    months = [
        {(row["ledger_account"], row["currency"]): row for row in everything.report("trial-balance", "--month", month)}
        for month in MONTHS
    ]
    for row in (row for month in months for row in month.values()):
        amounts = {name: Decimal(row[name]) for name in ("opening", "debit", "credit", "closing")}
        assert amounts["opening"] + amounts["debit"] - amounts["credit"] == amounts["closing"], row
    for before, after in pairwise(months):
        assert before.keys() <= after.keys()
        for key, row in after.items():
            assert row["opening"] == (before[key]["closing"] if key in before else "0.00"), row
    last = {key: row["closing"] for key, row in months[-1].items()}
    ever = everything.report("trial-balance")
    assert last == {(row["ledger_account"], row["currency"]): row["closing"] for row in ever}


def test_a_range_of_months_is_its_months_together(everything: Home) -> None:
    moved: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for month in MONTHS:
        for row in everything.report("trial-balance", "--month", month):
            moved[row["ledger_account"], "debit"] += Decimal(row["debit"])
            moved[row["ledger_account"], "credit"] += Decimal(row["credit"])
    together: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for row in everything.report("trial-balance", "--from", MONTHS[0], "--to", MONTHS[-1]):
        together[row["ledger_account"], "debit"] += Decimal(row["debit"])
        together[row["ledger_account"], "credit"] += Decimal(row["credit"])
    assert moved == together


def test_every_statement_adds_up(everything: Home) -> None:
    """Opening, each movement, closing: of every account in every month, and from month to month."""
    closing: dict[tuple[str, str], dict[str, Decimal]] = {}
    for month in MONTHS:
        for account, rows in by_account(everything.report("statement", "--month", month)).items():
            first, *moves, last = rows
            assert (first["kind"], last["kind"]) == ("opening", "closing")
            for purse in PURSES:
                now = Decimal(first[purse])
                assert now == closing.get(account, {}).get(purse, 0), (month, account)
                for move in moves:
                    assert move["posted_at"].startswith(month)
                    now += Decimal(move[f"{purse}_change"])
                    assert Decimal(move[purse]) == now, move
                assert Decimal(last[purse]) == now
                assert Decimal(last[f"{purse}_change"]) == now - Decimal(first[purse])
            closing[account] = {purse: Decimal(last[purse]) for purse in PURSES}
    held = {
        (row["account_id"], row["currency"]): {purse: Decimal(row[purse]) for purse in PURSES}
        for row in everything.report("balances")
    }
    assert closing == held


def test_statements_are_the_accounts_part_of_the_trial_balance(everything: Home) -> None:
    for month in MONTHS:
        for (account, _), rows in by_account(everything.report("statement", "--month", month)).items():
            part = everything.report("trial-balance", "--month", month, "--account", account)
            for purse, names in HELD_IN.items():
                sign = 1 if purse == "owed" else -1
                of_purse = [row for row in part if row["ledger_account"] in names]
                for side, row in (("opening", rows[0]), ("closing", rows[-1])):
                    assert sign * sum(Decimal(each[side]) for each in of_purse) == Decimal(row[purse]), row


def test_what_is_owed_is_what_the_invoices_say(everything: Home) -> None:
    due: dict[str, Decimal] = defaultdict(Decimal)
    for row in everything.report("invoices"):
        due[row["account_id"]] += Decimal(row["amount_due"])
    owed = {row["account_id"]: Decimal(row["owed"]) for row in everything.report("balances")}
    assert owed == {account: due[account] for account in owed}
    assert any(owed.values())


def test_an_unknown_account_has_no_statement(everything: Home) -> None:
    assert everything.report("statement", "--account", "acc-9") == []


def by_account(rows: list[dict[str, str]]) -> dict[tuple[str, str], list[dict[str, str]]]:
    """The rows of a statement by account and currency, in their order."""
    found: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        found[row["account_id"], row["currency"]].append(row)
    return found
