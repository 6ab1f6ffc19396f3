"""A small Airwallex on loopback, written from its documents: tokens that die, 400s that say nothing, lost answers.

`faults` says what the network or the API does to each next POST that changes something: `drop_before`, `drop_after`,
a status (`500`, `429`), `html`, or a code of a 400 (`provider_unavailable`: the request was not carried out;
`provider_unavailable!`: it was).
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

SECRETS = {"AIRWALLEX_CLIENT_ID": "client-id-of-a-test", "AIRWALLEX_API_KEY": "api-key-of-a-test"}
CONSENTS = {
    "cst_ok": None,
    "cst_declined": ("issuer_declined", "05"),
    "cst_stolen": ("issuer_declined", "43"),
    "cst_poor": ("issuer_declined", "51"),
}
ACTING = {"cst_act": "REQUIRES_CUSTOMER_ACTION", "cst_pending": "PENDING", "cst_review": "PENDING_REVIEW"}


class Failed(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class Airwallex:
    """The state, and how each request changes it."""

    def __init__(self) -> None:
        self.intents: dict[str, dict[str, Any]] = {}
        self.refunds: dict[str, dict[str, Any]] = {}
        self.captures: list[tuple[str, str, str]] = []
        """Invoice, amount, currency of all money that left cards."""
        self.bodies: list[tuple[str, str]] = []
        """Path and raw body of every POST."""
        self.faults: list[str] = []
        self.logins = 0
        self.page = 100
        self.tokens: set[str] = set()
        self._requests: dict[str, str] = {}
        self._count = 0
        self._lock = threading.RLock()
        self.url = ""

    def handle(self, method: str, path: str, headers: Any, body: str) -> tuple[int, Any]:
        with self._lock:
            if path == "/api/v1/authentication/login":
                return self._login(headers)
            if headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
                raise Failed(401, "unauthorized")
            parts = urlsplit(path)
            if method == "GET":
                return 200, self._get(parts.path, {key: value[0] for key, value in parse_qs(parts.query).items()})
            self.bodies.append((parts.path, body))
            return 200, self._post(parts.path, json.loads(body, parse_float=Decimal))

    def kill_tokens(self) -> None:
        self.tokens.clear()

    def _login(self, headers: Any) -> tuple[int, Any]:
        if (headers.get("x-client-id"), headers.get("x-api-key")) != tuple(SECRETS.values()):
            raise Failed(401, "unauthorized")
        self.logins += 1
        token = f"token-{self.logins}"
        self.tokens.add(token)
        return 201, {"token": token, "expires_at": "2026-06-01T08:30:00+0000"}

    def _get(self, path: str, query: dict[str, str]) -> Any:
        listing = {"/api/v1/pa/payment_intents": self.intents, "/api/v1/pa/refunds": self.refunds}.get(path)
        if listing is None:
            return self._found(path.rsplit("/", 1)[1])
        wanted = [
            item
            for item in reversed(listing.values())
            if all(str(item.get(key)) == value for key, value in query.items() if key in item)
            and item["created_at"] >= query.get("from_created_at", "")
        ]
        size = min(int(query["page_size"]), self.page)
        start = int(query["page_num"]) * size
        return {"items": wanted[start : start + size], "has_more": len(wanted) > start + size}

    def _found(self, ref: str) -> dict[str, Any]:
        if ref not in self.intents:
            raise Failed(400, "resource_not_found")
        return self.intents[ref]

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        if body["request_id"] in self._requests:
            raise Failed(400, "duplicate_request")
        self._requests[body["request_id"]] = path
        self._count += 1
        if path == "/api/v1/pa/payment_intents/create":
            return self._create(body)
        if path == "/api/v1/pa/refunds/create":
            return self._refund(body)
        ref, action = re.fullmatch(r"/api/v1/pa/payment_intents/(\w+)/(\w+)", path).groups()  # type: ignore[union-attr]
        intent = self._found(ref)
        return self._cancel(intent) if action == "cancel" else self._confirm(intent, body["payment_consent_id"])

    def _create(self, body: dict[str, Any]) -> Any:
        if body["customer_id"] == "cus_gone":
            raise Failed(400, "resource_not_found")
        if Decimal(body["amount"]) < Decimal("0.10"):
            raise Failed(400, "amount_below_limit")
        ref = f"int_{self._count}"
        self.intents[ref] = {
            **body,
            "id": ref,
            "status": "REQUIRES_PAYMENT_METHOD",
            "captured_amount": 0,
            "created_at": f"2026-06-01T08:{self._count:02}:00+0000",
        }
        return self.intents[ref]

    def _confirm(self, intent: dict[str, Any], consent: str) -> Any:
        if intent["status"] not in ("REQUIRES_PAYMENT_METHOD", "REQUIRES_CUSTOMER_ACTION"):
            raise Failed(400, "invalid_status_for_operation")
        if consent not in {**CONSENTS, **ACTING, "cst_capture": None}:
            raise Failed(400, "resource_not_found")
        attempt = {"id": f"att_{self._count}", "status": "RECEIVED", "payment_consent_id": consent}
        intent["latest_payment_attempt"] = attempt
        decline = CONSENTS.get(consent)
        if decline:
            intent["status"] = "REQUIRES_PAYMENT_METHOD"
            attempt |= {"status": "FAILED", "failure_code": decline[0], "provider_original_response_code": decline[1]}
            raise Failed(400, decline[0])
        if consent == "cst_capture":
            intent["status"] = "REQUIRES_CAPTURE"
        elif consent in ACTING:
            intent["status"] = ACTING[consent]
        else:
            attempt["status"] = "SETTLED"
            self.captures.append((intent["merchant_order_id"], str(intent["amount"]), intent["currency"]))
            intent |= {"status": "SUCCEEDED", "captured_amount": intent["amount"]}
        return intent

    def _cancel(self, intent: dict[str, Any]) -> Any:
        if intent["status"] in ("SUCCEEDED", "CANCELLED", "PENDING"):
            raise Failed(400, "invalid_status_for_operation")
        intent["status"] = "CANCELLED"
        return intent

    def _refund(self, body: dict[str, Any]) -> Any:
        intent = self._found(body["payment_intent_id"])
        ref = f"rfd_{self._count}"
        created = f"2026-06-01T09:{self._count:02}:00+0000"
        self.refunds[ref] = {
            **body, "id": ref, "currency": intent["currency"], "status": "RECEIVED", "created_at": created,
        }  # fmt: skip
        return self.refunds[ref]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self._answer("GET", "")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            # The client was killed while it sent: half a request is none.
            self.close_connection = True
            return
        self._answer("POST", body.decode())

    def _answer(self, method: str, body: str) -> None:
        fake: Airwallex = self.server.fake
        changes = method == "POST" and not self.path.endswith("/login")
        fault = fake.faults.pop(0) if changes and fake.faults else ""
        if fault == "drop_before":
            self._drop()
            return
        try:
            if fault.isdigit():
                raise Failed(int(fault), "rate_limit_error")
            if fault and not fault.endswith("!") and fault not in ("drop_after", "html"):
                raise Failed(400, fault)
            status, answer = fake.handle(method, self.path, self.headers, body)
            if fault.endswith("!"):
                raise Failed(400, fault.rstrip("!"))
        except Failed as failed:
            status, answer = failed.status, {"code": failed.code, "message": f"no {SECRETS['AIRWALLEX_API_KEY']}"}
        if fault == "drop_after":
            self._drop()
            return
        content = b"<html>busy</html>" if fault == "html" else json.dumps(answer, default=_number).encode()
        # Decimals are written as numbers: the placeholder's quotes go.
        content = re.sub(rb'"#(-?[0-9.]+)#"', rb"\1", content)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _number(value: Any) -> str:
    return f"#{value}#"


@contextmanager
def airwallex() -> Iterator[Airwallex]:
    """A running server."""
    fake = Airwallex()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.fake = fake  # type: ignore[attr-defined]
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
