"""What metadata texts mean, and how they are compared."""

from __future__ import annotations

import math
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import values


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


@given(
    st.sampled_from(["int", "float", "json.string", "json.int", "json.float"]),
    st.text() | st.sampled_from(['{"a": NaN}', "[" * 10**5, '{"a":' * 10**5, "9" * 10**4]),
    st.sampled_from(["=", "!=", "<", "in"]),
)
def test_no_stored_text_raises(kind: str, text: str, symbol: str) -> None:
    operand = "[1]" if symbol == "in" else "1"
    assert values.matches(kind, "a", text, "a.a", symbol, operand) in (None, True, False)


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
    ("kind", "document", "path", "operand", "expected"),
    [
        ("json.int", '{"x": {"y": 10, "z": 5}}', "k.x.y", "10", True),
        ("json.int", "10", "k", "10", True),
        ("json.int", '{"x": 10.0}', "k.x", "10", None),
        ("json.int", '{"x": true}', "k.x", "1", None),
        ("json.int", '{"x": "10"}', "k.x", "10", None),
        ("json.int", '{"x": 123456789012345678901}', "k.x", "123456789012345678901", True),
        ("json.int", "[10]", "k.0", "10", None),
        ("json.float", '{"x": 10}', "k.x", "1e1", True),
        ("json.float", '{"x": 1e999}', "k.x", "1", None),
        ("json.float", '{"x": 1' + "0" * 400 + "}", "k.x", "1", None),
        ("json.float", '{"x": null}', "k.x", "1", None),
        ("json.string", '{"": {"": "é"}}', "k..", "é", True),
        ("json.string", '{"a\\"b": "x"}', 'k.a"b', "x", True),
        ("json.string", '{"\\u00e9": "x"}', "k.é", "x", True),
        ("json.string", '{"x": "b"}', "k.x", "a", False),
        ("json.string", '{"x": "b"', "k.x", "b", None),
        ("json.string", '{"x": "b"}', "k.x.y", "b", None),
    ],
)
def test_walking_a_json(
    kind: str, document: str, path: str, operand: str, expected: bool | None
) -> None:
    assert values.matches(kind, "k", document, path, "=", operand) is expected


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
