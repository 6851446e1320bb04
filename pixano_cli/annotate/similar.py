"""Finding images like one: by its recorded vector, or by one that is made for the purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from pixano_cli.annotate.embedding import checked_vector
from pixano_cli.annotate.event_loop import run_to_end
from pixano_cli.annotate.selection import Filters, read_filters, read_models
from pixano_cli.annotate.settings import ANSWER_TIMEOUT_S, LOCAL
from pixano_cli.errors import MediaReadError, StoreError, UsageError
from pixano_cli.inference.embedding import ImageEmbeddingInput
from pixano_cli.inference.errors import ModelNotFoundError
from pixano_cli.inference.registry import get_provider
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.browse import latest_request, latest_vector
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


def similar(
    image: str | Path,
    *,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    provider: str | None = None,
    url: str | None = None,
    api_key_file: str | Path | None = None,
) -> list[Inference]:
    """Return the records of the connected store whose vectors are nearest to an image's.

    If the image's content has a recorded vector of the model, that is used. Else the model that
    made the others is asked for one, which is not recorded.

    Args:
        image: The image's file.
        filters: Which records; the model too, where several of the store's have vectors of images.
        limit: Most records.
        provider: Who is asked for a vector that is not recorded; None means whoever made the last
            that is.
        url: Address of the server, for a provider that asks one. Addresses are not recorded.
        api_key_file: File with the server's API key.

    Returns:
        The nearest first, each with its `embedding_distance`, which is 1 - cosine. A record of
        the image itself is among them, at 0.

    Raises:
        UsageError: If the image cannot be read, it is not clear which model is meant, a filter
            cannot be read, or the vector would be another model's than those recorded.
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
    server = {"url": url, "api_key_file": api_key_file}
    options = {name: value for name, value in server.items() if value is not None}
    vector = _vector(store, model, Path(image), provider, options)
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
            f"model {model!r} gives vectors of {len(vector)} numbers, and store "
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


def _vector(
    store: Store, model: str, path: Path, provider: str | None, options: Mapping[str, Any]
) -> list[float]:
    try:
        data = identity.read_file(path)
    except MediaReadError as error:
        raise UsageError(str(error)) from error
    with store.read() as connection:
        recorded = latest_vector(connection, model, identity.sha256(data))
        if recorded is not None:
            return recorded
        request = latest_request(connection, model) or {}
    made_by = request.get("provider")
    if provider is None and made_by not in (None, LOCAL) and "url" not in options:
        raise UsageError(
            f"{path} has no recorded vector of {model!r}, and those of others are by provider "
            f"{made_by}: name its server with --provider {made_by} --url URL to have one made"
        )
    if provider is not None and made_by not in (None, provider):
        raise UsageError(
            f"--provider {provider}: the vectors of {model!r} in store {store.name} are by "
            f"{made_by}, and only such are comparable: leave it out, or name {made_by}"
        )
    asked = _Asked(provider or made_by or LOCAL, options, model, request.get("model_digest"))
    return _embedded(path, data, asked, store)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who is asked for a vector: a provider with its options, and a model with its digest."""

    provider: str
    options: Mapping[str, Any]
    model: str
    digest: str | None


def _embedded(path: Path, data: bytes, asked: _Asked, store: Store) -> list[float]:
    identity.probe(data)
    url = flight.url_of(path)

    async def ask() -> list[float]:
        provider = get_provider(asked.provider, **asked.options)
        try:
            described = await provider.describe_model(asked.model)
            if asked.digest is not None and described.digest != asked.digest:
                raise UsageError(
                    f"model {asked.model!r} of {asked.provider} is another one than made the "
                    f"vectors in store {store.name}: run `pixano-annotate embed` on the images "
                    "again, with another --store"
                )
            with flight.hold(url, data):
                wanted = ImageEmbeddingInput(image=url, model=asked.model)
                result = await provider.image_embedding(wanted, timeout=ANSWER_TIMEOUT_S)
        finally:
            await provider.aclose()
        return checked_vector(result.data)

    try:
        return run_to_end(ask())
    except ModelNotFoundError as error:
        raise UsageError(
            f"{path} has no recorded vector of {asked.model!r}, and provider {asked.provider} has "
            "no such model to make one: name the provider with --provider"
        ) from error
