"""An object store of the tests' own: moto on this machine, behind a door that can misbehave.

One server for each process; each test has a bucket of its own. The door counts requests, and does on demand what
networks and stores do: it answers 500 before or after the work was done, cuts the connection, holds a request up,
or knows nothing of conditions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from itertools import count
from socket import SHUT_RDWR
from threading import Thread
from typing import Any

Environ = dict[str, Any]
_ERROR = b"<Error><Code>%s</Code><Message>no</Message></Error>"
_NUMBERS = count(1)

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "of-the-tests",
    "AWS_SECRET_ACCESS_KEY": "kept-by-nobody",  # pragma: allowlist secret; made up
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nowhere",
    "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
}


@dataclass
class Fault:
    """What becomes of the next requests of a kind."""

    kind: str
    """`500`, `503`: nothing is done; `late 500`, `late cut`: it is done, and nobody hears of it; `403`; `as it is`;
    `wrong tag`: it is done, and the answer names another content."""
    method: str
    path: str
    times: int = 1
    before: Callable[[], object] = lambda: None
    """What happens in the meantime."""


@dataclass
class Door:
    """What stands before the store."""

    app: Any
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    conditions: str = "known"
    """`known`, `ignored`, or `refused` with 501."""

    def __call__(self, environ: Environ, start: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.asked.append(f"{method} {path}?{environ['QUERY_STRING']}")
        environ["wsgi.input"] = BytesIO(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        if method == "PUT" and {"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"} & set(environ):
            if self.conditions == "refused":
                return _answer(start, "501 Not Implemented", b"NotImplemented")
            if self.conditions == "ignored":
                environ.pop("HTTP_IF_MATCH", None)
                environ.pop("HTTP_IF_NONE_MATCH", None)
        fault = self._next(method, path)
        if fault is None:
            return self.app(environ, start)  # type: ignore[no-any-return]
        fault.before()
        if fault.kind == "as it is":
            return self.app(environ, start)  # type: ignore[no-any-return]
        if fault.kind == "wrong tag":
            return self.app(environ, lambda status, headers, *_: start(status, _other_tag(headers)))  # type: ignore[no-any-return]
        if fault.kind == "403":
            return _answer(start, "403 Forbidden", b"AccessDenied")
        if fault.kind == "503":
            return _answer(start, "503 Slow Down", b"SlowDown")
        if fault.kind.startswith("late"):
            b"".join(self.app(environ, lambda *_: None))
        if fault.kind.endswith("cut"):
            environ["werkzeug.socket"].shutdown(SHUT_RDWR)
            raise ConnectionError("cut on purpose")
        return _answer(start, "500 Internal Server Error", b"InternalError")

    def _next(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and fault.method == method and re.search(fault.path, path):
                fault.times -= 1
                return fault
        return None


def _other_tag(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """An answer's headers with another content's tag."""
    return [(name, f'"{"0" * 32}"' if name.lower() == "etag" else value) for name, value in headers]


def _answer(start: Any, status: str, code: bytes) -> Iterable[bytes]:
    body = _ERROR % code
    start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


@dataclass
class Store:
    """One bucket of the server."""

    door: Door
    endpoint: str
    bucket: str
    client: Any

    @property
    def url(self) -> str:
        """A lake in it."""
        return f"s3://{self.bucket}/some/lake"

    def fault(self, kind: str, method: str, path: str, times: int = 1, before: Any = lambda: None) -> Fault:
        """Have the next such requests go wrong."""
        self.door.faults.append(Fault(kind, method, path, times, before))
        return self.door.faults[-1]

    def objects(self) -> dict[str, bytes]:
        """Every object of the lake by its name."""
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        keys = [each["Key"] for each in found]
        return {
            key.removeprefix("some/lake/"): self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            for key in keys
        }

    def put(self, name: str, data: bytes) -> None:
        """Overwrite an object behind the engine's back."""
        self.client.put_object(Bucket=self.bucket, Key=f"some/lake/{name}", Body=data)

    def delete(self, name: str) -> None:
        """Remove an object behind the engine's back."""
        self.client.delete_object(Bucket=self.bucket, Key=f"some/lake/{name}")


@cache
def _server() -> tuple[Door, str]:
    import botocore.session
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    # Every client reads what the API is like, a tenth of a second of work, from files that do not change.
    botocore.session.create_loader = cache(botocore.session.create_loader)

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: object) -> None:
            pass

    door = Door(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, door, threaded=True, request_handler=Quiet)
    Thread(target=server.serve_forever, daemon=True).start()
    return door, f"http://127.0.0.1:{server.port}"


def new_store(setenv: Callable[[str, str], None]) -> Store:
    """A fresh bucket; `setenv` sets the variables by which it is found."""
    import botocore.session

    door, endpoint = _server()
    door.faults.clear()
    door.asked.clear()
    door.conditions = "known"
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": endpoint}.items():
        setenv(name, value)
    client = botocore.session.Session().create_client("s3")
    bucket = f"bucket-{next(_NUMBERS)}"
    client.create_bucket(Bucket=bucket)
    return Store(door, endpoint, bucket, client)
