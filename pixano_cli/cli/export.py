"""`pixano-annotate export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixano_cli.annotate.selection import Filters
from pixano_cli.cli import console, filter_options, options, signals
from pixano_cli.errors import UsageError

if TYPE_CHECKING:
    from pixano_cli.annotate.summary import Summary

Outputs = Annotated[
    list[Path],
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="File to write: .json is COCO, .parquet is Parquet, .zip an archive of records and "
        "their inputs. Repeat for more.",
        show_default=False,
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        metavar="SCORE",
        help="Lowest score to write, 0 to 1.",
        show_default="the run's; of records, whatever is recorded",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="coco, parquet or archive, whatever the suffix.",
        show_default="by suffix",
    ),
]


@filter_options.filtered
def export(
    output: Outputs,
    filters: Filters,
    everything: Annotated[
        bool, typer.Option("--all", help="All records, instead of those of a run.")
    ] = False,
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
        typer.Option(
            "--task",
            metavar="NAME",
            help="The latest run of detect, segment, segment-video, caption or embed.",
            show_default=False,
        ),
    ] = None,
    format: Format = None,  # noqa: A002 - the option's name
    classes: options.Classes = None,
    threshold: Threshold = None,
    categories: options.Categories = None,
    max_failures: options.MaxFailures = "0",
    store: options.StoreFolder = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Write what a run recorded again, or records that pass filters, without inference."""
    if everything and not filters.is_empty:
        raise UsageError("--all means every record: give it without filters")
    verbosity = console.Verbosity(as_json, verbose=False, quiet=quiet)
    if everything or not filters.is_empty:
        for option, value in (("--run", run), ("--task", task)):
            if value is not None:
                raise UsageError(
                    f"{option}: a run is written as it was, and filters choose among all records: "
                    "leave out one of them"
                )
        return _export_records(
            output, filters, format, classes, threshold, categories, max_failures, store, verbosity
        )
    for path in output:
        if format == "archive" or (format is None and path.suffix.lower() == ".zip"):
            raise UsageError(
                f"output {path.name!r}: an archive is of records, not of a run: choose them by a "
                "filter such as --label, or give --all"
            )
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
    console.print_summary(summary, verbosity)
    return 0


@filter_options.filtered
def export_records(
    output: Outputs,
    filters: Filters,
    format: Format = None,  # noqa: A002 - the option's name
    classes: options.Classes = None,
    threshold: Threshold = None,
    categories: options.Categories = None,
    max_failures: options.MaxFailures = "0",
    store: options.StoreFolder = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Write records in any format, all of them or those that pass filters."""
    return _export_records(
        output,
        filters,
        format,
        classes,
        threshold,
        categories,
        max_failures,
        store,
        console.Verbosity(as_json, verbose=False, quiet=quiet),
    )


def _export_records(
    output: list[Path],
    filters: Filters,
    format_name: str | None,
    classes: str | None,
    threshold: float | None,
    categories: Path | None,
    max_failures: str,
    store: str | None,
    verbosity: console.Verbosity,
) -> int:
    from pixano_cli.annotate import records_export as job

    summary: Summary = signals.stopping(
        lambda stop: job.export_records(
            output,
            store=store,
            filters=filters,
            threshold=threshold,
            classes=options.split_classes(classes),
            categories=categories,
            format=format_name,
            max_failures=max_failures,
            stop=stop,
        )
    )
    console.print_summary(summary, verbosity)
    if not summary.allowed:
        console.note_too_many(summary)
        return console.TOO_MANY_FAILURES
    return 0
