"""All masks of an image, without prompts: a task of this project, beside the published ones.

It is one of the tasks of MASK_GENERATION's models, of those that `describe_model` says it of.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pixano_cli.inference.types import CompressedRLEData, Message

__all__ = ["ImageEverythingInput", "ImageEverythingOutput", "ImageEverythingResult"]


@dataclass
class ImageEverythingInput(Message):
    """Input for all masks of an image: the model is asked about every point of a grid.

    Attributes:
        image: Image as data URL or URL.
        model: Model name to use.
        points_per_side: Points of the grid along each side of the image.
        min_iou: Lowest predicted IoU of a mask to return.
        min_stability: Lowest stability of a mask to return: of the IoU of the two masks that come
            of cutting off its logits 1 above and 1 below where they are cut off.
    """

    image: str
    model: str
    points_per_side: int = 16
    min_iou: float = 0.8
    min_stability: float = 0.95


@dataclass
class ImageEverythingOutput(Message):
    """Output for all masks of an image: parallel lists, best predicted IoU first.

    What several points lie in is there several times, with boxes that overlap.

    Attributes:
        masks: Masks of the size of the image, none of them empty.
        scores: Predicted IoU of each, in [0, 1].
        stabilities: Stability of each, in [0, 1].
        points: (x, y) in pixels of the point that each was found by.
    """

    masks: list[CompressedRLEData]
    scores: list[float]
    stabilities: list[float]
    points: list[list[float]]


@dataclass
class ImageEverythingResult:
    """Complete result of asking for all masks of an image.

    Attributes:
        data: The output data.
        timestamp: When the inference completed.
        processing_time: Time taken in seconds.
        metadata: Additional metadata from the model.
        id: Unique identifier for the inference request.
        status: Status of the inference ("SUCCESS", "FAILURE").
    """

    data: ImageEverythingOutput
    timestamp: datetime
    processing_time: float
    metadata: dict[str, Any]
    id: str = ""
    status: str = "SUCCESS"
