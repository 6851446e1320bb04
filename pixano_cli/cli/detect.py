"""`pixano-annotate detect`."""

from __future__ import annotations

from typing import Annotated

import typer

from pixano_cli.cli import options
from pixano_cli.cli.run_options import Run, running


@running
def detect(
    sources: options.Sources,
    output: options.Outputs,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="The detector.",
            show_default="picodet-s-416; a server's only one",
        ),
    ] = None,
    format: options.Format = None,  # noqa: A002 - the option's name
    classes: options.Classes = None,
    threshold: options.Threshold = None,
    categories: options.Categories = None,
    *,
    run: Run,
) -> int:
    """Find objects in images and write their boxes."""
    from pixano_cli.annotate.commands import detection
    from pixano_cli.annotate.settings import Settings

    settings = Settings(
        classes=options.split_classes(classes),
        threshold=threshold,
        categories=categories,
        format=format,
        **run.settings,
    )
    return run.job(sources, output, settings, detection(settings, model))
