"""How inferences are searched: filters, pages and sorting, as the documented interface names it."""

# The documented bases of the enums are str and Enum.
# ruff: noqa: UP042

from __future__ import annotations

from enum import Enum
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from pixano_cli.inference_store.record_models import ENUM_VALUES, PLAIN, GeoPoint
from pixano_cli.inference_store.values import write_operands


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


class GeoCircle(BaseModel):
    """A circle on the globe; radius in metres."""

    center: GeoPoint
    radius: float

    model_config: ClassVar[ConfigDict] = PLAIN


class GeoRectangle(BaseModel):
    """A rectangle on the globe, by two opposite corners.

    It lies between their longitudes and never crosses the 180th meridian: ask twice for that.
    """

    p1: GeoPoint
    p2: GeoPoint

    model_config: ClassVar[ConfigDict] = PLAIN


class GeolocationFilter(BaseModel):
    """Inferences on inputs from inside a circle, a rectangle, or both at once."""

    gps_coordinates_circle: GeoCircle | None = None
    gps_coordinates_rectangle: GeoRectangle | None = None

    model_config: ClassVar[ConfigDict] = PLAIN


class TimeWindowFilter(BaseModel):
    """Inferences created in a window: `YYYY-MM-DDTHH:MM:SSZ`, fractions allowed, both inclusive.

    The start is 1970-01-01T00:00:00Z and the end is now if not given.
    """

    start: str | None = None
    end: str | None = None

    model_config: ClassVar[ConfigDict] = PLAIN


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

    model_config: ClassVar[ConfigDict] = ENUM_VALUES

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

    model_config: ClassVar[ConfigDict] = PLAIN


class BaseInferenceFilter(BaseModel):
    """Inferences for which all that is given here holds."""

    inference_action_filter: str | None = None
    data_hash_filter: str | None = None
    data_source_filter: str | None = None
    time_window_filter: TimeWindowFilter | None = None
    metadata_filter: list[MetadataFilter] | None = None
    location_filter: GeolocationFilter | None = None
    deconstructed_inference_filter: DeconstructedInferenceFilter | None = None

    model_config: ClassVar[ConfigDict] = PLAIN


class EmbeddingFilter(BaseModel):
    """Inferences by the distance of their embedding to this one."""

    query_embedding: list[float]
    distance_metric: str | None = EmbeddingDistanceMetric.COSINE

    model_config: ClassVar[ConfigDict] = ENUM_VALUES


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

    model_config: ClassVar[ConfigDict] = ENUM_VALUES


class NewGetInferencesRequest(BaseModel):
    """A search: the filters, the page wanted, and whether to give URLs to the inputs."""

    filters: BaseInferenceFilter = BaseInferenceFilter()
    embedding_filters: EmbeddingFilter | None = None
    pagination: Pagination | None = None
    presign: bool = False

    model_config: ClassVar[ConfigDict] = PLAIN
