"""Metadata: attached, replaced, removed, and mapped from values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError

from .requests import MODEL_ID, create, found


def attach(key: str, value: str, kind: str = "string", inference_id: str = "one") -> None:
    request = istore.NewExtendedMetadataRequest(
        key=key, type=istore.MetadataType(kind), value=value
    )
    created = istore.create_metadata(MODEL_ID, inference_id, request)
    assert created == istore.Metadata(key=key, type=kind, value=value)


def test_metadata_is_sorted_and_unique_by_key(store: istore.Store) -> None:
    before = create(metadata={"b": ("string", "old")})
    attach("é", "last")
    attach("b", "7", "int")
    attach("", "empty key")
    assert [(each.key, each.type, each.value) for each in istore.get_metadata(MODEL_ID, "one")] == [
        ("", "string", "empty key"),
        ("b", "int", "7"),
        ("é", "string", "last"),
    ]
    after = istore.get_inference(MODEL_ID, "one")
    assert after is not None
    assert after.updated_at > before.updated_at
    assert after.created_at == before.created_at


def test_replaced_value_is_the_one_that_is_found(store: istore.Store) -> None:
    create(metadata={"b": ("string", "old")})
    attach("b", "new")

    def having(value: str) -> list[str]:
        return found(
            metadata_filter=[
                istore.MetadataFilter(
                    key="b",
                    operator=istore.MetadataFilterOperator.EQUAL,
                    type=istore.MetadataFilterType.STRING,
                    value=value,
                )
            ]
        )

    assert having("old") == []
    assert having("new") == ["one"]


def test_deleting_a_key(store: istore.Store) -> None:
    create(metadata={"a": ("int", "1"), "b": ("int", "2")})
    assert istore.delete_metadata(MODEL_ID, "one", "a") == "a"
    assert [each.key for each in istore.get_metadata(MODEL_ID, "one")] == ["b"]
    assert istore.delete_metadata(MODEL_ID, "one", "a") is None
    assert istore.delete_metadata(MODEL_ID, "other", "b") is None


def test_no_inference_no_metadata(store: istore.Store) -> None:
    assert istore.get_metadata(MODEL_ID, "one") == []
    with pytest.raises(StoreError, match="no inference 'one' of model 'picodet'"):
        attach("a", "x")


def test_sql_in_keys_and_values_is_data(store: istore.Store) -> None:
    hostile = "'); DROP TABLE inferences; --"
    create(hostile, [{"label": hostile}], metadata={hostile: ("string", hostile)})
    assert found(
        metadata_filter=[
            istore.MetadataFilter(
                key=hostile,
                operator=istore.MetadataFilterOperator.IN,
                type=istore.MetadataFilterType.STRING,
                value=f"[{hostile}]",
            )
        ],
        deconstructed_inference_filter=istore.DeconstructedInferenceFilter(labels=[hostile]),
    ) == [hostile]


def test_data_hash() -> None:
    assert istore.get_data_hash(b"") == hashlib.sha256(b"").hexdigest()
    assert istore.get_data_hash(b"abc").startswith("ba7816bf")


def test_values_are_mapped_to_text_with_types() -> None:
    mapped = istore.map_to_inference_store_metadata(
        {
            "data_source": "camera",
            "latitude": 48.85,
            "longitude": 2,
            "name": "x",
            "count": 3,
            "huge": 10**30,
            "ratio": 0.1,
            "nested": {"x": {"y": 10, "z": "é"}, "ok": True},
        }
    )
    assert mapped == {
        "data_source": "camera",
        "latitude": "48.85",
        "longitude": "2",
        "extended_metadata": [
            {"key": "name", "type": "string", "value": "x"},
            {"key": "count", "type": "int", "value": "3"},
            {"key": "huge", "type": "int", "value": str(10**30)},
            {"key": "ratio", "type": "float", "value": "0.1"},
            {"key": "nested", "type": "json", "value": '{"x": {"y": 10, "z": "é"}, "ok": true}'},
        ],
    }
    assert istore.map_to_inference_store_metadata({}) == {"extended_metadata": []}


@pytest.mark.parametrize(
    "value",
    [True, None, [1], b"x", float("nan"), float("inf"), {"a": float("nan")}, {"a": {1}}],
)
def test_values_without_a_type_are_refused(value: Any) -> None:
    with pytest.raises(StoreError, match="metadata 'k'") as caught:
        istore.map_to_inference_store_metadata({"k": value})
    assert "\n" not in str(caught.value)


def test_keys_are_texts() -> None:
    with pytest.raises(StoreError, match="key 1 is no text"):
        istore.map_to_inference_store_metadata({1: "x"})  # type: ignore[dict-item]


scalars = st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.text(), scalars | st.dictionaries(st.text(), scalars)))
def test_mapped_values_can_be_read_again(data: dict[str, Any]) -> None:
    mapped = istore.map_to_inference_store_metadata(data)
    requests = [
        istore.NewExtendedMetadataRequest.model_validate(each)
        for each in mapped.pop("extended_metadata")
    ]
    read: dict[str, Callable[[str], Any]] = {
        "string": str,
        "int": int,
        "float": float,
        "json": json.loads,
    }
    again = {each.key: read[each.type](each.value) for each in requests}
    assert again == {key: value for key, value in data.items() if key not in mapped}
