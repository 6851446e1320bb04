"""`pixano-annotate embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixano_cli.cli import options
from pixano_cli.cli.run_options import Run, running_but


@running_but("box_format")
def embed(
    sources: options.Sources,
    output: Annotated[
        list[Path],
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write, a .parquet. Repeat for more.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="The embedding model.",
            show_default="pplcnetv2; a server's only one",
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - the option's name
        str | None,
        typer.Option("--format", help="parquet, whatever the suffix.", show_default=False),
    ] = None,
    *,
    run: Run,
) -> int:
    """Write a vector an image, by which like images are found."""
    from pixano_cli.annotate.commands import embedding
    from pixano_cli.annotate.settings import Settings

    settings = Settings(format=format, **run.settings)
    return run.job(sources, output, settings, embedding(settings, model))
