"""SQL finds what a second definition in plain Python finds, on random stores and filters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from pixano_cli import inference_store as istore
from pixano_cli.inference_store import comparisons, removal, schema
from pixano_cli.inference_store import pages as pages_module
from pixano_cli.inference_store.filters import selected
from pixano_cli.inference_store.records import Record, insert_records

from .requests import registration, texts
from .second_definition import Kept, UnclearError, disorder, in_order, passes

BASE = 1_700_000_000_000_000  # 2023-11-14T22:13:20Z in microseconds.

# Flat pools of values that meet often: a random store is of use only if filters divide it.
INTS = ["0", "5", "-5", "+5", "05", "10", str(2**63 - 1), str(2**63), "9" * 25, f"-{'9' * 25}"]
FLOATS = ["0", "5", "5.0", "5.", ".5", "0.1", "1e0", "1e-1", "-0.0", "10", "9" * 25]
WORDS = ["a", "b", "B", "é", "ab", "\U0001f600", "\uffff", "a b", "'", "%", "*", '"', "", "5"]
GARBAGE = ["", "nan", "inf", "1e999", " 5", "5 ", "1_0", "\u0665", "5,0", "0x5", "--5", "e5", "."]
# Around the length up to which texts are indexed.
LONG = ["x" * 199, "x" * 200, "x" * 201, "x" * 200 + "a", "x" * 199 + "\U0001f600"]
VALUES = {"int": INTS, "float": FLOATS, "string": WORDS + LONG}
SCALARS = [None, True, 0, 1, 5, 5.0, 0.1, 2**63, -(10**20), "5", "a", "é", "", "a\0", LONG[2]]
JSONS = [
    json.dumps(document)
    for scalar in SCALARS
    for document in (
        scalar,
        {"x": scalar},
        {"x": {"y": scalar, "": 5}, "x.y": "a"},
        {"é": scalar},
        [scalar],
    )
] + ["", "{", "{'x': 1}", '{"x": NaN}', "[1", "x", '{"\\u0078": 5}']
TYPED = [
    *[("int", text) for text in INTS + INTS + GARBAGE],
    *[("float", text) for text in FLOATS + FLOATS + GARBAGE],
    *[("string", text) for text in WORDS + GARBAGE + LONG],
    *[("json", text) for text in JSONS],
]
KEYS = ["k", "k", "k", "k.x", "k.x.y", ""]
PLAIN_KEYS = ("k", "k", "k.x", "", "K")
JSON_KEYS = ("k", "k.x", "k.x.y", "k.é", "k.x.", ".")
FILTER_KEYS = {
    **dict.fromkeys(("int", "float", "string"), PLAIN_KEYS),
    **dict.fromkeys(("json.int", "json.float", "json.string"), JSON_KEYS),
}
OPERATORS = ["=", "!=", "<", "<=", ">", ">=", "in"]
LABELS = ["cat", "dog", "Cat", "é", ""]
SCORES = [0.0, 0.25, 0.5, 1.0]
LATITUDES = [-90.0, -45.0, 0.0, 0.001, 48.85, 90.0]
LONGITUDES = [-180.0, -179.999, 0.0, 0.001, 2.35, 180.0]
TIMES = [
    None,
    "2023-11-14T22:13:19Z",
    "2023-11-14T22:13:20Z",
    "2023-11-14T22:13:20.000001Z",
    "2023-11-14T22:13:20.0000005Z",
    "2023-11-14T22:13:20.5Z",
    "2023-11-14T22:13:20.999999999Z",
    "2023-11-14T22:13:21Z",
]

elements = st.fixed_dictionaries(
    {"label": st.sampled_from(LABELS), "score": st.sampled_from([None, *SCORES])}
)
places = st.tuples(st.sampled_from(LATITUDES), st.sampled_from(LONGITUDES))
metadata = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(TYPED), max_size=2)


@st.composite
def kept_records(draw: st.DrawFn) -> Kept:
    place = draw(st.none() | places)
    record = Record(
        model_id="",
        inference_id=draw(st.sampled_from(WORDS) | texts(max_size=2)),
        task_type="Image Segmentation",
        inference_action=draw(st.sampled_from(["predict", "predict_proba"])),
        data_hash=draw(st.sampled_from(["h", "i"])),
        data_size=1,
        elements=draw(st.none() | st.lists(elements, max_size=3)),
        data_source=draw(st.sampled_from([None, "camera", "Camera", "", *LONG[2:4]])),
        latitude=place and place[0],
        longitude=place and place[1],
        metadata=draw(metadata),
    )
    created_at = BASE + draw(st.sampled_from([0, 0, 1, 999_999, 1_000_000]))
    return Kept(record, created_at, draw(st.integers(0, 9)) == 9)


def operands(kind: str, symbol: str) -> st.SearchStrategy[str]:
    values = VALUES[kind.removeprefix("json.")]
    if symbol != "in":
        return st.sampled_from(values)
    # A list cannot hold a comma or outer spaces, and one empty text would be an empty list.
    lists = st.lists(st.sampled_from(values), max_size=3).filter(lambda texts: texts != [""])
    return lists.map(lambda texts: f"[{', '.join(texts)}]")


@st.composite
def metadata_filters(draw: st.DrawFn) -> dict[str, str]:
    kind, symbol = draw(
        st.sampled_from([(kind, symbol) for kind in FILTER_KEYS for symbol in OPERATORS])
    )
    key = draw(st.sampled_from(FILTER_KEYS[kind]))
    return {"key": key, "operator": symbol, "type": kind, "value": draw(operands(kind, symbol))}


points = places.map(lambda place: {"latitude": place[0], "longitude": place[1]})
circles = st.fixed_dictionaries(
    {"center": points, "radius": st.sampled_from([0.5, 200.0, 5e6, 1e7, 1.5e7, 3e7])}
)
rectangles = st.fixed_dictionaries({"p1": points, "p2": points})
PARTS: dict[str, st.SearchStrategy[Any]] = {
    "inference_action_filter": st.sampled_from(["predict", "detect"]),
    "data_hash_filter": st.sampled_from(["h", "i", ""]),
    "data_source_filter": st.sampled_from(["camera", "Camera", "", *LONG[2:4]]),
    "time_window_filter": st.fixed_dictionaries(
        {"start": st.sampled_from(TIMES), "end": st.sampled_from(TIMES)}
    ),
    "metadata_filter": st.lists(metadata_filters(), min_size=1, max_size=2),
    "location_filter": st.fixed_dictionaries(
        {}, optional={"gps_coordinates_circle": circles, "gps_coordinates_rectangle": rectangles}
    ),
    "deconstructed_inference_filter": st.fixed_dictionaries(
        {
            "labels": st.none() | st.lists(st.sampled_from(LABELS), max_size=2),
            "minimum_score": st.sampled_from([None, *SCORES]),
            "maximum_score": st.sampled_from([None, *SCORES]),
        }
    ),
}
one_part = st.sampled_from(list(PARTS)).flatmap(
    lambda name: PARTS[name].map(lambda value: {name: value})
)
filters = (one_part | st.tuples(one_part, one_part).map(lambda two: {**two[0], **two[1]})).map(
    istore.BaseInferenceFilter.model_validate
)
pages = st.fixed_dictionaries(
    {
        "sort": st.sampled_from([None, "created_at", "label", "score"]),
        "direction": st.sampled_from([None, "asc", "desc"]),
        "limit": st.none() | st.integers(0, 5),
        "offset": st.none() | st.integers(0, 5),
    }
).map(istore.Pagination.model_validate)
limits = st.fixed_dictionaries(
    {
        "FEW": st.sampled_from([0, 1, 2, 5_000]),
        "NEAR": st.sampled_from([0, 1, 2, 5_000]),
        "MANY": st.sampled_from([0, 1, 3, 5_000]),
        "LARGEST_PAGE": st.sampled_from([3, 1_000]),
        "SIZES": st.sampled_from([(1, 2), (2, 5, 100), (100,)]),
        "SEVERAL": st.sampled_from([1, 20]),
    }
)
model_ids = (f"model {number}" for number in count())


@contextmanager
def limited(limits: dict[str, Any]) -> Iterator[None]:
    """Make a store of a few records as hard to search as one of a million."""
    homes = {name: comparisons if name == "SEVERAL" else pages_module for name in limits}
    before = {name: getattr(home, name) for name, home in homes.items()}
    for name, home in homes.items():
        setattr(home, name, limits[name])
    try:
        yield
    finally:
        for name, home in homes.items():
            setattr(home, name, before[name])


def fill(store: istore.Store, kept: Sequence[Kept]) -> str:
    """Put records into a model of their own, beside all that is there."""
    model_id = next(model_ids)
    istore.register_model_for_inference_storage(
        registration(model_id, istore.TaskType.IMAGE_SEGMENTATION)
    )
    table = schema.inferences
    with store.write() as connection:
        insert_records(connection, [replace(each.record, model_id=model_id) for each in kept])
        for each in kept:
            connection.execute(
                update(table)
                .where(
                    table.c.model_id == model_id,
                    table.c.inference_id == each.record.inference_id,
                )
                .values(created_at=each.created_at, deleted_at=1 if each.is_deleted else None)
            )
        connection.execute(
            update(schema.models)
            .where(schema.models.c.model_id == model_id)
            .values(disorder=disorder(kept))
        )
    return model_id


def check(
    store: istore.Store,
    model_id: str,
    kept: Sequence[Kept],
    asked: istore.BaseInferenceFilter,
    page: istore.Pagination,
) -> None:
    try:
        passing = [each for each in kept if passes(each, asked)]
    except UnclearError:
        return
    everything = sum(not each.is_deleted for each in kept)
    event("passing", "some" if 0 < len(passing) < everything else "all" if passing else "none")
    order = in_order(passing, str(page.sort or "created_at"), descending=page.direction == "desc")
    start = page.offset or 0
    end = start + (50 if page.limit is None else page.limit)
    request = istore.NewGetInferencesRequest(filters=asked, pagination=page)
    found = istore.filter_inferences(model_id, request)
    assert [each.inference_id for each in found] == order[start:end]
    assert istore.count_inferences(model_id, request) == len(passing)
    with store.read() as connection:
        # What would be deleted or exported, which goes through all of them at once.
        chosen = removal.choose(connection, selected(model_id, asked))
    assert list(chosen.ids) == in_order(passing)


def stores(number: int) -> settings:
    """Try so many random stores."""
    return settings(
        max_examples=number,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


any_kept = st.lists(
    kept_records(), min_size=3, max_size=10, unique_by=lambda each: each.record.inference_id
)
any_asked = st.lists(st.tuples(filters, pages, limits), min_size=5, max_size=10)
any_typed = st.lists(st.sampled_from(TYPED), min_size=10, max_size=30)
any_metadata_filters = st.lists(metadata_filters(), min_size=10, max_size=20)


def agree(
    store: istore.Store,
    kept: Sequence[Kept],
    asked: Sequence[tuple[istore.BaseInferenceFilter, istore.Pagination, dict[str, Any]]],
) -> None:
    model_id = fill(store, kept)
    for filter_, page, hardness in asked:
        with limited(hardness):
            check(store, model_id, kept, filter_, page)


def agree_on_metadata(
    store: istore.Store,
    typed: Sequence[tuple[str, str]],
    asked: Sequence[dict[str, str]],
    hardness: dict[str, Any],
) -> None:
    kept = [
        Kept(
            Record("", str(number), "", "predict", "h", 1, metadata={"k": value}),
            BASE,
            is_deleted=False,
        )
        for number, value in enumerate(typed)
    ]
    model_id = fill(store, kept)
    for each in asked:
        filter_ = istore.BaseInferenceFilter.model_validate({"metadata_filter": [each]})
        with limited(hardness):
            check(store, model_id, kept, filter_, istore.Pagination())


@stores(150)
@given(kept=any_kept, asked=any_asked)
def test_sql_agrees_with_python(store: istore.Store, kept: Any, asked: Any) -> None:
    agree(store, kept, asked)


@stores(60)
@given(typed=any_typed, asked=any_metadata_filters, hardness=limits)
def test_sql_agrees_with_python_on_metadata(
    store: istore.Store, typed: Any, asked: Any, hardness: Any
) -> None:
    agree_on_metadata(store, typed, asked, hardness)


@pytest.mark.long
@stores(1_000)
@given(kept=any_kept, asked=any_asked)
def test_sql_agrees_with_python_at_length(store: istore.Store, kept: Any, asked: Any) -> None:
    agree(store, kept, asked)


@pytest.mark.long
@stores(1_000)
@given(typed=any_typed, asked=any_metadata_filters, hardness=limits)
def test_sql_agrees_with_python_on_metadata_at_length(
    store: istore.Store, typed: Any, asked: Any, hardness: Any
) -> None:
    agree_on_metadata(store, typed, asked, hardness)
