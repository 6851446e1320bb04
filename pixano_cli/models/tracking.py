"""Objects through a video: the contract between a tracker and whoever asks it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator

from pixano_cli.models.base import InferenceModel, RGBImage
from pixano_cli.rle import CompressedRLEData


class TrackingInput(BaseModel):
    """Input for tracking: one prompt an object, followed through the frames.

    Object i has the id `objects_ids[i]` and is prompted in frame `frame_indexes[i]` by `boxes[i]`,
    or by `points[i]` with `labels[i]`, or both.

    Attributes:
        video: Frames in order of time, all of one size: pixels [height, width, 3], RGB uint8, as
            displayed, or paths or file URLs of images.
        objects_ids: Id of each object, all different.
        frame_indexes: Index of the frame of each prompt, from 0, relative to `video`.
        points: [num_objects][num_points][2], (x, y) in pixels of the frame.
        labels: [num_objects][num_points], 1 inside the object, 0 outside.
        boxes: [num_objects][4], [x1, y1, x2, y2] in pixels of the frame.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    video: list[RGBImage | str | Path]
    objects_ids: list[int]
    frame_indexes: list[int]
    points: list[list[list[float]]] | None = None
    labels: list[list[int]] | None = None
    boxes: list[list[float]] | None = None

    @model_validator(mode="after")
    def _parallel(self) -> Self:
        if len(set(self.objects_ids)) != len(self.objects_ids):
            raise ValueError("objects_ids are not all different")
        if (self.points is None) != (self.labels is None):
            raise ValueError("points and labels go together")
        for name in ("frame_indexes", "points", "labels", "boxes"):
            prompts = getattr(self, name)
            if prompts is not None and len(prompts) != len(self.objects_ids):
                raise ValueError(f"{name} has not one entry for each of objects_ids")
        if not all(0 <= index < len(self.video) for index in self.frame_indexes):
            raise ValueError("frame_indexes go beyond the frames of video")
        return self


class TrackingOutput(BaseModel):
    """Output for tracking: parallel lists, one entry an object in a frame.

    Attributes:
        objects_ids: Id of the object.
        frame_indexes: Index of the frame, from 0, relative to the frames given.
        masks: Mask of the size of the frame.
    """

    objects_ids: list[int]
    frame_indexes: list[int]
    masks: list[CompressedRLEData]


class TrackingModel(InferenceModel[TrackingInput, TrackingOutput]):
    """Base class for trackers."""

    capability_name: ClassVar[str | None] = "tracking"


@dataclass(frozen=True, slots=True)
class ObjectPrompt:
    """Where one object is in one frame; coordinates are pixels of the frame as displayed.

    Attributes:
        object_id: Which object.
        box: [xmin, ymin, xmax, ymax].
        points: (x, y) of points on it or beside it.
        labels: For each point 1 (on the object) or 0 (beside it).
        mask: Mask of the size of the frame; then there is neither box nor point.
    """

    object_id: int
    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    mask: CompressedRLEData | None = None


@dataclass(frozen=True, slots=True)
class ObjectMask:
    """One object in one frame.

    Attributes:
        mask: Mask of the size of the frame; empty where the object is not to be seen.
        score: How sure the model is that it is to be seen, in [0, 1]; None if it does not say.
    """

    mask: CompressedRLEData
    score: float | None = None


class TrackingSession(ABC):
    """Objects followed through one video, a frame at a time, in memory that does not grow with it.

    Frames are pixels [height, width, 3], RGB uint8, as displayed, all of one size, and known by
    their place in the sequence that is followed, from 0. A session is used by one thread at a time.
    """

    @abstractmethod
    def condition(
        self, frame: int, image: RGBImage, prompts: Sequence[ObjectPrompt]
    ) -> Mapping[int, ObjectMask]:
        """Prompt objects in a frame, new ones or, as a correction, known ones.

        The frame may be ahead of those that were stepped through, any number of them, in any order;
        or it is the one that was stepped to last, for objects that are new there.

        Returns:
            What the prompted objects look like in the frame, by object.

        Raises:
            ValueError: If a prompt cannot be used.
        """

    @abstractmethod
    def step(self, frame: int, image: RGBImage) -> Mapping[int, ObjectMask]:
        """Go on to the next frame, the first one being any.

        Returns:
            All objects that are followed, by object, also those that are not to be seen.
        """

    @abstractmethod
    def forget(self, objects: Collection[int]) -> None:
        """Follow these objects no more."""

    @abstractmethod
    def state(self) -> bytes:
        """Return all that is needed to go on after the frame that was stepped to last."""

    @abstractmethod
    def close(self) -> None:
        """Free what the session holds."""


class StreamingTrackingModel(TrackingModel):
    """Base class for trackers that take a video frame by frame."""

    @abstractmethod
    def open_session(
        self, width: int, height: int, state: bytes | None = None, *, length: int | None = None
    ) -> TrackingSession:
        """Begin with a video of this size, or go on with one from a session's state.

        `length` is the number of frames that will be followed, where the video is short; None for
        any other. On a CPU, going on from a state gives the very masks that going on without it
        would.

        Raises:
            ModelError: If the state is not one of this model, with these weights.
        """
