"""Filters and sorting as SQL: every value is a bound parameter.

The conditions use the tables alone, and sin and cos.
"""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Float,
    Select,
    Table,
    and_,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
)

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema, values
from pixano_cli.inference_store.database import now
from pixano_cli.inference_store.models import (
    BaseInferenceFilter,
    DeconstructedInferenceFilter,
    GeoCircle,
    GeolocationFilter,
    GeoPoint,
    GeoRectangle,
    MetadataFilter,
    MetadataFilterOperator,
    MetadataFilterType,
    NewGetInferencesRequest,
    Pagination,
    PaginationEmbeddingSortField,
    PaginationGranularInferenceSortField,
    PaginationSortDirection,
    PaginationSortField,
    TimeWindowFilter,
)
from pixano_cli.inference_store.times import read_nanoseconds

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of the Earth in metres (IUGG)."""

DEFAULT_LIMIT = 50
_LARGEST_INT = 2**63 - 1

_Condition = ColumnElement[bool]
_Operand = values.Comparable | frozenset[values.Comparable]
_inferences = schema.inferences
_elements = schema.elements
_metadata = schema.metadata


def selected(model_id: str, filters: BaseInferenceFilter) -> _Condition:
    """Return the condition for a model's inferences that are not deleted and pass the filters.

    Raises:
        StoreError: If a filter's value is not what its kind takes.
    """
    conditions = [_inferences.c.model_id == model_id, _inferences.c.deleted_at.is_(None)]
    if filters.inference_action_filter is not None:
        conditions.append(_inferences.c.inference_action == filters.inference_action_filter)
    if filters.data_hash_filter is not None:
        conditions.append(_inferences.c.data_hash == filters.data_hash_filter)
    if filters.data_source_filter is not None:
        source = _inferences.c.data_source
        conditions += [
            _beginning(source) == filters.data_source_filter[: schema.PREFIX],
            source == filters.data_source_filter,
        ]
    if filters.time_window_filter is not None:
        conditions.append(_in_window(filters.time_window_filter))
    for each in filters.metadata_filter or ():
        conditions.append(_inferences.c.id.in_(_with_metadata(each)))
    if filters.location_filter is not None:
        conditions.append(_in_location(filters.location_filter))
    if filters.deconstructed_inference_filter is not None:
        elements = _with_element(filters.deconstructed_inference_filter)
        conditions.append(_inferences.c.id.in_(elements))
    return and_(*conditions)


def refuse_unsupported(request: NewGetInferencesRequest) -> None:
    """Refuse what this version does not do, rather than leave it out of an answer.

    Raises:
        StoreError: If the request has embedding filters, or wants presigned URLs.
    """
    if request.embedding_filters is not None:
        raise StoreError("embedding_filters: search by embedding is not in this version")
    if request.presign:
        raise StoreError("presign: the store of this version keeps no inputs to give URLs to")


def paged(query: Select[Any], pagination: Pagination | None) -> Select[Any]:
    """Sort a query of inferences and cut the page out of it.

    Raises:
        StoreError: If limit or offset is negative, or the sort needs an embedding filter.
    """
    page = pagination or Pagination()
    limit = DEFAULT_LIMIT if page.limit is None else page.limit
    offset = page.offset or 0
    if limit < 0 or offset < 0:
        raise StoreError(f"limit {limit} and offset {offset}: neither can be negative")
    descending = page.direction == PaginationSortDirection.DESCENDING
    column = _sort_column(page)
    return (
        query.order_by(
            (column.desc() if descending else column.asc()).nulls_last(),
            _inferences.c.inference_id,
        )
        .limit(min(limit, _LARGEST_INT))
        .offset(min(offset, _LARGEST_INT))
    )


def _sort_column(page: Pagination) -> ColumnElement[Any]:
    field = page.sort or PaginationSortField.CREATED_AT
    if field == PaginationEmbeddingSortField.EMBEDDING_DISTANCE:
        raise StoreError("sort by embedding_distance needs an embedding filter")
    if field == PaginationSortField.CREATED_AT:
        return _inferences.c.created_at
    shown = (
        _elements.c.label
        if field == PaginationGranularInferenceSortField.LABEL
        else _elements.c.score
    )
    return (
        select(shown)
        .where(_elements.c.inference == _inferences.c.id)
        .order_by(_elements.c.score.desc().nulls_last(), _elements.c.position)
        .limit(1)
        .scalar_subquery()
    )


def _in_window(window: TimeWindowFilter) -> _Condition:
    start = 0 if window.start is None else -(-read_nanoseconds(window.start) // 1000)
    end = now() if window.end is None else read_nanoseconds(window.end) // 1000
    return _inferences.c.created_at.between(start, end)


def _with_metadata(asked: MetadataFilter) -> Select[tuple[int]]:
    kind = MetadataFilterType(asked.type).value
    symbol = MetadataFilterOperator(asked.operator).value
    scalar = kind.removeprefix("json.")
    # Read here so that a wrong value is refused with its name, and not met row by row.
    operand = values.read_operand(scalar, symbol, asked.value)
    table = _metadata if scalar == kind else schema.metadata_leaves
    name = _metadata.c.key if scalar == kind else schema.metadata_leaves.c.name
    values.check_text("metadata filter key", asked.key, longest=values.LONGEST_NAME)
    of_type = table.c.type == literal_column(f"'{scalar}'")
    if kind == "json.float":
        of_type = table.c.type.in_((literal_column("'float'"), literal_column("'int'")))
    compared = _compared_text if scalar == "string" else _compared_number
    condition = compared(table, symbol, operand)
    return select(table.c.inference).where(name == asked.key, of_type, condition)


def _compared_text(table: Table, symbol: str, operand: _Operand) -> _Condition:
    """Compare a text, and its beginning besides, which alone is indexed."""
    column = table.c.value
    start = _beginning(column)
    if isinstance(operand, frozenset):
        texts = [values.check_text("metadata filter value", str(each)) for each in sorted(operand)]
        return and_(start.in_([text[: schema.PREFIX] for text in texts]), column.in_(texts))
    text = values.check_text("metadata filter value", str(operand))
    condition: _Condition = values.COMPARISONS[symbol](column, text)
    if symbol == "!=":
        return condition
    loosely = {">": ">=", "<": "<="}.get(symbol, symbol)
    return and_(values.COMPARISONS[loosely](start, text[: schema.PREFIX]), condition)


def _beginning(column: ColumnElement[Any]) -> ColumnElement[str]:
    """Return what is indexed of a text column, in the index's own words."""
    return func.substr(column, literal_column("1"), literal_column(str(schema.PREFIX)))


def _compared_number(table: Table, symbol: str, operand: _Operand) -> _Condition:
    """Compare a number, and where doubles cannot tell two ints apart their digits besides."""
    number, digits = table.c.number, table.c.digits
    known = number.is_not(None)
    if isinstance(operand, frozenset):
        asked = [values.comparable_number(each) for each in operand]
        return and_(
            known,
            or_(
                number.in_([each for each, shown in asked if shown is None]),
                digits.in_([shown for _, shown in asked if shown is not None]),
            ),
        )
    double, shown = values.comparable_number(operand)
    condition: _Condition = values.COMPARISONS[symbol](number, double)
    if shown is None:
        return and_(known, condition)
    exactly = values.COMPARISONS[symbol](digits, shown)
    return and_(known, or_(and_(digits.is_(None), condition), exactly))


def _with_element(asked: DeconstructedInferenceFilter) -> Select[tuple[int]]:
    query = select(_elements.c.inference)
    if asked.labels is not None:
        query = query.where(_elements.c.label.in_(asked.labels))
    for bound in (asked.minimum_score, asked.maximum_score):
        if bound is not None and math.isnan(bound):
            raise StoreError("a score filter's bound is no number")
    if asked.minimum_score is not None:
        query = query.where(_elements.c.score >= asked.minimum_score)
    if asked.maximum_score is not None:
        query = query.where(_elements.c.score <= asked.maximum_score)
    return query


def _in_location(asked: GeolocationFilter) -> _Condition:
    conditions: list[_Condition] = [true()]
    if asked.gps_coordinates_circle is not None:
        conditions.append(_in_circle(asked.gps_coordinates_circle))
    if asked.gps_coordinates_rectangle is not None:
        conditions.append(_in_rectangle(asked.gps_coordinates_rectangle))
    return and_(*conditions)


def _in_circle(circle: GeoCircle) -> _Condition:
    """Compare haversines and not distances: the half-angle's squared sine, which grows with it.

    R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68 (1984).
    """
    check_point(circle.center)
    latitude, longitude = _inferences.c.latitude, _inferences.c.longitude
    located = and_(latitude.is_not(None), longitude.is_not(None))
    if math.isnan(circle.radius):
        raise StoreError("a circle's radius is no number of metres")
    if circle.radius < 0:
        return false()
    half_angle = circle.radius / (2 * EARTH_RADIUS_M)
    if half_angle >= math.pi / 2:
        return located
    radian = math.pi / 180
    vertical = func.sin((latitude - circle.center.latitude) * (radian / 2), type_=Float)
    horizontal = func.sin((longitude - circle.center.longitude) * (radian / 2), type_=Float)
    narrowing = func.cos(latitude * radian, type_=Float) * math.cos(circle.center.latitude * radian)
    haversine = vertical * vertical + narrowing * horizontal * horizontal
    return and_(located, haversine <= math.sin(half_angle) ** 2)


def _in_rectangle(rectangle: GeoRectangle) -> _Condition:
    for corner in (rectangle.p1, rectangle.p2):
        check_point(corner)
    south, north = sorted((rectangle.p1.latitude, rectangle.p2.latitude))
    west, east = sorted((rectangle.p1.longitude, rectangle.p2.longitude))
    return and_(
        _inferences.c.latitude.between(south, north), _inferences.c.longitude.between(west, east)
    )


def check_point(point: GeoPoint) -> None:
    """Refuse a point that is not on the globe.

    Raises:
        StoreError: If its latitude is not in -90..90 or its longitude not in -180..180.
    """
    if not (-90 <= point.latitude <= 90 and -180 <= point.longitude <= 180):
        raise StoreError(
            f"latitude {point.latitude}, longitude {point.longitude} is no point on the globe: "
            "they are in -90..90 and -180..180 degrees"
        )
