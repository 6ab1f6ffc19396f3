"""A network before an API of Stripe: it serves it on a loopback port, and does the worst to the requests that a
plan names."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from stripe_fake import Answer, Capture, step_of

FAULTS = {
    "drop_before": "the connection is cut before the request arrives",
    "drop_after": "the request is carried out, the connection is cut before the answer",
    "late": "the request is under way until somebody has it delivered; the caller sees a cut connection",
    "500_before": "500; nothing is carried out",
    "500_after": "carried out, but 500",
    "500_cached": "500; nothing is carried out, and the key has that answer from now on",
    "500_after_cached": "carried out, but the key has 500 from now on",
    "429": "turned away before the key is looked at",
    "409": "turned away because the key is in use",
    "401": "turned away because of the secret",
    "duplicate": "arrives twice",
    "truncated": "carried out, but the answer is cut off",
    "half": "carried out, but the answer is half of it, with the length to match",
    "html": "carried out, but the answer is a page of HTML",
    "gateway_html": "502 with a page of HTML; nothing is carried out",
    "hang": "carried out, but no answer comes in time",
    "wrong_amount": "carried out, but the answer tells another amount",
}
WRITES_ONLY = {"late", "500_cached", "500_after_cached", "duplicate", "409"}
Plan = Callable[[str, str, int], str | None]
"""The fault for a request, by its step, its subject (our name of the intent, or the customer) and its count."""


class Api(Protocol):
    """What lies behind the network."""

    @property
    def bodies(self) -> dict[str, set[str]]: ...
    @property
    def captures(self) -> list[Capture]: ...
    def call(self, method: str, path: str, params: dict[str, str], key: str | None) -> Answer: ...
    def forget_keys(self) -> None: ...


@dataclass
class Network:
    """The network; what it did is in `log` and `hits`."""

    api: Api
    plan: Plan = lambda step, subject, count: None
    hang_seconds: float = 0.5
    secret: str = "sk_test_secret"
    log: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Every request: step, subject, fault."""
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each fault hit each step."""
    on_request: Callable[[int], None] = lambda count: None
    """Told of each request before it is handled, with its number in `log`."""
    _names: dict[str, str] = field(default_factory=dict)
    _late: list[Callable[[], object]] = field(default_factory=list)
    _seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    _cached: dict[str, Answer] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    @contextmanager
    def serving(self) -> Iterator[Network]:
        """Serve on a free port; `url` tells where."""
        network = self

        class Handler(_Handler):
            its = network

        server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._closing.set()
            server.shutdown()
            server.server_close()
            thread.join()

    def deliver_late(self, most: int | None = None) -> int:
        """Have what is still under way delivered, the oldest first; how much it was."""
        late, self._late = self._late[:most], self._late[len(self._late[:most]) :]
        for arrive in late:
            arrive()
        return len(late)

    def forget_all_keys(self) -> None:
        """A day has passed: no answer is kept under a key any more."""
        self._cached.clear()
        self.api.forget_keys()

    def handle(self, method: str, path: str, params: dict[str, str], key: str | None) -> Answer | str:
        """The answer to a request, or what becomes of the connection instead: cut, half, truncated, html."""
        step = step_of(method, path)
        ref = "".join(path.split("/")[3:4])
        subject = params.get("metadata[intent]") or params.get("customer") or self._names.get(ref, ref)
        with self._lock:
            self._seen[step, subject] += 1
            fault = self.plan(step, subject, self._seen[step, subject])
            if fault in WRITES_ONLY and method != "POST":
                fault = None
            self.log.append((step, subject, fault))
            if fault:
                self.hits[fault, step] += 1
            self.on_request(len(self.log))
        if fault in ("429", "409", "401"):
            return int(fault), {"error": {"type": "invalid_request_error", "message": "not now"}}
        if key in self._cached and method == "POST":
            return self._cached[key]

        def arrive() -> Answer:
            answer = self.api.call(method, path, params, key)
            if step == "create" and answer[0] == 200:
                self._names[answer[1]["id"]] = subject
            return answer

        return self._deliver(fault, key, arrive)

    def _deliver(self, fault: str | None, key: str | None, arrive: Callable[[], Answer]) -> Answer | str:
        broken = 500, {"error": {"type": "api_error", "message": "sorry"}}
        if fault in ("drop_before", "late"):
            if fault == "late":
                self._late.append(arrive)
            return "cut"
        if fault in ("500_before", "500_cached", "gateway_html"):
            if fault == "500_cached" and key:
                self._cached[key] = broken
            return "bad_gateway" if fault == "gateway_html" else broken
        answer = arrive()
        if fault == "duplicate":
            arrive()
        if fault == "500_after_cached" and key:
            self._cached[key] = broken
        if fault in ("500_after", "500_after_cached"):
            return broken
        if fault == "hang":
            self._closing.wait(self.hang_seconds)
            return "cut"
        if fault == "drop_after":
            return "cut"
        if fault in ("truncated", "half", "html"):
            return fault
        if fault == "wrong_amount" and "amount" in answer[1]:
            return answer[0], {**answer[1], "amount": answer[1]["amount"] + 100}
        return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no news."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    its: Network
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self._answer("GET", url.path, dict(parse_qsl(url.query)))

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            # The client was killed while it sent: half a request is none.
            self.close_connection = True
            return
        self._answer("POST", urlsplit(self.path).path, dict(parse_qsl(body.decode())))

    def _answer(self, method: str, path: str, params: dict[str, str]) -> None:
        if self.headers.get("Authorization") != f"Bearer {self.its.secret}":
            self._write(401, "application/json", b'{"error": {"type": "invalid_request_error"}}')
            return
        answer = self.its.handle(method, path, params, self.headers.get("Idempotency-Key"))
        if answer == "cut":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif answer == "html":
            self._write(200, "text/html", b"<html><body>Please log in to the guest network.</body></html>")
        elif answer == "bad_gateway":
            self._write(502, "text/html", b"<html><body>Bad gateway</body></html>")
        elif answer == "half":
            self._write(200, "application/json", b'{"id": "pi_1", "object": "payment_int')
        elif answer == "truncated":
            self._write(200, "application/json", b'{"id": "pi_1", "object": "payment_int', length=5000)
            self.close_connection = True
        else:
            assert isinstance(answer, tuple)
            body = answer[1] if isinstance(answer[1], bytes) else json.dumps(answer[1]).encode()
            self._write(answer[0], "application/json", body)

    def _write(self, status: int, kind: str, body: bytes, length: int | None = None) -> None:
        # One write, so that no answer waits for the acknowledgement of its head.
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length or len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
