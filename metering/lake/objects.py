"""The objects of a bucket, through the API that S3-compatible stores share.

Endpoint, region and credentials come from where every tool of Amazon looks for them: the environment, `~/.aws`, the
machine's role. Requests are repeated with growing, random pauses; an answer that never came is `Silent`, which says
nothing about what happened. No error shows more of the store's answer than its code.
"""

from __future__ import annotations

import hashlib
import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from metering.errors import MeteringError, UsageError
from metering.failpoints import failpoint
from metering.lake.files import Content, Item

T = TypeVar("T")

PART_BYTES = 64 * 2**20
"""Larger files are sent in parts of this size."""
ABSENT = ""
"""The tag of an object that is not there."""
_URL = re.compile(r"s3://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]+)(?:/(?P<prefix>.*))?")
_BLOCK = 2**20
_READS = 3
"""How often an object is read again whose bytes stopped coming."""
_MISSING = {"NoSuchKey", "404", "NotFound"}
_NOT_IMPLEMENTED = 501
_REFUSED = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}


class Silent(MeteringError):
    """The store gave no answer, or none that says what became of the request."""


class Mismatch(Exception):
    """The store has refused to write: the object is not the one that was named."""


class Upload(NamedTuple):
    """An upload in parts that was never finished."""

    key: str
    number: str
    began: int


class Objects:
    """The objects of one bucket below a prefix; names are relative to it."""

    def __init__(self, url: str) -> None:
        match = _URL.fullmatch(url)
        if match is None:
            # The address is not shown: somebody may have written a secret into it.
            raise UsageError(
                "An address that begins with s3:// names no bucket.", remedy="Write it as s3://bucket/prefix."
            )
        self.bucket = match["bucket"]
        self.prefix = "/".join(filter(None, (match["prefix"] or "").split("/")))
        self.url = f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @cached_property
    def _client(self) -> Any:
        import botocore.session
        from botocore.config import Config

        # Checksums that only Amazon's own store knows are left out; what is sent has its MD5.
        options: dict[str, Any] = {
            "retries": {"mode": "standard"},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "connect_timeout": 10,
        }
        session = botocore.session.get_session()
        client = session.create_client("s3", config=Config(**options))
        if "amazonaws.com" not in client.meta.endpoint_url and not client.meta.config.s3:
            # Other stores seldom have a host name for each bucket.
            client = session.create_client("s3", config=Config(**options, s3={"addressing_style": "path"}))
        return client

    @property
    def endpoint(self) -> str:
        """The address of the store."""
        with self._told("reached"):
            return str(self._client.meta.endpoint_url)

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._key(name)}

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    # Reading

    def get(self, name: str, known: Content | None = None) -> Content | None:
        """A small object; `known` itself if it is still that one, None where there is none."""
        unless = {"IfNoneMatch": known.tag} if known else {}
        try:
            return self._read(name, lambda answer: Content(answer["Body"].read(), answer["ETag"]), **unless)
        except _NotModified:
            return known
        except FileNotFoundError:
            return None

    def download(self, name: str, path: Path | None = None) -> str:
        """Copy an object to a file, or nowhere; its SHA-256. Raises FileNotFoundError where there is none."""

        def take(answer: Any) -> str:
            digest = hashlib.sha256()
            with (path or Path(os.devnull)).open("wb") as file:
                while block := answer["Body"].read(_BLOCK):
                    digest.update(block)
                    file.write(block)
            return digest.hexdigest()

        return self._read(name, take)

    def _read(self, name: str, take: Callable[[Any], T], **unless: str) -> T:
        """Take an object's bytes as they come; again from the start if they stop coming."""
        for again in reversed(range(_READS)):
            with self._told("read"):
                answer = self._client.get_object(**self._at(name), **unless)
            try:
                with self._told("read"):
                    return take(answer)
            except Silent:
                if not again:
                    raise
        raise AssertionError

    def items(self, prefix: str = "", after: str = "") -> Iterator[Item]:
        """The objects whose names begin so, in order, those after a name."""
        start = {"StartAfter": self._key(after)} if after else {}
        cut = len(self._key(""))
        with self._told("listed"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self._key(prefix), **start):
                for found in page.get("Contents", []):
                    written = int(found["LastModified"].timestamp()) * 10**6
                    yield Item(found["Key"][cut:], found["Size"], written)

    # Writing

    def put(self, name: str, data: bytes, tag: str | None = None) -> str:
        """Write a small object as one step; its new tag.

        With a tag only if the object still is that one, or is ABSENT; else raises Mismatch.
        """
        only = {} if tag is None else {"IfNoneMatch": "*"} if tag == ABSENT else {"IfMatch": tag}
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        try:
            with self._told("written"):
                return str(self._client.put_object(**self._at(name), Body=data, ContentMD5=_text(md5), **only)["ETag"])
        except FileNotFoundError:
            raise Mismatch from None

    def upload(self, path: Path, name: str) -> None:
        """Write a file as an object, which is there whole or not at all, and look at what the store has then."""
        size = path.stat().st_size
        with path.open("rb") as file, self._told("written"):
            if size > PART_BYTES:
                self._upload_parts(file, name)
                tag = ""
            else:
                md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
                file.seek(0)
                answer = self._client.put_object(**self._at(name), Body=file, ContentMD5=_text(md5.digest()))
                tag = answer["ETag"].strip('"')
            # A tag that is the MD5 proves the content; encrypted objects and those in parts have another one.
            proven = size <= PART_BYTES and tag == md5.hexdigest()
            if not proven and self._client.head_object(**self._at(name))["ContentLength"] != size:
                raise MeteringError(
                    f"{self.url}/{name} was cut off by the store.",
                    unchanged="Nothing of this run counts.",
                    remedy="Run the command again; look at the store if that does not help.",
                )

    def _upload_parts(self, file: Any, name: str) -> None:
        place = self._at(name)
        upload = self._client.create_multipart_upload(**place)["UploadId"]
        parts: list[dict[str, Any]] = []
        try:
            while block := file.read(PART_BYTES):
                number = len(parts) + 1
                md5 = _text(hashlib.md5(block, usedforsecurity=False).digest())
                answer = self._client.upload_part(
                    **place, UploadId=upload, PartNumber=number, Body=block, ContentMD5=md5
                )
                parts.append({"PartNumber": number, "ETag": answer["ETag"]})
                failpoint("bucket.during_upload")
            self._client.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts})
        except BaseException:
            # What cannot be given up now is swept later.
            with suppress(Exception):
                self._client.abort_multipart_upload(**place, UploadId=upload)
            raise

    def delete(self, name: str) -> None:
        """Take an object away; one that is gone is no error."""
        with self._told("removed"):
            self._client.delete_object(**self._at(name))

    def unfinished(self) -> list[Upload]:
        """The uploads in parts below the prefix that were begun and never finished."""
        with self._told("listed"):
            pages = self._client.get_paginator("list_multipart_uploads")
            found = pages.paginate(Bucket=self.bucket, Prefix=self._key(""))
            return [
                Upload(each["Key"], each["UploadId"], int(each["Initiated"].timestamp()) * 10**6)
                for page in found
                for each in page.get("Uploads", [])
            ]

    def give_up(self, upload: Upload) -> None:
        """Take away the parts of an upload that was never finished."""
        with self._told("removed"):
            self._client.abort_multipart_upload(Bucket=self.bucket, Key=upload.key, UploadId=upload.number)

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        """Tell what the store, or the way to it, answers as an error of ours."""
        try:
            from botocore import exceptions as botocore
            from urllib3.exceptions import HTTPError
        except ImportError:
            raise UsageError(
                f"{self.url}: a lake in an object store comes with the extra `s3`.",
                unchanged="Nothing was read or written.",
                remedy="Install it: pip install 'metering[s3]'.",
            ) from None
        try:
            yield
        except botocore.ClientError as error:
            raise self._refusal(error, done) from None
        except (botocore.NoCredentialsError, botocore.PartialCredentialsError, botocore.ProfileNotFound) as error:
            raise UsageError(
                f"{self.url} cannot be {done}: no credentials were found ({type(error).__name__}).",
                unchanged="Nothing was changed.",
                remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role.",
            ) from None
        except (botocore.HTTPClientError, botocore.ConnectionError, botocore.IncompleteReadError, HTTPError) as error:
            raise self._silent(type(error).__name__, done) from None
        except (botocore.BotoCoreError, ValueError) as error:
            raise UsageError(
                f"{self.url} cannot be {done}: {type(error).__name__}.",
                unchanged="Nothing was changed.",
                remedy="Look at the AWS_… variables and ~/.aws/config: endpoint, region, profile.",
            ) from None

    def _silent(self, why: str, done: str) -> Silent:
        return Silent(
            f"{self.url} cannot be {done}: the store gave no answer ({why}).",
            unchanged="Nothing is half-done.",
            remedy="Run the command again when the store answers.",
        )

    def _refusal(self, error: Any, done: str) -> Exception:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status == 304:
            return _NotModified()
        if code in _MISSING:
            return FileNotFoundError(f"{self.url}: no such object")
        if code in _REFUSED:
            return Mismatch()
        if (status >= 500 and status != _NOT_IMPLEMENTED) or status == 429 or code in ("RequestTimeout", "SlowDown"):
            return self._silent(code or str(status), done)
        if code == "NoSuchBucket":
            return UsageError(
                f"There is no bucket {self.bucket}.",
                unchanged="Nothing was changed.",
                remedy="Make it with the store's own tools, or mend [lake] url.",
            )
        return MeteringError(
            f"{self.url} cannot be {done}: the store refuses it ({code or status}).",
            unchanged="Nothing was changed.",
            remedy="Look at the rights of these credentials: get, put, delete and list below that prefix.",
        )


class _NotModified(Exception):
    """The object is the one that was named."""


def _text(digest: bytes) -> str:
    return b64encode(digest).decode("ascii")
