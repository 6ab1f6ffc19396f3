"""The gateway: configured, reachable, in test or live mode. It is asked for one list; no key is ever told."""

from __future__ import annotations

from collections.abc import Iterator

from metering.doctor.finding import Finding, fail, ok
from metering.errors import MeteringError
from metering.home import Home
from metering.payments.gateway import NoAnswer, Refused, open_gateway

_WHY = {
    "http_401": "the key is refused",
    "login_refused": "the key is refused",
    "http_403": "the key may not list payments",
    "timeout": "it did not answer in time",
    "connection_cut": "there is no connection",
    "tls": "its certificate is not trusted",
    "rate_limit": "it is asked too often",
}


def gateway(home: Home) -> Iterator[Finding]:
    """Whether cards could be charged now."""
    name = home.config.payments.gateway
    try:
        opened = open_gateway(home)
    except MeteringError as error:
        yield fail(error.message, error.remedy)
        return
    if name == "sandbox":
        opened.close()
        yield ok("sandbox: no real card is ever charged")
        return
    mode = "live" if opened.is_live else "test"
    try:
        next(iter(opened.list(home.now)), None)
    except (NoAnswer, Refused) as silence:
        code = silence.code if isinstance(silence, Refused) else str(silence)
        why = _WHY.get(code, f"it says {code}")
        yield fail(f"{name} in {mode} mode: {why}", "Mend the network, the address or the key, then look again.")
    else:
        yield ok(f"{name} answers, in {mode} mode")
    finally:
        opened.close()
