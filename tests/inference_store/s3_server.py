"""A server that speaks S3, on this machine, for the tests that need one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "inputs"
SECRET = "a-secret-that-no-message-holds"


@contextmanager
def serve() -> Iterator[str]:
    """Give the URL of a new server, which answers until the block ends."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def environment(endpoint: str) -> dict[str, str]:
    """What a process needs to reach the server."""
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "eu-west-3",
        # No file of this machine's user is read.
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def client(endpoint: str) -> Any:
    """A client of its own, which knows nothing of the code under test."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name="eu-west-3",
        aws_access_key_id="tests",
        aws_secret_access_key=SECRET,
    )


def make_bucket(endpoint: str, bucket: str) -> None:
    """Make a bucket where there is none: servers of one process have the same ones."""
    place = {"LocationConstraint": "eu-west-3"}
    made = client(endpoint)
    with suppress(made.exceptions.BucketAlreadyOwnedByYou):
        made.create_bucket(Bucket=bucket, CreateBucketConfiguration=place)


@pytest.fixture(name="s3_endpoint", scope="session")
def serving() -> Iterator[str]:
    """The URL of a server with a bucket."""
    with serve() as endpoint:
        make_bucket(endpoint, BUCKET)
        yield endpoint
