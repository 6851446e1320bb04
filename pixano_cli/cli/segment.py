"""`pixano-annotate segment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixano_cli.cli import options
from pixano_cli.cli.run_options import Run, running_but


@running_but("box_format")
def segment(
    sources: options.Sources,
    output: options.Outputs,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="The segmenter.",
            show_default="mobile-sam; a server's only one",
        ),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector",
            metavar="NAME",
            help="The model that finds what to segment.",
            show_default="picodet-s-416; a server's only one",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help='Segment what this file says instead: JSON {"a/b.jpg": [{"label"?, "box"?, '
            '"points"?, "labels"?}]}.',
            show_default=False,
        ),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Segment the boxes of this COCO or Parquet file instead.",
            show_default=False,
        ),
    ] = None,
    format: options.Format = None,  # noqa: A002 - the option's name
    classes: options.Classes = None,
    threshold: options.Threshold = None,
    categories: options.Categories = None,
    *,
    run: Run,
) -> int:
    """Find objects in images and write their masks and boxes."""
    from pixano_cli.annotate.commands import segmentation
    from pixano_cli.annotate.settings import Settings

    settings = Settings(
        classes=options.split_classes(classes),
        threshold=threshold,
        categories=categories,
        format=format,
        **run.settings,
    )
    command = segmentation(settings, model, detector, prompts, boxes)
    return run.job(sources, output, settings, command)
