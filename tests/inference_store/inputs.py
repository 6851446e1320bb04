"""Inputs that inferences are stored with, and what blobs and their rows look like then."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from pixano_cli import inference_store as istore
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.blobs import BlobStorage
from pixano_cli.inference_store.connection import blobs_of

from .requests import MODEL_ID, inference


def answer(data: bytes, **options: Any) -> istore.NewInferenceAndMetadataCollection:
    """The answer to an input."""
    return inference(data_hash=istore.get_data_hash(data), data_size=len(data), **options).data


def create_with_data(
    inference_id: str, data: bytes | str, *, is_protected: bool = False, **options: Any
) -> istore.Inference:
    """Store an inference of the detection model with its input."""
    content = data.encode() if isinstance(data, str) else data
    created = istore.create_inference_storage_request(
        MODEL_ID, inference_id, data, answer(content, **options), is_protected
    )
    assert created is not None
    return created


def ledger(store: istore.Store) -> dict[str, str]:
    """What the table says of each blob: settled, doomed, upload or made."""
    with store.read() as connection:
        rows = connection.execute(select(schema.blobs)).all()
    states = {}
    for row in rows:
        if row.pending_since is None:
            assert row.owner is None
            states[row.storage_key] = "settled"
        else:
            states[row.storage_key] = {None: "doomed", "upload": "upload"}.get(row.owner, "made")
    return states


def named_keys(store: istore.Store) -> set[str]:
    """Keys that any record names."""
    column = schema.inferences.c.data_storage_key
    with store.read() as connection:
        return set(connection.execute(select(column).where(column.is_not(None))).scalars())


def stored(store: istore.Store) -> tuple[BlobStorage, set[str]]:
    """The store's blob storage and the keys in it."""
    blobs = blobs_of(store)
    return blobs, set(blobs.keys())


def check_blobs(store: istore.Store) -> None:
    """Check that records, rows and blobs are of each other, and nothing is under way."""
    blobs, keys = stored(store)
    names = named_keys(store)
    assert keys == names
    assert ledger(store) == dict.fromkeys(names, "settled")
    for key in keys:
        assert istore.get_data_hash(blobs.get(key)) == key.rpartition("/")[2]
