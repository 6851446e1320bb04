"""`pixano-annotate caption`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixano_cli.cli import options
from pixano_cli.cli.run_options import Run, running_but


@running_but("batch_size", "box_format")
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
    *,
    run: Run,
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
    settings = Settings(format=format, **run.settings)
    asked = DEFAULT_PROMPT if prompt is None else prompt
    command = captioning(settings, model, asked, max_new_tokens, temperature, seed)
    return run.job(sources, output, settings, command)
