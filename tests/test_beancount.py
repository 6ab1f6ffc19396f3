"""The Beancount export, read by Beancount itself."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest
from homes import Home
from test_corrections import everything_once

from metering.reports.beancount import account_name

loader = pytest.importorskip("beancount.loader")

HELD_IN = {
    "balance": ("balance", "reserved"),
    "credit": ("credit",),
    "owed": ("receivable", "carried"),
}


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Home:
    return everything_once(tmp_path_factory, worker_id)


def load(text: str) -> tuple[list[Any], list[Any]]:
    """The directives and the errors that Beancount finds in a text."""
    entries, errors, _ = loader.load_string(text)
    return entries, errors


def sums(entries: list[Any]) -> dict[tuple[str, str], Decimal]:
    """What Beancount makes of the postings: account and currency to amount."""
    found: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for entry in entries:
        for posting in getattr(entry, "postings", ()):
            found[posting.account, posting.units.currency] += posting.units.number
    return found


def test_beancount_reads_it_without_errors(everything: Home) -> None:
    text = everything.run("export", "beancount").stdout
    entries, errors = load(text)
    assert errors == []
    transactions = {row["transaction"] for row in everything.report("ledger")}
    assert sum(hasattr(entry, "postings") for entry in entries) == len(transactions)


def test_its_balances_are_the_reports(everything: Home) -> None:
    entries, _ = load(everything.run("export", "beancount").stdout)
    held = sums(entries)
    for row in everything.report("balances"):
        for purse, names in HELD_IN.items():
            accounts = [account_name({"ledger_account": name, "account_id": row["account_id"]}) for name in names]
            amount = sum((held[account, row["currency"]] for account in accounts), Decimal())
            assert amount == (1 if purse == "owed" else -1) * Decimal(row[purse]), (row, purse)


def test_its_accounts_are_the_trial_balance(everything: Home) -> None:
    entries, _ = load(everything.run("export", "beancount").stdout)
    found: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for (account, currency), amount in sums(entries).items():
        found[":".join(account.split(":")[:2]), currency] += amount
    for row in everything.report("trial-balance"):
        name = account_name({"ledger_account": row["ledger_account"], "account_id": ""}).removesuffix(":C-")
        assert found.pop((name, row["currency"])) == Decimal(row["closing"]), row
    assert not found


def test_a_wrong_amount_is_an_error(everything: Home) -> None:
    """The guard itself: one posting changed, or both sides of one: Beancount must refuse."""
    lines = everything.run("export", "beancount").stdout.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("  Income:Revenue"))
    name, amount, currency = lines[place].split()
    unbalanced = [*lines[:place], f"  {name}  {Decimal(amount) + 1} {currency}", *lines[place + 1 :]]
    assert load("\n".join(unbalanced))[1]
    start = max(number for number in range(place) if lines[number].startswith("2026"))
    end = next(number for number in range(start, len(lines)) if not lines[number])
    halved = []
    for line in lines[start:end]:
        words = line.split()
        is_posting = len(words) == 3 and words[2] == currency
        halved.append(f"  {words[0]}  {Decimal(words[1]) * 2} {currency}" if is_posting else line)
    errors = load("\n".join([*lines[:start], *halved, *lines[end:]]))[1]
    assert {type(error).__name__ for error in errors} == {"BalanceError"}


def test_account_ids_of_any_letters_are_names_that_beancount_takes(home: Home) -> None:
    home.now = "2026-06-01T08:00:00Z"
    names = ["acc 1", "ACC_1", "Ünïcode/…", "1-acc", 'a"b\\c']
    home.file(
        "accounts.csv",
        "account_id,name,email,country,currency,tax_rate,payment_customer,payment_method\n"
        + "".join('"{}",N,,DE,USD,0,,\n'.format(name.replace('"', '""')) for name in names),
    )
    home.run("accounts", "import", str(home.path / "accounts.csv"))
    for number, name in enumerate(names):
        home.run("funds", "add", name, f"{number + 1}.00", "--reference", f'top "{number}"')
    entries, errors = load(home.run("export", "beancount").stdout)
    assert errors == []
    opened = [entry for entry in entries if type(entry).__name__ == "Open" and "account-id" in entry.meta]
    assert {entry.meta["account-id"] for entry in opened} == set(names)
    assert len({entry.account for entry in opened}) == len(names)
