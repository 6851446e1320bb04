"""In what coordinates a vision-language model gives boxes: which axis first, and of what scale.

Models are trained on boxes in one convention and mostly keep to it whatever the prompt says, so
it is known by the model's family, or found out by asking about a picture with known shapes.

Sources of the profiles: the Gemini API's guide to image understanding; the model cards and
cookbooks of Qwen2-VL, Qwen2.5-VL and Qwen3-VL; the papers of LLaVA-1.5, InternVL, DeepSeek-VL2
and GLM-4.5V. GPT models have no convention of their own and follow the prompt best in fractions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pixano_cli.errors import UsageError

Axes = Literal["xyxy", "yxyx", "xywh"]
"""What the four numbers are: two corners, x first or y first, or a corner and a size."""

Scale = Literal["pixels", "grid28", "unit", "thousand"]
"""What they count: pixels of the picture that was sent; pixels of that picture as Qwen2.5-VL's
processor resizes it, to multiples of 28; parts of its width and height; thousandths of them."""

Box = tuple[float, float, float, float]
"""xmin, ymin, xmax, ymax."""

Size = tuple[int, int]
"""Width and height in pixels."""

AUTO = "auto"
"""The convention is to be found: by the model's name, or else by asking."""

_SLACK = 0.05
_PATCH = 28
_LEAST_PIXELS = 56 * 56
_MOST_PIXELS = 28 * 28 * 16384
_OTHER_NAMES = {"1": "unit", "1000": "thousand", "normalized": "unit", "normalised": "unit"}

_CORNERS: Mapping[Axes, str] = {
    "xyxy": "[x_min, y_min, x_max, y_max]",
    "yxyx": "[y_min, x_min, y_max, x_max]",
    "xywh": "[x_min, y_min, width, height]",
}


@dataclass(frozen=True, slots=True)
class Convention:
    """A way to write a box as four numbers."""

    axes: Axes
    scale: Scale

    @property
    def name(self) -> str:
        """Its name, as `--box-format` takes it."""
        return f"{self.axes}-{self.scale}"

    @property
    def corners(self) -> str:
        """The order of the four numbers, in words for a model."""
        return _CORNERS[self.axes]

    def unit(self, sent: Size) -> str:
        """Return what the numbers count, in words for a model.

        Args:
            sent: Size of the picture that it is shown.
        """
        if self.scale == "unit":
            return "fractions from 0 to 1 of the image's width and height"
        if self.scale == "thousand":
            return "integers from 0 to 1000, relative to the image's width and height"
        return f"pixels of the image, which is {sent[0]} wide and {sent[1]} high"

    def frame(self, sent: Size) -> tuple[float, float]:
        """Return the numbers that stand for the picture's right and lower edge."""
        if self.scale == "unit":
            return 1.0, 1.0
        if self.scale == "thousand":
            return 1000.0, 1000.0
        return _grid28(sent) if self.scale == "grid28" else sent

    def box(self, numbers: Sequence[float]) -> Box:
        """Return the box of four numbers, still in their scale."""
        first, second, third, fourth = numbers
        if self.axes == "yxyx":
            return second, first, fourth, third
        if self.axes == "xywh":
            return first, second, first + third, second + fourth
        return first, second, third, fourth

    def fits(self, numbers: Sequence[float], sent: Size) -> bool:
        """Return whether four numbers can be a box: corners in order, and in the picture or almost.

        Almost is a twentieth of the picture's side, by which models do miss an edge.
        """
        x1, y1, x2, y2 = self.box(numbers)
        width, height = self.frame(sent)
        return (
            -_SLACK * width <= x1 <= x2 <= (1 + _SLACK) * width
            and -_SLACK * height <= y1 <= y2 <= (1 + _SLACK) * height
        )

    def to_pixels(self, numbers: Sequence[float], sent: Size, displayed: Size) -> Box:
        """Return the box of four numbers in pixels of the image as displayed, not clipped.

        Args:
            numbers: What the model gives.
            sent: Size of the picture that it was shown.
            displayed: Size of the image of which that was made.
        """
        width, height = self.frame(sent)
        across, down = displayed[0] / width, displayed[1] / height
        x1, y1, x2, y2 = self.box(numbers)
        return x1 * across, y1 * down, x2 * across, y2 * down


@dataclass(frozen=True, slots=True)
class Profile:
    """What a family of models is used to.

    Attributes:
        convention: The convention it is asked for.
        key: The name of a box in its answers.
    """

    convention: Convention
    key: str = "bbox_2d"


def conventions() -> tuple[Convention, ...]:
    """Return all conventions."""
    return tuple(Convention(axes, scale) for axes in get_args(Axes) for scale in get_args(Scale))


UNKNOWN = Profile(Convention("xyxy", "thousand"))
"""What a model of no known family is asked for; what it answers in is found out."""

_FAMILIES: Sequence[tuple[str, Profile]] = (
    (r"gemini|gemma-?[3-9]", Profile(Convention("yxyx", "thousand"), "box_2d")),
    (r"qwen-?2[._]5-?(vl|omni)", Profile(Convention("xyxy", "grid28"))),
    (r"qwen-?2-?vl", Profile(Convention("xyxy", "thousand"))),
    (r"qwen-?(3[-_.]|3vl|3$|[4-9])", Profile(Convention("xyxy", "thousand"))),
    (r"\bgpt-|chatgpt|\bo[134](-|$)", Profile(Convention("xyxy", "unit"), "box")),
    (r"claude", Profile(Convention("xyxy", "pixels"), "box")),
    (r"llava", Profile(Convention("xyxy", "unit"), "box")),
    (
        r"intern-?(vl|s1)|deepseek-?vl-?2|deepseek-?ocr|glm-?4[._][156]v|minicpm-?[vo]|seed-?1[._]",
        Profile(Convention("xyxy", "thousand"), "box"),
    ),
)


def profile_of(model: str) -> Profile | None:
    """Return what the family of a model is used to, by its name; None if the family is not known.

    Args:
        model: Name as a server gives it: "google/gemma-3-27b-it", "qwen2.5vl:7b".
    """
    name = model.lower().rstrip("/").rpartition("/")[2]
    return next((profile for pattern, profile in _FAMILIES if re.search(pattern, name)), None)


def convention_of(name: str) -> Convention | None:
    """Return the convention of a name; None for "auto".

    Raises:
        UsageError: If there is none of this name.
    """
    if name == AUTO:
        return None
    axes, _, scale = name.partition("-")
    wanted = f"{axes}-{_OTHER_NAMES.get(scale, scale)}"
    for each in conventions():
        if each.name == wanted:
            return each
    known = ", ".join(each.name for each in conventions())
    raise UsageError(f"--box-format {name!r}: {AUTO} is wanted, or one of {known}")


def fitting(boxes: Sequence[Sequence[float]], sent: Size) -> tuple[Convention, ...]:
    """Return the conventions in which all of some boxes can be boxes of a picture."""
    return tuple(
        each for each in conventions() if all(each.fits(numbers, sent) for numbers in boxes)
    )


def are_fractions(boxes: Sequence[Sequence[float]]) -> bool:
    """Return whether some boxes can only be meant in parts of the picture.

    Read as pixels or thousandths they would lie in its corner, smaller than can be seen.
    """
    numbers = [number for each in boxes for number in each]
    return bool(numbers) and max(map(abs, numbers)) <= 1 + _SLACK


def clipped(box: Box, size: Size) -> Box | None:
    """Return the part of a box that is in the image; None if there is none."""
    x1, y1, x2, y2 = box
    width, height = size
    inside = (max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2))
    return inside if inside[0] < inside[2] and inside[1] < inside[3] else None


def iou(first: Box, second: Box) -> float:
    """Return the intersection over union of two boxes; 0 where one has no area."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return common / (areas - common)


def best_match(box: Box, candidates: Iterable[Box]) -> float:
    """Return the highest intersection over union of a box with any of some."""
    return max((iou(box, each) for each in candidates), default=0.0)


def _grid28(sent: Size) -> tuple[float, float]:
    """Return the size to which Qwen2.5-VL's processor brings a picture, with its own limits."""
    width, height = (max(_PATCH, round(side / _PATCH) * _PATCH) for side in sent)
    if width * height > _MOST_PIXELS:
        shrink = math.sqrt(sent[0] * sent[1] / _MOST_PIXELS)
        width, height = (max(_PATCH, int(side / shrink / _PATCH) * _PATCH) for side in sent)
    elif width * height < _LEAST_PIXELS:
        grow = math.sqrt(_LEAST_PIXELS / (sent[0] * sent[1]))
        width, height = (math.ceil(side * grow / _PATCH) * _PATCH for side in sent)
    return float(width), float(height)
