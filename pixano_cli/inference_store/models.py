"""What the store's functions take and return, as the documented interface names it.

The models of uploads, exports, retention and statistics come with their functions.
"""

# The documented bases of the enums are str and Enum.
# ruff: noqa: UP042

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any, ClassVar

import orjson
from pydantic import BaseModel, ConfigDict

from pixano_cli.inference_store.values import write_operands

_PLAIN = ConfigDict(protected_namespaces=())
_ENUM_VALUES = ConfigDict(protected_namespaces=(), use_enum_values=True)


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


class MetadataFilterType(str, Enum):
    """The types a metadata filter compares as; `json.*` look inside a json value."""

    FLOAT = "float"
    INT = "int"
    JSON_FLOAT = "json.float"
    JSON_INT = "json.int"
    JSON_STRING = "json.string"
    STRING = "string"


class MetadataFilterOperator(str, Enum):
    """The operators of metadata filters."""

    EQUAL = "="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    IN = "in"
    LESS = "<"
    LESS_OR_EQUAL = "<="
    NOT_EQUAL = "!="


class EmbeddingDistanceMetric(str, Enum):
    """The distances between embeddings; smaller is nearer."""

    COSINE = "cosine"
    L2 = "l2"
    NEGATIVE_DOT_PRODUCT = "negative_dot_product"


class PaginationSortDirection(str, Enum):
    """The directions of a sort."""

    ASCENDING = "asc"
    DESCENDING = "desc"


class PaginationSortField(str, Enum):
    """What all inferences can be sorted by."""

    CREATED_AT = "created_at"


class PaginationEmbeddingSortField(str, Enum):
    """What embeddings can be sorted by."""

    CREATED_AT = "created_at"
    EMBEDDING_DISTANCE = "embedding_distance"


class PaginationGranularInferenceSortField(str, Enum):
    """What inferences with elements can be sorted by: those of the best-scoring element."""

    CREATED_AT = "created_at"
    LABEL = "label"
    SCORE = "score"


class GeoPoint(BaseModel):
    """A point on the globe: latitude in -90..90 and longitude in -180..180, in degrees."""

    latitude: float
    longitude: float

    model_config: ClassVar[ConfigDict] = _PLAIN


class GeoCircle(BaseModel):
    """A circle on the globe; radius in metres."""

    center: GeoPoint
    radius: float

    model_config: ClassVar[ConfigDict] = _PLAIN


class GeoRectangle(BaseModel):
    """A rectangle on the globe, by two opposite corners.

    It lies between their longitudes and never crosses the 180th meridian: ask twice for that.
    """

    p1: GeoPoint
    p2: GeoPoint

    model_config: ClassVar[ConfigDict] = _PLAIN


class GeolocationFilter(BaseModel):
    """Inferences on inputs from inside a circle, a rectangle, or both at once."""

    gps_coordinates_circle: GeoCircle | None = None
    gps_coordinates_rectangle: GeoRectangle | None = None

    model_config: ClassVar[ConfigDict] = _PLAIN


class TimeWindowFilter(BaseModel):
    """Inferences created in a window: `YYYY-MM-DDTHH:MM:SSZ`, fractions allowed, both inclusive.

    The start is 1970-01-01T00:00:00Z and the end is now if not given.
    """

    start: str | None = None
    end: str | None = None

    model_config: ClassVar[ConfigDict] = _PLAIN


class MetadataFilter(BaseModel):
    """Inferences whose metadata has a key, of this type, with such a value.

    Attributes:
        key: The key; for `json.*` a dot and the path into the value follow it: `x.y`.
        operator: One of = != > < >= <= in. A missing key never matches, not even `!=`.
        type: The stored type; for `json.*` that of what the path leads to.
        value: What to compare with; for `in` a list of unquoted values: `[v1, v2]`.
    """

    key: str
    operator: MetadataFilterOperator
    type: MetadataFilterType
    value: str

    model_config: ClassVar[ConfigDict] = _ENUM_VALUES

    @staticmethod
    def form_values_for_in_operator(
        values_type: MetadataFilterType, values: list[str] | list[int] | list[float]
    ) -> str | None:
        """Return the values as the `in` operator takes them.

        Raises:
            StoreError: If a value is not of the type or cannot be written in such a list.
        """
        scalar = MetadataFilterType(values_type).value.removeprefix("json.")
        return write_operands(scalar, values)


class DeconstructedInferenceFilter(BaseModel):
    """Inferences with one element whose label is listed and whose score is within the bounds.

    Bounds are inclusive. Only inferences with a deconstructed list can match.
    """

    labels: list[str] | None = None
    minimum_score: float | None = None
    maximum_score: float | None = None

    model_config: ClassVar[ConfigDict] = _PLAIN


class BaseInferenceFilter(BaseModel):
    """Inferences for which all that is given here holds."""

    inference_action_filter: str | None = None
    data_hash_filter: str | None = None
    data_source_filter: str | None = None
    time_window_filter: TimeWindowFilter | None = None
    metadata_filter: list[MetadataFilter] | None = None
    location_filter: GeolocationFilter | None = None
    deconstructed_inference_filter: DeconstructedInferenceFilter | None = None

    model_config: ClassVar[ConfigDict] = _PLAIN


class EmbeddingFilter(BaseModel):
    """Inferences by the distance of their embedding to this one."""

    query_embedding: list[float]
    distance_metric: str | None = EmbeddingDistanceMetric.COSINE

    model_config: ClassVar[ConfigDict] = _ENUM_VALUES


class Pagination(BaseModel):
    """A page: sorted ascending by created_at, 50 from the first on, where nothing else is said.

    Ties are in order of inference_id whatever the direction.
    """

    direction: PaginationSortDirection | None = None
    limit: int | None = None
    offset: int | None = None
    sort: (
        PaginationSortField
        | PaginationEmbeddingSortField
        | PaginationGranularInferenceSortField
        | None
    ) = None

    model_config: ClassVar[ConfigDict] = _ENUM_VALUES


class NewGetInferencesRequest(BaseModel):
    """A search: the filters, the page wanted, and whether to give URLs to the inputs."""

    filters: BaseInferenceFilter = BaseInferenceFilter()
    embedding_filters: EmbeddingFilter | None = None
    pagination: Pagination | None = None
    presign: bool = False

    model_config: ClassVar[ConfigDict] = _PLAIN


class Metadata(BaseModel):
    """A key of an inference with its value as text; type is string, int, float or json."""

    key: str
    type: str
    value: str

    model_config: ClassVar[ConfigDict] = _PLAIN


class Model(BaseModel):
    """A registered model; times are in UTC."""

    model_id: str
    created_at: datetime
    updated_at: datetime
    embedding_size: int

    model_config: ClassVar[ConfigDict] = _PLAIN


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

    model_config: ClassVar[ConfigDict] = _PLAIN

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

    model_config: ClassVar[ConfigDict] = _ENUM_VALUES


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

    model_config: ClassVar[ConfigDict] = _ENUM_VALUES


class NewExtendedMetadataRequest(BaseModel):
    """A key to attach to an inference, with its value as text."""

    key: str
    type: MetadataType
    value: str

    model_config: ClassVar[ConfigDict] = _ENUM_VALUES


class NewMetadataCollectionRequest(BaseModel):
    """All metadata of a new inference."""

    standard_metadata: NewStandardMetadataRequest
    extended_metadata: list[NewExtendedMetadataRequest] = []

    model_config: ClassVar[ConfigDict] = _PLAIN


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

    model_config: ClassVar[ConfigDict] = _PLAIN


class NewInferenceStorageRequest(BaseModel):
    """An inference to store; a protected one is left out by retention."""

    model_id: str
    inference_id: str
    data: NewInferenceAndMetadataCollection
    data_storage_key: str | None = None
    is_protected: bool = False

    model_config: ClassVar[ConfigDict] = _PLAIN
