"""Every check, one after the other; one that cannot look is itself a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa

from metering.clock import Clock
from metering.config import CONFIG_NAME
from metering.doctor import billing, machine, records, work
from metering.doctor.engine import engine
from metering.doctor.finding import FAIL, Finding, fail
from metering.doctor.gateway import gateway
from metering.errors import MeteringError, UsageError
from metering.home import Home
from metering.values import InvalidValue

CHECKS: dict[str, Callable[[Home], Iterator[Finding]]] = {
    "configuration": machine.configuration,
    "versions": machine.versions,
    "clock": machine.clock,
    "disk": machine.disk,
    "rights": machine.rights,
    "locks": records.locks,
    "lake": records.lake,
    "engine": engine,
    "ledger": records.ledger,
    "gateway": gateway,
    "prices": billing.prices,
    "accounts": billing.accounts,
    "cards": billing.cards,
    "money": billing.money,
    "sources": billing.sources,
    "inbox": work.inbox,
    "quarantine": work.quarantine,
    "nights": work.nights,
    "runs": work.runs,
    "proofs": work.proofs,
    "backups": work.backups,
    "closes": work.closes,
    "payments": work.payments,
    "outbox": work.outbox,
}
"""Each check by the name under which its findings are told."""

_CANNOT_LOOK = (OSError, duckdb.Error, pa.ArrowException, msgspec.MsgspecError, InvalidValue)


def examine(path: Path, clock: Clock) -> Iterator[tuple[str, Finding]]:
    """The findings of every check; UsageError where there is no home at all."""
    if not (path / CONFIG_NAME).exists():
        raise UsageError(
            f"{path} is not a metering home: it has no {CONFIG_NAME}.",
            remedy="Run `metering init DIR` first, or name the home with --home or METERING_HOME.",
        )
    try:
        home = Home(path, clock)
    except MeteringError as error:
        yield "configuration", fail(_line(error.message), error.remedy)
        return
    told: dict[Finding, str] = {}
    for name, check in CHECKS.items():
        for finding in _guarded(check, home):
            first = told.setdefault(finding, name)
            same = finding.state == FAIL and first != name
            yield name, fail(f"fails as {first} does", f"Mend {first}, then look again.") if same else finding


def _guarded(check: Callable[[Home], Iterator[Finding]], home: Home) -> Iterator[Finding]:
    try:
        yield from check(home)
    except MeteringError as error:
        yield fail(_line(error.message), _line(error.remedy) or "Run `metering verify`.")
    except _CANNOT_LOOK as error:
        yield fail(f"cannot be looked at: {_line(str(error)) or type(error).__name__}", "Run `metering verify`.")


def _line(text: str) -> str:
    return " ".join(text.split())
