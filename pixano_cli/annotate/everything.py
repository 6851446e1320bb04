"""All masks of images: what is asked of a segmenter, and how its answers become outputs.

What is recorded are the masks that are written for some threshold from the floors up, so that
thresholds are applied when writing; see `suppression.ever_kept`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from pixano_cli import rle
from pixano_cli.annotate.answers import check_score
from pixano_cli.annotate.choosing import describe
from pixano_cli.annotate.identity import Request
from pixano_cli.annotate.job import Assignment, Command
from pixano_cli.annotate.outputs import Images, Write, annotation_writer
from pixano_cli.annotate.prompts import DEFAULT_LABEL
from pixano_cli.annotate.settings import ANSWER_TIMEOUT_S, Settings
from pixano_cli.annotate.suppression import OVERLAP, ever_kept, kept, overlaps
from pixano_cli.annotate.task import Image, record, registration
from pixano_cli.annotations import AnnotatedImage, Category, annotation_from_element, order
from pixano_cli.errors import UsageError
from pixano_cli.formats.categories import read_categories
from pixano_cli.inference.errors import InferenceError, TaskNotSupportedError
from pixano_cli.inference.everything import ImageEverythingInput, ImageEverythingOutput
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.types import InferenceTask
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.ledger import (
    Item,
    Picture,
    answered_digests,
    answers,
    pages,
    pictures,
)
from pixano_cli.inference_store.models import NewRegisterModelRequest
from pixano_cli.inference_store.records import Record
from pixano_cli.rle import CompressedRLEData

Element = Mapping[str, Any]

POINTS_PER_SIDE: Final = 16
MIN_IOU: Final = 0.8
MIN_STABILITY: Final = 0.95
# Nearby thresholds share one answer, which holds what is good enough for any of them.
_IOU_FLOOR, _STABILITY_FLOOR = 0.5, 0.8
_MOST_POINTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which of all masks are wanted.

    Attributes:
        points_per_side: Points of the grid along each side of an image.
        min_stability: Lowest stability of a mask, in whole hundredths.
        min_area: Least pixels of a mask.

    Raises:
        UsageError: If a value is out of range.
    """

    points_per_side: int = POINTS_PER_SIDE
    min_stability: float = MIN_STABILITY
    min_area: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        if not 1 <= self.points_per_side <= _MOST_POINTS:
            raise UsageError(
                f"--points-per-side {self.points_per_side}: 1 to {_MOST_POINTS} are wanted"
            )
        hundredths = 100 * self.min_stability
        if not (0 <= hundredths <= 100 and abs(hundredths - round(hundredths)) < 1e-6):
            raise UsageError(
                f"--min-stability {self.min_stability}: a number from 0 to 1 of at most two "
                "decimals is wanted"
            )
        if self.min_area < 0:
            raise UsageError(f"--min-area {self.min_area}: 0 or more is wanted")

    @classmethod
    def given(
        cls,
        everything: bool,
        points_per_side: int | None,
        min_stability: float | None,
        min_area: int | None,
    ) -> Wanted | None:
        """Read options, of which None is one's own choice; None if all masks are not wanted.

        Raises:
            UsageError: If a value is out of range, or given without `everything`.
        """
        options = {
            "points_per_side": points_per_side,
            "min_stability": min_stability,
            "min_area": min_area,
        }
        said: dict[str, Any] = {name: each for name, each in options.items() if each is not None}
        if everything:
            return cls(**said)
        for name in said:
            raise UsageError(f"--{name.replace('_', '-')}: it is for --everything: leave it out")
        return None


def everything_of(settings: Settings, model: str | None, wanted: Wanted) -> Command:
    """Return the command `segment --everything`; its threshold is of the predicted IoU.

    Raises:
        UsageError: If classes are named, or a label set without the one class that there is.
    """
    if settings.classes is not None:
        raise UsageError("--classes: --everything knows no classes: leave it out")
    categories = _label_set(settings.categories)
    threshold = MIN_IOU if settings.threshold is None else settings.threshold

    async def assign(provider: InferenceProvider) -> Assignment:
        chosen, described = await describe(provider, model, InferenceTask.MASK_GENERATION)
        if not described.gives_everything:
            raise TaskNotSupportedError(
                f"--everything: model {chosen!r} of provider {provider.name!r} makes masks for "
                "prompts only: use mobile-sam or a sam2 model of the provider local, or give "
                "prompts"
            )
        floors = {
            "min_iou": _IOU_FLOOR if threshold >= _IOU_FLOOR else 0.0,
            "min_stability": _STABILITY_FLOOR if wanted.min_stability >= _STABILITY_FLOOR else 0.0,
        }
        request = Request(
            task=InferenceTask.MASK_GENERATION.value,
            provider=provider.name,
            model=chosen,
            model_digest=described.digest,
            parameters={
                **described.parameters,
                "points_per_side": wanted.points_per_side,
                **floors,
                "box_overlap": OVERLAP,
            },
        )
        task = Everything(provider, request, settings.timeout)
        shown = EveryMask(request.key, threshold, wanted.min_stability, wanted.min_area, categories)
        return Assignment(task, shown)

    return Command(assign)


@dataclass(frozen=True, slots=True)
class Everything:
    """All masks of an image, within `timeout` seconds."""

    provider: InferenceProvider
    request: Request
    timeout: float = ANSWER_TIMEOUT_S
    name: str = "segment"

    @property
    def requests(self) -> tuple[Request, ...]:
        """The one request."""
        return (self.request,)

    @property
    def registrations(self) -> tuple[NewRegisterModelRequest, ...]:
        """The segmenter."""
        return (registration(self.request),)

    @property
    def settled_by(self) -> str | None:
        """Key of the one request."""
        return self.request.key

    async def ask(self, image: Image, store: Store, *, again: bool) -> list[Record]:
        """Ask for the masks, unless they are recorded.

        Raises:
            InferenceError: If the provider fails or answers nonsense.
        """
        sha256 = image.picture.sha256
        if not again and answered_digests(store, self.request.key, [sha256]):
            return []
        parameters = self.request.parameters
        result = await self.provider.image_everything(
            ImageEverythingInput(
                image=image.url,
                model=self.request.model,
                points_per_side=parameters["points_per_side"],
                min_iou=parameters["min_iou"],
                min_stability=parameters["min_stability"],
            ),
            timeout=self.timeout,
        )
        elements = await asyncio.to_thread(
            everything_elements, result.data, image.picture, parameters["min_stability"]
        )
        return [record(image, self.request, elements, said=result.metadata)]


def everything_elements(
    output: ImageEverythingOutput, picture: Picture, min_stability: float
) -> list[dict[str, Any]]:
    """Check an answer; return the masks of it that may be written as image_segmentation elements.

    Args:
        output: The answer.
        picture: The image it is about.
        min_stability: Lowest stability that was asked for.

    Raises:
        InferenceError: If it is malformed.
    """
    numbers = (output.scores, output.stabilities, output.points)
    if any(len(each) != len(output.masks) for each in numbers):
        raise InferenceError("the model's answer is malformed: not one score a mask")
    for number in (*output.scores, *output.stabilities):
        check_score(number)
    if any(one < other for one, other in zip(output.scores, output.scores[1:], strict=False)):
        raise InferenceError("the model's answer is malformed: the best mask is not the first")
    for mask in output.masks:
        try:
            rle.check(mask, (picture.height, picture.width))
        except ValueError as error:
            raise InferenceError(f"the model's answer is malformed: {error}") from error
    stabilities = np.array(output.stabilities, np.float64)
    chosen = ever_kept(overlaps(output.masks), stabilities, min_stability)
    return [
        {
            "label": DEFAULT_LABEL,
            "score": output.scores[index],
            "rle": output.masks[index].to_dict(),
            "iou": output.scores[index],
            "stability": output.stabilities[index],
            "point": output.points[index],
        }
        for index in chosen
    ]


@dataclass(frozen=True, slots=True)
class EveryMask:
    """All masks of images as the product of a job; see `outputs.Product`.

    Attributes:
        segmenter: Key of the request that asked for them.
        threshold: Lowest predicted IoU to show.
        min_stability: Lowest stability to show.
        min_area: Least pixels to show.
        label_set: The label set.
    """

    segmenter: str
    threshold: float
    min_stability: float
    min_area: int
    label_set: tuple[Category, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what is kept of it with a run."""
        return {
            "view": {
                "everything": self.segmenter,
                "threshold": self.threshold,
                "min_stability": self.min_stability,
                "min_area": self.min_area,
            },
            "categories": [asdict(category) for category in self.label_set],
        }

    @classmethod
    def from_dict(cls, recorded: Mapping[str, Any]) -> EveryMask:
        """Read what `to_dict` made."""
        view = recorded["view"]
        return cls(
            view["everything"],
            view["threshold"],
            view["min_stability"],
            view["min_area"],
            tuple(Category(**each) for each in recorded["categories"]),
        )

    def shown(
        self,
        job: Mapping[str, Any],
        threshold: float | None,
        classes: Sequence[str] | None,
        categories: str | Path | None,
    ) -> EveryMask:
        """Return the same with another threshold or label set, as `export` takes them.

        Raises:
            UsageError: If the run did not record so much, or there are no such classes.
        """
        if classes is not None:
            raise UsageError("--classes: this run was --everything, which knows no classes")
        product = self
        if threshold is not None:
            floor = job["requests"][0]["parameters"]["min_iou"]
            if threshold < floor:
                raise UsageError(
                    f"--threshold {threshold}: this run recorded scores from {floor} up: run "
                    f"segment --everything again with --threshold {threshold}"
                )
            product = replace(product, threshold=threshold)
        if categories is not None:
            product = replace(product, label_set=_label_set(categories))
        return product

    def provenance(self) -> dict[str, Any]:
        """Return what outputs say about it."""
        return {
            "coordinates": "pixels of the image as displayed (EXIF orientation applied)",
            "threshold": self.threshold,
            "min_stability": self.min_stability,
            "min_area": self.min_area,
            "classes": None,
        }

    def recorded(self, store: Store, items: Sequence[Item]) -> set[str]:
        """Return the names of those items, of known digest, that the record answers already."""
        digests = [item.sha256 for item in items if item.sha256]
        known = answered_digests(store, self.segmenter, digests)
        return {item.file_name for item in items if item.sha256 in known}

    def images(self, store: Store, run_id: str) -> Iterator[AnnotatedImage]:
        """Yield the images of a run that are done, in order of name."""
        for page in pages(store, run_id, "processed", "cached"):
            digests = [item.sha256 for item in page if item.sha256]
            known = pictures(store, digests)
            found = answers(store, self.segmenter, digests)
            for item in page:
                picture = known.get(item.sha256 or "")
                if picture is not None and picture.sha256 in found:
                    yield self.annotate(item, picture, found[picture.sha256])

    def annotate(self, item: Item, picture: Picture, elements: Sequence[Element]) -> AnnotatedImage:
        """Return the image with what is shown of its answer."""
        good = [
            element
            for element in elements
            if element["iou"] >= self.threshold and element["stability"] >= self.min_stability
        ]
        masks = [CompressedRLEData.from_dict(element["rle"]) for element in good]
        chosen = kept(overlaps(masks), np.ones(len(masks), np.bool_))
        objects = [
            annotation_from_element(good[index], picture.width, picture.height) for index in chosen
        ]
        return AnnotatedImage(
            file_name=item.file_name,
            sha256=picture.sha256,
            width=picture.width,
            height=picture.height,
            orientation=picture.orientation,
            annotations=order(each for each in objects if each and each.area >= self.min_area),
        )

    def annotations(self, image: AnnotatedImage) -> int:
        """Return how many annotations an image has."""
        return len(image.annotations)

    def writer(self, images: Images[AnnotatedImage]) -> Write[AnnotatedImage]:
        """Return what writes an output."""
        return annotation_writer(images, self.label_set)


def _label_set(path: str | Path | None) -> tuple[Category, ...]:
    if path is None:
        return (Category(1, DEFAULT_LABEL),)
    categories = read_categories(Path(path))
    if DEFAULT_LABEL not in [category.name for category in categories]:
        raise UsageError(
            f"--categories: {path} has no class {DEFAULT_LABEL!r}, the one that --everything gives"
        )
    return categories
