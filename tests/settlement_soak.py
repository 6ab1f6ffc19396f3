"""Settlement under everything that can go wrong, and an independent look at what came of it.

    PYTHONPATH=tests python -m settlement_soak --server fake --invoices 1000 --seed 1
    PYTHONPATH=tests python -m settlement_soak --server localstripe --invoices 1000 --seed 1
    PYTHONPATH=tests python -m settlement_soak --ledger postgresql --invoices 300 --seed 1

Six months are closed by processes of their own, which are killed, stopped, hindered and doubled, while the network
loses, delays, repeats and garbles, and a ledger's server dies and comes back. A seed fixes every fault, kill and limit;
with one worker, and without the scenes in which two run at once, it replays a run request by request.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import signal
import sqlite3
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from homes import _SERVER, KILLED, PRELOADED, PRICES, Home
from ledgers import DEFAULT_URL, POSTGRESQL, SQLITE
from postgres_server import Server
from stripe_fake import OVERCHARGING, Capture, Stripe
from stripe_local import local_stripe
from stripe_network import FAULTS, WRITES_ONLY, Network

_SERVER.set_forkserver_preload([*PRELOADED, "settlement_soak"])
MONTHS = ("2026-05", "2026-06", "2026-07", "2026-08", "2026-09", "2026-10")
LEDGER = "postgres"
"""The database of a ledger that a server keeps."""
CARDS = {
    "fake": (
        *(["pm_card_visa"] * 28),
        *("pm_card_chargeDeclined", "pm_card_chargeDeclinedInsufficientFunds", "pm_card_chargeDeclinedLostCard"),
        *("pm_declineOnce", "pm_declineOnce", "pm_declineOnce", "pm_card_authenticationRequired", "pm_action"),
        *(OVERCHARGING, "card_of_old", ""),
    ),
    "localstripe": (*(["pm_card_visa"] * 12), "pm_card_chargeCustomerFail", ""),
}
CURRENCIES = ("USD", "USD", "USD", "EUR", "JPY", "KWD")
KILLS = (
    *("payment.before_create", "payment.after_create", "payment.before_confirm", "payment.after_confirm"),
    *("payment.before_record", "payment.after_record"),
)
CANCELS = ("payment.before_cancel", "payment.after_cancel")
SILENCE = 3.0
"""Seconds after which a runner takes the gateway's silence for no answer."""
FORGETFUL = 0.2
"""How often the gateway has forgotten its keys before a run that is killed."""
SLOW = 0.1
"""How rare a fault that takes such a silence is, once it has hit every step."""
RARE = ("cancel", "find")
"""Steps of which a run makes few requests: none is spared in a long run, until every fault has hit them."""
STEPS = ("create", "confirm", "read", *RARE)
WORKERS_KILLED = 9
"""How often one of several workers is killed, or told to end."""
LONG = 250
"""Invoices from which on every fault must have hit every step."""


@dataclass
class Settings:
    """How a runner's process is set up."""

    workers: int = 1
    busy_seconds: float = 60
    failpoint: str = ""
    limit_bytes: int = 0


def _serve(words: list[str], settings: Settings, said: str) -> None:
    """A runner: one command in a process of its own."""
    from metering.cli.app import main
    from metering.ledger import postgres, sqlite
    from metering.payments import stripe
    from metering.payments.desk import Desk

    for name in [name for name in os.environ if name.startswith("METERING_")]:
        del os.environ[name]
    os.environ["STRIPE_API_KEY"] = "sk_test_secret"  # pragma: allowlist secret; made up
    if settings.failpoint:
        os.environ["METERING_FAILPOINT"] = settings.failpoint
    stripe.TIMEOUT_SECONDS = (SILENCE, SILENCE)  # type: ignore[assignment]
    stripe.Stripe.per_second = 1000
    Desk.workers = settings.workers  # type: ignore[assignment, method-assign]
    sqlite.BUSY_SECONDS = settings.busy_seconds  # type: ignore[assignment]
    postgres.PATIENCE_SECONDS = 5
    if settings.limit_bytes:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (settings.limit_bytes, settings.limit_bytes))
    stderr = io.StringIO()
    code: Any = 1
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(stderr):
            sys.argv = ["metering", *words]
            main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc(file=stderr)
    finally:
        with suppress(OSError):
            Path(said).write_text(stderr.getvalue()[: settings.limit_bytes or None])
    os._exit(int(code or 0))


@dataclass
class Soak:
    """One soak: a home, a network, a seed."""

    home: Home
    network: Network
    server: str
    seed: int
    accounts: int
    database: Server | None = None
    """The server of the ledger; a SQLite file has none."""
    dense: float = 0.15
    """How many of the requests meet a fault while the network is bad."""
    kills: Counter[str] = field(default_factory=Counter)
    codes: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often each scene's runner ended with each exit code."""
    topped_up: list[str] = field(default_factory=list)
    months: Sequence[str] = MONTHS
    _scene: str = ""
    _runs: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    # What is given

    def prepare(self) -> None:
        """Accounts with all kinds of cards, and usage in some months."""
        self.home.file(
            "metering.toml",
            f'[payments]\ngateway = "stripe"\nrequests_per_second = 1000\nminimum_charge = {{}}\n'
            f'[payments.stripe]\napi_base = "{self.network.url}"\n[billing]\nstart = "2026-05"\n'
            f'[ledger]\nurl = "{self.database.url(LEDGER) if self.database else DEFAULT_URL}"\n',
        )
        prices = [f"snapshot.vm,,{code},{price},2026-01-01," for code, price in (("USD", "0.001"), ("EUR", "0.001"))]
        prices += ["snapshot.vm,,JPY,0.1,2026-01-01,", "snapshot.vm,,KWD,0.001,2026-01-01,"]
        self.home.file("prices.csv", "\n".join((PRICES, *prices, "")))
        rows, events = [], []
        for number in range(1, self.accounts + 1):
            card = self.rng.choice(CARDS[self.server])
            rows.append(f"{self.name(number)},{self.rng.choice(CURRENCIES)},{self.rng.choice((0, 19))},{card}")
            for month in self.months:
                ready, hours = f"{month}-02T00", self.rng.randint(1, 20)
                snapshot = f"s{number}-{month}"
                events.append(f"{ready} ready {snapshot} acc={self.name(number)} gb={self.rng.randint(900, 2000)}")
                events.append(f"{month}-02T{hours:02} deleted {snapshot}")
        self.home.accounts(*rows)
        self.home.events("\n".join(events))

    @staticmethod
    def name(number: int) -> str:
        """The name of an account."""
        return f"acc-{number:05}"

    # The scenes

    def kill_at_every_point(self, rounds: int) -> None:
        """Killed at each point of a payment, also in the run that recovers from the kill before."""
        self.home.now = "2026-06-01T08:00:00Z"
        self.run("close 2026-05", Settings(failpoint="close.after_files"))
        most = max(2, self.accounts // (2 * rounds * len(KILLS)))
        for turn in range(rounds):
            for point in self.rng.sample(KILLS, len(KILLS)):
                self.network.deliver_late(self.rng.randint(0, 3))
                if self.rng.random() < FORGETFUL:
                    self.network.forget_all_keys()
                command = "collect" if turn % 2 else "close 2026-05"
                self.run(command, Settings(failpoint=f"{point}:{self.rng.randint(1, most)}"))
        self.run("close 2026-05", Settings())

    def stopped(self) -> None:
        """One runner is stopped while it waits for the gateway, another finishes the month, then the first goes on."""
        self.home.now = "2026-07-01T08:00:00Z"
        first = self.start("close", Settings())
        self.after_requests(max(3, self.accounts // 4), lambda: os.kill(first.pid, signal.SIGSTOP))
        while first.is_alive() and not _is_stopped(first.pid):
            first.join(0.02)
        self.run("close 2026-06", Settings(workers=4))
        self.network.forget_all_keys()
        if first.is_alive():
            os.kill(first.pid, signal.SIGCONT)
        self.end("stopped", first)

    def two_at_once(self) -> None:
        """Two closes of a month at once, of which one is killed."""
        self.home.now = "2026-08-01T08:00:00Z"
        pair = [self.start("close", Settings(workers=4)) for _ in range(2)]
        self.after_requests(max(3, self.accounts // 3), pair[0].kill)
        self.end("two closes", *pair)
        self.kills["two closes"] += pair[0].exitcode == KILLED
        pair = [self.start(command, Settings(workers=4)) for command in ("close 2026-07", "collect")]
        self.end("close and collect", *pair)

    def several_workers(self) -> None:
        """Three runners charge one month; again and again one is killed or told to end, and another takes its place."""
        self.home.now = "2026-11-01T08:00:00Z"
        self.run("close", Settings(failpoint="close.after_files"))
        workers = [self.start(command, Settings(workers=4)) for command in ("close 2026-10", "collect", "collect")]
        for _ in range(WORKERS_KILLED):
            victim = self.rng.choice(workers)
            end = self.rng.choice((victim.kill, victim.kill, victim.terminate))
            self.after_requests(self.rng.randint(1, max(3, self.accounts // 8)), end)
            self.end("workers", victim)
            self.kills["workers"] += victim.exitcode == KILLED
            workers[workers.index(victim)] = self.start("collect", Settings(workers=4))
        self.end("workers", *workers)

    def hindered(self) -> None:
        """The ledger cannot be written while outcomes are recorded; the clock jumps three days."""
        self.home.now = "2026-09-01T08:00:00Z"
        self.run("close", Settings(failpoint="close.after_files"))
        if self.database:
            self.server_dies(self.database)
        else:
            self.file_is_hindered()
        self.home.now = "2026-09-04T08:00:00Z"
        self.run("collect", Settings(failpoint="payment.after_confirm:3"))
        self.home.now = "2026-09-01T09:00:00Z"
        self.run("collect", Settings())
        self.home.now = "2026-09-04T09:00:00Z"

    def file_is_hindered(self) -> None:
        """The disk is full; another program locks the ledger."""
        for limit in (200_000, 600_000, 1_500_000):
            self.run("collect", Settings(limit_bytes=limit + self.rng.randint(0, 50_000)))
        for busy in (0.2, 60):
            with self.locking(after=self.rng.randint(3, 20), free=busy == 60):
                self.run("collect", Settings(busy_seconds=busy, workers=1))

    def server_dies(self, database: Server) -> None:
        """The ledger's server crashes while several cards are charged; it comes back at once, or after the run."""
        for how in (signal.SIGQUIT, signal.SIGKILL) * 2:
            for at_once in (True, False):
                runner = self.start("collect", Settings(workers=4))

                def crash(how: int = how, at_once: bool = at_once) -> None:
                    database.crash(how)
                    if at_once:
                        database.start()

                self.after_requests(self.rng.randint(3, max(4, self.accounts // 6)), crash)
                self.end("server dies", runner)
                if not at_once:
                    database.start()

    def top_up_between(self, count: int) -> None:
        """A confirm is under way when the customer pays in; it arrives before, while or after balance takes over."""
        self.home.now = "2026-10-01T08:00:00Z"
        self.run("close", Settings(failpoint="close.after_files"))
        chosen = self.rng.sample(self.untried(), min(count, len(self.untried())))
        plan = self.network.plan
        self.network.deliver_late()
        self.network.plan = lambda step, subject, count: (
            "late" if step == "confirm" and subject.split("/")[0] in chosen else None
        )
        self.run("collect", Settings())
        rows = ["account_id,kind,amount,currency,reference,expires"]
        accounts = {row["invoice"]: row for row in self.rows("SELECT invoice, account_id, currency FROM invoices")}
        for invoice in chosen:
            row = accounts[invoice]
            rows.append(f"{row['account_id']},topup,900000,{row['currency']},top-{invoice},")
        self.topped_up += chosen
        self.home.file("funds.csv", "\n".join((*rows, "")))
        self.run(f"funds import {self.home.path / 'funds.csv'}", Settings())
        self.network.deliver_late(len(chosen) // 3)
        for point in CANCELS:
            self.run("collect", Settings(failpoint=point))
        self.network.plan = lambda step, subject, count: plan(step, subject, count) if step != "confirm" else None
        self.dense = 0.5
        self.run("collect", Settings(failpoint="payment.after_cancel:2"))
        for _ in range(2):
            self.run("collect", Settings())
        self.network.deliver_late()
        self.run("collect", Settings())
        self.network.plan = plan

    def untried(self) -> list[str]:
        """Open invoices with a good card and no attempt."""
        query = """
            SELECT s.invoice FROM invoice_status AS s
            JOIN account_versions AS a ON a.account_id = s.account_id
            WHERE s.status = 'open' AND a.payment_method = 'pm_card_visa'
                AND s.invoice NOT IN (SELECT invoice FROM payments) ORDER BY 1
        """
        return [row["invoice"] for row in self.rows(query)]

    def end_quietly(self) -> tuple[int, str]:
        """The network is well, but forgets no failure kept under a key; two runs, then a third: its POSTs and words."""
        self.network.plan = lambda step, subject, count: None
        self.network.deliver_late()
        self.home.now = "2026-11-03T08:00:00Z"
        for _ in range(2):
            self.run("collect", Settings())
        before = len(self.network.log)
        said = self.run("collect", Settings())
        return sum(step in ("create", "confirm", "cancel") for step, *_ in self.network.log[before:]), said

    # How runners are run

    def bad_network(self, step: str, subject: str, count: int) -> str | None:
        """The fault of a request, from the seed and what the request is.

        In a run that is long enough those that have not hit such a step yet come first.
        """
        rng = random.Random(f"{self.seed} {self._scene} {step} {subject} {count}")
        is_long = self.accounts * len(self.months) >= LONG
        missing = [fault for fault in can_hit(step) if not self.network.hits[fault, step]] if is_long else []
        if rng.random() >= self.dense and not (missing and step in RARE):
            return None
        if missing:
            return rng.choice(missing)
        fault = rng.choice(sorted(FAULTS))
        return None if fault == "hang" and rng.random() > SLOW else fault

    def start(self, command: str, settings: Settings) -> Any:
        """Start a runner."""
        self._runs += 1
        words = ["--home", str(self.home.path), "--now", self.home.now, *command.split()]
        process = _SERVER.Process(target=_serve, args=(words, settings, self.said(self._runs)))
        process.start()
        return process

    def said(self, run: int) -> str:
        """Where a runner's words are."""
        return str(self.home.path.with_name(f"{self.home.path.name}.said-{run}"))

    def words(self) -> Iterator[str]:
        """What every runner said."""
        for run in range(1, self._runs + 1):
            said = Path(self.said(run))
            yield said.read_text() if said.exists() else ""

    def run(self, command: str, settings: Settings) -> str:
        """Run a command to its end, whichever it is; what it said."""
        process = self.start(command, settings)
        self.end(command.split()[0], process)
        if process.exitcode == KILLED:
            self.kills[settings.failpoint.split(":")[0]] += 1
        said = Path(self.said(self._runs))
        return said.read_text() if said.exists() else ""

    def end(self, scene: str, *processes: Any) -> None:
        """Wait for runners; a traceback is never their answer."""
        for process in processes:
            process.join(600)
            assert process.exitcode is not None, f"{scene} did not end"
            self.codes[scene, process.exitcode] += 1
        self.network.on_request = lambda count: None

    def after_requests(self, count: int, act: Callable[[], object]) -> None:
        """Do something once the network has seen so many more requests."""
        target = len(self.network.log) + count
        self.network.on_request = lambda seen: act() and None if seen == target else None

    @contextmanager
    def locking(self, *, after: int, free: bool) -> Iterator[None]:
        """Another program locks the ledger after some requests: until the runner gives up, or for half a second."""
        other = sqlite3.connect(self.home.path / "ledger.db", check_same_thread=False, isolation_level=None, timeout=30)

        def lock() -> None:
            other.execute("BEGIN IMMEDIATE")
            if free:
                threading.Timer(0.5, lambda: other.execute("ROLLBACK")).start()

        self.after_requests(after, lock)
        try:
            yield
        finally:
            if other.in_transaction:
                other.execute("ROLLBACK")
            other.close()

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Rows of the ledger, read by SQLite or by PostgreSQL alone."""
        if self.database:
            return self.database.rows(query, LEDGER)
        with sqlite3.connect(f"file:{self.home.path / 'ledger.db'}?mode=ro", uri=True) as con:
            con.row_factory = sqlite3.Row
            return [dict(row) for row in con.execute(query)]

    def go(self, *, rounds: int, together: bool = True) -> Verdict:
        """All scenes, then the verdict; without `together`, only what a seed replays request by request."""
        self.months = MONTHS if together else MONTHS[:2]
        self.prepare()
        self.network.plan = self.bad_network
        self._scene = "kills"
        self.kill_at_every_point(rounds)
        if together:
            self._scene = "together"
            self.stopped()
            self.two_at_once()
            self._scene = "hindered"
            self.hindered()
        self.top_up_between(max(2, self.accounts // 3))
        if together:
            self._scene = "workers"
            self.several_workers()
        posts, said = self.end_quietly()
        self.run("verify", Settings())
        return check(self, self.network.api.captures, posts, said)


def can_hit(step: str) -> list[str]:
    """The faults that a step can meet: a request that only asks is not repeated, kept or late."""
    return sorted(FAULTS.keys() - (WRITES_ONLY if step in ("read", "find") else set()))


def _is_stopped(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"
    return False


# The checker: it knows the ledger's file and the gateway's list, and nothing else


@dataclass
class Verdict:
    """What the two records say about each other."""

    never_hit: list[str]
    """Faults that met no request of a step that they can hit; looked at where a run is long enough."""

    invoices: int
    missing: int
    """Invoices that a month should have and does not."""
    captures: int
    doubles: list[str]
    """Invoices whose card was charged more than once."""
    losses: list[str]
    """Invoices whose card was charged, and the ledger does not say so."""
    inventions: list[str]
    """Invoices that the ledger says were charged, and were not."""
    unbalanced: list[int]
    differing_totals: dict[str, tuple[int, int]]
    keys_with_two_bodies: list[str]
    unknown: list[str]
    """Invoices whose attempt is still unknown although nothing is wrong with them."""
    alarms: list[str]
    unnamed_alarms: list[str]
    paid_twice: list[str]
    """Topped up while a confirm was under way: paid by card and by balance."""
    posts_of_a_quiet_run: int
    verify: int
    tracebacks: list[str]

    @property
    def faults(self) -> list[str]:
        """The names of what must be empty and is not."""
        names = (
            "never_hit",
            "missing",
            "doubles",
            "losses",
            "inventions",
            "unbalanced",
            "differing_totals",
            "keys_with_two_bodies",
        )
        more = ("unknown", "unnamed_alarms", "paid_twice", "posts_of_a_quiet_run", "verify", "tracebacks")
        return [name for name in (*names, *more) if getattr(self, name)]


def check(soak: Soak, captures: list[Capture], posts: int, said: str) -> Verdict:
    """Compare the ledger file with the gateway's own list, both ways."""
    wrong = {
        row["account_id"]
        for row in soak.rows("SELECT account_id FROM account_versions WHERE payment_method = 'pm_overcharge'")
    }
    owner = {row["invoice"]: row["account_id"] for row in soak.rows("SELECT invoice, account_id FROM invoices")}
    alarms = sorted(
        row["invoice"]
        for row in soak.rows("SELECT invoice FROM payments WHERE status = 'unknown' AND reason LIKE 'wrong%'")
    )
    good = [capture for capture in captures if owner[capture.invoice] not in wrong]
    taken = Counter((capture.invoice, capture.amount, capture.currency.upper()) for capture in good)
    booked = Counter(
        (row["invoice"], row["amount_minor"], row["currency"])
        for row in soak.rows("SELECT invoice, amount_minor, currency FROM payments WHERE status = 'succeeded'")
    )
    totals = {
        row["currency"]: row["amount"]
        for row in soak.rows(
            "SELECT currency, sum(debit_minor - credit_minor) AS amount FROM entries"
            " WHERE ledger_account = 'gateway' GROUP BY currency"
        )
    }
    sums: Counter[str] = Counter()
    for (_, amount, currency), count in taken.items():
        sums[currency] += amount * count
    times = Counter(capture.invoice for capture in captures)
    by_balance = {
        row["invoice"]
        for row in soak.rows(
            'SELECT e.invoice FROM entries AS e JOIN transactions AS t ON t."transaction" = e."transaction"'
            " WHERE e.ledger_account = 'balance' AND e.debit_minor > 0 AND t.kind = 'balance_use'"
        )
    }
    hits = soak.network.hits
    never = [f"{fault} of {step}" for step in STEPS for fault in can_hit(step) if not hits[fault, step]]
    return Verdict(
        never_hit=never if len(owner) >= LONG else [],
        invoices=len(owner),
        missing=soak.accounts * len(soak.months) - len(owner),
        captures=len(captures),
        doubles=sorted(invoice for invoice, count in times.items() if count > 1),
        losses=sorted(invoice for invoice, *_ in taken - booked),
        inventions=sorted(invoice for invoice, *_ in booked - taken),
        unbalanced=[
            row["transaction"]
            for row in soak.rows(
                'SELECT "transaction" FROM entries GROUP BY "transaction", currency'
                " HAVING sum(debit_minor) <> sum(credit_minor)"
            )
        ],
        differing_totals={
            code: (sums[code], totals.get(code, 0))
            for code in sorted({*sums, *totals})
            if sums[code] != totals.get(code, 0)
        },
        keys_with_two_bodies=sorted(
            f"{key}: {' | '.join(sorted(bodies))}" for key, bodies in soak.network.api.bodies.items() if len(bodies) > 1
        ),
        unknown=sorted(
            row["invoice"]
            for row in soak.rows("SELECT invoice FROM payments WHERE status = 'unknown'")
            if row["invoice"] not in alarms
        ),
        alarms=alarms,
        unnamed_alarms=[invoice for invoice in alarms if f"look at {invoice}: alarm (wrong_amount)" not in said],
        paid_twice=sorted(set(soak.topped_up) & by_balance & set(times)),
        posts_of_a_quiet_run=posts,
        verify=sum(count for (scene, code), count in soak.codes.items() if scene == "verify" and code),
        tracebacks=[text for text in soak.words() if "Traceback" in text],
    )


# The command


@contextmanager
def soaking(folder: Path, *, server: str, seed: int, accounts: int, ledger: str = SQLITE) -> Iterator[Soak]:
    """A soak on servers of its own."""
    with (
        durable_server() if ledger == POSTGRESQL else nullcontext() as database,
        local_stripe() if server == "localstripe" else nullcontext() as local,
        Network(local or Stripe()).serving() as made,
    ):
        made.hang_seconds = SILENCE * 1.5
        yield Soak(Home(folder / "home"), made, server, seed, accounts, database)


@contextmanager
def durable_server() -> Iterator[Server]:
    """A PostgreSQL server that loses nothing when it dies."""
    made = Server(("shared_buffers=32MB",))
    try:
        yield made
    finally:
        made.remove()


def report(soak: Soak, verdict: Verdict) -> str:
    """Fault by step with the hits in each cell, and what came of it all."""
    hits = soak.network.hits
    lines = [f"{'fault':<18}" + "".join(f"{step:>9}" for step in STEPS)]
    for fault in FAULTS:
        cells = [str(hits[fault, step]) if fault in can_hit(step) else "·" for step in STEPS]
        lines.append(f"{fault:<18}" + "".join(f"{cell:>9}" for cell in cells))
    lines.append(
        f"\nserver {soak.server}, seed {soak.seed}: {len(soak.network.log)} requests, {sum(hits.values())} faults"
    )
    lines.append("kills: " + ", ".join(f"{point} {count}" for point, count in sorted(soak.kills.items())))
    lines.append(
        "exits: " + ", ".join(f"{scene} {code}: {count}" for (scene, code), count in sorted(soak.codes.items()))
    )
    lines.append(
        f"{verdict.invoices} invoices, {verdict.captures} captures, {len(verdict.doubles)} doubles, "
        f"{len(verdict.losses)} losses, {len(verdict.inventions)} inventions, {len(verdict.alarms)} alarms, "
        f"{len(soak.topped_up)} topped up meanwhile, {len(verdict.paid_twice)} of them paid twice"
    )
    lines.append("wrong: " + (", ".join(f"{name} {getattr(verdict, name)}" for name in verdict.faults) or "nothing"))
    return "\n".join(lines)


def main() -> int:
    """Run a soak and print its table; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=sorted(CARDS), default="fake")
    parser.add_argument("--ledger", choices=(SQLITE, POSTGRESQL), default=SQLITE)
    parser.add_argument("--invoices", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--keep", metavar="DIR", help="Leave the home there.")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        place = Path(args.keep or folder)
        accounts = -(-args.invoices // len(MONTHS))
        with soaking(place, server=args.server, seed=args.seed, accounts=accounts, ledger=args.ledger) as soak:
            verdict = soak.go(rounds=args.rounds)
            print(report(soak, verdict))
    return int(bool(verdict.faults))


if __name__ == "__main__":
    sys.exit(main())
