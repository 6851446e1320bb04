"""Pages of what passes a filter, and its count, without looking at every inference for it.

Databases know too little to choose between two ways. To go through the inferences in the order
of creation and check each finds a page at once where many pass, but takes long where few do.
To go through what an index lists finds the few at once, but takes long where they are many. So
it is asked first, up to a limit, how many an index lists.

Where many pass, but the first of them come late, ids help: rows are numbered in the order in
which they are made, and `models.disorder` says how much a clock ever disturbed that order. So
the lowest ids that an index lists are the first in the order of creation too, but for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Subquery,
    and_,
    func,
    literal_column,
    select,
    union_all,
)

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.filters import Search, Way, all_of, search
from pixano_cli.inference_store.models import (
    BaseInferenceFilter,
    Pagination,
    PaginationEmbeddingSortField,
    PaginationGranularInferenceSortField,
    PaginationSortField,
)
from pixano_cli.inference_store.pagination import LARGEST_INT, Page, read_page

FEW = 2_000
"""So many inferences are looked at one by one in less time than a person notices."""

NEAR = 5_000
"""So many are gone through in order in that time."""

MANY = 100_000
"""And so many entries of an index."""

LARGEST_PAGE = 2_000
"""Where a page ends later, counting from the first one, all that passes is sorted."""

SIZES = (256, 4_096, 65_536)
"""How many ids of an index are tried, one after the other."""

_table = schema.inferences
_elements = schema.elements
_models = schema.models


def find_page(
    connection: Connection,
    model_id: str,
    filters: BaseInferenceFilter,
    pagination: Pagination | None,
) -> list[int]:
    """Return the rows of a page of a model's inferences that pass the filters, in order.

    Raises:
        StoreError: If a filter or the pagination is not valid.
    """
    page = read_page(pagination)
    if page.field == PaginationEmbeddingSortField.EMBEDDING_DISTANCE:
        raise StoreError("sort by embedding_distance needs an embedding filter")
    return find_rows(connection, search(model_id, filters), page)


def find_rows(connection: Connection, asked: Search, page: Page) -> list[int]:
    """Return the rows of a page of what is asked for, in order; not by distance."""
    if not page.limit:
        return []
    is_early = page.field == PaginationSortField.CREATED_AT and page.end <= LARGEST_PAGE
    few = way_to_few(connection, asked)
    found: list[int] | None = None
    if few is not None:
        if is_early:
            found = _first_along(connection, asked, page, few, _ALL)
        if found is None:
            return _rows(connection, _sorted(select(_table.c.id).where(asked.along(few)), page))
    elif is_early:
        found = _near(connection, asked, page)
        if found is None:
            found = _listed_first(connection, asked, page)
    if found is not None:
        return found[page.offset : page.end]
    return _rows(connection, _sorted(select(_table.c.id).where(asked.in_turn), page))


def count(connection: Connection, model_id: str, filters: BaseInferenceFilter) -> int:
    """Return how many of a model's inferences pass the filters.

    Raises:
        StoreError: If a filter is not valid.
    """
    return count_passing(connection, search(model_id, filters))


def count_passing(connection: Connection, asked: Search) -> int:
    """Return how many inferences are what is asked for."""
    way = _way_to_all(connection, asked)
    if way is not None:
        ids = all_of(way).subquery()
        counted = func.count(ids.c[0].distinct()) if way.repeats else func.count()
        query = select(counted).select_from(ids)
    else:
        query = select(func.count()).select_from(_table).where(passing(connection, asked))
    return connection.execute(query).scalar_one()


def passing(connection: Connection, asked: Search) -> ColumnElement[bool]:
    """Return the condition that leads soonest to all that is asked for."""
    sized = _sized(connection, asked, MANY)
    return asked.in_turn if sized is None else asked.along(sized.way)


def way_to_few(connection: Connection, asked: Search) -> Way | None:
    """Return the way that lists fewest, if those are few."""
    sized = _sized(connection, asked, FEW)
    return None if sized is None else sized.way


def _way_to_all(connection: Connection, asked: Search) -> Way | None:
    """Return a way to just what is asked for, if there is one that is soon gone."""
    ways = [
        way for part in asked.parts for way in part.ways if way.is_exact or way.passing is not None
    ]
    if len(asked.parts) != 1 or len(asked.common) != 1 or not ways:
        return None
    hidden = select(_table.c.id).where(
        _table.c.model_id == asked.model_id, _table.c.deleted_at.is_not(None)
    )
    if connection.execute(select(hidden.exists())).scalar_one():
        return None
    way = ways[0]
    if way.is_scattered and _count(connection, way.stretches, MANY) > MANY:
        return None
    return way if way.passing is None else replace(way, stretches=way.passing, is_exact=True)


class _Sized(NamedTuple):
    """A way, and how many it lists."""

    size: int
    way: Way


def _sized(connection: Connection, asked: Search, most: int) -> _Sized | None:
    """Return the way that lists fewest, if it lists no more than so many."""
    found: list[_Sized] = []
    ways = [way for part in asked.parts for way in part.ways]
    for way in sorted(ways, key=lambda each: each.entries is not None):
        # Where much has to be gone through to count little, another way will do.
        if way.entries is not None and (found or _count(connection, way.entries, MANY) > MANY):
            continue
        size = _count(connection, way.stretches, most)
        if size <= most:
            found.append(_Sized(size, way))
    return min(found, key=lambda each: each.size, default=None)


def _count(connection: Connection, stretches: Sequence[Select[Any]], most: int) -> int:
    """Return how many ids there are, one more than `most` if they are more."""
    if not stretches:
        return 0
    parts: list[Select[Any]] = [
        select(literal_column("1").label("one")).select_from(each.limit(most + 1).subquery())
        for each in stretches
    ]
    entries = (parts[0] if len(parts) == 1 else union_all(*parts)).limit(most + 1).subquery()
    return connection.execute(select(func.count()).select_from(entries)).scalar_one()


def _rows(connection: Connection, query: Select[Any]) -> list[int]:
    return list(connection.execute(query).scalars())


def _sorted(query: Select[Any], page: Page) -> Select[Any]:
    column = _sort_column(page.field)
    by_field = column.desc() if page.is_descending else column.asc()
    if page.field != PaginationSortField.CREATED_AT:
        by_field = by_field.nulls_last()
    ordered = query.order_by(by_field, _table.c.inference_id)
    return ordered.limit(page.limit).offset(page.offset)


def _sort_column(field: str) -> ColumnElement[Any]:
    """Return what to sort by: for what elements have, that of the best-scoring one."""
    if field == PaginationSortField.CREATED_AT:
        return _table.c.created_at
    is_label = field == PaginationGranularInferenceSortField.LABEL
    return (
        select(_elements.c.label if is_label else _elements.c.score)
        .where(_elements.c.inference == _table.c.id)
        .order_by(_elements.c.score.desc().nulls_last(), _elements.c.position)
        .limit(1)
        .scalar_subquery()
    )


def _near(connection: Connection, asked: Search, page: Page) -> list[int] | None:
    """Return the rows up to the page's end if they are among the first few in order of creation."""
    created_at = _table.c.created_at
    order = created_at.desc() if page.is_descending else created_at.asc()
    nth = select(created_at).where(asked.within).order_by(order).offset(NEAR).limit(1)
    edge = connection.execute(nth).scalar_one_or_none()
    condition = asked.in_turn
    if edge is not None:
        near = created_at >= edge if page.is_descending else created_at <= edge
        condition = and_(condition, near)
    whole = page._replace(limit=page.end, offset=0)
    found = _rows(connection, _sorted(select(_table.c.id).where(condition), whole))
    return found if edge is None or len(found) == page.end else None


class _Span(NamedTuple):
    """A range of ids, both ends included."""

    first: int
    last: int


_ALL = _Span(0, LARGEST_INT)


class _Dated(NamedTuple):
    """A row with what it is sorted by."""

    created_at: int
    inference_id: str
    row: int


def _listed_first(connection: Connection, asked: Search, page: Page) -> list[int] | None:
    """Return the rows up to the page's end if they are among the first that an index lists."""
    ways = [way for part in asked.parts for way in part.ways]
    if not ways:
        return None
    if len(ways) == 1 and len(asked.common) == 1:
        return _first_along(connection, asked, page, ways[0], _ALL)
    span = _span(connection, asked, _disorder(connection, asked.model_id))
    for way in ways:
        span = span and _narrowed(connection, way, span)
    if span is None:
        return []
    best, least = ways[0], MANY
    for way in ways if len(ways) > 1 else ():
        size = _count(connection, _between(way, span), least)
        if size < least:
            best, least = way, size
    return _first_along(connection, asked, page, best, span)


def _first_along(
    connection: Connection, asked: Search, page: Page, way: Way, span: _Span
) -> list[int] | None:
    """Return the rows up to the page's end if they are among the first that a way leads to."""
    if not way.stretches:
        return []
    disorder = _disorder(connection, asked.model_id)
    for size in SIZES:
        ids = _first(way, span, size, is_descending=page.is_descending)
        shown = ids.c[0].label("tried"), _table.c.created_at, _table.c.inference_id
        joined = ids.outerjoin(_table, and_(_table.c.id == ids.c[0], asked.on_sight))
        tried = connection.execute(select(*shown).select_from(joined)).all()
        found = {
            _Dated(each.created_at, each.inference_id, each.tried)
            for each in tried
            if each.inference_id is not None
        }
        if len(tried) == size:
            if len(found) < page.end:
                continue
            found |= _later(
                connection, asked, page, [each.tried for each in tried], found, disorder
            )
        return [each.row for each in _in_order(found, page)][: page.end]
    return None


def _between(way: Way, span: _Span) -> Sequence[Select[tuple[int]]]:
    if span == _ALL:
        return way.stretches
    return [each.where(each.selected_columns[0].between(*span)) for each in way.stretches]


def _first(way: Way, span: _Span, size: int, *, is_descending: bool) -> Subquery:
    """Return a query of so many ids from one end."""

    def some_of(ids: Select[tuple[int]]) -> Subquery:
        column = ids.selected_columns[0]
        order = column.desc() if is_descending else column.asc()
        return ids.order_by(order).limit(size).subquery()

    parts = [some_of(each) for each in _between(way, span)]
    ids = union_all(*(select(each.c[0].label("inference")) for each in parts)).subquery()
    return parts[0] if len(parts) == 1 else some_of(select(ids))


def _later(
    connection: Connection,
    asked: Search,
    page: Page,
    tried: Sequence[int],
    found: set[_Dated],
    disorder: int,
) -> set[_Dated]:
    """Return those that pass and come before the page's end, but whose ids were not tried yet."""
    last = _in_order(found, page)[page.end - 1].created_at
    times = [each.created_at for each in found]
    if page.is_descending:
        start, end = last, min(times) + disorder
        beyond = _table.c.id < min(tried)
    else:
        start, end = max(times) - disorder, last
        beyond = _table.c.id > max(tried)
    if start > end:
        return set()
    query = select(_table.c.created_at, _table.c.inference_id, _table.c.id).where(
        asked.in_turn, _table.c.created_at.between(start, end), beyond
    )
    first = _sorted(query, page._replace(limit=page.end, offset=0))
    return {_Dated(*row) for row in connection.execute(first)}


def _in_order(found: set[_Dated], page: Page) -> list[_Dated]:
    sign = -1 if page.is_descending else 1
    return sorted(found, key=lambda each: (sign * each.created_at, each.inference_id))


def _disorder(connection: Connection, model_id: str) -> int:
    """Return by how much a later row of the model may be dated earlier than one before it."""
    query = select(_models.c.disorder).where(_models.c.model_id == model_id)
    return connection.execute(query).scalar_one_or_none() or 0


def _span(connection: Connection, asked: Search, disorder: int) -> _Span | None:
    """Return bounds of the ids of those that have in common what is asked; None if none have."""
    created_at = _table.c.created_at
    ends = []
    for order, extreme, before, after in (
        (created_at.asc(), func.min, 0, disorder),
        (created_at.desc(), func.max, disorder, 0),
    ):
        first = select(created_at).where(asked.within).order_by(order).limit(1)
        time = connection.execute(first).scalar_one_or_none()
        if time is None:
            return None
        # A row with an id beyond these would be dated too far beyond the first of all.
        some = created_at.between(time - before, time + after)
        query = select(extreme(_table.c.id)).where(asked.within, some)
        ends.append(connection.execute(query).scalar_one())
    return _Span(*ends)


def _narrowed(connection: Connection, way: Way, span: _Span) -> _Span | None:
    """Return a span without ids that a way does not list, if it is soon known; None if it is empty.

    Filters for what is found in different times leave little between, or nothing.
    """
    if not way.stretches:
        return None
    if not way.is_by_id and _count(connection, way.entries or way.stretches, MANY) > MANY:
        return span
    ends = [
        connection.execute(select(_first(way, span, 1, is_descending=each))).scalar_one_or_none()
        for each in (False, True)
    ]
    return None if ends[0] is None or ends[1] is None else _Span(ends[0], ends[1])
