"""Which blobs there are: the table `blobs`, a row for each, written before its bytes.

A row whose `pending_since` is null is settled: a record names the blob. Another one is being
made by its `owner`, waits for a user's upload, or, without an owner, is to be removed. Bytes are
removed in a transaction that writes, which has found that no record names them and nobody makes
them; as only one writes at a time, none can begin to name them meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from secrets import token_hex
from time import monotonic
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, tuple_, update

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import process, schema
from pixano_cli.inference_store.blobs import BlobStorage
from pixano_cli.inference_store.database import Store, now
from pixano_cli.inference_store.records import conflict_insert

UPLOAD = "upload"
"""Owner of a blob whose bytes a user has yet to put, or has put, and no record names yet."""

GRACE_US = 24 * 3600 * 1_000_000
"""After it an upload that no record names is removed, and no process still makes a blob."""

# Others wait for their turn to write meanwhile.
LONGEST_WRITE_S = 0.5

KEYS_A_STATEMENT = 500

_blobs = schema.blobs
_key = schema.inferences.c.data_storage_key


def begin(
    connection: Connection, key: str, model_id: str, size: int | None, owner: str | None = None
) -> str:
    """Note a blob before its bytes are put, whether it is known already or not.

    Args:
        connection: In a transaction of its own, which is committed before the bytes are put.
        key: A well-formed key.
        model_id: The model whose input it is.
        size: Its size in bytes, where it is known.
        owner: UPLOAD; None for this process.

    Returns:
        The owner, by which `is_held` tells whether somebody else did anything to it since.
    """
    owner = owner or _owner()
    time = now()
    statement = conflict_insert(connection, _blobs).values(
        storage_key=key,
        model_id=model_id,
        size=size,
        created_at=time,
        pending_since=time,
        owner=owner,
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["storage_key"],
            set_={"size": size, "pending_since": time, "owner": owner},
        )
    )
    return owner


def is_held(connection: Connection, key: str, owner: str) -> bool:
    """Return whether nobody has begun, settled or removed the blob since `owner` began it."""
    query = select(_blobs.c.owner).where(_blobs.c.storage_key == key)
    return connection.execute(query).scalar_one_or_none() == owner


def settle(connection: Connection, keys: Sequence[str]) -> None:
    """Note that records name these blobs, in the transaction that makes them do it.

    Keys of blobs that were never begun are left out: others keep those.
    """
    for some in _batches(keys):
        connection.execute(
            update(_blobs)
            .where(_blobs.c.storage_key.in_(some))
            .values(pending_since=None, owner=None)
        )


def doom(connection: Connection, keys: Iterable[str | None]) -> list[str]:
    """Note that these blobs are to be removed, those that no record names any more.

    Args:
        connection: In the transaction that removes the records, after it did.
        keys: Keys that the records named.

    Returns:
        The keys to be given to `discard` once the transaction is committed.
    """
    doomed: list[str] = []
    for some in _batches(sorted({key for key in keys if key})):
        unnamed = set(some) - named(connection, some)
        statement = (
            update(_blobs)
            # A blob that is being made is its maker's, who settles or abandons it.
            .where(_blobs.c.storage_key.in_(unnamed), _blobs.c.pending_since.is_(None))
            .values(pending_since=now(), owner=None)
            .returning(_blobs.c.storage_key)
        )
        doomed += connection.execute(statement).scalars()
    return doomed


def named(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Return those of at most KEYS_A_STATEMENT keys that a record names, deleted softly or not."""
    return set(connection.execute(select(_key).where(_key.in_(keys)).distinct()).scalars())


def discard(store: Store, blobs: BlobStorage, keys: Iterable[str]) -> int:
    """Remove doomed blobs: their bytes, then their rows.

    Returns:
        How many were removed; those that somebody began again meanwhile are left.

    Raises:
        StoreError: If the storage or the database fails; `collect` removes what is left.
    """
    return _remove(store, blobs, keys, lambda row: row.owner is None)


def count_known(connection: Connection, keys: Iterable[str]) -> int:
    """Return how many of the keys are of blobs that are kept, made or yet to be removed."""
    known = 0
    for some in _batches(keys):
        there = select(func.count()).select_from(_blobs).where(_blobs.c.storage_key.in_(some))
        known += connection.execute(there).scalar_one()
    return known


def abandon(store: Store, blobs: BlobStorage, key: str, owner: str) -> None:
    """Give up a blob that `begin` was called for: it is removed if no record names it.

    Raises:
        StoreError: If the storage or the database fails; `collect` removes what is left.
    """
    _remove(store, blobs, [key], lambda row: row.owner == owner)


def collect(store: Store, blobs: BlobStorage) -> int:
    """Finish what dead processes left: their blobs are settled if a record names them, or removed.

    Only blobs that are not settled are looked at, which are few, and the storage is asked only
    where there is something to remove. What a living process makes stays, and so do uploads and
    other hosts' blobs of the last 24 hours.

    Returns:
        How many were removed.

    Raises:
        StoreError: If the storage or the database fails.
    """
    removed = 0
    last = (-1, "")
    while True:
        place = tuple_(_blobs.c.pending_since, _blobs.c.storage_key)
        query = (
            select(_blobs.c.pending_since, _blobs.c.storage_key)
            .where(_blobs.c.pending_since.is_not(None), place > last)
            .order_by(_blobs.c.pending_since, _blobs.c.storage_key)
            .limit(KEYS_A_STATEMENT)
        )
        with store.read() as connection:
            pending = connection.execute(query).all()
        if not pending:
            return removed
        removed += _remove(store, blobs, [row.storage_key for row in pending], _is_abandoned)
        last = (pending[-1].pending_since, pending[-1].storage_key)


def _remove(
    store: Store,
    blobs: BlobStorage,
    keys: Iterable[str],
    is_to_go: Callable[[Row[Any]], bool],
) -> int:
    """Remove the blobs that are to go, and settle those of them that a record names."""
    removed = 0
    for some in _batches(keys):
        while some:
            with store.write() as connection:
                query = select(_blobs).where(
                    _blobs.c.storage_key.in_(some), _blobs.c.pending_since.is_not(None)
                )
                going = {row.storage_key for row in connection.execute(query) if is_to_go(row)}
                kept = named(connection, sorted(going))
                settle(connection, sorted(kept))
                some = sorted(going - kept)
                gone: list[str] = []
                failure: StoreError | None = None
                until = monotonic() + LONGEST_WRITE_S
                # One at least, so that it ends.
                while some and failure is None and (not gone or monotonic() < until):
                    try:
                        blobs.delete(some[-1])
                        gone.append(some.pop())
                    except StoreError as error:
                        failure = error
                if gone:
                    connection.execute(delete(_blobs).where(_blobs.c.storage_key.in_(gone)))
            removed += len(gone)
            if failure is not None:
                raise failure
    return removed


def _is_abandoned(row: Row[Any]) -> bool:
    if row.owner is None or row.pending_since < now() - GRACE_US:
        return True
    if row.owner == UPLOAD:
        return False
    host, pid, since, _ = row.owner.rsplit(" ", 3)
    # Another host's processes are not seen from here.
    return host == process.host() and not process.is_alive(int(pid), since or None)


def _owner() -> str:
    """Name this process, and by a number of its own what it is about to do."""
    pid = os.getpid()
    return f"{process.host()} {pid} {process.started(pid) or ''} {token_hex(8)}"


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    left = iter(keys)
    while batch := list(islice(left, KEYS_A_STATEMENT)):
        yield batch
