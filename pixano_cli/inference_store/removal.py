"""Removing inferences: for good, softly, or their inputs alone. No other place does it.

Each function works on rows that its caller has just chosen, in the same transaction, and dooms
the blobs that no record names any more; once that is committed they are discarded.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from sqlalchemy import ColumnElement, Connection, bindparam, delete, select, update

from pixano_cli.inference_store import schema
from pixano_cli.inference_store.blob_ledger import LONGEST_WRITE_S, discard, doom
from pixano_cli.inference_store.blobs import BlobStorage
from pixano_cli.inference_store.database import STREAMED, Store, now

BATCH = 500
"""Records of a statement. There are as many in a transaction as LONGEST_WRITE_S allows, for much of
what each changes is the same as for the next; then others have their turn."""

_table = schema.inferences
_rows = _table.c.id.in_(bindparam("rows", expanding=True))

# Made once, for they take longer to make than to execute on a few rows.
_NAMED = select(_table.c.data_storage_key).where(_rows, _table.c.data_storage_key.is_not(None))
_REMOVE = delete(_table).where(_rows)
_HIDE = (
    update(_table)
    .where(_rows)
    .values(deleted_at=bindparam("at"), updated_at=bindparam("at"), data_storage_key=None)
)
_CLEAR = update(_table).where(_rows).values(updated_at=bindparam("at"), data_storage_key=None)


@dataclass(frozen=True, slots=True)
class Removed:
    """Ids of inferences that are gone for those who saw them, and keys of blobs to discard."""

    ids: list[str]
    doomed: list[str]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Inferences to remove, sorted by created_at, ties by id; there may be a million of them."""

    rows: array[int]
    times: array[int]
    ids: list[str]


def remove(connection: Connection, rows: Sequence[int]) -> list[str]:
    """Remove inferences for good, with their elements, metadata and embeddings.

    Args:
        connection: In a writing transaction.
        rows: Ids of their rows, at most BATCH.

    Returns:
        Keys of the blobs to be given to `discard` once the transaction is committed.
    """
    keys = _named(connection, rows)
    connection.execute(_REMOVE, {"rows": rows})
    return doom(connection, keys)


def hide(connection: Connection, rows: Sequence[int]) -> list[str]:
    """Delete inferences softly: nobody sees them any more, and only their inputs are gone.

    Args and Returns are those of `remove`.
    """
    keys = _named(connection, rows)
    connection.execute(_HIDE, {"rows": rows, "at": now()})
    return doom(connection, keys)


def clear_inputs(connection: Connection, rows: Sequence[int]) -> list[str]:
    """Part inferences from their inputs.

    Args and Returns are those of `remove`.
    """
    keys = _named(connection, rows)
    connection.execute(_CLEAR, {"rows": rows, "at": now()})
    return doom(connection, keys)


def remove_one(connection: Connection, model_id: str, inference_id: str) -> Removed:
    """Remove an inference for good, whether it is to be seen or hidden.

    Args:
        connection: In a writing transaction.
        model_id: Its model.
        inference_id: Its id.
    """
    query = select(_table.c.id, _table.c.deleted_at).where(
        _table.c.model_id == model_id, _table.c.inference_id == inference_id
    )
    row = connection.execute(query).first()
    if row is None:
        return Removed([], [])
    doomed = remove(connection, [row.id])
    return Removed([] if row.deleted_at is not None else [inference_id], doomed)


def choose(connection: Connection, condition: ColumnElement[bool]) -> Chosen:
    """Choose the inferences for which a condition holds now.

    Args:
        connection: Any.
        condition: On the table of inferences, and with it whether they are to be seen.
    """
    chosen = Chosen(array("q"), array("q"), [])
    query = (
        select(_table.c.id, _table.c.created_at, _table.c.inference_id)
        .where(condition)
        .order_by(_table.c.created_at, _table.c.inference_id)
        .execution_options(**STREAMED)
    )
    for row, created_at, inference_id in connection.execute(query):
        chosen.rows.append(row)
        chosen.times.append(created_at)
        chosen.ids.append(inference_id)
    return chosen


def remove_chosen(store: Store, blobs: BlobStorage, chosen: Chosen) -> list[str]:
    """Remove inferences for good, batch by batch; what is stored meanwhile stays.

    Where it fails half-way, what was removed is gone, and to choose again finds the rest.

    Returns:
        Ids of those that were still there, in the order they were chosen in.

    Raises:
        StoreError: If the database or the storage of blobs fails.
    """
    known = select(_table.c.id, _table.c.created_at, _table.c.inference_id).where(_rows)
    removed: list[str] = []
    start = 0
    while start < len(chosen.rows):
        doomed: list[str] = []
        gone: list[str] = []
        with store.write() as connection:
            until = monotonic() + LONGEST_WRITE_S
            while start < len(chosen.rows):
                some = slice(start, start + BATCH)
                batch = list(
                    zip(chosen.rows[some], chosen.times[some], chosen.ids[some], strict=True)
                )
                found = connection.execute(known, {"rows": [row for row, *_ in batch]})
                # A row's number may have become another inference's meanwhile.
                there = {tuple(each) for each in found}.intersection(batch)
                doomed += remove(connection, [row for row, *_ in there])
                gone += [each[2] for each in batch if each in there]
                start += BATCH
                if monotonic() >= until:
                    break
        discard(store, blobs, doomed)
        removed += gone
    return removed


def _named(connection: Connection, rows: Sequence[int]) -> list[str]:
    return list(connection.execute(_NAMED, {"rows": rows}).scalars())
