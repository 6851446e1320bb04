"""What a store holds, counted: its models, records, labels, blobs and runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, case, exists, func, select, union_all

from pixano_cli.inference_store import schema
from pixano_cli.inference_store.filters import selected
from pixano_cli.inference_store.models import BaseInferenceFilter
from pixano_cli.inference_store.times import from_microseconds


@dataclass(frozen=True, slots=True)
class ModelOverview:
    """A registered model and how many records it has.

    Attributes:
        model_id: Its id.
        task_type: A TaskType's value.
        embedding_size: Length of its embeddings; 0 for none.
        inferences: How many records are to be seen.
        hidden: How many are deleted softly.
        protected: How many of those to be seen no retention policy deletes.
        first: When the oldest record was made, hidden or not; None if there is none.
        last: When the latest was made.
    """

    model_id: str
    task_type: str
    embedding_size: int
    inferences: int
    hidden: int
    protected: int
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True, slots=True)
class BlobOverview:
    """How many blobs there are, how large together in bytes, and how many wait to be removed."""

    count: int
    size: int
    pending: int


@dataclass(frozen=True, slots=True)
class LabelCount:
    """How often a label occurs: in how many elements, of how many inferences, and its best score.

    The score is None where no element of the label has one.
    """

    label: str
    elements: int
    inferences: int
    best: float | None


@dataclass(frozen=True, slots=True)
class DeletionOverview:
    """What deleting records would remove.

    Attributes:
        records: How many records.
        protected: How many of them no retention policy deletes.
        blobs: How many inputs that no other record names.
        size: Their size in bytes.
    """

    records: int
    protected: int
    blobs: int
    size: int


def models_overview(connection: Connection) -> list[ModelOverview]:
    """Return every registered model, in order of id."""
    models, table = schema.models, schema.inferences
    hidden = table.c.deleted_at.is_not(None)

    def count(*conditions: ColumnElement[bool]) -> dict[str, int]:
        # Each of these counts is answered by an index, without reading a record.
        query = select(table.c.model_id, func.count()).where(*conditions)
        rows = connection.execute(query.group_by(table.c.model_id))
        return {model_id: number for model_id, number in rows}  # noqa: C416 - rows are no tuples

    every, deleted = count(), count(hidden)
    kept, kept_and_hidden = count(table.c.is_protected), count(table.c.is_protected, hidden)
    found = []
    for model in connection.execute(select(models)):
        name = model.model_id
        times = connection.execute(select(*_first_and_last(name))).one()
        first, last = _either(min, times[:2]), _either(max, times[2:])
        found.append(
            ModelOverview(
                model_id=name,
                task_type=model.task_type,
                embedding_size=model.embedding_size,
                inferences=every.get(name, 0) - deleted.get(name, 0),
                hidden=deleted.get(name, 0),
                protected=kept.get(name, 0) - kept_and_hidden.get(name, 0),
                first=None if first is None else from_microseconds(first),
                last=None if last is None else from_microseconds(last),
            )
        )
    return sorted(found, key=lambda each: each.model_id)


def _first_and_last(model_id: str) -> list[ColumnElement[int | None]]:
    """Return four queries, each answered by one entry of an index."""
    table = schema.inferences
    return [
        select(extreme(table.c.created_at))
        .where(table.c.model_id == model_id, shown)
        .scalar_subquery()
        for extreme in (func.min, func.max)
        for shown in (table.c.deleted_at.is_(None), table.c.deleted_at.is_not(None))
    ]


def _either(extreme: Callable[[Iterable[int]], int], times: Iterable[int | None]) -> int | None:
    known = [time for time in times if time is not None]
    return extreme(known) if known else None


def blobs_overview(connection: Connection) -> BlobOverview:
    """Return how many blobs there are, and how large they are together."""
    blobs = schema.blobs
    query = select(
        func.count(), func.coalesce(func.sum(blobs.c.size), 0), func.count(blobs.c.pending_since)
    ).select_from(blobs)
    count, size, pending = connection.execute(query).one()
    return BlobOverview(count, int(size), pending)


def count_runs(connection: Connection) -> int:
    """Return how many runs the store has seen."""
    return connection.execute(select(func.count()).select_from(schema.runs)).scalar_one()


def label_counts(
    connection: Connection,
    model_id: str,
    filters: BaseInferenceFilter,
    *,
    threshold: float | None = None,
) -> Iterator[LabelCount]:
    """Yield the labels of the records that pass the filters, the most frequent first.

    All elements of such a record count, also those that no filter asks for, or with a threshold
    those of that score or more.
    """
    elements, table = schema.elements, schema.inferences
    count = func.count()
    query = (
        select(
            elements.c.label,
            count,
            func.count(elements.c.inference.distinct()),
            func.max(elements.c.score),
        )
        .join(table, table.c.id == elements.c.inference)
        .where(selected(model_id, filters))
        .group_by(elements.c.label)
        .order_by(count.desc(), elements.c.label)
    )
    if threshold is not None:
        query = query.where(elements.c.score >= threshold)
    for row in connection.execute(query):
        yield LabelCount(*row)


def deletion_overview(
    connection: Connection, model_ids: Sequence[str], filters: BaseInferenceFilter
) -> DeletionOverview:
    """Return what deleting the records of these models that pass the filters would remove."""
    table, blobs = schema.inferences, schema.blobs
    meant = [selected(model_id, filters) for model_id in model_ids]
    if not meant:
        return DeletionOverview(0, 0, 0, 0)
    records = protected = 0
    for each in meant:
        rows = select(func.count(), func.count(case((table.c.is_protected, 1)))).where(each)
        counted = connection.execute(rows.select_from(table)).one()
        records, protected = records + counted[0], protected + counted[1]
    has_key = table.c.data_storage_key.is_not(None)
    chosen = union_all(*(select(table.c.id).where(each, has_key) for each in meant))
    named = union_all(*(select(table.c.data_storage_key).where(each, has_key) for each in meant))
    other = table.alias("other")
    kept = exists().where(
        other.c.data_storage_key == blobs.c.storage_key, other.c.id.not_in(chosen)
    )
    query = select(func.count(), func.coalesce(func.sum(blobs.c.size), 0))
    count, size = connection.execute(
        query.where(blobs.c.storage_key.in_(named), ~kept).select_from(blobs)
    ).one()
    return DeletionOverview(records, protected, count, int(size))
