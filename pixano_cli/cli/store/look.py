"""`store list | show`: records, one a line or one in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from pixano_cli.annotate.selection import Filters
from pixano_cli.cli import console, filter_options, tables
from pixano_cli.cli.store.opened import Debug, Json, Where, opened, read, time_text
from pixano_cli.errors import StoreError, UsageError

if TYPE_CHECKING:
    from pixano_cli.inference_store.models import Inference

SORTS = ("created_at", "label", "score")
ID_SHOWN = 12
MOST_ELEMENTS = 20
MOST_LABELS = 3


@filter_options.filtered
def list_records(
    filters: Filters,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="Most records.")] = 50,
    offset: Annotated[
        int, typer.Option("--offset", metavar="N", help="Leave out so many first.")
    ] = 0,
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            metavar="FIELD",
            help="By created_at, or by the label or score of the best object: then the records of "
            "one model come after those of another.",
        ),
    ] = "created_at",
    descending: Annotated[
        bool, typer.Option("--descending", help="The last, or the best, first.")
    ] = False,
    store: Where = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List records: what was asked about which file, when, and what was found."""
    from pixano_cli.inference_store.browse import browse
    from pixano_cli.inference_store.models import (
        NewGetInferencesRequest,
        Pagination,
        PaginationGranularInferenceSortField,
        PaginationSortDirection,
    )

    if sort not in SORTS:
        raise UsageError(f"--sort {sort}: one of {', '.join(SORTS)} is wanted")
    if limit < 0 or offset < 0:
        raise UsageError("--limit and --offset: neither can be negative")
    pagination = Pagination(
        sort=PaginationGranularInferenceSortField(sort),
        direction=PaginationSortDirection.DESCENDING if descending else None,
    )
    with opened(store) as connected:
        models, asked = read(connected, filters)
        request = NewGetInferencesRequest(filters=asked, pagination=pagination)
        # One more tells whether there are more.
        found = list(browse(models, request, limit=limit + 1, offset=offset))
    is_more, found = len(found) > limit, found[:limit]
    if as_json:
        tables.print_json([each.model_dump(mode="json") for each in found])
        return
    if not found:
        console.note("no record")
        return
    tables.print_table(
        ["INFERENCE", "MADE (UTC)", "MODEL", "FILE", "FOUND"],
        [
            (
                each.inference_id[:ID_SHOWN],
                time_text(each.created_at),
                each.model_id,
                file_of(each),
                _found(each),
            )
            for each in found
        ],
    )
    if is_more:
        console.note(f"there are more: --offset {offset + limit} goes on, --limit shows more")


def show(
    inference: Annotated[
        str,
        typer.Argument(metavar="INFERENCE", help="Its id, or the start of it.", show_default=False),
    ],
    model_id: filter_options.ModelId = None,
    store: Where = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show all of a record."""
    from pixano_cli.annotate.selection import read_models
    from pixano_cli.inference_store.browse import find
    from pixano_cli.inference_store.inference import get_inference
    from pixano_cli.inference_store.values import check_text

    try:
        check_text("inference", inference)
    except StoreError as error:
        raise UsageError(str(error)) from error
    with opened(store) as connected:
        found = find(connected, inference, read_models(connected, model_id or ()), 3)
        # One whose id is just that is meant even if others begin so.
        exact = [each for each in found if each[1] == inference]
        if len(exact or found) > 1:
            names = ", ".join(f"{each_id[:20]} of {model}" for model, each_id in exact or found)
            more = "name its model with --model-id" if exact else "give more of it"
            raise UsageError(f"{inference!r} is the start of several ({names}): {more}")
        shown = get_inference(*(exact or found)[0]) if found else None
        if shown is None:
            raise UsageError(
                f"store {connected.name} has no inference {inference!r}: "
                "`pixano-annotate store list` shows their ids"
            )
    if as_json:
        tables.print_json(shown.model_dump(mode="json"))
    else:
        _print_record(shown)


def file_of(shown: Inference) -> str | None:
    """Return the name of the file that a record is about, if it tells."""
    return next((each.value for each in shown.metadata or () if each.key == "file_name"), None)


def _print_record(shown: Inference) -> None:
    place = shown.data_coordinates
    lines = {
        "inference": shown.inference_id,
        "model": shown.model_id,
        "action": shown.inference_action,
        "made": f"{time_text(shown.created_at)} UTC",
        "changed": f"{time_text(shown.updated_at)} UTC",
        "protected": "yes" if shown.is_protected else "no",
        "sha256": shown.data_hash,
        "source": shown.data_source,
        "place": f"{place.latitude}, {place.longitude}" if place else None,
        "input": shown.data_storage_key or "not kept in the store",
    }
    for name, value in lines.items():
        typer.echo(f"{name:<11}{tables.cell_text(value)}")
    if shown.metadata:
        typer.echo("")
        tables.print_table(
            ["KEY", "TYPE", "VALUE"], [(each.key, each.type, each.value) for each in shown.metadata]
        )
    typer.echo("")
    embedding = shown.structured_embedding
    if embedding is not None:
        few = ", ".join(f"{number:.4g}" for number in embedding[:6])
        more = ", ..." if len(embedding) > 6 else ""
        typer.echo(f"{len(embedding):,} numbers: {few}{more}")
        return
    if shown.version != "v2":
        typer.echo("its answer is no list of objects: --json shows it")
        return
    elements = _elements(shown)
    if not elements:
        typer.echo("nothing was found")
        return
    tables.print_table(
        ["LABEL", "SCORE", "WHERE"],
        [(each["label"], _score(each), _where(each)) for each in elements[:MOST_ELEMENTS]],
    )
    if len(elements) > MOST_ELEMENTS:
        typer.echo(f"... and {len(elements) - MOST_ELEMENTS:,} more: --json shows all")


def _elements(shown: Inference) -> list[dict[str, Any]]:
    read: Any = orjson.loads(shown.data or "null")
    return read if shown.version == "v2" and isinstance(read, list) else []


def _score(element: dict[str, Any]) -> float | None:
    score = element.get("score")
    return None if score is None else float(score)


def _where(element: dict[str, Any]) -> str | None:
    shown = [
        f"{name} {element[name]:.1f}"
        for name in ("xmin", "ymin", "xmax", "ymax", "cx", "cy", "w", "h", "r")
        if isinstance(element.get(name), (int, float))
    ]
    for name in ("rle", "contour"):
        if name in element:
            shown.append("mask" if name == "rle" else name)
    return ", ".join(shown) or None


def _found(shown: Inference) -> str:
    """Return the labels of what was found, the best first, with their best scores."""
    embedding = shown.structured_embedding
    if embedding is not None:
        return f"{len(embedding):,} numbers"
    if shown.version != "v2":
        return "an answer"
    best: dict[str, float] = {}
    for element in _elements(shown):
        label = element["label"]
        best[label] = max(best.get(label, -1.0), -1.0 if (s := _score(element)) is None else s)
    if not best:
        return "nothing"
    ranked = sorted(best.items(), key=lambda each: (-each[1], each[0]))
    few = [label if score < 0 else f"{label} {score:.2f}" for label, score in ranked[:MOST_LABELS]]
    return ", ".join(few) + (", ..." if len(ranked) > MOST_LABELS else "")
