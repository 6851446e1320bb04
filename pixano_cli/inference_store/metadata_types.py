"""Which types metadata is stored under, by its name in filters."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Select, Table, select

from pixano_cli.inference_store import schema
from pixano_cli.inference_store.filters import of_type
from pixano_cli.inference_store.models import MetadataFilterType

_metadata, _leaves, _models = schema.metadata, schema.metadata_leaves, schema.models


def stored_types(
    connection: Connection, name: str, model_ids: Sequence[str] = ()
) -> frozenset[MetadataFilterType]:
    """Return the types under which records have this metadata, those that filters can match.

    Args:
        connection: A connection to the store.
        name: A key; or for a value inside a json a key, a dot, and the path to it.
        model_ids: Whose records to look at; none of them named means all models'.
    """
    models = select(_models.c.id)
    if model_ids:
        models = models.where(_models.c.model_id.in_(model_ids))
    tables = [("", _metadata, _metadata.c.key)]
    if "." in name:
        tables.append(("json.", _leaves, _leaves.c.name))
    asked = {
        MetadataFilterType(f"{inside}{kind}"): _has(table, column == name, kind, models)
        for inside, table, column in tables
        for kind in ("string", "int", "float")
    }
    # One query for all of them, each answered by the first entry of an index.
    query = select(*(exists.label(kind.value) for kind, exists in asked.items()))
    row = connection.execute(query).one()
    return frozenset(kind for kind, found in zip(asked, row, strict=True) if found)


def _has(
    table: Table, named: ColumnElement[bool], kind: str, models: Select[tuple[int]]
) -> ColumnElement[bool]:
    query = select(table.c.inference).where(table.c.model.in_(models), named, of_type(table, kind))
    return query.exists()
