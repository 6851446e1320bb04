"""Prompts: what to segment in an image, from a detector's answer or from a file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pixano_cli.annotations import Box
from pixano_cli.errors import PixanoAnnotateError, UsageError

DEFAULT_LABEL = "object"

Geometry = tuple[Box | None, tuple[tuple[float, float], ...], tuple[int, ...]]
"""A prompt's box, points and point labels: all of it that a model sees."""


class PromptError(PixanoAnnotateError):
    """A prompt does not fit its image."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One object to segment; coordinates are displayed pixels.

    Attributes:
        label: Class name of the object.
        score: Confidence of whoever found it; None if nobody said.
        box: Its box, if given.
        points: (x, y) of points on it or beside it.
        labels: For each point 1 (on the object) or 0 (beside it).
    """

    label: str = DEFAULT_LABEL
    score: float | None = None
    box: Box | None = None
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()

    @property
    def geometry(self) -> Geometry:
        """What a model sees of the prompt."""
        return self.box, self.points, self.labels

    @property
    def is_ambiguous(self) -> bool:
        """Whether it may mean a part or the whole: a single point says too little."""
        return self.box is None and len(self.points) == 1

    def to_dict(self) -> dict[str, Any]:
        """Convert to dictionary, as prompt files have it."""
        named = {} if self.score is None else {"score": self.score}
        return {"label": self.label} | named | geometry_to_dict(self.geometry)

    @classmethod
    def from_dict(cls, data: Any) -> Prompt:
        """Create from dictionary.

        Raises:
            ValueError: If it is no prompt; the text says what is wrong with it.
        """
        if not isinstance(data, dict):
            raise ValueError("a prompt is an object with a box or points")
        unknown = sorted(set(data) - {"label", "score", "box", "points", "labels"})
        if unknown:
            raise ValueError(
                f"unknown key {unknown[0]!r}: label, score, box, points, labels are known"
            )
        label = data.get("label", DEFAULT_LABEL)
        if not isinstance(label, str) or not label:
            raise ValueError("label is a text")
        score = data.get("score")
        if score is not None and not (_is_number(score) and 0 <= score <= 1):
            raise ValueError("score is a number from 0 to 1")
        box, points, labels = geometry_from_dict(data)
        if box is None and not points:
            raise ValueError("a prompt has a box or points")
        return cls(label, score, box, points, labels)

    def fit(self, width: int, height: int) -> Prompt:
        """Return the prompt with its box clipped to an image of `width` x `height` pixels.

        Raises:
            PromptError: If nothing of the box, or a point, is inside the image.
        """
        if any(not (0 <= x <= width and 0 <= y <= height) for x, y in self.points):
            raise PromptError(f"a point of {self.label!r} is outside the {width}x{height} image")
        if self.box is None:
            return self
        box = self.box.clip(width, height)
        if box.is_empty:
            raise PromptError(f"the box of {self.label!r} is outside the {width}x{height} image")
        return Prompt(self.label, self.score, box, self.points, self.labels)


def geometry_to_dict(geometry: Geometry) -> dict[str, Any]:
    """Convert a geometry to the keys `box`, `points` and `labels`, those that it has."""
    box, points, labels = geometry
    data: dict[str, Any] = {}
    if box is not None:
        data["box"] = list(box)
    if points:
        data["points"] = [list(point) for point in points]
        data["labels"] = list(labels)
    return data


def geometry_from_dict(data: Mapping[str, Any]) -> Geometry:
    """Read a geometry from the keys `box`, `points` and `labels`.

    Raises:
        ValueError: If one of them is not what it should be.
    """
    box = data.get("box")
    if box is not None:
        if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
            raise ValueError("box is [xmin, ymin, xmax, ymax] in pixels")
        box = Box(*map(float, box))
        if box.is_empty:
            raise ValueError("box is [xmin, ymin, xmax, ymax] with xmax > xmin and ymax > ymin")
    points = data.get("points")
    if points is None:
        points = []
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 and all(map(_is_number, point))
        for point in points
    ):
        raise ValueError("points is a list of [x, y] in pixels")
    labels = data.get("labels")
    if labels is None:
        labels = [1] * len(points)
    if (
        not isinstance(labels, list)
        or len(labels) != len(points)
        or not all(type(each) is int and each in (0, 1) for each in labels)
    ):
        raise ValueError("labels has a 1 (on the object) or 0 (beside it) for each point")
    return box, tuple((float(x), float(y)) for x, y in points), tuple(labels)


def read_prompts(path: Path) -> dict[str, tuple[Prompt, ...]]:
    """Read a prompts file: JSON `{"a/b.jpg": [{"label"?, "box"?, "points"?, "labels"?}]}`.

    Raises:
        UsageError: If it cannot be read or is no prompts file.
    """
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"prompts {path} cannot be read: {error.strerror or error}") from error
    except orjson.JSONDecodeError as error:
        raise UsageError(f"prompts {path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"prompts {path} is not an object of lists by file name")
    if isinstance(content.get("annotations"), list) and "images" in content:
        raise UsageError(f"prompts {path} is a COCO file: give it with --from")
    prompts = {}
    for name, given in content.items():
        if not isinstance(given, list):
            raise UsageError(f"prompts {path}, {name!r}: a list of prompts is wanted")
        try:
            prompts[name] = tuple(Prompt.from_dict(each) for each in given)
        except ValueError as error:
            raise UsageError(f"prompts {path}, {name!r}: {error}") from error
    return prompts


def dump_prompts(prompts: Sequence[Prompt]) -> str:
    """Write prompts as JSON text."""
    return orjson.dumps([prompt.to_dict() for prompt in prompts]).decode()


def load_prompts(text: str) -> list[Prompt]:
    """Read what `dump_prompts` wrote."""
    return [Prompt.from_dict(each) for each in orjson.loads(text)]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
