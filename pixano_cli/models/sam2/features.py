"""From a frame's pixels to the features that every object in it shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pixano_cli.models.base import RGBImage
from pixano_cli.models.sam2.networks import Network

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def _normalised_levels() -> NDArray[np.float32]:
    """Return [3, 256]: what sam2 makes of each level of each channel, to the last bit."""
    levels = torch.from_numpy((np.arange(256) / 255.0).astype(np.float32)).repeat(3, 1)
    levels -= torch.tensor(_MEAN, dtype=torch.float32)[:, None]
    levels /= torch.tensor(_STD, dtype=torch.float32)[:, None]
    return levels.numpy()


_LEVELS = _normalised_levels()


def network_input(image: RGBImage, side: int) -> NDArray[np.float32]:
    """Resize and normalise an image as sam2 does with a folder of JPEG frames.

    Args:
        image: Pixels [height, width, 3].
        side: Width and height that the network takes.

    Returns:
        [1, 3, side, side].
    """
    resized = np.asarray(Image.fromarray(image).resize((side, side)))
    tensor = np.empty((1, 3, side, side), np.float32)
    for channel in range(3):
        # "clip" spares a copy of the output; no index is out of range.
        np.take(_LEVELS[channel], resized[:, :, channel], out=tensor[0, channel], mode="clip")
    return tensor


@dataclass(frozen=True, slots=True)
class FrameFeatures:
    """The features of one frame, as `SAM2Base.track_step` takes them.

    Attributes:
        features: By level, the finest first: [height * width, 1, channels].
        positions: Position encodings of the same shapes.
        sizes: (height, width) by level.
        first_attention: For `FirstAttention`, which fills it when the frame is first tracked in.
    """

    features: list[Tensor]
    positions: list[Tensor]
    sizes: list[tuple[int, int]]
    first_attention: list[Tensor] = field(default_factory=list)

    def repeated(self, count: int) -> FrameFeatures:
        """Return the same for `count` objects; nothing is copied."""
        return FrameFeatures(
            [each.expand(-1, count, -1) for each in self.features],
            [each.expand(-1, count, -1) for each in self.positions],
            self.sizes,
            self.first_attention,
        )


def encode(network: Network, image: RGBImage) -> FrameFeatures:
    """Run the image encoder on a frame."""
    model: Any = network.model
    pixels = torch.from_numpy(network_input(image, model.image_size)).to(network.device)
    _, features, positions, sizes = model._prepare_backbone_features(model.forward_image(pixels))
    return FrameFeatures(features, positions, sizes)
