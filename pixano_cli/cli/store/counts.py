"""`store status | count | labels | stats`: what the store holds, counted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from pixano_cli.annotate.selection import Filters
from pixano_cli.cli import console, filter_options, tables
from pixano_cli.cli.store.opened import (
    Debug,
    Json,
    Where,
    counted,
    each_model,
    opened,
    read,
    time_text,
)
from pixano_cli.errors import StoreError, UsageError

if TYPE_CHECKING:
    from pixano_cli.inference_store.models import (
        MetadataStatistics,
        NewGetMetadataStatisticsRequest,
    )

_BINS = "Bars of numbers"


def status(store: Where = None, as_json: Json = False, debug: Debug = False) -> None:
    """Tell what the store holds: models, records, inputs, runs, and how large it is."""
    from dataclasses import asdict

    from pixano_cli.inference_store import overview
    from pixano_cli.inference_store.connection import blobs_of

    with opened(store) as connected:
        size = connected.size()
        inputs = blobs_of(connected).name
        with connected.read() as connection:
            models = overview.models_overview(connection)
            blobs = overview.blobs_overview(connection)
            runs = overview.count_runs(connection)
    if as_json:
        tables.print_json(
            {
                "store": connected.name,
                "size": size,
                "runs": runs,
                "blobs": {"where": inputs, **asdict(blobs)},
                "models": [asdict(model) for model in models],
            }
        )
        return
    typer.echo(f"store   {connected.name} ({tables.size_text(size)})")
    kept = f"{tables.size_text(blobs.size)} in {inputs}" if blobs.count else "none is kept"
    pending = f"; {blobs.pending:,} of them being made or removed" if blobs.pending else ""
    typer.echo(f"inputs  {blobs.count:,} ({kept}{pending})")
    typer.echo(f"runs    {runs:,}\n")
    if not models:
        typer.echo("no model yet: `pixano-annotate detect`, segment and embed record here")
        return
    tables.print_table(
        ["MODEL", "TASK", "RECORDS", "PROTECTED", "HIDDEN", "FIRST (UTC)", "LAST (UTC)"],
        [
            (
                model.model_id,
                model.task_type,
                model.inferences,
                model.protected,
                model.hidden,
                time_text(model.first),
                time_text(model.last),
            )
            for model in models
        ],
    )


@filter_options.filtered
def count(
    filters: Filters, store: Where = None, as_json: Json = False, debug: Debug = False
) -> None:
    """Count records."""
    from pixano_cli.inference_store.inference import count_inferences
    from pixano_cli.inference_store.models import NewGetInferencesRequest

    with opened(store) as connected:
        models, asked = read(connected, filters)
        request = NewGetInferencesRequest(filters=asked)
        counts = {model: count_inferences(model, request) for model in models}
    total = sum(counts.values())
    if as_json:
        tables.print_json({"count": total, "models": counts})
    else:
        typer.echo(total)


@filter_options.filtered
def labels(
    filters: Filters,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="SCORE",
            help="Count objects of this score or more. The filters choose records, all of "
            "whose objects count; detectors record them from 0.05 up.",
            show_default="all",
        ),
    ] = None,
    store: Where = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Count labels: in how many objects, of how many records, each occurs, and its best score."""
    from dataclasses import asdict

    from pixano_cli.inference_store.overview import label_counts

    if threshold is not None and not math.isfinite(threshold):
        raise UsageError(f"--threshold {threshold}: a number is wanted")
    with opened(store) as connected:
        models, asked = read(connected, filters)
        with connected.read() as connection:
            found = {
                model: list(label_counts(connection, model, asked, threshold=threshold))
                for model in models
            }
    if as_json:
        tables.print_json({model: [asdict(each) for each in rows] for model, rows in found.items()})
        return
    shown = [model for model, rows in found.items() if rows]
    if not shown:
        console.note("no label")
    for model, heading in each_model(shown, of=models):
        _print_heading(heading)
        tables.print_table(
            ["LABEL", "OBJECTS", "RECORDS", "BEST SCORE"],
            [(each.label, each.elements, each.inferences, each.best) for each in found[model]],
        )


@filter_options.filtered
def stats(
    filters: Filters,
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="KEY",
            help="A metadata key; without one the keys are listed.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="string, int or float.",
            show_default="each it is stored as",
        ),
    ] = None,
    bins: Annotated[
        int | None,
        typer.Option(
            "--bins", metavar="N", help="How many.", show_default="10", rich_help_panel=_BINS
        ),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(
            "--width", metavar="WIDTH", help="How wide each is, instead.", rich_help_panel=_BINS
        ),
    ] = None,
    minimum: Annotated[
        float | None,
        typer.Option(
            "--minimum",
            metavar="VALUE",
            help="Where the first begins.",
            show_default="the least value",
            rich_help_panel=_BINS,
        ),
    ] = None,
    maximum: Annotated[
        float | None,
        typer.Option(
            "--maximum",
            metavar="VALUE",
            help="Where the last ends.",
            show_default="the greatest value",
            rich_help_panel=_BINS,
        ),
    ] = None,
    store: Where = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw how the values of a metadata key are distributed, or list the keys there are."""
    from pixano_cli.inference_store.metadata import get_metadata_key_type_counts
    from pixano_cli.inference_store.models import (
        MetadataStatisticsType,
        NewGetMetadataStatisticsRequest,
    )

    kinds = [each.value for each in MetadataStatisticsType]
    if kind is not None and kind not in kinds:
        raise UsageError(f"--type {kind}: one of {', '.join(kinds)} is wanted")
    binned = [each for each in (bins, width, minimum, maximum) if each is not None]
    _check_bins(bins, width, minimum, maximum)
    if binned:
        if kind == "string":
            raise UsageError("--type string: strings are counted one by one, without bars to set")
        kinds.remove("string")
    with opened(store) as connected:
        models, asked = read(connected, filters)
        keys = {}
        for model in models:
            types = get_metadata_key_type_counts(model)
            keys[model] = types.counts if types else {}
        if key is None:
            if not filters.is_empty and not filters.model_id:
                console.note("keys are counted in all records: filters take effect with a KEY")
            _print_keys(keys, as_json)
            return
        drawn: dict[str, dict[str, MetadataStatistics]] = {}
        for model in models:
            stored = [each for each in keys[model].get(key, {}) if each in kinds]
            for each in [kind] if kind else stored:
                if each not in keys[model].get(key, {}):
                    continue
                request = NewGetMetadataStatisticsRequest(
                    filters=asked,
                    key=key,
                    type=MetadataStatisticsType(each),
                    distribution_bin_count=bins,
                    distribution_bin_width=width,
                    distribution_minimum_value=minimum,
                    distribution_maximum_value=maximum,
                )
                measured = _measured(model, request)
                if measured is not None:
                    drawn.setdefault(model, {})[each] = measured
    if not drawn:
        wanted = kind or (" or ".join(kinds) if binned else None)
        raise UsageError(_not_there(key, wanted, keys))
    if as_json:
        tables.print_json(
            {
                model: {kind: each.model_dump(mode="json") for kind, each in by_kind.items()}
                for model, by_kind in drawn.items()
            }
        )
        return
    shown = [model for model, found in drawn.items() if any(each.count for each in found.values())]
    for model, heading in each_model(shown or list(drawn), of=models):
        _print_heading(heading)
        for each, statistics in drawn[model].items():
            _print_statistics(key, each, statistics)


def _measured(model: str, request: NewGetMetadataStatisticsRequest) -> MetadataStatistics | None:
    from pixano_cli.inference_store.metadata import get_metadata_statistics

    width = request.distribution_bin_width
    try:
        return get_metadata_statistics(model, request)
    except StoreError as error:
        # How many bars a width makes is known by the values only.
        wrong = f"distribution_bin_width {width}"
        if width is None or wrong not in str(error):
            raise
        raise UsageError(str(error).replace(wrong, f"--width {width:g}")) from error


def _check_bins(
    bins: int | None, width: float | None, minimum: float | None, maximum: float | None
) -> None:
    if bins is not None and width is not None:
        raise UsageError("--bins and --width: give one of them")
    if bins is not None and not 1 <= bins <= 10_000:
        raise UsageError(f"--bins {bins}: a number from 1 to 10,000 is wanted")
    if width is not None and not 0 < width < math.inf:
        raise UsageError(f"--width {width}: it has to be more than 0")
    for option, value in (("--minimum", minimum), ("--maximum", maximum)):
        if value is not None and not math.isfinite(value):
            raise UsageError(f"{option} {value}: a number is wanted")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise UsageError(f"--minimum {minimum} is more than --maximum {maximum}")


def _not_there(key: str, wanted: str | None, keys: dict[str, dict[str, dict[str, int]]]) -> str:
    types = sorted({each for found in keys.values() for each in found.get(key, {})})
    if not types:
        return f"no record has metadata {key!r}: `pixano-annotate store stats` lists the keys"
    if wanted is None:
        return f"metadata {key!r} is {', '.join(types)}, which is neither counted nor drawn"
    return f"metadata {key!r} is {', '.join(types)}, not {wanted}"


def _print_statistics(key: str, kind: str, statistics: MetadataStatistics) -> None:
    distribution = statistics.distribution or {}
    found = counted(statistics.count or 0, "value")
    if kind == "string":
        found += f", {len(distribution):,} different" if distribution else ""
    elif statistics.min is not None and statistics.max is not None:
        found += f", from {_number(statistics.min, kind)} to {_number(statistics.max, kind)}"
    if kind == "int":
        distribution = tables.whole_ranges(distribution)
    typer.echo(f"{tables.cell_text(key)} ({kind}): {found}")
    tables.print_histogram(distribution)


def _number(value: float, kind: str) -> str:
    if math.isinf(value):
        return "less than -1.8e308" if value < 0 else "more than 1.8e308"
    return f"{value:.0f}" if kind == "int" and abs(value) < 1e15 else f"{value:g}"


def _print_keys(keys: dict[str, dict[str, dict[str, int]]], as_json: bool) -> None:
    if as_json:
        tables.print_json(keys)
        return
    shown = [model for model, found in keys.items() if found]
    if not shown:
        console.note("no metadata")
    for model, heading in each_model(shown, of=keys):
        _print_heading(heading)
        rows = [
            (key, kind, number)
            for key, kinds in sorted(keys[model].items())
            for kind, number in sorted(kinds.items())
        ]
        tables.print_table(["KEY", "TYPE", "RECORDS"], rows)


def _print_heading(heading: str) -> None:
    if heading:
        typer.echo(heading)
