"""Writing outputs: pure functions of the record, and beside them what is not.

`OUTPUT` itself holds no time and no absolute path; those are in `OUTPUT.run.json`. Failures are
in `OUTPUT.failed.jsonl`, which is there only if there are any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pixano_cli import formats
from pixano_cli.annotations import AnnotatedImage, Category, number
from pixano_cli.errors import UsageError
from pixano_cli.formats.atomic import check_writable, replacing
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.ledger import failures

Images = Callable[[], Iterable[AnnotatedImage]]
"""Gives the images from the start each time."""


@dataclass(frozen=True, slots=True)
class Output:
    """A file to write, and its format."""

    path: Path
    format: str


@dataclass(slots=True)
class Counts:
    """What an output holds."""

    images: int = 0
    empty: int = 0
    annotations: int = 0


def plan_outputs(paths: Sequence[str | Path], format_name: str | None) -> tuple[Output, ...]:
    """Choose each output's format and see that it can be written, without writing anything.

    Raises:
        UsageError: If a format is unknown, a path cannot be written, or is given twice.
    """
    outputs = tuple(
        Output(Path(path), formats.format_of(Path(path), format_name)) for path in paths
    )
    seen: set[Path] = set()
    for output in outputs:
        resolved = output.path.resolve()
        if resolved in seen:
            raise UsageError(f"output {output.path} is given twice")
        seen.add(resolved)
        check_writable(output.path)
    return outputs


def label_categories(images: Iterable[AnnotatedImage]) -> tuple[Category, ...]:
    """Number the labels that occur from 1, in alphabetical order."""
    labels = sorted({each.label for image in images for each in image.annotations})
    return tuple(Category(index, label) for index, label in enumerate(labels, start=1))


def write_outputs(
    outputs: Sequence[Output],
    images: Images,
    categories: Sequence[Category] | None,
    provenance: Mapping[str, Any],
) -> Counts:
    """Write every output and count what is in them.

    Args:
        outputs: The files; none at all is a way to count.
        images: The images, in order.
        categories: The label set; None numbers the labels that occur.
        provenance: What goes into every output about where it comes from.

    Raises:
        OutputError: If a file cannot be written.
    """
    if categories is None:
        categories = label_categories(images())
    counts = Counts()
    for output in outputs:
        counts = Counts()
        numbered = number(_counted(images(), counts), categories)
        formats.write(output.format, numbered, output.path, categories, provenance)
    if not outputs:
        for _ in _counted(images(), counts):
            pass
    return counts


def write_failures(outputs: Sequence[Output], store: Store, run_id: str) -> None:
    """Write each output's list of failures, or remove an earlier run's if there are none."""
    failed = [
        orjson.dumps(
            {
                "path": name,
                "stage": failure.stage,
                "error_class": failure.error_class,
                "message": failure.message,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for name, failure in failures(store, run_id)
    ]
    for output in outputs:
        path = beside(output.path, "failed.jsonl")
        if failed:
            with replacing(path) as temporary:
                temporary.write_bytes(b"".join(failed))
        else:
            path.unlink(missing_ok=True)


def write_run_file(output: Output, content: Mapping[str, Any]) -> None:
    """Write what is true of one run only: when, where, from what, how long."""
    with replacing(beside(output.path, "run.json")) as temporary:
        temporary.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


def beside(output: Path, suffix: str) -> Path:
    """Return the path of a file that goes with an output."""
    return output.with_name(f"{output.name}.{suffix}")


def _counted(images: Iterable[AnnotatedImage], counts: Counts) -> Iterator[AnnotatedImage]:
    for image in images:
        counts.images += 1
        counts.empty += not image.annotations
        counts.annotations += len(image.annotations)
        yield image
