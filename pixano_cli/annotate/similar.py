"""Finding images like one: by its recorded vector, or by one that is made for the purpose."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import select

from pixano_cli.annotate.embedding import checked_vector
from pixano_cli.annotate.selection import Filters, read_filters, read_models
from pixano_cli.annotate.task import ANSWER_TIMEOUT_S
from pixano_cli.errors import MediaReadError, StoreError, UsageError
from pixano_cli.inference.embedding import ImageEmbeddingInput
from pixano_cli.inference.errors import ModelNotFoundError
from pixano_cli.inference.registry import get_provider
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.browse import latest_vector
from pixano_cli.inference_store.connection import current_store
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.inference import filter_inferences
from pixano_cli.inference_store.models import (
    EmbeddingFilter,
    Inference,
    NewGetInferencesRequest,
    Pagination,
    PaginationEmbeddingSortField,
    TaskType,
)
from pixano_cli.media import flight, identity

DEFAULT_LIMIT = 10
LOCAL = "local"


def similar(
    image: str | Path,
    *,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    provider: str = LOCAL,
) -> list[Inference]:
    """Return the records of the connected store whose vectors are nearest to an image's.

    If the image's content has a recorded vector of the model, that is used. Else the model is
    asked for one, which is not recorded.

    Args:
        image: The image's file.
        filters: Which records; the model too, where several of the store's have vectors of images.
        limit: Most records.
        provider: Who is asked for a vector that is not recorded.

    Returns:
        The nearest first, each with its `embedding_distance`, which is 1 - cosine. A record of
        the image itself is among them, at 0.

    Raises:
        UsageError: If the image cannot be read, it is not clear which model is meant, or a filter
            cannot be read.
        ImageDecodeError: If it is no image that can be used.
        InferenceError: If a vector has to be made, and cannot be.
        StoreError: If the store cannot be read.
    """
    if limit < 0:
        raise UsageError(f"--limit {limit}: it cannot be negative")
    filters = filters or Filters()
    store = current_store()
    model = model_with_vectors(store, filters)
    asked = read_filters(filters, store)
    vector = _vector(store, model, Path(image), provider)
    request = NewGetInferencesRequest(
        filters=asked,
        embedding_filters=EmbeddingFilter(query_embedding=vector),
        pagination=Pagination(sort=PaginationEmbeddingSortField.EMBEDDING_DISTANCE, limit=limit),
    )
    try:
        return filter_inferences(model, request)
    except StoreError as error:
        size = _sizes(store)[model]
        if len(vector) == size:
            raise
        raise UsageError(
            f"model {model!r} of {provider} gives vectors of {len(vector)} numbers, and store "
            f"{store.name} has some of {size}: it is another model now"
        ) from error


def model_with_vectors(store: Store, filters: Filters) -> str:
    """Return the model that is meant: the one named, or else the only one with vectors of images.

    Raises:
        UsageError: If there is none, or several.
        StoreError: If the store cannot be read.
    """
    sizes = _sizes(store)
    named = read_models(store, filters.model_id)
    found = [model for model in named if sizes.get(model)]
    if len(found) == 1:
        return found[0]
    if found:
        few = ", ".join(found[:6]) + (", ..." if len(found) > 6 else "")
        raise UsageError(
            f"store {store.name} has vectors of several models: name one with --model-id ({few})"
        )
    if filters.model_id:
        raise UsageError(f"--model-id: {named[0]!r} has no vectors of images")
    raise UsageError(
        f"store {store.name} has no vectors of images yet: run `pixano-annotate embed` first"
    )


def _sizes(store: Store) -> dict[str, int]:
    """Return the size of the vectors of images by model, 0 for models without any."""
    models = schema.models
    query = select(models.c.model_id, models.c.task_type, models.c.embedding_size)
    with store.read() as connection:
        return {
            row.model_id: 0 if row.task_type == TaskType.TEXT_EMBEDDING else row.embedding_size
            for row in connection.execute(query)
        }


def _vector(store: Store, model: str, path: Path, provider: str) -> list[float]:
    try:
        data = identity.read_file(path)
    except MediaReadError as error:
        raise UsageError(str(error)) from error
    with store.read() as connection:
        recorded = latest_vector(connection, model, identity.sha256(data))
    return recorded if recorded is not None else _embedded(path, data, model, provider)


def _embedded(path: Path, data: bytes, model: str, name: str) -> list[float]:
    identity.probe(data)
    url = flight.url_of(path)

    async def ask() -> list[float]:
        provider = get_provider(name)
        try:
            with flight.hold(url, data):
                asked = ImageEmbeddingInput(image=url, model=model)
                result = await provider.image_embedding(asked, timeout=ANSWER_TIMEOUT_S)
        finally:
            await provider.aclose()
        return checked_vector(result.data)

    try:
        # In a thread, for there may be an event loop in this one, as in a notebook.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, ask()).result()
    except ModelNotFoundError as error:
        raise UsageError(
            f"{path} has no recorded vector of {model!r}, and provider {name} has no such model "
            "to make one: name the provider with --provider"
        ) from error
