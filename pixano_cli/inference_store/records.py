"""Putting inferences into the tables: the one place that writes them, one or many at once."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import Connection, Dialect, Table, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects import sqlite

from pixano_cli.inference_store import schema, values
from pixano_cli.inference_store.database import now

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

# SQLite takes 32,766 bound values in a statement; an inference has 17.
ROWS_A_STATEMENT = 500

_inferences, _models = schema.inferences, schema.models

# Made once, for they take longer to make than to execute on a few rows.
_REMOVE_HIDDEN = delete(_inferences).where(
    _inferences.c.model_id == bindparam("model"),
    _inferences.c.inference_id.in_(bindparam("ids", expanding=True)),
    _inferences.c.deleted_at.is_not(None),
)
_MODELS = select(
    _models.c.id,
    _models.c.model_id,
    _models.c.disorder,
    select(func.max(_inferences.c.created_at))
    .where(_inferences.c.model_id == _models.c.model_id, _inferences.c.deleted_at.is_(None))
    .scalar_subquery()
    .label("latest"),
).where(_models.c.model_id.in_(bindparam("models", expanding=True)))
_MODELS_OF_ROWS = (
    select(_inferences.c.id, _models.c.id.label("model"))
    .join(_models, _models.c.model_id == _inferences.c.model_id)
    .where(_inferences.c.id.in_(bindparam("rows", expanding=True)))
)


@dataclass(frozen=True, slots=True)
class Record:
    """An inference as it goes into the tables.

    Attributes:
        model_id: A registered model.
        inference_id: Unique for the model.
        task_type: A TaskType's value.
        inference_action: An InferenceAction's value.
        data_hash: sha256 of the input, as hex digest.
        data_size: Size of the input in bytes.
        elements: The deconstructed list, each with a `label`; None where there is none.
        output: An answer that is no such list, as a list of objects; None where there is one, or
            an embedding.
        embedding: The answer of an embedding model.
        metadata: (type, value) by key; values as text.
        request_key: What was asked, apart from the input and its prompts.
        frame: Of a video's frame its index in the source, its time in seconds, and its own file's
            name if it has one.
    """

    model_id: str
    inference_id: str
    task_type: str
    inference_action: str
    data_hash: str
    data_size: int
    elements: Sequence[Mapping[str, Any]] | None = None
    output: Sequence[Mapping[str, Any]] | None = None
    embedding: Sequence[float] | None = None
    data_source: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    data_storage_key: str | None = None
    is_protected: bool = False
    metadata: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    request_key: str | None = None
    frame: tuple[int, float, str | None] | None = None

    @property
    def version(self) -> str:
        """Return "v2" for a deconstructed answer, else "v1"."""
        return "v1" if self.elements is None else "v2"

    @property
    def data(self) -> str | None:
        """The answer as JSON text; None where it is an embedding."""
        answer = self.output if self.elements is None else self.elements
        return None if answer is None else orjson.dumps(answer).decode()


def insert_records(connection: Connection, records: Sequence[Record]) -> set[tuple[str, str]]:
    """Insert the records that are not there yet; those that are stay as they are.

    One that was deleted softly is gone for all who ask, and gives way.

    Args:
        connection: A connection in a writing transaction.
        records: Any number; their models are registered.

    Returns:
        (model_id, inference_id) of the records that were inserted.
    """
    unique = {(record.model_id, record.inference_id): record for record in reversed(records)}
    new = list(reversed(unique.values()))
    created_at = now()
    models = _date_in_models(connection, {record.model_id for record in new}, created_at)
    inserted: dict[tuple[str, str], int] = {}
    for start in range(0, len(new), ROWS_A_STATEMENT):
        some = new[start : start + ROWS_A_STATEMENT]
        inserted |= _insert_inferences(connection, some, created_at)
    elements = []
    metadata = []
    embeddings = []
    frames = []
    model_of_row = {}
    for key, row in inserted.items():
        record = unique[key]
        model = model_of_row[row] = models[record.model_id]
        elements += [
            (row, position, model, element["label"], element.get("score"))
            for position, element in enumerate(record.elements or ())
        ]
        metadata += [(row, name, *typed) for name, typed in record.metadata.items()]
        if record.embedding is not None:
            embeddings.append({"inference": row, "vector": to_bytes(record.embedding)})
        if record.frame is not None:
            frames.append((row, record.data_hash, record.request_key, *record.frame))
    insert_rows(connection, schema.elements, elements)
    _insert_metadata(connection, metadata, model_of_row)
    if embeddings:
        connection.execute(insert(schema.embeddings), embeddings)
    insert_rows(connection, schema.frames, frames)
    return set(inserted)


def insert_metadata(connection: Connection, rows: Sequence[tuple[int, str, str, str]]) -> None:
    """Insert metadata, given as row of the inference, key, type and value, none of them there."""
    inferences = list({row for row, *_ in rows})
    models: dict[int, int] = {}
    for start in range(0, len(inferences), ROWS_A_STATEMENT):
        some = inferences[start : start + ROWS_A_STATEMENT]
        found = connection.execute(_MODELS_OF_ROWS, {"rows": some})
        models |= {each.id: each.model for each in found}
    _insert_metadata(connection, rows, models)


def _insert_metadata(
    connection: Connection, rows: Sequence[tuple[int, str, str, str]], models: Mapping[int, int]
) -> None:
    insert_rows(
        connection,
        schema.metadata,
        [
            (row, key, models[row], kind, value, *values.comparable(kind, value))
            for row, key, kind, value in rows
        ],
    )
    leaves = [
        (row, key, leaf)
        for row, key, kind, value in rows
        if kind == "json"
        for leaf in values.leaves(key, value)
    ]
    insert_rows(
        connection,
        schema.metadata_leaves,
        [
            (row, key, name, models[row], kind, value, *values.comparable(kind, value))
            for row, key, (name, kind, value) in leaves
        ],
    )


def _date_in_models(
    connection: Connection, model_ids: Collection[str], created_at: int
) -> dict[str, int]:
    """Return the ids that models have in the tables; keep by how much this time goes back."""
    found = connection.execute(_MODELS, {"models": list(model_ids)}).all()
    for model in found:
        back = 0 if model.latest is None else model.latest - created_at
        if back > model.disorder:
            connection.execute(
                update(_models).where(_models.c.id == model.id).values(disorder=back)
            )
    return {model.model_id: model.id for model in found}


def to_bytes(embedding: Sequence[float]) -> bytes:
    """Write an embedding as its table keeps it: doubles, least significant byte first."""
    return struct.pack(f"<{len(embedding)}d", *embedding)


def from_bytes(vector: bytes) -> tuple[float, ...]:
    """Read numbers that `to_bytes` wrote."""
    return struct.unpack(f"<{len(vector) // 8}d", vector)


def embedding_text(vector: bytes) -> str:
    """Return an embedding as JSON text."""
    return orjson.dumps(from_bytes(vector)).decode()


def insert_rows(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows given as values of the table's columns, in order.

    The values go to the driver as they are: with its own treatment of every value SQLAlchemy takes
    four times as long, and a detector's answer is a hundred rows.
    """
    if rows and connection.dialect.positional:
        connection.exec_driver_sql(_insert_sql(table, connection.dialect), list(rows))
    elif rows:
        names = table.columns.keys()
        connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows])


@lru_cache(maxsize=8)
def _insert_sql(table: Table, dialect: Dialect) -> str:
    return str(insert(table).compile(dialect=dialect))


def _insert_inferences(
    connection: Connection, records: Sequence[Record], created_at: int
) -> dict[tuple[str, str], int]:
    table = _inferences
    rows = [
        {
            "model_id": record.model_id,
            "inference_id": record.inference_id,
            "created_at": created_at,
            "updated_at": created_at,
            "task_type": record.task_type,
            "inference_action": record.inference_action,
            "version": record.version,
            "data": record.data,
            "data_hash": record.data_hash,
            "data_size": record.data_size,
            "data_source": record.data_source,
            "latitude": record.latitude,
            "longitude": record.longitude,
            "data_storage_key": record.data_storage_key,
            "is_protected": record.is_protected,
            "request_key": record.request_key,
        }
        for record in records
    ]
    ids: dict[str, list[str]] = {}
    for record in records:
        ids.setdefault(record.model_id, []).append(record.inference_id)
    for model_id, inference_ids in ids.items():
        connection.execute(_REMOVE_HIDDEN, {"model": model_id, "ids": inference_ids})
    statement = conflict_insert(connection, table).on_conflict_do_nothing(
        index_elements=["model_id", "inference_id"]
    )
    result = connection.execute(
        statement.returning(table.c.model_id, table.c.inference_id, table.c.id), rows
    )
    return {(model_id, inference_id): row for model_id, inference_id, row in result}


def conflict_insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that can say what to do about a row that is there, as each database does."""
    if connection.dialect.name == "postgresql":
        # Imported where it is needed: it takes as long as all of this package.
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    return sqlite.insert(table)
