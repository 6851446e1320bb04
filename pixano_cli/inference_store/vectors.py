"""The files of vectors, which searches read instead of the database, kept up to date with it.

Beside the database, in `vectors/`, each model that is searched has a file of its embeddings. It
holds nothing that the database does not, and may be removed at any time: what it says only serves
to choose what to ask the database for. New embeddings are appended before a search, under a lock.
Those of deleted inferences stay until the file is made anew.

A database that was replaced, or brought back from a copy, is noticed: its embedding at a position
was then created at another time, or is none of the file's. The file is then made anew, and so is
one that is damaged, which its checksums tell.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Select, func, select

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.distances import Doubles
from pixano_cli.inference_store.filters import unindexed
from pixano_cli.inference_store.vector_file import BLOCK_BYTES, Recorded, VectorFile, locked

FOLDER = "vectors"

SPARE_BYTES = 2**28
"""How much room has to be left on the disk for those who need it more."""

_inferences = schema.inferences
_embeddings = schema.embeddings
_joined = _embeddings.join(_inferences, _inferences.c.id == _embeddings.c.inference)
_positions = select(_embeddings.c.position, _inferences.c.created_at).select_from(_joined)


def open_vectors(connection: Connection, folder: Path, model_id: str, dimension: int) -> VectorFile:
    """Open the file of a model's vectors, brought up to date with what the connection sees.

    Args:
        connection: A connection to the database in a transaction.
        folder: The store's folder.
        model_id: The model.
        dimension: How many numbers its embeddings have.

    Raises:
        OSError: If the file cannot be made or read, or another process is at it for long.
        StoreError: If the database fails, or a vector there is not of that dimension.
    """
    path = _path(folder, model_id, dimension)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        file = VectorFile(path, model_id, dimension)
        try:
            if not _bring_up_to_date(connection, file, model_id, dimension):
                # Whoever reads the old one goes on doing so.
                path.unlink()
                file.close()
                file = VectorFile(path, model_id, dimension)
                _bring_up_to_date(connection, file, model_id, dimension)
        except BaseException as error:
            file.close()
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                path.unlink(missing_ok=True)
            raise
    return file


def discard_vectors(folder: Path, model_id: str | None = None) -> None:
    """Remove the files of a model's vectors, or of all models; a search makes them anew.

    Raises:
        OSError: If that fails.
    """
    name = "*" if model_id is None else f"{_digest(model_id)}-*"
    for path in (folder / FOLDER).glob(f"{name}.f32"):
        with locked(path):
            path.unlink(missing_ok=True)


def streamed(connection: Connection, query: Select[Any], dimension: int) -> Iterator[Sequence[Any]]:
    """Yield a query's rows, each with a vector, so many together that memory is bounded."""
    options = {"yield_per": max(1, min(500, BLOCK_BYTES // (8 * dimension)))}
    yield from connection.execute(query, execution_options=options).partitions()


def doubles(vectors: Sequence[bytes], dimension: int) -> Doubles:
    """Return vectors [n, dimension] that the database keeps as bytes.

    Raises:
        StoreError: If one is not of that dimension.
    """
    if any(len(vector) != 8 * dimension for vector in vectors):
        raise StoreError(
            f"an embedding in the store does not have the {dimension} numbers that its model is "
            "registered for: find it with 'store verify' and delete it"
        )
    found = np.frombuffer(b"".join(vectors), "<f8").reshape(len(vectors), dimension)
    return found.astype(np.float64, copy=False)


def _digest(model_id: str) -> str:
    return hashlib.sha256(model_id.encode()).hexdigest()[:32]


def _path(folder: Path, model_id: str, dimension: int) -> Path:
    return folder / FOLDER / f"{_digest(model_id)}-{dimension}.f32"


def _bring_up_to_date(
    connection: Connection, file: VectorFile, model_id: str, dimension: int
) -> bool:
    """Append what the database has and the file has not; the lock is held.

    Returns:
        Whether the file is one of this database; nothing was done if not.
    """
    header = file.header()
    if header is None:
        return False
    file.recorded = header
    if not _goes_with(connection, file, model_id):
        return False
    newest = connection.execute(_positions.order_by(_embeddings.c.position.desc()).limit(1)).first()
    if newest is None or newest.position <= header.seen:
        return True
    unseen = [*_of_model(model_id), _embeddings.c.position > header.seen]
    _check_room(connection, file, newest.position - header.seen, unseen)
    query = _positions.add_columns(_embeddings.c.vector).where(*unseen)
    for rows in streamed(connection, query.order_by(_embeddings.c.position), dimension):
        file.append(
            doubles([row.vector for row in rows], dimension),
            [row.position for row in rows],
            [row.created_at for row in rows],
        )
    file.record(Recorded(file.recorded.count, newest.position, newest.created_at))
    return True


def _goes_with(connection: Connection, file: VectorFile, model_id: str) -> bool:
    """Whether the file has every embedding of the model up to that which was seen last.

    Positions and times of creation never change, and the next position is larger than any before.
    So where an embedding is the one it was, nothing was added before it, but maybe deleted.
    """
    seen = file.recorded
    if seen == Recorded():
        return True
    same = connection.execute(_positions.where(_embeddings.c.position == seen.seen)).first()
    if same is not None:
        return bool(same.created_at == seen.created_at)
    # It was deleted, or this is another database, or this connection sees an earlier state: the
    # model's newest that the file must have tells.
    left = connection.execute(
        _positions.where(*_of_model(model_id), _embeddings.c.position <= seen.seen)
        .order_by(_embeddings.c.position.desc())
        .limit(1)
    ).first()
    return left is not None and file.holds(left.position, left.created_at)


def _of_model(model_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    # Looked up in an index of the model's inferences, they would not be in order of position.
    return unindexed(_inferences.c.model_id) == model_id, _inferences.c.deleted_at.is_(None)


def _check_room(
    connection: Connection, file: VectorFile, most: int, unseen: Sequence[ColumnElement[bool]]
) -> None:
    """Refuse to fill the disk."""
    free = shutil.disk_usage(file.path.parent).free - SPARE_BYTES
    if most * file.entry_size <= free:
        return
    count = connection.execute(select(func.count()).select_from(_joined).where(*unseen))
    if count.scalar_one() * file.entry_size > free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file.path))
