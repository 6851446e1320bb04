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
    model: Annotated[str, typer.Option("--model", "-m", help="The embedding model.")] = "pplcnetv2",
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
