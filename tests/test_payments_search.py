"""Every sequence of answers, losses and crashes within bounds, one by one: no second capture, and none forgotten.

A run is told at each call what the network does to it, and at each failpoint whether it dies there. From every world
that can come of a run all that can happen next is tried: requests that were under way arrive, keys are forgotten, the
card changes, the customer pays in or acts, somebody charges or cancels at the gateway itself, a credit note is issued,
a day passes; then another run. Worlds that are the same are gone on with once.
"""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from payments_checked import every_payment_has_its_evidence, everything_is_known
from payments_fake import FakeGateway
from payments_given import DAY, INVOICE, Given

from metering.payments import charge, record
from metering.payments.charge import Visit
from metering.payments.gateway import NoAnswer
from metering.payments.states import ATTEMPT_MOVES, INTENT_MOVES, Finding, Live


class Crash(BaseException):
    """The process dies here."""


@dataclass
class Script:
    """What happens in one run: a choice at each point of it, by its place among the options; 0 is nothing unusual."""

    given: Sequence[int] = ()
    taken: list[int] = field(default_factory=list)
    options: list[Sequence[str]] = field(default_factory=list)

    def choose(self, *options: str) -> str:
        """What happens at this point."""
        place = len(self.taken)
        self.taken.append(self.given[place] if place < len(self.given) else 0)
        self.options.append(options)
        return options[self.taken[-1]]

    def others(self, most: int) -> Iterator[tuple[int, ...]]:
        """The scripts that differ from this one by one more choice, later on; with at most so many deviations.

        That a request under way arrives now is no deviation: whoever delays one must expect it at any moment.
        """
        made = [options[pick] for pick, options in zip(self.taken, self.options, strict=True)]
        left = most - sum(name not in USUAL for name in made)
        for place in range(len(self.given), len(self.taken)):
            for pick, name in enumerate(self.options[place]):
                if pick and (left or name in USUAL):
                    yield (*self.taken[:place], pick)


USUAL = ("well", "overtaken")


class Network(FakeGateway):
    """The gateway behind a network that follows a script."""

    script = Script()
    silent = False
    """Whether the network lets nothing through any more in this run."""

    def next_fault(self, name: str) -> str:
        if self.silent:
            return "request_lost"
        late = ["overtaken"] if self._late else []
        lost = ["lost"] if name in ("read", "find") else ["lost", "answer_lost", "held_up"]
        fault = self.script.choose("well", *late, *lost)
        if fault == "overtaken":
            self.deliver_late()
        self.silent = fault == "held_up"
        return {"held_up": "delayed", "lost": "request_lost"}.get(fault, fault)

    @property
    def state(self) -> tuple[Any, ...]:
        """All that it can ever tell or do."""
        return self.intents, self.captures, self._answers, self._late


@dataclass(frozen=True)
class World:
    """The ledger, the gateway and the time at one moment."""

    ledger: bytes
    gateway: bytes
    now: int


class Seen(dict):  # type: ignore[type-arg]
    """The allowed moves, and which of them were asked for."""

    def __init__(self, moves: dict[tuple[str, str], str], made: set[tuple[str, str]]) -> None:
        super().__init__(moves)
        self.made = made

    def __contains__(self, move: object) -> bool:
        self.made.add(move)  # type: ignore[arg-type]
        return super().__contains__(move)


class Search:
    """Goes through everything that can happen to one invoice."""

    def __init__(self, folder: Path, points: pytest.MonkeyPatch) -> None:
        self.given = Given(folder, gateway=Network())
        self.ledger = folder / "ledger.db"
        self.moves: set[tuple[str, str]] = set()
        self.known: set[tuple[Any, ...]] = set()
        self.converged: set[tuple[Any, ...]] = set()
        self.runs = 0
        for module in (charge, record):
            points.setattr(module, "failpoint", self.pass_point)
        for name, moves in (("ATTEMPT_MOVES", ATTEMPT_MOVES), ("INTENT_MOVES", INTENT_MOVES)):
            points.setattr(record, name, Seen(moves, self.moves))

    @property
    def gateway(self) -> Network:
        assert isinstance(self.given.gateway, Network)
        return self.given.gateway

    def pass_point(self, name: str) -> None:
        if self.gateway.script.choose("well", "dies") == "dies":
            raise Crash(name)

    # Worlds

    def save(self) -> World:
        self.gateway.script, self.gateway.silent = Script(), False
        return World(self.ledger.read_bytes(), pickle.dumps(self.gateway), self.given.now)

    def restore(self, world: World) -> None:
        self.ledger.write_bytes(world.ledger)
        self.given.gateway = pickle.loads(world.gateway)
        self.given.now = world.now

    def key(self) -> tuple[Any, ...]:
        """What tells one world from another: all that a run can ever see of it."""
        with closing(sqlite3.connect(f"file:{self.ledger}?immutable=1", uri=True)) as con:
            rows = [con.execute(query).fetchall() for query in _KEYS]
        booked = sum(amount for _, account, amount in rows[0] if account == "gateway")
        assert booked <= sum(amount for *_, amount in self.gateway.captures) <= 1000
        return repr(rows), repr(self.gateway.state), self.given.now

    # What can happen

    def begin(self, card: str) -> World:
        self.given.account(method=card, customer="cus_gone" if card == "pm_detached" else "cus_1")
        self.given.invoice(1000)
        return self.save()

    def events(self, world: World) -> Iterator[World]:
        """The world, and what becomes of it if something happens between two runs."""
        yield world
        for event in (
            *(self.late, self.forget, self.act, self.fail, self.elsewhere, self.put_aside),
            *(self.card, self.topup, self.note, self.day),
        ):
            self.restore(world)
            if event() is not False:
                yield self.save()

    def late(self) -> bool | None:
        return self.gateway.deliver_late() if self.gateway.state[-1] else False

    def forget(self) -> None:
        self.gateway.forget_keys()

    def card(self) -> None:
        """Another card; of another customer where that one is gone."""
        self.given.account(method="pm_declined" if self.given.case().payment_method == "pm_good" else "pm_good")

    def topup(self) -> bool | None:
        return self.given.topup(1500) if not self.given.balance() else False

    def note(self) -> bool | None:
        return self.given.credit_note(400) if self.given.case().receivable_minor == 1000 else False

    def act(self, succeed: bool = True) -> bool | None:
        waiting = [ref for ref, intent in self.gateway.intents.items() if intent.status == "action_required"]
        for ref in waiting:
            self.gateway.act(ref, succeed)
        return bool(waiting)

    def fail(self) -> bool | None:
        return self.act(succeed=False)

    def elsewhere(self) -> bool | None:
        """A card that was declined pays after all: the customer tries again at the gateway itself."""
        declined = [
            intent for intent in self.gateway.intents.values() if intent.status == "unconfirmed" and intent.decline
        ]
        for intent in declined:
            self.gateway.capture(intent)
        return bool(declined)

    def put_aside(self) -> bool | None:
        """Somebody cancels at the gateway itself."""
        waiting = [ref for ref, intent in self.gateway.intents.items() if intent.status == "unconfirmed"]
        for ref in waiting:
            self.gateway.cancel(ref, f"{ref}/by hand")
        return bool(waiting)

    def day(self) -> None:
        self.given.now += DAY

    def outcomes(self, world: World, deviations: int) -> Iterator[World]:
        """What can come of one run in which so many points go another way than usual."""
        scripts: list[tuple[int, ...]] = [()]
        while scripts:
            given = scripts.pop()
            self.restore(world)
            self.gateway.script = script = Script(given)
            self.runs += 1
            with suppress(Crash):
                self.given.collect()
            scripts += script.others(deviations)
            yield self.save()

    def converges(self, world: World) -> None:
        """Once the network is well, two runs know everything and a third asks only what has become of it."""
        self.restore(world)
        every_payment_has_its_evidence(self.given, self.gateway)
        self.gateway.deliver_late()
        self.given.collect()
        once = self.key()
        if once in self.converged:
            return
        self.converged.add(once)
        self.given.collect()
        everything_is_known(self.given, self.gateway, INVOICE)
        told = self.key()
        calls = len(self.gateway.calls)
        self.given.collect()
        assert self.key() == told
        assert set(self.gateway.calls[calls:]) <= {"read"}

    def go(self, card: str, *deviations: int) -> None:
        """Everything that can happen in as many runs, each with so many deviations."""
        frontier = [self.begin(card)]
        for turn, most in enumerate(deviations):
            found: dict[tuple[Any, ...], World] = {}
            for world in frontier:
                for changed in self.events(world) if turn else [world]:
                    for outcome in self.outcomes(changed, most):
                        found.setdefault(self.key(), outcome)
            new = [world for key, world in found.items() if key not in self.known]
            self.known |= found.keys()
            for world in new:
                self.converges(world)
            frontier = new


_KEYS = (
    "SELECT invoice, ledger_account, sum(debit_minor - credit_minor) FROM entries GROUP BY 1, 2 ORDER BY 1, 2",
    """
    SELECT payment, intent, payment_method, amount_minor, status, iif(status = 'unknown', 0, reason), retryable, charge,
        created_at, settled_at
    FROM payments ORDER BY 1
    """,
    "SELECT intent, gateway_ref, customer, amount_minor, state FROM intents ORDER BY 1",
    "SELECT payment_method FROM account_versions ORDER BY version DESC LIMIT 1",
)


CARDS = {"pm_good": 1, "pm_action": 1, "pm_declined": 0, "pm_detached": 0}
"""Each kind of card with the deviations of its first run in the short search."""


def test_no_sequence_charges_twice_or_forgets(tmp_path: Path) -> None:
    """A deviation, then anything, then another run: every move that is allowed is made on the way, and no other."""
    moves: set[tuple[str, str]] = set()
    for card, deviations in CARDS.items():
        with pytest.MonkeyPatch.context() as points:
            search = Search(tmp_path / card, points)
            search.go(card, deviations, 0)
            moves |= search.moves
    assert moves == {*ATTEMPT_MOVES, *INTENT_MOVES}


def believes_the_cancellation(visit: Visit, live: Live, _: str) -> None:
    """It does not read back whether the intent is cancelled."""
    visit._record(live, Finding("cancelled"))


def takes_silence_for_a_decline(visit: Visit, live: Live, ref: str) -> None:
    """What got no answer is not read back."""
    try:
        CONFIRM(visit, live, ref)
    except NoAnswer:
        visit._record(live, Finding("declined", "no_answer"))


CONFIRM = Visit._confirm


@pytest.mark.parametrize(
    ("step", "sin"),
    [
        ("_cancel", believes_the_cancellation),
        ("_read", believes_the_cancellation),
        ("_confirm", takes_silence_for_a_decline),
    ],
)
def test_a_sin_is_found(tmp_path: Path, step: str, sin: Callable[[Visit, Live, str], None]) -> None:
    with pytest.MonkeyPatch.context() as points:
        search = Search(tmp_path / "home", points)
        points.setattr(Visit, step, sin)
        with pytest.raises(AssertionError):
            search.go("pm_good", 1, 0)


@pytest.mark.soak
@pytest.mark.parametrize("deviations", [(2, 1), (1, 1, 0)])
@pytest.mark.parametrize("card", CARDS)
def test_no_longer_sequence_charges_twice_or_forgets(tmp_path: Path, card: str, deviations: tuple[int, ...]) -> None:
    with pytest.MonkeyPatch.context() as points:
        search = Search(tmp_path / "home", points)
        search.go(card, *deviations)
        print(f"{card} {deviations}: {len(search.known)} worlds after {search.runs} runs")
    assert search.moves <= {*ATTEMPT_MOVES, *INTENT_MOVES}
