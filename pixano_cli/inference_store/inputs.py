"""The inputs of records, had again: from blob storage, else from the file they were read from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from pixano_cli.errors import MediaError, StoreError
from pixano_cli.inference_store.blobs import BlobStorage, is_key
from pixano_cli.media.flight import path_of
from pixano_cli.media.identity import read_file, sha256
from pixano_cli.media.video_identity import digest_of

_UNKNOWN = "the store has no input of it and knows no file"


class InputError(StoreError):
    """An input cannot be had any more; the text is why."""


def read_input(blobs: BlobStorage, records: Sequence[Row[Any]], urls: Sequence[str]) -> bytes:
    """Return the input of records, which is the same for all of them.

    Args:
        blobs: The storage that their keys are of.
        records: Rows of the table of inferences.
        urls: Files that had its content when they were last read; one is used if it still has.

    Raises:
        InputError: If none of them has it.
        StoreError: If the storage fails, so that nothing is known of it.
    """
    reasons = []
    for key in sorted({each.data_storage_key for each in records if each.data_storage_key}):
        if not is_key(key):
            reasons.append(f"its storage key {key[:50]!r} is none of this store's")
            continue
        try:
            return blobs.get(key)
        except StoreError as error:
            if blobs.exists(key):
                raise
            reasons.append(str(error))
    for url in urls:
        try:
            data = read_file(path_of(url))
        except MediaError as error:
            reasons.append(str(error))
            continue
        if sha256(data) == records[0].data_hash:
            return data
        reasons.append(_changed(url))
    raise InputError("; ".join(reasons) or _UNKNOWN)


def find_input(data_hash: str, urls: Sequence[str]) -> Path:
    """Return a video's file, or the folder of its frames.

    Args:
        data_hash: Its digest: see `video_identity`.
        urls: Where it was when it was last read.

    Raises:
        InputError: If it is nowhere, or has changed.
    """
    reasons = []
    for url in urls:
        try:
            digest, _ = digest_of(path_of(url))
        except MediaError as error:
            reasons.append(str(error))
            continue
        if digest == data_hash:
            return path_of(url)
        reasons.append(_changed(url))
    raise InputError("; ".join(reasons) or _UNKNOWN)


def _changed(url: str) -> str:
    return f"{str(path_of(url))!r} has changed since"
