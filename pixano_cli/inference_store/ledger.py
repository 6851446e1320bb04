"""What a run needs of the store: its items, what is recorded already, and where answers go.

A run's items are the files it was given. An item's answers are found by the digest of its
bytes and the request's key, never by its name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import shuffle
from typing import TYPE_CHECKING, Any, Literal

import orjson
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from pixano_cli.inference_store import schema
from pixano_cli.inference_store.database import STREAMED, Store
from pixano_cli.inference_store.models import TaskType
from pixano_cli.inference_store.records import Record, conflict_insert, insert_records

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Status = Literal["pending", "processed", "cached", "failed"]
Order = Literal["ascending", "descending", "random"]
PAGE = 500

# Made once: they are executed for every image, and take longer to make than to execute.
_ANSWERS = (
    select(schema.inferences.c.data_hash, schema.inferences.c.data)
    .where(
        schema.inferences.c.request_key == bindparam("request_key"),
        schema.inferences.c.data_hash.in_(bindparam("digests", expanding=True)),
        schema.inferences.c.deleted_at.is_(None),
    )
    .order_by(schema.inferences.c.data_hash, schema.inferences.c.id)
)
_VECTORS = (
    select(schema.inferences.c.data_hash, schema.embeddings.c.vector)
    .join(schema.embeddings, schema.embeddings.c.inference == schema.inferences.c.id)
    .where(
        schema.inferences.c.request_key == bindparam("request_key"),
        schema.inferences.c.data_hash.in_(bindparam("digests", expanding=True)),
        schema.inferences.c.deleted_at.is_(None),
    )
)
_ANSWERED = (
    select(schema.inferences.c.data_hash)
    .join(schema.images, schema.images.c.sha256 == schema.inferences.c.data_hash)
    .where(
        schema.inferences.c.request_key == bindparam("request_key"),
        schema.inferences.c.data_hash.in_(bindparam("digests", expanding=True)),
        schema.inferences.c.deleted_at.is_(None),
    )
)
_END_ITEM = update(schema.items).where(
    schema.items.c.run_id == bindparam("ended_run"),
    schema.items.c.file_name == bindparam("ended_file"),
)


@dataclass(frozen=True, slots=True)
class Item:
    """A file of a run.

    Attributes:
        file_name: Its name in the outputs; unique in the run.
        root: The source it was found in, as the user gave it.
        url: Its file:// URL.
        size: Size in bytes; -1 if unknown.
        mtime_ns: Time of its last change in nanoseconds; -1 if unknown.
        sha256: Hex digest of its bytes, once known.
        prompts: The prompts to answer as JSON text; None where a detector gives them.
    """

    file_name: str
    root: str
    url: str
    size: int
    mtime_ns: int
    sha256: str | None = None
    prompts: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """What the store knows of an image's bytes; width and height are as displayed."""

    sha256: str
    size: int
    width: int
    height: int
    orientation: int
    format: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an item could not be done."""

    stage: str
    error_class: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an item, to be committed as one: its answers or its failure."""

    item: Item
    status: Status
    picture: Picture | None = None
    records: tuple[Record, ...] = ()
    failure: Failure | None = None


def add_items(
    connection: Connection, run_id: str, items: Sequence[Item], cached: Collection[str]
) -> None:
    """Add files to a run; those named in `cached` are answered by the record, the rest pending."""
    rows = [
        {
            "run_id": run_id,
            "file_name": item.file_name,
            "root": item.root,
            "url": item.url,
            "size": item.size,
            "mtime_ns": item.mtime_ns,
            "sha256": item.sha256,
            "status": "cached" if item.file_name in cached else "pending",
            "prompts": item.prompts,
        }
        for item in items
    ]
    connection.execute(insert(schema.items), rows)


def recall_digests(store: Store, items: Sequence[Item]) -> list[Item]:
    """Return the items, those that have not changed since they were last read with their digest."""
    files = schema.files
    query = select(files).where(files.c.url.in_([item.url for item in items]))
    with store.read() as connection:
        known = {row.url: row for row in connection.execute(query)}
    return [
        replace(item, sha256=row.sha256)
        if (row := known.get(item.url)) and (row.size, row.mtime_ns) == (item.size, item.mtime_ns)
        else item
        for item in items
    ]


def pages(
    store: Store, run_id: str, *statuses: Status, order: Order = "ascending"
) -> Iterator[list[Item]]:
    """Yield a run's items with one of the statuses in order of name, a page at a time.

    No statement stays open between two pages, so the items may change meanwhile. In random order
    only the items of a page are.
    """
    items = schema.items
    query = (
        select(
            items.c.file_name,
            items.c.root,
            items.c.url,
            items.c.size,
            items.c.mtime_ns,
            items.c.sha256,
            items.c.prompts,
        )
        .where(items.c.run_id == run_id, items.c.status.in_(statuses))
        .order_by(items.c.file_name.desc() if order == "descending" else items.c.file_name)
        .limit(PAGE)
    )
    last: str | None = None
    while True:
        page_query = query
        if last is not None:
            is_next = (
                items.c.file_name < last if order == "descending" else items.c.file_name > last
            )
            page_query = query.where(is_next)
        with store.read() as connection:
            page = [Item(*row) for row in connection.execute(page_query)]
        last = page[-1].file_name if page else None
        if order == "random":
            shuffle(page)
        if page:
            yield page
        if len(page) < PAGE:
            return


def count_items(store: Store, run_id: str) -> dict[Status, int]:
    """Return how many of a run's items have each status."""
    items = schema.items
    counts: dict[Status, int] = {"pending": 0, "processed": 0, "cached": 0, "failed": 0}
    query = (
        select(items.c.status, func.count())
        .where(items.c.run_id == run_id)
        .group_by(items.c.status)
    )
    with store.read() as connection:
        for status, count in connection.execute(query):
            counts[status] = count
    return counts


def failures(store: Store, run_id: str) -> Iterator[tuple[str, Failure]]:
    """Yield the name and failure of every failed item in order of name."""
    items = schema.items
    query = (
        select(items.c.file_name, items.c.stage, items.c.error_class, items.c.message)
        .where(items.c.run_id == run_id, items.c.status == "failed")
        .order_by(items.c.file_name)
    )
    with store.read() as connection:
        found = connection.execute(query, execution_options=STREAMED)
        for name, stage, error_class, message in found:
            yield name, Failure(stage, error_class, message)


def answers(
    store: Store, request_key: str, digests: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Return the elements, or other outputs, answered to the request for each image that has any.

    An image answered in several records (of different prompts) has the elements of all, the latest
    last.
    """
    asked = {"request_key": request_key, "digests": digests}
    found: dict[str, list[dict[str, Any]]] = {}
    with store.read() as connection:
        for digest, data in connection.execute(_ANSWERS, asked):
            found.setdefault(digest, []).extend(orjson.loads(data))
    return found


def found_labels(store: Store, sha256: str, min_score: float) -> list[str] | None:
    """Return the labels that detectors found in an image, sorted; None if none has looked."""
    detected = [
        schema.inferences.c.data_hash == sha256,
        schema.inferences.c.task_type == TaskType.OBJECT_DETECTION.value,
        schema.inferences.c.deleted_at.is_(None),
    ]
    query = (
        select(schema.elements.c.label)
        .join(schema.inferences, schema.inferences.c.id == schema.elements.c.inference)
        .where(*detected, schema.elements.c.score >= min_score)
        .distinct()
    )
    with store.read() as connection:
        if connection.execute(select(schema.inferences.c.id).where(*detected)).first() is None:
            return None
        return sorted(connection.execute(query).scalars())


def vectors(
    store: Store, request_key: str, digests: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Return the vector answered to the request for each image that has one."""
    import numpy as np

    asked = {"request_key": request_key, "digests": digests}
    with store.read() as connection:
        found = connection.execute(_VECTORS, asked)
        return {digest: np.frombuffer(vector, "<f8") for digest, vector in found}


def answered_digests(store: Store, request_key: str, digests: Sequence[str]) -> set[str]:
    """Return which images, of known size, have an answer to the request, without reading it."""
    asked = {"request_key": request_key, "digests": digests}
    with store.read() as connection:
        return set(connection.execute(_ANSWERED, asked).scalars())


def pictures(store: Store, digests: Sequence[str]) -> dict[str, Picture]:
    """Return what is known of the images' bytes, by digest."""
    images = schema.images
    query = select(
        images.c.sha256,
        images.c.size,
        images.c.width,
        images.c.height,
        images.c.orientation,
        images.c.format,
    ).where(images.c.sha256.in_(digests))
    with store.read() as connection:
        return {row[0]: Picture(*row) for row in connection.execute(query)}


def record_outcomes(
    connection: Connection, run_id: str, outcomes: Sequence[Outcome], *, overwrite: bool
) -> None:
    """Write what became of items: answers, failures, and what was learnt of the files.

    Args:
        connection: A connection in a writing transaction: all of it is committed, or nothing.
        run_id: The run.
        outcomes: Any number of them.
        overwrite: Whether answers replace recorded ones instead of leaving them as they are.
    """
    records = [record for outcome in outcomes for record in outcome.records]
    if overwrite:
        for record in records:
            _remove_superseded(connection, record)
    if records:
        insert_records(connection, records)
    seen = {each.picture.sha256: each.picture for each in outcomes if each.picture}
    if seen:
        rows = [
            {
                "sha256": picture.sha256,
                "size": picture.size,
                "width": picture.width,
                "height": picture.height,
                "orientation": picture.orientation,
                "format": picture.format,
            }
            for picture in seen.values()
        ]
        insert_new(connection, schema.images, rows, ["sha256"])
    _remember_files(connection, [each.item for each in outcomes if each.item.sha256])
    ended = [
        {
            "ended_run": run_id,
            "ended_file": outcome.item.file_name,
            "status": outcome.status,
            "sha256": outcome.item.sha256,
            "stage": outcome.failure and outcome.failure.stage,
            "error_class": outcome.failure and outcome.failure.error_class,
            "message": outcome.failure and outcome.failure.message,
        }
        for outcome in outcomes
    ]
    if ended:
        connection.execute(_END_ITEM, ended)


def _remove_superseded(connection: Connection, record: Record) -> None:
    """Remove what a record answers again; answers to other prompts may be in use elsewhere.

    A vector answers no prompts, so it takes the place of whatever was there.
    """
    table = schema.inferences
    earlier = connection.execute(
        select(table.c.id, table.c.data).where(
            table.c.data_hash == record.data_hash, table.c.request_key == record.request_key
        )
    ).all()
    prompts = _prompts(record.elements or record.output or ())
    superseded = [row.id for row in earlier if _prompts(orjson.loads(row.data or "[]")) <= prompts]
    connection.execute(delete(table).where(table.c.id.in_(superseded)))


def _prompts(elements: Sequence[Mapping[str, Any]]) -> frozenset[bytes]:
    """Return what the elements answer, where that is no part of the request: their prompts."""
    return frozenset(
        orjson.dumps(element["prompt"], option=orjson.OPT_SORT_KEYS)
        for element in elements
        if "prompt" in element
    )


def _remember_files(connection: Connection, items: Sequence[Item]) -> None:
    if not items:
        return
    statement = conflict_insert(connection, schema.files)
    changed = {name: statement.excluded[name] for name in ("size", "mtime_ns", "sha256")}
    # PostgreSQL does not change a row twice in one statement.
    rows = {
        item.url: {
            "url": item.url,
            "size": item.size,
            "mtime_ns": item.mtime_ns,
            "sha256": item.sha256,
        }
        for item in items
    }
    connection.execute(
        statement.on_conflict_do_update(index_elements=["url"], set_=changed), list(rows.values())
    )


def insert_new(
    connection: Connection, table: Any, rows: Sequence[Mapping[str, Any]], key: list[str]
) -> None:
    """Insert those rows whose key is not in the table yet."""
    statement = conflict_insert(connection, table).on_conflict_do_nothing(index_elements=key)
    connection.execute(statement, rows)
