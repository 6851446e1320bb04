"""Marking the records that pass filters, many at once: with metadata, or as protected."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, delete, select, update

from pixano_cli.inference_store import schema
from pixano_cli.inference_store.database import STREAMED, Store, now
from pixano_cli.inference_store.filters import search, selected
from pixano_cli.inference_store.metadata import check_metadata
from pixano_cli.inference_store.models import BaseInferenceFilter, Metadata
from pixano_cli.inference_store.records import insert_metadata

# Records of a transaction: others need not wait long for their turn to write.
PAGE = 500

_table = schema.inferences


def protect(store: Store, model_id: str, filters: BaseInferenceFilter, *, protected: bool) -> int:
    """Keep records from every retention policy, or no longer.

    Returns:
        How many records pass the filters, changed or not.

    Raises:
        StoreError: If a filter's value is not what its kind takes.
    """
    marked = 0
    for connection, rows in _pages(store, model_id, filters):
        changed = _table.c.id.in_(rows) & (_table.c.is_protected != protected)
        connection.execute(
            update(_table).where(changed).values(is_protected=protected, updated_at=now())
        )
        marked += len(rows)
    return marked


def tag(
    store: Store,
    model_id: str,
    filters: BaseInferenceFilter,
    added: Sequence[Metadata],
    removed: Sequence[str] = (),
) -> int:
    """Attach metadata to records, replacing what has the same keys, and remove other keys.

    Returns:
        How many records pass the filters.

    Raises:
        StoreError: If a filter's value is not what its kind takes, or databases cannot hold a
            key or a value.
    """
    for each in added:
        check_metadata(each.key, each.value)
    keys = [*(each.key for each in added), *removed]
    metadata = schema.metadata
    tagged = 0
    for connection, rows in _pages(store, model_id, filters):
        of_these = metadata.c.inference.in_(rows) & metadata.c.key.in_(keys)
        connection.execute(delete(metadata).where(of_these))
        insert_metadata(
            connection,
            [(row, each.key, each.type, each.value) for row in rows for each in added],
        )
        connection.execute(update(_table).where(_table.c.id.in_(rows)).values(updated_at=now()))
        tagged += len(rows)
    return tagged


def _pages(
    store: Store, model_id: str, filters: BaseInferenceFilter
) -> Iterator[tuple[Connection, list[int]]]:
    """Yield rows of the records that pass, a page at a time, each in a transaction to write in.

    They are chosen once, and those of a page looked at again: others may change them meanwhile.
    """
    ids = select(_table.c.id)
    query = ids.where(selected(model_id, filters)).order_by(_table.c.id)
    with store.read() as connection:
        chosen = array("q", connection.execute(query, execution_options=STREAMED).scalars())
    passing = search(model_id, filters).on_sight
    for start in range(0, len(chosen), PAGE):
        page = _table.c.id.in_(chosen[start : start + PAGE])
        with store.write() as connection:
            rows = list(connection.execute(ids.where(page, passing)).scalars())
            if rows:
                yield connection, rows
