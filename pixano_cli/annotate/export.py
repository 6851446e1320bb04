"""Writing outputs again from the record, without any inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

from pixano_cli.annotate.job import provenance
from pixano_cli.annotate.outputs import plan_outputs, write_outputs
from pixano_cli.annotate.settings import Settings
from pixano_cli.annotate.summary import Summary
from pixano_cli.annotate.view import View, annotated_images
from pixano_cli.annotations import Category
from pixano_cli.errors import UsageError
from pixano_cli.formats.categories import read_categories
from pixano_cli.inference_store import ledger
from pixano_cli.inference_store.database import open_store


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
) -> Summary:
    """Write what a run recorded, in any format, with the run's threshold and classes or others.

    Args:
        outputs: The files to write; their suffixes choose the formats.
        run: Id of the run; None for the latest.
        task: "detect" or "segment": the latest run of this task.
        threshold: Lowest score to write; None for the run's.
        classes: Which classes to write; None for the run's.
        categories: A file with the label set to write; None for the run's.
        format: Format of the outputs, whatever their suffixes.
        store: Folder of the inference store; None for PIXANO_STORE, else .pixano-annotate.

    Raises:
        UsageError: If there is no such run, or it did not record what is asked for.
        OutputError: If an output cannot be written.
        StoreError: If the store cannot be read.
    """
    started = monotonic()
    Settings(threshold=threshold, classes=classes)
    planned = plan_outputs(outputs, format)
    with open_store(store, create=False) as opened:
        found = ledger.find_run(opened, run, task)
        if found is None:
            asked = f"run {run}" if run else f"{task} run" if task else "run"
            raise UsageError(f"store {opened.folder}: no {asked} is recorded")
        view = _view(found.job, threshold, classes)
        label_set, view = _label_set(found.job, view, categories)
        written = write_outputs(
            planned,
            lambda: annotated_images(opened, found.run_id, view),
            label_set,
            provenance(found.job["task"], view, found.job["requests"]),
        )
        failed = ledger.count_items(opened, found.run_id)["failed"]
    last = found.job["requests"][-1]
    return Summary(
        task=found.job["task"],
        model=last["model"],
        provider=last["provider"],
        total=written.images + failed,
        processed=0,
        cached=written.images,
        failed=failed,
        empty=written.empty,
        annotations=written.annotations,
        seconds=monotonic() - started,
        outputs=tuple(str(output.path) for output in planned),
    )


def _view(job: Mapping[str, Any], threshold: float | None, classes: Sequence[str] | None) -> View:
    recorded = job["view"]
    labels = recorded["labels"]
    view = View(
        detector=recorded["detector"],
        segmenter=recorded["segmenter"],
        threshold=recorded["threshold"],
        labels=None if labels is None else frozenset(labels),
    )
    if threshold is not None:
        floor = _lowest_recorded(job, view)
        if threshold < floor:
            raise UsageError(
                f"--threshold {threshold}: this run recorded scores from {floor} up: "
                f"run {job['task']} again with --threshold {threshold}"
            )
        view = replace(view, threshold=threshold)
    if classes is not None:
        # A segmenter was given only the objects of the classes that were asked for.
        if view.segmenter and view.labels is not None:
            missing = sorted(set(classes) - view.labels)
            if missing:
                raise UsageError(
                    f"--classes: this run did not segment {missing[0]!r}: "
                    f"run {job['task']} again with these classes"
                )
        view = replace(view, labels=frozenset(classes))
    return view


def _lowest_recorded(job: Mapping[str, Any], view: View) -> float:
    if view.segmenter is not None:
        return view.threshold or 0.0
    floor: float = job["requests"][0]["parameters"]["box_threshold"]
    return floor


def _label_set(
    job: Mapping[str, Any], view: View, categories: str | Path | None
) -> tuple[tuple[Category, ...] | None, View]:
    if categories is not None:
        label_set = read_categories(Path(categories))
        names = frozenset(category.name for category in label_set)
        return label_set, replace(
            view, labels=names if view.labels is None else names & view.labels
        )
    recorded = job["categories"]
    if recorded is None:
        return None, view
    label_set = tuple(Category(**category) for category in recorded)
    if view.labels is not None:
        label_set = tuple(category for category in label_set if category.name in view.labels)
    return label_set, view
