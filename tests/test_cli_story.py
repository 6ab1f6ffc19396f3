"""The command line as transcripts: what people run, in order, with the wrong turns and the second runs."""

from __future__ import annotations

from homes import Home

ACCOUNTS = """
file accounts.csv
    account_id,name,email,country,currency,tax_rate,payment_customer,payment_method
    acc-1,Ada,,DE,USD,0,cus_1,pm_card_visa
$ accounts import accounts.csv
! 1 account new or changed, 0 as before
"""


def test_a_first_month_from_an_empty_folder(home: Home) -> None:
    home.tell(
        """
now 2026-06-01T08:00:00Z
$ status
> Closed        no month yet
file prices.csv
    sku,region,currency,price_per_gb_hour,effective_from
    snapshot.vm,,USD,0.001,2026-01-01
"""
        + ACCOUNTS
        + """
$ accounts import accounts.csv
! 0 accounts new or changed, 1 as before
# 1,000 GB × 5 h × 0.001 = 5.00
events may.jsonl
    2026-05-02T10 ready s1 gb=1000
    2026-05-02T15 deleted s1
$ ingest
! batch 1: 1 file, 2 events, 0 repeats, 0 lines quarantined
$ ingest
! no batch: 0 files, 0 events
# The same events once more, under another name, with one that is wrong: 1e3 is no size.
events again.jsonl
    2026-05-02T10 ready s1 gb=1000
    2026-05-02T15 deleted s1
file inbox/wrong.jsonl
    {"specversion":"1.0","id":"w","source":"/c","type":"snapshot.resized","subject":"s1","time":"2026-05-02T11:00:00Z","data":{"size_bytes":1e3}}
$ ingest => 3
! batch 2: 2 files, 0 events, 2 repeats, 1 line quarantined
$ ingest
= usage
    month   account_id gb_hours       snapshots
    2026-05 acc-1      5000.000000000 1
$ quarantine --format csv
> wrong.jsonl,1,wrong_type
$ funds add acc-1 1.25 --reference " t-1 "
! t-1: added
$ funds add acc-1 1.25 --reference t-1
! t-1: was in the book
$ funds add acc-1 1.26 --reference t-1 => 2
! reference 't-1' is in the book with another content
$ close
! 2026-05: 1 invoice, 5000.000000000 GB-hours.
! invoiced 5.00, credit used 0.00, balance used 1.25, carried 0.00, to the cards 3.75
! Cards: succeeded: 1 (3.75 USD)
$ close
! There is nothing to close.
$ collect
= payments
    payment              invoice            attempt amount status    reason
    PAY-2026-05-000001-1 INV-2026-05-000001 1       3.75   succeeded -
$ status
> Closed        2026-05 to 2026-05
> Owed          nothing
$ verify
"""
    )
    assert [row["exit_code"] for row in home.report("runs")].count("3") == 1
    quarantined = home.run("quarantine", "--format", "csv").stdout.splitlines()[1].split(",")[0]
    home.run("quarantine", "resolve", quarantined, "--reason", "the producer was mended")
    assert len(home.run("quarantine", "--format", "csv").stdout.splitlines()) == 1
    home.run("quarantine", "resolve", "no-such-id", "--reason", "x", exit_code=2)


def test_a_run_that_finds_nothing_says_so(home: Home) -> None:
    for command in ("close", "collect"):
        assert home.run(command).stderr == f"There is nothing to {command}.\n"


def test_a_reason_says_something(home: Home) -> None:
    """Where one is asked for, an empty one is refused before anything is looked at."""
    for command in (
        ("quarantine", "resolve", "x"), ("prices", "reprice", "2026-05"), ("write-off", "x"),
        ("credit-note", "x", "--amount", "1"),
    ):  # fmt: skip
        assert "it is empty" in home.run(*command, "--reason", " ", exit_code=2).stderr


def test_bad_lines_are_put_aside_together(home: Home) -> None:
    """All that are named or none, each once; one that was aside before keeps its reason."""
    (home.path / "inbox" / "broken.jsonl").write_text("a\nb\nc\n")
    home.run("ingest", exit_code=3)
    a, b, c = (row["id"] for row in home.report("quarantine"))
    home.run("quarantine", "resolve", a, "x", b, "y", "--reason", "nothing of it", exit_code=2)
    assert "There is no quarantined line 'x' or 'y'." in home.last.stderr
    assert home.ledger("quarantine_resolutions") == []
    home.run("quarantine", "resolve", b, "--reason", "alone")
    assert home.last.stderr == f"Put aside: {b}\n"
    home.run("quarantine", "resolve", "--reason", "together", c, b, a, c)
    assert home.last.stderr == "Put aside: 3 lines, 1 before\n"
    assert {row["id"]: row["reason"] for row in home.ledger("quarantine_resolutions")} == {
        a: "together", b: "alone", c: "together",
    }  # fmt: skip
    assert home.report("quarantine") == []


def test_a_declined_card_is_tried_again_and_a_new_one_at_once(home: Home) -> None:
    """Retries on days 1, 3, 5 and 7 after the first attempt; a decline that was told before is no news."""
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_chargeDeclinedInsufficientFunds")
    home.events("2026-05-02T10 ready s1 gb=1000\n2026-05-02T15 deleted s1")
    home.tell(
        """
now 2026-06-01T08:00:00Z
$ close => 3
! Open: INV-2026-05-000001, 5.00 USD.
$ close 2026-05 => 3
$ collect
now 2026-06-02T00:00:00Z
$ collect => 3
! declined: 1 (5.00 USD)
$ collect
now 2026-06-03T12:00:00Z
$ collect
= payments
    attempt amount status   reason
    1       5.00   declined insufficient_funds
    2       5.00   declined insufficient_funds
"""
    )
    home.accounts("acc-1,USD,0,pm_card_visa")
    home.tell(
        """
$ nightly
! cards: succeeded: 1 (5.00 USD)
= invoices
    card_charged amount_due status
    5.00         0.00       paid
$ close 2026-05
$ verify
"""
    )


def test_after_the_last_retry_the_collection_is_exhausted_until_a_person_ends_it(home: Home) -> None:
    """acc-1's last retry is on 8 June; acc-2's card is stolen: nothing more is tried at once."""
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_chargeDeclined", "acc-2,USD,0,pm_card_chargeDeclinedStolenCard")
    home.events(
        "2026-05-02T10 ready s1 gb=1000\n2026-05-02T15 deleted s1\n"
        "2026-05-02T10 ready s2 acc=acc-2 gb=1000\n2026-05-02T17 deleted s2"
    )
    home.tell(
        """
now 2026-06-01T08:00:00Z
$ close => 3
! Cards: declined: 2 (12.00 USD)
! Cards: exhausted: 1 (7.00 USD)
$ status
> Open          2 invoices, 12.00 USD
> Collection    exhausted: 1 invoice, 7.00 USD; import another card, or `metering write-off`
now 2026-06-06T08:00:00Z
$ collect => 3
! declined: 1 (5.00 USD)
now 2026-06-08T00:00:00Z
$ collect => 3
! exhausted: 1 (5.00 USD)
$ collect
! There is nothing to collect.
$ status
> Collection    exhausted: 2 invoices, 12.00 USD; import another card, or `metering write-off`
= invoices
    amount_due status
    5.00       open
    7.00       open
$ write-off INV-2026-05-000002 --reason stolen
"""
    )
    home.accounts("acc-1,USD,0,pm_card_visa")
    assert "Collection" not in home.run("status").stdout


def test_files_with_a_mistake_are_taken_whole_or_not_at_all(home: Home) -> None:
    home.tell(
        ACCOUNTS
        + """
file more.csv
    account_id,name,email,country,currency,tax_rate,payment_customer,payment_method
    acc-2,Bob,,DE,USD,0,cus_2,pm_card_visa
    acc-3,Eve,,DE,USD,101,cus_3,pm_card_visa
$ accounts import more.csv => 2
! line 3: tax_rate: 101 is not a percentage from 0 to 100
file more.csv
    account_id,name,email,country,currency,tax_rate,payment_customer,payment_method
    acc-2,Bob,,DE,USD,0,cus_2,4242 4242 4242 4242
$ accounts import more.csv => 2
! looks like a card number
file more.csv
    account_id,name,email,country,currency,tax_rate,payment_customer,payment_method
    acc-2,Bob,,DE,USD,0,cus_2,pm_card_visa
    acc-2,Bob,,DE,USD,0,cus_2,pm_card_visa
$ accounts import more.csv => 2
! stands already on line 2
file more.csv
    account_id,name
    acc-2,Bob
$ accounts import more.csv => 2
! no column 'email'
$ accounts import no-such-file.csv => 2
! No such file
= balances
    account_id
    acc-1
file funds.csv
    account_id,kind,amount,currency,reference,expires
    acc-1,topup,1.00,USD,good,
    acc-1,topup,1.00,USD,bad,2026-12-31
$ funds import funds.csv => 2
! line 3: expires: a top-up does not expire
file funds.csv
    account_id,kind,amount,currency,reference,expires
    acc-1,topup,1.00,USD,good,
    acc-1,topup,1.005,USD,bad,
$ funds import funds.csv => 2
! line 3: amount: '1.005' has more than 2 decimal places
file funds.csv
    account_id,kind,amount,currency,reference,expires
    acc-1,topup,1.00,USD,twice,
    acc-1,topup,2.00,USD,twice,
$ funds import funds.csv => 2
! line 3: reference 'twice' is in the book with another content
file funds.csv
    account_id,kind,amount,currency,reference,expires
    acc-9,topup,1.00,USD,r,
$ funds import funds.csv => 2
! account 'acc-9' is not known
$ funds add acc-1 -1.00 --reference r => 2
$ funds add acc-1 0 --reference r => 2
$ funds add acc-1 1.00 --reference "a	b" => 2
! metering: funds add: reference: a control character.
$ funds add acc-1 1.00 --reference r --currency EUR => 2
! metering: funds add: currency 'EUR': account 'acc-1' has USD.
$ funds add acc-1 1.00 => 2
= balances
    account_id balance credit
    acc-1      0.00    0.00
# The first posting fixes the currency.
$ funds add acc-1 1.00 --reference r
file accounts.csv
    account_id,name,email,country,currency,tax_rate,payment_customer,payment_method
    acc-1,Ada,,DE,EUR,0,cus_1,pm_card_visa
$ accounts import accounts.csv => 2
! its currency cannot
"""
    )


def test_prices_that_are_none_stop_what_needs_them(home: Home) -> None:
    home.tell(
        ACCOUNTS
        + """
events may.jsonl
    2026-05-02T10 ready s1 gb=1000
file prices.csv
    sku,region,currency,price_per_gb_hour,effective_from
    snapshot.vm,,USD,0.001,2026-01-01
    snapshot.vm,,USD,0.002,2026-01-01
$ prices check => 2
! line 3: the same key and day stand already on line 2
$ close => 2
! line 3
file prices.csv
    sku,region,currency,price_per_gb_hour,effective_from
    snapshot.disk,,USD,0.001,2026-01-01
$ prices check => 2
! line 2: sku 'snapshot.disk' is none of snapshot.vm, snapshot.volume
file prices.csv
    sku,region,currency,price_per_gb_hour,effective_from
    snapshot.vm,,USD,0.0000000000001,2026-01-01
$ prices check => 2
! more than 12 decimal places
file prices.csv
    sku,region,currency,price_per_gb_hour,effective_from
    snapshot.vm,,USD,0.001,2026-02-30
$ prices check => 2
! effective_from: '2026-02-30' is not a date
file prices.csv
    sku,region,currency,price_per_gb_hour,effective_from
    snapshot.vm,,USD,0.001,
$ close => 2
! line 2: effective_from: '' is not a date
= invoices
    invoice
"""
    )


def test_what_is_asked_for_wrongly_is_refused(home: Home) -> None:
    home.tell(
        """
$ report no-such-report => 2
! There is no report 'no-such-report'
$ report invoices --month 2026-13 => 2
$ report invoices --month 2026-05 --from 2026-04 => 2
$ report invoices --by day => 2
$ usage --as-of 1 => 2
! there is no such batch
$ no-such-command => 2
$ report invoices --format html => 2
$ ingest no-such-file.jsonl => 2
"""
    )
