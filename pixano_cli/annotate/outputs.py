"""Writing outputs: pure functions of the record, and beside them what is not.

`OUTPUT` itself holds no time and no absolute path; those are in `OUTPUT.run.json`. Failures are
in `OUTPUT.failed.jsonl`, which is there only if there are any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

import orjson

from pixano_cli import formats
from pixano_cli.annotations import AnnotatedImage, Category, number
from pixano_cli.errors import UsageError
from pixano_cli.formats.atomic import remove, replacing
from pixano_cli.formats.text import portable
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.ledger import Failure, Item, failures

ImageT = TypeVar("ImageT")

FormatOf = Callable[[Path, str | None], str]
"""Chooses the format of an output, by its name or by that of a format."""


@dataclass(frozen=True, slots=True)
class Output:
    """A file to write, and its format."""

    path: Path
    format: str


@dataclass(slots=True)
class Counts:
    """What an output holds; files are images, or videos, of which the images are frames."""

    files: int = 0
    images: int = 0
    empty: int = 0
    annotations: int = 0


Images = Callable[[], Iterable[ImageT]]
"""Gives the images from the start each time."""

Write = Callable[[Output, Iterable[ImageT], Mapping[str, Any]], None]
"""Writes images, and what made them, to an output."""


class Product(Protocol[ImageT]):
    """What the outputs of a job hold; with what is asked it is all that commands differ in.

    Outputs are a function of it and of the record.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return what is kept of it with a run, to write its outputs again."""

    def provenance(self) -> dict[str, Any]:
        """Return what outputs say about it."""

    def recorded(self, store: Store, items: Sequence[Item]) -> set[str]:
        """Return the names of those items, of known digest, that the record answers already."""

    def images(self, store: Store, run_id: str) -> Iterator[ImageT]:
        """Yield the images of a run that are done, in order of name; memory stays bounded.

        An image whose answers were deleted from the store since is not among them: nobody knows
        that it is empty.
        """

    def annotations(self, image: ImageT) -> int:
        """Return how many annotations an image has; without any it is empty."""

    def writer(self, images: Images[ImageT]) -> Write[ImageT]:
        """Return what writes an output.

        Args:
            images: The images to be written, for what must be known before the first one.
        """


def listed(paths: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    """Return paths as a list, of which one may stand alone."""
    return [paths] if isinstance(paths, str | Path) else paths


def plan_outputs(
    paths: str | Path | Sequence[str | Path],
    format_name: str | None,
    format_of: FormatOf = formats.format_of,
) -> tuple[Output, ...]:
    """Choose each output's format and see that it can be written, without writing anything.

    Args:
        paths: The files, or one alone.
        format_name: Format of them all; None for that of each suffix.
        format_of: Chooses among the formats that can hold what is to be written.

    Raises:
        UsageError: If a format is unknown, a path cannot be written, or is given twice.
    """
    outputs = tuple(
        Output(Path(path), format_of(Path(path), format_name)) for path in listed(paths)
    )
    seen: set[Path] = set()
    for output in outputs:
        resolved = output.path.resolve()
        if resolved in seen:
            raise UsageError(f"output {output.path} is given twice")
        seen.add(resolved)
        formats.check_output(output.path, output.format)
    return outputs


def label_categories(images: Iterable[AnnotatedImage]) -> tuple[Category, ...]:
    """Number the labels that occur from 1, in alphabetical order."""
    labels = sorted({each.label for image in images for each in image.annotations})
    return tuple(Category(index, label) for index, label in enumerate(labels, start=1))


def annotation_writer(
    images: Images[AnnotatedImage], categories: Sequence[Category] | None
) -> Write[AnnotatedImage]:
    """Return what writes annotated images, their annotations numbered.

    Args:
        images: The images, in order.
        categories: The label set; None numbers the labels that occur.
    """
    label_set = label_categories(images()) if categories is None else categories

    def write(
        output: Output, shown: Iterable[AnnotatedImage], provenance: Mapping[str, Any]
    ) -> None:
        numbered = number(shown, label_set)
        formats.write(output.format, numbered, output.path, label_set, provenance)

    return write


def write_outputs(
    outputs: Sequence[Output],
    product: Product[ImageT],
    images: Images[ImageT],
    provenance: Mapping[str, Any],
) -> Counts:
    """Write every output and count what is in them.

    Args:
        outputs: The files; none at all is a way to count.
        product: What they hold.
        images: The images, in order.
        provenance: What goes into every output about where it comes from.

    Raises:
        OutputError: If a file cannot be written.
    """
    counts = Counts()
    if not outputs:
        for _ in _counted(images(), product, counts):
            pass
        return counts
    write = product.writer(images)
    for output in outputs:
        counts = Counts()
        write(output, _counted(images(), product, counts), provenance)
    return counts


def write_failures(outputs: Sequence[Output], store: Store, run_id: str) -> None:
    """Write each output's list of failures, or remove an earlier run's if there are none.

    Raises:
        OutputError: If one cannot be written or removed.
    """
    for output in outputs:
        write_failed(output, (failure_line(*each) for each in failures(store, run_id)))


def write_failed(output: Output, lines: Iterable[bytes]) -> None:
    """Write an output's list of failures from its lines; without any there is none.

    Raises:
        OutputError: If it cannot be written, or an earlier one not be removed.
    """
    path = beside(output.path, "failed.jsonl")
    left = iter(lines)
    first = next(left, None)
    if first is None:
        remove(path)
        return
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(chain([first], left))


def failure_line(name: str, failure: Failure) -> bytes:
    """Return the line that a list of failures has for a file."""
    told = {
        "path": portable(name),
        "stage": failure.stage,
        "error_class": failure.error_class,
        "message": failure.message,
    }
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


def write_run_file(output: Output, content: Mapping[str, Any]) -> None:
    """Write what is true of one run only: when, where, from what, how long."""
    with replacing(beside(output.path, "run.json")) as temporary:
        temporary.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


def beside(output: Path, suffix: str) -> Path:
    """Return the path of a file that goes with an output."""
    return output.with_name(f"{output.name}.{suffix}")


def _counted(
    images: Iterable[ImageT], product: Product[ImageT], counts: Counts
) -> Iterator[ImageT]:
    video = None
    for image in images:
        annotations = product.annotations(image)
        of = image.video if isinstance(image, AnnotatedImage) else None
        counts.files += of is None or of != video
        video = of
        counts.images += 1
        counts.empty += not annotations
        counts.annotations += annotations
        yield image
