"""Health-check pings: a monitor that hears nothing after a night knows that there was none.

`METERING_PING_URL` names the place (an https address, as healthchecks.io and its like give one): `/start` is asked
for when a job begins and `/<exit code>` when it ends. Nothing else is sent; the address is as good as a secret and is
never told.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from metering import __version__
from metering.clock import Clock
from metering.errors import LOCKED

VARIABLE = "METERING_PING_URL"
TIMEOUT_SECONDS = 5
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def ping(clock: Clock, what: str, say: Callable[[str], None]) -> None:
    """Tell the monitor; a rehearsal under a set clock is none of its business. Never fails."""
    url = os.environ.get(VARIABLE, "").strip()
    if not url or not clock.is_real or what == str(LOCKED):
        return
    try:
        host = urlsplit(url)
        if host.scheme != "https" and (host.scheme != "http" or host.hostname not in _LOOPBACK):
            raise ValueError("not https")
        request = Request(f"{url.rstrip('/')}/{what}", headers={"User-Agent": f"metering/{__version__}"})
        with build_opener(_NoRedirect).open(request, timeout=TIMEOUT_SECONDS):
            pass
    except Exception as error:
        # The text of an error may hold the address.
        say(f"ping: the address in {VARIABLE} did not answer ({type(error).__name__}).")


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would send the address on to somebody else."""

    def redirect_request(self, *_: object) -> None:
        return None
