"""The store that the documented functions work on, which name none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from sqlalchemy import Connection

from pixano_cli.errors import StoreError
from pixano_cli.inference_store.database import Store, open_store

_lock = Lock()
_current: Store | None = None


def connect(folder: str | os.PathLike[str] | None = None) -> Store:
    """Open a store, and make it the one that the functions of this package work on.

    Args:
        folder: The store's folder; None means PIXANO_STORE, else `.pixano-annotate`.

    Raises:
        StoreError: If it is no store, is of a newer version, or cannot be opened.
    """
    global _current
    with _lock:
        store = open_store(folder)
        if _current is not None:
            _current.close()
        _current = store
        return store


def current_store() -> Store:
    """Return the connected store; the first use connects to the default one.

    Raises:
        StoreError: If it cannot be opened.
    """
    global _current
    with _lock:
        if _current is None:
            _current = open_store()
        return _current


@contextmanager
def reading() -> Iterator[Connection]:
    """Give a connection to the connected store that sees one consistent state.

    Raises:
        StoreError: If the database fails, or is asked for something it cannot hold.
    """
    store = current_store()
    with _values_told(store), store.read() as connection:
        yield connection


@contextmanager
def writing() -> Iterator[Connection]:
    """Give a connection to the connected store in a transaction: all of it is kept, or nothing.

    Raises:
        StoreError: If the database fails, or is given something it cannot hold.
    """
    store = current_store()
    with _values_told(store), store.write() as connection:
        yield connection


@contextmanager
def _values_told(store: Store) -> Iterator[None]:
    try:
        yield
    except (UnicodeEncodeError, OverflowError) as error:
        raise StoreError(f"store {store.folder} cannot hold a value: {error}") from error
