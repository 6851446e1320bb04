"""Arguments of the documented functions, looked at where they come in.

A wrong one is told by its name; without this it would be told deep inside, by what failed there,
and some databases take what others refuse.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, wraps
from types import UnionType
from typing import Any, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from pixano_cli.inference_store import values
from pixano_cli.inference_store.errors import WrongArgumentError

P = ParamSpec("P")
R = TypeVar("R")

_LIKE_BYTES = (bytes, bytearray, memoryview)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function refuse arguments that are not of the types it is declared with.

    It raises WrongArgumentError then, and UnstorableError for an id or a key that not every
    database can hold.
    """
    signature = inspect.signature(function)
    name = function.__name__

    @cache
    def declared() -> dict[str, tuple[type, ...]]:
        return {each: _classes(kind) for each, kind in get_type_hints(function).items()}

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            # Python tells of too few and too many, with the function's name.
            given = {}
        for each, value in given.items():
            _check(name, each, value, declared()[each])
        return function(*args, **kwargs)

    return call


def _classes(kind: Any) -> tuple[type, ...]:
    if isinstance(kind, UnionType):
        return tuple(one for each in get_args(kind) for one in _classes(each))
    if kind is bytes:
        return _LIKE_BYTES
    return (get_origin(kind) or kind,)


def _check(function: str, name: str, value: object, classes: tuple[type, ...]) -> None:
    if not isinstance(value, classes):
        wanted = classes[0]
        hint = ""
        if issubclass(wanted, BaseModel):
            hint = f": make one with inference_store.{wanted.__name__}(...)"
        names = " or ".join(_shown(each) for each in classes if each not in _LIKE_BYTES[1:])
        raise WrongArgumentError(
            f"{function}: {name} has to be {names}, not {_shown(type(value))}{hint}"
        )
    if isinstance(value, str) and classes == (str,):
        values.check_text(name, value)


def _shown(kind: type) -> str:
    return "None" if kind is type(None) else kind.__name__
