"""What every `store` command begins with: the store opened, its models and filters read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from pixano_cli.annotate.selection import Filters
from pixano_cli.errors import UsageError

if TYPE_CHECKING:
    from pixano_cli.inference_store.database import Store
    from pixano_cli.inference_store.models import BaseInferenceFilter

_SHOW = "What to print"

Where = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="WHERE",
        envvar="PIXANO_STORE",
        help="The store: its folder, or postgresql://USER:PASSWORD@HOST/DATABASE.",
        show_default=".pixano-annotate",
        rich_help_panel="Which store",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON, for programs.", rich_help_panel=_SHOW)
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=_SHOW)]


@contextmanager
def opened(store: str | None) -> Iterator[Store]:
    """Open the store, which has to be there, for the documented functions to work on."""
    from pixano_cli.inference_store.connection import connect

    with connect(store, create=False) as connected:
        yield connected


def read(store: Store, filters: Filters) -> tuple[list[str], BaseInferenceFilter]:
    """Return the models that are meant, and the filters."""
    from pixano_cli.annotate.selection import read_filters, read_models

    return read_models(store, filters.model_id), read_filters(filters, store)


def one_model(store: Store, named: str | None) -> str:
    """Return the model that is meant: the one named, or else the only one.

    Raises:
        UsageError: If there are several, or none.
    """
    from pixano_cli.annotate.selection import read_models

    known = read_models(store, [] if named is None else [named])
    if len(known) == 1:
        return known[0]
    if not known:
        raise UsageError(f"store {store.name}: it has no model yet")
    few = ", ".join(known[:6]) + (", ..." if len(known) > 6 else "")
    raise UsageError(f"store {store.name} has several models: name one with --model-id ({few})")


def require_choice(filters: Filters, everything: bool, verb: str) -> None:
    """Refuse to change every record unless that was said.

    Raises:
        UsageError: If there is neither a filter nor `--all`, or both.
    """
    if filters.is_empty and not everything:
        raise UsageError(f"say which records to {verb}, by a filter such as --label, or --all")
    if everything and not filters.is_empty:
        raise UsageError("--all means every record: give it without filters")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def each_model(shown: Sequence[str], *, of: Sized) -> Iterator[tuple[str, str]]:
    """Yield each model with the heading to print above what is said of it.

    The heading is empty where there is no other model that could be meant. All but the first leave
    a line free.
    """
    for index, model in enumerate(shown):
        if len(of) == 1:
            yield model, ""
        else:
            yield model, f"{model}:" if index == 0 else f"\n{model}:"


def time_text(moment: datetime | None) -> str | None:
    """Return a time, which is in UTC, to the second."""
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"
