"""Metadata: keys attached to an inference, each with a type and a value as text."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, select, update

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema, values
from pixano_cli.inference_store.arguments import checked
from pixano_cli.inference_store.connection import reading, writing
from pixano_cli.inference_store.database import now
from pixano_cli.inference_store.models import (
    Metadata,
    MetadataKeyTypeCounts,
    MetadataStatistics,
    MetadataType,
    NewExtendedMetadataRequest,
    NewGetMetadataStatisticsRequest,
)
from pixano_cli.inference_store.records import insert_metadata
from pixano_cli.inference_store.statistics import key_type_counts, measure

TOP_LEVEL = ("data_source", "latitude", "longitude")
"""Keys that an inference has a place of its own for."""

_IDS_A_STATEMENT = 500
_inferences = schema.inferences
_table = schema.metadata


@checked
def get_metadata(model_id: str, inference_id: str) -> list[Metadata]:
    """Return all metadata of an inference, sorted by key; none if there is no such inference."""
    with reading() as connection:
        row = connection.execute(_row_id(model_id, inference_id)).scalar_one_or_none()
        return [] if row is None else metadata_of(connection, [row])[row]


@checked
def create_metadata(
    model_id: str, inference_id: str, request_body: NewExtendedMetadataRequest
) -> Metadata | None:
    """Attach a key to an inference; a value that it had before is replaced.

    Raises:
        StoreError: If there is no such inference, or databases cannot hold the key or the value.
    """
    check_metadata(request_body.key, request_body.value)
    created = Metadata(
        key=request_body.key,
        type=MetadataType(request_body.type).value,
        value=request_body.value,
    )
    with writing() as connection:
        row = connection.execute(_row_id(model_id, inference_id)).scalar_one_or_none()
        if row is None:
            raise StoreError(f"there is no inference {inference_id!r} of model {model_id!r}")
        connection.execute(delete(_table).where(*_of(row, created.key)))
        insert_metadata(connection, [(row, created.key, created.type, created.value)])
        _touch(connection, row)
    return created


@checked
def delete_metadata(model_id: str, inference_id: str, key: str) -> str | None:
    """Remove a key from an inference.

    Returns:
        The key; None if the inference is not there or does not have it.
    """
    values.check_text("metadata key", key)
    with writing() as connection:
        row = connection.execute(_row_id(model_id, inference_id)).scalar_one_or_none()
        if row is None:
            return None
        statement = delete(_table).where(*_of(row, key)).returning(_table.c.key)
        deleted = connection.execute(statement).scalar_one_or_none()
        if deleted is not None:
            _touch(connection, row)
        return deleted


@checked
def get_metadata_key_type_counts(model_id: str) -> MetadataKeyTypeCounts | None:
    """Return how many inferences have each key, by its types; None if there is no such model."""
    with reading() as connection:
        return key_type_counts(connection, model_id)


@checked
def get_metadata_statistics(
    model_id: str, request_body: NewGetMetadataStatisticsRequest
) -> MetadataStatistics | None:
    """Return how the values of a key are distributed over the inferences that pass the filters.

    Numbers are counted in bins from the minimum to the maximum, which are the least and the
    greatest one observed if not given; observations beyond them are in no bin, but in the count,
    min and max. Bins of a width that does not divide this range leave a narrower last one, and
    of a single number there is one bin. Strings are counted each, the most frequent first.

    Returns:
        The statistics; None if there is no such model.

    Raises:
        StoreError: If the request contradicts itself, asks for too much, or a filter is not valid.
    """
    with reading() as connection:
        return measure(connection, model_id, request_body)


@checked
def get_data_hash(data: bytes) -> str:
    """Return the sha256 of the input as hex digest."""
    return hashlib.sha256(data).hexdigest()


@checked
def map_to_inference_store_metadata(
    data: Mapping[str, str | float | int | Mapping[str, Any]],
) -> dict[str, Any]:
    """Map values to metadata: texts only, with their types.

    Args:
        data: Values by key.

    Returns:
        `{"data_source": ..., "latitude": ..., "longitude": ..., "extended_metadata": [{"key",
        "type", "value"}, ...]}`, the first three where they are given. The lists of the models
        take it as it is.

    Raises:
        StoreError: If a value is of another type, or NaN or infinite.
    """
    typed = {key: _type_and_text(key, value) for key, value in data.items()}
    top = {key: typed[key][1] for key in TOP_LEVEL if key in typed}
    extended = [
        {"key": key, "type": kind, "value": text}
        for key, (kind, text) in typed.items()
        if key not in TOP_LEVEL
    ]
    return {**top, "extended_metadata": extended}


def metadata_of(connection: Connection, rows: Sequence[int]) -> dict[int, list[Metadata]]:
    """Return the metadata of inferences by the ids of their rows, each sorted by key."""
    found: dict[int, list[Metadata]] = {row: [] for row in rows}
    query = select(_table).order_by(_table.c.inference, _table.c.key)
    for start in range(0, len(rows), _IDS_A_STATEMENT):
        some = _table.c.inference.in_(rows[start : start + _IDS_A_STATEMENT])
        for each in connection.execute(query.where(some)):
            metadata = Metadata(key=each.key, type=each.type, value=each.value)
            found[each.inference].append(metadata)
    return found


def check_metadata(key: str, value: str) -> None:
    """Refuse a key or a value that not every database can hold.

    Raises:
        StoreError: If one holds a NUL or half a surrogate pair, or the key is too long.
    """
    values.check_name("metadata key", key)
    values.check_text(f"metadata {key[:50]!r}: its value", value)


def _row_id(model_id: str, inference_id: str) -> Any:
    values.check_ids(model_id, inference_id)
    return select(_inferences.c.id).where(
        _inferences.c.model_id == model_id,
        _inferences.c.inference_id == inference_id,
        _inferences.c.deleted_at.is_(None),
    )


def _of(row: int, key: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return _table.c.inference == row, _table.c.key == key


def _touch(connection: Connection, row: int) -> None:
    connection.execute(update(_inferences).where(_inferences.c.id == row).values(updated_at=now()))


def _type_and_text(key: str, value: object) -> tuple[str, str]:
    if not isinstance(key, str):
        raise StoreError(f"metadata key {key!r} is no text")
    if isinstance(value, str):
        return MetadataType.STRING.value, str(value)
    if isinstance(value, bool) or not isinstance(value, (int, float, Mapping)):
        raise StoreError(
            f"metadata {key!r} is a {type(value).__name__}: only str, int, float and mappings "
            "can be stored"
        )
    if isinstance(value, int):
        return MetadataType.INT.value, str(int(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise StoreError(f"metadata {key!r} is {value}, which is no number to compare with")
        return MetadataType.FLOAT.value, repr(float(value))
    try:
        text = json.dumps(dict(value), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"metadata {key!r} cannot be written as JSON: {error}") from error
    return MetadataType.JSON.value, text
