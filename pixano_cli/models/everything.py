"""Every mask of an image: the contract between a segmenter and whoever asks it for all.

The procedure is automatic mask generation (Kirillov et al., "Segment Anything", 2023, appendix B),
with the numbers of the package sam2's `SAM2AutomaticMaskGenerator`, on the whole image without
crops: the model is asked about each point of a grid, and what it is sure of and what is stable is
kept. Which of those masks show the same thing is decided later, when more is known.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pixano_cli.models.base import RGBImage
from pixano_cli.models.segmentation import SegmentationModel
from pixano_cli.rle import CompressedRLEData

STABILITY_OFFSET: Final = 1.0


class EverythingInput(BaseModel):
    """Input for all masks of an image.

    Attributes:
        image: Pixels [height, width, 3], RGB uint8, as displayed.
        points: [num_points][2], (x, y) in pixels.
        min_iou: Lowest predicted IoU of a mask to return.
        min_stability: Lowest stability of one.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    image: RGBImage
    points: list[tuple[float, float]]
    min_iou: float
    min_stability: float


@dataclass(frozen=True, slots=True)
class PointMask:
    """A mask that a model gives for one point.

    Attributes:
        mask: Mask of the image's size, with something in it.
        iou: Predicted IoU, as the network says it; it may lie somewhat outside of [0, 1].
        stability: See `stability_of`.
        point: (x, y) in pixels.
    """

    mask: CompressedRLEData
    iou: float
    stability: float
    point: tuple[float, float]


class EverythingModel(SegmentationModel):
    """Base class for segmenters that can be asked for all masks of an image."""

    @abstractmethod
    def point_masks(self, request: EverythingInput) -> Iterator[PointMask]:
        """Yield the masks for each point, three of them a point, where they are good enough.

        The image is encoded once. Masks come point by point, in the model's own order.

        Raises:
            RuntimeError: If the model is not loaded.
        """


def grid(points_per_side: int, width: int, height: int) -> list[tuple[float, float]]:
    """Return points (x, y) in the middle of the cells of a grid over an image, row by row."""
    middles = np.linspace(
        1 / (2 * points_per_side), 1 - 1 / (2 * points_per_side), points_per_side
    ).tolist()
    return [(x * width, y * height) for y in middles for x in middles]


def stability_of(logits: NDArray[np.float32]) -> float:
    """Return how little a mask changes with the level of the logits at which it is cut off.

    It is the IoU of the masks cut off at +1 and at -1, one of which lies inside the other; 0 where
    both are empty.
    """
    inner = np.count_nonzero(logits > STABILITY_OFFSET)
    outer = np.count_nonzero(logits > -STABILITY_OFFSET)
    return float(inner / outer) if outer else 0.0
