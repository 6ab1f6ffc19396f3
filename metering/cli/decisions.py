"""What people decide"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from metering.cli.app import Context, app, command, group
from metering.cli.finance import print_report
from metering.cli.options import month_of, printed
from metering.errors import DONE, MeteringError, UsageError
from metering.values import counted, printable

if TYPE_CHECKING:
    from metering.home import Home, Run


def _said(context: click.Context, option: click.Parameter, value: str) -> str:
    """What is asked for so that others know later."""
    if not value.strip():
        raise click.BadParameter("it is empty; whoever looks later will ask.", context, option)
    return value


# Quarantine


@group("quarantine", invoke_without_command=True)
@printed
def quarantine(context: Context, format: str | None, output: str | None) -> int:
    """Bad lines that nobody has put aside yet; they are never lost."""
    return print_report(context, "quarantine", format=format, output=output)


@command(quarantine, "resolve")
@click.argument("identifiers", metavar="ID...", nargs=-1, required=True)
@click.option("--reason", required=True, callback=_said, metavar="R", help="Why they need no more attention.")
def quarantine_resolve(context: Context, identifiers: tuple[str, ...], reason: str) -> int:
    """Put quarantined lines aside: all that are named, or none.

    Those of one file, as an example:

    \b
    metering sql "SELECT id FROM quarantine WHERE file = 'may.jsonl'" |
      tail -n +2 | xargs metering quarantine resolve --reason R
    """
    from metering.events.resolve import resolve

    home = context.open()
    identifiers = tuple(dict.fromkeys(identifiers))
    named = identifiers[0] if len(identifiers) == 1 else counted(len(identifiers), "line")
    with home.lock(), home.run(f"quarantine resolve {named}") as run:
        new = resolve(home.lake, home.book, identifiers, reason, home.now, run.run)
        run.say(f"resolved {named}: {reason}")
        before = len(identifiers) - new
        context.say(f"Put aside: {named}{f', {before} before' if before else ''}")
    return DONE


# Accounts


@group("accounts")
def accounts(context: Context) -> None:
    """Who pays."""


@command(accounts, "import")
@click.argument("file")
def accounts_import(context: Context, file: str) -> int:
    """Take accounts from a CSV file: all of it or nothing."""
    from metering.accounts.imports import import_accounts

    home = context.open()
    with home.lock(), home.run(f"accounts import {file}") as run:
        with home.book.write() as con:
            changed, same = import_accounts(con, file, home.now, run.run)
        return context.done(run, f"{counted(changed, 'account')} new or changed, {same} as before")


@command(accounts, "close")
@click.argument("account")
def accounts_close(context: Context, account: str) -> int:
    """Close an account.

    After its final invoice, what balance is left is paid out.
    """
    from metering.corrections.closures import close_account

    home = context.open()
    with home.lock(), home.run(f"accounts close {account}") as run:
        with home.book.write() as con:
            new = close_account(con, account, home.now, run.run)
        how = "closed; its balance is paid out after its final invoice" if new else "closed already"
        return context.done(run, f"{account}: {how}")


# Funds


@group("funds")
def funds(context: Context) -> None:
    """Prepaid and promotional money."""


@command(funds, "import")
@click.argument("file")
def funds_import(context: Context, file: str) -> int:
    """Take top-ups and credits from a CSV file: all of it or nothing."""
    from metering.accounts.imports import import_funds

    home = context.open()
    with home.lock(), home.run(f"funds import {file}") as run:
        with home.book.write() as con:
            added, known = import_funds(con, file, home.now, run.run)
        return context.done(run, f"{counted(added, 'reference')} added, {known} known already")


@command(funds, "add")
@click.argument("account")
@click.argument("amount")
@click.option("--reference", required=True, metavar="R", help="Names this money for ever.")
@click.option("--kind", type=click.Choice(["topup", "credit"]), default="topup")
@click.option("--expires", metavar="DATE", default="", help="Last day of a credit.")
@click.option("--currency", metavar="CODE", help="Must be the account's; left out, it is.")
def funds_add(
    context: Context, account: str, amount: str, reference: str, kind: str, expires: str, currency: str | None
) -> int:
    """Add one top-up or credit."""
    from metering.accounts.imports import add_funds, current_accounts
    from metering.tabular import Row

    home = context.open()
    with home.lock(), home.run(printable(f"funds add {account} {amount} --reference {reference}")) as run:
        with home.book.write() as con:
            values = {"account_id": account, "kind": kind, "amount": amount, "reference": reference, "expires": expires}
            row = Row.of("funds add", 0, values)
            known = current_accounts(con).get(row.values["account_id"])
            row.values["currency"] = currency or (known["currency"] if known else "")
            added, _ = add_funds(con, [row], home.now, run.run)
        return context.done(run, f"{row.values['reference']}: {'added' if added else 'was in the book'}")


# Prices


@group("prices")
def prices(context: Context) -> None:
    """What usage costs."""


@command(prices, "reprice")
@click.argument("month")
@click.option("--reason", required=True, callback=_said, metavar="R", help="Why closed usage gets other prices.")
def prices_reprice(context: Context, month: str, reason: str) -> int:
    """Bill a closed month by the prices.csv of now.

    The next close adjusts what was billed.
    """
    from metering.charges.stored import reprice

    home = context.open()
    wanted = str(month_of(month))
    with home.lock(), home.run(f"prices reprice {month}") as run:
        with home.book.write() as con:
            new = reprice(con, str(home.prices_file), wanted, reason, home.now, run.run)
        sentence = f"{wanted}: {'prices.csv counts from now on' if new else 'prices.csv counts already'}"
        run.say(f"{sentence}: {reason}")
        context.say(sentence)
    return DONE


@command(prices, "check")
def prices_check(context: Context) -> int:
    """Whether prices.csv would change a closed month."""
    from metering.charges.prices import read_prices
    from metering.close.price_guard import check_prices

    home = context.open()
    rows = len(read_prices(str(home.prices_file)).rows)
    check_prices(home)
    context.say(f"{counted(rows, 'price row')}; none changes a closed month.")
    return DONE


# Corrections


@contextmanager
def _released(context: Context, home: Home, run: Run, invoice: str) -> Iterator[None]:
    """Hold an invoice for a correction, once its payment intent reads back as cancelled."""
    from metering.ledger.book import rows
    from metering.payments.collect import released

    with home.book.read() as con:
        known = bool(rows(con, "invoices", invoice=invoice))
    if not known:
        yield
        return
    with released(home, run, invoice) as (cleared, outcome):
        for sentence in outcome.sentences():
            context.say(sentence)
        if not cleared:
            raise MeteringError(
                f"{invoice}: its payment intent does not read back as cancelled, so money may still move.",
                unchanged="The invoice is as it was.",
                remedy="Run `metering collect`, then this command again.",
            )
        yield


@command(app, "credit-note")
@click.argument("invoice")
@click.option("--amount", required=True, metavar="A", help="Gross, in major units.")
@click.option("--reason", required=True, callback=_said, metavar="R")
def credit_note(context: Context, invoice: str, amount: str, reason: str) -> int:
    """Reduce what is due on an invoice; the rest becomes balance."""
    from metering.corrections import documents
    from metering.ledger.book import rows
    from metering.values import Month, format_money

    home = context.open()
    month = str(Month.of(home.now, home.config.billing.zone))
    with home.lock(), home.run(f"credit-note {invoice} --amount {amount}") as run:
        with home.book.write() as con:
            number = documents.credit_note(con, invoice, amount, reason, home.now, run.run, month)
            credited = rows(con, "corrections", correction=number)[0]
        click.echo(number)
        money = f"{format_money(credited['amount_minor'], credited['currency'])} {credited['currency']}"
        return context.done(run, f"{number}: {money} of {invoice} credited")


@command(app, "void")
@click.argument("invoice")
@click.option("--rebill", is_flag=True, help="The next close bills its usage again.")
@click.option("--reason", default="", metavar="R")
def void(context: Context, invoice: str, rebill: bool, reason: str) -> int:
    """Take an invoice back; what was paid on it returns.

    Credit and balance return to where they came from, what a card paid to the balance.
    """
    from metering.corrections import documents

    home = context.open(charging=True)
    with home.lock(), home.run(f"void {invoice}{' --rebill' if rebill else ''}") as run:
        with _released(context, home, run, invoice), home.book.write() as con:
            number = documents.void(con, invoice, reason, home.now, run.run, rebill=rebill)
        return context.done(run, f"{number}: {invoice} is void{'; its usage is billed again' if rebill else ''}")


@command(app, "write-off")
@click.argument("invoice")
@click.option("--reason", required=True, callback=_said, metavar="R")
def write_off(context: Context, invoice: str, reason: str) -> int:
    """Give up what is owed on an invoice.

    It becomes uncollectible.
    """
    from metering.corrections import documents

    home = context.open(charging=True)
    with home.lock(), home.run(f"write-off {invoice}") as run:
        with _released(context, home, run, invoice), home.book.write() as con:
            number = documents.write_off(con, invoice, reason, home.now, run.run)
        return context.done(run, f"{number}: {invoice} is uncollectible")


@command(app, "refund")
@click.argument("payment")
@click.option("--amount", metavar="A", help="Left out: all that is left of it.")
@click.option("--to-card", is_flag=True, help="To the card instead of the balance.")
@click.option("--reason", default="", metavar="R")
def refund(context: Context, payment: str, amount: str | None, to_card: bool, reason: str) -> int:
    """Give a card payment back, to the balance or to the card."""
    from metering.corrections import money
    from metering.corrections.card_refunds import finish_card_refunds

    home = context.open(charging=to_card)
    with home.lock(), home.run(f"refund {payment}") as run:
        with home.book.write() as con:
            make = money.begin_card_refund if to_card else money.refund_to_balance
            number = make(con, payment, amount, reason, home.now, run.run)
        if not to_card:
            return context.done(run, f"{number}: {payment} refunded to the balance")
        for sentence in finish_card_refunds(home, run):
            context.done(run, sentence)
    return DONE


@command(app, "dispute")
@click.argument("payment")
@click.option("--opened", "outcome", flag_value="opened")
@click.option("--won", "outcome", flag_value="won")
@click.option("--lost", "outcome", flag_value="lost")
@click.option("--reason", default="", metavar="R")
def dispute(context: Context, payment: str, outcome: str | None, reason: str) -> int:
    """Record that a payment is disputed, and how it ended."""
    from metering.corrections import money

    if outcome is None:
        raise UsageError("It is not said how the dispute stands.", remedy="Add --opened, --won or --lost.")
    home = context.open()
    with home.lock(), home.run(f"dispute {payment} --{outcome}") as run:
        with home.book.write() as con:
            number = money.dispute(con, payment, outcome, reason, home.now, run.run)
        return context.done(run, f"{number}: dispute of {payment} {outcome}")
