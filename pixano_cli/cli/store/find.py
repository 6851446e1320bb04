"""`store similar | duplicates`: images by their vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixano_cli.annotate.selection import Filters
from pixano_cli.cli import console, filter_options, tables
from pixano_cli.cli.store.look import ID_SHOWN, file_of
from pixano_cli.cli.store.opened import Debug, Json, Where, opened, time_text

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
        str,
        typer.Option(
            "--provider",
            "-p",
            metavar="NAME",
            help="Who is asked for its vector if none is recorded.",
        ),
    ] = "local",
    store: Where = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find the recorded images that are most like one, which `embed` has made vectors of.

    The distance is 1 - cosine: 0 for the image itself and for others that look alike to the model.
    """
    from pixano_cli.annotate.similar import similar as find

    with opened(store):
        found = find(image, filters=filters, limit=limit, provider=provider)
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
