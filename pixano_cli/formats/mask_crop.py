"""The part of a mask that has pixels in it, without the rest of the image.

An object covers a small part of most frames, and decoding a whole mask costs as much as the frame
has pixels: 3 ms for 1920 x 1080, against 0.2 ms for an object of a fifth of its width in it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixano_cli import rle
from pixano_cli.rle import CompressedRLEData


class MaskCrop(NamedTuple):
    """The pixels of a mask inside its tight box.

    Attributes:
        x: Left column of the box in the image.
        y: Top row of the box in the image.
        inside: Boolean [height, width] of the box; without rows and columns for an empty mask.
    """

    x: int
    y: int
    inside: NDArray[np.bool_]

    @property
    def place(self) -> tuple[slice, slice]:
        """The rows and the columns of the image that the box covers."""
        height, width = self.inside.shape
        return slice(self.y, self.y + height), slice(self.x, self.x + width)


def decode_crop(mask: CompressedRLEData) -> MaskCrop:
    """Decode a mask inside its tight box, which is `rle.bounding_box`.

    The RLE must be one of `rle.encode`, or have passed `rle.check`.
    """
    left, top, right, bottom = map(int, rle.bounding_box(mask))
    height = mask.size[0]
    start, end = left * height, right * height
    # The runs go down the columns: those of the box's columns are one piece of them.
    edges = np.clip(np.cumsum(rle.runs(mask.counts)), start, end)
    ones = np.arange(edges.size) % 2 == 1
    columns = np.repeat(ones, np.diff(edges, prepend=start))
    return MaskCrop(left, top, columns.reshape(right - left, height).T[top:bottom])
