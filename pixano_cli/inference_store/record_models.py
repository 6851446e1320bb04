"""What is stored: models, inferences and their metadata, as the documented interface names it."""

# The documented bases of the enums are str and Enum.
# ruff: noqa: UP042

from __future__ import annotations

import json
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar

import orjson
from pydantic import BaseModel, ConfigDict

from pixano_cli.errors import StoreError

PLAIN = ConfigDict(protected_namespaces=())
"""Configuration of most of the documented models."""

ENUM_VALUES = ConfigDict(protected_namespaces=(), use_enum_values=True)
"""Configuration of the models with enums."""


class TaskType(str, Enum):
    """The task types that the store knows."""

    IMAGE_CLASSIFICATION = "Image Classification"
    IMAGE_EMBEDDING = "Image Embedding"
    IMAGE_SEGMENTATION = "Image Segmentation"
    OBJECT_DETECTION = "Object Detection"
    ORIENTED_OBJECT_DETECTION = "Oriented Object Detection"
    TEXT_EMBEDDING = "Text Embedding"


class InferenceAction(str, Enum):
    """What was asked of a model."""

    DETECT = "detect"
    EMBED = "embed"
    PREDICT = "predict"
    PREDICT_PROBA = "predict_proba"


class MetadataType(str, Enum):
    """The types of metadata values."""

    FLOAT = "float"
    INT = "int"
    JSON = "json"
    STRING = "string"


class GeoPoint(BaseModel):
    """A point on the globe: latitude in -90..90 and longitude in -180..180, in degrees."""

    latitude: float
    longitude: float

    model_config: ClassVar[ConfigDict] = PLAIN


class Metadata(BaseModel):
    """A key of an inference with its value as text; type is string, int, float or json."""

    key: str
    type: str
    value: str

    model_config: ClassVar[ConfigDict] = PLAIN


class Model(BaseModel):
    """A registered model; times are in UTC."""

    model_id: str
    created_at: datetime
    updated_at: datetime
    embedding_size: int

    model_config: ClassVar[ConfigDict] = PLAIN


class Inference(BaseModel):
    """A recorded inference; times are in UTC.

    `data` is the answer as JSON text, `data_hash` the sha256 of the input. `version` is "v2"
    where the answer is a deconstructed list, else "v1".
    """

    model_id: str
    inference_id: str
    created_at: datetime
    updated_at: datetime
    inference_action: str
    data: str | None = None
    embedding_distance: float | None = None
    metadata: list[Metadata] | None = None
    data_hash: str
    data_source: str | None = None
    data_coordinates: GeoPoint | None = None
    data_storage_key: str | None = None
    presigned_url: str | None = None
    is_protected: bool = False
    version: str

    model_config: ClassVar[ConfigDict] = PLAIN

    @property
    def structured_embedding(self) -> list[int | float] | None:
        """The embedding, [embedding_size]; None if the data is none."""
        if self.data is None:
            return None
        try:
            parsed = orjson.loads(self.data)
        except orjson.JSONDecodeError:
            return None
        # Only embeddings are lists of numbers: no other answer is stored as one.
        if not isinstance(parsed, list) or not parsed:
            return None
        return parsed if all(type(number) in (int, float) for number in parsed) else None


class NewRegisterModelRequest(BaseModel):
    """A model to register; embedding_size is the length of its embeddings, 0 for none."""

    model_id: str
    project_id: str
    task_type: TaskType
    embedding_size: int = 0

    model_config: ClassVar[ConfigDict] = ENUM_VALUES


class NewStandardMetadataRequest(BaseModel):
    """What is known of every inference.

    Pairs of task and action: Image Classification: predict, predict_proba, embed. Object
    Detection and Oriented Object Detection: detect. Image Segmentation: predict, predict_proba.
    Image Embedding and Text Embedding: embed.

    Attributes:
        data_hash: sha256 of the input as hex digest; `get_data_hash` gives it.
        data_size: Size of the input in bytes.
        task_type: Task of the model.
        inference_action: What was asked of it.
        data_source: Where the input comes from.
        latitude: Where it was taken, in degrees; both or neither.
        longitude: Where it was taken, in degrees.
    """

    data_hash: str
    data_size: int
    task_type: TaskType
    inference_action: InferenceAction
    data_source: str | None = None
    latitude: float | None = None
    longitude: float | None = None

    model_config: ClassVar[ConfigDict] = ENUM_VALUES


class NewExtendedMetadataRequest(BaseModel):
    """A key to attach to an inference, with its value as text."""

    key: str
    type: MetadataType
    value: str

    model_config: ClassVar[ConfigDict] = ENUM_VALUES


class NewMetadataCollectionRequest(BaseModel):
    """All metadata of a new inference."""

    standard_metadata: NewStandardMetadataRequest
    extended_metadata: list[NewExtendedMetadataRequest] = []

    model_config: ClassVar[ConfigDict] = PLAIN

    def encode(self) -> bytes:
        """Return this as JSON in UTF-8, to be uploaded; `model_validate_json` reads it.

        Raises:
            StoreError: If it holds what is not JSON, as NaN is not.
        """
        return _encoded(self)


class NewInferenceAndMetadataCollection(BaseModel):
    """An answer with its metadata: the list of the model's task, or an embedding, or nothing.

    Elements have a `label` and mostly a `score`; further keys by task, all kept:
    object_detection {xmin, ymin, xmax, ymax} and oriented_object_detection {cx, cy, w, h, r} in
    pixels and radians; image_segmentation {contour: [[{x, y}, ...], ...]} or
    {rle: {size: [h, w], counts}}. Without a list an inference is stored, and not found by label
    or score.
    """

    image_classification: list[dict[str, Any]] | None = None
    object_detection: list[dict[str, Any]] | None = None
    image_segmentation: list[dict[str, Any]] | None = None
    oriented_object_detection: list[dict[str, Any]] | None = None
    embedding: list[float] | None = None
    metadata: NewMetadataCollectionRequest

    model_config: ClassVar[ConfigDict] = PLAIN

    def encode(self) -> bytes:
        """Return this as JSON in UTF-8, to be uploaded; `model_validate_json` reads it.

        Raises:
            StoreError: If it holds what is not JSON, as NaN is not.
        """
        return _encoded(self)


class NewInferenceStorageRequest(BaseModel):
    """An inference to store; a protected one is left out by retention."""

    model_id: str
    inference_id: str
    data: NewInferenceAndMetadataCollection
    data_storage_key: str | None = None
    is_protected: bool = False

    model_config: ClassVar[ConfigDict] = PLAIN


class DataUpload(BaseModel):
    """Where to upload the input of an inference: a URL to PUT it to, and its storage key."""

    data_presigned_url: str
    data_storage_key: str

    model_config: ClassVar[ConfigDict] = PLAIN


class MetadataUpload(BaseModel):
    """Where to upload an answer with its metadata: a URL to PUT it to, and its storage key."""

    metadata_presigned_url: str
    metadata_storage_key: str

    model_config: ClassVar[ConfigDict] = PLAIN


def _encoded(model: BaseModel) -> bytes:
    name = type(model).__name__
    try:
        # What a model writes by itself has null for NaN.
        text = json.dumps(model.model_dump(), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise StoreError(f"{name} cannot be written as JSON: {said}") from error
