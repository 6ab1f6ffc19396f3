"""The page: what each section shows, and from which report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from metering.dashboard.charts import Chart, columns, parts, share
from metering.dashboard.figures import Figure, Figures, Question, distinct
from metering.documents.html import environment
from metering.home import Home
from metering.reports.catalog import reports
from metering.values import Month, format_instant

MONTHS = 12
TOP = 10
FEW = 5
CURRENCIES = 6
"""Charts are drawn for so many currencies, those with the most invoices first."""
AGES = {
    "current": "under 30 days",
    "days_30": "30 to 59 days",
    "days_60": "60 to 89 days",
    "days_90": "90 days and more",
}
FLOW = (
    ("subtotal", "Lines", "subtotal"),
    ("tax", "Tax", "tax"),
    ("total", "Invoiced", "total"),
    ("brought_forward", "Brought forward", "brought_forward"),
    ("credit", "Paid from credit", "credit_applied"),
    ("balance", "Paid from balances", "balance_applied"),
    ("card", "Paid by card", "card_charged"),
    ("due", "Still due", "amount_due"),
    ("other", "Settled otherwise", "total+brought_forward-credit_applied-balance_applied-card_charged-amount_due"),
)
"""The way of an invoice's money: key, name, and the columns of `invoices` that it is made of."""


@dataclass(frozen=True)
class Section:
    """One part of the page: its heading, what it says, and the reports that it is made from."""

    key: str
    title: str
    sources: list[Question]
    content: Any


class Page:
    """Everything on the page, as of the home's clock."""

    def __init__(self, home: Home) -> None:
        self._figures = Figures(home)
        self.now = home.now
        self.issuer = home.config.issuer.name
        self.gigabyte = home.config.billing.gigabyte
        self.current = Month.of(home.now, home.config.billing.zone)
        self.first = self.current.plus(-MONTHS)
        invoices = self._figures.rows(self._invoices)
        months = distinct(row["month"] for row in invoices)
        self.last = Month.parse(months[-1]) if months else None
        self.currencies = self._currencies()

    @property
    def as_of(self) -> str:
        """The instant of the page."""
        return format_instant(self.now)

    @property
    def _invoices(self) -> Question:
        return Question("invoices", self.first)

    @property
    def _forecast(self) -> Question:
        return Question("forecast")

    def _of_last(self, report: str) -> Question:
        return Question(report, self.last, self.last)

    def _currencies(self) -> list[str]:
        """Every currency that is invoiced or forecast, the one with the most rows first."""
        rows = [*self._figures.rows(self._invoices), *self._figures.rows(self._forecast)]
        counts = Counter(row["currency"] for row in rows if row["currency"])
        return sorted(counts, key=lambda currency: (-counts[currency], currency))

    def sections(self) -> list[Section]:
        """The sections in the order of the page; one whose reports do not exist is left out."""
        made = []
        for key, title, make, names in self._PLAN:
            if all(name in reports() for name in names):
                sources, content = make(self)
                made.append(Section(key, title, sources, content))
        return made

    def _key_figures(self) -> tuple[list[Question], Any]:
        rows = []
        last = self._of_last("invoices")
        open_now = Question("receivables")
        for currency in self.currencies:
            forecast = {"currency": currency, "month": str(self.current)}
            row = [
                self._figures.sum(self._forecast, "amount_to_date", **forecast),
                self._figures.sum(self._forecast, "amount_forecast", **forecast),
            ]
            if self.last:
                row += [self._figures.sum(last, name, currency=currency) for name in ("subtotal", "total")]
            rows.append((currency, [*row, self._figures.sum(open_now, "total", currency=currency)]))
        heads = [f"{self.current} to date", f"{self.current} forecast"]
        if self.last:
            heads += [f"{self.last} before tax", f"{self.last} invoiced"]
        sources = [self._forecast, *([last] if self.last else []), open_now]
        return sources, {"heads": [*heads, "Open now"], "rows": rows}

    def _months(self) -> tuple[list[Question], Any]:
        revenue = Question("revenue", self.first)
        closed = self._figures.values(revenue, "booked_month")
        pending = self._figures.values(self._forecast, "month")
        usage = [
            *((m, self._figures.sum(revenue, "gb_hours", usage_month=m), None) for m in closed),
            *((m, *self._to_date("gb_hours", month=m)) for m in pending),
        ]
        charts = [("GB-hours", columns("GB-hours by month of usage", usage))]
        for currency in self.currencies[:CURRENCIES]:
            money = [
                *((m, self._figures.sum(revenue, "amount", booked_month=m, currency=currency), None) for m in closed),
                *((m, *self._to_date("amount", month=m, currency=currency)) for m in pending),
            ]
            charts.append((currency, columns(f"Invoiced before tax, {currency}", money)))
        return [revenue, self._forecast], {"charts": charts, "months": [*closed, *pending]}

    def _to_date(self, what: str, **where: str) -> tuple[Figure, Figure]:
        return (
            self._figures.sum(self._forecast, f"{what}_to_date", **where),
            self._figures.sum(self._forecast, f"{what}_forecast", **where),
        )

    def _places(self) -> tuple[list[Question], Any]:
        if self.last is None:
            return [], []
        revenue = self._of_last("revenue")
        places = distinct((row["currency"], row["sku"], row["region"]) for row in self._figures.rows(revenue))
        found: list[tuple[dict[str, str], Figure, Figure]] = []
        for currency, sku, region in places:
            where = {"currency": currency, "sku": sku, "region": region}
            usage, amount = (self._figures.sum(revenue, name, **where) for name in ("gb_hours", "amount"))
            found.append((where, usage, amount))
        largest = {
            currency: max(amount.value for where, _, amount in found if where["currency"] == currency)
            for currency, _, _ in places
        }
        return [revenue], [
            (where, usage, amount, share(amount, largest[where["currency"]])) for where, usage, amount in found
        ]

    def _accounts(self) -> tuple[list[Question], Any]:
        if self.last is None:
            return [], []
        invoices = self._of_last("invoices")
        found = []
        for currency in self.currencies[:CURRENCIES]:
            rows = self._figures.matching(invoices, {"currency": currency})
            rows = sorted(rows, key=lambda row: (-Decimal(row["total"]), row["account_id"]))[:TOP]
            totals = [(row, self._figures.sum(invoices, "total", invoice=row["invoice"])) for row in rows]
            largest = max((total.value for _, total in totals), default=Decimal(0))
            everyone = self._figures.count(invoices, currency=currency)
            found.append((currency, everyone, [(row, total, share(total, largest)) for row, total in totals]))
        return [invoices], [entry for entry in found if entry[2]]

    def _open(self) -> tuple[list[Question], Any]:
        question = Question("receivables")
        found = []
        for currency in self._figures.values(question, "currency"):
            ages = [(name, self._figures.sum(question, key, currency=currency)) for key, name in AGES.items()]
            rows = self._figures.matching(question, {"currency": currency})
            owing = sorted(rows, key=lambda row: (-Decimal(row["total"]), row["account_id"]))[:FEW]
            debtors = [
                (
                    row["account_id"],
                    self._figures.sum(question, "total", account_id=row["account_id"], currency=currency),
                )
                for row in owing
            ]
            total = self._figures.sum(question, "total", currency=currency)
            accounts = self._figures.count(question, currency=currency)
            found.append(
                {"currency": currency, "ages": parts(ages), "total": total, "accounts": accounts, "debtors": debtors}
            )
        return [question], found

    def _cards(self) -> tuple[list[Question], Any]:
        if self.last is None:
            return [], []
        payments = self._of_last("payments")
        found = []
        for status, reason in sorted(
            {(row["status"], row["reason"]) for row in self._figures.rows(payments)},
            key=lambda pair: (pair[0] != "succeeded", pair[0], pair[1] or ""),
        ):
            where = {"status": status, "reason": reason}
            currencies = distinct(row["currency"] for row in self._figures.matching(payments, where))
            sums = [(c, self._figures.sum(payments, "amount", currency=c, **where)) for c in currencies]
            found.append((status, reason, self._figures.count(payments, **where), sums))
        return [payments], found

    def _idle(self) -> tuple[list[Question], Any]:
        question = Question("idle")
        found = []
        for currency in self._figures.values(question, "currency"):
            rows = self._figures.matching(question, {"currency": currency})[:FEW]
            dearest = [
                (row, *(self._figures.sum(question, name, snapshot_id=row["snapshot_id"]) for name in _COSTS))
                for row in rows
            ]
            sums = [self._figures.sum(question, name, currency=currency) for name in _COSTS]
            found.append((currency, self._figures.count(question, currency=currency), sums, dearest))
        return [question], found

    def _health(self) -> tuple[list[Question], Any]:
        quarantine, anomalies, runs = Question("quarantine"), Question("anomalies"), Question("runs")
        reasons = [(r, self._figures.count(quarantine, reason=r)) for r in self._figures.values(quarantine, "reason")]
        kinds = [(kind, self._figures.count(anomalies, kind=kind)) for kind in self._figures.values(anomalies, "kind")]
        batches = [row for row in self._figures.rows(runs) if row["batch"] is not None]
        last = batches[-1] if batches else None
        return [quarantine, anomalies, runs], {
            "quarantined": self._figures.count(quarantine),
            "reasons": reasons,
            "found": self._figures.count(anomalies),
            "kinds": kinds,
            "batch": last and (last, self._figures.sum(runs, "batch", run=last["run"])),
            "runs": [(row, self._figures.sum(runs, "exit_code", run=row["run"])) for row in self._ended(runs)[-FEW:]],
        }

    def _ended(self, runs: Question) -> list[dict[str, Any]]:
        return [row for row in self._figures.rows(runs) if row["exit_code"] is not None]

    def _flow(self) -> tuple[list[Question], Any]:
        if self.last is None:
            return [], []
        lines, invoices = self._of_last("invoice-lines"), self._of_last("invoices")
        found = []
        for currency in self.currencies[:CURRENCIES]:
            usage = self._figures.sum(lines, "gb_hours", currency=currency)
            steps = [(key, name, self._figures.sum(invoices, column, currency=currency)) for key, name, column in FLOW]
            if self._figures.matching(invoices, {"currency": currency}):
                found.append({"currency": currency, "usage": usage, "steps": waterfall(steps)})
        return [lines, invoices], found

    _PLAN: tuple[tuple[str, str, Callable[[Page], tuple[list[Question], Any]], tuple[str, ...]], ...]


_COSTS = ("cost_per_month", "cost_to_date")
Page._PLAN = (
    ("key", "At a glance", Page._key_figures, ("forecast", "invoices", "receivables")),
    ("months", "Month by month", Page._months, ("revenue", "forecast")),
    ("flow", "From GB-hours to cash", Page._flow, ("invoices", "invoice-lines")),
    ("places", "What and where", Page._places, ("revenue",)),
    ("accounts", "Largest accounts", Page._accounts, ("invoices",)),
    ("open", "Open, and how old", Page._open, ("receivables",)),
    ("cards", "How the cards did", Page._cards, ("payments",)),
    ("idle", "Idle snapshots", Page._idle, ("idle",)),
    ("health", "Health of the data", Page._health, ("quarantine", "anomalies", "runs")),
)


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the way from lines to cash, as a lying bar: from where to where, in thousandths of the widest."""

    key: str
    name: str
    figure: Figure
    start: int
    length: int


def waterfall(steps: list[tuple[str, str, Figure]]) -> list[Step]:
    """Each step where the one before it ended: tax and what is brought forward add up, payments take away."""
    amount = {key: figure.value for key, _, figure in steps}
    owed = amount["total"] + amount["brought_forward"]
    spans: dict[str, tuple[Decimal, Decimal]] = {
        "subtotal": (Decimal(0), amount["subtotal"]),
        "tax": (amount["subtotal"], amount["total"]),
        "total": (Decimal(0), amount["total"]),
        "brought_forward": (amount["total"], owed),
    }
    left = owed
    for key in ("credit", "balance", "card", "due", "other"):
        spans[key] = (left - amount[key], left)
        left -= amount[key]
    lowest = min(min(span) for span in spans.values())
    whole = max(max(span) for span in spans.values()) - lowest
    found = []
    for key, name, figure in steps:
        start, end = (int((value - lowest) * 1000 / whole) if whole else 0 for value in sorted(spans[key]))
        found.append(Step(key, name, figure, start, end - start))
    return found


def dashboard(home: Home) -> str:
    """The dashboard as one HTML page; UsageError where Jinja2 is not installed."""
    pages = environment()
    page = Page(home)
    return pages.get_template("dashboard/dashboard.html").render(page=page, sections=page.sections())


__all__ = ["Chart", "Page", "dashboard"]
