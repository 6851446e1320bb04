"""Which of many masks show the same thing: suppression by the overlap of their boxes.

Non-maximum suppression as in sam2's `SAM2AutomaticMaskGenerator` (from Kirillov et al., "Segment
Anything", 2023): of masks whose boxes have an IoU above 0.7, the one of the best predicted IoU
stays. A box goes from the first to the last pixel of its mask, both of which count as points; so
one of a single row or column has no area, and overlaps only with the very same one (there, with
none).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pixano_cli import rle
from pixano_cli.rle import CompressedRLEData

OVERLAP: Final = 0.7
# Thresholds of stability are whole hundredths.
_LEVELS: Final = 100
_ROWS = 256

Overlaps = NDArray[np.bool_]


def overlaps(masks: Sequence[CompressedRLEData]) -> Overlaps:
    """Return [n, n]: whether the boxes of two masks have an IoU above 0.7."""
    boxes = np.array([rle.bounding_box(mask) for mask in masks], np.float64).reshape(-1, 4)
    boxes -= np.array([0, 0, 1, 1])
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    result = np.zeros((len(boxes), len(boxes)), np.bool_)
    for start in range(0, len(boxes), _ROWS):
        rows = slice(start, start + _ROWS)
        low = np.maximum(boxes[rows, None, :2], boxes[None, :, :2])
        high = np.minimum(boxes[rows, None, 2:], boxes[None, :, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=2)
        union = areas[rows, None] + areas[None, :] - shared
        same = (boxes[rows, None] == boxes[None, :]).all(axis=2)
        result[rows] = (shared / np.maximum(union, 1) > OVERLAP) | same
    return result


def kept(overlapping: Overlaps, allowed: NDArray[np.bool_]) -> list[int]:
    """Return which masks stay, in order.

    Args:
        overlapping: What `overlaps` returned of masks in order of predicted IoU, best first.
        allowed: Which of the masks there are at all.
    """
    left = allowed.copy()
    found = []
    while left.any():
        best = int(left.argmax())
        found.append(best)
        left &= ~overlapping[best]
        left[best] = False
    return found


def ever_kept(overlapping: Overlaps, stabilities: NDArray[np.float64], lowest: float) -> list[int]:
    """Return which masks stay for any threshold of predicted IoU and of stability, in order.

    A threshold of predicted IoU leaves the first of the masks, and among these nothing changes. One
    of stability may take away what a mask is suppressed by; so each is tried.

    Args:
        overlapping: As for `kept`.
        stabilities: Stability of each mask.
        lowest: Lowest threshold of stability, in whole hundredths like all of them.
    """
    found: set[int] = set()
    for level in range(round(lowest * _LEVELS), _LEVELS + 1):
        found.update(kept(overlapping, stabilities >= level / _LEVELS))
    return sorted(found)
