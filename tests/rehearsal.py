"""Years of nights and closes in minutes, with everything that goes wrong, and a tally that must agree.

    PYTHONPATH=tests:. python tests/rehearsal.py --years 2 --seed 7

It begins with the home of an earlier version, which is upgraded. Then nights, closes, decisions and upkeep follow
as a calendar has them; some are missed, many are killed (`kill -9` at a named point, or at any moment) or meet a full
disk, and are run again as an operator would. At the end `verify` must be clean, every invoice must explain itself,
what was explained early must read the same, and what was billed must be what `rehearsal_world.py` says it costs.
The seed decides what happens; where a kill at any moment lands differs, what comes of it must not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from tempfile import mkdtemp

from homes import FUNDS, KILLED, PRICES, Home, Result
from rehearsal_world import DIGITS, Account, Key, Price, Snapshot, World, half_up, instant

FIXTURES = Path(__file__).parent / "fixtures"
BEGIN = date(2026, 7, 1)
"""The day on which the fixture's home ends."""
FIRST_MONTH = "2026-05"
PATIENCE = 900
"""Seconds after which a command hangs; the machine may have much else to do."""
LEAST_FILE = 2_000
"""A disk that is full after so many bytes of any file hinders nearly everything."""
ACCOUNTS = [
    Account("acc-1", "USD", "20", ""),
    Account("acc-2", "KWD", "0", ""),
    Account("acc-3", "USD", "0", ""),
    Account("acc-calm", "USD", "7.5", "pm_card_visa"),
    Account("acc-late", "EUR", "19", "pm_card_visa", "late", 3),
    Account("acc-row", "GBP", "20", "pm_card_visa", "corrected"),
    Account("acc-poor", "GBP", "0", "pm_card_chargeDeclined", "corrected", 1),
    Account("acc-tiny", "USD", "0", "pm_card_visa", "tiny", 1),
    Account("acc-yen", "JPY", "10", "pm_sandbox_lostAnswer", "late", 1),
    Account("acc-safe", "EUR", "0", "pm_card_authenticationRequired", "late", 1),
    Account("acc-top", "KWD", "5", "", "late", 1),
    Account("acc-new", "USD", "0", "pm_card_visa", "late", 1),
]
"""The first three are the fixture's; acc-new is imported weeks after its first event."""
START_PRICES = [
    Price("snapshot.vm", "", "USD", "0.000068", date(2026, 1, 1)),
    Price("snapshot.volume", "eu", "KWD", "0.00005", date(2026, 1, 1)),
]
"""The fixture's."""
RATES = {"USD": "0.000068", "EUR": "0.000061", "GBP": "0.000055", "JPY": "0.0102", "KWD": "0.000021"}
POINTS = {
    "nightly": (
        *("lake.before_commit", "lake.after_commit", "identities.after_run", "inbox.before_move", "inbox.during_move"),
        *("payment.before_create", "payment.after_create", "payment.before_confirm", "payment.after_confirm"),
        *("payment.before_record", "payment.after_record", "sandbox.before_capture", "sandbox.after_capture"),
        *("notices.before_told", "notices.before_shown", "ledger.before_archive"),
    ),
    "compact": ("compact.before_swap", "compact.after_swap", "archive.before_swap", "archive.after_swap"),
    "upgrade": ("upgrade.before_commit",),
    "restore": ("restore.after_ledger", "restore.before_take_over", "restore.after_take_over"),
}
POINTS["close"] = (
    *("close.before_commit", "close.after_commit", "close.during_files", "close.after_files"),
    *POINTS["nightly"],
)


class Broken(AssertionError):
    """Something that must hold does not."""


@dataclass
class Rehearsal:
    """A home and the provider whose events it takes, day by day."""

    home: Home
    world: World
    random: Random
    calm: bool = False
    say: Callable[[str], None] = print
    every: int = 1
    """Days between nights."""
    upkeep: int = 7
    """Days from upkeep to upkeep."""
    keep: int = 2
    """Invoices of each close whose explanation and document are kept."""
    wild: bool = True
    """Whether some are killed at any moment, and not only at named points."""
    count: Counter[str] = field(default_factory=Counter)
    points: set[str] = field(default_factory=set)
    kept: dict[str, str] = field(default_factory=dict)
    """What some invoices said when they were issued."""
    imported: set[str] = field(default_factory=lambda: {"acc-1", "acc-2", "acc-3"})
    paid_in: Counter[str] = field(default_factory=Counter)
    """Top-ups and credits in minor units, by account."""
    gifts: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """What corrections moved, by invoice and kind, in minor units."""
    disputes: dict[str, date] = field(default_factory=dict)
    given_back: set[str] = field(default_factory=set)
    """Payments that were disputed after a void had given them back: what the bank then takes is a loss."""
    months: list[str] = field(default_factory=lambda: ["2026-05", "2026-06"])

    # Commands, and what hinders them

    def do(self, *args: str, codes: tuple[int, ...] = (0,), hinder: float = 0.0) -> Result:
        """Run a command until it ends by itself, some times hindered first."""
        name = args[0]
        while not self.calm and self.random.random() < hinder:
            self._hinder(name, args)
        done = self.home.run(*args, exit_code=None)
        if done.exit_code not in codes:
            raise Broken(f"{self.home.now}: {' '.join(args)}: {done}")
        return done

    def _hinder(self, name: str, args: tuple[str, ...]) -> None:
        kind = self.random.random()
        if kind < 0.2:
            limit = self.random.choice((LEAST_FILE, 20_000, 200_000))
            done = self.home.run_apart(*args, limit_bytes=limit, seconds=PATIENCE)
            self.count["full disks"] += done.exit_code == 1
            if done.exit_code not in (0, 1, 3) or "Traceback" in done.stderr:
                raise Broken(f"{self.home.now}: {' '.join(args)} on a full disk: {done}")
        elif kind < 0.45 and self.wild:
            moment = self.random.random()
            process = self.home.start(*args)
            process.join(moment)
            if process.exitcode is None and process.pid:
                os.kill(process.pid, signal.SIGKILL)
            process.join()
            self.count["kills at any moment"] += process.exitcode == KILLED
        else:
            point = self.random.choice(POINTS.get(name, ("ledger.before_archive",)))
            done = self.home.run_apart(
                *args, failpoint=f"{point}:{self.random.choice((1, 1, 1, 2, 3))}", seconds=PATIENCE
            )
            if done.exit_code == KILLED:
                self.count["kills at named points"] += 1
                self.points.add(point)
            elif done.exit_code not in (0, 3):
                raise Broken(f"{self.home.now}: {' '.join(args)} with {point}: {done}")

    # The calendar

    def play(self, until: date) -> None:
        """Every day up to one; the last weeks tell all that was late."""
        day, off = BEGIN, 0
        while day < until:
            self.world.live(day, settles=(until - day).days < 35)
            day += timedelta(days=1)
            if day >= until:
                self.world.waiting = [(day, event) for _, event in self.world.waiting]
            self._drop(day)
            off = max(off - 1, 0)
            if (not off and self.random.random() < 0.01) or (day.month == 12 and day.day == 28):
                off = 7
            self.count["days"] += 1
            last = day >= until
            if off and not last:
                self.count["missed nights"] += 1
                continue
            self._at(day, "02:15")
            if self.random.random() < 0.04 and not last:
                self.count["missed nights"] += 1
            elif last or (day - BEGIN).days % self.every == 0:
                self._night()
            if f"{day - timedelta(days=day.day):%Y-%m}" not in self.months:
                self._close(day)
            self._decide(day)
            if (day - BEGIN).days % self.upkeep == 4:
                self._upkeep(day)

    def _at(self, day: date, hour: str) -> None:
        self.home.now = f"{day}T{hour}:00Z"

    def _drop(self, day: date) -> None:
        lines = self.world.lines(day)
        if self.random.random() < 0.1:
            lines.append(self.random.choice(('{"no": "event"}', "{", '{"specversion":"1.0","id":"bad"}', "[]")))
            self.count["bad lines"] += 1
        if lines:
            text = "".join(f"{line}\n" for line in lines)
            self.home.file(f"inbox/{day}.jsonl", text)

    def _night(self) -> None:
        self.do("nightly", codes=(0, 3), hinder=0.1)
        self.count["nights"] += 1

    def _close(self, day: date) -> None:
        self._at(day, "04:15")
        if self.random.random() < 0.2:
            self.do("close", "--dry-run", codes=(0, 3))
        self.do("close", codes=(0, 3), hinder=0.5)
        self.count["closes"] += 1
        closed = [row["month"] for row in self.home.ledger("closes")]
        missing = [month for month in _months(FIRST_MONTH, day) if month not in closed]
        if missing:
            raise Broken(f"{self.home.now}: {missing} are not closed")
        self.months = closed
        self._customers_act()
        invoices = self.home.report("invoices", "--month", closed[-1])
        for row in self.random.sample(invoices, min(self.keep, len(invoices))):
            self._keep(row["invoice"])
        self.say(f"{closed[-1]}: {self._billed(invoices)}")

    def _billed(self, invoices: list[dict[str, str]]) -> str:
        sums: defaultdict[str, Decimal] = defaultdict(Decimal)
        for row in invoices:
            sums[row["currency"]] += Decimal(row["total"])
        return f"{len(invoices):>3} invoices, " + ", ".join(f"{sums[name]:>9,} {name}" for name in sorted(sums))

    def _keep(self, invoice: str) -> None:
        self.kept[invoice] = self.do("explain", invoice).stdout
        self.kept[f"{invoice}.html"] = self._document(invoice)

    def _document(self, invoice: str) -> str:
        return self.do("invoice", invoice, "--format", "html", "--as-issued").stdout

    def _customers_act(self) -> None:
        """Customers pass 3-D Secure, of which only the gateway knows."""
        from metering.payments.sandbox import Sandbox
        from metering.values import parse_instant

        sandbox = Sandbox(self.home.path / "sandbox", lambda: parse_instant(self.home.now))
        for row in self.home.report("payments"):
            if row["status"] == "action_required" and self.random.random() < 0.7:
                sandbox.complete_action(row["gateway_ref"])
                self.count["3-D Secure"] += 1
        sandbox.close()

    # What people decide

    def _decide(self, day: date) -> None:
        self._at(day, "10:00")
        if day == BEGIN + timedelta(days=1):
            self._accounts([a for a in ACCOUNTS if a.card or a.id == "acc-top"], without="acc-new")
        if day == BEGIN + timedelta(days=40):
            self._accounts([a for a in ACCOUNTS if a.id == "acc-new"])
        if day.day in (5, 6, 7) and len(self.imported) > 3:
            self._funds(day)
        if day.day in (9, 10) and day.month % 3 == 0 and day.month != self.count["last price change"]:
            self.count["last price change"] = day.month
            self._price(day)
        if self.random.random() < 0.2 / self.every:
            self._correct(day)
        for payment, opened in [*self.disputes.items()]:
            if (day - opened).days > 20:
                self._end_dispute(payment)

    def _accounts(self, accounts: list[Account], without: str = "") -> None:
        rows = [a for a in accounts if a.id != without]
        self.home.accounts(*(f"{a.id},{a.currency},{a.tax_rate},{a.card}" for a in rows))
        self.imported |= {a.id for a in rows}
        self.count["account imports"] += 1

    def _funds(self, day: date) -> None:
        account = self.random.choice([a for a in ACCOUNTS if a.id in self.imported and a.temper != "tiny"])
        amount = self.random.randrange(100, 5000) * (10 if account.currency == "KWD" else 1)
        kind = self.random.choice(("topup", "topup", "credit"))
        expires = str(day + timedelta(days=self.random.randrange(40, 200))) if kind == "credit" else ""
        major = _major(amount, account.currency)
        row = f"{account.id},{kind},{major},{account.currency},ref-{day},{expires}"
        path = self.home.file("funds.csv", f"{FUNDS}\n{row}\n")
        self.do("funds", "import", str(path), hinder=0.3)
        self.paid_in[account.id] += amount
        self.count[f"{kind}s"] += 1

    def _price(self, day: date) -> None:
        """A price from a later day on; or, in other quarters, one for the month closed last, which is accepted."""
        currency = self.random.choice(("EUR", "USD", "GBP"))
        rate = Decimal(RATES[currency]) + Decimal(self.random.randrange(1, 20)) / 10**6
        sku, region = self.random.choice(("snapshot.vm", "snapshot.volume")), self.random.choice(("eu", "us", ""))
        again = self.random.random() < 0.5
        month = self.months[-1]
        if again:
            currency, since = "EUR", date.fromisoformat(f"{month}-{self.random.randrange(1, 28):02}")
        else:
            since = day + timedelta(days=self.random.randrange(3, 20))
        self.world.prices.append(Price(sku, region, currency, str(rate), since))
        self.prices()
        self.count["price changes"] += 1
        if again and self.home.run("prices", "check", exit_code=None).exit_code:
            self.do("prices", "reprice", month, "--reason", "as agreed")
            self.count["repriced months"] += 1

    def prices(self) -> None:
        """Write the price list."""
        rows = [f"{p.sku},{p.region},{p.currency},{p.price},{p.since}," for p in self.world.prices]
        self.home.file("prices.csv", "\n".join((PRICES, *rows, "")))

    def _correct(self, day: date) -> None:
        mine = {a.id for a in ACCOUNTS if a.temper == "corrected"}
        invoices = [
            row for row in self.home.report("invoices") if row["account_id"] in mine and Decimal(row["total"]) > 1
        ]
        if not invoices:
            return
        row = self.random.choice(invoices[-6:])
        payments = [
            p["payment"]
            for p in self.home.report("payments", "--account", row["account_id"])
            if p["invoice"] == row["invoice"] and p["status"] == "succeeded"
        ]
        number, some = row["invoice"], self.random.randrange(1, 100)
        amount = _major(some, row["currency"])
        deeds: list[tuple[str, tuple[str, ...], int]] = [
            ("credit notes", ("credit-note", number, "--amount", amount, "--reason", "slow"), some),
            ("voids", ("void", number, "--reason", "wrong"), 0),
            ("voids, billed again", ("void", number, "--rebill", "--reason", "wrong address"), 0),
            ("write-offs", ("write-off", number, "--reason", "gone"), _minor(row["amount_due"], row["currency"])),
        ]
        for payment in payments:
            deeds += [
                ("refunds", ("refund", payment, "--amount", amount), some),
                ("refunds to cards", ("refund", payment, "--amount", amount, "--to-card"), some),
                ("disputes", ("dispute", payment, "--opened"), 0),
            ]
        kind, words, moved = self.random.choice(deeds)
        if self.do(*words, codes=(0, 2)).exit_code == 0:
            self.count[kind] += 1
            self.gifts[number][kind] += moved
            if kind == "disputes":
                self.disputes[words[1]] = day
                if row["status"] == "void":
                    self.given_back.add(words[1])

    def _end_dispute(self, payment: str) -> None:
        outcome = self.random.choice(("--won", "--lost"))
        before = self._lost(payment)
        if self.do("dispute", payment, outcome, codes=(0, 2)).exit_code == 0:
            self.count[f"disputes {outcome[2:]}"] += 1
            row = next(p for p in self.home.report("payments") if p["payment"] == payment)
            kind = "lost after the void" if payment in self.given_back else "lost"
            self.gifts[row["invoice"]][kind] += self._lost(payment) - before
        del self.disputes[payment]

    def _lost(self, payment: str) -> int:
        """What the ledger booked as lost in disputes of a payment."""
        rows = self.home.ledger("corrections")
        return sum(r["amount_minor"] for r in rows if r["payment"] == payment and r["outcome"] == "lost")

    # Upkeep

    def _upkeep(self, day: date) -> None:
        self._at(day, "12:00")
        self.do("compact", "--least", "4", hinder=0.2)
        self.do("gc", "--grace", "0", hinder=0.1)
        if day.month % 3 == 0 and day.day <= 7:
            self.do("compact", "--archive-before", self.months[-1], "--to", str(self.outside), hinder=0.2)
            self.count["archived quarters"] += 1
        self.count["upkeeps"] += 1
        if day.day > 7:
            return
        self.verify()
        place = self.home.path.with_name(f"kept-{day}.tar.zst")
        self.do("backup", str(place))
        self.count["backups"] += 1
        if day.month % 4 == 0:
            self._lose(place, day)
        place.unlink()

    def _lose(self, place: Path, day: date) -> None:
        """The ledger is lost, or put back from a copy that is older than a night; or the backup is proved elsewhere."""
        self.count["restores"] += 1
        ledger = self.home.path / "ledger.db"
        chance = self.random.randrange(3)
        if chance == 0:
            other = Home(self.home.path.with_name("other"), now=self.home.now)
            shutil.rmtree(other.path)
            other.run("restore", str(place))
            other.run("verify")
            if other.report("invoices") != self.home.report("invoices"):
                raise Broken(f"{day}: the backup tells of other invoices")
            shutil.rmtree(other.path)
            return
        older = ledger.read_bytes()
        self._at(day, "13:00")
        self.do("nightly", codes=(0, 3))
        for suffix in ("", "-wal", "-shm"):
            ledger.with_name(f"ledger.db{suffix}").unlink(missing_ok=True)
        if chance == 1:
            ledger.write_bytes(older)
            ledger.chmod(0o600)
        self.do("restore", codes=(0, 3), hinder=0.5)
        self.verify()

    @property
    def outside(self) -> Path:
        """Where raw lines go that the lake need not have."""
        return self.home.path.with_name("outside")

    def upgrade(self) -> None:
        """Bring the fixture's home to this version."""
        self.do("upgrade", hinder=0.7)
        self.count["upgrades"] += 1

    # What must hold

    def verify(self) -> None:
        """No invariant is broken."""
        done = self.do("verify", codes=(0, 3))
        if done.exit_code:
            raise Broken(f"{self.home.now}: verify: {done.stdout}")
        self.count["clean verifies"] += 1

    def prove(self) -> None:
        """Everything, at the end."""
        self.verify()
        invoices = self.home.report("invoices")
        for row in invoices:
            said = self.do("explain", row["invoice"], codes=(0, 3))
            if said.exit_code:
                raise Broken(f"{row['invoice']} explains itself otherwise: {said.stdout}")
            if self.kept.get(row["invoice"], said.stdout) != said.stdout:
                raise Broken(f"{row['invoice']} is explained in other words than when it was issued")
            self.count["explained"] += 1
        for name, text in self.kept.items():
            if name.endswith(".html") and text != self._document(name.removesuffix(".html")):
                raise Broken(f"{name} is not what was issued")
        self.prove_lines()
        self.prove_totals(invoices)
        self.prove_money(invoices)
        self.prove_usage()

    def prove_lines(self) -> None:
        """Per account, month, SKU, region and price: all lines together are what the usage costs."""
        again = {n for n, moved in self.gifts.items() if "voids, billed again" in moved}
        billed: defaultdict[Key, int] = defaultdict(int)
        for line in self.home.report("invoice-lines"):
            if line["invoice"] not in again:
                key = Key(
                    *(line[name] for name in ("account_id", "month", "sku", "region")),
                    Decimal(line["price_per_gb_hour"]),
                )
                billed[key] += _minor(line["amount"], line["currency"])
        wanted = self.world.tally(self.months, self.imported)
        for key in sorted({*billed, *wanted}, key=str):
            if billed.get(key, 0) != wanted.get(key, 0):
                raise Broken(f"{key}: billed {billed.get(key, 0)}, it costs {wanted.get(key, 0)}")
        self.count["tallied keys"] = len(wanted)
        self.count["tallied account-months"] = len({(key.account, key.month) for key in wanted})

    def prove_totals(self, invoices: list[dict[str, str]]) -> None:
        """Each total is the sum of its lines and their tax, rounded once for usage and once for adjustments."""
        rates = {a.id: Fraction(a.tax_rate) / 100 for a in ACCOUNTS}
        sums: defaultdict[tuple[str, str], int] = defaultdict(int)
        for line in self.home.report("invoice-lines"):
            sums[line["invoice"], line["kind"]] += _minor(line["amount"], line["currency"])
        for row in invoices:
            parts = [sums[row["invoice"], kind] for kind in ("usage", "adjustment")]
            total = sum(part + half_up(part * rates[row["account_id"]]) for part in parts)
            if total != _minor(row["total"], row["currency"]):
                raise Broken(f"{row['invoice']}: {row['total']} instead of {total} minor units")

    def prove_money(self, invoices: list[dict[str, str]]) -> None:
        """Per account: what was invoiced and stands = what came in − what is left + what is owed."""
        stands: Counter[str] = Counter()
        account_of = {row["invoice"]: row["account_id"] for row in invoices}
        void = {row["invoice"] for row in invoices if row["status"] == "void"}
        for row in invoices:
            if row["invoice"] not in void:
                moved = self.gifts[row["invoice"]]
                stands[row["account_id"]] += _minor(row["total"], row["currency"])
                stands[row["account_id"]] -= moved["credit notes"] + moved["write-offs"]
        came = Counter(self.paid_in)
        for capture in self.home.captures():
            came[account_of[capture["invoice"]]] += _minor(capture["amount"], capture["currency"])
        for invoice, moved in self.gifts.items():
            if invoice in void:
                came[account_of[invoice]] -= moved["refunds to cards"] + moved["lost"]
            else:
                came[account_of[invoice]] += moved["refunds"]
        for entry in self.home.report("ledger"):
            if entry["kind"] == "credit_lapse" and entry["account_id"] and entry["ledger_account"] == "credit":
                came[entry["account_id"]] -= _minor(entry["debit"], entry["currency"])
        for row in self.home.report("balances"):
            left = _minor(row["balance"], row["currency"]) + _minor(row["credit"], row["currency"])
            account = row["account_id"]
            if stands[account] != came[account] - left + _minor(row["owed"], row["currency"]):
                raise Broken(f"{account}: {stands[account]} stand, {came[account]} came in, left and owed: {row}")
        self.count["tallied purses"] = len(stands)

    def prove_usage(self) -> None:
        """GB-hours as known now are those that happened, to the ninth decimal."""
        from rehearsal_world import GB_HOUR, bounds

        wanted: defaultdict[tuple[str, str], int] = defaultdict(int)
        for s in self.world.snapshots:
            for month in self.months:
                first, after = bounds(month)
                cuts = [(max(at, first), size) for at, size in s.sizes]
                ends = [min(end, s.end or after, after) for end in (*(at for at, _ in cuts[1:]), after)]
                wanted[month, s.account] += sum(
                    size * max(0, end - at) for (at, size), end in zip(cuts, ends, strict=True)
                )
        rows = self.home.report("usage", "--to", self.months[-1])
        found = {(row["month"], row["account_id"]): row["gb_hours"] for row in rows}
        for key, used in wanted.items():
            text = f"{Decimal(half_up(Fraction(used * 10**9, GB_HOUR))).scaleb(-9):.9f}"
            if used and found.get(key) != text:
                raise Broken(f"{key}: {found.get(key)} GB-hours instead of {text}")

    def summary(self, seconds: float) -> str:
        """What happened, for people."""
        world, count = self.world.count, self.count

        def told(*names: str) -> str:
            return ", ".join(f"{count[name]:,} {name}" for name in names if count[name])

        size = sum(path.stat().st_size for path in self.home.path.rglob("*") if path.is_file())
        files = sum(path.is_file() for path in (self.home.path / "lake").rglob("*"))
        corrections = (
            *("credit notes", "voids", "voids, billed again", "write-offs", "refunds", "refunds to cards"),
            *("disputes", "disputes won", "disputes lost"),
        )
        rows = {
            "the calendar": told("days", "nights", "missed nights", "closes"),
            "hindered by": f"{told('kills at named points', 'kills at any moment', 'full disks')}"
            f" ({len(self.points)} different points)",
            "came in": f"{world['events']:,} events, {world['late']:,} of them late, {world['retracted']} taken back,"
            f" {world['repeats']} repeats, {told('bad lines')}",
            "decided": told("account imports", "topups", "credits", "price changes", "repriced months", "3-D Secure"),
            "corrected": told(*corrections),
            "kept": told("upkeeps", "backups", "restores", "upgrades", "archived quarters"),
            "left behind": f"{files:,} files in the lake, {size / 10**6:,.1f} MB in all",
            "verify": f"clean, {count['clean verifies']} times",
            "explain": f"{count['explained']} of {count['explained']} invoices,"
            f" {len(self.kept) // 2} of them to the byte as when they were issued",
            "tally": f"{count['tallied account-months']} account-months in {count['tallied keys']} kinds of line,"
            f" {count['tallied purses']} purses: no difference",
            "took": f"{seconds:,.0f} s of CPU",
        }
        return "\n".join(f"  {name:<13} {text}" for name, text in rows.items())


def prepare(folder: Path, seed: int, **options: object) -> Rehearsal:
    """The oldest fixture's home, and a provider who goes on where it ends."""
    archive = min(FIXTURES.glob("home-*.tar.gz"))
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "home", filter="data")
    home = Home(folder / "home", now=f"{BEGIN}T09:00:00Z")
    (home.path / "inbox").mkdir(exist_ok=True)
    random = Random(seed)
    prices = [*START_PRICES]
    prices += [
        Price(f"snapshot.{kind}", "", currency, rate, date(2026, 1, 1))
        for currency, rate in RATES.items()
        for kind in ("vm", "volume")
        if not (currency == "USD" and kind == "vm")
    ]
    world = World(Random(random.random()), ACCOUNTS, prices, _of_the_fixture())
    made = Rehearsal(home, world, random, **options)  # type: ignore[arg-type]
    made.paid_in["acc-1"] += 150
    made.gifts["INV-2026-05-000001"]["credit notes"] += 100
    return made


def _of_the_fixture() -> list[Snapshot]:
    """As `make_fixture_home.py` tells."""

    def at(month: int, day: int) -> int:
        return instant(date(2026, month, day))

    sizes = {number: [(at(5, number), gigabytes * 10**9)] for number, gigabytes in ((1, 100), (2, 50), (3, 70))}
    sizes[1].append((at(5, 20), 150 * 10**9))
    s1 = Snapshot("s1", "acc-1", "eu", "vm", "vm-of-s1", at(5, 1), sizes[1])
    s2 = Snapshot("s2", "acc-2", "eu", "volume", "vm-of-s2", at(5, 2), sizes[2], at(5, 25))
    return [s1, s2, Snapshot("s3", "acc-3", "eu", "vm", "vm-of-s3", at(5, 3), sizes[3])]


def rehearse(folder: Path, seed: int, until: date, **options: object) -> Rehearsal:
    """Play up to the first of a month, and prove it."""
    made = prepare(folder, seed, **options)
    made.upgrade()
    made.prices()
    made.play(until)
    made.prove()
    return made


def _months(first: str, until: date) -> list[str]:
    day, found = date.fromisoformat(f"{first}-01"), []
    while (day + timedelta(days=31)).replace(day=1) <= until:
        found.append(f"{day:%Y-%m}")
        day = (day + timedelta(days=31)).replace(day=1)
    return found


def _minor(text: str, currency: str) -> int:
    return int(Decimal(text).scaleb(DIGITS.get(currency, 2)))


def _major(minor: int, currency: str) -> str:
    return f"{Decimal(minor).scaleb(-DIGITS.get(currency, 2)):f}"


def _print(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Run it as asked; exit 1 if something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--years", type=int, default=2)
    parser.add_argument("--months", type=int, default=0, help="in place of years")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--every", type=int, default=1, help="days from night to night")
    parser.add_argument("--calm", action="store_true", help="nothing is killed, no disk is full")
    parser.add_argument("--folder", type=Path, help="kept; left out, a temporary one")
    asked = parser.parse_args()
    folder = asked.folder or Path(mkdtemp(prefix="rehearsal-"))
    months = asked.months or 12 * asked.years
    end = BEGIN.month - 1 + months
    until = date(BEGIN.year + end // 12, end % 12 + 1, 1)
    print(f"{months} months from {BEGIN}, seed {asked.seed}, in {folder}", flush=True)
    try:
        made = rehearse(folder, asked.seed, until, calm=asked.calm, every=asked.every, say=_print)
    except Broken as error:
        print(f"DOES NOT HOLD: {error}\nThe home stays in {folder}.", file=sys.stderr)
        return 1
    used = os.times()
    print(made.summary(used.user + used.system + used.children_user + used.children_system))
    if asked.folder is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
