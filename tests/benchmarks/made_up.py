"""Answers that no model gave, as many as wanted: for outputs of a million annotations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pixano_cli.models.coco_classes import COCO_CATEGORIES

WIDTH, HEIGHT = 1152, 864
SHOWN, HIDDEN = 10, 20
"""How many elements of an image are above the threshold, and how many below, as detectors give."""

_NAMES = [category.name for category in COCO_CATEGORIES]


def elements(image: int) -> Iterator[dict[str, Any]]:
    """Yield the object_detection elements of an image, best score first."""
    for index in range(SHOWN + HIDDEN):
        low, high = (0.5, 1.0) if index < SHOWN else (0.05, 0.5)
        part = ((image * 7 + index * 31) % 1000) / 1000
        x, y = (image * 13 + index * 97) % 900 + part, (image * 17 + index * 61) % 700 + part
        yield {
            "label": _NAMES[(image + index) % len(_NAMES)],
            "score": round(high - (high - low) * part, 5),
            "xmin": round(x, 2),
            "ymin": round(y, 2),
            "xmax": round(x + 20 + 100 * part, 2),
            "ymax": round(y + 30 + 50 * part, 2),
        }
