"""The store that the documented functions work on, which name none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from weakref import WeakKeyDictionary

from sqlalchemy import Connection

from pixano_cli.inference_store.blobs import BlobStorage, blobs_location, open_blobs
from pixano_cli.inference_store.database import Store, open_store
from pixano_cli.inference_store.errors import UnstorableError

_lock = Lock()
_current: Store | None = None
_storages: WeakKeyDictionary[Store, BlobStorage] = WeakKeyDictionary()


def connect(
    where: str | os.PathLike[str] | None = None,
    *,
    blobs: str | os.PathLike[str] | None = None,
    create: bool = True,
) -> Store:
    """Open a store, and make it the one that the functions of this package work on.

    Args:
        where: The store's folder, or the URL of a PostgreSQL database; None means PIXANO_STORE,
            else `.pixano-annotate`.
        blobs: Where inputs are kept: a folder, or s3://bucket/prefix; None means PIXANO_BLOBS,
            else the folder `blobs` beside the database.
        create: Whether to make a store where there is none.

    Raises:
        StoreError: If it is no store, is of a newer version, or cannot be opened.
    """
    global _current
    storage = None if blobs is None else open_blobs(blobs)
    with _lock:
        store = open_store(where, create=create)
        if storage is not None:
            _storages[store] = storage
        if _current is not None:
            _current.close()
        _current = store
    _keep_up(store)
    return store


def current_store() -> Store:
    """Return the connected store; the first use connects to the default one.

    Raises:
        StoreError: If it cannot be opened.
    """
    global _current
    with _lock:
        if _current is not None:
            return _current
        store = _current = open_store()
    _keep_up(store)
    return store


def blobs_of(store: Store) -> BlobStorage:
    """Return the storage of a store's blobs; nothing is asked of it yet.

    Raises:
        StoreError: If what PIXANO_BLOBS names is none.
    """
    with _lock:
        if store not in _storages:
            _storages[store] = open_blobs(blobs_location(store.folder))
        return _storages[store]


@contextmanager
def reading(store: Store | None = None) -> Iterator[Connection]:
    """Give a connection to a store that sees one consistent state.

    Args:
        store: The store; None means the connected one.

    Raises:
        StoreError: If the database fails, or is asked for something it cannot hold.
    """
    store = store or current_store()
    with _values_told(store), store.read() as connection:
        yield connection


@contextmanager
def writing(store: Store | None = None) -> Iterator[Connection]:
    """Give a connection to a store in a transaction: all of it is kept, or nothing.

    Args:
        store: The store; None means the connected one.

    Raises:
        StoreError: If the database fails, or is given something it cannot hold.
    """
    store = store or current_store()
    with _values_told(store), store.write() as connection:
        yield connection


def _keep_up(store: Store) -> None:
    # Imported here, for it works on stores that are connected.
    from pixano_cli.inference_store.retention import upkeep

    upkeep(store)


@contextmanager
def _values_told(store: Store) -> Iterator[None]:
    try:
        yield
    except (UnicodeEncodeError, OverflowError) as error:
        raise UnstorableError(f"store {store.name} cannot hold a value: {error}") from error
