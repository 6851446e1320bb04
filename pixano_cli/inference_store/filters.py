"""Filters as SQL: every value is a bound parameter.

A filter is what all inferences of a model have in common, and its parts: each can be checked on
one inference, and most are listed by an index. `pages` chooses which to use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    and_,
    false,
    func,
    literal_column,
    or_,
    select,
    union_all,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import comparisons, places, schema, values
from pixano_cli.inference_store.comparisons import compared, compared_text
from pixano_cli.inference_store.database import now
from pixano_cli.inference_store.models import (
    BaseInferenceFilter,
    DeconstructedInferenceFilter,
    GeolocationFilter,
    MetadataFilter,
    MetadataFilterOperator,
    MetadataFilterType,
    TimeWindowFilter,
)
from pixano_cli.inference_store.times import read_nanoseconds

_Condition = ColumnElement[bool]
_inferences = schema.inferences
_elements = schema.elements
# In the words of the partial indexes.
_VISIBLE: _Condition = literal_column(f"inferences.{schema.VISIBLE}")


class unindexed(FunctionElement[Any]):  # noqa: N801 - it reads as a function
    """A column that SQLite shall not look up in an index; PostgreSQL decides for itself."""

    inherit_cache = True


@compiles(unindexed)
def _as_it_is(element: unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(unindexed, "sqlite")
def _with_a_plus(element: unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return f"+{compiler.process(element.clauses, **options)}"


@dataclass(frozen=True, slots=True)
class Way:
    """A way to what passes a part of a filter.

    Attributes:
        stretches: Queries of ids of inferences, each a stretch of one index; all that pass are
            among them.
        is_exact: Whether all of them pass, but for those that are hidden.
        repeats: Whether an id may be among them more than once.
        is_by_id: Whether each stretch is in order of id, with nothing between.
        is_scattered: Whether what repeats an id is far from it, so that to count all of many is to
            sort them.
        entries: Queries of all that the index has to go through for them, if that is more.
        passing: Queries of just those that pass, if the stretches hold others and yet their indexes
            can tell.
    """

    stretches: Sequence[Select[tuple[int]]]
    is_exact: bool = True
    repeats: bool = False
    is_by_id: bool = False
    is_scattered: bool = False
    entries: Sequence[Select[tuple[int]]] | None = None
    passing: Sequence[Select[tuple[int]]] | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a filter: how one inference is checked, and the ways to all that pass."""

    check: _Condition
    ways: Sequence[Way] = ()


@dataclass(frozen=True)
class Search:
    """What is asked for.

    Attributes:
        model_id: The model.
        common: Conditions that indexes answer in the order of creation.
        parts: Further parts of the filter.
    """

    model_id: str
    common: Sequence[_Condition]
    parts: Sequence[Part]

    @cached_property
    def within(self) -> _Condition:
        """What the model's visible inferences have in common, in the words of the indexes."""
        return and_(_inferences.c.model_id == self.model_id, *self.common)

    @property
    def in_turn(self) -> _Condition:
        """The condition for going through the inferences in the order of creation."""
        return and_(self.within, *(part.check for part in self.parts))

    @property
    def on_sight(self) -> _Condition:
        """The condition for inferences whose ids are given by another one."""
        same_model = unindexed(_inferences.c.model_id) == self.model_id
        return and_(same_model, *self.common, *(part.check for part in self.parts))

    def along(self, way: Way) -> _Condition:
        """Return the condition for going through those that a way leads to."""
        return and_(_inferences.c.id.in_(all_of(way)), self.on_sight)


def selected(model_id: str, filters: BaseInferenceFilter) -> _Condition:
    """Return the condition for a model's inferences that are not deleted and pass the filters.

    It suits statements that go through all of them at once.

    Raises:
        StoreError: If a filter's value is not what its kind takes.
    """
    asked = search(model_id, filters)
    conditions = [asked.within]
    for part in asked.parts:
        if part.ways:
            conditions.append(_inferences.c.id.in_(all_of(part.ways[0])))
        if not part.ways or not part.ways[0].is_exact:
            conditions.append(part.check)
    return and_(*conditions)


def all_of(way: Way) -> Select[tuple[int]]:
    """Return a query of all the ids that a way leads to."""
    if len(way.stretches) == 1:
        return way.stretches[0]
    if not way.stretches:
        return select(_inferences.c.id).where(false())
    ids = union_all(*way.stretches).subquery()
    return select(ids.c[0])


def search(model_id: str, filters: BaseInferenceFilter) -> Search:
    """Return what the filters ask for.

    Raises:
        StoreError: If a filter's value is not what its kind takes.
    """
    values.check_text("model_id", model_id)
    common: list[_Condition] = [_VISIBLE]
    parts = []
    if filters.data_source_filter is not None:
        source = values.check_text("data_source_filter", filters.data_source_filter)
        start = func.substr(_inferences.c.data_source, _number(1), _number(values.START))
        named = compared_text(start, _inferences.c.data_source, "=", source)
        common += [stretch.condition for stretch in named]
    if filters.inference_action_filter is not None:
        action = values.check_text("inference_action_filter", filters.inference_action_filter)
        of_action = _inferences.c.inference_action == action
        if filters.data_source_filter is None:
            common.append(of_action)
        else:
            # One index can be gone through in the order of creation, not two.
            listed = select(_inferences.c.id).where(
                _inferences.c.model_id == model_id, _VISIBLE, of_action
            )
            check = unindexed(_inferences.c.inference_action) == action
            parts.append(Part(check, [Way([listed])]))
    if filters.time_window_filter is not None:
        common.append(in_window(_inferences.c.created_at, filters.time_window_filter))
    if filters.data_hash_filter is not None:
        digest = values.check_text("data_hash_filter", filters.data_hash_filter)
        by_hash = select(_inferences.c.id).where(_inferences.c.data_hash == digest)
        # Other models have answered for the same input.
        by_hash_way = Way([by_hash], is_exact=False)
        parts.append(Part(unindexed(_inferences.c.data_hash) == digest, [by_hash_way]))
    for each in filters.metadata_filter or ():
        parts.append(_with_metadata(model_id, each))
    if filters.location_filter is not None:
        parts += _in_location(model_id, filters.location_filter)
    if filters.deconstructed_inference_filter is not None:
        parts.append(_with_element(model_id, filters.deconstructed_inference_filter))
    return Search(model_id, common, parts)


def in_window(created_at: ColumnElement[int], window: TimeWindowFilter) -> _Condition:
    """Return the condition that something was created in a window.

    Raises:
        StoreError: If a time is not valid.
    """
    start = 0 if window.start is None else -(-read_nanoseconds(window.start) // 1000)
    end = now() if window.end is None else read_nanoseconds(window.end) // 1000
    return created_at.between(start, end)


def _with_metadata(model_id: str, asked: MetadataFilter) -> Part:
    kind = MetadataFilterType(asked.type).value
    symbol = MetadataFilterOperator(asked.operator).value
    scalar = kind.removeprefix("json.")
    # Read here so that a wrong value is refused with its name, and not met row by row.
    operand = values.read_operand(scalar, symbol, asked.value)
    key = values.check_text("metadata filter key", asked.key)
    table = schema.metadata if scalar == kind else schema.metadata_leaves
    name = table.c.key if scalar == kind else table.c.name
    # An int inside a json is a number like any other there.
    types = ("float", "int") if kind == "json.float" else (scalar,)
    stretches = compared(table, scalar, symbol, operand)
    check = _exists(
        table,
        name == key,
        table.c.type.in_([literal_column(f"'{each}'") for each in types]),
        or_(false(), *(stretch.condition for stretch in stretches)),
    )
    listed = [
        _listed(table, model_id, name == key, of_type(table, each), stretch.condition)
        for each in types
        for stretch in stretches
    ]
    # Two keys of an inference may lead to leaves of one name.
    repeats = table is schema.metadata_leaves
    is_by_id = all(stretch.is_point for stretch in stretches)
    return Part(check, [Way(listed, repeats=repeats, is_by_id=is_by_id)])


def of_type(table: Table, kind: str) -> _Condition:
    """Return the condition for a table of metadata to hold a type's value that means something.

    It is in the words of the partial indexes, which a bound value would not be.
    """
    if kind == "string":
        return table.c.start.is_not(None)
    return and_(table.c.type == literal_column(f"'{kind}'"), table.c.number.is_not(None))


def _with_element(model_id: str, asked: DeconstructedInferenceFilter) -> Part:
    bounds = []
    for bound, symbol in ((asked.minimum_score, ">="), (asked.maximum_score, "<=")):
        if bound is not None:
            if bound != bound:
                raise StoreError("a score filter's bound is no number")
            bounds.append((values.COMPARISONS[symbol], bound))
    score, label = _elements.c.score, _elements.c.label
    scored = [compare(score, bound) for compare, bound in bounds]
    if asked.labels is None:
        by_score = [_listed(_elements, model_id, *scored)] if scored else []
        ways = [Way([each], repeats=True, is_scattered=True) for each in by_score]
        return Part(_exists(_elements, *scored), ways)
    labels = [values.check_text("label", each) for each in dict.fromkeys(asked.labels)]
    labelled = label.in_(labels)
    apart = [label == each for each in labels] if len(labels) <= comparisons.SEVERAL else [labelled]
    # Their index has the score too, but is not to be left for that of the scores.
    noted = [compare(unindexed(score), bound) for compare, bound in bounds]
    by_label = Way(
        [_listed(_elements, model_id, each, *noted) for each in apart],
        repeats=True,
        is_by_id=not scored and len(labels) <= comparisons.SEVERAL,
        entries=[_listed(_elements, model_id, each) for each in apart] if scored else None,
    )
    ways = [by_label]
    if scored:
        ways.append(Way([_listed(_elements, model_id, *scored)], is_exact=False, repeats=True))
    return Part(_exists(_elements, labelled, *scored), ways)


def _in_location(model_id: str, asked: GeolocationFilter) -> list[Part]:
    parts = []
    column = unindexed(_inferences.c.latitude), unindexed(_inferences.c.longitude)
    for check, boxes in places.areas(asked, *column):
        bands = [
            select(_inferences.c.id).where(
                _inferences.c.model_id == model_id,
                _VISIBLE,
                _inferences.c.latitude.is_not(None),
                _inferences.c.latitude.between(box.south, box.north),
            )
            for box in boxes
        ]
        located = [
            band.where(_inferences.c.longitude.between(box.west, box.east))
            for band, box in zip(bands, boxes, strict=True)
        ]
        # Their index has all that the check needs.
        passing = [each.where(check) for each in located]
        # Two boxes may have an edge in common.
        repeats = len(boxes) > 1
        way = Way(located, is_exact=False, repeats=repeats, entries=bands, passing=passing)
        parts.append(Part(check, [way]))
    return parts


def _number(number: int) -> ColumnElement[Any]:
    return literal_column(str(number))


def _listed(table: Table, model_id: str, *conditions: _Condition) -> Select[tuple[int]]:
    """Return a query of the inferences in a stretch of one of a table's indexes."""
    models = schema.models
    model = select(models.c.id).where(models.c.model_id == model_id).scalar_subquery()
    return select(table.c.inference).where(table.c.model == model, *conditions)


def _exists(table: Table, *conditions: _Condition) -> _Condition:
    """Return the condition that the table has such a row of the inference."""
    row: Select[Any] = select(literal_column("1")).select_from(table)
    return (
        row.where(table.c.inference == _inferences.c.id, *conditions)
        .correlate(_inferences)
        .exists()
    )
