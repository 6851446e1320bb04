"""Verifying blobs: each that a record names is there as it was stored, and no others are.

What is wrong with a blob is looked at twice, for other processes store and remove meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Select, bindparam, func, select

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.blob_ledger import begin, discard, doom, settle
from pixano_cli.inference_store.blobs import UPLOADS, BlobStorage, data_key, is_key
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.findings import Findings, Kind

PAGE = 500
DATA = "data/"

# A storage that is far away answers many at once as fast as one.
_AT_ONCE = 8

_CHECK = "check that PIXANO_BLOBS is what it was when they were stored; else restore a copy of them"

MISSING = Kind("inputs that records name and that are not in the storage", _CHECK)
OTHER_SIZE = Kind("inputs of another size than was stored", _CHECK)
OTHER_CONTENT = Kind("inputs of another content than was stored", _CHECK)
UNKNOWN = Kind(
    "inputs in the storage that this store knows nothing of",
    "remove them, if no other store keeps its inputs there",
)
UNNOTED = Kind(
    "inputs that records name and the table of blobs does not", "verify --repair notes them"
)
UNNAMED = Kind("inputs that no record names any more", "verify --repair removes them")

_KEYS: BindParameter[list[str]] = bindparam("keys", expanding=True)

_blobs, _inferences = schema.blobs, schema.inferences
_key, _named = _blobs.c.storage_key, _inferences.c.data_storage_key
_is_named = select(_inferences.c.id).where(_named == _key).exists()
_settled = _blobs.c.pending_since.is_(None)
_SETTLED = select(_key, _blobs.c.size).where(_settled)
_UNNAMED = select(_key).where(_settled, ~_is_named)
_UNNOTED = (
    select(_named, func.count(), func.min(_inferences.c.model_id))
    .outerjoin(_blobs, _key == _named)
    .where(_named.is_not(None), _key.is_(None))
    .group_by(_named)
)


def verify_blobs(
    store: Store, blobs: BlobStorage, findings: Findings, *, deep: bool, repair: bool
) -> tuple[int, int]:
    """Go through all blobs, by the records, by their table and by the storage.

    Returns:
        How many blobs there are, and how many records name one that others keep.

    Raises:
        StoreError: If the database or the storage fails.
    """
    elsewhere = _verify_unnoted(store, blobs, findings, repair=repair)
    _verify_unnamed(store, blobs, findings, repair=repair)
    count = _verify_settled(store, blobs, findings, deep=deep)
    _verify_storage(store, blobs, findings)
    return count, elsewhere


def _verify_unnoted(store: Store, blobs: BlobStorage, findings: Findings, *, repair: bool) -> int:
    """Look for keys that records name and the table does not; return how many others keep."""
    elsewhere = 0
    for page in _pages(store, _UNNOTED, _named):
        for key, records, model_id in page:
            size = blobs.size(key) if is_key(key) else None
            if not _still(store, _UNNOTED.where(_named == key)):
                continue
            if size is None and not key.startswith((DATA, UPLOADS)):
                elsewhere += records
            elif size is None:
                findings.add(MISSING, key)
            else:
                if repair:
                    with store.write() as connection:
                        begin(connection, key, model_id, size)
                        settle(connection, [key])
                findings.add(UNNOTED, key, repaired=repair)
    return elsewhere


def _verify_unnamed(store: Store, blobs: BlobStorage, findings: Findings, *, repair: bool) -> None:
    """Look for settled blobs that no record names; the transaction that parts them settles both."""
    for page in _pages(store, _UNNAMED, _key):
        keys = [row.storage_key for row in page]
        if repair:
            with store.write() as connection:
                doomed = doom(connection, keys)
            discard(store, blobs, doomed)
        for key in keys:
            findings.add(UNNAMED, key, repaired=repair)


def _verify_settled(store: Store, blobs: BlobStorage, findings: Findings, *, deep: bool) -> int:
    """Look whether each blob of the table is in the storage, as it was stored."""
    count = 0
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for page in _pages(store, _SETTLED, _key):
            count += len(page)
            keys = [row.storage_key for row in page]
            sizes = threads.map(blobs.size, keys)
            wrong = [row for row, size in zip(page, sizes, strict=True) if not _fits(row, size)]
            for row in wrong:
                _look_again(store, blobs, findings, row)
            if deep:
                sound = [key for key in keys if key.startswith(DATA)]
                found = threads.map(partial(_digest, blobs), sound)
                for key, digest in zip(sound, found, strict=True):
                    if digest is not None and key != data_key(digest):
                        findings.add(OTHER_CONTENT, key)
    return count


def _verify_storage(store: Store, blobs: BlobStorage, findings: Findings) -> None:
    """Look for blobs in the storage that have no row."""
    known = select(_key).where(_key.in_(_KEYS))
    # Others keep those; exports are in the storage too where it is not a folder.
    named = select(_named).where(_named.in_(_KEYS))
    exports = schema.export_tasks.c.storage_key
    exported = select(exports).where(exports.in_(_KEYS))
    left = iter(blobs.keys())
    while some := list(islice(left, PAGE)):
        with store.read() as connection:
            for query in (known, named, exported):
                there = set(connection.execute(query, {"keys": some}).scalars()) if some else set()
                some = [key for key in some if key not in there]
        for key in some:
            # A row goes after its bytes.
            if blobs.exists(key) and not _still(store, known, keys=[key]):
                findings.add(UNKNOWN, key)


def _look_again(store: Store, blobs: BlobStorage, findings: Findings, row: Any) -> None:
    """Note what is wrong with a blob, unless it was removed or made anew meanwhile."""
    with store.read() as connection:
        again = connection.execute(_SETTLED.where(_key == row.storage_key)).first()
    if again is None:
        return
    size = blobs.size(again.storage_key)
    if _fits(again, size) or not _still(store, _SETTLED.where(_key == row.storage_key)):
        return
    if size is None:
        findings.add(MISSING, row.storage_key)
    else:
        findings.add(OTHER_SIZE, f"{row.storage_key}: {size} bytes instead of {again.size}")


def _fits(row: Any, size: int | None) -> bool:
    return size is not None and row.size in (None, size)


def _digest(blobs: BlobStorage, key: str) -> str | None:
    """Return the sha256 of a blob; None if it is gone, which is told by its size."""
    try:
        return hashlib.sha256(blobs.get(key)).hexdigest()
    except StoreError:
        if blobs.size(key) is None:
            return None
        raise


def _still(store: Store, query: Select[Any], **values: Any) -> bool:
    with store.read() as connection:
        return connection.execute(query, values).first() is not None


def _pages(store: Store, query: Select[Any], key: ColumnElement[str]) -> Iterator[Sequence[Any]]:
    """Yield the rows of a query whose first column is the key, each page as it is at its time."""
    last = ""
    while True:
        with store.read() as connection:
            page = connection.execute(query.where(key > last).order_by(key).limit(PAGE)).all()
        if not page:
            return
        yield page
        last = page[-1][0]
