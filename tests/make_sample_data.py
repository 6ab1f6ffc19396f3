"""Makes `sample_data/`: three months of a small provider's life, the same bytes at every run.

    python tests/make_sample_data.py [FOLDER]

Ordinary backups come from a seeded generator; everything that the sample is there to show stands below as a
line of its own. What the product must make of it, `tests/reference_billing.py` computes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

SEED = 20260301
GB = 10**9
US, EU = "/compute/us-east", "/compute/eu-west"
REGION = {US: "us-east", EU: "eu-west"}
DROPS = (
    *("2026-03-11", "2026-03-21", "2026-04-01"),
    *("2026-04-08", "2026-04-22", "2026-05-01"),
    *("2026-05-08", "2026-05-20", "2026-06-01"),
)
"""The nights on which the producers dropped a file; it holds what they knew an hour before."""

ACCOUNTS_HEAD = (
    "account_id,name,email,country,currency,tax_rate,payment_customer,payment_method,address,city,postcode,tax_id"
)
ACCOUNTS = (
    "acc-aurora,Aurora Labs,billing@aurora.example,US,USD,0,cus_aurora,pm_card_visa,1 Aurora Way,Portland,97201,",
    "acc-birch,Birch & Sons,ap@birch.example,US,USD,8.25,cus_birch,pm_card_chargeDeclined,2 Mill Rd,Austin,78701,",
    "acc-cedar,Cedar GmbH,ap@cedar.example,DE,EUR,19,cus_cedar,pm_card_authenticationRequired,Markt 5,Bonn,53111,DE-1",
    "acc-delta,Delta KK,keiri@delta.example,JP,JPY,10,cus_delta,pm_card_mastercard,2-1 Chuo,Osaka,530-0001,",
    "acc-ember,Ember Games,hello@ember.example,US,USD,0,cus_ember,,9 Fire Lane,Reno,89501,",
    "acc-fjord,Fjord AS,faktura@fjord.example,NO,EUR,25,cus_fjord,pm_card_visa,Havnegata 1,Bergen,5003,NO-2",
    "acc-grove,Grove Data,ap@grove.example,US,USD,7,cus_grove,pm_card_amex,400 Oak Street,Denver,80202,",
    "acc-harbor,Harbor Hobby,me@harbor.example,US,USD,0,cus_harbor,pm_card_visa,7 Pier,Boston,02110,",
    "acc-iris,Iris Clinic,finance@iris.example,US,USD,6,cus_iris,pm_card_visa,12 Iris Court,Salem,97301,",
    "acc-juniper,Juniper Ltd,pay@juniper.example,IE,EUR,23,cus_juniper,pm_card_visa,3 Quay,Cork,T12,IE-3",
    "acc-kelp,Kelp Research,office@kelp.example,FR,EUR,20,cus_kelp,pm_card_visa,8 rue de la Mer,Brest,29200,FR-4",
    "acc-lumen,Lumen Studio,ap@lumen.example,US,USD,0,cus_lumen,pm_card_chargeDeclinedInsufficientFunds,5 Bay,Miami,,",
)
NEW_CARDS = (
    "acc-birch,Birch & Sons,ap@birch.example,US,USD,8.25,cus_birch,pm_card_mastercard,2 Mill Rd,Austin,78701,",
    "acc-cedar,Cedar GmbH,ap@cedar.example,DE,EUR,19,cus_cedar,pm_card_visa,Markt 5,Bonn,53111,DE-1",
)
LATE_ACCOUNT = (
    "acc-kelp,Kelp Research,office@kelp.example,FR,EUR,21,cus_kelp,pm_card_visa,8 rue de la Mer,Brest,29200,FR-4",
    "acc-nimbus,Nimbus Inc,ops@nimbus.example,US,USD,5,cus_nimbus,pm_card_visa,77 Cloud Drive,Seattle,98101,",
)

FUNDS_HEAD = "account_id,kind,amount,currency,reference,expires"
FUNDS = {
    "funds.csv": (
        "acc-fjord,credit,40.00,EUR,welcome-fjord,2026-04-30",
        "acc-iris,topup,25.00,USD,wire-1001,",
        "acc-juniper,credit,5.00,EUR,sla-2026-02,2026-12-31",
    ),
    "funds-2026-04.csv": ("acc-ember,topup,30.00,USD,wire-1002,",),
}

PRICES = """\
sku,region,currency,price_per_gb_hour,effective_from,account_id
snapshot.vm,,USD,0.000068,2026-01-01,
snapshot.vm,us-east,USD,0.000072,2026-04-16,
snapshot.volume,,USD,0.000052,2026-01-01,
snapshot.vm,,EUR,0.000063,2026-01-01,
snapshot.volume,,EUR,0.000049,2026-01-01,
snapshot.volume,eu-west,EUR,0.0000475,2026-01-01,
snapshot.vm,,JPY,0.0102,2026-01-01,
snapshot.volume,,JPY,0.0078,2026-01-01,
snapshot.vm,,USD,0.000055,2026-03-01,acc-grove
"""

CONFIGURATION = """\
# The home of the sample: what is not here keeps its default.

[billing]
timezone = "UTC"
gigabyte = "GB"
start = "2026-03"

[issuer]
name = "Example Cloud"
address = "1 Harbour Street"
city = "Dublin"
postcode = "D01"
country = "IE"
tax_id = "IE-0000000"
email = "billing@example.com"

[close]
require_sources = ["/compute/us-east", "/compute/eu-west"]
"""

CALENDAR = """\
at,do,what
2026-03-01T05:00:00Z,accounts,accounts.csv
2026-03-01T05:10:00Z,funds,funds.csv
2026-03-11T02:00:00Z,nightly,2026-03-11.jsonl
2026-03-21T02:00:00Z,nightly,2026-03-21.jsonl
2026-04-01T02:00:00Z,nightly,2026-04-01.jsonl
2026-04-01T03:00:00Z,close,2026-03
2026-04-02T09:30:00Z,act,acc-cedar
2026-04-03T02:00:00Z,nightly,
2026-04-07T10:00:00Z,accounts,accounts-2026-04.csv
2026-04-08T02:00:00Z,nightly,2026-04-08.jsonl
2026-04-20T11:00:00Z,funds,funds-2026-04.csv
2026-04-22T02:00:00Z,nightly,2026-04-22.jsonl
2026-05-01T02:00:00Z,nightly,2026-05-01.jsonl
2026-05-01T03:00:00Z,close,2026-04
2026-05-08T02:00:00Z,nightly,2026-05-08.jsonl
2026-05-11T10:00:00Z,accounts,accounts-2026-05.csv
2026-05-20T02:00:00Z,nightly,2026-05-20.jsonl
2026-06-01T02:00:00Z,nightly,2026-06-01.jsonl
2026-06-01T03:00:00Z,close,2026-05
2026-06-02T02:00:00Z,nightly,
"""


@dataclass(frozen=True)
class Sent:
    """One line and the night that it came in."""

    drop: str
    time: datetime
    line: str


@dataclass
class Producers:
    """The two regions' event feeds."""

    random: Random = field(default_factory=lambda: Random(SEED))
    sent: list[Sent] = field(default_factory=list)
    events: int = 0
    snapshots: int = 0

    def send(
        self, source: str, kind: str, subject: str, time: datetime, data: dict[str, Any] | None = None, drop: str = ""
    ) -> str:
        """Send an event in the first drop after it, or late in a named one; its line."""
        self.events += 1
        event = {
            "specversion": "1.0",
            "id": f"e-{self.events:06}",
            "source": source,
            "type": f"cloud.example.{kind}" if source == EU else kind,
            "subject": subject,
            "time": stamp(time),
        }
        if data is not None:
            event["data"] = data  # type: ignore[assignment]
        line = json.dumps(event, separators=(",", ":"))
        self.raw(line, time, drop)
        return line

    def raw(self, line: str, time: datetime, drop: str = "") -> None:
        """Send a line as it is."""
        self.sent.append(Sent(drop or next(day for day in DROPS if drop_time(day) > time), time, line))

    def snapshot(
        self,
        source: str,
        account: str,
        project: str,
        resource: str,
        size_bytes: int,
        ready: datetime,
        deleted: datetime | None = None,
        *,
        name: str | None = None,
        creating: bool = False,
        ready_drop: str = "",
        deleted_drop: str = "",
    ) -> str:
        """A snapshot from capture to deletion; its id. `resource` begins with vm- or vol-."""
        self.snapshots += 1
        snapshot = f"snap-{self.snapshots:05}"
        data = {
            "account_id": account,
            "project_id": project,
            "region": REGION[source],
            "resource_type": "vm" if resource.startswith("vm-") else "volume",
            "resource_id": resource,
            "size_bytes": size_bytes,
        }
        if name:
            data["name"] = name
        if creating:
            self.send(source, "snapshot.creating", snapshot, ready - timedelta(seconds=95))
        self.send(source, "snapshot.ready", snapshot, ready, data, ready_drop)
        if deleted is not None and deleted < END:
            self.send(source, "snapshot.deleted", snapshot, deleted, None, deleted_drop)
        return snapshot

    def backups(
        self, source: str, account: str, project: str, resource: str, size_bytes: int, first: str, every: int, keep: int
    ) -> None:
        """A schedule: a snapshot every so many days, kept for so many days, of a disk that grows a little."""
        day = at(first)
        while day < END:
            ready = day + timedelta(seconds=self.random.randrange(3600), microseconds=self.random.randrange(10**6))
            gone = ready + timedelta(days=keep, milliseconds=self.random.randrange(900_000))
            told = self.random.random() < 0.3
            self.snapshot(source, account, project, resource, size_bytes, ready, gone, creating=told)
            size_bytes += self.random.randrange(size_bytes // 50)
            day += timedelta(days=every)


def at(text: str) -> datetime:
    """A time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


END = at("2026-06-01T01:00")


def drop_time(day: str) -> datetime:
    """When a night's file was written."""
    return at(f"{day}T01:00")


def stamp(time: datetime) -> str:
    """RFC 3339, with the digits that the producer knows."""
    text = time.isoformat(timespec="microseconds" if time.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def ordinary(feeds: Producers) -> None:
    """Backups on schedule."""
    feeds.backups(US, "acc-birch", "shop", "vm-301", 160 * GB, "2026-03-02T03:00", 7, 21)
    feeds.backups(US, "acc-birch", "shop", "vol-302", 250 * GB, "2026-03-04T03:30", 14, 28)
    feeds.backups(EU, "acc-cedar", "erp", "vm-401", 320 * GB, "2026-03-03T01:00", 7, 14)
    feeds.backups(EU, "acc-cedar", "archive", "vol-402", 800 * GB, "2026-03-06T02:00", 30, 90)
    feeds.backups(US, "acc-delta", "web", "vm-501", 100 * GB, "2026-03-05T18:00", 10, 30)
    feeds.backups(US, "acc-delta", "db", "vol-502", 400 * GB, "2026-03-07T18:00", 15, 45)
    feeds.backups(US, "acc-ember", "servers", "vm-601", 90 * GB, "2026-03-02T08:00", 9, 18)
    feeds.backups(EU, "acc-fjord", "main", "vm-701", 200 * GB, "2026-03-01T22:00", 10, 20)
    feeds.backups(US, "acc-grove", "lake", "vol-801", 1000 * GB, "2026-03-02T00:00", 15, 30)
    feeds.backups(US, "acc-grove", "etl", "vm-802", 640 * GB, "2026-03-02T00:30", 10, 20)
    feeds.backups(US, "acc-iris", "records", "vm-901", 120 * GB, "2026-03-02T04:00", 7, 14)
    feeds.backups(EU, "acc-kelp", "models", "vol-111", 500 * GB, "2026-03-10T05:00", 20, 40)
    feeds.backups(US, "acc-lumen", "renders", "vol-121", 600 * GB, "2026-05-02T06:00", 14, 60)


def special(feeds: Producers) -> None:
    """What the sample is there to show, one thing after the other."""
    # Aurora: a month to check with a pencil; and a deletion of 21 April that is told only in May.
    feeds.snapshot(
        US, "acc-aurora", "web", "vm-201", 100 * GB, at("2026-03-01T00:00"), at("2026-04-21T00:00"),
        name="before-upgrade", deleted_drop="2026-05-08",
    )  # fmt: skip
    feeds.snapshot(US, "acc-aurora", "web", "vm-201", 50 * GB, at("2026-03-17T00:00"), at("2026-03-27T00:00"))
    feeds.snapshot(US, "acc-aurora", "web", "vm-202", 80 * GB, at("2026-05-01T00:00"))

    # Harbor: too little to charge in March, so it is carried; and a snapshot of nothing at all.
    feeds.snapshot(US, "acc-harbor", "toys", "vol-211", 12 * GB, at("2026-03-09T00:00"))
    feeds.snapshot(US, "acc-harbor", "toys", "vol-212", 0, at("2026-03-20T12:00"), at("2026-04-02T12:00"), name="empty")

    # Fjord: a manual snapshot that is resized, and one that failed.
    grown = feeds.snapshot(EU, "acc-fjord", "main", "vol-702", 100 * GB, at("2026-03-12T10:00"), at("2026-05-20T10:00"))
    feeds.send(EU, "snapshot.resized", grown, at("2026-04-10T10:00"), {"size_bytes": 150 * GB})
    feeds.send(EU, "snapshot.creating", "snap-failed-1", at("2026-03-14T10:00"))
    feeds.send(EU, "snapshot.failed", "snap-failed-1", at("2026-03-14T10:02"))

    # Kelp: the VM goes and takes its snapshots with it; the snapshot of its volume lives on.
    feeds.snapshot(EU, "acc-kelp", "sim", "vm-113", 300 * GB, at("2026-03-02T09:00"))
    feeds.snapshot(EU, "acc-kelp", "sim", "vm-113", 310 * GB, at("2026-03-16T09:00"))
    feeds.snapshot(EU, "acc-kelp", "sim", "vol-114", 200 * GB, at("2026-03-16T09:05"), name="results, final")
    feeds.send(EU, "vm.deleted", "vm-113", at("2026-04-04T16:20:30"))
    # A deletion of April that is told in May, after the tax rate has changed: it is taxed at April's rate.
    feeds.snapshot(
        EU, "acc-kelp", "sim", "vol-115", 150 * GB, at("2026-04-05T00:00"), at("2026-04-25T00:00"),
        deleted_drop="2026-05-20",
    )  # fmt: skip

    # Juniper: gone in April. In May one of April's snapshots turns out never to have been: money comes back.
    feeds.snapshot(EU, "acc-juniper", "app", "vm-131", 250 * GB, at("2026-03-03T12:00"), at("2026-04-12T12:00"))
    wrong = feeds.snapshot(EU, "acc-juniper", "app", "vm-132", 400 * GB, at("2026-04-02T12:00"), at("2026-04-12T12:00"))
    mistaken = next(json.loads(sent.line) for sent in feeds.sent if f'"{wrong}"' in sent.line)
    feeds.send(
        EU, "event.retracted", "test capture", at("2026-05-18T08:00"),
        {"retracted_source": EU, "retracted_id": mistaken["id"]},
    )  # fmt: skip

    # Nimbus: signed up on 20 April, told to billing on 11 May. Its April is billed by the close of May.
    feeds.snapshot(US, "acc-nimbus", "pilot", "vm-141", 200 * GB, at("2026-04-20T00:00"))

    # Iris: a capture that came in two weeks late, but within its month.
    feeds.snapshot(
        US, "acc-iris", "records", "vol-902", 500 * GB, at("2026-05-03T00:00"), at("2026-05-29T12:00"),
        ready_drop="2026-05-20",
    )  # fmt: skip
    # Ember: the end is told ten days before the ready that it belongs to.
    feeds.snapshot(
        US, "acc-ember", "servers", "vm-602", 60 * GB, at("2026-03-06T00:00"), at("2026-03-09T00:00"),
        ready_drop="2026-03-21",
    )  # fmt: skip


def noise(feeds: Producers) -> None:
    """Repeats, and lines that no meter can take."""
    lines = [sent for sent in feeds.sent if sent.drop < "2026-05-20"]
    for original in feeds.random.sample(lines, 14):
        later = [day for day in DROPS if day >= original.drop][:3]
        feeds.raw(original.line, original.time, feeds.random.choice(later))

    feeds.snapshots += 1
    good = {
        "specversion": "1.0", "id": "e-900001", "source": US, "type": "snapshot.ready", "subject": "snap-90001",
        "time": "2026-03-09T10:00:00Z",
        "data": {
            "account_id": "acc-grove", "project_id": "etl", "region": "us-east", "resource_type": "vm",
            "resource_id": "vm-803", "size_bytes": 80 * GB,
        },
    }  # fmt: skip

    def send(change: dict[str, Any], drop: str, data: dict[str, Any] | None = None) -> None:
        event = {**good, **change, "data": {**good["data"], **(data or {})}}  # type: ignore[dict-item]
        event["data"] = {key: value for key, value in event["data"].items() if value is not None}
        feeds.raw(json.dumps(event, separators=(",", ":")), at(f"{drop}T00:30"), drop)

    send({}, "2026-03-11", {"size_bytes": "80000000000"})  # a size that is a text; mended ten days later
    send({}, "2026-03-21")
    send({"id": "e-900002", "subject": "snap-90002"}, "2026-04-01", {"size_bytes": -1})
    send({"id": "e-900003", "subject": "snap-90003", "time": "2026-04-06 10:00"}, "2026-04-08")
    send({"id": "e-900004", "subject": "snap-90004"}, "2026-04-22", {"account_id": None})
    send({"id": "e-900001"}, "2026-05-08", {"size_bytes": 8 * GB})  # a conflict: it came first with 80 GB
    feeds.raw('{"specversion":"1.0","id":"e-900005","source":"/compute/us-ea', at("2026-04-22T00:30"), "2026-04-22")
    feeds.raw("", at("2026-04-22T00:31"), "2026-04-22")
    send({"id": "e-900006", "type": "snapshot.copied"}, "2026-05-20")

    # A second ready of a snapshot that is ready, and an end of one that never was: anomalies, not errors.
    again = next(json.loads(sent.line) for sent in feeds.sent if '"vm-301"' in sent.line)
    feeds.send(US, "snapshot.ready", again["subject"], at("2026-03-09T00:00"), again["data"])
    feeds.send(US, "snapshot.deleted", "snap-unheard-of", at("2026-04-17T00:00"))
    # Each region says every month that it is there.
    for day in ("2026-04-01", "2026-05-01", "2026-06-01"):
        for source in (US, EU):
            feeds.send(source, "snapshot.creating", f"probe-{REGION[source]}-{day}", at(f"{day}T00:10"))
            feeds.send(source, "snapshot.failed", f"probe-{REGION[source]}-{day}", at(f"{day}T00:12"))


def event_files() -> Iterator[tuple[str, str]]:
    """Every drop: nearly in the order of time, as feeds from two regions are."""
    feeds = Producers()
    ordinary(feeds)
    special(feeds)
    noise(feeds)
    for day in DROPS:
        mine = [sent for sent in feeds.sent if sent.drop == day]
        late = [timedelta(hours=feeds.random.choice((0, 0, 0, 0, 36))) for _ in mine]
        order = sorted(range(len(mine)), key=lambda n: (mine[n].time + late[n], n))
        yield day, "".join(f"{mine[n].line}\n" for n in order)


def files() -> dict[str, str]:
    """Every file of the sample that is made here, by its path below `sample_data/`."""

    def table(head: str, rows: tuple[str, ...]) -> str:
        return "\n".join((head, *rows)) + "\n"

    return {
        "metering.toml": CONFIGURATION,
        "prices.csv": PRICES,
        "accounts.csv": table(ACCOUNTS_HEAD, ACCOUNTS),
        "accounts-2026-04.csv": table(ACCOUNTS_HEAD, NEW_CARDS),
        "accounts-2026-05.csv": table(ACCOUNTS_HEAD, LATE_ACCOUNT),
        **{name: table(FUNDS_HEAD, rows) for name, rows in FUNDS.items()},
        "calendar.csv": CALENDAR,
        **{f"events/{day}.jsonl": text for day, text in event_files()},
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "sample_data")
    for name, text in files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
