"""`metering.toml`: what a home may say, with the default of every key."""

from __future__ import annotations

import re
import tomllib
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from metering.errors import UsageError
from metering.values import GIGABYTE_BYTES, InvalidValue, Month, parse_money

CONFIG_NAME = "metering.toml"
WHOLE = ("close.max_change_percent", "payments.requests_per_second")


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section of the file; a missing key means its default, an unknown one is refused."""


class Billing(_Section, frozen=True):
    """Which calendar months are billed, and what a gigabyte is."""

    timezone: str = "UTC"
    gigabyte: Literal["GB", "GiB"] = "GB"
    start: str | None = None

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def gigabyte_bytes(self) -> int:
        return GIGABYTE_BYTES[self.gigabyte]

    @property
    def start_month(self) -> Month | None:
        return Month.parse(self.start) if self.start else None


class Issuer(_Section, frozen=True):
    """Who stands on the invoice."""

    name: str = ""
    address: str = ""
    city: str = ""
    postcode: str = ""
    country: str = ""
    tax_id: str = ""
    email: str = ""


class LakeConfig(_Section, frozen=True):
    url: str = "lake"


class LedgerConfig(_Section, frozen=True):
    url: str = "sqlite:///ledger.db"


class Engine(_Section, frozen=True):
    """What computes usage: DuckDB here, or a Spark cluster that `master` or `remote` (Spark Connect) names."""

    name: Literal["duckdb", "spark"] = "duckdb"
    memory_limit: str | None = None
    master: str | None = None
    remote: str | None = None
    lake_url: str | None = None
    conf: dict[str, str | int | bool] = {}

    @property
    def conf_text(self) -> dict[str, str]:
        """Spark's own settings, as Spark writes them."""
        return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in self.conf.items()}


class CloseConfig(_Section, frozen=True):
    """What must be so before a close writes."""

    require_sources: list[str] = []
    max_invoice: dict[str, str] = {}
    max_change_percent: int | None = None


class StripeConfig(_Section, frozen=True):
    api_base: str = "https://api.stripe.com"


class AirwallexConfig(_Section, frozen=True):
    api_base: str = "https://api.airwallex.com"


class ReportsConfig(_Section, frozen=True):
    publish: bool = True


class Payments(_Section, frozen=True):
    """How the remainder of an invoice is charged."""

    gateway: Literal["sandbox", "stripe", "airwallex"] = "sandbox"
    minimum_charge: dict[str, str] = msgspec.field(
        default_factory=lambda: {"USD": "0.50", "EUR": "0.50", "GBP": "0.30"}
    )
    retry_after_days: list[int] = msgspec.field(default_factory=lambda: [1, 3, 5, 7])
    requests_per_second: int = 20
    stripe: StripeConfig = StripeConfig()
    airwallex: AirwallexConfig = AirwallexConfig()

    def minimum_minor(self, currency: str) -> int | None:
        """The configured minimum of a currency in minor units; None where the file has no entry."""
        text = self.minimum_charge.get(currency)
        return None if text is None else _minor(text, currency)


@lru_cache
def _minor(text: str, currency: str) -> int:
    return parse_money(text, currency)


class Config(_Section, frozen=True):
    """All of `metering.toml`."""

    billing: Billing = Billing()
    issuer: Issuer = Issuer()
    lake: LakeConfig = LakeConfig()
    ledger: LedgerConfig = LedgerConfig()
    engine: Engine = Engine()
    close: CloseConfig = CloseConfig()
    reports: ReportsConfig = ReportsConfig()
    payments: Payments = Payments()


class _Wrong(Exception):
    """A value that has the right type and yet cannot be; `path` is the dotted key."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


def load_config(path: Path) -> Config:
    """The configuration of a home.

    Raises UsageError with the key's name and line for anything unknown, of the wrong kind or impossible.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"{path.parent} is not a metering home: it has no {CONFIG_NAME}.",
            remedy="Run `metering init DIR` first, or name the home with --home or METERING_HOME.",
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 at byte {error.start}.", remedy="Save it as UTF-8.") from None
    try:
        return parse_config(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}.", remedy="Mend that line.") from None
    except _Wrong as error:
        line = _line_of(text, error.path)
        raise UsageError(
            f"{path}, line {line}: {error.path}: {error}.",
            unchanged="Nothing was read or written.",
            remedy=f"Mend the key `{error.path}`; `metering init` into an empty folder shows every key.",
        ) from None


def parse_config(text: str) -> Config:
    """The configuration in a TOML text."""
    # TOML writes no float anywhere in this file: a float where an integer or a text belongs must be refused.
    document = tomllib.loads(text, parse_float=Decimal)
    _refuse_decimals(document)
    try:
        config = msgspec.convert(document, Config)
    except msgspec.ValidationError as error:
        raise _explain(error) from None
    _check(config)
    return config


def _refuse_decimals(value: Any, path: str = "") -> None:
    if isinstance(value, Decimal):
        what = "whole numbers belong here" if path in WHOLE else f'write it in quotes: "{value}"'
        raise _Wrong(path, f"a bare fraction is no value here; {what}")
    if isinstance(value, dict):
        for key, member in value.items():
            _refuse_decimals(member, f"{path}.{key}" if path else key)


def _explain(error: msgspec.ValidationError) -> _Wrong:
    message, _, place = str(error).partition(" - at `$")
    path = place.rstrip("`").lstrip(".")
    path = re.sub(r"\[\.\.\.\]|\[\d+\]", "", path)
    unknown = re.search(r"unknown field `(.*)`", message)
    if unknown:
        path = f"{path}.{unknown[1]}" if path else unknown[1]
        return _Wrong(path, "unknown key")
    return _Wrong(path, message[:1].lower() + message[1:])


def _check(config: Config) -> None:
    try:
        ZoneInfo(config.billing.timezone)
    except (KeyError, ValueError, OSError):
        raise _Wrong("billing.timezone", f"{config.billing.timezone!r} is not an IANA time zone") from None
    _month("billing.start", config.billing.start)
    for key, amounts in (
        ("payments.minimum_charge", config.payments.minimum_charge),
        ("close.max_invoice", config.close.max_invoice),
    ):
        for currency, amount in amounts.items():
            try:
                if parse_money(amount, currency) < 0:
                    raise InvalidValue(f"{amount!r} is negative")
            except InvalidValue as error:
                raise _Wrong(key, str(error)) from None
    if not 1 <= config.payments.requests_per_second <= 1000:
        raise _Wrong("payments.requests_per_second", "must be from 1 to 1000")
    days = config.payments.retry_after_days
    if sorted(set(days)) != days or (days and days[0] < 1):
        raise _Wrong("payments.retry_after_days", "must be days from 1 on, each later than the one before")
    if config.close.max_change_percent is not None and config.close.max_change_percent < 0:
        raise _Wrong("close.max_change_percent", "must be zero or more")
    if config.engine.memory_limit is not None and not re.fullmatch(
        r"\d+(\.\d+)? ?([KMGT]i?B)", config.engine.memory_limit
    ):
        raise _Wrong("engine.memory_limit", f'{config.engine.memory_limit!r} is not a size such as "4GB"')
    _check_engine(config.engine)
    if not config.lake.url:
        raise _Wrong("lake.url", "must not be empty")
    # Not shown: somebody may have written credentials into it.
    if "://" in config.lake.url and not _BUCKET.fullmatch(config.lake.url):
        raise _Wrong("lake.url", "must be a folder or s3://bucket/prefix, without credentials")
    if not config.ledger.url.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise _Wrong("ledger.url", "must begin with sqlite:/// or postgresql+psycopg://")
    if re.search(r"://[^/?#]*:[^/?#]*@|[?&](password|sslpassword)=", config.ledger.url):
        raise _Wrong("ledger.url", "holds a password; set PGPASSWORD, PGPASSFILE or PGSERVICE instead")


_BUCKET = re.compile(r"s3://[A-Za-z0-9][A-Za-z0-9._-]+(/[A-Za-z0-9=_-][A-Za-z0-9=._-]*)*/?")
_MASTER = re.compile(r"(spark|k8s)://.+|yarn|local(-cluster)?(\[.+\])?")
_SECRET = re.compile(r"secret|password|token|access\.?key|credential", re.IGNORECASE)
_NO_SECRET = ("provider", "providers", "file", "path")
"""What the names of settings end with that only say where a secret is."""


def _check_engine(engine: Engine) -> None:
    for key in engine.conf:
        if not key.startswith("spark."):
            raise _Wrong("engine.conf", f"{key!r} is no setting of Spark: they begin with spark.")
        if _SECRET.search(key) and not key.lower().endswith(_NO_SECRET):
            raise _Wrong("engine.conf", f"{key!r} is a secret; it belongs into the environment or Spark's own files")
    if engine.name != "spark":
        return
    if (engine.master is None) == (engine.remote is None):
        raise _Wrong("engine.name", 'spark needs either master = "spark://host:port" or remote = "sc://host:port"')
    if engine.master is not None and not _MASTER.fullmatch(engine.master):
        raise _Wrong("engine.master", f'{engine.master!r} is no master such as "spark://host:7077" or "local[*]"')
    if engine.remote is not None and not engine.remote.startswith("sc://"):
        raise _Wrong("engine.remote", f'{engine.remote!r} is no address of Spark Connect such as "sc://host:15002"')


def _month(path: str, text: str | None) -> None:
    if text is not None:
        try:
            Month.parse(text)
        except InvalidValue as error:
            raise _Wrong(path, str(error)) from None


def _line_of(text: str, path: str) -> int:
    """The line of a dotted key: its own, else that of the deepest part of it which stands in the file."""
    section = ""
    best, depth = 1, 0
    wanted = path.split(".")
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\s*([^\]]+?)\s*\]", line)
        key = re.match(r"""\s*["']?([A-Za-z0-9_.-]+)["']?\s*=""", line)
        if header:
            section = header[1]
            here = section
        elif key:
            here = f"{section}.{key[1]}" if section else key[1]
        else:
            continue
        parts = here.split(".")
        if wanted[: len(parts)] == parts and len(parts) > depth:
            best, depth = number, len(parts)
    return best
