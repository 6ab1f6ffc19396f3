"""`metering simulate`: what other prices would have made of a month, to the cent, and nothing written."""

from __future__ import annotations

import csv
import io

import pytest
from homes import PRICES, Home

BOOK = (
    PRICES,
    "snapshot.vm,,USD,0.002,2026-01-01,",
    "snapshot.vm,,USD,0.004,2026-05-17,",
    "snapshot.vm,,JPY,0.25,2026-01-01,",
)


@pytest.fixture
def used(home: Home) -> Home:
    """May: acc-1 100 GB and 1 GB of volume, acc-j 1 GB, acc-9 unknown; 744 hours each."""
    home.prices(
        "snapshot.vm,,USD,0.001,2026-01-01,",
        "snapshot.volume,,USD,0.001,2026-01-01,",
        "snapshot.vm,,JPY,0.5,2026-01-01,",
    )
    home.accounts("acc-1,USD,10,pm_card_visa", "acc-j,JPY,0,pm_card_visa")
    home.events(
        """
        2026-05-01 ready s1 gb=100
        2026-05-01 ready v1 gb=1 type=volume
        2026-05-01 ready j1 acc=acc-j gb=1
        2026-05-01 ready u1 acc=acc-9 gb=1
        """
    )
    home.file("other.csv", "\n".join((*BOOK, "")))
    return home


def simulated(home: Home, *args: str, **how: str) -> list[list[str]]:
    """The rows of a simulation of May under the other book."""
    book = str(home.path / "other.csv")
    done = home.run("simulate", "--prices", book, "--month", "2026-05", "--format", "csv", *args, **how)
    return list(csv.reader(io.StringIO(done.stdout)))


def test_the_difference_for_each_account(used: Home) -> None:
    """acc-1 pays 74.40 and 0.74 (0.744). Under the other book 16 days at 0.002 make 76.80 (38,400 GB-hours), 15 days
    at 0.004 make 144.00 (36,000), together 220.80; the volume has no price. acc-j: 744 × 0.5 = 372 and × 0.25 = 186."""
    used.run("close", "2026-05", exit_code=3)
    before = used.fingerprint()
    assert simulated(used) == [
        ["account_id", "currency", "gb_hours", "gb_hours_unpriced", "amount_now", "amount_simulated", "difference"],
        ["acc-1", "USD", "75144.000000000", "744.000000000", "75.14", "220.80", "145.66"],
        ["acc-9", "", "744.000000000", "744.000000000", "", "", ""],
        ["acc-j", "JPY", "744.000000000", "0.000000000", "372", "186", "-186"],
    ]
    assert "no price for some usage of 1 account;" in used.last.stderr
    assert [row[0] for row in simulated(used, "--account", "acc-j")[1:]] == ["acc-j"]
    assert used.fingerprint() == before


def test_a_closed_month_counts_at_its_stored_prices(used: Home) -> None:
    """Rows that prices.csv gets later change nothing of what May costs now."""
    used.run("close", "2026-05", exit_code=3)
    used.prices("snapshot.vm,,USD,9,2026-06-01,")
    assert [row[4] for row in simulated(used)[1:]] == ["75.14", "", "372"]


def test_a_month_that_runs_is_simulated_up_to_now(used: Home) -> None:
    """One day: 2,400 GB-hours × 0.002 = 4.80 for 2.42 (2.40 + 0.02); a month that has not begun is refused."""
    used.run("ingest")
    rows = simulated(used, now="2026-05-02T00:00:00Z")
    assert rows[1] == ["acc-1", "USD", "2424.000000000", "24.000000000", "2.42", "4.80", "2.38"]
    assert "has not ended" in used.last.stderr
    refused = used.run("simulate", "--prices", str(used.path / "other.csv"), "--month", "2026-07", exit_code=2)
    assert "2026-07 has not begun" in refused.stderr


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("snapshot.vm,,USD,-1,2026-01-01,", "line 5: price_per_gb_hour: '-1' is negative"),
        ("snapshot.tape,,USD,1,2026-01-01,", "line 5: sku"),
        ("snapshot.vm,,USD,0.002,2026-01-01,", "line 5: the same key and day stand already on line 2"),
    ],
)
def test_a_bad_book_is_refused_with_its_line(used: Home, row: str, told: str) -> None:
    """Exit 2, naming the line."""
    path = used.file("other.csv", "\n".join((*BOOK, row, "")))
    refused = used.run("simulate", "--prices", str(path), "--month", "2026-05", exit_code=2)
    assert told in refused.stderr
    assert used.run("simulate", "--prices", "nowhere.csv", "--month", "2026-05", exit_code=2).stderr.startswith(
        "metering: nowhere.csv"
    )
