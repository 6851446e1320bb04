"""SAM 2's network asked about one image: its features, and the masks that prompts give in it.

The steps and their numbers are those of sam2's own `SAM2ImagePredictor`, which cannot be imported
without torchvision. Its `Resize` and `Normalize` on a tensor are torchvision's
(`torchvision.transforms`, BSD-3-Clause): bilinear interpolation with antialiasing, and
(x - mean) / deviation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from pixano_cli import rle
from pixano_cli.models.base import RGBImage
from pixano_cli.models.everything import STABILITY_OFFSET
from pixano_cli.models.point_prompts import PointPrompt
from pixano_cli.models.sam2.networks import Network
from pixano_cli.rle import CompressedRLEData

Floats = NDArray[np.float32]

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_TOP_LEFT, _BOTTOM_RIGHT = 2, 3
# On a CPU several prompts at once are no faster than one by one (measured with the tiny model: 90
# ms a prompt, and more in groups of 4 and 16), and an answer would depend on its neighbours.
_ON_GPU = 64


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """What the image encoder makes of an image, in float32.

    Attributes:
        embedding: [1, channels, height, width].
        fine: Features of higher resolution, the finest first: [1, channels, height, width].
    """

    embedding: Tensor
    fine: list[Tensor]


def encode(network: Network, image: RGBImage) -> ImageFeatures:
    """Run the image encoder."""
    model: Any = network.model
    with network.running():
        pixels = network_input(image, model.image_size, network.device)
        _, levels, _, sizes = model._prepare_backbone_features(model.forward_image(pixels))
        if model.directly_add_no_mem_embed:
            levels[-1] = levels[-1] + model.no_mem_embed
        planes = [
            level.permute(1, 2, 0).reshape(1, -1, *size).float()
            for level, size in zip(levels, sizes, strict=True)
        ]
    return ImageFeatures(planes[-1], planes[:-1])


def features_from(
    network: Network, embedding: Floats, fine: Sequence[Floats] | None
) -> ImageFeatures:
    """Return features that were kept.

    Raises:
        ValueError: If they are not those of this network.
    """
    given = [embedding, *(fine or ())]
    model: Any = network.model
    cells = model.sam_image_embedding_size
    sides = [cells << (0 if index == 0 else len(given) - index) for index in range(len(given))]
    wanted = 3 if model.use_high_res_features_in_sam else 1
    if len(given) != wanted or any(
        each.ndim != 4 or each.shape[0] != 1 or each.shape[2:] != (side, side)
        for each, side in zip(given, sides, strict=True)
    ):
        shapes = ", ".join(str(each.shape) for each in given)
        raise ValueError(
            f"image_embedding and high_resolution_features are not this model's: {shapes}"
        )
    tensors = [torch.tensor(each, dtype=torch.float32, device=network.device) for each in given]
    return ImageFeatures(tensors[0], tensors[1:])


def network_input(image: RGBImage, side: int, device: torch.device) -> Tensor:
    """Resize and normalise an image of [height, width, 3]; return [1, 3, side, side]."""
    pixels = torch.tensor(image).permute(2, 0, 1).contiguous()
    tensor = pixels.to(torch.float32).div(255)[None]
    if tensor.shape[2:] != (side, side):
        tensor = interpolate(
            tensor, size=(side, side), mode="bilinear", align_corners=False, antialias=True
        )
    mean, std = (torch.tensor(each, dtype=torch.float32)[:, None, None] for each in (_MEAN, _STD))
    return ((tensor - mean) / std).to(device)


def decode(
    network: Network,
    features: ImageFeatures,
    prompts: Sequence[PointPrompt],
    size: tuple[int, int],
    *,
    ambiguous: bool,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for each prompt the logits [masks, h, w] at low resolution and predicted IoUs [masks].

    Args:
        network: The network.
        features: Those of the image.
        prompts: The prompts, in pixels of the image.
        size: Width and height of the image.
        ambiguous: Whether to give three masks a prompt, or one.
    """
    for group in _groups(prompts, _ON_GPU if network.device.type == "cuda" else 1):
        with network.running():
            logits, ious = _decode(network, features, group, size, ambiguous)
        yield from zip(logits, ious, strict=True)


def _groups(prompts: Sequence[PointPrompt], most: int) -> Iterator[Sequence[PointPrompt]]:
    """Yield prompts that follow each other and have as many points."""
    start = 0
    for end in range(1, len(prompts) + 1):
        if (
            end == len(prompts)
            or end - start == most
            or _kind(prompts[end]) != _kind(prompts[start])
        ):
            yield prompts[start:end]
            start = end


def _kind(prompt: PointPrompt) -> tuple[int, int]:
    return len(prompt.points), len(prompt.corners)


def _decode(
    network: Network,
    features: ImageFeatures,
    prompts: Sequence[PointPrompt],
    size: tuple[int, int],
    ambiguous: bool,
) -> tuple[Tensor, Tensor]:
    model: Any = network.model
    device = network.device
    # A box is its corners, before the points.
    points = [[*prompt.corners, *prompt.points] for prompt in prompts]
    marks = [
        [*([_TOP_LEFT, _BOTTOM_RIGHT] if prompt.corners else []), *prompt.labels]
        for prompt in prompts
    ]
    scale = torch.tensor(size, dtype=torch.float32, device=device)
    coordinates = torch.tensor(points, dtype=torch.float32, device=device)
    sparse, dense = model.sam_prompt_encoder(
        points=(
            coordinates / scale * model.image_size,
            torch.tensor(marks, dtype=torch.int32, device=device),
        ),
        boxes=None,
        masks=None,
    )
    logits, ious, _, _ = model.sam_mask_decoder(
        image_embeddings=features.embedding,
        image_pe=model.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=ambiguous,
        repeat_image=len(prompts) > 1,
        high_res_features=features.fine,
    )
    return logits.float(), ious.float()


def resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return logits [h, w] at an image's (width, height)."""
    with torch.inference_mode():
        return interpolate(
            logits[None, None], size=size[::-1], mode="bilinear", align_corners=False
        )[0, 0]


def stability_of(logits: Tensor) -> float:
    """Return the stability of a mask; see `everything.stability_of`."""
    outer = int((logits > -STABILITY_OFFSET).sum())
    return int((logits > STABILITY_OFFSET).sum()) / outer if outer else 0.0


def mask_of(logits: Tensor) -> CompressedRLEData:
    """Return the mask of an image's logits [height, width]."""
    # RLE runs down the columns: turned on the device, it need not be turned again.
    return rle.encode((logits > 0).t().contiguous().cpu().numpy().T)
