"""What is found in a frame: by a detector, by whatever recorded it before, or by a file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from pixano_cli.annotate.answers import detection_elements
from pixano_cli.annotate.identity import Request
from pixano_cli.annotate.videos.answering import Answers
from pixano_cli.annotate.videos.at_hand import FrameAtHand, VideoAtHand
from pixano_cli.annotate.videos.objects import Detected, FileDetections
from pixano_cli.annotate.videos.records import frame_record
from pixano_cli.annotate.videos.tracks import distinct
from pixano_cli.annotations import Box
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.types import ImageZeroShotDetectionInput
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.frames import RecordedFrame, recorded_frames
from pixano_cli.inference_store.records import Record

logger = logging.getLogger(__name__)

# Below it a detector's boxes are of no use to follow an object through a spell of bad sight either.
VIDEO_FLOOR = 0.1


@dataclass(frozen=True, slots=True)
class Found:
    """What is found in a frame, and what is recorded of it now; nothing if it was before."""

    detections: tuple[Detected, ...]
    records: tuple[Record, ...] = ()


class Finder(Protocol):
    """Finds objects in the frames of videos."""

    @property
    def request(self) -> Request | None:
        """What it asks of a model; None if it asks none."""

    def in_video(
        self, video: VideoAtHand, store: Store, answers: Answers | None = None
    ) -> FindInFrame:
        """Return what finds objects in the frames of one video, which come in order.

        Args:
            video: The video.
            store: The record.
            answers: Commits what is answered; None if the caller does.
        """


class FindInFrame(Protocol):
    """Finds objects in one frame after the other."""

    async def __call__(self, at: FrameAtHand) -> Found:
        """Return what is found in the frame, best score first.

        Raises:
            InferenceError: If the provider fails or answers nonsense.
        """


class RecordedFrames:
    """The recorded frames of one request and one video, asked for in order of their indexes."""

    def __init__(self, store: Store, request_key: str, sha256: str) -> None:
        """Read nothing yet."""
        self._frames: Iterator[RecordedFrame] = recorded_frames(store, request_key, sha256)
        self._next: RecordedFrame | None = None
        self._is_over = False

    def at(self, index: int) -> Sequence[Mapping[str, Any]] | None:
        """Return what is recorded of a frame; None if nothing is."""
        while not self._is_over and (self._next is None or self._next.index < index):
            self._next = next(self._frames, None)
            self._is_over = self._next is None
        if self._next is None or self._next.index != index:
            return None
        return self._next.elements


@dataclass(frozen=True, slots=True)
class DetectorFinder:
    """Asks a detector, unless it has answered; of several guesses at one thing one counts.

    Attributes:
        provider: Who is asked.
        request: What is asked.
        vocabulary: Its classes if it has a set of its own.
        labels: Which classes count; None for all.
        timeout: Seconds for an answer.
    """

    provider: InferenceProvider
    request: Request
    vocabulary: frozenset[str] | None
    labels: frozenset[str] | None
    timeout: float

    def in_video(
        self, video: VideoAtHand, store: Store, answers: Answers | None = None
    ) -> FindInFrame:
        """Return what finds objects in the frames of one video."""
        recorded = RecordedFrames(store, self.request.key, video.sha256)

        async def find(at: FrameAtHand) -> Found:
            elements = recorded.at(at.index)
            if elements is not None:
                return Found(self._detections(elements))
            if answers is None:
                record = await self._ask(at)
            else:
                record = await answers.ask(at.index, partial(self._ask, at))
            return Found(self._detections(record.elements or ()), (record,))

        return find

    async def _ask(self, at: FrameAtHand) -> Record:
        parameters = self.request.parameters
        with at.in_flight(await at.image()) as url:
            result = await self.provider.image_zero_shot_detection(
                ImageZeroShotDetectionInput(
                    image=url,
                    model=self.request.model,
                    classes=list(parameters["classes"]),
                    box_threshold=parameters["box_threshold"],
                    text_threshold=parameters["text_threshold"],
                ),
                timeout=self.timeout,
            )
        elements = detection_elements(result.data, self.vocabulary)
        return frame_record(at, self.request, self.request.key, elements)

    def _detections(self, elements: Sequence[Mapping[str, Any]]) -> tuple[Detected, ...]:
        found = [
            Detected(
                each["label"],
                each["score"],
                Box(each["xmin"], each["ymin"], each["xmax"], each["ymax"]),
            )
            for each in elements
            if self.labels is None or each["label"] in self.labels
        ]
        return tuple(distinct(found))


@dataclass(frozen=True, slots=True)
class FileFinder:
    """Looks into a file of boxes; `labels` are the classes that count, None for all."""

    file: FileDetections
    labels: frozenset[str] | None

    @property
    def request(self) -> None:
        """It asks no model."""
        return None

    def in_video(
        self, video: VideoAtHand, store: Store, answers: Answers | None = None
    ) -> FindInFrame:
        """Return what finds objects in the frames of one video."""
        if self.file.videos and video.item.file_name not in self.file.videos:
            logger.warning(
                "%s is not in the file of --from, which has %s: names are relative to the source's "
                "folder",
                video.item.file_name,
                min(self.file.videos),
            )

        async def find(at: FrameAtHand) -> Found:
            found = self.file.at(video.item.file_name, at.index, at.frame.file_name)
            return Found(
                tuple(each for each in found if self.labels is None or each.label in self.labels)
            )

        return find


class Nothing:
    """Finds nothing: where all that is followed is named by a file of prompts."""

    @property
    def request(self) -> None:
        """It asks no model."""
        return None

    def in_video(
        self, video: VideoAtHand, store: Store, answers: Answers | None = None
    ) -> FindInFrame:
        """Return what finds nothing."""

        async def find(at: FrameAtHand) -> Found:
            return Found(())

        return find
