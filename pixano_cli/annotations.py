"""The one value type: an image with its annotations.

What a record of the inference store becomes, and what every output format reads. All
coordinates are pixels of the image as displayed (EXIF orientation applied), origin at the
top left corner, x to the right, y down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, NamedTuple

from pixano_cli import rle
from pixano_cli.rle import CompressedRLEData


class Box(NamedTuple):
    """An axis-aligned box in pixels: the corners (xmin, ymin) and (xmax, ymax)."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return (self.xmax - self.xmin) * (self.ymax - self.ymin)

    @property
    def is_empty(self) -> bool:
        """Whether the box has no inside; a box with a NaN in it has none."""
        return not (self.xmax > self.xmin and self.ymax > self.ymin)

    def clip(self, width: int, height: int) -> Box:
        """Return the part of the box inside an image of `width` x `height` pixels.

        A NaN stays a NaN, so that the box stays empty. The coordinates are floats and never -0.0,
        so that equal boxes are written alike.
        """
        # Adding 0.0 turns an int into a float and -0.0 into 0.0.
        return Box(
            min(max(self.xmin + 0.0, 0.0), float(width)),
            min(max(self.ymin + 0.0, 0.0), float(height)),
            min(max(self.xmax + 0.0, 0.0), float(width)),
            min(max(self.ymax + 0.0, 0.0), float(height)),
        )


@dataclass(frozen=True, slots=True)
class Category:
    """One class of a label set, with the id that evaluation uses."""

    id: int
    name: str
    supercategory: str | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """One object in an image.

    Attributes:
        label: Class name.
        score: Confidence in [0, 1]; None if the model gives none.
        box: Box in displayed pixels, clipped to the image, not empty; of the mask, if there is one.
        area: Square pixels of the mask, else of the box.
        mask: Mask of the whole image's size.
        track_id: Identity of the object through a video.
        category_id: Id of the label in the output's categories; 0 until numbered.
        id: Id of the annotation in the output, from 1; 0 until numbered.
    """

    label: str
    score: float | None
    box: Box
    area: float
    mask: CompressedRLEData | None = None
    track_id: int | None = None
    category_id: int = 0
    id: int = 0


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """An image or a video's frame with its annotations, of which there may be none.

    Attributes:
        file_name: POSIX path relative to the source's root.
        sha256: Hex digest of the file's bytes.
        width: Width as displayed, in pixels.
        height: Height as displayed, in pixels.
        orientation: EXIF orientation as stored in the file, 1 to 8.
        annotations: Best score first.
        video: File name of the video the frame is of.
        frame_index: Index of the frame in its video, from 0.
        timestamp_s: Presentation time of the frame in seconds.
        caption: Text about the image.
        id: Id of the image in the output, from 1; 0 until numbered.
    """

    file_name: str
    sha256: str
    width: int
    height: int
    orientation: int
    annotations: tuple[Annotation, ...] = ()
    video: str | None = None
    frame_index: int | None = None
    timestamp_s: float | None = None
    caption: str | None = None
    id: int = 0


def annotation_from_element(
    element: Mapping[str, Any], width: int, height: int
) -> Annotation | None:
    """Read a record's element as an annotation of an image of `width` x `height` pixels.

    Args:
        element: An object_detection element (`label`, `score`, `xmin`, `ymin`, `xmax`, `ymax`) or
            an image_segmentation element (`label`, `score`, `rle`), as the inference store
            keeps them.
        width: Width of the displayed image in pixels.
        height: Height of the displayed image in pixels.

    Returns:
        The annotation, or None where nothing of the object lies inside the image.
    """
    mask = None
    if "rle" in element:
        mask = CompressedRLEData.from_dict(element["rle"])
        box = Box(*rle.bounding_box(mask))
        area = float(rle.area(mask))
    else:
        box = Box(element["xmin"], element["ymin"], element["xmax"], element["ymax"])
        box = box.clip(width, height)
        area = box.area
    if box.is_empty:
        return None
    score = element.get("score")
    if score is not None:
        score = float(score) if score == score else None
    return Annotation(element["label"], score, box, area, mask)


def order(annotations: Iterable[Annotation]) -> tuple[Annotation, ...]:
    """Sort best score first, those without a score last.

    Ties are broken by label, box, mask and track: annotations that differ have one order, and it
    does not depend on the run.
    """
    return tuple(sorted(annotations, key=_rank))


def _rank(annotation: Annotation) -> tuple[Any, ...]:
    score, mask, track_id = annotation.score, annotation.mask, annotation.track_id
    return (
        inf if score is None else -score,
        annotation.label,
        annotation.box,
        b"" if mask is None else mask.counts,
        -1 if track_id is None else track_id,
        annotation.area,
    )


def number(
    images: Iterable[AnnotatedImage], categories: Sequence[Category]
) -> Iterator[AnnotatedImage]:
    """Give images and annotations their ids, from 1, and annotations their category's id.

    Raises:
        KeyError: If an annotation's label is not among `categories`.
    """
    category_ids = {category.name: category.id for category in categories}
    next_id = 1
    for image_id, image in enumerate(images, start=1):
        # Named one by one: dataclasses.replace takes twice as long, for each of a million.
        numbered = tuple(
            Annotation(
                each.label,
                each.score,
                each.box,
                each.area,
                each.mask,
                each.track_id,
                category_ids[each.label],
                annotation_id,
            )
            for annotation_id, each in enumerate(image.annotations, start=next_id)
        )
        next_id += len(numbered)
        yield replace(image, id=image_id, annotations=numbered)
