"""What metadata texts mean, and how they are compared."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import values
from pixano_cli.inference_store.errors import UnstorableError


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("string", "", ""),
        ("int", "0", 0),
        ("int", "-007", -7),
        ("int", "+5", 5),
        ("int", str(2**63), 2**63),
        ("int", "9" * 30, int("9" * 30)),
        ("int", "9" * 5000, None),
        ("int", "", None),
        ("int", "5.0", None),
        ("int", " 5", None),
        ("int", "1_0", None),
        ("int", "\u0665", None),
        ("int", "5\n", None),
        ("float", "5", 5.0),
        ("float", "-.5e+1", -5.0),
        ("float", "5.", 5.0),
        ("float", "1e400", None),
        ("float", "nan", None),
        ("float", "inf", None),
        ("float", "0x1p3", None),
        ("float", "1,5", None),
        ("float", ".", None),
    ],
)
def test_meaning_of_a_text(kind: str, text: str, value: object) -> None:
    assert values.read(kind, text) == value


@given(st.integers())
def test_any_int_is_read(value: int) -> None:
    assert values.read("int", str(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_float_is_read(value: float) -> None:
    assert values.read("float", repr(value)) == value


@given(st.sampled_from(["int", "float"]), st.text())
def test_any_text_is_a_number_or_nothing(kind: str, text: str) -> None:
    value = values.read(kind, text)
    assert value is None or (isinstance(value, (int, float)) and math.isfinite(value))


DEEP = 10**5


@given(
    st.sampled_from(["string", "int", "float", "json"]),
    st.text() | st.sampled_from(['{"a": NaN}', "[" * DEEP, '{"a":' * DEEP, "9" * 10**4]),
)
def test_no_stored_text_raises(kind: str, text: str) -> None:
    start, number, digits = values.comparable(kind, text)
    assert start == (text[: values.START] if kind == "string" else None)
    assert (number is not None) == (kind != "string" and values.read(kind, text) is not None)
    assert digits is None or number is not None
    values.leaves("k", text)


def near(number: int) -> st.SearchStrategy[int]:
    return st.integers(number - 3, number + 3)


ints = st.integers() | near(0) | near(2**53) | near(-(2**53)) | near(2**63) | near(-(10**30))
ints |= st.sampled_from([sign * 10**size for sign in (-1, 1) for size in (15, 16, 17, 308, 309)])
ints |= st.integers(1, 9).map(lambda digit: -int(str(digit) * 4300))


@given(ints, ints)
def test_numbers_and_digits_are_in_the_order_of_the_ints(one: int, other: int) -> None:
    """As databases sort them: by number, then by digits, byte by byte."""

    def key(value: int) -> tuple[float, bytes]:
        start, number, digits = values.comparable("int", str(value))
        assert start is None
        assert number is not None
        return number, (digits or "").encode()

    assert (key(one) < key(other)) == (one < other)
    assert (key(one) == key(other)) == (one == other)


@given(ints)
def test_digits_are_there_where_a_double_does_not_say_all(value: int) -> None:
    _, number, digits = values.comparable("int", str(value))
    assert (digits is None) == (abs(value) < 2**53)
    if digits is None:
        assert number == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_its_number(value: float) -> None:
    assert values.comparable("float", repr(value)) == (None, value, None)


@given(st.lists(st.integers()))
def test_written_ints_are_read(given_values: list[int]) -> None:
    text = values.write_operands("int", given_values)
    assert values.read_operand("int", "in", text) == frozenset(given_values)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_written_floats_are_read(given_values: list[float]) -> None:
    text = values.write_operands("float", given_values)
    assert values.read_operand("float", "in", text) == frozenset(given_values)


@given(st.lists(st.text()))
def test_written_strings_are_read_or_refused(given_values: list[str]) -> None:
    try:
        text = values.write_operands("string", given_values)
    except StoreError:
        assert any("," in each or each.strip() != each or not each for each in given_values)
    else:
        assert values.read_operand("string", "in", text) == frozenset(given_values)


@pytest.mark.parametrize("text", ["", "1", "[1", "1]", "[", "[a]", "[1,]", "[1 2]"])
def test_what_is_no_list_of_ints_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="is no"):
        values.read_operand("int", "in", text)


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ('{"x": {"y": 10, "z": 5}}', [("k.x.y", "int", "10"), ("k.x.z", "int", "5")]),
        ("10", [("k", "int", "10")]),
        ('"10"', [("k", "string", "10")]),
        ('{"x": 10.0}', [("k.x", "float", "10.0")]),
        ('{"x": 1e-7}', [("k.x", "float", "1e-07")]),
        ('{"x": 1, "x": 2}', [("k.x", "int", "2")]),
        ('{"x": 123456789012345678901}', [("k.x", "int", "123456789012345678901")]),
        ('{"": {"": "é"}}', [("k..", "string", "é")]),
        ('{"a\\"b": "x"}', [('k.a"b', "string", "x")]),
        ('{"\\u00e9": "x"}', [("k.é", "string", "x")]),
        ('{"x.y": 1, "x": {"z.w": 1}}', []),
        ('{"x": true, "y": null, "z": [10], "w": {}}', []),
        ("[10]", []),
        ("{'x': 1}", []),
        ('{"x": NaN}', []),
        ('{"x": "b"', []),
        ("", []),
        ('{"x": "a\\u0000"}', []),
        ('{"\\ud800": 1}', []),
        ('{"x": 1e999}', [("k.x", "float", "inf")]),
        (f'{{"{"x" * 498}": 1}}', [("k." + "x" * 498, "int", "1")]),
        (f'{{"{"x" * 499}": 1}}', []),
        (f'{{"{"é" * 400}": 1}}', []),
        (f'{{"x": {"1" * 5000}}}', []),
        ('{"x":' * 10**5 + "1" + "}" * 10**5, []),
    ],
)
def test_leaves_of_a_json(document: str, found: list[tuple[str, str, str]]) -> None:
    assert sorted(values.leaves("k", document)) == found


json_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
)
json_values = st.recursive(
    json_scalars,
    lambda inner: (
        st.dictionaries(st.sampled_from(["x", "y", "", "é", "x.y"]), inner, max_size=3)
        | st.lists(inner, max_size=2)
    ),
    max_leaves=8,
)


def scalars_in(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A second definition: each path that leads through objects to a text or a number."""
    if isinstance(value, dict):
        for each, inner in value.items():
            if "." not in each:
                yield from scalars_in(name + "." + each, inner)
    elif type(value) in (str, int, float) and "\0" not in str(value):
        yield name, value


@given(json_values)
def test_leaves_agree_with_a_second_definition(document: Any) -> None:
    found = values.leaves("k", json.dumps(document))
    kinds: dict[str, Callable[[str], Any]] = {"string": str, "int": int, "float": float}
    assert [(name, kinds[kind](text)) for name, kind, text in sorted(found)] == sorted(
        scalars_in("k", document), key=lambda each: each[0]
    )


class TestWhatCanBeStored:
    @pytest.mark.parametrize("text", ["", "a", "é" * 400, "a" * 500, "\U0001f600" * 200, "\x01\n"])
    def test_names(self, text: str) -> None:
        assert values.check_name("name", text) == values.check_text("text", text) == text

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("a\0b", "holds a NUL character, which databases cannot store"),
            ("\ud800", "holds half a surrogate pair"),
            ("a" * 501, "has 501 characters: 500 is the most"),
            ("é" * 401, "takes 802 bytes in UTF-8: 800 is the most"),
        ],
    )
    def test_what_is_no_name(self, text: str, said: str) -> None:
        with pytest.raises(UnstorableError, match=said) as caught:
            values.check_name("key", text)
        assert str(caught.value).startswith("key '")
        assert len(str(caught.value)) < 200

    def test_text_may_be_long(self) -> None:
        assert len(values.check_text("value", "é" * 10**6)) == 10**6


def test_functions_stand_in_where_sqlite_has_none() -> None:
    class Plain(sqlite3.Connection):
        """A connection to an SQLite built without mathematics, until they are given."""

        given = False

        def execute(self, sql: str, *args: object) -> sqlite3.Cursor:
            if "sin(" in sql and not self.given:
                raise sqlite3.OperationalError("no such function: sin")
            return super().execute(sql, *args)  # type: ignore[arg-type]

        def create_function(self, name: str, *args: object, **kwargs: object) -> None:
            self.given = self.given or name == "sin"
            super().create_function(name, *args, **kwargs)  # type: ignore[arg-type]

    connection = sqlite3.connect(":memory:", factory=Plain)
    values.install(connection)
    assert connection.given
    row = connection.execute("SELECT sin(0.5), cos(0.5), sin(NULL)").fetchone()
    assert row == (math.sin(0.5), math.cos(0.5), None)
    connection.close()
