"""Run-length encoded masks in COCO's compressed form, by way of pycocotools.

A mask is a boolean or uint8 array [height, width]; its RLE runs down the columns
(column-major), starting with a run of zeros, as defined by the COCO API's maskApi. A mask has
at least one row and one column, and fewer than 2**29 pixels: above that maskApi's 32-bit shifts
lose bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8] | NDArray[np.bool_]

_MAX_PIXELS = 2**29
_MAX_DIGITS = 6


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
    """Encode a mask [height, width]; every non-zero pixel is inside.

    Raises:
        ValueError: If the mask is not two-dimensional, has no pixel, or has 2**29 or more.
    """
    from pycocotools import mask as coco_mask

    if mask.ndim != 2:
        raise ValueError(f"a mask is [height, width], not of shape {list(mask.shape)}")
    size = [int(side) for side in mask.shape]
    _check_size(size)
    inside = mask if mask.dtype == np.bool_ else mask != 0
    encoded = coco_mask.encode(np.asfortranarray(inside.view(np.uint8)))
    return CompressedRLEData(size=size, counts=encoded["counts"])


def decode(rle: CompressedRLEData) -> NDArray[np.bool_]:
    """Decode to a boolean mask [height, width].

    The RLE must be one of `encode`, or have passed `check`: pycocotools returns uninitialised
    memory for one that is too short.
    """
    from pycocotools import mask as coco_mask

    decoded: NDArray[np.uint8] = coco_mask.decode(_coco(rle))
    return decoded.view(np.bool_)


def area(rle: CompressedRLEData) -> int:
    """Return the number of pixels inside the mask."""
    from pycocotools import mask as coco_mask

    return int(coco_mask.area(_coco(rle)))


def bounding_box(rle: CompressedRLEData) -> tuple[float, float, float, float]:
    """Return the tight box (xmin, ymin, xmax, ymax) in pixels; four zeros for an empty mask."""
    from pycocotools import mask as coco_mask

    x, y, width, height = coco_mask.toBbox(_coco(rle)).tolist()
    # An empty mask that ends in a run of no ones: pycocotools answers with its initial values.
    if x >= rle.size[1]:
        return 0.0, 0.0, 0.0, 0.0
    return x, y, x + width, y + height


def check(rle: CompressedRLEData, size: Sequence[int] | None = None) -> None:
    """Check an RLE from outside, which pycocotools would trust: every run, and their sum.

    The text is that of maskApi's rleToString: numbers in digits of 5 bits, the lowest first, a
    digit's character being its value + 48 and 32 more where another one follows; the last digit
    carries the sign; from the fourth number on, each is the difference to the run two before.

    Args:
        rle: The mask to check.
        size: The [height, width] that it must have; None allows any.

    Raises:
        ValueError: If it does not describe a whole mask of its size, or is not of `size`; the text
            is one line that says what is wrong.
    """
    _check_size(rle.size)
    height, width = rle.size
    if size is not None and [height, width] != [*size]:
        raise ValueError(f"the mask is of size {[height, width]}, not {[*size]}")
    if not isinstance(rle.counts, bytes):
        raise ValueError("the mask's counts are not text in COCO's compressed form")
    lengths = runs(rle.counts)
    if lengths.min() < 0:
        raise ValueError("the mask's counts hold a run of negative length")
    covered = int(lengths.sum())
    if covered != height * width:
        raise ValueError(
            f"the mask's counts cover {covered} pixels, its size {[height, width]} has "
            f"{height * width}"
        )


def _check_size(size: Any) -> None:
    if not (
        isinstance(size, list | tuple)
        and len(size) == 2
        and all(type(side) is int and side > 0 for side in size)
    ):
        raise ValueError(f"a mask's size is [height, width], both from 1, not {size!r:.60}")
    if size[0] * size[1] >= _MAX_PIXELS:
        raise ValueError(f"a mask of size {list(size)} is too large: the limit is 2**29 pixels")


def runs(counts: bytes) -> NDArray[np.int64]:
    """Read the lengths of the runs, the first one of zeros; some are negative where it is wrong.

    Raises:
        ValueError: If it is not text in the compressed form.
    """
    digits = np.frombuffer(counts, dtype=np.uint8) - np.uint8(48)
    if digits.size == 0 or digits[-1] & 32:
        raise ValueError("the mask's counts end too early")
    if digits.max() > 63:
        raise ValueError("the mask's counts hold a character outside COCO's compressed form")
    ends = np.flatnonzero(digits < 32)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MAX_DIGITS:
        raise ValueError("the mask's counts hold a number that is too large")
    places = np.arange(digits.size) - np.repeat(starts, lengths)
    runs = np.add.reduceat((digits & 31).astype(np.int64) << 5 * places, starts)
    runs -= (digits[ends] >> 4).astype(np.int64) << 5 * lengths
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    return runs


def _coco(rle: CompressedRLEData) -> dict[str, Any]:
    return {"size": rle.size, "counts": rle.counts}
