"""Fast models for the tests of videos: they see squares of plain colour, and note every call.

They are offered to the tool as those of `counting_models` are.
"""

import os
from pathlib import Path

import numpy as np
from counting_models import note, wait
from scipy import ndimage

from pixano_cli import rle
from pixano_cli.annotations import Category
from pixano_cli.models.base import ModelCard, register_model
from pixano_cli.models.detection import DetectionModel, DetectionOutput
from pixano_cli.models.segmentation import SegmentationModel, SegmentationOutput

SCORES = {"red": 0.9, "green": 0.7, "blue": 0.4}


def counted():
    with Path(os.environ["COUNTING_LOG"]).open("rb") as log:
        return sum(b" detect " in line for line in log)


def seen(image):
    """Return where each colour is, [3, height, width]."""
    red, green, blue = image.astype(np.int16).transpose(2, 0, 1)
    others = np.maximum(green, blue), np.maximum(red, blue), np.maximum(red, green)
    return np.stack((red, green, blue)) - np.stack(others) > 60


def boxes_of(where):
    """Return the box of each of the areas that a mask has."""
    numbered, _ = ndimage.label(where)
    return [
        [float(x.start), float(y.start), float(x.stop), float(y.stop)]
        for y, x in ndimage.find_objects(numbered)
        if x.stop - x.start >= 4 and y.stop - y.start >= 4
    ]


@register_model("square-detector")
class SquareDetector(DetectionModel):
    card = ModelCard(
        description="Squares of plain colour",
        license="MIT",
        origin="the tests",
        categories=tuple(Category(at, name) for at, name in enumerate(SCORES, start=1)),
    )

    def load_model(self):
        wait()

    def predict(self, input):  # noqa: A002
        note("detect", input.image.tobytes())
        if counted() == int(os.environ.get("COUNTING_FAILS_AT", "0")):
            raise RuntimeError("out of luck")
        wait()
        found = [
            (box, SCORES[label], label)
            for label, where in zip(SCORES, seen(input.image), strict=True)
            for box in boxes_of(where)
        ]
        boxes, scores, classes = map(list, zip(*found, strict=True)) if found else ([], [], [])
        return DetectionOutput(boxes=boxes, scores=scores, classes=classes)


@register_model("square-segmenter")
class SquareSegmenter(SegmentationModel):
    """The mask of a prompt is all of the colour at its middle, inside of its box."""

    def load_model(self):
        wait()

    def predict(self, input):  # noqa: A002
        note("segment", input.image.tobytes())
        wait()
        colours = seen(input.image)
        height, width = input.image.shape[:2]
        masks = []
        for at in range(len(input.boxes or input.points or ())):
            box = (input.boxes or {at: (0, 0, width, height)})[at]
            middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            x, y = input.points[at][0] if input.points else middle
            colour = colours[:, min(int(y), height - 1), min(int(x), width - 1)].argmax()
            inside = np.zeros((height, width), bool)
            left, top, right, bottom = (round(side) for side in box)
            inside[top:bottom, left:right] = colours[colour][top:bottom, left:right]
            masks.append([rle.encode(inside)] * (3 if input.multimask_output else 1))
        scores = np.full((len(masks), 3 if input.multimask_output else 1), 0.875, np.float32)
        return SegmentationOutput(masks=masks, scores=scores)
