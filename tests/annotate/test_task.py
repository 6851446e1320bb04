"""The boundary that every answer of a model passes once."""

import math
from typing import Any

import numpy as np
import pytest

from pixano_cli import rle
from pixano_cli.annotate.answers import detection_elements, segmentation_elements
from pixano_cli.annotate.prompts import Prompt
from pixano_cli.annotate.task import score_floor
from pixano_cli.annotations import Box
from pixano_cli.inference.errors import InferenceError
from pixano_cli.inference.types import (
    ImageMaskGenerationOutput,
    ImageZeroShotDetectionOutput,
    NDArrayData,
)
from pixano_cli.inference_store.ledger import Picture

PICTURE = Picture("digest", 1, 4, 3, 1, "PNG")
MASK = rle.encode(np.ones((3, 4), bool))
PROMPT = Prompt("cup", 0.9, Box(0, 0, 2, 2))


def detected(**changes: Any) -> ImageZeroShotDetectionOutput:
    fields: dict[str, Any] = {
        "boxes": [[0, 0, 1, 1], [1, 1, 2.5, 2]],
        "scores": [0.2, 0.7],
        "classes": ["cat", "cup"],
    }
    return ImageZeroShotDetectionOutput(**(fields | changes))


def test_detections_become_elements_best_first() -> None:
    assert detection_elements(detected(), None) == [
        {"label": "cup", "score": 0.7, "xmin": 1, "ymin": 1, "xmax": 2.5, "ymax": 2},
        {"label": "cat", "score": 0.2, "xmin": 0, "ymin": 0, "xmax": 1, "ymax": 1},
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scores": [0.2]}, "differ"),
        ({"classes": ["cat"]}, "differ"),
        ({"boxes": [[0, 0, 1], [0, 0, 1, 1]]}, "is no box"),
        ({"boxes": [[0, 0, math.nan, 1], [0, 0, 1, 1]]}, "is no box"),
        ({"scores": [0.2, 1.01]}, "score of 1.01"),
        ({"scores": [0.2, math.nan]}, "score of nan"),
        ({"scores": [-0.1, 0.5]}, "score of -0.1"),
        ({"classes": ["cat", "unicorn"]}, "does not have: 'unicorn'"),
    ],
)
def test_a_malformed_detection_is_not_recorded(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InferenceError, match=reason):
        detection_elements(detected(**changes), {"cat", "cup"})


def masks(per_prompt: list[list[rle.CompressedRLEData]], scores: Any) -> ImageMaskGenerationOutput:
    array = np.array(scores, float)
    return ImageMaskGenerationOutput(
        per_prompt, NDArrayData(array.ravel().tolist(), list(array.shape))
    )


def test_the_best_mask_of_each_prompt_becomes_an_element() -> None:
    small = rle.encode(np.eye(3, 4, dtype=bool))
    elements = segmentation_elements(
        masks([[MASK, small], [small, MASK]], [[0.3, 0.6], [0.8, 0.2]]),
        [PROMPT, Prompt("lid", None, None, ((1.0, 2.0),), (1,))],
        PICTURE,
    )
    assert elements == [
        {
            "label": "cup",
            "score": 0.9,
            "iou": 0.6,
            "rle": small.to_dict(),
            "prompt": {"box": [0, 0, 2, 2]},
        },
        {
            "label": "lid",
            "score": 0.8,
            "iou": 0.8,
            "rle": small.to_dict(),
            "prompt": {"points": [[1.0, 2.0]], "labels": [1]},
        },
    ]


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (masks([], np.zeros((0, 1))), "not one list of masks a prompt"),
        (masks([[MASK]], [0.5]), "not one list of masks a prompt"),
        (masks([[MASK]], [[0.5, 0.6]]), "not one score a mask"),
        (masks([[]], np.zeros((1, 0))), "not one score a mask"),
        (masks([[MASK]], [[1.5]]), "score of 1.5"),
        (masks([[rle.encode(np.ones((4, 3), bool))]], [[0.5]]), "size"),
        (masks([[rle.CompressedRLEData([3, 4], b"0")]], [[0.5]]), "malformed"),
    ],
)
def test_a_malformed_segmentation_is_not_recorded(
    output: ImageMaskGenerationOutput, reason: str
) -> None:
    with pytest.raises(InferenceError, match=reason):
        segmentation_elements(output, [PROMPT], PICTURE)


@pytest.mark.parametrize(
    ("threshold", "floor"), [(0.9, 0.05), (0.05, 0.05), (0.04, 0.0), (0.0, 0.0)]
)
def test_nearby_thresholds_share_a_floor(threshold: float, floor: float) -> None:
    assert score_floor(threshold) == floor
