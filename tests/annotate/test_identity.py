"""The identity of work: equal askings have equal ids, and nothing else has."""

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pixano_cli.annotate.identity import Request, canonical_json, inference_id

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
parameters = st.dictionaries(st.text(min_size=1), values, max_size=4)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


def request(**changes: Any) -> Request:
    fields: dict[str, Any] = {
        "task": "image_zero_shot_detection",
        "provider": "local",
        "model": "m",
        "model_digest": "d",
        "parameters": {"box_threshold": 0.05, "classes": ["cat"]},
    }
    return Request(**(fields | changes))


def reordered(value: Any) -> Any:
    """Return an equal value whose mappings have their keys in another order."""
    if isinstance(value, dict):
        return {key: reordered(each) for key, each in reversed(value.items())}
    if isinstance(value, list):
        return [reordered(each) for each in value]
    return value


def with_floats(value: Any) -> Any:
    """Return an equal value whose whole numbers are floats."""
    if isinstance(value, bool) or not isinstance(value, (int, list, dict)):
        return value
    if isinstance(value, int):
        return float(value)
    if isinstance(value, list):
        return [with_floats(each) for each in value]
    return {key: with_floats(each) for key, each in value.items()}


def typed(value: Any) -> Any:
    """Return a value that compares equal only to what means the same: True is not 1."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, list):
        return tuple(typed(each) for each in value)
    if isinstance(value, dict):
        return frozenset((key, typed(each)) for key, each in value.items())
    return value


@given(values)
def test_equal_values_have_one_canonical_form(value: Any) -> None:
    assert canonical_json(value) == canonical_json(reordered(value))
    assert canonical_json(value) == canonical_json(with_floats(value))


@given(values, values)
def test_other_values_have_another_canonical_form(one: Any, other: Any) -> None:
    assert (canonical_json(one) == canonical_json(other)) == (typed(one) == typed(other))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_equals_nothing_has_no_identity(value: float) -> None:
    with pytest.raises(ValueError, match="has no identity"):
        canonical_json({"score": [value]})


@given(parameters, parameters)
def test_the_key_follows_the_parameters(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = typed(one) == typed(other)
    assert (request(parameters=one).key == request(parameters=other).key) == same


@pytest.mark.parametrize("field", ["task", "provider", "model", "model_digest"])
def test_every_field_is_part_of_the_key(field: str) -> None:
    assert request(**{field: "other"}).key != request().key


def test_the_key_is_fixed_for_ever() -> None:
    """A store made by an earlier version must still be understood."""
    expected = "d65a7e0a3e8977a4105315eea009e3766ebdc7b8a2ef31db2252fbda4ca0b816"
    assert request().key == expected


asked = st.tuples(
    digests,
    digests,
    st.none() | st.lists(st.dictionaries(st.sampled_from(["box", "points"]), values), max_size=3),
    st.none() | st.integers(0, 10**6),
)


@given(asked, asked)
def test_an_inference_id_follows_from_all_of_the_work(one: Any, other: Any) -> None:
    assume(one != other or typed(list(one)) == typed(list(other)))
    assert (inference_id(*one) == inference_id(*other)) == (typed(list(one)) == typed(list(other)))


@given(digests, digests)
def test_no_prompts_and_an_empty_list_of_prompts_differ(key: str, content: str) -> None:
    assert inference_id(key, content, None) != inference_id(key, content, [])


@given(digests, digests, st.integers(0, 10**6))
def test_a_frame_is_not_its_video(key: str, content: str, frame: int) -> None:
    assert inference_id(key, content, None, frame) != inference_id(key, content)
