"""What every payment of one run shares."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from metering.clock import Pace
from metering.config import Payments
from metering.errors import UsageError
from metering.home import Home, Run
from metering.ledger.book import Book
from metering.payments.commits import Commits
from metering.payments.gateway import Gateway, NoAnswer, open_gateway, paced
from metering.payments.states import Calendar

GIVE_UP_AFTER = 16
"""After so many calls in a row without an answer no new attempt is started: the gateway is down."""
WORKERS = 8
MOST_WORKERS = 64
SLOWEST_SECONDS = 3
"""The pace is kept as long as the gateway answers within this time."""


@dataclass
class Desk:
    """The run, the ledger, the gateways and the clock of one run of payments."""

    home: Home
    run: Run
    gateway: Gateway
    pace: Pace | None = None
    commits: Commits = field(init=False)
    _others: dict[str, Gateway] = field(default_factory=dict)
    _silent: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, home: Home, run: Run, gateway: Gateway | None = None) -> Desk:
        """The desk of a run, with the configured gateway unless another is given."""
        gateway = gateway or open_gateway(home)
        return cls(home, run, gateway, paced(gateway, home.config.payments.requests_per_second))

    def __post_init__(self) -> None:
        self.commits = Commits(self.home.book)

    @property
    def book(self) -> Book:
        """The ledger."""
        return self.home.book

    @property
    def now(self) -> int:
        """The run's instant."""
        return self.run.now

    @property
    def payments(self) -> Payments:
        """The configuration."""
        return self.home.config.payments

    @property
    def calendar(self) -> Calendar:
        """When retries are due."""
        return Calendar(self.now, self.home.config.billing.zone, tuple(self.payments.retry_after_days))

    def gateway_named(self, name: str) -> Gateway:
        """The gateway that an intent was made at, which may no longer be the configured one."""
        if name == self.gateway.name:
            return self.gateway
        with self._lock:
            if name not in self._others:
                try:
                    self._others[name] = open_gateway(self.home, name)
                except UsageError as error:
                    raise NoAnswer(error.message) from None
            return self._others[name]

    @property
    def workers(self) -> int:
        """How many charges run at once."""
        return WORKERS if self.pace is None else min(self.pace.per_second * SLOWEST_SECONDS, MOST_WORKERS)

    def turn(self) -> None:
        """Wait until the next call to the gateway may be made."""
        if self.pace is not None:
            self.pace.wait()

    def heard(self, answered: bool) -> None:
        """Note whether a call was answered."""
        with self._lock:
            self._silent = 0 if answered else self._silent + 1

    @property
    def gateway_is_down(self) -> bool:
        """Whether the gateway has been silent for so long that nothing new should be tried."""
        return self._silent >= GIVE_UP_AFTER

    def close(self) -> None:
        """Let go of the gateways."""
        for gateway in (self.gateway, *self._others.values()):
            gateway.close()
