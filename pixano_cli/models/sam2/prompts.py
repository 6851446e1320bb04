"""From prompts in pixels of a frame to what the network takes."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixano_cli import rle
from pixano_cli.models.tracking import ObjectPrompt

_TOP_LEFT, _BOTTOM_RIGHT = 2, 3


@dataclass(frozen=True, slots=True)
class PointPrompt:
    """Points, a box being its two corners before them.

    Attributes:
        points: (x, y) in pixels of the network's input, [1, number, 2].
        labels: [1, number], int32: 1 inside, 0 outside, 2 and 3 a box's corners.
        starts_over: Whether points given before in the same frame are forgotten.
    """

    points: Tensor
    labels: Tensor
    starts_over: bool


@dataclass(frozen=True, slots=True)
class MaskPrompt:
    """A mask in pixels of the network's input: [1, 1, side, side], float, 0 or 1."""

    mask: Tensor


def check(prompt: ObjectPrompt, width: int, height: int) -> None:
    """Check a prompt for frames of this size.

    Raises:
        ValueError: If it cannot be used; the text is one line.
    """
    what = f"the prompt of object {prompt.object_id}"
    if prompt.mask is not None:
        if prompt.box is not None or prompt.points or prompt.labels:
            raise ValueError(f"{what} has a mask, and a box or points as well")
        try:
            rle.check(prompt.mask, (height, width))
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error
        return
    if prompt.box is None and not prompt.points:
        raise ValueError(f"{what} has neither a box nor points nor a mask")
    if len(prompt.points) != len(prompt.labels):
        raise ValueError(f"{what} has {len(prompt.points)} points but {len(prompt.labels)} labels")
    if not set(prompt.labels) <= {0, 1}:
        raise ValueError(f"{what}: labels must be 0 or 1, not {list(prompt.labels)}")
    if prompt.box is not None and not (len(prompt.box) == 4 and all(map(isfinite, prompt.box))):
        raise ValueError(f"{what}: a box must be four finite numbers, not {prompt.box}")
    for point in prompt.points:
        if not (len(point) == 2 and all(map(isfinite, point))):
            raise ValueError(f"{what}: a point must be two finite numbers, not {point}")


def read(
    prompt: ObjectPrompt, width: int, height: int, side: int, device: torch.device
) -> PointPrompt | MaskPrompt:
    """Bring a prompt that was checked to the network's input of `side` * `side` pixels."""
    if prompt.mask is not None:
        return MaskPrompt(_resized(rle.decode(prompt.mask), side, device))
    corners: list[tuple[float, float]] = []
    if prompt.box is not None:
        x1, y1, x2, y2 = prompt.box
        corners = [(min(x1, x2), min(y1, y2)), (max(x1, x2), max(y1, y2))]
    points = torch.tensor([[*corners, *prompt.points]], dtype=torch.float32)
    # Divided first, as sam2 does: the product would differ in the last bit.
    points = points / torch.tensor([width, height]) * side
    labels = [*((_TOP_LEFT, _BOTTOM_RIGHT) if corners else ()), *prompt.labels]
    return PointPrompt(
        points=points.to(device),
        labels=torch.tensor([labels], dtype=torch.int32, device=device),
        starts_over=prompt.box is not None,
    )


def _resized(mask: NDArray[np.bool_], side: int, device: torch.device) -> Tensor:
    whole = torch.from_numpy(np.ascontiguousarray(mask))[None, None].float().to(device)
    if whole.shape[-2:] == (side, side):
        return whole
    resized = torch.nn.functional.interpolate(
        whole, size=(side, side), mode="bilinear", align_corners=False, antialias=True
    )
    return (resized >= 0.5).float()
