"""Prompts of the SAM family of segmenters, checked: points, and a box if there is one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pixano_cli.models.segmentation import SegmentationInput

MOST_MASKS = 3
"""Masks that such a model has for a prompt that may mean several things."""


@dataclass(frozen=True, slots=True)
class PointPrompt:
    """A prompt for one object; coordinates are pixels of the image.

    Attributes:
        points: (x, y) of points on it or beside it.
        labels: For each point 1 (on the object) or 0 (beside it).
        corners: Top left and bottom right corner (x, y) of its box; empty if it has none.
    """

    points: tuple[tuple[float, float], ...]
    labels: tuple[int, ...]
    corners: tuple[tuple[float, float], ...] = ()


def point_prompts(request: SegmentationInput) -> list[PointPrompt]:
    """Return the prompts of a request: prompt i is `boxes[i]` and `points[i]` with `labels[i]`.

    Raises:
        ValueError: If they are not as described; the text says which.
    """
    boxes = request.boxes or []
    points = request.points or []
    labels = request.labels or []
    if len(points) != len(labels):
        raise ValueError(f"{len(points)} prompts of points but {len(labels)} of labels")
    if boxes and points and len(boxes) != len(points):
        raise ValueError(f"{len(boxes)} boxes but {len(points)} prompts of points")
    count = max(len(boxes), len(points))
    return [
        _prompt(
            index,
            boxes[index] if boxes else [],
            points[index] if points else [],
            labels[index] if labels else [],
        )
        for index in range(count)
    ]


def masks_wanted(request: SegmentationInput) -> int | None:
    """Return how many masks a prompt are wanted of one that may mean several things; None for one.

    Raises:
        ValueError: If fewer than one are.
    """
    if not request.multimask_output:
        return None
    if request.num_multimask_outputs < 1:
        raise ValueError("num_multimask_outputs must be at least 1")
    return min(request.num_multimask_outputs, MOST_MASKS)


def _prompt(
    index: int, box: list[float], points: list[list[float]], labels: list[int]
) -> PointPrompt:
    if not box and not points:
        raise ValueError(f"prompt {index} has neither a box nor a point")
    if len(points) != len(labels):
        raise ValueError(f"prompt {index} has {len(points)} points but {len(labels)} labels")
    for point in points:
        if len(point) != 2 or not np.isfinite(point).all():
            raise ValueError(f"prompt {index}: a point must be two finite numbers, not {point}")
    if not set(labels) <= {0, 1}:
        raise ValueError(f"prompt {index}: labels must be 0 or 1, not {labels}")
    given = tuple((x, y) for x, y in points)
    if not box:
        return PointPrompt(given, tuple(labels))
    if len(box) != 4 or not np.isfinite(box).all():
        raise ValueError(f"prompt {index}: a box must be four finite numbers, not {box}")
    x1, y1, x2, y2 = box
    corners = ((min(x1, x2), min(y1, y2)), (max(x1, x2), max(y1, y2)))
    return PointPrompt(given, tuple(labels), corners)
