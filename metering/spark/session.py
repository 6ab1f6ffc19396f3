"""Sessions on a cluster, set so that Spark computes as exactly as DuckDB does; and what goes wrong there."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Thread
from typing import TYPE_CHECKING

from metering.config import CONFIG_NAME, Engine
from metering.errors import MeteringError, UsageError
from metering.usage.meter import too_large

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

REACHED_WITHIN = 10
"""Seconds in which a cluster's address must take a connection."""
ANSWERED_WITHIN = 60
"""Seconds in which a cluster should do a job of one row."""
EXACT = {
    "spark.sql.ansi.doubleQuotedIdentifiers": "true",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.session.timeZone": "UTC",
}
"""An overflow is an error and never null, no decimal is rounded, no file is left out, and a name in double quotes is a
name to both engines. Nobody may change them."""

_QUIET = {"spark.log.level": "ERROR", "spark.ui.showConsoleProgress": "false"}
_TOO_LARGE = ("ARITHMETIC_OVERFLOW", "NUMERIC_VALUE_OUT_OF_RANGE", "CAST_OVERFLOW", "NUMERIC_OUT_OF_SUPPORTED_RANGE")
_UNSEEN = ("PATH_NOT_FOUND", "FAILED_READ_FILE.FILE_NOT_EXIST", "FileNotFoundException", "No FileSystem for scheme")
_ADDRESS = re.compile(r"[\w.-]+:\d+|\[[0-9a-fA-F:]+\]:\d+")


def open_session(settings: Engine) -> SparkSession:
    """A session of its own on the configured cluster, with the settings of EXACT.

    Raises UsageError if pyspark or Java is missing, MeteringError if the cluster does not answer.
    """
    _check_installed(settings)
    if settings.conf.keys() & EXACT:
        raise UsageError(
            f"[engine] conf: {', '.join(sorted(settings.conf.keys() & EXACT))} cannot be set: figures depend on it.",
            remedy=f"Remove it from {CONFIG_NAME}.",
        )
    _check_reachable(settings.remote or settings.master or "")
    with told(settings):
        session = _connect(settings) if settings.remote else _submit(settings)
        for key, value in EXACT.items():
            session.conf.set(key, value)
        return session


def version(settings: Engine) -> str:
    """The cluster's version, once a worker has done a job. Raises MeteringError if none does within ANSWERED_WITHIN."""
    session = open_session(settings)
    failed: list[MeteringError] = []

    def job() -> None:
        try:
            with told(settings):
                session.range(1).count()
        except MeteringError as error:
            failed.append(error)

    waiting = Thread(target=job, daemon=True)
    waiting.start()
    waiting.join(ANSWERED_WITHIN)
    if failed:
        raise failed[0]
    if waiting.is_alive():
        raise MeteringError(
            f"Spark at {settings.remote or settings.master} has given no worker to a small job for"
            f" {ANSWERED_WITHIN} seconds.",
            unchanged="Nothing was computed or written.",
            remedy="See that workers are up, that they are not taken by others, and that they can reach this machine.",
        )
    return str(session.version)


def _connect(settings: Engine) -> SparkSession:
    from pyspark.sql import SparkSession

    assert settings.remote is not None
    session = SparkSession.builder.remote(settings.remote).create()
    for key, value in settings.conf_text.items():
        session.conf.set(key, value)
    return session


def _submit(settings: Engine) -> SparkSession:
    from pyspark.sql import SparkSession

    assert settings.master is not None
    # What a session of the same process has started already is used again, with the settings that it was started with:
    # Spark has one context per process. Those of a session are set on each.
    builder = SparkSession.builder.master(settings.master).appName("metering")
    for key, value in {**_QUIET, **settings.conf_text}.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate().newSession()
    for key, value in settings.conf_text.items():
        if session.conf.isModifiable(key):
            session.conf.set(key, value)
    return session


def _check_installed(settings: Engine) -> None:
    needed = ["pyspark", "grpc"] if settings.remote else ["pyspark"]
    if any(find_spec(name) is None for name in needed):
        raise UsageError(
            '[engine] name = "spark" needs pyspark.',
            unchanged="Nothing was computed or written.",
            remedy=f'Install the extra: pip install "metering[spark]", or set name = "duckdb" in {CONFIG_NAME}.',
        )
    home = os.environ.get("JAVA_HOME")
    if settings.master and shutil.which("java", path=f"{home}/bin" if home else None) is None:
        raise UsageError(
            f"[engine] master = {settings.master!r} needs Java here, and there is none"
            + (f" in JAVA_HOME = {home}." if home else " on the PATH."),
            unchanged="Nothing was computed or written.",
            remedy='Install Java 17 or later, or set remote = "sc://…": Spark Connect needs none.',
        )


def _check_reachable(address: str) -> None:
    """Raise MeteringError if nothing takes a connection there: Spark itself would try for minutes."""
    scheme, _, rest = address.partition("://")
    if scheme not in ("sc", "spark"):
        return
    places = _ADDRESS.findall(rest.partition("/")[0]) or [f"{rest.partition('/')[0]}:15002"]
    for place in places:
        host, _, port = place.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), REACHED_WITHIN).close()
            return
        except OSError as error:
            reason = error.strerror or str(error)
    raise MeteringError(
        f"Spark at {address.partition(';')[0]} cannot be reached: {reason}.",
        unchanged="Nothing was computed or written.",
        remedy=f"Start the cluster, or mend the address under [engine] in {CONFIG_NAME}. `metering doctor` tries it.",
    )


@contextmanager
def told(settings: Engine) -> Iterator[None]:
    """Tell what Spark raises as what a user can do about it."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in ("pyspark", "py4j", "grpc"):
            raise _as_error(settings, error) from None
        raise


def _as_error(settings: Engine, error: Exception) -> MeteringError:
    text = str(error)
    first = next((line.strip() for line in text.splitlines() if "[" in line and "]" in line), text.strip()[:300])
    first = first[first.find("[") :] if "[" in first else first
    if any(word in text for word in _TOO_LARGE):
        return too_large(Exception(first))
    if any(word in text for word in _UNSEEN):
        return MeteringError(
            f"The cluster does not find the lake: {first}",
            unchanged="Nothing was computed or written.",
            remedy="The driver and every worker must see the lake's files under one address: a shared folder, or an"
            f" object store with Spark's jars for it. If theirs is another, set [engine] lake_url in {CONFIG_NAME}.",
        )
    return MeteringError(
        f"Spark at {settings.remote or settings.master} failed: {first or type(error).__name__}",
        unchanged="Nothing was computed or written.",
        remedy="Run it again; if it stays, look into the cluster's own log. `metering doctor` tries the cluster.",
    )
