"""`pixano-annotate segment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixano_cli.cli import console, options


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
    recursive: options.Recursive = True,
    provider: options.Provider = "local",
    url: options.Url = None,
    api_key_file: options.ApiKeyFile = None,
    batch_size: options.BatchSize = None,
    concurrency: options.Concurrency = None,
    rpm: options.Rpm = None,
    tpm: options.Tpm = None,
    timeout: options.Timeout = 600.0,
    max_side: options.MaxSide = None,
    dialect: options.Dialect = None,
    time_limit: options.TimeLimit = None,
    max_cost: options.MaxCost = None,
    prices: options.Prices = None,
    device: options.Device = "cpu",
    store: options.StoreFolder = None,
    overwrite: options.Overwrite = False,
    checksum: options.Checksum = False,
    max_failures: options.MaxFailures = "0",
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Find objects in images and write their masks and boxes."""
    from pixano_cli.annotate.commands import segmentation
    from pixano_cli.annotate.settings import Settings

    settings = Settings(
        provider=provider,
        url=url,
        api_key_file=api_key_file,
        classes=options.split_classes(classes),
        threshold=threshold,
        format=format,
        batch_size=batch_size,
        concurrency=concurrency,
        rpm=rpm,
        tpm=tpm,
        timeout=timeout,
        max_side=max_side,
        dialect=dialect,
        time_limit=time_limit,
        max_cost=max_cost,
        prices=prices,
        device=device,
        recursive=recursive,
        store=store,
        overwrite=overwrite,
        checksum=checksum,
        max_failures=max_failures,
        categories=categories,
    )
    verbosity = console.Verbosity(as_json, verbose, quiet)
    command = segmentation(settings, model, detector, prompts, boxes)
    return console.run_job(sources, output, settings, command, dry_run, verbosity)
