"""Verifying records: what is kept of them twice, to be searched by, says the same both times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import BindParameter, Connection, bindparam, delete, func, select, update

from pixano_cli.inference_store import schema, values
from pixano_cli.inference_store.blob_ledger import discard
from pixano_cli.inference_store.blobs import BlobStorage, data_key
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.findings import Findings, Kind
from pixano_cli.inference_store.records import insert_metadata, insert_rows
from pixano_cli.inference_store.removal import clear_inputs

PAGE = 500

_REPAIR = "verify --repair makes them anew from what the records say"

ELEMENTS = Kind("records whose elements are not those of their answer", _REPAIR)
METADATA = Kind("records whose metadata is indexed as something else than it says", _REPAIR)
ANSWER = Kind(
    "records whose answer is no list of elements, or not of their version",
    "delete them, and run again what made them",
)
EMBEDDING = Kind(
    "records whose embedding has another size than their model is registered for",
    "delete them, and run again what made them",
)
OTHER_INPUT = Kind(
    "records that name another input than their data_hash is of",
    "delete them, and store them again",
)
HIDDEN_INPUT = Kind(
    "deleted records that still name an input", "verify --repair parts them from it"
)
DISORDER = Kind(
    "models whose records are not known to be out of order", "verify --repair notes by how much"
)

_inferences, _models = schema.inferences, schema.models
_elements, _embeddings = schema.elements, schema.embeddings
_metadata, _leaves = schema.metadata, schema.metadata_leaves

_FIRST: BindParameter[int] = bindparam("first")
_LAST: BindParameter[int] = bindparam("last")
_RECORDS = (
    select(
        _inferences.c.id,
        _inferences.c.model_id,
        _inferences.c.inference_id,
        _inferences.c.created_at,
        _inferences.c.version,
        _inferences.c.data_hash,
        _inferences.c.data_storage_key,
        _inferences.c.deleted_at,
        _inferences.c.data,
        _models.c.id.label("model"),
        _models.c.embedding_size,
        _models.c.disorder,
        func.length(_embeddings.c.vector).label("vector_size"),
    )
    .join(_models, _models.c.model_id == _inferences.c.model_id)
    .outerjoin(_embeddings, _embeddings.c.inference == _inferences.c.id)
    .where(_inferences.c.id.between(_FIRST, _LAST))
    .order_by(_inferences.c.id)
)
_ELEMENTS = (
    select(
        _elements.c.inference,
        _elements.c.model,
        _elements.c.position,
        _elements.c.label,
        _elements.c.score,
    )
    .where(_elements.c.inference.between(_FIRST, _LAST))
    .order_by(_elements.c.inference, _elements.c.position)
)
_METADATA = select(
    _metadata.c.inference,
    _metadata.c.key,
    _metadata.c.model,
    _metadata.c.type,
    _metadata.c.value,
    _metadata.c.start,
    _metadata.c.number,
    _metadata.c.digits,
).where(_metadata.c.inference.between(_FIRST, _LAST))
_LEAVES = select(
    _leaves.c.inference,
    _leaves.c.key,
    _leaves.c.name,
    _leaves.c.model,
    _leaves.c.type,
    _leaves.c.value,
    _leaves.c.start,
    _leaves.c.number,
    _leaves.c.digits,
).where(_leaves.c.inference.between(_FIRST, _LAST))

_Element = tuple[int, int, str, float | None]


@dataclass(frozen=True, slots=True)
class _Flaw:
    row: Any
    kind: Kind

    @property
    def name(self) -> str:
        return f"{self.row.model_id}/{self.row.inference_id}"


def verify_records(store: Store, blobs: BlobStorage, findings: Findings, *, repair: bool) -> int:
    """Go through all records, hidden ones too; return how many there are.

    Raises:
        StoreError: If the database or, while it repairs, the storage of blobs fails.
    """
    count = 0
    latest: dict[int, int] = {}
    disorder: dict[int, tuple[str, int]] = {}
    for connection, first, last in _pages(store):
        rows = connection.execute(_RECORDS, {"first": first, "last": last}).all()
        count += len(rows)
        for row in rows:
            newest = latest.setdefault(row.model, row.created_at)
            latest[row.model] = max(newest, row.created_at)
            back = newest - row.created_at
            if back > max(row.disorder, disorder.get(row.model, ("", 0))[1]):
                disorder[row.model] = row.model_id, back
        for flaw in list(_flaws(connection, rows)):
            repaired = repair and _repair(store, blobs, flaw)
            findings.add(flaw.kind, flaw.name, repaired=repaired)
    for model, (model_id, back) in disorder.items():
        if repair:
            larger = (_models.c.id == model, _models.c.disorder < back)
            with store.write() as connection:
                connection.execute(update(_models).where(*larger).values(disorder=back))
        findings.add(DISORDER, model_id, repaired=repair)
    return count


def _pages(store: Store) -> Iterator[tuple[Connection, int, int]]:
    """Yield the first and the last row of each page, with a connection that sees it unchanged."""
    last = -1
    ids = select(_inferences.c.id).order_by(_inferences.c.id).limit(PAGE)
    while True:
        with store.read() as connection:
            page = connection.execute(ids.where(_inferences.c.id > last)).scalars().all()
            if not page:
                return
            last = page[-1]
            yield connection, page[0], last


def _flaws(connection: Connection, rows: Sequence[Any]) -> Iterator[_Flaw]:
    """Yield what is wrong with records that follow each other, all that there are."""
    if not rows:
        return
    span = {"first": rows[0].id, "last": rows[-1].id}
    elements: dict[int, list[_Element]] = {}
    for inference, *element in connection.execute(_ELEMENTS, span).all():
        elements.setdefault(inference, []).append(tuple(element))
    wrong = _wrong_metadata(connection, span, {row.id: row.model for row in rows})
    for row in rows:
        try:
            expected = _elements_of(row)
        except (ValueError, TypeError, KeyError, AttributeError):
            yield _Flaw(row, ANSWER)
        else:
            if row.data is not None and row.vector_size is not None:
                yield _Flaw(row, ANSWER)
            if elements.get(row.id, []) != expected:
                yield _Flaw(row, ELEMENTS)
        if row.id in wrong:
            yield _Flaw(row, METADATA)
        if row.vector_size is not None and row.vector_size != 8 * row.embedding_size:
            yield _Flaw(row, EMBEDDING)
        key = row.data_storage_key
        if key is not None and row.deleted_at is not None:
            yield _Flaw(row, HIDDEN_INPUT)
        elif key is not None and key.startswith("data/") and key != data_key(row.data_hash):
            yield _Flaw(row, OTHER_INPUT)


def _elements_of(row: Any) -> list[_Element]:
    """Return the elements that an answer has; a text, or whatever else is no list, has none.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: If it is none, or not of its version.
    """
    if row.version != "v2":
        if row.data is not None and any("label" in each for each in orjson.loads(row.data)):
            raise ValueError("elements in an answer without")
        return []
    found = []
    for position, element in enumerate(orjson.loads(row.data)):
        score = element.get("score")
        found.append(
            (row.model, position, element["label"], None if score is None else float(score))
        )
    return found


def _wrong_metadata(
    connection: Connection, span: dict[str, int], models: dict[int, int]
) -> set[int]:
    """Return the rows of records whose metadata has other numbers or leaves than it should."""
    wrong = set()
    leaves: dict[tuple[int, str], list[tuple[Any, ...]]] = {}
    for inference, key, *leaf in connection.execute(_LEAVES, span).all():
        leaves.setdefault((inference, key), []).append(tuple(leaf))
    for inference, key, model, kind, value, *compared in connection.execute(_METADATA, span).all():
        if model != models[inference] or tuple(compared) != values.comparable(kind, value):
            wrong.add(inference)
        found = leaves.pop((inference, key), [])
        if kind == "json":
            expected = [
                (name, model, of, text, *values.comparable(of, text))
                for name, of, text in values.leaves(key, value)
            ]
            if sorted(found) != sorted(expected):
                wrong.add(inference)
        elif found:
            wrong.add(inference)
    return wrong


def _repair(store: Store, blobs: BlobStorage, flaw: _Flaw) -> bool:
    """Put right what the rest of a record tells how; return whether it is."""
    if flaw.kind not in (ELEMENTS, METADATA, HIDDEN_INPUT):
        return False
    span = {"first": flaw.row.id, "last": flaw.row.id}
    doomed: list[str] = []
    with store.write() as connection:
        row = connection.execute(_RECORDS, span).first()
        # It may have been removed meanwhile, or put right.
        if row is None or all(each.kind != flaw.kind for each in _flaws(connection, [row])):
            return True
        if flaw.kind is ELEMENTS:
            connection.execute(delete(_elements).where(_elements.c.inference == row.id))
            made = [
                (row.id, position, model, label, score)
                for model, position, label, score in _elements_of(row)
            ]
            insert_rows(connection, _elements, made)
        elif flaw.kind is METADATA:
            of_row = _metadata.c.inference == row.id
            query = select(_metadata.c.key, _metadata.c.type, _metadata.c.value).where(of_row)
            kept = [(row.id, *each) for each in connection.execute(query)]
            connection.execute(delete(_metadata).where(of_row))
            insert_metadata(connection, kept)
        else:
            doomed = clear_inputs(connection, [row.id])
    discard(store, blobs, doomed)
    return True
