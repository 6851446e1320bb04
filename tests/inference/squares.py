"""Pictures with squares of plain colours, whose boxes and masks can be worked out."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixano_cli import rle
from pixano_cli.rle import CompressedRLEData

from .pixano_colours import COLOURS
from .remote import data_url

Box = tuple[int, int, int, int]


def painted(boxes: Mapping[str, Box], width: int = 60, height: int = 40) -> NDArray[np.uint8]:
    """Return a grey picture with a square of each colour."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    for colour, (x1, y1, x2, y2) in boxes.items():
        pixels[y1:y2, x1:x2] = COLOURS[colour]
    return pixels


def url(pixels: NDArray[np.uint8]) -> str:
    """Return a picture as a data URL of a PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return data_url(file.getvalue())


def of_colour(pixels: NDArray[np.uint8], colour: str) -> CompressedRLEData:
    """Return the mask of a colour."""
    return rle.encode((pixels == COLOURS[colour]).all(axis=-1))


def moving(count: int, width: int = 60, height: int = 40) -> list[NDArray[np.uint8]]:
    """Return frames in which a red square goes to the right and a blue one down."""
    return [
        painted({"red": (3 * n, 4, 3 * n + 8, 12), "blue": (50, 2 * n, 58, 2 * n + 6)})
        for n in range(count)
    ]
