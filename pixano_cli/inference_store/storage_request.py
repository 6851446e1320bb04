"""A request to store an inference, checked, as the record that it asks for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import orjson

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import values
from pixano_cli.inference_store.blobs import check_key
from pixano_cli.inference_store.metadata import check_metadata
from pixano_cli.inference_store.models import (
    GeoPoint,
    InferenceAction,
    MetadataType,
    NewInferenceAndMetadataCollection,
    NewInferenceStorageRequest,
    NewStandardMetadataRequest,
    TaskType,
)
from pixano_cli.inference_store.places import check_point
from pixano_cli.inference_store.records import Record

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


def record_of(request: NewInferenceStorageRequest, task: TaskType, embedding_size: int) -> Record:
    """Return the record that a request asks for.

    Args:
        request: The request.
        task: What its model is registered for.
        embedding_size: And with how many numbers in an embedding.

    Raises:
        StoreError: If it contradicts itself or the model, or databases cannot hold it.
    """
    standard = request.data.metadata.standard_metadata
    _check_standard(standard, task)
    elements, embedding = _answer(request.data, task, embedding_size)
    values.check_name("inference_id", request.inference_id)
    values.check_name("data_hash", standard.data_hash)
    values.check_text("data_source", standard.data_source or "")
    if request.data_storage_key is not None:
        check_key(request.data_storage_key)
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
    values.check_name(f"element {position}: label", element["label"])
    score = element.get("score")
    if score is None:
        return
    is_number = isinstance(score, (int, float)) and not isinstance(score, bool)
    if not is_number or not math.isfinite(score):
        raise StoreError(f"element {position} has the score {score!r}, which is no number")
