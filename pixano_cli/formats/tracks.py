"""Frames as the videos they are of, and annotations as the tracks they belong to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Generic, TypeVar

from pixano_cli.annotations import AnnotatedImage, Annotation
from pixano_cli.errors import OutputError


class Track:
    """One object of a video, as far as the video's frames were seen.

    Attributes:
        number: Its place among the video's tracks in order of appearance, from 1.
        track_id: Its identity as recorded; None for an annotation that belongs to no track.
    """

    __slots__ = ("_categories", "_scored", "_scores", "number", "track_id")

    def __init__(self, number: int, track_id: int | None) -> None:
        """Begin a track without frames."""
        self.number = number
        self.track_id = track_id
        self._categories: Counter[tuple[int, str]] = Counter()
        self._scores = 0.0
        self._scored = 0

    def add(self, annotation: Annotation) -> None:
        """Take in what the object is in one frame."""
        self._categories[annotation.category_id, annotation.label] += 1
        if annotation.score is not None:
            self._scores += annotation.score
            self._scored += 1

    @property
    def category(self) -> tuple[int, str]:
        """Id and label of the category that it has most often; of equals, what it had first."""
        return self._categories.most_common(1)[0][0]

    @property
    def score(self) -> float | None:
        """Mean of its scores; None if it has none."""
        return self._scores / self._scored if self._scored else None


TrackT = TypeVar("TrackT", bound=Track)


class Tracks(Generic[TrackT]):
    """The tracks of one video, in order of appearance; in one frame, in that of its annotations."""

    def __init__(self, kind: type[TrackT]) -> None:
        """Begin a video without frames."""
        self.all: list[TrackT] = []
        self._kind = kind
        self._by_id: dict[int, TrackT] = {}

    def add(self, annotations: Iterable[Annotation]) -> Iterator[tuple[TrackT, Annotation]]:
        """Yield each annotation of a frame with its track, which has taken it in.

        An annotation without an identity is a track of its own, and so is the second one of a
        frame that claims the same identity.
        """
        claimed: set[int] = set()
        for annotation in annotations:
            track_id = annotation.track_id
            if track_id is None or track_id in claimed:
                track = self._begin(track_id)
            else:
                claimed.add(track_id)
                known = self._by_id.get(track_id)
                track = self._begin(track_id) if known is None else known
                self._by_id[track_id] = track
            track.add(annotation)
            yield track, annotation

    def _begin(self, track_id: int | None) -> TrackT:
        track = self._kind(len(self.all) + 1, track_id)
        self.all.append(track)
        return track


def by_video(
    images: Iterable[AnnotatedImage], format_name: str
) -> Iterator[tuple[str, Iterator[AnnotatedImage]]]:
    """Yield each video's name with its frames, which are read while they are written.

    Args:
        images: Frames, those of a video together.
        format_name: What the message calls the format that can hold nothing but videos.

    Raises:
        OutputError: At an image that is no frame of a video.
    """

    def video_of(image: AnnotatedImage) -> str:
        if image.video is None:
            raise OutputError(
                f"{image.file_name!r} is not a frame of a video, and {format_name} holds nothing "
                "else: name the output .json (COCO) or .parquet"
            )
        return image.video

    yield from groupby(images, key=video_of)
