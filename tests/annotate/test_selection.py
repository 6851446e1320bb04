"""Filters as people write them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from operator import eq, ge, gt, le, lt, ne
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.annotate.selection import (
    Comparison,
    Filters,
    looks_like,
    read_filters,
    read_meta,
    read_models,
    read_near,
    read_time,
    read_within,
    type_meant,
    whole_operand,
)
from pixano_cli.errors import UsageError
from pixano_cli.inference_store import models
from pixano_cli.inference_store.database import Store, open_store
from pixano_cli.inference_store.models import (
    BaseInferenceFilter,
    MetadataFilterType,
    NewRegisterModelRequest,
    TaskType,
)
from pixano_cli.inference_store.records import Record, insert_records
from pixano_cli.inference_store.register import put_model
from pixano_cli.inference_store.times import read_nanoseconds

AT = datetime(2024, 6, 15, 12, 0, tzinfo=UTC)
OPERATORS = ("=", "!=", ">", ">=", "<", "<=")
TYPES = [each.value for each in MetadataFilterType]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


def record(model_id: str, **metadata: tuple[str, str]) -> Record:
    return Record(
        model_id=model_id,
        inference_id="one",
        task_type="Object Detection",
        inference_action="detect",
        data_hash="0" * 64,
        data_size=1,
        elements=[],
        metadata=metadata,
    )


def fill(store: Store, model_id: str = "m", **metadata: tuple[str, str]) -> None:
    with store.write() as connection:
        put_model(
            connection,
            NewRegisterModelRequest(
                model_id=model_id, project_id="p", task_type=TaskType.OBJECT_DETECTION
            ),
        )
        insert_records(connection, [record(model_id, **metadata)])


def test_no_filter_is_the_filter_of_everything() -> None:
    assert Filters().is_empty
    assert read_filters(Filters()) == BaseInferenceFilter()


@pytest.mark.parametrize(
    "given",
    [
        {"model_id": ("a",)},
        {"label": ("a",)},
        {"min_score": 0.0},
        {"max_score": 0.0},
        {"since": "1d"},
        {"until": "1d"},
        {"meta": ("a=b",)},
        {"near": "0,0,0"},
        {"within": "0,0,0,0"},
        {"source": ""},
        {"hash": ""},
        {"action": "detect"},
    ],
)
def test_any_option_is_a_filter(given: dict[str, Any]) -> None:
    assert not Filters(**given).is_empty
    if "model_id" not in given:
        assert read_filters(Filters(**given), at=AT) != BaseInferenceFilter()


def test_all_filters_together() -> None:
    read = read_filters(
        Filters(
            label=("cat", "dog"),
            min_score=0.25,
            since="2024-05-31",
            until="2024-06-01T10:00:00+02:00",
            meta=("width>500", 'place="Paris"'),
            near="48.85,2.35,1000",
            source="camera",
            hash="ab" * 32,
            action="detect",
        )
    )
    assert read == BaseInferenceFilter(
        inference_action_filter="detect",
        data_hash_filter="ab" * 32,
        data_source_filter="camera",
        time_window_filter=models.TimeWindowFilter(
            start="2024-05-31T00:00:00.000000Z", end="2024-06-01T08:00:00.000000Z"
        ),
        metadata_filter=[
            models.MetadataFilter(
                key="width",
                operator=models.MetadataFilterOperator.GREATER,
                type=MetadataFilterType.INT,
                value="500",
            ),
            models.MetadataFilter(
                key="place",
                operator=models.MetadataFilterOperator.EQUAL,
                type=MetadataFilterType.STRING,
                value="Paris",
            ),
        ],
        location_filter=models.GeolocationFilter(
            gps_coordinates_circle=models.GeoCircle(
                center=models.GeoPoint(latitude=48.85, longitude=2.35), radius=1000
            )
        ),
        deconstructed_inference_filter=models.DeconstructedInferenceFilter(
            labels=["cat", "dog"], minimum_score=0.25
        ),
    )


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("key=value", ("key", None, "=", "value")),
        ("key!=v", ("key", None, "!=", "v")),
        ("key>5", ("key", None, ">", "5")),
        ("key>=5", ("key", None, ">=", "5")),
        ("key<5", ("key", None, "<", "5")),
        ("key<=-5.5e3", ("key", None, "<=", "-5.5e3")),
        ("key in [a,b]", ("key", None, "in", "[a,b]")),
        ("key in[]", ("key", None, "in", "[]")),
        ("  key  =  some text  ", ("key", None, "=", "some text")),
        ("key:int=5", ("key", "int", "=", "5")),
        ("key:string = 5", ("key", "string", "=", "5")),
        ("a.b:json.float>0.5", ("a.b", "json.float", ">", "0.5")),
        ("a.b:json.string in [x, y]", ("a.b", "json.string", "in", "[x, y]")),
        ("key=", ("key", None, "=", "")),
        ('key="5"', ("key", "string", "=", "5")),
        ('key=" =é\\u00e9\\" "', ("key", "string", "=", ' =éé" ')),
        ('key:int="5"', ("key", "int", "=", "5")),
        ('key="half', ("key", None, "=", '"half')),
        ("key=a in [b]", ("key", None, "=", "a in [b]")),
        ("with space=1", ("with space", None, "=", "1")),
        ("key:other=1", ("key:other", None, "=", "1")),
        ("url=http://x/?a=b", ("url", None, "=", "http://x/?a=b")),
        ("line=one\ntwo", ("line", None, "=", "one\ntwo")),
        ("x in y=3", ("x in y", None, "=", "3")),
    ],
)
def test_meta_is_read(text: str, meant: tuple[str, str | None, str, str]) -> None:
    assert read_meta(text) == meant


@pytest.mark.parametrize("text", ["", "key", "=5", ">5", "key in a,b", "in [a]", "key ~ 5"])
def test_meta_of_no_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--meta .* is no comparison: write key=value"):
        read_meta(text)


def test_two_equal_signs_are_not_taken_for_a_value() -> None:
    with pytest.raises(UsageError, match="--meta 'key==5': write one ="):
        read_meta("key==5")
    assert read_meta('key="=5"') == Comparison("key", "string", "=", "=5")


# Keys that no operator, type or blank at an end can be mistaken in.
keys = (
    st.text(st.characters(exclude_characters="=!<>:\0", exclude_categories=["Cs"]), min_size=1)
    .map(lambda text: "k" + text.strip() + "k")
    .filter(lambda key: " in" not in " ".join(key.split()))
)


@given(keys, st.sampled_from([None, *TYPES]), st.sampled_from(OPERATORS), st.text())
def test_any_text_can_be_compared_with_in_quotes(
    key: str, kind: str | None, operator: str, value: str
) -> None:
    quoted = '"' + "".join(f"\\u{unit:04x}" for unit in _utf16(value)) + '"'
    written = f"{key}{'' if kind is None else ':' + kind} {operator} {quoted}"
    assert read_meta(written) == (key, kind or "string", operator, value)


def _utf16(text: str) -> list[int]:
    encoded = text.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(encoded[at : at + 2]) for at in range(0, len(encoded), 2)]


@given(keys, st.sampled_from(OPERATORS), st.integers() | st.floats(allow_nan=False))
def test_numbers_are_compared_as_what_they_look_like(
    key: str, operator: str, number: int | float
) -> None:
    read = read_meta(f"{key}{operator}{number}")
    assert (read.key, read.operator, read.value) == (key, operator, str(number))
    if abs(number) < float("inf"):
        assert looks_like(operator, read.value) == type(number).__name__


@pytest.mark.parametrize(
    ("operator", "value", "kind"),
    [
        ("=", "5", "int"),
        ("=", "-0", "int"),
        ("=", "5.0", "float"),
        ("=", "1e400", "string"),
        ("=", "nan", "string"),
        ("=", "five", "string"),
        ("=", "", "string"),
        ("in", "[1, 2]", "int"),
        ("in", "[1, 2.5]", "float"),
        ("in", "[1, x]", "string"),
        ("in", "[]", "string"),
    ],
)
def test_types_are_guessed(operator: str, value: str, kind: str) -> None:
    assert looks_like(operator, value) == kind


@pytest.mark.parametrize(
    ("looks", "stored", "meant"),
    [
        ("int", [], "int"),
        ("int", ["int", "float", "string"], "int"),
        ("int", ["float", "string"], "float"),
        ("int", ["string"], "string"),
        ("int", ["json.int", "json.string"], "json.int"),
        ("float", [], "float"),
        ("float", ["int"], "float"),
        ("float", ["int", "string"], "string"),
        ("float", ["json.float", "string"], "json.float"),
        ("string", [], "string"),
        ("string", ["int"], "string"),
        ("string", ["json.string", "json.int"], "json.string"),
    ],
)
def test_the_stored_type_is_meant(looks: str, stored: list[str], meant: str) -> None:
    kinds = [MetadataFilterType(each) for each in stored]
    assert type_meant(looks, kinds).value == meant


COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": eq,
    "!=": ne,
    ">": gt,
    ">=": ge,
    "<": lt,
    "<=": le,
}


@given(
    st.integers(-20, 20),
    st.sampled_from(OPERATORS),
    st.floats(-20, 20) | st.integers(-40, 40).map(lambda number: number / 2),
)
def test_integers_are_compared_with_fractions(number: int, operator: str, other: float) -> None:
    whole = whole_operand(operator, repr(other))
    if whole is None:
        assert operator in ("=", "!=")
        assert not other.is_integer()
    else:
        assert COMPARE[operator](number, int(whole)) == COMPARE[operator](number, other)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("width>5.5", "int", "5"),
        ("width>=5.5", "int", "6"),
        ("width=5.0", "int", "5"),
        ("width=5.5", "float", "5.5"),
        ("width:float>5.5", "float", "5.5"),
        ("width=wide", "string", "wide"),
        ("exposure>5.5", "float", "5.5"),
    ],
)
def test_a_fraction_is_compared_with_stored_integers(
    store: Store, text: str, kind: str, value: str
) -> None:
    fill(store, width=("int", "10"), exposure=("float", "5.5"))
    filters = read_filters(Filters(meta=(text,)), store)
    assert filters.metadata_filter is not None
    assert (filters.metadata_filter[0].type, filters.metadata_filter[0].value) == (kind, value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("serial=12", "string"),
        ("exposure>5", "float"),
        ("width>5", "int"),
        ("exif.iso>=100", "json.int"),
        ("exif.gain>1", "json.float"),
        ("exif.lens=zoom", "json.string"),
        ("exif.iso:int=100", "int"),
        ("new=1", "int"),
    ],
)
def test_types_come_from_the_store(store: Store, text: str, kind: str) -> None:
    exif = ("json", '{"iso": 100, "gain": 1.5, "lens": "zoom"}')
    fill(
        store,
        serial=("string", "12"),
        exposure=("float", "5.5"),
        width=("int", "10"),
        exif=exif,
    )
    filters = read_filters(Filters(meta=(text,)), store)
    assert filters.metadata_filter is not None
    assert filters.metadata_filter[0].type == kind


def test_models_are_those_named_or_all(store: Store) -> None:
    assert read_models(store, []) == []
    fill(store, "b")
    fill(store, "a")
    assert read_models(store, []) == ["a", "b"]
    assert read_models(store, ["b", "b"]) == ["b"]
    with pytest.raises(UsageError, match=r"--model-id: store .* has no model 'c': it has a, b"):
        read_models(store, ["a", "c"])


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", AT - timedelta(seconds=90)),
        ("30m", AT - timedelta(minutes=30)),
        ("12h", AT - timedelta(hours=12)),
        ("7d", AT - timedelta(days=7)),
        ("2w", AT - timedelta(days=14)),
        ("2024-05-31", datetime(2024, 5, 31, tzinfo=UTC)),
        ("2024-05-31T10:00:00Z", datetime(2024, 5, 31, 10, tzinfo=UTC)),
        ("2024-05-31 10:00:00.25+02:00", datetime(2024, 5, 31, 8, 0, 0, 250_000, tzinfo=UTC)),
        ("2024-05-31T10:00-05:30", datetime(2024, 5, 31, 15, 30, tzinfo=UTC)),
        ("0001-01-01", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_are_read(text: str, moment: datetime) -> None:
    wanted = moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    assert read_time("--since", text, AT) == wanted


def test_a_date_is_a_whole_day() -> None:
    day = read_filters(Filters(since="2024-05-31", until="2024-05-31")).time_window_filter
    assert day is not None
    assert (day.start, day.end) == ("2024-05-31T00:00:00.000000Z", "2024-05-31T23:59:59.999999Z")


@given(st.datetimes(timezones=st.timezones() | st.just(UTC)))
def test_any_time_with_its_zone_is_read_exactly(moment: datetime) -> None:
    try:
        wanted = moment.astimezone(UTC)
    except OverflowError:
        return
    since = wanted - datetime(1970, 1, 1, tzinfo=UTC)
    read = read_time("--since", wanted.isoformat(), AT)
    assert read_nanoseconds(read) == since // timedelta(microseconds=1) * 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2024-05-31T10:00:00",
        "2024-13-01",
        "7",
        "7y",
        "-7d",
        "9" * 30 + "d",
        "1.5d",
    ],
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--until .*: write a date \(2024-05-31, in UTC\)"):
        read_time("--until", text, AT)


def test_places_are_read() -> None:
    circle = read_near("-33.8, 151.2, 500")
    assert (circle.center.latitude, circle.center.longitude, circle.radius) == (-33.8, 151.2, 500)
    corners = read_within("1,2,-3,4.5")
    assert corners.p1 == models.GeoPoint(latitude=1, longitude=2)
    assert corners.p2 == models.GeoPoint(latitude=-3, longitude=4.5)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"near": "1,2"}, "--near '1,2': numbers are wanted, as LAT,LON,METRES"),
        ({"near": "1,2,x"}, "--near .*: numbers are wanted"),
        ({"near": "1,2,nan"}, "--near .*: numbers are wanted"),
        ({"near": "1,2,-1"}, "--near .*: the radius in metres cannot be negative"),
        ({"near": "91,2,1"}, "--near .*no point on the globe"),
        ({"within": "1,2,3"}, "--within .*: numbers are wanted, as LAT,LON,LAT,LON"),
        ({"within": "1,2,3,181"}, "--within .*no point on the globe"),
        ({"min_score": float("nan")}, "--min-score nan: a number is wanted"),
        ({"max_score": float("inf")}, "--max-score inf: a number is wanted"),
        ({"action": "guess"}, "--action guess: one of detect, embed, predict"),
        ({"meta": ("a:int=b",)}, "--meta 'a:int=b': .* is no int"),
        ({"meta": ("a:int in [1,b]",)}, "--meta .*'b' is no int"),
        ({"meta": (f"{'k' * 501}=1",)}, "--meta .*501 characters"),
        ({"label": ("\udce9",)}, "--label .*surrogate"),
        ({"source": "a\0"}, "--source .*NUL"),
        ({"model_id": ("\udce9",)}, "--model-id .*surrogate"),
    ],
)
def test_errors_name_the_option(filters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_filters(Filters(**filters))
