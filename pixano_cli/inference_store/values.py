"""Metadata values: texts with a type, and what they mean when they are compared.

An int is `[+-]?[0-9]+` of any size, compared exactly. A float is a decimal number, with or
without an exponent, compared as a double; one too large for a double means nothing. A json is
walked by a dot path through its objects. A text that is not of its type's form means nothing
and matches nothing.

Databases compare columns that are made here, and index them: of a string its start, of an int
or a float a number, and of an int that a double does not hold exactly its digits, written so
that texts sort as the numbers do.
"""

from __future__ import annotations

import json
import math
import operator
import re
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from pixano_cli.errors import StoreError
from pixano_cli.inference_store.errors import UnstorableError

Comparable = str | int | float

LONGEST_NAME = 500
"""Most characters of a text that databases index whole: ids, keys, labels."""

LARGEST_NAME = 800
"""Most bytes of it in UTF-8: an entry of PostgreSQL's indexes holds 2,700, and three texts."""

START = 200
"""Characters of a text's start, which is indexed: entries of PostgreSQL's indexes are short."""

EXACT = 2**53
"""From here on up a double does not hold every int."""

_LENGTH_DIGITS = 4  # Python reads ints of up to 4,300 digits.
_COMPLEMENT = str.maketrans("0123456789", "9876543210")

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


class Leaf(NamedTuple):
    """A scalar inside a json: its name for filters, its type, and its value as text."""

    name: str
    type: str
    value: str


def comparable(kind: str, text: str) -> tuple[str | None, float | None, str | None]:
    """Return what databases compare of a value: its start, its number, its digits.

    What its type has none of is None, and so is all of a text that is not of its type's form.
    """
    if kind == "string":
        return text[:START], None, None
    meaning = read(kind, text) if kind in ("int", "float") else None
    return None, *((None, None) if meaning is None else comparable_number(meaning))


def comparable_number(number: Comparable) -> tuple[float, str | None]:
    """Return what databases compare of a number: a double, and its digits if needed."""
    if isinstance(number, int):
        return _double(number), digits(number)
    return float(number), None


def digits(number: int) -> str | None:
    """Write an int that a double may not hold so that texts sort by code point as the ints do.

    A sign, the count of digits, and the digits; for a negative one all of it is turned around.
    None for an int that a double holds.
    """
    if abs(number) < EXACT:
        return None
    shown = str(abs(number))
    written = f"{len(shown):0{_LENGTH_DIGITS}}{shown}"
    return f"1{written}" if number > 0 else f"0{written.translate(_COMPLEMENT)}"


def leaves(key: str, text: str) -> list[Leaf]:
    """Return the scalars that a json's paths lead to; none if it is no JSON.

    Paths lead through objects only, and not through names with a dot in them, which a path
    cannot tell from two. What databases cannot hold or index is left out.
    """
    try:
        document = _JSON.decode(text)
    except (ValueError, RecursionError):
        return []
    found = []
    waiting: list[tuple[str, Any]] = [(key, document)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            room = LONGEST_NAME - len(name)
            waiting += [
                (f"{name}.{each}", value[each])
                for each in value
                if "." not in each and len(each) < room
            ]
            continue
        scalar = _scalar(value)
        if scalar and not _unstorable(name + scalar[1]) and not _too_long(name):
            found.append(Leaf(name, *scalar))
    return found


def _scalar(value: object) -> tuple[str, str] | None:
    if isinstance(value, str):
        return "string", value
    if isinstance(value, float):
        return "float", repr(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return "int", str(value)
    return None


def is_of(kind: str, text: str) -> bool:
    """Return whether a text is of the form of a type: string, int, float or json."""
    if kind != "json":
        return read(kind, text) is not None
    try:
        _JSON.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def check_text(what: str, value: str) -> str:
    """Return a text that every database can hold.

    Args:
        what: What it is, for the message.
        value: The text.

    Raises:
        UnstorableError: If it holds a NUL or half a surrogate pair.
    """
    if reason := _unstorable(value):
        raise UnstorableError(f"{what} {value[:50]!r} holds {reason}, which databases cannot store")
    return value


def check_ids(model_id: str, inference_id: str) -> None:
    """Refuse ids to look for that no database holds, which not every one says.

    Raises:
        UnstorableError: If one holds a NUL or half a surrogate pair.
    """
    check_text("model_id", model_id)
    check_text("inference_id", inference_id)


def check_name(what: str, value: str) -> str:
    """Return a text that every database can hold and index whole.

    Args:
        what: What it is, for the message.
        value: The text.

    Raises:
        UnstorableError: If it holds a NUL or half a surrogate pair, or is too long.
    """
    if reason := _too_long(check_text(what, value)):
        raise UnstorableError(f"{what} {value[:50]!r}... {reason} is the most")
    return value


def _too_long(name: str) -> str | None:
    if len(name) > LONGEST_NAME:
        return f"has {len(name)} characters: {LONGEST_NAME}"
    if (size := len(name.encode())) > LARGEST_NAME:
        return f"takes {size} bytes in UTF-8: {LARGEST_NAME}"
    return None


def _unstorable(text: str) -> str | None:
    if "\0" in text:
        return "a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half a surrogate pair"
    return None


def install(connection: sqlite3.Connection) -> None:
    """Give a SQLite connection the functions that filters use."""
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


def _double(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_refuse)
