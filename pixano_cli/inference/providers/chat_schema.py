"""The part of JSON Schema in which the shape of an answer can be asked for and checked.

Servers that take a schema know different parts of the language, and none says which keywords it
passed over; so every answer is checked here, and a schema with a keyword that is not checked is
refused. Source: JSON Schema 2020-12, validation vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "integer": lambda value: (
        not isinstance(value, bool)
        and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
    ),
}
_REMARKS = frozenset({"$schema", "$id", "title", "description", "examples", "default", "format"})
_CHECKED = frozenset(
    {
        *("type", "enum", "const", "anyOf", "properties", "required", "additionalProperties"),
        *("items", "minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum"),
    }
)
_BOUNDS: tuple[tuple[str, str, str], ...] = (
    ("array", "minItems", "maxItems"),
    ("string", "minLength", "maxLength"),
    ("number", "minimum", "maximum"),
)


def check_schema(schema: Any, place: str = "schema") -> None:
    """Check that `check` understands a schema.

    Raises:
        ValueError: If it is none, or has a keyword that is not checked.
    """
    if not isinstance(schema, Mapping):
        raise ValueError(f"{place} is no object")
    if unknown := sorted(set(schema) - _CHECKED - _REMARKS):
        raise ValueError(f"{place} has {unknown[0]!r}, which answers are not checked for")
    for name in _types(schema):
        if name not in _TYPES:
            raise ValueError(f"{place} has the type {name!r}, which is none")
    for name, inner in schema.get("properties", {}).items():
        check_schema(inner, f"{place}.{name}")
    if "items" in schema:
        check_schema(schema["items"], f"{place}.items")
    for index, inner in enumerate(schema.get("anyOf", ())):
        check_schema(inner, f"{place}.anyOf.{index}")
    if isinstance(schema.get("additionalProperties"), Mapping):
        check_schema(schema["additionalProperties"], f"{place}.additionalProperties")


def check(value: Any, schema: Mapping[str, Any], place: str = "the answer") -> None:
    """Check that a value has the shape of a schema that `check_schema` has passed.

    Raises:
        ValueError: If it has not, with the place and what is wrong there.
    """
    names = _types(schema)
    if names and not any(_TYPES[name](value) for name in names):
        raise ValueError(f"{place} is not of type {' or '.join(names)}")
    if "enum" in schema and value not in schema["enum"]:
        raise ValueError(f"{place} is none of {', '.join(map(repr, schema['enum']))}")
    if "const" in schema and value != schema["const"]:
        raise ValueError(f"{place} is not {schema['const']!r}")
    if "anyOf" in schema:
        _check_any(value, schema["anyOf"], place)
    for kind, low, high in _BOUNDS:
        if _TYPES[kind](value):
            size = value if kind == "number" else len(value)
            if size < schema.get(low, size):
                raise ValueError(f"{place} is below its {low} of {schema[low]}")
            if size > schema.get(high, size):
                raise ValueError(f"{place} is above its {high} of {schema[high]}")
    if isinstance(value, dict):
        _check_object(value, schema, place)
    if isinstance(value, list) and "items" in schema:
        for index, each in enumerate(value):
            check(each, schema["items"], f"{place}[{index}]")


def is_strict(schema: Mapping[str, Any]) -> bool:
    """Return whether OpenAI's strict mode takes a schema: every object closed and complete."""
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
    if "items" in schema:
        inner.append(schema["items"])
    if "object" in _types(schema):
        if schema.get("additionalProperties") is not False:
            return False
        if set(schema.get("required", ())) != set(schema.get("properties", {})):
            return False
    return all(map(is_strict, inner))


def _types(schema: Mapping[str, Any]) -> list[str]:
    named = schema.get("type", [])
    return [named] if isinstance(named, str) else list(named)


def _check_any(value: Any, schemas: Any, place: str) -> None:
    faults = []
    for schema in schemas:
        try:
            check(value, schema, place)
        except ValueError as error:
            faults.append(str(error))
        else:
            return
    raise ValueError(f"{place} has none of the shapes it may have ({faults[0]})")


def _check_object(value: dict[str, Any], schema: Mapping[str, Any], place: str) -> None:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            raise ValueError(f"{place} has no {name!r}")
    more = schema.get("additionalProperties", True)
    for name, each in value.items():
        if name in known:
            check(each, known[name], f"{place}.{name}")
        elif more is False:
            raise ValueError(f"{place} has {name!r}, which was not asked for")
        elif isinstance(more, Mapping):
            check(each, more, f"{place}.{name}")
