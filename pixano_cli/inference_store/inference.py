"""Inferences: stored one by one, found by id or by filters, deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Row, select

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import blob_ledger, removal, schema, values
from pixano_cli.inference_store.arguments import checked
from pixano_cli.inference_store.blobs import data_key
from pixano_cli.inference_store.connection import blobs_of, current_store, reading, writing
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.filters import selected
from pixano_cli.inference_store.metadata import get_data_hash, metadata_of
from pixano_cli.inference_store.models import (
    BaseInferenceFilter,
    GeoPoint,
    Inference,
    Metadata,
    NewGetInferencesRequest,
    NewInferenceAndMetadataCollection,
    NewInferenceStorageRequest,
    TaskType,
)
from pixano_cli.inference_store.pages import count, find_page
from pixano_cli.inference_store.records import (
    ROWS_A_STATEMENT,
    Record,
    embedding_text,
    insert_records,
    to_bytes,
)
from pixano_cli.inference_store.register import registered
from pixano_cli.inference_store.storage_request import record_of
from pixano_cli.inference_store.times import from_microseconds
from pixano_cli.inference_store.upload import presigned, put_with_record

_table = schema.inferences
_visible = _table.c.deleted_at.is_(None)
# Inferences with their embeddings, which are in a table of their own.
_all = select(_table, schema.embeddings.c.vector).outerjoin(
    schema.embeddings, schema.embeddings.c.inference == _table.c.id
)


@checked
def create_inference(model_id: str, request_body: NewInferenceStorageRequest) -> Inference | None:
    """Store an inference; one whose every value is stored already is left as it is.

    Returns:
        The stored inference.

    Raises:
        StoreError: If the model is not the request's or not registered, if the request
            contradicts itself or the model, if its storage key could lead out of the storage,
            or if another inference has this id.
    """
    if model_id != request_body.model_id:
        raise StoreError(f"model_id {model_id!r} is not that of the request, which must repeat it")
    with writing() as connection:
        return _create(connection, _checked(connection, request_body))


@checked
def create_inference_storage_request(
    model_id: str,
    inference_id: str,
    data: str | bytes | None,
    metadata: NewInferenceAndMetadataCollection,
    is_protected: bool = False,
) -> Inference | None:
    """Store an inference together with its input, which goes into blob storage.

    The same input is kept once, however many inferences name it.

    Args:
        model_id: A registered model.
        inference_id: Unique for the model.
        data: The input; a text is kept in UTF-8. None stores the inference alone.
        metadata: The answer and its metadata, whose data_hash and data_size are the input's.
        is_protected: Whether retention leaves it out.

    Returns:
        The stored inference.

    Raises:
        StoreError: As `create_inference`, if the hash or the size is another input's, or if the
            storage fails; then neither the inference nor its input is stored.
    """
    request = NewInferenceStorageRequest(
        model_id=model_id, inference_id=inference_id, data=metadata, is_protected=is_protected
    )
    if data is None:
        return create_inference(model_id, request)
    try:
        content = data.encode() if isinstance(data, str) else bytes(data)
    except UnicodeEncodeError as error:
        raise StoreError(
            f"{_name(request)}: its input is no valid text, give its bytes: {error}"
        ) from error
    digest = get_data_hash(content)
    standard = metadata.metadata.standard_metadata
    if (standard.data_hash, standard.data_size) != (digest, len(content)):
        raise StoreError(
            f"{_name(request)}: data_hash {standard.data_hash!r} and data_size "
            f"{standard.data_size} are not those of its input, {digest!r} and {len(content)}"
        )
    key = data_key(digest)
    named = request.model_copy(update={"data_storage_key": key})
    with reading() as connection:
        # Nothing is uploaded for what is refused.
        _checked(connection, named)
    return put_with_record(
        key, model_id, content, lambda connection: _create(connection, _checked(connection, named))
    )


@checked
def get_inference(model_id: str, inference_id: str) -> Inference | None:
    """Return an inference; None if there is none with this id.

    Raises:
        StoreError: If databases cannot hold such ids.
    """
    values.check_ids(model_id, inference_id)
    query = _all.where(
        _table.c.model_id == model_id, _table.c.inference_id == inference_id, _visible
    )
    with reading() as connection:
        row = connection.execute(query).first()
        return None if row is None else _inference(row, metadata_of(connection, [row.id])[row.id])


@checked
def filter_inferences(model_id: str, request_body: NewGetInferencesRequest) -> list[Inference]:
    """Return a page of the inferences that pass the filters, with URLs to their inputs if asked.

    Raises:
        StoreError: If a filter or the pagination is not valid, if an embedding to search by is
            not of the model's size, or if the storage of inputs fails.
    """
    store = current_store()
    with reading(store) as connection:
        found = _found(connection, store, model_id, request_body)
    if request_body.presign:
        for inference in found:
            inference.presigned_url = presigned(store, inference.data_storage_key)
    return found


@checked
def count_inferences(model_id: str, request_body: NewGetInferencesRequest) -> int:
    """Return how many inferences pass the filters; pagination is left out of account.

    Raises:
        StoreError: As `filter_inferences`.
    """
    filters = request_body.filters
    with reading() as connection:
        if request_body.embedding_filters is None:
            return count(connection, model_id, filters)
        from pixano_cli.inference_store.similarity import count_by_embedding

        return count_by_embedding(connection, model_id, filters, request_body.embedding_filters)


def _found(
    connection: Connection, store: Store, model_id: str, request: NewGetInferencesRequest
) -> list[Inference]:
    filters, pagination = request.filters, request.pagination
    if request.embedding_filters is None:
        return inferences_of(connection, find_page(connection, model_id, filters, pagination))
    # Imported where it is needed, as numpy takes longer than all else here.
    from pixano_cli.inference_store.similarity import find_by_embedding

    distances = find_by_embedding(
        connection, store.folder, model_id, filters, request.embedding_filters, pagination
    )
    found = inferences_of(connection, list(distances))
    for inference, distance in zip(found, distances.values(), strict=True):
        inference.embedding_distance = distance
    return found


def inferences_of(connection: Connection, rows: Sequence[int]) -> list[Inference]:
    """Return the inferences of rows that are there, in the order of the rows."""
    found = {}
    for start in range(0, len(rows), ROWS_A_STATEMENT):
        some = rows[start : start + ROWS_A_STATEMENT]
        metadata = metadata_of(connection, some)
        for row in connection.execute(_all.where(_table.c.id.in_(some))):
            found[row.id] = _inference(row, metadata[row.id])
    return [found[row] for row in rows]


@checked
def delete_inference(model_id: str, inference_id: str) -> str | None:
    """Delete an inference for good, with its elements and metadata, and its input.

    The input stays as long as another inference names it. One that retention has hidden is
    removed too, and counts as none.

    Returns:
        The deleted inference's id; None if there was none.

    Raises:
        StoreError: If the database or the storage of inputs fails.
    """
    values.check_ids(model_id, inference_id)
    store = current_store()
    with writing(store) as connection:
        removed = removal.remove_one(connection, model_id, inference_id)
    blob_ledger.discard(store, blobs_of(store), removed.doomed)
    return inference_id if removed.ids else None


@checked
def bulk_delete_inferences(model_id: str, filter_: BaseInferenceFilter) -> list[str | None]:
    """Delete the inferences that pass the filters now for good, protected ones among them.

    Protection is from retention alone. No filter at all deletes all of the model's. It is done in
    batches: where it fails half-way, what was deleted is gone, and to ask again deletes the rest.

    Returns:
        Ids of the deleted inferences, sorted by created_at, ties by id.

    Raises:
        StoreError: If a filter's value is not what its kind takes, or the database or the storage
            of inputs fails.
    """
    condition = selected(model_id, filter_)
    store = current_store()
    with reading(store) as connection:
        chosen = removal.choose(connection, condition)
    return [*removal.remove_chosen(store, blobs_of(store), chosen)]


def _name(request: NewInferenceStorageRequest) -> str:
    return f"inference {request.inference_id!r} of model {request.model_id!r}"


def _checked(connection: Connection, request: NewInferenceStorageRequest) -> Record:
    """Return the request as a record of its model, which it does not contradict."""
    model = registered(connection, request.model_id)
    try:
        return record_of(request, TaskType(model.task_type), model.embedding_size)
    except StoreError as error:
        raise StoreError(f"{_name(request)}: {error}") from error


def _create(connection: Connection, record: Record) -> Inference:
    inserted = insert_records(connection, [record])
    row = connection.execute(
        _all.where(
            _table.c.model_id == record.model_id, _table.c.inference_id == record.inference_id
        )
    ).one()
    metadata = metadata_of(connection, [row.id])[row.id]
    if not inserted and not _says(row, metadata, record):
        raise StoreError(
            f"inference {record.inference_id!r} of model {record.model_id!r} is stored already "
            "with other content: delete it first, or give this one another id"
        )
    if record.data_storage_key is not None:
        blob_ledger.settle(connection, [record.data_storage_key])
    return _inference(row, metadata)


def _says(row: Row[Any], metadata: Sequence[Metadata], record: Record) -> bool:
    """Whether what is stored says all that the record says; metadata may have been added."""
    stored = (
        row.inference_action,
        row.version,
        row.data_hash,
        row.data_size,
        row.data_source,
        row.latitude,
        row.longitude,
        row.data_storage_key,
        row.is_protected,
    )
    wanted = (
        record.inference_action,
        record.version,
        record.data_hash,
        record.data_size,
        record.data_source,
        record.latitude,
        record.longitude,
        record.data_storage_key,
        record.is_protected,
    )
    known = {each.key: (each.type, each.value) for each in metadata}
    return (
        stored == wanted
        and orjson.loads(row.data or "null") == orjson.loads(record.data or "null")
        and row.vector == (None if record.embedding is None else to_bytes(record.embedding))
        and {**known, **record.metadata} == known
    )


def _inference(row: Row[Any], metadata: list[Metadata]) -> Inference:
    located = row.latitude is not None and row.longitude is not None
    return Inference(
        model_id=row.model_id,
        inference_id=row.inference_id,
        created_at=from_microseconds(row.created_at),
        updated_at=from_microseconds(row.updated_at),
        inference_action=row.inference_action,
        data=row.data if row.vector is None else embedding_text(row.vector),
        metadata=metadata,
        data_hash=row.data_hash,
        data_source=row.data_source,
        data_coordinates=GeoPoint(latitude=row.latitude, longitude=row.longitude)
        if located
        else None,
        data_storage_key=row.data_storage_key,
        is_protected=row.is_protected,
        version=row.version,
    )
