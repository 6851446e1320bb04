"""SQL finds what a second definition in plain Python finds, on random stores and filters."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from pixano_cli import inference_store as istore
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.records import Record, insert_records

from .requests import registration
from .second_definition import Kept, UnclearError, in_order, passes

BASE = 1_700_000_000_000_000  # 2023-11-14T22:13:20Z in microseconds.

ints = st.sampled_from(["0", "5", "-5", "+5", "05", "10"]) | st.sampled_from(
    [str(2**63 - 1), str(2**63), str(-(2**63)), str(-(2**63) - 1), "9" * 25, f"-{'9' * 25}"]
)
numbers = ints | st.sampled_from(["5.0", "5.", ".5", "0.1", "1e0", "1e-1", "-0.0"])
garbage = st.sampled_from(
    ["", "nan", "inf", "1e999", " 5", "5 ", "1_0", "\u0665", "5,0", "0x5", "--5", "e5", "."]
)
words = st.sampled_from(["a", "b", "B", "é", "ab", "\U0001f600", "\uffff", "a b", "'", "%", '"'])
names = st.sampled_from(["k", "k.x", "k.x.y", "x", "é", ""])
documents = st.recursive(
    st.sampled_from([None, True, 0, 1, 5, 5.0, 0.1, 2**63, -(10**20), "5", "a", "é", ""]),
    lambda inner: (
        st.dictionaries(st.sampled_from(["x", "y", "", "é"]), inner, max_size=3)
        | st.lists(inner, max_size=2)
    ),
    max_leaves=4,
)
jsons = documents.map(json.dumps) | st.sampled_from(["", "{", "{'x': 1}", '{"x": NaN}', "[1", "x"])
texts = {
    "int": ints | ints | numbers | garbage,
    "float": numbers | numbers | garbage,
    "string": numbers | garbage | words,
    "json": jsons | numbers,
}
metadata = st.dictionaries(
    names, st.one_of([st.tuples(st.just(kind), text) for kind, text in texts.items()]), max_size=3
)
labels = st.sampled_from(["cat", "dog", "Cat", "é", ""])
scores = st.sampled_from([0.0, 0.25, 0.5, 1.0])
latitudes = st.sampled_from([-90.0, -45.0, 0.0, 0.001, 48.85, 90.0])
longitudes = st.sampled_from([-180.0, -179.999, 0.0, 0.001, 2.35, 180.0])


@st.composite
def records(draw: st.DrawFn) -> Kept:
    place = draw(st.none() | st.tuples(latitudes, longitudes))
    score = st.none() | scores
    record = Record(
        model_id="",
        inference_id=draw(st.text(max_size=2) | words),
        task_type="Image Segmentation",
        inference_action=draw(st.sampled_from(["predict", "predict_proba"])),
        data_hash=draw(st.sampled_from(["h", "i"])),
        data_size=1,
        elements=draw(
            st.none()
            | st.lists(st.fixed_dictionaries({"label": labels, "score": score}), max_size=3)
        ),
        data_source=draw(st.none() | st.sampled_from(["camera", "Camera", ""])),
        latitude=place and place[0],
        longitude=place and place[1],
        metadata=draw(metadata),
    )
    created_at = BASE + draw(st.sampled_from([0, 0, 1, 999_999, 1_000_000]))
    return Kept(record, created_at, draw(st.integers(0, 9)) == 0)


@st.composite
def metadata_filters(draw: st.DrawFn, kept: list[Kept]) -> dict[str, str]:
    """A filter on any key and type, mostly on one that is there."""
    there = [
        (key, f"json.{scalar}" if kind == "json" else kind)
        for each in kept
        for key, (kind, _) in each.record.metadata.items()
        for scalar in (["int", "float", "string"] if kind == "json" else [""])
    ]
    anything = st.tuples(names, st.sampled_from(["int", "float", "string", "json.int"]))
    key, kind = draw(st.sampled_from(there) if there and draw(st.integers(0, 5)) else anything)
    if kind.startswith("json."):
        key += draw(st.sampled_from(["", ".x", ".x.y", ".", ".é"]))
    symbol = draw(st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "in"]))
    scalar = kind.removeprefix("json.")
    value = {"int": ints, "float": numbers, "string": numbers | garbage | words}[scalar]
    if symbol == "in":
        listed = value.filter(lambda text: text == text.strip() and "," not in text)
        # An empty text alone would be an empty list.
        several = st.lists(listed, max_size=3).filter(lambda texts: texts != [""])
        value = several.map(lambda texts: f"[{', '.join(texts)}]")
    return {"key": key, "operator": symbol, "type": kind, "value": draw(value)}


def point(draw: st.DrawFn) -> dict[str, float]:
    return {"latitude": draw(latitudes), "longitude": draw(longitudes)}


def times() -> st.SearchStrategy[str | None]:
    return st.none() | st.sampled_from(
        [
            "2023-11-14T22:13:19Z",
            "2023-11-14T22:13:20Z",
            "2023-11-14T22:13:20.000001Z",
            "2023-11-14T22:13:20.0000005Z",
            "2023-11-14T22:13:20.5Z",
            "2023-11-14T22:13:20.999999999Z",
            "2023-11-14T22:13:21Z",
        ]
    )


@st.composite
def filters(draw: st.DrawFn, kept: list[Kept]) -> istore.BaseInferenceFilter:
    asked: dict[str, Any] = {}
    for part in draw(st.sets(st.sampled_from(range(7)), max_size=2)):
        if part == 0:
            asked["inference_action_filter"] = draw(st.sampled_from(["predict", "detect"]))
        elif part == 1:
            asked["data_hash_filter"] = draw(st.sampled_from(["h", "i", ""]))
        elif part == 2:
            asked["data_source_filter"] = draw(st.sampled_from(["camera", "Camera", ""]))
        elif part == 3:
            asked["time_window_filter"] = {"start": draw(times()), "end": draw(times())}
        elif part == 4:
            asked["metadata_filter"] = draw(
                st.lists(metadata_filters(kept), min_size=1, max_size=2)
            )
        elif part == 5:
            location: dict[str, Any] = {}
            if draw(st.booleans()):
                radius = draw(st.sampled_from([0.5, 200.0, 5_000_000.0, 15_000_000.0, 3e7]))
                location["gps_coordinates_circle"] = {"center": point(draw), "radius": radius}
            if draw(st.booleans()):
                corners = {"p1": point(draw), "p2": point(draw)}
                location["gps_coordinates_rectangle"] = corners
            asked["location_filter"] = location
        else:
            asked["deconstructed_inference_filter"] = {
                "labels": draw(st.none() | st.lists(labels, max_size=2)),
                "minimum_score": draw(st.none() | scores),
                "maximum_score": draw(st.none() | scores),
            }
    return istore.BaseInferenceFilter.model_validate(asked)


pages = st.builds(
    lambda sort, direction, limit, offset: istore.Pagination.model_validate(
        {"sort": sort, "direction": direction, "limit": limit, "offset": offset}
    ),
    st.sampled_from([None, "created_at", "label", "score"]),
    st.sampled_from([None, "asc", "desc"]),
    st.none() | st.integers(0, 5),
    st.none() | st.integers(0, 5),
)
stores = st.lists(
    records(), min_size=2, max_size=12, unique_by=lambda kept: kept.record.inference_id
)


@st.composite
def cases(
    draw: st.DrawFn,
) -> tuple[list[Kept], list[tuple[istore.BaseInferenceFilter, istore.Pagination]]]:
    """What is stored, and searches in it."""
    kept = draw(stores)
    return kept, draw(st.lists(st.tuples(filters(kept), pages), min_size=5, max_size=10))


model_ids = (f"model {number}" for number in count())


def fill(store: istore.Store, kept: list[Kept]) -> str:
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
    return model_id


@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=cases())
def test_sql_agrees_with_python(
    store: istore.Store,
    case: tuple[list[Kept], list[tuple[istore.BaseInferenceFilter, istore.Pagination]]],
) -> None:
    kept, asked = case
    model_id = fill(store, kept)
    for filter_, page in asked:
        try:
            passing = [each for each in kept if passes(each, filter_)]
        except UnclearError:
            continue
        request = istore.NewGetInferencesRequest(filters=filter_, pagination=page)
        descending = page.direction == "desc"
        order = in_order(passing, str(page.sort or "created_at"), descending=descending)
        start = page.offset or 0
        end = start + (50 if page.limit is None else page.limit)
        found = istore.filter_inferences(model_id, request)
        assert [each.inference_id for each in found] == order[start:end]
        assert istore.count_inferences(model_id, request) == len(passing)
