"""Prompted segmentation: the contract between a segmenter and whoever asks it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pixano_cli.models.base import InferenceModel, RGBImage
from pixano_cli.rle import CompressedRLEData


class SegmentationInput(BaseModel):
    """Input for image segmentation. A prompt is a box, or points with labels, or both.

    Attributes:
        image: Pixels [height, width, 3], RGB uint8, as displayed; this is what the local provider
            hands over. A model may also accept a path or URL from other callers.
        image_embedding: What an earlier call on the same image returned, to save encoding it again.
        high_resolution_features: Likewise, for models that have them.
        reset_predictor: False if the image is that of the call before.
        points: [num_prompts][num_points][2], (x, y) in pixels.
        labels: [num_prompts][num_points], 1 inside the object, 0 outside.
        boxes: [num_prompts][4], [x1, y1, x2, y2] in pixels.
        num_multimask_outputs: Number of masks a prompt when `multimask_output` is set.
        multimask_output: Whether to return several masks for each prompt.
        return_image_embedding: Whether to return the embedding.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    image: RGBImage | str | Path
    image_embedding: NDArray[np.float32] | None = None
    high_resolution_features: list[NDArray[np.float32]] | None = None
    reset_predictor: bool = True
    points: list[list[list[float]]] | None = None
    labels: list[list[int]] | None = None
    boxes: list[list[float]] | None = None
    num_multimask_outputs: int = 3
    multimask_output: bool = True
    return_image_embedding: bool = False


class SegmentationOutput(BaseModel):
    """Output for image segmentation.

    Attributes:
        masks: [num_prompts][num_masks], each of the size of the image given.
        scores: Predicted IoU [num_prompts, num_masks], in [0, 1].
        image_embedding: The image's embedding, if asked for.
        high_resolution_features: Its high-resolution features, if asked for and if there are any.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    masks: list[list[CompressedRLEData]]
    scores: NDArray[np.float32]
    image_embedding: NDArray[np.float32] | None = None
    high_resolution_features: list[NDArray[np.float32]] | None = None


class SegmentationModel(InferenceModel[SegmentationInput, SegmentationOutput]):
    """Base class for prompted segmenters."""

    capability_name: ClassVar[str | None] = "segmentation"
