"""`pixano-annotate export`."""

from __future__ import annotations

from typing import Annotated

import typer

from pixano_cli.cli import console, options, signals


def export(
    output: options.Outputs,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="ID",
            help="Which run, by its id in OUTPUT.run.json.",
            show_default="the latest",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", help="The latest run of detect or of segment.", show_default=False),
    ] = None,
    format: options.Format = None,  # noqa: A002 - the option's name
    classes: options.Classes = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="SCORE",
            help="Lowest score to write, 0 to 1.",
            show_default="the run's",
        ),
    ] = None,
    categories: options.Categories = None,
    store: options.StoreFolder = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Write what a run recorded again, in any format, without inference."""
    from pixano_cli.annotate import export as job

    summary = signals.stopping(
        lambda stop: job.export(
            output,
            run=run,
            task=task,
            threshold=threshold,
            classes=options.split_classes(classes),
            categories=categories,
            format=format,
            store=store,
            stop=stop,
        )
    )
    console.print_summary(summary, console.Verbosity(as_json, verbose=False, quiet=quiet))
    return 0
