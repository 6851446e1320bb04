"""What outputs hold of records: annotated images, or vectors; each says what it leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import orjson
from sqlalchemy import ColumnElement, Connection, and_, select

from pixano_cli import formats
from pixano_cli.annotate.identity import Request
from pixano_cli.annotate.outputs import Output
from pixano_cli.annotate.record_files import Failed, NamedFile, RecordFiles
from pixano_cli.annotate.shapes import DRAWN, ElementError, annotation_of
from pixano_cli.annotations import AnnotatedImage, Annotation, Category, number, order
from pixano_cli.formats.categories import read_categories
from pixano_cli.formats.embeddings import EmbeddedImage, write_embeddings
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.models import TaskType
from pixano_cli.inference_store.records import from_bytes

ImageT = TypeVar("ImageT")

_table, _elements, _embeddings = schema.inferences, schema.elements, schema.embeddings

is_drawn = and_(_table.c.version == "v2", _table.c.task_type.in_(sorted(DRAWN)))
"""Whether a record's elements are drawn in an image."""

is_vector = and_(
    _table.c.task_type != TaskType.TEXT_EMBEDDING.value,
    select(_embeddings.c.inference).where(_embeddings.c.inference == _table.c.id).exists(),
)
"""Whether a record is an image's vector."""


class RecordProduct(Protocol[ImageT]):
    """What the outputs of an export of records hold."""

    @property
    def condition(self) -> ColumnElement[bool]:
        """Which records they hold, of those that are to be exported."""

    def provenance(self) -> dict[str, Any]:
        """Return what outputs say about it."""

    def images(self) -> Iterator[ImageT | Failed]:
        """Yield the images in order of name, from the start each time; memory stays bounded."""

    def annotations(self, image: ImageT) -> int:
        """Return how many annotations an image has; without any it is empty."""

    def write(
        self, output: Output, images: Iterable[ImageT], provenance: Mapping[str, Any]
    ) -> None:
        """Write images to an output."""


@dataclass(frozen=True, slots=True)
class RecordImages:
    """Annotated images, each with the annotations of all records about its file.

    Attributes:
        files: The files that drawn records are about.
        label_set: The label set.
        threshold: Lowest score to show; None shows all. What has no score is shown.
        labels: Which labels to show; None shows all.
    """

    files: RecordFiles
    label_set: tuple[Category, ...]
    threshold: float | None = None
    labels: frozenset[str] | None = None

    @property
    def condition(self) -> ColumnElement[bool]:
        """Return which records they hold."""
        return self.files.condition

    def provenance(self) -> dict[str, Any]:
        """Return what outputs say about it."""
        return {
            "coordinates": "pixels of the image as displayed (EXIF orientation applied)",
            "threshold": self.threshold,
            "classes": None if self.labels is None else sorted(self.labels),
        }

    def images(self) -> Iterator[AnnotatedImage | Failed]:
        """Yield the images in order of name; one with an element of no form has failed."""
        for each in self.files:
            if isinstance(each, Failed):
                yield each
                continue
            try:
                shown = [*self._annotations(each)]
            except ElementError as error:
                yield Failed(each.name, type(error).__name__, str(error))
                continue
            first = each.file.records[0]
            yield AnnotatedImage(
                file_name=each.name,
                sha256=each.file.data_hash,
                width=each.picture.width,
                height=each.picture.height,
                orientation=each.picture.orientation,
                annotations=order(shown),
                video=each.file.video,
                frame_index=first.frame_index,
                timestamp_s=first.timestamp_s,
            )

    def annotations(self, image: AnnotatedImage) -> int:
        """Return how many annotations an image has."""
        return len(image.annotations)

    def write(
        self, output: Output, images: Iterable[AnnotatedImage], provenance: Mapping[str, Any]
    ) -> None:
        """Write images to an output."""
        numbered = number(images, self.label_set)
        formats.write(output.format, numbered, output.path, self.label_set, provenance)

    def _annotations(self, each: NamedFile) -> Iterator[Annotation]:
        picture = each.picture
        for record in each.file.records:
            for position, element in enumerate(orjson.loads(record.data)):
                if not self._shows(element["label"], element.get("score")):
                    continue
                try:
                    found = annotation_of(record.task_type, element, picture.width, picture.height)
                except ElementError as error:
                    raise ElementError(
                        f"element {position} of record {record.inference_id!r} of model "
                        f"{record.model_id!r}: {error}"
                    ) from error
                if found is not None:
                    track_id = element.get("track_id")
                    yield replace(found, track_id=track_id) if type(track_id) is int else found

    def _shows(self, label: str, score: float | None) -> bool:
        if self.labels is not None and label not in self.labels:
            return False
        return self.threshold is None or score is None or score >= self.threshold


def record_images(
    files: RecordFiles,
    *,
    threshold: float | None,
    classes: Sequence[str] | None,
    categories: str | Path | None,
) -> RecordImages:
    """Return the annotated images of files, and choose their label set.

    It is that of the file, if one is given. Else it is the one that the runs had which made the
    records, if they all had one and the same, and it holds all that occurs. Else it is what
    occurs, numbered from 1 in alphabetical order.

    Args:
        files: The files that drawn records are about.
        threshold: Lowest score to show.
        classes: Which classes to show; None for all.
        categories: A file with the label set; what is not in it is left out.

    Raises:
        UsageError: If the file cannot be read.
    """
    labels = None if classes is None else frozenset(name.strip() for name in classes)
    if categories is not None:
        label_set = read_categories(Path(categories))
        names = frozenset(category.name for category in label_set)
        labels = names if labels is None else names & labels
    else:
        occurring = _occurring(files, threshold, labels)
        label_set = _runs_label_set(files) or ()
        if not {*occurring} <= {category.name for category in label_set}:
            label_set = tuple(Category(index, label) for index, label in enumerate(occurring, 1))
    shown = tuple(each for each in label_set if labels is None or each.name in labels)
    return RecordImages(files, shown, threshold, labels)


@dataclass(frozen=True, slots=True)
class RecordVectors:
    """Images with their vectors, a row a record; a `RecordProduct`."""

    files: RecordFiles

    @property
    def condition(self) -> ColumnElement[bool]:
        """Return which records they hold."""
        return self.files.condition

    def provenance(self) -> dict[str, Any]:
        """Return what outputs say about it."""
        return {"vectors": "as the model gives them, not scaled to length 1"}

    def images(self) -> Iterator[EmbeddedImage | Failed]:
        """Yield the images in order of name."""
        for each in self.files:
            if isinstance(each, Failed):
                yield each
                continue
            for record in each.file.records:
                yield EmbeddedImage(
                    file_name=each.name,
                    sha256=each.file.data_hash,
                    width=each.picture.width,
                    height=each.picture.height,
                    orientation=each.picture.orientation,
                    embedding=np.array(from_bytes(record.vector), np.float32),
                )

    def annotations(self, image: EmbeddedImage) -> int:
        """Return 1: every image has its vector."""
        return 1

    def write(
        self, output: Output, images: Iterable[EmbeddedImage], provenance: Mapping[str, Any]
    ) -> None:
        """Write images to an output, which is Parquet."""
        write_embeddings(images, output.path, None, provenance)


def asked(
    connection: Connection, condition: ColumnElement[bool]
) -> tuple[list[str], list[str | None]]:
    """Return the models of records and the keys of what they were asked, sorted, each once.

    The key of records that were made by hand is None, and the first.
    """
    query = select(_table.c.model_id, _table.c.request_key).where(condition).distinct()
    models, keys = set(), set()
    for model_id, key in connection.execute(query):
        models.add(model_id)
        keys.add(key)
    return sorted(models), sorted(keys, key=lambda key: (key is not None, key))


def _occurring(
    files: RecordFiles, threshold: float | None, labels: frozenset[str] | None
) -> list[str]:
    """Return the labels of what is shown, sorted, wherever it lies."""
    query = (
        select(_elements.c.label)
        .join(_table, _table.c.id == _elements.c.inference)
        .where(files.condition)
        .distinct()
    )
    if threshold is not None:
        score = _elements.c.score
        query = query.where(score.is_(None) | (score >= threshold))
    occurring = files.connection.execute(query).scalars()
    return sorted(label for label in occurring if labels is None or label in labels)


def _runs_label_set(files: RecordFiles) -> tuple[Category, ...] | None:
    """Return the label set of the runs that asked for the records; None unless there is one."""
    _, keys = asked(files.connection, files.condition)
    query = select(schema.runs.c.job).order_by(schema.runs.c.started_at)
    found: dict[str | None, Any] = {}
    for job in map(orjson.loads, files.connection.execute(query).scalars()):
        for request in job["requests"]:
            if (key := Request(**request).key) in keys:
                found[key] = job["categories"]
    label_sets = {orjson.dumps(found.get(key)) for key in keys}
    if len(label_sets) != 1:
        return None
    categories = orjson.loads(label_sets.pop())
    return None if categories is None else tuple(Category(**each) for each in categories)
