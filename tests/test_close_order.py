"""Which months a close takes, what it looks at before it writes, and that looking changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from homes import Home, begun

from metering.home import OF_A_MACHINE

PRICE = "snapshot.vm,,USD,0.001,2026-01-01,"


@begun
def beginning(home: Home) -> None:
    home.prices(PRICE)
    home.accounts("acc-1,USD,0,pm_card_visa")
    home.events(
        """
        2026-05-02T10 ready may gb=1000
        2026-05-02T15 deleted may
        2026-06-02T10 ready june gb=1000
        2026-06-02T16 deleted june
        """
    )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """1,000 GB cost 1.00 an hour; acc-1 owes 5.00 for May and 6.00 for June."""
    return beginning(tmp_path / "home")


def test_a_month_that_has_not_ended_is_refused(home: Home) -> None:
    home.now = "2026-05-31T23:59:59.999999Z"
    done = home.run("close", "2026-05", exit_code=2)
    assert "2026-05 has not ended; it ends at 2026-06-01T00:00:00Z" in done.stderr
    assert home.ledger("closes") == []
    home.run("close", "2026-05", now="2026-06-01T00:00:00Z")


def test_the_billing_zone_says_when_a_month_has_ended(home: Home) -> None:
    home.file("metering.toml", "[billing]\ntimezone = 'America/New_York'\n")
    refused = home.run("close", "2026-05", now="2026-06-01T03:59:59Z", exit_code=2)
    assert "ends at 2026-06-01T04:00:00Z" in refused.stderr
    home.run("close", "2026-05", now="2026-06-01T04:00:00Z")


def test_a_month_out_of_order_is_refused(home: Home) -> None:
    home.now = "2026-08-01T08:00:00Z"
    assert "2026-06 is out of order: usage begins in 2026-05" in home.run("close", "2026-06", exit_code=2).stderr
    home.run("close", "2026-05")
    assert "the next month to close is 2026-06" in home.run("close", "2026-07", exit_code=2).stderr
    refused = home.run("close", "2026-04", exit_code=2).stderr
    assert "the next month to close is 2026-06" in refused
    assert "Billing begins with 2026-05." in refused
    assert home.column("invoices", "month") == ["2026-05"]


@pytest.mark.parametrize("text", ["2026-5", "May", "2026-13", "2026-05-01"])
def test_what_is_no_month_is_refused(home: Home, text: str) -> None:
    assert text in home.run("close", text, exit_code=2).stderr


def test_several_ended_months_need_a_start(home: Home) -> None:
    home.now = "2026-07-01T08:00:00Z"
    done = home.run("close", exit_code=2)
    assert "2 ended months have usage (2026-05 to 2026-06)" in done.stderr
    assert 'start = "2026-05"' in done.stderr
    home.file("metering.toml", "[billing]\nstart = '2026-04'\n")
    home.run("close")
    assert [row["month"] for row in home.ledger("closes")] == ["2026-04", "2026-05", "2026-06"]
    assert home.column("invoices", "total") == ["5.00", "6.00"]
    assert home.run("close").stderr == "There is nothing to close.\n"


def test_usage_before_the_start_is_told_and_never_billed(home: Home) -> None:
    """May's 1,000 GB × 5 h are told by each close; a snapshot that lives on is billed from June on."""
    home.events("2026-05-31T20 ready on gb=1000\n2026-06-01T01 deleted on", "on.jsonl")
    home.file("metering.toml", "[billing]\nstart = '2026-06'\n")
    home.now = "2026-07-01T08:00:00Z"
    # 5,000 + 4 h × 1,000
    assert "Before 2026-06 lie 9000.000000000 GB-hours; they are never billed" in home.run("close").stderr
    assert home.column("invoices", "total") == ["7.00"]
    done = home.run("close", now="2026-08-01T08:00:00Z")
    assert "Before 2026-06 lie 9000.000000000 GB-hours" in done.stderr
    home.file("metering.toml", "[billing]\nstart = '2026-05'\n")
    assert "the book begins with 2026-06" in home.run("close", now="2026-09-01T08:00:00Z", exit_code=2).stderr


def test_zone_and_gigabyte_are_fixed_by_the_first_close(home: Home) -> None:
    home.run("close", "2026-05")
    for line in ("timezone = 'Europe/Berlin'", "gigabyte = 'GiB'"):
        home.file("metering.toml", f"[billing]\n{line}\n")
        assert "cannot change after the first close" in home.run("report", "invoices", exit_code=2).stderr


def test_a_zone_of_a_machine_begins_no_book(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """`localtime` is not on every machine, so another zone stands for it; a book that was begun with it stays open."""
    assert all(name.startswith(OF_A_MACHINE) for name in ("localtime", "right/UTC", "posix/Europe/Berlin"))
    assert not "Europe/Berlin".startswith(OF_A_MACHINE)
    monkeypatch.setattr("metering.home.OF_A_MACHINE", ("UTC",))
    refused = home.run("close", "2026-05", exit_code=2).stderr
    assert "timezone 'UTC' is no IANA zone" in refused and "Name the zone" in refused
    monkeypatch.undo()
    home.run("close", "2026-05")
    monkeypatch.setattr("metering.home.OF_A_MACHINE", ("UTC",))
    home.run("report", "invoices")


def test_closing_twice_changes_nothing(home: Home) -> None:
    home.run("close", "2026-05")
    before, files, captures = home.state(), home.fingerprint(), home.captures()
    done = home.run("close", "2026-05")
    assert "2026-05 is closed already; nothing of it changes." in done.stderr
    assert home.state() == before
    assert home.captures() == captures
    for table in ("transactions", "entries", "seals", "invoices", "invoice_lines", "payments"):
        assert home.ledger(table), table
    for name, digest in home.fingerprint().items():
        if name.startswith(("lake/", "sandbox/captures")):
            assert files[name] == digest, name


def test_the_book_is_the_same_to_the_byte_after_a_second_close(home: Home) -> None:
    home.run("close", "2026-05")
    tables = ("transactions", "entries", "seals", "invoices", "invoice_lines", "closes", "payments", "intents")
    before = {table: home.ledger(table) for table in tables}
    home.run("close", "2026-05")
    home.run("close")
    assert {table: home.ledger(table) for table in tables} == before


def test_files_of_a_close_are_made_again_if_they_are_missing(home: Home) -> None:
    home.run("close", "2026-05")
    before = home.fingerprint()
    lost = home.path / "lake" / "closes" / "2026-05"
    for path in lost.iterdir():
        path.unlink()
    assert "is missing" in home.run("verify", exit_code=3).stdout
    home.run("close", "2026-05")
    after = home.fingerprint()
    assert {name: after[name] for name in before if name.startswith("lake/closes")} == {
        name: digest for name, digest in before.items() if name.startswith("lake/closes")
    }
    home.run("verify")


# Looking first


def test_a_dry_run_writes_nothing_at_all(home: Home) -> None:
    home.run("ingest")
    before = home.fingerprint()
    first = home.run("close", "2026-05", "--dry-run")
    second = home.run("close", "--dry-run", now="2026-06-02T08:00:00Z")
    assert home.fingerprint() == before
    assert first.stdout == second.stdout
    assert len(first.stdout.strip()) == 64
    assert "USD: invoiced 5.00" in first.stderr


def test_a_dry_run_in_a_home_without_a_ledger_leaves_the_inbox_alone(tmp_path) -> None:
    fresh = Home(tmp_path / "fresh")
    fresh.prices(PRICE)
    fresh.events("2026-05-02T10 ready may gb=1000")
    done = fresh.run("close", "--dry-run", exit_code=None)
    assert done.exit_code in (0, 3)
    assert "1 file left waiting in the inbox" in done.stderr
    assert [path.name for path in fresh.path.glob("inbox/*")] == ["events.jsonl"]
    assert not (fresh.path / "lake" / "manifest.json").exists()


def test_the_next_close_names_the_accounts_of_conflicts(home: Home) -> None:
    """Once each: whoever pays for the snapshot, and whom the refused line names; not what a person has put aside."""
    home.run("ingest")
    home.events("2026-05-02T10 ready may acc=acc-2 gb=1", "refused.jsonl")
    home.events("2026-05-02T10 ready may acc=acc-3 gb=1", "aside.jsonl")
    home.run("ingest", exit_code=3)
    aside = next(line for line in home.report("quarantine") if line["file"] == "aside.jsonl")
    home.run("quarantine", "resolve", aside["id"], "--reason", "a rehearsal")
    for options in (["--dry-run"], []):
        told = home.run("close", "2026-05", *options).stderr.splitlines()
        assert [line for line in told if line.startswith("Conflict")] == [
            "Conflict: 1 refused line about acc-1.",
            "Conflict: 1 refused line about acc-2.",
        ]
    home.now = "2026-07-01T08:00:00Z"
    assert "Conflict" not in home.run("close", "2026-06").stderr


def test_a_dry_run_says_what_would_not_be_billed(home: Home) -> None:
    """500 GB for two hours belong to an account that nobody has imported."""
    home.events("2026-05-02T10 ready odd acc=acc-9 gb=500\n2026-05-02T12 deleted odd", "odd.jsonl")
    home.run("ingest")
    looked = home.run("close", "2026-05", "--dry-run", exit_code=3)
    assert "Not billed: 1000.000000000 GB-hours of acc-9 in 2026-05: unknown_account." in looked.stderr
    assert len(looked.stdout.strip()) == 64
    assert looked.stderr.splitlines()[-2:] == home.run("close", "2026-05", exit_code=3).stderr.splitlines()[-2:]


def test_approval_is_of_these_very_inputs_and_lines(home: Home) -> None:
    home.file("metering.toml", "[close]\nmax_invoice = { USD = '4.99' }\n")
    home.run("ingest")
    stopped = home.run("close", "2026-05", exit_code=3)
    assert "acc-1 would be invoiced 5.00 USD, more than 4.99" in stopped.stderr
    assert home.ledger("closes") == home.captures() == []
    approved = next(word.rstrip(".`") for word in stopped.stderr.split() if len(word.rstrip(".`")) == 64)
    # A late event comes in: the hash is another, so the approval does not hold any more.
    home.events("2026-05-02T16 ready more gb=1000\n2026-05-02T17 deleted more", "more.jsonl")
    home.run("ingest")
    refused = home.run("close", "2026-05", "--approve", approved, exit_code=3)
    assert "inputs or lines have changed since" in refused.stderr
    assert home.ledger("closes") == []
    stopped = home.run("close", "2026-05", exit_code=3)
    now_right = next(word.rstrip(".`") for word in stopped.stderr.split() if len(word.rstrip(".`")) == 64)
    assert now_right != approved
    home.run("close", "2026-05", "--approve", now_right)
    assert home.column("invoices", "total") == ["6.00"]
    assert home.ledger("closes")[0]["approved"] == 1


def test_approving_leaves_the_inbox_alone(home: Home) -> None:
    home.run("ingest")
    wanted = home.run("close", "2026-05", "--dry-run").stdout.strip()
    home.events("2026-05-02T16 ready more gb=1000\n2026-05-02T17 deleted more", "more.jsonl")
    assert "1 file left waiting in the inbox" in home.run("close", "2026-05", "--approve", wanted).stderr
    assert home.column("invoices", "total") == ["5.00"]
    assert (home.path / "inbox" / "more.jsonl").exists()
    assert "1 file left waiting in the inbox" in home.run("close", "2026-05").stderr


def test_a_total_that_changes_too_much_stops_the_close(home: Home) -> None:
    """5.00 to 6.00 are 20 %: more than 19, not more than 20."""
    home.run("close", "2026-05")
    home.now = "2026-07-01T08:00:00Z"
    home.file("metering.toml", "[close]\nmax_change_percent = 19\n")
    done = home.run("close", exit_code=3)
    assert "the total in USD changes from 5.00 to 6.00, more than 19 %" in done.stderr
    assert home.column("invoices", "month") == ["2026-05"]
    home.file("metering.toml", "[close]\nmax_change_percent = 20\n")
    home.run("close")
    assert home.column("invoices", "total") == ["5.00", "6.00"]


def test_a_dry_run_beyond_a_limit_prints_its_hash(home: Home) -> None:
    """The hash to approve is on standard output also where the close would stop; approving it closes."""
    home.run("ingest")
    home.file("metering.toml", '[close]\nmax_invoice = { USD = "4.99" }\n')
    done = home.run("close", "2026-05", "--dry-run", exit_code=3)
    assert "5.00 USD, more than 4.99" in done.stderr
    found = done.stdout.strip()
    assert len(found) == 64
    assert home.column("invoices", "total") == []
    home.run("close", "2026-05", exit_code=3)
    home.run("close", "2026-05", "--approve", found)
    assert home.column("invoices", "total") == ["5.00"]


def test_late_usage_that_would_be_billed_at_a_price_of_before_waits_for_a_person(home: Home) -> None:
    """2,000 GB-hours of the second half of May come after its close, and a new price of that half before them."""
    home.run("close", "2026-05")
    home.prices(PRICE, "snapshot.vm,,USD,0.002,2026-05-16,")
    home.run("prices", "check")
    home.now = "2026-07-01T08:00:00Z"
    home.events("2026-05-20T10 ready late gb=1000\n2026-05-20T12 deleted late", "late.jsonl")
    assert "2026-05, acc-1: row snapshot.vm,,USD,0.002" in home.run("close", exit_code=2).stderr
    home.run("prices", "reprice", "2026-05", "--reason", "agreed")
    home.run("close")
    assert home.column("invoice-lines", "amount", "--month", "2026-06") == ["12.00", "4.00"]


def test_an_approval_is_of_one_month(home: Home) -> None:
    """A dry run shows May; June, which nobody has seen, waits, also where it is under the limit."""
    home.run("ingest")
    home.file("metering.toml", '[billing]\nstart = "2026-05"\n[close]\nmax_invoice = { USD = "4.99" }\n')
    home.now = "2026-07-01T08:00:00Z"
    found = home.run("close", "--dry-run", exit_code=3).stdout.strip()
    done = home.run("close", "--approve", found)
    assert "Still to be closed: 2026-06. An approval is of one month." in done.stderr
    assert home.column("invoices", "total") == ["5.00"]


def test_where_the_second_month_stops_the_first_is_closed(home: Home) -> None:
    home.file("metering.toml", '[billing]\nstart = "2026-05"\n[close]\nmax_invoice = { USD = "5.00" }\n')
    home.now = "2026-07-01T08:00:00Z"
    done = home.run("close", exit_code=3)
    assert "2026-06 is not closed: acc-1 would be invoiced 6.00 USD" in done.stderr
    assert "Nothing of 2026-06 was written." in done.stderr
    assert "Nothing was closed" not in done.stderr
    assert home.column("invoices", "total") == ["5.00"]


def test_a_source_that_is_required_must_have_reported_past_the_month(home: Home) -> None:
    home.file("metering.toml", "[close]\nrequire_sources = ['/compute', '/volumes']\n")
    done = home.run("close", "2026-05", exit_code=3)
    assert "/volumes (last event never)" in done.stderr
    assert "/compute" not in done.stderr.split("come from")[1].split("Nothing")[0]
    home.events("2026-05-31T23:59:59.999999 creating v1 source=/volumes", "early.jsonl")
    assert "/volumes (last event 2026-05-31T23:59:59.999999Z)" in home.run("close", "2026-05", exit_code=3).stderr
    assert home.ledger("closes") == []
    home.events("2026-06-01 creating v2 source=/volumes", "past.jsonl")
    home.run("close", "2026-05")


def test_a_month_without_usage_closes_empty(home: Home) -> None:
    home.now = "2026-09-01T08:00:00Z"
    home.run("close", "2026-05")
    home.run("close")
    assert [row["month"] for row in home.ledger("closes")] == ["2026-05", "2026-06", "2026-07", "2026-08"]
    assert home.column("invoices", "month") == ["2026-05", "2026-06"]
    home.run("verify")


def test_nothing_at_all_closes_nothing(tmp_path) -> None:
    fresh = Home(tmp_path / "fresh")
    assert "There is nothing to close." in fresh.run("close").stderr
    assert fresh.ledger("closes") == []


def test_a_close_finishes_an_earlier_one_that_was_cut_off(home: Home) -> None:
    home.run_apart("close", "2026-05", failpoint="close.after_commit")
    assert home.captures() == []
    home.now = "2026-07-01T08:00:00Z"
    home.run("close")
    assert [capture["amount"] for capture in home.captures()] == ["5.00", "6.00"]
