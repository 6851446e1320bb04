"""Looking through the records of several models, and finding one by its id or by its input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Any

import orjson
from sqlalchemy import Connection, select

from pixano_cli.inference_store import schema
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.filters import unindexed
from pixano_cli.inference_store.inference import count_inferences, filter_inferences
from pixano_cli.inference_store.models import (
    Inference,
    NewGetInferencesRequest,
    Pagination,
    PaginationSortDirection,
    PaginationSortField,
)
from pixano_cli.inference_store.records import from_bytes

_MADE = PaginationSortField.CREATED_AT.value
_PAGE = 500
# More than any store holds, and no more than databases and Python count.
_MOST = 2**62 // 2


def browse(
    model_ids: Sequence[str], request: NewGetInferencesRequest, *, limit: int, offset: int = 0
) -> Iterator[Inference]:
    """Yield records of the models in the request's order.

    Sorted by the time they were made, the records of all models are mixed; sorted by anything else,
    which those of another model cannot be compared by, one model comes after the other.

    Args:
        model_ids: Registered models.
        request: The filters and the sorting; its limit and offset are left out of account.
        limit: Most records in all.
        offset: How many records in all to leave out first.

    Raises:
        StoreError: If a filter or the sorting is not valid.
    """
    limit, offset = min(limit, _MOST), min(offset, _MOST)
    sorting = request.pagination or Pagination()
    if sorting.sort not in (None, _MADE):
        found = _one_after_the_other(model_ids, request, sorting, limit, offset)
    else:
        each = [_all_of(model_id, request, sorting, limit + offset) for model_id in model_ids]
        # What is merged is sorted by time; of the same time, those of one model stay in order.
        is_descending = sorting.direction == PaginationSortDirection.DESCENDING.value
        merged = merge(*each, key=attrgetter("created_at"), reverse=is_descending)
        found = islice(merged, offset, offset + limit)
    yield from found


def _one_after_the_other(
    model_ids: Sequence[str],
    request: NewGetInferencesRequest,
    sorting: Pagination,
    limit: int,
    offset: int,
) -> Iterator[Inference]:
    for model_id in model_ids:
        if offset and (count := count_inferences(model_id, request)) <= offset:
            offset -= count
            continue
        found = filter_inferences(model_id, _page(request, sorting, limit, offset))
        yield from found
        offset = 0
        limit -= len(found)
        if not limit:
            return


def _all_of(
    model_id: str, request: NewGetInferencesRequest, sorting: Pagination, most: int
) -> Iterator[Inference]:
    """Yield a model's records, of which no more than a page is in memory."""
    for offset in range(0, most, _PAGE):
        page = min(_PAGE, most - offset)
        found = filter_inferences(model_id, _page(request, sorting, page, offset))
        yield from found
        if len(found) < page:
            return


def _page(
    request: NewGetInferencesRequest, sorting: Pagination, limit: int, offset: int
) -> NewGetInferencesRequest:
    page = sorting.model_copy(update={"limit": limit, "offset": offset})
    return request.model_copy(update={"pagination": page})


def find(store: Store, start: str, model_ids: Sequence[str], limit: int) -> list[tuple[str, str]]:
    """Return the model and id of the records whose id begins so, at most `limit` of them.

    One whose id is just that comes first.
    """
    table = schema.inferences
    query = (
        select(table.c.model_id, table.c.inference_id)
        .where(
            table.c.model_id.in_(model_ids),
            table.c.inference_id >= start,
            table.c.inference_id < start + "\U0010ffff",
            table.c.deleted_at.is_(None),
        )
        .order_by(table.c.inference_id, table.c.model_id)
        .limit(limit)
    )
    with store.read() as connection:
        return [(row.model_id, row.inference_id) for row in connection.execute(query)]


def latest_vector(connection: Connection, model_id: str, data_hash: str) -> list[float] | None:
    """Return the vector last recorded of a model for an input; None if there is none."""
    table, embeddings = schema.inferences, schema.embeddings
    query = (
        select(embeddings.c.vector)
        .join(table, table.c.id == embeddings.c.inference)
        .where(
            table.c.data_hash == data_hash,
            table.c.model_id == model_id,
            table.c.deleted_at.is_(None),
        )
        .order_by(embeddings.c.position.desc())
        .limit(1)
    )
    found = connection.execute(query).scalar_one_or_none()
    return None if found is None else [*from_bytes(found)]


def latest_request(connection: Connection, model_id: str) -> dict[str, Any] | None:
    """Return what was asked for the last embedding of a model that is recorded with a request.

    See `annotate.identity.Request`. None if there is none, as of embeddings made by hand.
    """
    table, embeddings, requests = schema.inferences, schema.embeddings, schema.requests
    joined = embeddings.join(table, table.c.id == embeddings.c.inference)
    query = (
        select(requests.c.request)
        .select_from(joined.join(requests, table.c.request_key == requests.c.request_key))
        .where(unindexed(table.c.model_id) == model_id, table.c.deleted_at.is_(None))
        .order_by(embeddings.c.position.desc())
        .limit(1)
    )
    request = connection.execute(query).scalar_one_or_none()
    return None if request is None else dict(orjson.loads(request))
