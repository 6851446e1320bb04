"""What the tests of the store ask of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import delete

from pixano_cli import inference_store as istore
from pixano_cli.inference_store import schema

MODEL_ID = "picodet"
CAT = {"label": "cat", "score": 0.9, "xmin": 1.0, "ymin": 2.0, "xmax": 30.0, "ymax": 40.0}


def registration(
    model_id: str = MODEL_ID,
    task: istore.TaskType = istore.TaskType.OBJECT_DETECTION,
    embedding_size: int = 0,
    project_id: str = "demo",
) -> istore.NewRegisterModelRequest:
    return istore.NewRegisterModelRequest(
        model_id=model_id, project_id=project_id, task_type=task, embedding_size=embedding_size
    )


def inference(
    inference_id: str = "one",
    elements: Sequence[Mapping[str, Any]] | None = (CAT,),
    *,
    model_id: str = MODEL_ID,
    task: istore.TaskType = istore.TaskType.OBJECT_DETECTION,
    action: istore.InferenceAction = istore.InferenceAction.DETECT,
    answer: str = "object_detection",
    embedding: list[float] | None = None,
    metadata: Mapping[str, tuple[str, str]] | None = None,
    data_storage_key: str | None = None,
    is_protected: bool = False,
    data_hash: str = "a" * 64,
    data_size: int = 1000,
    **standard: Any,
) -> istore.NewInferenceStorageRequest:
    """A request to store an inference; `standard` are further fields of its standard metadata."""
    answers: dict[str, Any] = {"embedding": embedding}
    if elements is not None:
        answers[answer] = [dict(element) for element in elements]
    return istore.NewInferenceStorageRequest(
        model_id=model_id,
        inference_id=inference_id,
        data=istore.NewInferenceAndMetadataCollection(
            **answers,
            metadata=istore.NewMetadataCollectionRequest(
                standard_metadata=istore.NewStandardMetadataRequest(
                    data_hash=data_hash,
                    data_size=data_size,
                    task_type=task,
                    inference_action=action,
                    **standard,
                ),
                extended_metadata=[
                    istore.NewExtendedMetadataRequest(
                        key=key, type=istore.MetadataType(kind), value=value
                    )
                    for key, (kind, value) in (metadata or {}).items()
                ],
            ),
        ),
        data_storage_key=data_storage_key,
        is_protected=is_protected,
    )


def create(*args: Any, **kwargs: Any) -> istore.Inference:
    """Store an inference of the detection model."""
    request = inference(*args, **kwargs)
    created = istore.create_inference(request.model_id, request)
    assert created is not None
    return created


def search(
    pagination: istore.Pagination | None = None, **filters: Any
) -> istore.NewGetInferencesRequest:
    return istore.NewGetInferencesRequest(
        filters=istore.BaseInferenceFilter(**filters), pagination=pagination
    )


def found(pagination: istore.Pagination | None = None, **filters: Any) -> list[str]:
    """Ids of the detection model's inferences that pass; counted the same way."""
    request = search(pagination, **filters)
    ids = [each.inference_id for each in istore.filter_inferences(MODEL_ID, request)]
    if pagination is None:
        assert istore.count_inferences(MODEL_ID, request) == len(ids)
    return ids


def fresh(store: istore.Store) -> None:
    """Empty all tables of a store, which takes milliseconds."""
    with store.write() as connection:
        for table in reversed(schema.tables.sorted_tables):
            connection.execute(delete(table))


def texts(**sizes: int) -> st.SearchStrategy[str]:
    """Texts that databases can hold."""
    return st.text(st.characters(codec="utf-8", exclude_characters="\0"), **sizes)
