"""The inputs of records, had again: from blob storage, else from the file they were read from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Row

from pixano_cli.errors import MediaError, StoreError
from pixano_cli.inference_store.blobs import BlobStorage, is_key
from pixano_cli.media.flight import path_of
from pixano_cli.media.identity import read_file, sha256
from pixano_cli.media.video_identity import digest_of

T = TypeVar("T")


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

    def read(path: Path) -> tuple[str, bytes]:
        data = read_file(path)
        return sha256(data), data

    return _unchanged(records[0].data_hash, urls, reasons, read)


def find_input(data_hash: str, urls: Sequence[str]) -> Path:
    """Return a video's file, or the folder of its frames.

    Args:
        data_hash: Its digest: see `video_identity`.
        urls: Where it was when it was last read.

    Raises:
        InputError: If it is nowhere, or has changed.
    """
    return _unchanged(data_hash, urls, [], lambda path: (digest_of(path)[0], path))


def _unchanged(
    data_hash: str,
    urls: Sequence[str],
    reasons: list[str],
    read: Callable[[Path], tuple[str, T]],
) -> T:
    """Return what is read of the first file that still has this digest, which is read with it.

    Raises:
        InputError: If none has; the text has the reasons up to here as well.
    """
    for url in urls:
        try:
            digest, found = read(path_of(url))
        except MediaError as error:
            reasons.append(str(error))
            continue
        if digest == data_hash:
            return found
        reasons.append(f"{str(path_of(url))!r} has changed since")
    raise InputError("; ".join(reasons) or "the store has no input of it and knows no file")
