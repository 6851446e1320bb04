"""Images like another one, by the embeddings that a model gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, and_, select

from pixano_cli.inference_store import schema
from pixano_cli.inference_store.by_file import FILE_NAME
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.filters import selected, unindexed
from pixano_cli.inference_store.metadata import get_data_hash
from pixano_cli.inference_store.models import (
    BaseInferenceFilter,
    EmbeddingFilter,
    MetadataType,
    Pagination,
    PaginationEmbeddingSortField,
)
from pixano_cli.inference_store.records import ROWS_A_STATEMENT, from_bytes
from pixano_cli.inference_store.register import registered
from pixano_cli.inference_store.similarity import find_by_embedding

_table = schema.inferences
_embeddings = schema.embeddings
_requests = schema.requests
_joined = _embeddings.join(_table, _table.c.id == _embeddings.c.inference)


@dataclass(frozen=True, slots=True)
class Similar:
    """An image that was found.

    Attributes:
        file_name: Its name when it was embedded; None if that was not recorded.
        inference_id: Id of the inference that is its embedding.
        distance: How far it is from the image that was asked for.
    """

    file_name: str | None
    inference_id: str
    distance: float


def similar(
    store: Store,
    model_id: str,
    data: bytes,
    embed: Callable[[bytes], Sequence[float]],
    *,
    limit: int = 10,
    metric: str | None = None,
    filters: BaseInferenceFilter | None = None,
    request_key: str | None = None,
) -> list[Similar]:
    """Return the images that a model finds most like another one, the nearest first.

    That image itself is among them, at distance 0, if the store has its embedding.

    Args:
        store: The store.
        model_id: A model that is registered with embeddings.
        data: The image file's content. Its embedding is looked up by its sha256.
        embed: What embeds it if it is not there.
        limit: How many to return.
        metric: An EmbeddingDistanceMetric's value; None means cosine.
        filters: What else has to hold for them.
        request_key: What the model was asked, where it was asked in several ways; else the latest
            embedding of the image is taken.

    Raises:
        StoreError: If the model is not registered, or its embeddings are of another size than
            what `embed` returns, or the database fails.
    """
    with store.read() as connection:
        registered(connection, model_id)
        vector = _recorded(connection, model_id, get_data_hash(data), request_key)
    # Not while a transaction is open: this takes its time.
    vector = embed(data) if vector is None else vector
    asked = EmbeddingFilter(query_embedding=list(vector), distance_metric=metric)
    page = Pagination(limit=limit, sort=PaginationEmbeddingSortField.EMBEDDING_DISTANCE)
    filters = filters or BaseInferenceFilter()
    with store.read() as connection:
        found = find_by_embedding(connection, store.folder, model_id, filters, asked, page)
        named = _named(connection, list(found))
    return [Similar(*named[row], distance) for row, distance in found.items()]


def latest_request(connection: Connection, model_id: str) -> dict[str, Any] | None:
    """Return what was asked for the last embedding of a model that is recorded with a request.

    See `annotate.identity.Request`. None if there is none, as of embeddings made by hand.
    """
    query = (
        select(_requests.c.request)
        .select_from(_joined.join(_requests, _table.c.request_key == _requests.c.request_key))
        .where(unindexed(_table.c.model_id) == model_id, _table.c.deleted_at.is_(None))
        .order_by(_embeddings.c.position.desc())
        .limit(1)
    )
    request = connection.execute(query).scalar_one_or_none()
    return None if request is None else dict(orjson.loads(request))


def _recorded(
    connection: Connection, model_id: str, data_hash: str, request_key: str | None
) -> Sequence[float] | None:
    query = select(_embeddings.c.vector).select_from(_joined)
    wanted = selected(model_id, BaseInferenceFilter(data_hash_filter=data_hash))
    query = query.where(wanted).order_by(_embeddings.c.position.desc()).limit(1)
    if request_key is not None:
        query = query.where(_table.c.request_key == request_key)
    vector = connection.execute(query).scalar_one_or_none()
    return None if vector is None else from_bytes(vector)


def _named(connection: Connection, rows: list[int]) -> dict[int, tuple[str | None, str]]:
    """Return the file names and ids of inferences."""
    named: dict[int, tuple[str | None, str]] = {}
    metadata = schema.metadata
    name = and_(
        metadata.c.inference == _table.c.id,
        metadata.c.key == FILE_NAME,
        metadata.c.type == MetadataType.STRING.value,
    )
    query = select(_table.c.id, metadata.c.value, _table.c.inference_id)
    query = query.select_from(_table.outerjoin(metadata, name))
    for start in range(0, len(rows), ROWS_A_STATEMENT):
        here = query.where(_table.c.id.in_(rows[start : start + ROWS_A_STATEMENT]))
        named |= {row.id: (row.value, row.inference_id) for row in connection.execute(here)}
    return named
