"""Metadata counted and measured, also against a second definition in plain Python."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema, statistics
from pixano_cli.inference_store.records import Record, insert_records

from .requests import MODEL_ID, create, registration
from .second_definition import meaning

model_ids = (f"model {number}" for number in count())


def put(
    store: istore.Store, metadata: Sequence[dict[str, tuple[str, str]]], model_id: str = MODEL_ID
) -> None:
    """Store an inference with each of these metadata."""
    with store.write() as connection:
        records = [
            Record(model_id, str(number), "", "detect", f"hash {number % 3}", 1, metadata=each)
            for number, each in enumerate(metadata)
        ]
        insert_records(connection, records)


def hide(store: istore.Store, *inference_ids: str) -> None:
    """Delete inferences softly."""
    table = schema.inferences
    with store.write() as connection:
        connection.execute(
            update(table).where(table.c.inference_id.in_(inference_ids)).values(deleted_at=1)
        )


def measured(
    kind: str, model_id: str = MODEL_ID, filters: dict[str, Any] | None = None, **bins: Any
) -> istore.MetadataStatistics:
    names = {"count": "bin_count", "width": "bin_width"}
    names |= {"minimum": "minimum_value", "maximum": "maximum_value"}
    request = istore.NewGetMetadataStatisticsRequest.model_validate(
        {"key": "k", "type": kind, "filters": filters}
        | {f"distribution_{names[name]}": value for name, value in bins.items()}
    )
    found = istore.get_metadata_statistics(model_id, request)
    assert found is not None
    return found


def numbers(store: istore.Store, *values: float, kind: str = "float") -> None:
    put(store, [{"k": (kind, repr(value))} for value in values])


class TestKeyTypeCounts:
    def test_counts_each_key_and_type(self, store: istore.Store) -> None:
        put(
            store,
            [
                {"a": ("int", "1"), "b": ("json", "{}")},
                {"a": ("int", "no int"), "é": ("string", "x")},
                {"a": ("string", "1")},
                {},
            ],
        )
        found = istore.get_metadata_key_type_counts(MODEL_ID)
        assert found is not None
        assert found.counts == {"a": {"int": 2, "string": 1}, "b": {"json": 1}, "é": {"string": 1}}
        assert list(found.counts) == ["a", "b", "é"]

    def test_leaves_out_hidden_inferences_and_other_models(self, store: istore.Store) -> None:
        istore.register_model_for_inference_storage(registration("other"))
        put(store, [{"a": ("int", "1")}, {"a": ("int", "2")}])
        put(store, [{"b": ("int", "1")}], "other")
        hide(store, "1")
        found = istore.get_metadata_key_type_counts(MODEL_ID)
        assert found is not None
        assert found.counts == {"a": {"int": 1}}

    def test_nothing_of_no_model_and_no_metadata(self, store: istore.Store) -> None:
        assert istore.get_metadata_key_type_counts("other") is None
        empty = istore.get_metadata_key_type_counts(MODEL_ID)
        assert empty is not None
        assert empty.counts == {}


class TestNumbers:
    def test_ten_bins_over_what_is_observed(self, store: istore.Store) -> None:
        numbers(store, *range(21), kind="int")
        found = measured("int")
        assert (found.count, found.min, found.max) == (21, 0.0, 20.0)
        assert found.distribution == {
            **{f"[{low}, {low + 2})": 2 for low in range(0, 18, 2)},
            "[18, 20]": 3,
        }
        assert next(iter(found.distribution)) == "[0, 2)"

    def test_bins_of_a_width(self, store: istore.Store) -> None:
        numbers(store, 0, 1, 2.5, 4.9, 5, 11)
        assert measured("float", width=5).distribution == {
            "[0, 5)": 4,
            "[5, 10)": 1,
            "[10, 11]": 1,
        }
        assert measured("float", width=5.5).distribution == {"[0, 5.5)": 5, "[5.5, 11]": 1}
        assert measured("float", width=100).distribution == {"[0, 11]": 6}

    def test_what_is_beyond_the_requested_range_is_counted_all_the_same(
        self, store: istore.Store
    ) -> None:
        numbers(store, -5, 0, 1, 2, 3, 10)
        found = measured("float", minimum=0, maximum=2, count=2)
        assert found.distribution == {"[0, 1)": 1, "[1, 2]": 2}
        assert (found.count, found.min, found.max) == (6, -5.0, 10.0)
        assert measured("float", minimum=2, count=2).distribution == {"[2, 6)": 2, "[6, 10]": 1}
        assert measured("float", maximum=0, width=4).distribution == {"[-5, -1)": 1, "[-1, 0]": 1}
        assert measured("float", minimum=11).distribution == {}
        assert measured("float", maximum=-6).distribution == {}
        assert measured("float", minimum=-10, maximum=20, count=1).distribution == {"[-10, 20]": 6}

    def test_one_single_value_is_one_bin(self, store: istore.Store) -> None:
        numbers(store, 0.1, 0.1)
        for bins in ({}, {"count": 3}, {"width": 0.5}, {"minimum": 0.1, "maximum": 0.1}):
            found = measured("float", **bins)
            assert (found.count, found.min, found.max) == (2, 0.1, 0.1)
            assert found.distribution == {"[0.1, 0.1]": 2}

    def test_zero_has_no_sign(self, store: istore.Store) -> None:
        numbers(store, -0.0, -1)
        for maximum in (0.0, -0.0):
            found = measured("float", minimum=-0.0, maximum=maximum)
            assert found.distribution == {"[0, 0]": 1}
            assert measured("float", maximum=maximum, count=1).distribution == {"[-1, 0]": 2}

    def test_bins_narrower_than_doubles_are_apart(self, store: istore.Store) -> None:
        above = math.nextafter(1, 2)
        numbers(store, 1, above)
        assert measured("float").distribution == {f"[1, {above!r}]": 2}

    def test_largest_and_smallest_doubles(self, store: istore.Store) -> None:
        largest = 1.7976931348623157e308
        numbers(store, -largest, 5e-324, 0.0, largest)
        found = measured("float", count=2)
        assert found.distribution == {f"[{-largest!r}, 0)": 1, f"[0, {largest!r}]": 3}
        assert (found.min, found.max) == (-largest, largest)

    def test_ints_beyond_doubles(self, store: istore.Store) -> None:
        huge = "9" * 400
        put(store, [{"k": ("int", text)} for text in ("1", "2", "3", "5", huge, f"-{huge}")])
        found = measured("int", count=2)
        assert found.distribution == {"[1, 3)": 2, "[3, 5]": 2}
        assert (found.count, found.min, found.max) == (6, -math.inf, math.inf)

    def test_only_ints_beyond_doubles(self, store: istore.Store) -> None:
        put(store, [{"k": ("int", "9" * 400)}])
        found = measured("int")
        assert (found.count, found.min, found.max) == (1, math.inf, math.inf)
        assert found.distribution == {}
        assert measured("int", minimum=0, maximum=1, count=1).distribution == {"[0, 1]": 0}

    def test_nothing_observed(self, store: istore.Store) -> None:
        put(store, [{"k": ("string", "1")}, {"k": ("float", "nan")}, {"j": ("float", "1")}])
        found = measured("float")
        assert found == istore.MetadataStatistics(count=0, distribution={}, min=None, max=None)

    def test_type_is_the_stored_one(self, store: istore.Store) -> None:
        put(store, [{"k": ("int", "1")}, {"k": ("float", "2")}, {"k": ("json", "3")}])
        assert (measured("int").count, measured("int").max) == (1, 1.0)
        assert (measured("float").count, measured("float").max) == (1, 2.0)

    def test_many_bins(self, store: istore.Store) -> None:
        numbers(store, 0, 0.5, 1)
        found = measured("float", count=statistics.MOST_BINS).distribution or {}
        assert len(found) == statistics.MOST_BINS
        assert {key: value for key, value in found.items() if value} == {
            "[0, 0.0001)": 1,
            "[0.5, 0.5001)": 1,
            "[0.9999, 1]": 1,
        }


class TestStrings:
    def test_each_value_is_counted_the_most_frequent_first(self, store: istore.Store) -> None:
        long = "x" * 199
        texts = ["b", "a", "b", "", f"{long}y", f"{long}yz", f"{long}yz", long, "b"]
        put(store, [{"k": ("string", text)} for text in texts])
        found = measured("string")
        assert found == istore.MetadataStatistics(
            count=9,
            distribution={"b": 3, f"{long}yz": 2, "": 1, "a": 1, long: 1, f"{long}y": 1},
            min=None,
            max=None,
        )
        assert list(found.distribution or {})[:3] == ["b", f"{long}yz", ""]

    def test_too_many_to_count_are_refused(
        self, store: istore.Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(store, [{"k": ("string", str(number))} for number in range(5)])
        monkeypatch.setattr(statistics, "MOST_VALUES", 5)
        assert measured("string").count == 5
        monkeypatch.setattr(statistics, "MOST_VALUES", 4)
        with pytest.raises(StoreError, match=r"too many different strings .* ask with filters"):
            measured("string")
        only = {"data_hash_filter": "hash 0"}
        assert measured("string", filters=only).distribution == {"0": 1, "3": 1}
        monkeypatch.setattr(statistics, "MOST_VALUES", 5)
        monkeypatch.setattr(statistics, "LONGEST_VALUES", 4)
        with pytest.raises(StoreError, match="too many different strings"):
            measured("string")


class TestRequests:
    @pytest.mark.parametrize(
        ("kind", "bins", "said"),
        [
            ("int", {"count": 2, "width": 2.0}, "distribution_bin_count or .*_width, not both"),
            ("int", {"count": 0}, "distribution_bin_count 0 is not in 1..10000"),
            ("int", {"count": -1}, "-1 is not in"),
            ("int", {"count": 10_001}, "10001 is not in"),
            ("int", {"count": 10**30}, "is not in"),
            ("float", {"width": 0}, "distribution_bin_width 0.0 is no width"),
            ("float", {"width": -1}, "-1.0 is no width"),
            ("float", {"width": math.nan}, "nan is no width"),
            ("float", {"width": math.inf}, "inf is no width"),
            ("float", {"width": 1e-300}, "makes more than 10000 bins from 0 to 1"),
            ("float", {"minimum": math.nan}, "distribution_minimum_value nan is no number"),
            ("float", {"maximum": math.inf}, "distribution_maximum_value inf is no number"),
            ("float", {"minimum": 2, "maximum": 1}, "2.0 is greater than .* 1.0: exchange"),
            ("string", {"count": 2}, "strings are counted one by one"),
            ("string", {"minimum": 2}, "strings are counted one by one"),
        ],
    )
    def test_contradictions_are_refused(
        self, store: istore.Store, kind: str, bins: dict[str, Any], said: str
    ) -> None:
        numbers(store, 0, 1)
        with pytest.raises(StoreError, match=said) as caught:
            measured(kind, **bins)
        assert "\n" not in str(caught.value)

    def test_unknown_model_has_none(self, store: istore.Store) -> None:
        request = istore.NewGetMetadataStatisticsRequest(
            key="k", type=istore.MetadataStatisticsType.INT
        )
        assert istore.get_metadata_statistics("other", request) is None

    def test_hidden_inferences_and_other_models_are_left_out(self, store: istore.Store) -> None:
        istore.register_model_for_inference_storage(registration("other"))
        numbers(store, 1, 2, 3)
        put(store, [{"k": ("float", "9")}], "other")
        hide(store, "1")
        assert (measured("float").count, measured("float").max) == (2, 3.0)
        assert measured("float", filters={}).count == 2
        assert measured("float", filters={"data_hash_filter": "hash 1"}).count == 0
        assert measured("float", filters={"data_hash_filter": "hash 2"}).max == 3.0
        assert measured("float", model_id="other").max == 9.0

    @pytest.mark.parametrize("text", ["a\0", "\ud800"])
    def test_what_no_database_holds_is_refused(self, store: istore.Store, text: str) -> None:
        request = istore.NewGetMetadataStatisticsRequest(
            key=text, type=istore.MetadataStatisticsType.INT
        )
        with pytest.raises(StoreError, match="cannot"):
            istore.get_metadata_statistics(MODEL_ID, request)
        with pytest.raises(StoreError, match="cannot"):
            istore.get_metadata_key_type_counts(text)

    def test_metadata_that_is_replaced_or_removed_counts_no_more(self, store: istore.Store) -> None:
        create(metadata={"k": ("int", "1")})
        new = istore.NewExtendedMetadataRequest(key="k", type=istore.MetadataType.INT, value="5")
        istore.create_metadata(MODEL_ID, "one", new)
        assert measured("int").distribution == {"[5, 5]": 1}
        istore.delete_metadata(MODEL_ID, "one", "k")
        assert measured("int").count == 0


def binned(observed: list[float], bins: dict[str, Any]) -> dict[str, int]:
    """A second definition: exact edges, each rounded once, and each value held against them."""
    finite = [value for value in observed if math.isfinite(value)]
    low = bins.get("minimum", min(finite, default=None))
    high = bins.get("maximum", max(finite, default=None))
    if low is None or high is None or low > high:
        return {}
    exact = [Fraction(low)]
    step = (
        Fraction(bins["width"])
        if "width" in bins
        else (Fraction(high) - Fraction(low)) / bins.get("count", 10)
    )
    while exact[-1] < high:
        exact.append(min(exact[-1] + step, Fraction(high)))
    edges = list(dict.fromkeys(map(float, exact)))
    edges = edges if len(edges) > 1 else edges * 2
    found = {}
    for start, end in pairwise(edges):
        last = end == edges[-1]
        shown = [repr(edge or 0.0) for edge in (start, end)]
        name = f"[{', '.join(shown)}{']' if last else ')'}".replace(".0,", ",")
        name = name.replace(".0]", "]").replace(".0)", ")")
        inside = [value for value in finite if start <= value < end or (last and value == end)]
        found[name] = len(inside)
    return found


few = st.sampled_from(
    [-5.0, -0.0, 0.0, 0.1, 0.2, 0.30000000000000004, 0.7, 1.0, 1e-9, 2**53 + 0.0, 1e300]
)
texts_of = {
    "float": few.map(repr) | st.floats(-10, 10).map(repr) | st.sampled_from(["nan", "x", "1e999"]),
    "int": st.integers(-30, 30).map(str)
    | st.sampled_from([str(2**53 + 1), "9" * 400, "-" + "9" * 400, "1.5", "+7", "007"]),
}
limits = st.none() | few | st.floats(-20, 20)


@st.composite
def requests_for_bins(draw: st.DrawFn) -> dict[str, Any]:
    bins: dict[str, Any] = {}
    minimum, maximum = draw(limits), draw(limits)
    if minimum is not None and maximum is not None:
        minimum, maximum = sorted((minimum, maximum))
    bins["minimum"], bins["maximum"] = minimum, maximum
    kind = draw(st.sampled_from(["neither", "count", "width"]))
    bins["count"] = draw(st.integers(1, 30)) if kind == "count" else None
    bins["width"] = draw(st.sampled_from([0.1, 0.3, 1.0, 7.5])) if kind == "width" else None
    return {name: value for name, value in bins.items() if value is not None}


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_agrees_with_a_second_definition(store: istore.Store, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["int", "float"]))
    texts = data.draw(st.lists(texts_of[kind], max_size=15))
    model_id = next(model_ids)
    istore.register_model_for_inference_storage(registration(model_id))
    put(store, [{"k": (kind, text)} for text in texts], model_id)
    for bins in data.draw(st.lists(requests_for_bins(), min_size=1, max_size=4)):
        chosen = data.draw(st.sampled_from([None, {}, {"data_hash_filter": "hash 1"}]))
        meant = [
            meaning(kind, text)
            for number, text in enumerate(texts)
            if not chosen or number % 3 == 1
        ]
        observed = [as_double(value) for value in meant if value is not None]
        try:
            found = measured(kind, model_id, chosen, **bins)
        except StoreError as error:
            assert "makes more than" in str(error)  # noqa: PT017
            continue
        assert found.count == len(observed)
        assert found.min == min(observed, default=None)
        assert found.max == max(observed, default=None)
        assert found.distribution == (binned(observed, bins) if observed else {})


def as_double(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(texts=["x" * 200, "x" * 201, "x" * 199])
@given(texts=st.lists(st.sampled_from(["", "a", "b", "é", "x" * 199, "x" * 200, "x" * 200 + "a"])))
def test_strings_agree_with_a_counter(store: istore.Store, texts: list[str]) -> None:
    model_id = next(model_ids)
    istore.register_model_for_inference_storage(registration(model_id))
    put(store, [{"k": ("string", text)} for text in texts], model_id)
    found = measured("string", model_id)
    assert found.count == len(texts)
    expected = sorted(Counter(texts).items(), key=lambda each: (-each[1], each[0]))
    assert list((found.distribution or {}).items()) == expected
