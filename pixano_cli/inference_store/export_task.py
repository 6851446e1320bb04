"""Export tasks: a model's inferences with their inputs, as an archive that is whole or not there.

An archive is the file `exports/ID.zip` in the store's folder, or that key where blobs are in S3.
Until it is whole it has another name in that folder. A task whose process is gone has failed,
and what it left is removed when the store is next opened.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Text,
    and_,
    bindparam,
    cast,
    func,
    insert,
    or_,
    select,
    update,
)

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema, values
from pixano_cli.inference_store.archive import Archived, write_archive
from pixano_cli.inference_store.arguments import checked
from pixano_cli.inference_store.blobs import BlobStorage, FolderBlobs
from pixano_cli.inference_store.connection import blobs_of, current_store, reading, writing
from pixano_cli.inference_store.database import Store, now
from pixano_cli.inference_store.filters import selected
from pixano_cli.inference_store.models import ExportTask, NewExportTaskRequest
from pixano_cli.inference_store.register import registered
from pixano_cli.inference_store.task_owner import is_abandoned, this_process
from pixano_cli.media.flight import url_of

PENDING, RUNNING, COMPLETE, FAILED = "pending", "running", "complete", "failed"
FOLDER = "exports"

PROGRESS_EVERY_S = 0.5

logger = logging.getLogger(__name__)

_table, _inferences = schema.export_tasks, schema.inferences


@checked
def create_export_task(model_id: str, request_body: NewExportTaskRequest) -> ExportTask | None:
    """Export inferences with their inputs, to the end: see `archive` for what is in it.

    Those that pass the filters are exported, and those that are included, less the excluded ones;
    a request without any filter is for all of them. Which these are is fixed at the start. An
    inference whose input is gone is exported without it, and this is logged. Other processes see
    how far it is by `get_export_task`.

    Returns:
        The finished task.

    Raises:
        StoreError: If the model is not registered, a filter's value is not what its kind takes,
            or the database, the storage or the disk fails; the task has failed then.
    """
    store = current_store()
    blobs = blobs_of(store)
    chosen = _chosen(model_id, request_body)
    task_id = uuid4().hex
    with writing(store) as connection:
        registered(connection, model_id)
        connection.execute(
            insert(_table),
            {
                "id": task_id,
                "model_id": model_id,
                "state": PENDING,
                # Escaped, so that any text at all can be stored.
                "request": json.dumps(request_body.model_dump(mode="json")),
                "progress_count": 0,
                "expected_count": 0,
                "storage_key": _key(task_id),
                "created_at": now(),
                "owner": this_process(),
            },
        )
    try:
        archived = _run(store, blobs, model_id, task_id, chosen, request_body)
    except BaseException:
        # What is told is the first error; what is left here is swept later.
        with suppress(StoreError):
            _end(store, blobs, [task_id])
        raise
    if archived.missing:
        logger.warning(
            "export %s: %d of %d files are exported without their inputs, which are gone; the "
            "first is %s",
            task_id,
            archived.missing,
            archived.files,
            archived.first_missing,
        )
    return get_export_task(model_id, task_id)


@checked
def get_export_task(model_id: str, export_task_id: str) -> ExportTask | None:
    """Return a task as it stands; None if there is none of this model with this id.

    One whose process is gone before its end has failed. A complete one has a URL as long as its
    archive is there, which in S3 is not looked at; there the URL is good for an hour.

    Raises:
        StoreError: If the database fails.
    """
    store = current_store()
    query = select(_table).where(_table.c.id == export_task_id, _table.c.model_id == model_id)
    with reading(store) as connection:
        row = connection.execute(query).first()
    if row is not None and _is_abandoned(row):
        sweep(store, blobs_of(store))
        with reading(store) as connection:
            row = connection.execute(query).first()
    if row is None:
        return None
    return ExportTask(
        id=row.id,
        progress_count=row.progress_count,
        expected_count=row.expected_count,
        state=row.state,
        presigned_url=_url(store, blobs_of(store), row) if row.state == COMPLETE else None,
    )


def sweep(store: Store, blobs: BlobStorage) -> int:
    """Note that tasks have failed whose process is gone, and remove what failed ones left.

    Returns:
        How many tasks there was anything to do for.

    Raises:
        StoreError: If the database or the storage fails.
    """
    left = or_(
        _table.c.state.in_((PENDING, RUNNING)),
        and_(_table.c.state == FAILED, _table.c.storage_key.is_not(None)),
    )
    with store.read() as connection:
        rows = connection.execute(select(_table).where(left)).all()
    ended = [row.id for row in rows if row.state == FAILED or _is_abandoned(row)]
    _end(store, blobs, ended)
    return len(ended)


def archives(connection: Connection) -> Iterator[str]:
    """Yield the keys, `exports/ID.zip`, of all archives that are or are being written."""
    query = select(_table.c.storage_key).where(_table.c.storage_key.is_not(None))
    yield from connection.execute(query).scalars()


def _run(
    store: Store,
    blobs: BlobStorage,
    model_id: str,
    task_id: str,
    chosen: Callable[[Connection], ColumnElement[bool]],
    request: NewExportTaskRequest,
) -> Archived:
    progress = _Progress(store, task_id)
    part = _part(store, task_id)
    with _disk_errors_told(store, part), reading(store) as connection:
        # One connection to the end: it sees nothing of what is stored meanwhile.
        condition = chosen(connection)
        progress.begin(
            connection.execute(select(func.count(_inferences.c.id)).where(condition)).scalar_one()
        )
        _warn_of_unknown(connection, model_id, task_id, request)
        part.parent.mkdir(parents=True, exist_ok=True)
        archived = write_archive(
            part,
            connection,
            condition,
            blobs,
            annotations=request.include_inferences_as_annotations,
            metadata=request.include_custom_metadata,
            advance=progress.advance,
        )
    with _disk_errors_told(store, part):
        if isinstance(blobs, FolderBlobs):
            _put_in_place(part, store.folder / _key(task_id))
        else:
            from pixano_cli.inference_store.s3_blobs import S3Blobs

            assert isinstance(blobs, S3Blobs)
            blobs.put_file(_key(task_id), part)
            part.unlink()
    progress.end(archived.records)
    return archived


class _Progress:
    """Tells other processes how far a task is, not more often than they look."""

    def __init__(self, store: Store, task_id: str) -> None:
        self._store = store
        self._task_id = task_id
        self._told = monotonic()

    def begin(self, expected: int) -> None:
        self._note(state=RUNNING, expected_count=expected)

    def advance(self, records: int) -> None:
        if monotonic() - self._told >= PROGRESS_EVERY_S:
            # It is not worth failing for.
            with suppress(StoreError):
                self._note(progress_count=records)
            self._told = monotonic()

    def end(self, records: int) -> None:
        self._note(state=COMPLETE, progress_count=records)

    def _note(self, **changed: Any) -> None:
        with self._store.write() as connection:
            connection.execute(update(_table).where(_table.c.id == self._task_id).values(**changed))


def _chosen(
    model_id: str, request: NewExportTaskRequest
) -> Callable[[Connection], ColumnElement[bool]]:
    """Return what gives the condition for the inferences to export, on a kind of database.

    Raises:
        StoreError: If a filter's value is not what its kind takes.
    """
    passing = selected(model_id, request.filters)
    visible = and_(_inferences.c.model_id == model_id, _inferences.c.deleted_at.is_(None))

    def condition(connection: Connection) -> ColumnElement[bool]:
        chosen = passing
        if request.include_inference_ids:
            included = _among(connection, request.include_inference_ids)
            chosen = or_(passing, and_(visible, included))
        if request.exclude_inference_ids:
            chosen = and_(chosen, ~_among(connection, request.exclude_inference_ids))
        return chosen

    return condition


def _among(connection: Connection, ids: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that an inference's id is one of these, of which there may be many."""
    listed = _listed(ids)
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import JSON

        each = func.json_array_elements_text(cast(bindparam(None, listed, Text), JSON))
        return _inferences.c.inference_id.in_(select(each.column_valued("each")))
    rows = func.json_each(bindparam(None, listed, Text)).table_valued("value")
    return _inferences.c.inference_id.in_(select(rows.c.value))


def _listed(ids: Sequence[str]) -> str:
    """Write ids as one value, however many they are: those that a database can hold at all."""
    storable = []
    for each in ids:
        with suppress(StoreError):
            storable.append(values.check_name("inference_id", each))
    return json.dumps(storable)


def _warn_of_unknown(
    connection: Connection, model_id: str, task_id: str, request: NewExportTaskRequest
) -> None:
    """Say it where ids are included that no inference of the model has."""
    wanted = set(request.include_inference_ids)
    if not wanted:
        return
    query = select(func.count()).where(
        _inferences.c.model_id == model_id,
        _inferences.c.deleted_at.is_(None),
        _among(connection, list(wanted)),
    )
    unknown = len(wanted) - connection.execute(query).scalar_one()
    if unknown:
        logger.warning(
            "export %s: %d of the %d included ids are no inference's: they are left out",
            task_id,
            unknown,
            len(wanted),
        )


def _end(store: Store, blobs: BlobStorage, task_ids: Sequence[str]) -> None:
    """Note that tasks have failed, and remove what they left."""
    for task_id in task_ids:
        ours = _table.c.id == task_id
        with store.write() as connection:
            connection.execute(
                update(_table).where(ours, _table.c.state != COMPLETE).values(state=FAILED)
            )
            row = connection.execute(select(_table.c.state).where(ours)).scalar_one()
        if row != FAILED:
            continue
        with _disk_errors_told(store, store.folder / FOLDER):
            _part(store, task_id).unlink(missing_ok=True)
            (store.folder / _key(task_id)).unlink(missing_ok=True)
        if not isinstance(blobs, FolderBlobs):
            blobs.delete(_key(task_id))
        with store.write() as connection:
            connection.execute(update(_table).where(ours).values(storage_key=None))


def _is_abandoned(row: Row[Any]) -> bool:
    return row.state in (PENDING, RUNNING) and is_abandoned(row.owner, row.created_at)


def _url(store: Store, blobs: BlobStorage, row: Row[Any]) -> str | None:
    path = store.folder / row.storage_key
    if path.exists():
        return url_of(path)
    return None if isinstance(blobs, FolderBlobs) else blobs.get_url(row.storage_key)


def _key(task_id: str) -> str:
    return f"{FOLDER}/{task_id}.zip"


def _part(store: Store, task_id: str) -> Path:
    return store.folder / FOLDER / f".{task_id}.zip.part"


def _put_in_place(part: Path, path: Path) -> None:
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)


@contextmanager
def _disk_errors_told(store: Store, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full: free some space and export again"
        raise StoreError(f"store {store.name}: {path} cannot be written: {reason}") from error
