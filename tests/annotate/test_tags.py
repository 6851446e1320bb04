"""Metadata as people write it, to be attached and removed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.annotate.tags import read_tag, read_tags
from pixano_cli.errors import UsageError
from pixano_cli.inference_store.models import Metadata, MetadataType

storable = st.characters(codec="utf-8", exclude_characters="\0")
keys = st.text(
    st.characters(codec="utf-8", exclude_characters="\0=:"), min_size=1, max_size=100
).filter(lambda key: key == key.strip() != "")


def attached(key: str, kind: str, value: str) -> Metadata:
    return Metadata(key=key, type=MetadataType(kind), value=value)


@given(keys, st.text(storable))
def test_any_text_can_be_attached_as_a_string(key: str, value: str) -> None:
    assert read_tag(f"{key}:string={value}") == attached(key, "string", value)


@given(keys, st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_what_they_look_like(key: str, number: int | float) -> None:
    kind = "int" if isinstance(number, int) else "float"
    assert read_tag(f"{key}={number!r}") == attached(key, kind, repr(number))


@given(keys, st.dictionaries(st.text(max_size=3), st.integers() | st.none()))
def test_json_is_attached_where_it_is_asked_for(key: str, document: dict[str, int]) -> None:
    text = json.dumps(document)
    assert read_tag(f"{key}:json={text}") == attached(key, "json", text)
    assert read_tag(f"{key}={text}") == attached(key, "string", text)


@pytest.mark.parametrize("text", ["", "a", "=", "=1", " =1", "\t=1"])
def test_what_has_no_key_or_no_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="KEY=VALUE or KEY:TYPE=VALUE is wanted"):
        read_tag(text)


@pytest.mark.parametrize("text", ["a:int=1.5", "a:int=", "a:float=nan", "a:json={", "a:json=NaN"])
def test_a_value_of_another_type_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"the value is no (int|float|json)"):
        read_tag(text)


def test_what_is_attached_and_what_removed() -> None:
    assert read_tags([], []) == ([], [])
    assert read_tags(["a=1", "b=x"], [" c "]) == (
        [attached("a", "int", "1"), attached("b", "string", "x")],
        ["c"],
    )


@pytest.mark.parametrize(
    ("setting", "unsetting", "said"),
    [
        (["a=1", "a=2"], [], "--set: key 'a' is named twice, by --set before"),
        (["a=1", " a =1"], [], "--set: key 'a' is named twice"),
        (["a=1"], ["a"], "--unset: key 'a' is named twice, by --set before"),
        ([], ["a", "a"], "--unset: key 'a' is named twice, by --unset before"),
        ([], [" "], "--unset ' ': a key is wanted"),
        ([], ["a\0"], "--unset: key .* NUL"),
        ([], ["\udce9"], "--unset: key .* surrogate"),
        (["a=\udce9"], [], "--set: metadata 'a': its value .* surrogate"),
        ([f"{'k' * 501}=1"], [], "--set: .* 501 characters"),
        ([], ["k" * 501], "--unset: .* 501 characters"),
    ],
)
def test_what_contradicts_itself_or_cannot_be_kept_is_refused(
    setting: list[str], unsetting: list[str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        read_tags(setting, unsetting)
