"""Giving several commands the same options, which each of them takes as one value."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Option(NamedTuple):
    """An option as typer reads it: the annotation of a parameter, and its default."""

    annotation: Any
    default: Any = None


def in_place_of(
    name: str, options: Mapping[str, Option], make: Callable[..., Any], command: Callable[..., T]
) -> Callable[..., T]:
    """Return a command with options in place of one parameter.

    Args:
        name: The parameter.
        options: The options by the name of their parameter, in the order of the help.
        make: Given the options by name, makes the value that the command takes.
        command: The command.
    """
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.name != name:
            parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
            continue
        parameters += [
            inspect.Parameter(
                each, parameter.KEYWORD_ONLY, default=option.default, annotation=option.annotation
            )
            for each, option in options.items()
        ]

    def with_options(**given: Any) -> T:
        taken = {each: given.pop(each) for each in options}
        return command(**{name: make(**taken)}, **given)

    with_options.__name__ = command.__name__
    with_options.__doc__ = command.__doc__
    with_options.__annotations__ = {}
    with_options.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters
    )
    return with_options
