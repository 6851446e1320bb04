"""Clips of squares of plain colour that move over a grey ground, and where they truly are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..media.videos import write_video

Pixels = NDArray[np.uint8]

SIZE = (160, 96)
COLOURS = {"red": (230, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 235)}
GROUND = 128


@dataclass(frozen=True)
class Square:
    """A square of a colour that moves on a straight line while it is there."""

    colour: str
    x: float
    y: float
    dx: float = 0.0
    dy: float = 0.0
    side: int = 20
    first: int = 0
    last: int = 10**6

    def box(self, frame: int) -> tuple[float, float, float, float]:
        """Return xmin, ymin, xmax, ymax."""
        x, y = round(self.x + frame * self.dx), round(self.y + frame * self.dy)
        return x, y, x + self.side, y + self.side

    def is_there(self, frame: int) -> bool:
        return self.first <= frame <= self.last


TWO = (Square("red", 4, 8, 2.0, 0.2), Square("green", 130, 60, -1.6, -0.3))
"""Two that pass each other without touching."""


def draw(squares: Sequence[Square], frame: int, size: tuple[int, int] = SIZE) -> Pixels:
    """Return a picture [height, width, 3]; its ground says its number, so that no two are alike."""
    picture = np.full((size[1], size[0], 3), GROUND, np.uint8)
    picture[-8:] = GROUND - 40 + frame % 80
    for square in squares:
        if square.is_there(frame):
            left, top, right, bottom = (int(side) for side in square.box(frame))
            picture[max(top, 0) : bottom, max(left, 0) : right] = COLOURS[square.colour]
    return picture


def pictures(
    count: int, squares: Sequence[Square] = TWO, size: tuple[int, int] = SIZE
) -> Iterator[Pixels]:
    for frame in range(count):
        yield draw(squares, frame, size)


def write_clip(
    path: Path,
    count: int = 40,
    squares: Sequence[Square] = TWO,
    size: tuple[int, int] = SIZE,
    **how: Any,
) -> Path:
    """Write a clip; see `write_video`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    how.setdefault("options", {"crf": "4", "preset": "ultrafast"})
    return write_video(path, size=size, pictures=pictures(count, squares, size), **how)


def iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the overlap of two boxes [xmin, ymin, xmax, ymax]."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return both / (sum(areas) - both)
