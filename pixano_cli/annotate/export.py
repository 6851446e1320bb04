"""Writing outputs again from the record, without any inference."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

from pixano_cli.annotate.captions import Captions
from pixano_cli.annotate.embedding import Embeddings
from pixano_cli.annotate.everything import EveryMask
from pixano_cli.annotate.job import provenance, until_stopped
from pixano_cli.annotate.outputs import (
    Output,
    Product,
    plan_outputs,
    write_failures,
    write_outputs,
)
from pixano_cli.annotate.settings import Settings
from pixano_cli.annotate.summary import Summary
from pixano_cli.annotate.videos.view import Tracks, shown_tracks
from pixano_cli.annotate.view import Annotations, View
from pixano_cli.errors import UsageError
from pixano_cli.formats import embedding_format_of, video_format_of
from pixano_cli.formats.categories import read_categories
from pixano_cli.inference_store import ledger, runs
from pixano_cli.inference_store.database import open_store

logger = logging.getLogger(__name__)


def export(
    outputs: Sequence[str | Path],
    *,
    run: str | None = None,
    task: str | None = None,
    threshold: float | None = None,
    classes: Sequence[str] | None = None,
    categories: str | Path | None = None,
    format: str | None = None,  # noqa: A002 - the option's name
    store: str | Path | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Write what a run recorded, in any format, with the run's threshold and classes or others.

    Args:
        outputs: The files to write; their suffixes choose the formats.
        run: Id of the run; None for the latest.
        task: "detect", "segment", "segment-video", "caption" or "embed": the latest run of it.
        threshold: Lowest score to write; None for the run's.
        classes: Which classes to write; None for the run's.
        categories: A file with the label set to write; None for the run's.
        format: Format of the outputs, whatever their suffixes.
        store: Folder of the inference store; None for PIXANO_STORE, else .pixano-annotate.
        stop: Once set, nothing more is written.

    Raises:
        UsageError: If there is no such run, or it did not record what is asked for.
        StoppedError: If it was stopped.
        OutputError: If an output cannot be written.
        StoreError: If the store cannot be read.
    """
    started = monotonic()
    stop = stop or threading.Event()
    Settings(threshold=threshold, classes=classes)
    with open_store(store, create=False) as opened:
        found = runs.find_run(opened, run, task)
        if found is None:
            asked = f"run {run}" if run else f"{task} run" if task else "run"
            raise UsageError(f"store {opened.name}: no {asked} is recorded")
        planned, product = _planned(found.job, outputs, format, threshold, classes, categories)
        written = write_outputs(
            planned,
            product,
            lambda: until_stopped(product.images(opened, found.run_id), stop),
            provenance(found.job["task"], product, found.job["requests"]),
        )
        write_failures(planned, opened, found.run_id)
        counts = ledger.count_items(opened, found.run_id)
        if counts["pending"]:
            logger.warning(
                "run %s has not ended: %d of its %d files are not in the output: run the same "
                "command again to do them",
                found.run_id,
                counts["pending"],
                sum(counts.values()),
            )
    last = found.job["requests"][-1]
    has_frames = "tracks" in found.job["view"]
    return Summary(
        task=found.job["task"],
        model=last["model"],
        provider=last["provider"],
        total=written.files + counts["failed"],
        processed=0,
        cached=written.files,
        failed=counts["failed"],
        empty=written.empty,
        annotations=written.annotations,
        seconds=monotonic() - started,
        outputs=tuple(str(output.path) for output in planned),
        frames=written.images if has_frames else None,
    )


def _planned(
    job: Mapping[str, Any],
    outputs: Sequence[str | Path],
    format_name: str | None,
    threshold: float | None,
    classes: Sequence[str] | None,
    categories: str | Path | None,
) -> tuple[tuple[Output, ...], Product[Any]]:
    """Return the outputs and what of a run's answers they hold."""
    view = job["view"]
    if "tracks" in view:
        planned = plan_outputs(outputs, format_name, video_format_of)
        return planned, shown_tracks(Tracks.from_dict(job), threshold, classes, categories)
    if "everything" in view:
        every = EveryMask.from_dict(job).shown(job, threshold, classes, categories)
        return plan_outputs(outputs, format_name), every
    if "embedder" not in view and "captioner" not in view:
        planned = plan_outputs(outputs, format_name)
        return planned, _shown(job, threshold, classes, categories)
    given = {"--threshold": threshold, "--classes": classes, "--categories": categories}
    for option, value in given.items():
        if value is not None:
            raise UsageError(
                f"{option}: this run is of {job['task']}, and has no objects: leave it out, or "
                "name another run with --run or --task"
            )
    if "captioner" in view:
        return plan_outputs(outputs, format_name), Captions.from_dict(job)
    return plan_outputs(outputs, format_name, embedding_format_of), Embeddings.from_dict(job)


def _shown(
    job: Mapping[str, Any],
    threshold: float | None,
    classes: Sequence[str] | None,
    categories: str | Path | None,
) -> Annotations:
    """Return what of a run's annotations to show."""
    recorded = Annotations.from_dict(job)
    view, label_set = recorded.view, recorded.label_set
    if threshold is not None:
        floor = _lowest_recorded(job, view)
        if threshold < floor:
            raise UsageError(
                f"--threshold {threshold}: this run recorded scores from {floor} up: "
                f"run {job['task']} again with --threshold {threshold}"
            )
        view = replace(view, threshold=threshold)
    if categories is not None:
        label_set = read_categories(Path(categories))
    names = None if label_set is None else frozenset(category.name for category in label_set)
    if classes is not None:
        asked = frozenset(name.strip() for name in classes)
        _check_classes(asked, names, view, job, categories)
        view = replace(view, labels=asked)
    elif names is not None and categories is not None:
        view = replace(view, labels=names if view.labels is None else names & view.labels)
    return Annotations(view, label_set)


def _check_classes(
    asked: frozenset[str],
    names: frozenset[str] | None,
    view: View,
    job: Mapping[str, Any],
    categories: str | Path | None,
) -> None:
    if names is not None and (unknown := sorted(asked - names)):
        where = categories or "the label set of this run: name another with --categories"
        raise UsageError(f"--classes: {unknown[0]!r} is not in {where}")
    # A segmenter, or a detector without a class set of its own, was asked for these only.
    is_narrow = view.segmenter is not None or bool(job["requests"][0]["parameters"].get("classes"))
    if is_narrow and view.labels is not None and (missing := sorted(asked - view.labels)):
        raise UsageError(
            f"--classes: this run was not asked for {missing[0]!r}: "
            f"run {job['task']} again with these classes"
        )


def _lowest_recorded(job: Mapping[str, Any], view: View) -> float:
    if view.segmenter is not None:
        return view.threshold or 0.0
    floor: float = job["requests"][0]["parameters"]["box_threshold"]
    return floor
