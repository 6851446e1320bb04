"""`pixano-annotate embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixano_cli.cli import console, options


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
    """Write a vector an image, by which like images are found."""
    from pixano_cli.annotate.commands import embedding
    from pixano_cli.annotate.settings import Settings

    settings = Settings(
        provider=provider,
        url=url,
        api_key_file=api_key_file,
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
    )
    verbosity = console.Verbosity(as_json, verbose, quiet)
    return console.run_job(
        sources, output, settings, embedding(settings, model), dry_run, verbosity
    )
