"""Comparisons of texts and numbers as stretches of the indexes that hold a part of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Table, and_

from pixano_cli.inference_store import values

SEVERAL = 20
"""Most values of a list that are looked up one by one, each in the order of an index."""

_Condition = ColumnElement[bool]
_Operand = values.Comparable | frozenset[values.Comparable]


class Stretch(NamedTuple):
    """A condition that a stretch of an index answers; a point is one value of its columns."""

    condition: _Condition
    is_point: bool = False


def compared(table: Table, kind: str, symbol: str, operand: _Operand) -> list[Stretch]:
    """Return stretches in one of which a value is where the comparison holds."""

    def compare(symbol: str, operand: Any) -> list[Stretch]:
        if kind == "string":
            return compared_text(table.c.start, table.c.value, symbol, operand)
        return _compared_number(table, symbol, operand)

    if not isinstance(operand, frozenset):
        return compare(symbol, operand)
    if len(operand) <= SEVERAL:
        return [stretch for each in sorted(operand) for stretch in compare("=", each)]
    return _one_of(table, kind, sorted(operand))


def _one_of(table: Table, kind: str, operands: Sequence[values.Comparable]) -> list[Stretch]:
    """Compare with many values: with lists, for SQLite takes no more than 1,000 alternatives.

    What is compared whole says by itself what is indexed of it, so two lists do for pairs.
    """
    pairs: Sequence[tuple[Any, str | None]]
    if kind == "string":
        column, whole = table.c.start, table.c.value
        pairs = [_indexed_text(each) for each in operands]
    else:
        column, whole = table.c.number, table.c.digits
        pairs = [values.comparable_number(each) for each in operands]
    plain = [indexed for indexed, rest in pairs if rest is None]
    longer = {rest: indexed for indexed, rest in pairs if rest is not None}
    found = [Stretch(column.in_(plain))] if plain else []
    if longer:
        found.append(Stretch(and_(column.in_({*longer.values()}), whole.in_(longer))))
    return found


def compared_text(
    start: ColumnElement[Any], column: ColumnElement[Any], symbol: str, operand: Any
) -> list[Stretch]:
    """Compare a text by its start, which is indexed, and where that is the same by the whole.

    Where the operand is shorter than a start, that says all.
    """
    indexed, text = _indexed_text(operand)
    return _stretches(start, symbol, indexed, None if text is None else (column, text))


def _indexed_text(operand: Any) -> tuple[str, str | None]:
    """Return what is indexed of a text, and the whole if that may say more."""
    text = values.check_text("metadata filter value", operand)
    return text[: values.START], text if len(text) >= values.START else None


def _compared_number(table: Table, symbol: str, operand: Any) -> list[Stretch]:
    """Compare a number, and where doubles cannot tell two ints apart their digits."""
    number, digits = values.comparable_number(operand)
    whole = None if digits is None else (table.c.digits, digits)
    return _stretches(table.c.number, symbol, number, whole)


def _stretches(
    column: ColumnElement[Any],
    symbol: str,
    operand: Any,
    whole: tuple[ColumnElement[Any], str] | None,
) -> list[Stretch]:
    sides = {"!=": "<>", "=": ""}.get(symbol, symbol[0])
    beyond = [Stretch(values.COMPARISONS[side](column, operand)) for side in sides]
    if whole is not None:
        same = values.COMPARISONS[symbol](*whole)
        return [*beyond, Stretch(and_(column == operand, same))]
    if symbol == "=":
        return [Stretch(column == operand, is_point=True)]
    if symbol == "!=":
        return beyond
    return [Stretch(values.COMPARISONS[symbol](column, operand))]
