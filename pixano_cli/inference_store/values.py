"""Metadata values: texts with a type, and what they mean when they are compared.

An int is `[+-]?[0-9]+` of any size, compared exactly. A float is a decimal number, with or
without an exponent, compared as a double; one too large for a double means nothing. A json is
walked by a dot path through its objects. A text that is not of its type's form means nothing
and matches nothing.
"""

from __future__ import annotations

import json
import math
import operator
import re
import sqlite3
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NoReturn

from pixano_cli.errors import StoreError

Comparable = str | int | float

MATCHES = "pixano_metadata_matches"
"""Name of `matches` as a function in SQL."""

COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
IN = "in"

_INT = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def read(kind: str, text: str) -> Comparable | None:
    """Return what `text` means as a "string", "int" or "float"; None if it is not of that form."""
    if kind == "string":
        return text
    if kind == "int":
        return _int(text) if _INT.fullmatch(text) else None
    return _finite(float(text)) if _FLOAT.fullmatch(text) else None


def read_operand(kind: str, symbol: str, text: str) -> Comparable | frozenset[Comparable]:
    """Return what a filter compares with: one value, or for "in" the values of `[v1, v2]`.

    Raises:
        StoreError: If the text is not of that form.
    """
    if symbol != IN:
        return _required(kind, text)
    listed = text.strip()
    if not (len(listed) >= 2 and listed[0] == "[" and listed[-1] == "]"):
        raise StoreError(f"metadata filter value {text!r} is no list: write [v1, v2, ...]")
    inner = listed[1:-1]
    parts = inner.split(",") if inner.strip() else []
    return frozenset(_required(kind, part.strip()) for part in parts)


def write_operands(kind: str, values: list[str] | list[int] | list[float]) -> str:
    """Return the values as `[v1, v2]`, so that `read_operand` reads the same ones.

    Raises:
        StoreError: If a value is not of that kind, or cannot be told from the list around it.
    """
    texts = [str(value) for value in values]
    for text in texts:
        if not text or "," in text or text != text.strip():
            raise StoreError(
                f"{text!r} cannot stand in a list for the 'in' operator: it is empty, holds a "
                "comma, or begins or ends with a space: use one '=' filter a value"
            )
        _required(kind, text)
    return f"[{', '.join(texts)}]"


def matches(
    kind: str, key: str, value: str, asked_key: str, symbol: str, operand: str
) -> bool | None:
    """Return whether a stored value satisfies a filter; None if it is not of the filter's type.

    Args:
        kind: "int", "float", "json.string", "json.int" or "json.float".
        key: The stored key.
        value: The stored text.
        asked_key: The filter's key; for a json it is the stored key, a dot, and the path.
        symbol: One of COMPARISONS, or "in".
        operand: The filter's value, which `read_operand` takes.
    """
    scalar = kind.removeprefix("json.")
    found = read(kind, value) if scalar == kind else _in_json(scalar, value, key, asked_key)
    if found is None:
        return None
    compared = _operand(scalar, symbol, operand)
    if isinstance(compared, frozenset):
        return found in compared
    return bool(COMPARISONS[symbol](found, compared))


def install(connection: sqlite3.Connection) -> None:
    """Give a SQLite connection the functions that filters use."""
    connection.create_function(MATCHES, 6, matches, deterministic=True)
    try:
        connection.execute("SELECT sin(0), cos(0)")
    except sqlite3.OperationalError:
        # SQLite's own mathematics is an option of its build.
        for name, function in (("sin", math.sin), ("cos", math.cos)):
            connection.create_function(name, 1, _of_numbers(function), deterministic=True)


def _of_numbers(function: Callable[[float], float]) -> Callable[[object], float | None]:
    def of_number(value: object) -> float | None:
        if isinstance(value, (int, float)) and math.isfinite(value):
            return function(value)
        return None

    return of_number


_operand = lru_cache(maxsize=64)(read_operand)


def _required(kind: str, text: str) -> Comparable:
    value = read(kind, text)
    if value is None:
        raise StoreError(f"metadata filter value {text!r} is no {kind}")
    return value


def _int(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:  # More digits than Python reads.
        return None


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_refuse)


def _in_json(scalar: str, text: str, key: str, asked_key: str) -> Comparable | None:
    try:
        value = _JSON.decode(text)
    except (ValueError, RecursionError):
        return None
    for name in asked_key[len(key) :].split(".")[1:]:
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    if scalar == "string":
        return value if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if scalar == "int":
        return value if isinstance(value, int) else None
    try:
        return _finite(float(value))
    except OverflowError:
        return None
