"""Object detection: the contract between a detector and whoever asks it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from pixano_cli.models.base import InferenceModel, RGBImage
from pixano_cli.rle import CompressedRLEData


class DetectionInput(BaseModel):
    """Input for detection.

    Attributes:
        image: Pixels [height, width, 3], RGB uint8, as displayed; this is what the local provider
            hands over. A model may also accept a path or URL from other callers.
        classes: Class names to detect; None for a model with a class set of its own.
        box_threshold: Lowest score of a box to return.
        text_threshold: Lowest score of a match between text and box, for models that have one.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    image: RGBImage | str | Path
    classes: list[str] | str | None = None
    box_threshold: float = 0.5
    text_threshold: float = 0.5


class DetectionOutput(BaseModel):
    """Output for detection: parallel lists, one entry an object.

    Attributes:
        boxes: [x1, y1, x2, y2] in pixels of the image given.
        scores: Confidence in [0, 1].
        classes: Class name.
        masks: Mask of the size of the image given, from models that segment.
    """

    boxes: list[list[float]]
    scores: list[float]
    classes: list[str]
    masks: list[CompressedRLEData] | None = None


class DetectionModel(InferenceModel[DetectionInput, DetectionOutput]):
    """Base class for detectors.

    `input_size` is the (width, height) in pixels that the network reads. An image may then be
    decoded at a reduced scale that is no smaller in either direction, which for large JPEGs is
    much faster; None asks for every pixel.
    """

    capability_name: ClassVar[str | None] = "detection"
    input_size: ClassVar[tuple[int, int] | None] = None
