"""`pixano-annotate segment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixano_cli.cli import options
from pixano_cli.cli.run_options import Run, running_but

_EVERYTHING = "Everything"


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
    everything: Annotated[
        bool,
        typer.Option(
            "--everything",
            help="Segment all there is instead, without prompts or classes: the masks that the "
            "segmenter gives for a grid of points, with their predicted IoU as score, from 0.8 up "
            "unless --threshold says otherwise.",
            rich_help_panel=_EVERYTHING,
        ),
    ] = False,
    points_per_side: Annotated[
        int | None,
        typer.Option(
            "--points-per-side",
            metavar="N",
            help="Ask about N x N points. Time goes with their number: mobile-sam takes 20 s an "
            "image and core for 16, four times as much for 32, which finds smaller things.",
            show_default="16",
            rich_help_panel=_EVERYTHING,
        ),
    ] = None,
    min_stability: Annotated[
        float | None,
        typer.Option(
            "--min-stability",
            metavar="SCORE",
            help="Lowest stability of a mask, 0 to 1: how little it depends on where the "
            "segmenter's answer is cut off.",
            show_default="0.95",
            rich_help_panel=_EVERYTHING,
        ),
    ] = None,
    min_area: Annotated[
        int | None,
        typer.Option(
            "--min-area",
            metavar="PIXELS",
            help="Leave out smaller masks.",
            show_default="0",
            rich_help_panel=_EVERYTHING,
        ),
    ] = None,
    checkpoint: options.Checkpoint = None,
    model_config: options.ModelConfig = None,
    compiled: options.Compile = False,
    format: options.Format = None,  # noqa: A002 - the option's name
    classes: options.Classes = None,
    threshold: options.Threshold = None,
    categories: options.Categories = None,
    *,
    run: Run,
) -> int:
    """Find objects in images and write their masks and boxes."""
    from pixano_cli.annotate.commands import segmentation
    from pixano_cli.annotate.everything import Wanted
    from pixano_cli.annotate.settings import Settings
    from pixano_cli.annotate.weights import with_weights

    wanted = Wanted.given(everything, points_per_side, min_stability, min_area)
    settings = Settings(
        classes=options.split_classes(classes),
        threshold=threshold,
        categories=categories,
        format=format,
        **run.settings,
    )
    settings = with_weights(settings, model, checkpoint, model_config, compiled=compiled)
    command = segmentation(settings, model, detector, prompts, boxes, wanted)
    return run.job(sources, output, settings, command)
