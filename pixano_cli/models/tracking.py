"""Objects through a video: the contract between a tracker and whoever asks it."""

from __future__ import annotations

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
