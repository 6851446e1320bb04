"""Run-length encoded masks in COCO's compressed form, by way of pycocotools.

A mask is a boolean or uint8 array [height, width]; its RLE runs down the columns
(column-major), starting with a run of zeros, as defined by the COCO API's maskApi.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8] | NDArray[np.bool_]


@dataclass
class CompressedRLEData:
    """Compressed RLE mask data.

    Attributes:
        size: Mask size as [height, width], in pixels.
        counts: Mask RLE encoding as bytes (the ASCII text of pycocotools' compressed counts).
    """

    size: list[int]
    counts: bytes

    def to_dict(self) -> dict[str, Any]:
        """Convert to dictionary, with `counts` as text, as JSON needs it."""
        counts = self.counts.decode("utf-8") if isinstance(self.counts, bytes) else self.counts
        return {"size": self.size, "counts": counts}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CompressedRLEData:
        """Create from dictionary; `counts` may be text or bytes.

        Raises:
            KeyError: If `size` or `counts` is missing.
        """
        counts = data["counts"]
        if isinstance(counts, str):
            counts = counts.encode("utf-8")
        return cls(size=data["size"], counts=counts)


def encode(mask: Mask) -> CompressedRLEData:
    """Encode a mask [height, width]; every non-zero pixel is inside."""
    from pycocotools import mask as coco_mask

    inside = np.asfortranarray(mask != 0, dtype=np.uint8)
    encoded = coco_mask.encode(inside)
    return CompressedRLEData(size=[int(side) for side in inside.shape], counts=encoded["counts"])


def decode(rle: CompressedRLEData) -> NDArray[np.bool_]:
    """Decode to a boolean mask [height, width]."""
    from pycocotools import mask as coco_mask

    decoded: NDArray[np.uint8] = coco_mask.decode(_coco(rle))
    return decoded.astype(bool)


def area(rle: CompressedRLEData) -> int:
    """Return the number of pixels inside the mask."""
    from pycocotools import mask as coco_mask

    return int(coco_mask.area(_coco(rle)))


def bounding_box(rle: CompressedRLEData) -> tuple[float, float, float, float]:
    """Return the tight box (xmin, ymin, xmax, ymax) in pixels; four zeros for an empty mask."""
    from pycocotools import mask as coco_mask

    x, y, width, height = (float(value) for value in coco_mask.toBbox(_coco(rle)))
    return x, y, x + width, y + height


def _coco(rle: CompressedRLEData) -> dict[str, Any]:
    return {"size": rle.size, "counts": rle.counts}
