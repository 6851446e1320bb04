"""Inputs on their way into blob storage, uploaded by a user or stored with their record."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from sqlalchemy import Connection

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import blob_ledger
from pixano_cli.inference_store.arguments import checked
from pixano_cli.inference_store.blobs import is_key, upload_key
from pixano_cli.inference_store.connection import blobs_of, current_store, writing
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.models import DataUpload, MetadataUpload
from pixano_cli.inference_store.register import registered

T = TypeVar("T")


@checked
def upload_data(model_id: str) -> DataUpload | None:
    """Return where to upload an input, whose key an inference is then created with.

    It is kept for 24 hours, and as long as inferences name it. The URL is one to PUT to, good for
    an hour; where blobs are in a folder it is a `file://` URL to write to.

    Raises:
        StoreError: If the model is not registered, or the storage fails.
    """
    key, url = _upload(model_id)
    return DataUpload(data_presigned_url=url, data_storage_key=key)


@checked
def upload_inference_and_metadata(model_id: str) -> MetadataUpload | None:
    """Return where to upload an answer with its metadata, as `encode` writes it.

    It is kept for 24 hours, and as long as inferences name it. The URL is as `upload_data`'s.

    Raises:
        StoreError: If the model is not registered, or the storage fails.
    """
    key, url = _upload(model_id)
    return MetadataUpload(metadata_presigned_url=url, metadata_storage_key=key)


def presigned(store: Store, key: str | None) -> str | None:
    """Return a URL to have an input from; None if there is none, or others keep it.

    Raises:
        StoreError: If the storage fails.
    """
    return blobs_of(store).get_url(key) if key is not None and is_key(key) else None


def put_with_record(key: str, model_id: str, data: bytes, record: Callable[[Connection], T]) -> T:
    """Put an input into blob storage, and make the record that names it: both, or neither.

    Args:
        key: The key of this very content.
        model_id: The model whose input it is.
        data: The input.
        record: Makes the record and settles the key, in the transaction it is called in.

    Returns:
        What `record` returned.

    Raises:
        StoreError: If the database or the storage fails.
    """
    store = current_store()
    blobs = blobs_of(store)
    while True:
        with writing(store) as connection:
            owner = blob_ledger.begin(connection, key, model_id, len(data))
        try:
            if blobs.size(key) != len(data):
                blobs.put(key, data)
            with writing(store) as connection:
                mine = blob_ledger.is_held(connection, key, owner)
                if not mine and blobs.size(key) != len(data):
                    # Somebody else made, named and removed the same content meanwhile.
                    continue
                if not mine:
                    blob_ledger.begin(connection, key, model_id, len(data))
                return record(connection)
        except BaseException:
            # What is told is the first error; what is left is collected later.
            with suppress(StoreError):
                blob_ledger.abandon(store, blobs, key, owner)
            raise


def _upload(model_id: str) -> tuple[str, str]:
    store = current_store()
    key = upload_key()
    with store.read() as connection:
        registered(connection, model_id)
    url = blobs_of(store).put_url(key)
    with writing(store) as connection:
        blob_ledger.begin(connection, key, model_id, None, blob_ledger.UPLOAD)
    return key, url
