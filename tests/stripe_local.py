"""localstripe, a Stripe that others wrote, as an API behind our network.

It knows no idempotency, so every key counts as forgotten. Where it takes less than the real API, the calls are
adapted here: a customer is made when it is first named, the card is set before the confirm, `off_session` is checked
and left away, a customer's intents are listed here, and `amount_received` is told as the real one tells it. An
intent whose card was declined cannot be confirmed again there.
"""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from stripe_fake import Answer, Capture, step_of

_RUN = """
import sys
from aiohttp import web
from localstripe import resources, server
resources.Store.dump_to_disk = lambda self: None
web.run_app(server.app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
"""
_AUTHORIZATION = "Basic " + base64.b64encode(b"sk_test_secret:").decode()
_OPEN = ("requires_payment_method", "requires_confirmation")


@dataclass
class LocalStripe:
    """The API of a running localstripe."""

    url: str
    bodies: dict[str, set[str]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    _customers: dict[str, str] = field(default_factory=dict)
    _made: dict[str, list[str]] = field(default_factory=dict)
    """The intents of each customer: its own listing takes seconds where there are thousands."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, method: str, path: str, params: dict[str, str], key: str | None) -> Answer:
        """An answer in the words of the real API."""
        step = step_of(method, path)
        with self._lock:
            self.calls[step] += 1
            if key and method == "POST":
                self.bodies.setdefault(key, set()).add(f"{path} {sorted(params.items())}")
            if step == "create":
                return self._create(path, params)
            if step == "confirm":
                return self._confirm(path, params)
            if step == "find":
                return 200, self._list(params)
            return self._told(self._send(method, path, params))

    def forget_keys(self) -> None:
        """It never remembers any."""

    @property
    def captures(self) -> list[Capture]:
        """Its own list of charges that succeeded."""
        intents = {row["id"]: row for row in self._all("/v1/payment_intents")}
        named = {local: name for name, local in self._customers.items()}
        return [
            Capture(
                charge["payment_intent"],
                intents[charge["payment_intent"]]["metadata"]["invoice"],
                named[charge["customer"]],
                charge["amount"],
                charge["currency"],
            )
            for charge in self._all("/v1/charges")
            if charge["status"] == "succeeded"
        ]

    def _create(self, path: str, params: dict[str, str]) -> Answer:
        name = params["customer"]
        answer = self._send("POST", path, {**params, "customer": self._customer(name)})
        if answer[0] == 200:
            self._made.setdefault(name, []).append(answer[1]["id"])
        return self._told(answer)

    def _confirm(self, path: str, params: dict[str, str]) -> Answer:
        if params.get("off_session") != "true":
            return 400, {"error": {"type": "invalid_request_error", "code": "off_session_required"}}
        intent = path.removesuffix("/confirm")
        status, found = self._send("GET", intent, {})
        if status == 200 and found["status"] not in _OPEN:
            return 400, {"error": {"type": "invalid_request_error", "code": "payment_intent_unexpected_state"}}
        if status == 200:
            self._send("POST", intent, {"payment_method": params["payment_method"]})
        return self._told(self._send("POST", path, {}))

    def _list(self, params: dict[str, str]) -> dict[str, Any]:
        """A page: of a customer's intents, or of all."""
        every = [ref for refs in self._made.values() for ref in refs]
        refs = self._made.get(params["customer"], []) if "customer" in params else every
        first = refs.index(params["starting_after"]) + 1 if "starting_after" in params else 0
        last = first + int(params.get("limit", "10"))
        rows = [self._told(self._send("GET", f"/v1/payment_intents/{ref}", {}))[1] for ref in refs[first:last]]
        return {"object": "list", "has_more": last < len(refs), "data": rows}

    def _all(self, path: str) -> Iterator[dict[str, Any]]:
        after: dict[str, str] = {}
        while True:
            _, page = self._send("GET", path, {"limit": "100", **after})
            yield from page["data"]
            if not page["has_more"]:
                return
            after = {"starting_after": page["data"][-1]["id"]}

    def _customer(self, name: str) -> str:
        if name not in self._customers:
            self._customers[name] = self._send("POST", "/v1/customers", {"name": name})[1]["id"]
        return self._customers[name]

    def _told(self, answer: Answer) -> Answer:
        status, body = answer
        if body.get("object") == "payment_intent":
            named = {local: name for name, local in self._customers.items()}
            captured = body["amount"] if body["status"] == "succeeded" else 0
            body = {**body, "amount_received": captured, "customer": named.get(body["customer"], body["customer"])}
        return status, body

    def _send(self, method: str, path: str, params: dict[str, str]) -> Answer:
        url = f"{self.url}{path}" + (f"?{urlencode(params)}" if method == "GET" and params else "")
        data = urlencode(params).encode() if method == "POST" else None
        request = urllib.request.Request(url, data, {"Authorization": _AUTHORIZATION}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            body = error.read()
            return error.code, json.loads(body) if body.startswith(b"{") else {"error": {"type": "api_error"}}


@contextmanager
def local_stripe() -> Iterator[LocalStripe]:
    """Start localstripe from scratch on a free loopback port; nothing of it is kept on disk."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", _RUN, str(port)], stdout=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield LocalStripe(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(400):
        if process.poll() is not None:
            raise RuntimeError(f"localstripe ended with {process.returncode}")
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        threading.Event().wait(0.05)
    raise RuntimeError("localstripe does not listen")
