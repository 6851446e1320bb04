"""Inferences: stored one by one, found by id or by filters, deleted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Row, delete, func, select

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema, values
from pixano_cli.inference_store.connection import reading, writing
from pixano_cli.inference_store.filters import check_point, paged, refuse_unsupported, selected
from pixano_cli.inference_store.metadata import check_metadata, metadata_of
from pixano_cli.inference_store.models import (
    GeoPoint,
    Inference,
    InferenceAction,
    Metadata,
    MetadataType,
    NewGetInferencesRequest,
    NewInferenceAndMetadataCollection,
    NewInferenceStorageRequest,
    NewStandardMetadataRequest,
    TaskType,
)
from pixano_cli.inference_store.records import (
    Record,
    embedding_text,
    insert_records,
    to_bytes,
)
from pixano_cli.inference_store.times import from_microseconds

ACTIONS: Mapping[TaskType, tuple[InferenceAction, ...]] = {
    TaskType.IMAGE_CLASSIFICATION: (
        InferenceAction.PREDICT,
        InferenceAction.PREDICT_PROBA,
        InferenceAction.EMBED,
    ),
    TaskType.OBJECT_DETECTION: (InferenceAction.DETECT,),
    TaskType.ORIENTED_OBJECT_DETECTION: (InferenceAction.DETECT,),
    TaskType.IMAGE_SEGMENTATION: (InferenceAction.PREDICT, InferenceAction.PREDICT_PROBA),
    TaskType.IMAGE_EMBEDDING: (InferenceAction.EMBED,),
    TaskType.TEXT_EMBEDDING: (InferenceAction.EMBED,),
}
"""What can be asked of a model of each task."""

DECONSTRUCTED: Mapping[TaskType, str] = {
    TaskType.IMAGE_CLASSIFICATION: "image_classification",
    TaskType.OBJECT_DETECTION: "object_detection",
    TaskType.ORIENTED_OBJECT_DETECTION: "oriented_object_detection",
    TaskType.IMAGE_SEGMENTATION: "image_segmentation",
}
"""Where a request has the list of elements of each task."""

_table = schema.inferences
_visible = _table.c.deleted_at.is_(None)
# Inferences with their embeddings, which are in a table of their own.
_all = select(_table, schema.embeddings.c.vector).outerjoin(
    schema.embeddings, schema.embeddings.c.inference == _table.c.id
)


def create_inference(model_id: str, request_body: NewInferenceStorageRequest) -> Inference | None:
    """Store an inference; one whose every value is stored already is left as it is.

    Returns:
        The stored inference.

    Raises:
        StoreError: If the model is not the request's or not registered, if the request
            contradicts itself or the model, or if another inference has this id.
    """
    if model_id != request_body.model_id:
        raise StoreError(f"model_id {model_id!r} is not that of the request, which must repeat it")
    name = f"inference {request_body.inference_id!r} of model {model_id!r}"
    with writing() as connection:
        models = schema.models
        model = connection.execute(select(models).where(models.c.model_id == model_id)).first()
        if model is None:
            raise StoreError(
                f"model {model_id!r} is not registered: "
                "register it with register_model_for_inference_storage"
            )
        try:
            record = _record(request_body, TaskType(model.task_type), model.embedding_size)
        except StoreError as error:
            raise StoreError(f"{name}: {error}") from error
        ours = (_table.c.model_id == model_id, _table.c.inference_id == record.inference_id)
        inserted = insert_records(connection, [record])
        row = connection.execute(_all.where(*ours)).one()
        metadata = metadata_of(connection, [row.id])[row.id]
        if not inserted and not _says(row, metadata, record):
            raise StoreError(
                f"{name} is stored already with other content: "
                "delete it first, or give this one another id"
            )
        return _inference(row, metadata)


def get_inference(model_id: str, inference_id: str) -> Inference | None:
    """Return an inference; None if there is none with this id."""
    query = _all.where(
        _table.c.model_id == model_id, _table.c.inference_id == inference_id, _visible
    )
    with reading() as connection:
        row = connection.execute(query).first()
        return None if row is None else _inference(row, metadata_of(connection, [row.id])[row.id])


def filter_inferences(model_id: str, request_body: NewGetInferencesRequest) -> list[Inference]:
    """Return a page of the inferences that pass the filters.

    Raises:
        StoreError: If a filter or the pagination is not valid, or asks for what this version
            does not do: embedding filters and presigned URLs.
    """
    refuse_unsupported(request_body)
    query = _all.where(selected(model_id, request_body.filters))
    with reading() as connection:
        rows = connection.execute(paged(query, request_body.pagination)).all()
        metadata = metadata_of(connection, [row.id for row in rows])
    return [_inference(row, metadata[row.id]) for row in rows]


def count_inferences(model_id: str, request_body: NewGetInferencesRequest) -> int:
    """Return how many inferences pass the filters; pagination is left out of account.

    Raises:
        StoreError: As `filter_inferences`.
    """
    refuse_unsupported(request_body)
    query = select(func.count()).select_from(_table)
    with reading() as connection:
        return connection.execute(
            query.where(selected(model_id, request_body.filters))
        ).scalar_one()


def delete_inference(model_id: str, inference_id: str) -> str | None:
    """Delete an inference for good, with its elements and metadata.

    Returns:
        The deleted inference's id; None if there was none.
    """
    statement = (
        delete(_table)
        .where(_table.c.model_id == model_id, _table.c.inference_id == inference_id, _visible)
        .returning(_table.c.inference_id)
    )
    with writing() as connection:
        return connection.execute(statement).scalar_one_or_none()


def _record(request: NewInferenceStorageRequest, task: TaskType, embedding_size: int) -> Record:
    standard = request.data.metadata.standard_metadata
    _check_standard(standard, task)
    elements, embedding = _answer(request.data, task, embedding_size)
    values.check_text("inference_id", request.inference_id, longest=values.LONGEST_NAME)
    values.check_text("data_hash", standard.data_hash, longest=values.LONGEST_NAME)
    values.check_text("data_source", standard.data_source or "")
    for each in request.data.metadata.extended_metadata:
        check_metadata(each.key, each.value)
    return Record(
        model_id=request.model_id,
        inference_id=request.inference_id,
        task_type=task.value,
        inference_action=InferenceAction(standard.inference_action).value,
        data_hash=standard.data_hash,
        data_size=standard.data_size,
        elements=elements,
        embedding=embedding,
        data_source=standard.data_source,
        latitude=standard.latitude,
        longitude=standard.longitude,
        data_storage_key=request.data_storage_key,
        is_protected=request.is_protected,
        metadata={
            each.key: (MetadataType(each.type).value, each.value)
            for each in request.data.metadata.extended_metadata
        },
    )


def _check_standard(standard: NewStandardMetadataRequest, task: TaskType) -> None:
    asked = TaskType(standard.task_type)
    action = InferenceAction(standard.inference_action)
    if action not in ACTIONS[asked]:
        allowed = ", ".join(each.value for each in ACTIONS[asked])
        raise StoreError(f"{action.value} is no action for {asked.value}: use {allowed}")
    if asked is not task:
        raise StoreError(f"its task is {asked.value}, and the model is registered for {task.value}")
    if not 0 <= standard.data_size < 2**63:
        raise StoreError(f"data_size {standard.data_size} is no size in bytes")
    if (standard.latitude is None) != (standard.longitude is None):
        raise StoreError("give latitude and longitude, or neither")
    if standard.latitude is not None and standard.longitude is not None:
        check_point(GeoPoint(latitude=standard.latitude, longitude=standard.longitude))


def _answer(
    data: NewInferenceAndMetadataCollection, task: TaskType, embedding_size: int
) -> tuple[list[dict[str, Any]] | None, list[float] | None]:
    """Return the elements and the embedding, at most one of them not None."""
    given = [name for name in DECONSTRUCTED.values() if getattr(data, name) is not None]
    wanted = DECONSTRUCTED.get(task)
    for name in given:
        if name != wanted:
            raise StoreError(f"{name} is not an answer for {task.value}")
    embedding = data.embedding
    if given and embedding is not None:
        raise StoreError(f"give {wanted} or embedding, not both")
    if embedding is not None and len(embedding) != embedding_size:
        raise StoreError(
            f"its embedding has {len(embedding)} numbers, and the model is registered for "
            f"{embedding_size}"
        )
    elements: list[dict[str, Any]] | None = getattr(data, wanted) if given and wanted else None
    for position, element in enumerate(elements or ()):
        _check_element(position, element)
    try:
        # NaN and infinity are not JSON, and would be stored as null.
        json.dumps(elements if elements is not None else embedding, allow_nan=False)
        orjson.dumps(elements)
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"its answer cannot be written as JSON: {error}") from error
    return elements, embedding


def _check_element(position: int, element: Mapping[str, Any]) -> None:
    if not isinstance(element.get("label"), str):
        raise StoreError(f"element {position} has no label: each needs a text under 'label'")
    values.check_text(f"element {position}: label", element["label"], longest=values.LONGEST_NAME)
    score = element.get("score")
    if score is None:
        return
    is_number = isinstance(score, (int, float)) and not isinstance(score, bool)
    if not is_number or not math.isfinite(score):
        raise StoreError(f"element {position} has the score {score!r}, which is no number")


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
    values = {each.key: (each.type, each.value) for each in metadata}
    return (
        stored == wanted
        and orjson.loads(row.data or "null") == orjson.loads(record.data or "null")
        and row.vector == (None if record.embedding is None else to_bytes(record.embedding))
        and {**values, **record.metadata} == values
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
