"""Blobs in S3-compatible storage.

Endpoint, region and credentials are found as boto3 finds them: AWS_ENDPOINT_URL_S3 or
AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and so on, or its configuration files. None of
them is kept, and none is in a message.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from pixano_cli.errors import StoreError
from pixano_cli.inference_store.blobs import check_key, is_key

URL_SECONDS = 3600
"""How long a presigned URL is good for."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_ABSENT = {"404", "NoSuchKey", "NotFound"}


class S3Blobs:
    """Blobs as objects of a bucket, each under a prefix and its key."""

    def __init__(self, url: str) -> None:
        """Take `s3://bucket/prefix`; the prefix may be left out.

        Raises:
            StoreError: If it is not of this form, or boto3 is not installed.
        """
        bucket, _, prefix = url.partition("://")[2].partition("/")
        # What stands there may be a key and its secret: it is not repeated.
        if not _BUCKET.fullmatch(bucket) or "?" in url:
            raise StoreError(
                "blobs: the URL of S3 storage is s3://bucket/prefix, and nothing else in it: "
                "endpoint and credentials are set as AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY"
            )
        prefix = prefix.strip("/")
        self._prefix = f"{check_key(prefix)}/" if prefix else ""
        self._bucket = bucket
        self.name = f"s3://{bucket}/{self._prefix}".rstrip("/")
        if importlib.util.find_spec("boto3") is None:
            raise StoreError(
                f"blobs in {self.name} need the package boto3: pip install 'pixano-annotate[s3]'"
            )
        # By the process it was made in: a forked one must not go on with its connections.
        self._made: dict[int, Any] = {}
        self._making = Lock()

    def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`."""
        with self._told(f"blob {key!r} cannot be put in {self.name}"):
            self._client.put_object(**self._object(key), Body=data)

    def put_file(self, key: str, path: Path) -> None:
        """Keep a file's content under `key`, in parts where it is large: all of it, or nothing."""
        from boto3.exceptions import S3UploadFailedError

        failed = f"{path} cannot be put in {self.name} as {key!r}"
        with self._told(failed):
            try:
                place = self._object(key)
                self._client.upload_file(os.fspath(path), place["Bucket"], place["Key"])
            except S3UploadFailedError as error:
                # It names the cause, which it does not keep.
                raise StoreError(f"{failed}: {_without_credentials(str(error))}") from error

    def get(self, key: str) -> bytes:
        """Return what is under `key`."""
        with self._told(f"blob {key!r} cannot be got from {self.name}"):
            from botocore.exceptions import ClientError

            try:
                body: bytes = self._client.get_object(**self._object(key))["Body"].read()
            except ClientError as error:
                if _code(error) not in _ABSENT:
                    raise
                raise StoreError(f"there is no blob {key!r} in {self.name}") from error
            return body

    def exists(self, key: str) -> bool:
        """Return whether there is a blob under `key`."""
        return self.size(key) is not None

    def size(self, key: str) -> int | None:
        """Return the size of the blob in bytes; None if there is none."""
        with self._told(f"blob {key!r} cannot be looked for in {self.name}"):
            from botocore.exceptions import ClientError

            try:
                size: int = self._client.head_object(**self._object(key))["ContentLength"]
            except ClientError as error:
                if _code(error) not in _ABSENT:
                    raise
                # The answer is the same when the bucket itself is not there.
                self._client.head_bucket(Bucket=self._bucket)
                return None
            return size

    def delete(self, key: str) -> None:
        """Remove what is under `key`, if there is anything."""
        with self._told(f"blob {key!r} cannot be deleted from {self.name}"):
            self._client.delete_object(**self._object(key))

    def keys(self) -> Iterator[str]:
        """Go through all keys, a thousand to a request; what has no well-formed key is left out."""
        with self._told(f"blobs in {self.name} cannot be listed"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            for page in pages:
                for each in page.get("Contents", ()):
                    key = each["Key"][len(self._prefix) :]
                    if is_key(key):
                        yield key

    def sweep(self) -> int:
        """Do nothing: an object is put in one request, which leaves nothing unfinished."""
        return 0

    def put_url(self, key: str) -> str:
        """Return a URL to PUT to, good for an hour."""
        return self._presigned("put_object", key)

    def get_url(self, key: str) -> str:
        """Return a URL to GET, good for an hour, whether the blob is there or not."""
        return self._presigned("get_object", key)

    def _presigned(self, operation: str, key: str) -> str:
        with self._told(f"no URL can be made for blob {key!r} in {self.name}"):
            url: str = self._client.generate_presigned_url(
                operation, Params=self._object(key), ExpiresIn=URL_SECONDS
            )
            return url

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + check_key(key)}

    @property
    def _client(self) -> Any:
        process = os.getpid()
        with self._making:
            if process not in self._made:
                self._made[process] = _new_client()
            return self._made[process]

    @contextmanager
    def _told(self, failed: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            raise StoreError(f"{failed}: {self._explain(error)}") from error
        except (BotoCoreError, ValueError) as error:
            raise StoreError(f"{failed}: {_without_credentials(str(error))}") from error

    def _explain(self, error: Any) -> str:
        code = _code(error)
        if code in {"NoSuchBucket", *_ABSENT}:
            return f"there is no bucket {self._bucket!r} at this endpoint: make it first"
        if code in {"403", "AccessDenied"}:
            return f"access to bucket {self._bucket!r} is denied to these credentials"
        message = error.response.get("Error", {}).get("Message", "")
        return _without_credentials(f"{code}: {message}" if message else code)


def _new_client() -> Any:
    from boto3.session import Session
    from botocore.config import Config

    config = Config(
        # Older signatures are what boto3 still gives some URLs, and not every server takes them.
        signature_version="s3v4",
        # Checksums of its own are newer than many servers that speak S3.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=10,
        read_timeout=60,
        retries={"mode": "standard", "max_attempts": 4},
    )
    # A session of one's own: making a client from the shared one is not safe between threads.
    return Session().client("s3", config=config)


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _without_credentials(text: str) -> str:
    """Return an error's text on one line, without what may stand before a URL's host."""
    return " ".join(re.sub(r"://[^/\s\"']*@", "://", text).split())
