"""What of the record an output shows: pure functions from recorded answers to annotated images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
from pixano_cli.inference_store.ledger import Item, Picture, answers, pages, pictures

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


def answered_geometries(segmented: Elements) -> dict[Geometry, Mapping[str, Any]]:
    """Return a segmenter's elements by the prompt they answer."""
    return {geometry_from_dict(element["prompt"]): element for element in segmented}


def annotated_images(store: Store, run_id: str, view: View) -> Iterator[AnnotatedImage]:
    """Yield the images of a run that are done, in order of name; memory stays bounded.

    An image whose answers were deleted from the store since is not among them: it is not known
    to be empty.
    """
    for page in pages(store, run_id, "processed", "cached"):
        for item, answered in recall(store, view, page):
            if answered is not None and is_answered(view, item, answered):
                yield view.annotate(item, answered)


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
