"""Videos as outputs: from what is recorded of their frames to annotated images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pixano_cli.annotate.outputs import Images, Write, annotation_writer
from pixano_cli.annotate.prompts import geometry_from_dict
from pixano_cli.annotate.videos.at_hand import frame_name
from pixano_cli.annotate.videos.finding import RecordedFrames
from pixano_cli.annotate.videos.objects import Detected
from pixano_cli.annotate.videos.task import Plan, Work, count_recorded
from pixano_cli.annotate.videos.tracks import Linked, label_of_tracks
from pixano_cli.annotate.view import answered_geometries
from pixano_cli.annotations import (
    AnnotatedImage,
    Annotation,
    Box,
    Category,
    annotation_from_element,
    order,
)
from pixano_cli.errors import StoreError, UsageError
from pixano_cli.formats.categories import read_categories
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.frames import (
    RecordedFrame,
    get_checkpoint,
    linked_frames,
    recorded_frames,
    reopen,
)
from pixano_cli.inference_store.ledger import Item, Picture, pages, pictures


@dataclass(frozen=True, slots=True)
class Tracks:
    """Annotated frames of videos as the product of a job; see `outputs.Product`.

    Attributes:
        plan: What was wanted of every video.
        threshold: Lowest best score of a track to show; None shows all.
        labels: Which classes to show; None shows all.
        label_set: The label set; None numbers the labels that occur.
    """

    plan: Plan
    threshold: float | None = None
    labels: frozenset[str] | None = None
    label_set: tuple[Category, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what is kept of it with a run."""
        return {
            "view": {
                "tracks": self.plan.to_dict(),
                "threshold": self.threshold,
                "labels": None if self.labels is None else sorted(self.labels),
            },
            "categories": None
            if self.label_set is None
            else [asdict(category) for category in self.label_set],
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Tracks:
        """Read what `to_dict` made."""
        view, categories = kept["view"], kept["categories"]
        return cls(
            Plan.from_dict(view["tracks"]),
            view["threshold"],
            None if view["labels"] is None else frozenset(view["labels"]),
            None if categories is None else tuple(Category(**each) for each in categories),
        )

    def provenance(self) -> dict[str, Any]:
        """Return what outputs say about it."""
        return {
            "coordinates": "pixels of the frame as displayed (rotation applied)",
            "threshold": self.threshold,
            "classes": None if self.labels is None else sorted(self.labels),
            "tracking": dict(self.plan.request.parameters),
        }

    def recorded(self, store: Store, items: Sequence[Item]) -> set[str]:
        """Return the names of those videos, of known digest, that the record answers already."""
        names = set()
        for item in items:
            if item.sha256 is not None:
                work = self.plan.work(item, item.sha256)
                checkpoint = get_checkpoint(store, work.key)
                if checkpoint is None or not checkpoint.is_complete:
                    continue
                if count_recorded(store, self.plan, work, item.sha256) >= checkpoint.frames:
                    names.add(item.file_name)
        return names

    def images(self, store: Store, run_id: str) -> Iterator[AnnotatedImage]:
        """Yield the frames of a run's videos that are done, in order of the videos' names."""
        for _, frames in self.videos(store, run_id):
            yield from frames

    def videos(self, store: Store, run_id: str) -> Iterator[tuple[Item, Iterator[AnnotatedImage]]]:
        """Yield each of a run's videos that are done with its frames, in order of name."""
        for page in pages(store, run_id, "processed", "cached"):
            known = pictures(store, [item.sha256 for item in page if item.sha256])
            for item in page:
                picture = known.get(item.sha256 or "")
                if picture is not None:
                    yield item, self._frames(store, item, picture)

    def annotations(self, image: AnnotatedImage) -> int:
        """Return how many annotations a frame has."""
        return len(image.annotations)

    def writer(self, images: Images[AnnotatedImage]) -> Write[AnnotatedImage]:
        """Return what writes an output."""
        shown = self.label_set
        if shown is not None and self.labels is not None:
            shown = tuple(each for each in shown if each.name in self.labels)
        return annotation_writer(images, shown)

    def _frames(self, store: Store, item: Item, picture: Picture) -> Iterator[AnnotatedImage]:
        work = self.plan.work(item, picture.sha256)
        labels = self._shown(self._recorded(store, work, picture))
        masks = None
        if not self.plan.answers_itself:
            masks = RecordedFrames(store, work.request_keys[-1], picture.sha256)
        for frame in self._recorded(store, work, picture):
            segmented = answered_geometries((masks.at(frame.index) if masks else None) or ())
            annotations = []
            for element in frame.elements:
                label = labels.get(element["track_id"])
                if label is None:
                    continue
                try:
                    annotation = _annotation(element, segmented, label, picture)
                except _MaskRemovedError:
                    with store.write() as connection:
                        reopen(connection, work.key)
                    raise
                if annotation is not None:
                    annotations.append(annotation)
            yield AnnotatedImage(
                file_name=frame_name(item.file_name, frame.index, frame.file_name),
                sha256=picture.sha256,
                width=picture.width,
                height=picture.height,
                orientation=picture.orientation,
                annotations=order(annotations),
                video=item.file_name,
                frame_index=frame.index,
                timestamp_s=frame.timestamp_s,
            )

    def _recorded(self, store: Store, work: Work, picture: Picture) -> Iterator[RecordedFrame]:
        if self.plan.answers_itself:
            return recorded_frames(store, work.request_keys[-1], picture.sha256)
        return linked_frames(store, work.key)

    def _shown(self, frames: Iterator[RecordedFrame]) -> dict[int, str]:
        """Return the label of each track that is shown."""
        best: dict[int, float] = {}

        def linked() -> Iterator[list[Linked]]:
            for frame in frames:
                for each in frame.elements:
                    score = 1.0 if each["score"] is None else each["score"]
                    best[each["track_id"]] = max(best.get(each["track_id"], 0.0), score)
                yield [
                    Linked(Detected(each["label"], each["score"], _NO_BOX), each["track_id"])
                    for each in frame.elements
                ]

        labels = label_of_tracks(linked())
        return {
            track: label
            for track, label in labels.items()
            if (self.labels is None or label in self.labels)
            and (self.threshold is None or best[track] >= self.threshold)
        }


def shown_tracks(
    recorded: Tracks,
    threshold: float | None,
    classes: Sequence[str] | None,
    categories: str | Path | None,
) -> Tracks:
    """Return the tracks with a higher threshold, fewer classes or another label set.

    Raises:
        UsageError: If something is asked for that was not followed.
    """
    if threshold is not None:
        if recorded.threshold is not None and threshold < recorded.threshold:
            raise UsageError(
                f"--threshold {threshold}: this run followed what has a score from "
                f"{recorded.threshold} up: run segment-video again with --threshold {threshold}"
            )
        recorded = replace(recorded, threshold=threshold)
    followed = recorded.labels
    if categories is not None:
        label_set = read_categories(Path(categories))
        names = frozenset(each.name for each in label_set)
        labels = names if followed is None else names & followed
        recorded = replace(recorded, label_set=label_set, labels=labels)
    if classes is not None:
        asked = frozenset(name.strip() for name in classes)
        known = None if recorded.label_set is None else {each.name for each in recorded.label_set}
        if known is not None and (unknown := sorted(asked - known)):
            where = categories or "the label set of this run: name another with --categories"
            raise UsageError(f"--classes: {unknown[0]!r} is not in {where}")
        if followed is not None and (missing := sorted(asked - followed)):
            raise UsageError(
                f"--classes: this run did not follow {missing[0]!r}: run segment-video again with "
                "these classes"
            )
        recorded = replace(recorded, labels=asked)
    return recorded


class _MaskRemovedError(StoreError):
    """A mask that belongs to a track is not in the record any more."""


_NO_BOX = Box(0.0, 0.0, 0.0, 0.0)


def _annotation(
    element: Mapping[str, Any],
    segmented: Mapping[Any, Mapping[str, Any]],
    label: str,
    picture: Picture,
) -> Annotation | None:
    shown = {"label": label, "score": element["score"]}
    if "rle" in element:
        shown["rle"] = element["rle"]
    elif "prompt" in element:
        mask = segmented.get(geometry_from_dict(element["prompt"]))
        if mask is None:
            raise _MaskRemovedError("a mask was removed: run the same command again")
        shown["rle"] = mask["rle"]
    else:
        shown |= dict(zip(("xmin", "ymin", "xmax", "ymax"), element["box"], strict=True))
    annotation = annotation_from_element(shown, picture.width, picture.height)
    if annotation is None and "prompt" in element:
        # The mask is empty: what is known is the box.
        shown.pop("rle")
        shown |= dict(zip(("xmin", "ymin", "xmax", "ymax"), element["box"], strict=True))
        annotation = annotation_from_element(shown, picture.width, picture.height)
    return None if annotation is None else replace(annotation, track_id=element["track_id"])
