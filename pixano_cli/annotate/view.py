"""Boxes and masks as outputs: pure functions from recorded answers to annotated images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pixano_cli.annotate.outputs import Images, Write, annotation_writer
from pixano_cli.annotate.prompts import (
    Geometry,
    Prompt,
    PromptError,
    geometry_from_dict,
    load_prompts,
)
from pixano_cli.annotations import (
    AnnotatedImage,
    Annotation,
    Box,
    Category,
    annotation_from_element,
    order,
)
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.ledger import (
    Item,
    Picture,
    answered_digests,
    answers,
    pages,
    pictures,
)

Elements = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Answered:
    """What the record holds of an image.

    Attributes:
        picture: Its size and orientation.
        found: What the detector found; None if it has not answered, or was not asked.
        segmented: What the segmenter answered.
    """

    picture: Picture
    found: Elements | None
    segmented: Elements = ()


@dataclass(frozen=True, slots=True)
class View:
    """Which answers to show, and what of them.

    Attributes:
        detector: Key of the request that found the objects; None where a file names them.
        segmenter: Key of the request that segmented them; None for boxes only.
        threshold: Lowest score to show; None shows all.
        labels: Which classes to show; None shows all.
    """

    detector: str | None
    segmenter: str | None = None
    threshold: float | None = None
    labels: frozenset[str] | None = None

    def shows(self, label: str, score: float | None) -> bool:
        """Return whether an object of this label and score is shown; one without score is."""
        if self.labels is not None and label not in self.labels:
            return False
        return self.threshold is None or score is None or score >= self.threshold

    def categories(self, label_set: Sequence[Category] | None) -> tuple[Category, ...] | None:
        """Return those of a label set that are shown; None for whatever occurs."""
        if label_set is None:
            return None
        return tuple(each for each in label_set if self.labels is None or each.name in self.labels)

    def prompts(self, item: Item, picture: Picture, found: Elements) -> list[Prompt]:
        """Return the prompts to segment in an image, best first, none of them twice.

        Args:
            item: The file, which may carry prompts of its own.
            picture: Its size.
            found: What the detector found, where there is one.

        Raises:
            PromptError: If a prompt of a file does not fit the image.
        """
        if item.prompts is not None:
            given = [
                prompt.fit(picture.width, picture.height) for prompt in load_prompts(item.prompts)
            ]
            return [prompt for prompt in given if self.shows(prompt.label, prompt.score)]
        prompts = []
        for element in found:
            if self.shows(element["label"], element["score"]):
                box = Box(element["xmin"], element["ymin"], element["xmax"], element["ymax"])
                box = box.clip(picture.width, picture.height)
                if not box.is_empty:
                    prompts.append(Prompt(element["label"], element["score"], box))
        return prompts

    def annotate(self, item: Item, answered: Answered) -> AnnotatedImage:
        """Return the image with what is shown of its answers, which are complete."""
        picture = answered.picture
        found = answered.found or ()
        if self.segmenter is None:
            objects = self._boxes(picture, found)
        else:
            objects = self._masks(item, picture, found, answered.segmented)
        return AnnotatedImage(
            file_name=item.file_name,
            sha256=picture.sha256,
            width=picture.width,
            height=picture.height,
            orientation=picture.orientation,
            annotations=order(objects),
        )

    def _boxes(self, picture: Picture, found: Elements) -> Iterator[Annotation]:
        for element in found:
            if self.shows(element["label"], element["score"]):
                annotation = annotation_from_element(element, picture.width, picture.height)
                if annotation is not None:
                    yield annotation

    def _masks(
        self, item: Item, picture: Picture, found: Elements, segmented: Elements
    ) -> Iterator[Annotation]:
        answered = answered_geometries(segmented)
        for prompt in self.prompts(item, picture, found):
            element = answered[prompt.geometry]
            score = element["iou"] if prompt.score is None else prompt.score
            if self.shows(prompt.label, score):
                shown = {"label": prompt.label, "score": score, "rle": element["rle"]}
                annotation = annotation_from_element(shown, picture.width, picture.height)
                if annotation is not None:
                    yield annotation


@dataclass(frozen=True, slots=True)
class Annotations:
    """Annotated images as the product of a job; see `outputs.Product`.

    Attributes:
        view: What of the answers is shown.
        label_set: The label set, of which the view shows some; None numbers the labels that occur.
    """

    view: View
    label_set: tuple[Category, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what is kept of it with a run."""
        view = self.view
        return {
            "view": {
                "detector": view.detector,
                "segmenter": view.segmenter,
                "threshold": view.threshold,
                "labels": None if view.labels is None else sorted(view.labels),
            },
            "categories": None
            if self.label_set is None
            else [asdict(category) for category in self.label_set],
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Annotations:
        """Read what `to_dict` made."""
        view, categories = kept["view"], kept["categories"]
        return cls(
            View(
                detector=view["detector"],
                segmenter=view["segmenter"],
                threshold=view["threshold"],
                labels=None if view["labels"] is None else frozenset(view["labels"]),
            ),
            None if categories is None else tuple(Category(**each) for each in categories),
        )

    def provenance(self) -> dict[str, Any]:
        """Return what outputs say about it."""
        return {
            "coordinates": "pixels of the image as displayed (EXIF orientation applied)",
            "threshold": self.view.threshold,
            "classes": None if self.view.labels is None else sorted(self.view.labels),
        }

    def recorded(self, store: Store, items: Sequence[Item]) -> set[str]:
        """Return the names of those items, of known digest, that the record answers already."""
        view = self.view
        if view.detector is not None and view.segmenter is None:
            digests = [item.sha256 for item in items if item.sha256]
            known_digests = answered_digests(store, view.detector, digests)
            return {item.file_name for item in items if item.sha256 in known_digests}
        return {
            item.file_name
            for item, known in recall(store, view, items)
            if known is not None and is_answered(view, item, known)
        }

    def images(self, store: Store, run_id: str) -> Iterator[AnnotatedImage]:
        """Yield the images of a run that are done, in order of name."""
        for page in pages(store, run_id, "processed", "cached"):
            for item, answered in recall(store, self.view, page):
                if answered is not None and is_answered(self.view, item, answered):
                    yield self.view.annotate(item, answered)

    def annotations(self, image: AnnotatedImage) -> int:
        """Return how many annotations an image has."""
        return len(image.annotations)

    def writer(self, images: Images[AnnotatedImage]) -> Write[AnnotatedImage]:
        """Return what writes an output."""
        return annotation_writer(images, self.view.categories(self.label_set))


def answered_geometries(segmented: Elements) -> dict[Geometry, Mapping[str, Any]]:
    """Return a segmenter's elements by the prompt they answer."""
    return {geometry_from_dict(element["prompt"]): element for element in segmented}


def recall(
    store: Store, view: View, items: Sequence[Item]
) -> Iterator[tuple[Item, Answered | None]]:
    """Yield each item with what the record holds of it; None if its bytes were never seen."""
    digests = [item.sha256 for item in items if item.sha256]
    known = pictures(store, digests)
    found = answers(store, view.detector, digests) if view.detector else {}
    segmented = answers(store, view.segmenter, digests) if view.segmenter else {}
    for item in items:
        picture = known.get(item.sha256 or "")
        if picture is None:
            yield item, None
        else:
            sha256 = picture.sha256
            yield item, Answered(picture, found.get(sha256), segmented.get(sha256, ()))


def is_answered(view: View, item: Item, answered: Answered) -> bool:
    """Return whether the record holds all that the view shows of an item."""
    if view.detector is not None and answered.found is None:
        return False
    if view.segmenter is None:
        return True
    try:
        wanted = view.prompts(item, answered.picture, answered.found or ())
    except PromptError:
        return False
    geometries = answered_geometries(answered.segmented)
    return all(prompt.geometry in geometries for prompt in wanted)
