"""Collecting: first attempts after a close, and everything that is due later.

Safe to repeat at any time and from several runs at once: each invoice is claimed for as long as it is worked
on, and nothing is held while the gateway is asked. Killed anywhere, the next run goes on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice

from metering.errors import DONE, NEEDS_PERSON
from metering.home import Home, Run
from metering.ledger.purses import balance_of
from metering.payments.cases import collect_work
from metering.payments.charge import Visit
from metering.payments.desk import Desk
from metering.payments.gateway import Gateway
from metering.payments.record import Event
from metering.values import format_money

TROUBLE = frozenset({"declined", "action_required", "no_card", "unknown", "postponed"})
"""What a person has to look at when it is new; an alarm always."""
KINDS = (
    *("succeeded", "balance", "carried", "declined", "exhausted", "action_required"),
    *("no_card", "unknown", "alarm", "postponed", "busy"),
)
"""Everything that an outcome counts, in the order in which it is told."""
AHEAD = 2
"""Accounts that are given out for each worker: one that it works on, and the next."""


@dataclass
class Outcome:
    """What a run did: how often, how much, and what a person must look at."""

    counts: Counter[str] = field(default_factory=Counter)
    amounts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Minor units by kind and currency."""
    notable: list[Event] = field(default_factory=list)
    """What is new and not well."""

    def add(self, event: Event) -> None:
        """Count something that happened."""
        self.counts[event.kind] += 1
        self.amounts[event.kind][event.currency] += event.amount_minor
        if event.kind == "alarm" or (event.kind in TROUBLE and event.new):
            self.notable.append(event)

    def merge(self, other: Outcome) -> None:
        """Add what another part of the run did."""
        self.counts.update(other.counts)
        for kind, amounts in other.amounts.items():
            self.amounts[kind].update(amounts)
        self.notable += other.notable

    @property
    def needs_person(self) -> bool:
        """Whether something new failed or is unknown."""
        return bool(self.notable)

    @property
    def exit_code(self) -> int:
        """0, or 3 if something needs a person."""
        return NEEDS_PERSON if self.needs_person else DONE

    def sentences(self) -> list[str]:
        """One line per kind of thing that happened."""
        return [
            f"{kind}: {self.counts[kind]} ({', '.join(_money(self.amounts[kind]))})"
            for kind in KINDS
            if self.counts[kind]
        ]


def charge_invoices(
    home: Home,
    run: Run,
    invoices: Sequence[str],
    *,
    gateway: Gateway | None = None,
    workers: int | None = None,
) -> Outcome:
    """Make the first attempt on each of these invoices, and finish those that are unknown; no retries."""
    wanted = set(invoices)
    with home.book.read() as con:
        work = [(account, invoice) for account, invoice in collect_work(con) if invoice in wanted]
    return _work(Desk.open(home, run, gateway), work, _charge_account, workers)


def collect(
    home: Home,
    run: Run,
    *,
    gateway: Gateway | None = None,
    workers: int | None = None,
) -> Outcome:
    """Read back what is not final, apply balance, and try what is due."""
    with home.book.read() as con:
        work = collect_work(con)
    return _work(Desk.open(home, run, gateway), work, _collect_account, workers)


@contextmanager
def released(home: Home, run: Run, invoice: str) -> Iterator[tuple[bool, Outcome]]:
    """Hold an invoice for a correction, with its live intent cancelled.

    Yields False if the intent may still succeed or another run holds the invoice. A late success is recorded, so
    the invoice may be paid although this yields True: look at it again before correcting it.
    """
    desk = Desk.open(home, run)
    outcome = Outcome()
    try:
        with home.book.claim(claim_of(invoice)) as mine:
            if not mine:
                outcome.add(Event("busy", invoice, "", 0, new=False))
                yield False, outcome
                return
            visit = Visit(desk, invoice)
            cleared = visit.clear()
            visit.finish()
            for event in visit.events:
                outcome.add(event)
            yield cleared, outcome
    finally:
        desk.close()


def _collect_account(desk: Desk, account_id: str, invoices: Sequence[str]) -> list[Event]:
    with _claimed(desk, invoices, retries=True) as (visits, events):
        for visit in visits:
            visit.read_back()
        _pay_from_balance(desk, account_id, visits)
        _settle(visits, events)
    return events


def _charge_account(desk: Desk, account_id: str, invoices: Sequence[str]) -> list[Event]:
    with _claimed(desk, invoices, retries=False) as (visits, events):
        _settle(visits, events)
    return events


def _settle(visits: Sequence[Visit], events: list[Event]) -> None:
    for visit in visits:
        visit.settle()
        visit.finish()
        events += visit.events


def _pay_from_balance(desk: Desk, account_id: str, visits: Sequence[Visit]) -> None:
    """Pay, oldest first, what the balance covers wholly; it is kept for one whose intent still lives."""
    kept = 0
    for visit in visits:
        due = visit.case.due_minor
        if due <= 0:
            continue
        with desk.book.read() as con:
            balance = balance_of(con, account_id)
        if balance - kept < due:
            continue
        visit.use_balance()
        if visit.case.intent is not None:
            kept += due


@contextmanager
def _claimed(desk: Desk, invoices: Sequence[str], *, retries: bool) -> Iterator[tuple[list[Visit], list[Event]]]:
    visits: list[Visit] = []
    events: list[Event] = []
    with ExitStack() as claims:
        for invoice in invoices:
            if claims.enter_context(desk.book.claim(claim_of(invoice))):
                visits.append(Visit(desk, invoice, retries=retries))
            else:
                events.append(Event("busy", invoice, "", 0, new=False))
        yield visits, events


def _work(
    desk: Desk,
    work: Sequence[tuple[str, str]],
    account_work: Callable[[Desk, str, Sequence[str]], list[Event]],
    workers: int | None,
) -> Outcome:
    outcome = Outcome()
    accounts = _by_account(work)
    try:
        for count, events in enumerate(_spread(desk, accounts, account_work, workers or desk.workers), 1):
            for event in events:
                outcome.add(event)
            desk.home.show(count, len(accounts), "cards")
    finally:
        desk.close()
    return outcome


def _spread(
    desk: Desk,
    work: Mapping[str, Sequence[str]],
    account_work: Callable[[Desk, str, Sequence[str]], list[Event]],
    workers: int,
) -> Iterator[list[Event]]:
    if workers == 1:
        for account_id, invoices in work.items():
            yield account_work(desk, account_id, invoices)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting = (pool.submit(account_work, desk, account, invoices) for account, invoices in work.items())
        running = set(islice(waiting, workers * AHEAD))
        try:
            while running:
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                running |= set(islice(waiting, len(ended)))
                for task in ended:
                    yield task.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _by_account(work: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for account_id, invoice in work:
        found[account_id].append(invoice)
    return found


def _money(amounts: Mapping[str, int]) -> list[str]:
    return [f"{format_money(amount, code)} {code}" for code, amount in sorted(amounts.items()) if code]


def claim_of(invoice: str) -> str:
    """The name under which a run holds an invoice's payment."""
    return f"payment of {invoice}"
