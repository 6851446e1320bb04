"""The options that say which records are meant, the same for every command that asks.

A command takes them by one parameter, `filters: Filters`, and `@filtered`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar

import typer

from pixano_cli.annotate.selection import Filters
from pixano_cli.cli.signature import Option, in_place_of

T = TypeVar("T")

_WHICH = "Which records"
_option = partial(typer.Option, rich_help_panel=_WHICH, show_default=False)

ModelId = Annotated[
    list[str] | None,
    _option("--model-id", metavar="MODEL", help="Of this model. Repeat for more; else of any."),
]
Label = Annotated[
    list[str] | None,
    _option("--label", metavar="LABEL", help="With an object of this label. Repeat for others."),
]
MinScore = Annotated[
    float | None,
    _option("--min-score", metavar="SCORE", help="With an object of this score or more."),
]
MaxScore = Annotated[
    float | None,
    _option("--max-score", metavar="SCORE", help="With an object of this score or less."),
]
Since = Annotated[
    str | None,
    _option(
        "--since",
        metavar="TIME",
        help="Made then or later: a date (UTC), a time with its zone, or an age: 7d, 12h.",
    ),
]
Until = Annotated[
    str | None,
    _option("--until", metavar="TIME", help="Made then or before; a date is one to its end."),
]
Meta = Annotated[
    list[str] | None,
    _option(
        "--meta",
        metavar="KEY=VALUE",
        help="With such metadata; also != > >= < <= and 'KEY in [A,B]', KEY:TYPE=VALUE for "
        "another type than the stored one. Repeat for more, all of which have to hold.",
    ),
]
Near = Annotated[
    str | None,
    _option("--near", metavar="LAT,LON,METRES", help="Taken so near to a place."),
]
Within = Annotated[
    str | None,
    _option("--within", metavar="LAT,LON,LAT,LON", help="Taken between two opposite corners."),
]
Source = Annotated[str | None, _option("--source", metavar="SOURCE", help="From this data source.")]
Hash = Annotated[
    str | None, _option("--hash", metavar="SHA256", help="On the input with this sha256.")
]
Action = Annotated[
    str | None,
    _option(
        "--action",
        metavar="ACTION",
        help="Answers to this: detect, embed, predict or predict_proba.",
    ),
]

_OPTIONS: dict[str, Any] = {
    "model_id": ModelId,
    "label": Label,
    "min_score": MinScore,
    "max_score": MaxScore,
    "since": Since,
    "until": Until,
    "meta": Meta,
    "near": Near,
    "within": Within,
    "source": Source,
    "hash": Hash,
    "action": Action,
}


_REPEATED = ("model_id", "label", "meta")

ABOUT_OBJECTS = ("label", "min_score", "max_score", "action")
"""The filters that are senseless where records have no objects."""


def filtered(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command the options of all filters in place of its parameter `filters`."""
    return filtered_but()(command)


def filtered_but(*left_out: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Give a command the options of the other filters in place of its parameter `filters`."""
    taken = {name: Option(each) for name, each in _OPTIONS.items() if name not in left_out}
    return partial(in_place_of, "filters", taken, _filters)


def _filters(**given: Any) -> Filters:
    repeated = {name: tuple(given[name] or ()) for name in _REPEATED if name in given}
    return Filters(**(given | repeated))
