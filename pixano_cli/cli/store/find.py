"""`store similar | duplicates`: images by their vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixano_cli.annotate.selection import Filters
from pixano_cli.cli import console, filter_options, options, tables
from pixano_cli.cli.store.look import ID_SHOWN, file_of
from pixano_cli.cli.store.opened import Debug, Json, Where, counted, opened, time_text
from pixano_cli.errors import MediaReadError

if TYPE_CHECKING:
    from pixano_cli.inference_store.duplicates import Duplicate

_without_objects = filter_options.filtered_but(*filter_options.ABOUT_OBJECTS)


@_without_objects
def similar(
    filters: Filters,
    image: Annotated[
        Path,
        typer.Argument(metavar="IMAGE", help="An image, recorded or not.", show_default=False),
    ],
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="Most images.")] = 10,
    provider: Annotated[
        str | None,
        typer.Option(
            "--provider",
            "-p",
            metavar="NAME",
            help="Who is asked for its vector if none is recorded.",
            show_default="who made the others",
        ),
    ] = None,
    url: options.Url = None,
    api_key_file: options.ApiKeyFile = None,
    store: Where = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find the recorded images that are most like one, which `embed` has made vectors of.

    The distance is 1 - cosine: 0 for the image itself and for others that look alike to the model.
    """
    from pixano_cli.annotate.similar import similar as find

    with opened(store):
        found = find(
            image,
            filters=filters,
            limit=limit,
            provider=provider,
            url=url,
            api_key_file=api_key_file,
        )
    if as_json:
        tables.print_json([each.model_dump(mode="json") for each in found])
    elif not found:
        console.note("no record")
    else:
        tables.print_table(
            ["DISTANCE", "FILE", "MADE (UTC)", "INFERENCE"],
            [
                (
                    each.embedding_distance,
                    file_of(each),
                    time_text(each.created_at),
                    each.inference_id[:ID_SHOWN],
                )
                for each in found
            ],
        )


@_without_objects
def duplicates(
    filters: Filters,
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold",
            metavar="DISTANCE",
            help="Distance up to which two images are the same to the model, from 0 to under 1. "
            "The default suits pplcnetv2: a photograph saved anew, made a little smaller or "
            "brighter is within it, another photograph far outside.",
        ),
    ] = 0.06,
    store: Where = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Group the images that are the same or nearly so, which `embed` has made vectors of.

    Those of a group are copies byte for byte ("same"), or near one another: the distance is
    1 - cosine, to the first of the group, the one recorded first.
    """
    from pixano_cli.annotate.duplicates import duplicates as find

    with opened(store):
        found = find(filters=filters, threshold=threshold)
    groups = found.duplicates.groups
    if as_json:
        tables.print_json(
            {
                "model_id": found.model_id,
                "threshold": found.threshold,
                "images": found.duplicates.images,
                "groups": [[_as_json(each) for each in group] for group in groups],
            }
        )
        return
    for index, group in enumerate(groups):
        if index:
            typer.echo("")
        tables.print_table(
            ["DISTANCE", "FILE", "SOURCE", "INFERENCE"],
            [
                (
                    _likeness(each, group[0]),
                    each.copy.file_name or _path(each.copy.url),
                    each.copy.data_source,
                    each.copy.inference_id[:ID_SHOWN],
                )
                for each in group
            ],
        )
    compared = counted(found.duplicates.images, "image")
    spare = sum(len(group) - 1 for group in groups)
    console.note(
        f"{counted(len(groups), 'group')} in {compared}: {counted(spare, 'file')} could be spared"
        if groups
        else f"no duplicates in {compared}"
    )


def _likeness(duplicate: Duplicate, first: Duplicate) -> str | None:
    if duplicate is first:
        return "first"
    if duplicate.copy.data_hash == first.copy.data_hash:
        return "same"
    return None if duplicate.distance is None else f"{duplicate.distance:.3f}"


def _path(url: str | None) -> str | None:
    from pixano_cli.media import flight

    if url is None:
        return None
    try:
        return str(flight.path_of(url))
    except MediaReadError:
        return url


def _as_json(duplicate: Duplicate) -> dict[str, Any]:
    return {
        "file_name": duplicate.copy.file_name,
        "data_source": duplicate.copy.data_source,
        "url": duplicate.copy.url,
        "data_hash": duplicate.copy.data_hash,
        "inference_id": duplicate.copy.inference_id,
        "distance": duplicate.distance,
    }
