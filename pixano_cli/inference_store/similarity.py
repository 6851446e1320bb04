"""Search by embedding: the nearest or farthest of what passes a filter, exactly.

Where few pass, their vectors are read from the database and measured. Where many do, limits of
the distances come from the file of vectors (see `vector_file`), and only those are read and
measured that the limits leave in question: in the order of their limits, until the page is full
of distances that no other limit is under. If that file cannot be kept, all that pass are read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sqlalchemy import ColumnElement, Connection, func, select

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.distances import Doubles, Query
from pixano_cli.inference_store.filters import Part, Search, search
from pixano_cli.inference_store.models import (
    BaseInferenceFilter,
    EmbeddingFilter,
    Pagination,
    PaginationEmbeddingSortField,
)
from pixano_cli.inference_store.pages import count_passing, find_rows, way_to_few
from pixano_cli.inference_store.pagination import Page, read_page
from pixano_cli.inference_store.register import registered_size
from pixano_cli.inference_store.vector_file import DamagedError, Integers
from pixano_cli.inference_store.vectors import discard_vectors, doubles, open_vectors, streamed

DIRECT_BYTES = 2**26
"""So much of vectors is read from the database in less than the time that a search may take."""

DEEPEST_PAGE = 16_000
"""Where a page ends later, counting from the nearest, all that pass are read."""

SPARE = 100
"""How many more candidates than the page needs are tried first, as some may not pass."""

MOST_TRIED = 20_000
"""How many candidates are tried before it is asked which pass at all."""

_IDS_A_STATEMENT = 2_000
_SAMPLE = 100

logger = logging.getLogger(__name__)

_Condition = ColumnElement[bool]
_table = schema.inferences
_embeddings = schema.embeddings
_joined = _embeddings.join(_table, _table.c.id == _embeddings.c.inference)


@dataclass(frozen=True, slots=True)
class _Measured:
    """Inferences: their rows [n] and distances [n]."""

    rows: Integers
    distances: Doubles


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Entries of the file: their positions [n], and limits [n] that their keys are not under.

    A key is a distance, or where the farthest are wanted a distance times -1.
    """

    limits: Doubles
    positions: Integers


def find_by_embedding(
    connection: Connection,
    folder: Path,
    model_id: str,
    filters: BaseInferenceFilter,
    asked: EmbeddingFilter,
    pagination: Pagination | None,
) -> dict[int, float]:
    """Return the rows of a page of inferences that have an embedding, with its distance, in order.

    Args:
        connection: A connection to the database in a transaction.
        folder: The store's folder.
        model_id: The model.
        filters: What else has to hold.
        asked: What to measure from, and how.
        pagination: The page; it may be sorted by anything.

    Raises:
        StoreError: If a filter or the pagination is not valid, or the embedding is not of the
            model's size.
    """
    page = read_page(pagination)
    query = _query(connection, model_id, asked)
    wanted = search(model_id, filters)
    if not page.limit:
        return {}
    if page.field == PaginationEmbeddingSortField.EMBEDDING_DISTANCE:
        measured = _nearest(connection, folder, wanted, query, page)
        rows = _cut(connection, measured, page)
    else:
        rows = find_rows(connection, _with_embedding(wanted), page)
        parts = _in_parts(rows)
        measured = _joined_up(_measure(connection, _table.c.id.in_(each), query) for each in parts)
    distances = dict(zip(measured.rows.tolist(), measured.distances.tolist(), strict=True))
    return {row: distances[row] for row in rows}


def count_by_embedding(
    connection: Connection, model_id: str, filters: BaseInferenceFilter, asked: EmbeddingFilter
) -> int:
    """Return how many inferences with an embedding pass the filters.

    Raises:
        StoreError: As `find_by_embedding`.
    """
    _query(connection, model_id, asked)
    return count_passing(connection, _with_embedding(search(model_id, filters)))


def _query(connection: Connection, model_id: str, asked: EmbeddingFilter) -> Query:
    query = Query(asked.query_embedding, asked.distance_metric)
    size = registered_size(connection, model_id)
    if size is not None and size != query.vector.size:
        registered = f"for {size}" if size else "without embeddings"
        raise StoreError(
            f"query_embedding has {query.vector.size} numbers, and model {model_id!r} is "
            f"registered {registered}"
        )
    return query


def _with_embedding(asked: Search) -> Search:
    one = select(_embeddings.c.position).where(_embeddings.c.inference == _table.c.id)
    return replace(asked, parts=[*asked.parts, Part(one.exists())])


def _nearest(
    connection: Connection, folder: Path, asked: Search, query: Query, page: Page
) -> _Measured:
    """Return what pass, at least up to the page's end."""
    way = way_to_few(connection, asked)
    if way is not None:
        return _measure(connection, asked.along(way), query)
    few = DIRECT_BYTES // (8 * query.vector.size)
    if query.has_bounds and page.end <= DEEPEST_PAGE:
        try:
            if _has_more(connection, asked.within, few):
                measured = _by_file(connection, folder, asked, query, page)
                if measured is not None:
                    return measured
            elif len(asked.common) == 1:
                # No filter but that they are visible: so few are all there are.
                discard_vectors(folder, asked.model_id)
        except OSError as error:
            logger.warning("searching without a file of vectors, which takes longer: %s", error)
    return _measure(connection, asked.in_turn, query)


def _has_more(connection: Connection, condition: _Condition, than: int) -> bool:
    """Whether a condition holds for more inferences with an embedding."""
    entries = select(_embeddings.c.position).select_from(_joined).where(condition)
    query = select(func.count()).select_from(entries.limit(than + 1).subquery())
    return connection.execute(query).scalar_one() > than


def _by_file(
    connection: Connection, folder: Path, asked: Search, query: Query, page: Page
) -> _Measured | None:
    """Return what pass, at least up to the page's end; None if that takes too many tries."""
    for _ in range(2):
        with open_vectors(connection, folder, asked.model_id, query.vector.size) as vectors:
            try:
                scanned = vectors.scan(query, farthest=page.is_descending)
            except DamagedError:
                logger.warning("%s is damaged, and is made anew", vectors.path)
                vectors.discard()
                continue
            candidates = _Candidates(*scanned)
            measured = _try(connection, asked, query, page, candidates)
            if measured is None:
                passing = _passing(connection, asked, candidates)
                measured = _try(connection, asked, query, page, passing)
            if _is_mostly_dead(connection, asked.model_id, candidates.positions):
                vectors.discard()
            return measured
    return None


def _try(
    connection: Connection, asked: Search, query: Query, page: Page, candidates: _Candidates
) -> _Measured | None:
    """Measure candidates in the order of their limits, until none left can be on the page."""
    limits = candidates.limits
    measured = _Measured(np.empty(0, np.int64), np.empty(0))
    most = max(MOST_TRIED, 4 * page.end)
    tried, done = 0, np.zeros(len(limits), np.bool_)
    wanted = page.end + SPARE
    edge = -np.inf
    while tried < len(limits):
        if wanted < len(limits):
            edge = max(edge, float(np.partition(limits, wanted)[wanted]))
        else:
            edge = np.inf
        these = np.flatnonzero((limits <= edge) & ~done)
        done[these] = True
        tried += len(these)
        if tried > most:
            return None
        parts = _in_parts(candidates.positions[these].tolist())
        conditions = (_embeddings.c.position.in_(each) & asked.on_sight for each in parts)
        found = (_measure(connection, each, query) for each in conditions)
        measured = _joined_up([measured, *found])
        keys = _keys(measured, page)
        if page.end <= len(keys):
            last = float(np.partition(keys, page.end - 1)[page.end - 1])
            if last <= edge:
                return measured
            # All that can be nearer than this one, or as near, are tried now, and no more.
            edge, wanted = last, tried
        else:
            wanted *= 8
    return measured


def _passing(connection: Connection, asked: Search, candidates: _Candidates) -> _Candidates:
    """Return those candidates that pass."""
    query = select(_embeddings.c.position).select_from(_joined).where(asked.in_turn)
    rows = connection.execute(query, execution_options={"yield_per": _IDS_A_STATEMENT}).scalars()
    passing = np.fromiter(rows, np.int64)
    chosen = np.isin(candidates.positions, passing)
    return _Candidates(candidates.limits[chosen], candidates.positions[chosen])


def _is_mostly_dead(connection: Connection, model_id: str, positions: Integers) -> bool:
    """Whether more than half of a sample of positions are of inferences that are there no more."""
    sample = positions[:: -(-len(positions) // _SAMPLE)].tolist() if len(positions) else []
    query = (
        select(func.count())
        .select_from(_joined)
        .where(_embeddings.c.position.in_(sample), search(model_id, BaseInferenceFilter()).on_sight)
    )
    return 2 * connection.execute(query).scalar_one() < len(sample)


def _measure(connection: Connection, condition: _Condition, query: Query) -> _Measured:
    """Return inferences with an embedding for which a condition holds, each once."""
    rows, distances = [], []
    wanted = select(_table.c.id, _embeddings.c.vector).select_from(_joined).where(condition)
    for some in streamed(connection, wanted, query.vector.size):
        rows.append(np.array([each.id for each in some], np.int64))
        vectors = doubles([each.vector for each in some], query.vector.size)
        distances.append(query.distances(vectors))
    return _Measured(np.concatenate([*rows, []]).astype(np.int64), np.concatenate([*distances, []]))


def _joined_up(several: Iterable[_Measured]) -> _Measured:
    parts = [*several, _Measured(np.empty(0, np.int64), np.empty(0))]
    return _Measured(
        np.concatenate([each.rows for each in parts]),
        np.concatenate([each.distances for each in parts]),
    )


def _keys(measured: _Measured, page: Page) -> Doubles:
    return -measured.distances if page.is_descending else measured.distances


def _cut(connection: Connection, measured: _Measured, page: Page) -> list[int]:
    """Return the rows of the page: by distance, those at the same one by id."""
    keys = _keys(measured, page)
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    on_page = ranked[page.offset : page.end]
    if not on_page.size:
        return []
    # Some at the distance of the first or the last one may belong on the pages beside it.
    start = int(np.searchsorted(ranked, on_page[0], "left"))
    stop = int(np.searchsorted(ranked, on_page[-1], "right"))
    rows = measured.rows[order[start:stop]].tolist()
    ids: dict[int, str] = {}
    for some in _in_parts(rows):
        query = select(_table.c.id, _table.c.inference_id).where(_table.c.id.in_(some))
        ids |= {row.id: row.inference_id for row in connection.execute(query)}
    named = zip(ranked[start:stop].tolist(), (ids[row] for row in rows), rows, strict=True)
    return [row for *_, row in sorted(named)][page.offset - start : page.end - start]


def _in_parts(ids: list[int]) -> Iterable[list[int]]:
    return (ids[at : at + _IDS_A_STATEMENT] for at in range(0, len(ids), _IDS_A_STATEMENT))
