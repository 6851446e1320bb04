"""`pixano-annotate caption`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixano_cli.cli import console, options


def caption(
    sources: options.Sources,
    output: Annotated[
        list[Path],
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write: .json is COCO captions, .parquet is Parquet. Repeat for more.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="The model.",
            show_default="a server's only one",
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            metavar="TEXT",
            help="What to ask. It may name {file_name}, {width}, {height} and {labels}: what "
            "detectors have found in the image.",
            show_default="a description in one or two sentences",
        ),
    ] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            "--prompt-file", metavar="FILE", help="File with the prompt.", show_default=False
        ),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", metavar="N", help="Most tokens of an answer.")
    ] = 100,
    temperature: Annotated[
        float, typer.Option("--temperature", metavar="T", help="Sampling temperature.")
    ] = 1.0,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            help="Number to draw by, for servers that take one.",
            show_default=False,
        ),
    ] = None,
    format: options.Format = None,  # noqa: A002 - the option's name
    recursive: options.Recursive = True,
    provider: options.Provider = "local",
    url: options.Url = None,
    api_key_file: options.ApiKeyFile = None,
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
    """Write a text an image, by a model that sees and writes."""
    from pixano_cli.annotate.commands import DEFAULT_PROMPT, captioning
    from pixano_cli.annotate.settings import Settings
    from pixano_cli.annotate.template import read_prompt
    from pixano_cli.errors import UsageError

    if prompt is not None and prompt_file is not None:
        raise UsageError("--prompt and --prompt-file: only one of them can say what to ask")
    if prompt_file is not None:
        prompt = read_prompt(prompt_file)
    settings = Settings(
        provider=provider,
        url=url,
        api_key_file=api_key_file,
        format=format,
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
    asked = DEFAULT_PROMPT if prompt is None else prompt
    command = captioning(settings, model, asked, max_new_tokens, temperature, seed)
    verbosity = console.Verbosity(as_json, verbose, quiet)
    return console.run_job(sources, output, settings, command, dry_run, verbosity)
