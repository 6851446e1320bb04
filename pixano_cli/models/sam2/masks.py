"""From the network's logits to masks of the frame's size, off the device as RLE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pixano_cli import rle
from pixano_cli.rle import CompressedRLEData


def shown(
    logits: Mapping[int, Tensor], width: int, height: int, model: Any
) -> dict[int, CompressedRLEData]:
    """Return the masks of objects in a frame.

    Args:
        logits: By object, at the model's low resolution: [1, 1, h, w].
        width: Width of the frame.
        height: Height of the frame.
        model: The `SAM2VideoPredictor`, which may want masks that do not overlap.
    """
    if model.non_overlap_masks and len(logits) > 1:
        together = model._apply_non_overlapping_constraints(
            _resized(torch.cat(list(logits.values())), width, height)
        )
        return {each: _encoded(plane) for each, plane in zip(logits, together, strict=True)}
    # One at a time: planes of the frame's size are large.
    return {each: _shown_alone(plane, width, height) for each, plane in logits.items()}


def _shown_alone(logits: Tensor, width: int, height: int) -> CompressedRLEData:
    if not bool((logits > 0).any()):
        return nothing(width, height)
    return _encoded(_resized(logits, width, height)[0])


def nothing(width: int, height: int) -> CompressedRLEData:
    """Return the mask of an object that is not to be seen."""
    return rle.encode(torch.zeros(height, width, dtype=torch.bool).numpy())


def _resized(logits: Tensor, width: int, height: int) -> Tensor:
    if logits.shape[-2:] == (height, width):
        return logits
    return interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)


def _encoded(logits: Tensor) -> CompressedRLEData:
    # RLE runs down the columns: turned on the device, it need not be turned again.
    columns = (logits[0] > 0).t().contiguous().cpu().numpy()
    return rle.encode(columns.T)
