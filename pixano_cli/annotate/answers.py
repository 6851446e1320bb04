"""Boxes and masks as a provider answers them: checked once, and made the elements of a record."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from pixano_cli import rle
from pixano_cli.annotate.prompts import Prompt, geometry_to_dict
from pixano_cli.inference.errors import InferenceError
from pixano_cli.inference.types import ImageMaskGenerationOutput, ImageZeroShotDetectionOutput
from pixano_cli.inference_store.ledger import Picture


def detection_elements(
    output: ImageZeroShotDetectionOutput, vocabulary: Collection[str] | None
) -> list[dict[str, Any]]:
    """Check a detector's answer and return it as object_detection elements, best score first.

    Args:
        output: The answer.
        vocabulary: The classes the detector says it has; None if it has no set of its own.

    Raises:
        InferenceError: If it is malformed, or names a class that is not in the vocabulary.
    """
    if not len(output.boxes) == len(output.scores) == len(output.classes):
        raise InferenceError("the model's answer is malformed: boxes, scores and classes differ")
    elements = []
    for box, score, label in zip(output.boxes, output.scores, output.classes, strict=True):
        if len(box) != 4 or not all(math.isfinite(value) for value in box):
            raise InferenceError(f"the model's answer is malformed: {box} is no box")
        check_score(score)
        if not label.strip():
            raise InferenceError("the model's answer is malformed: an object without a label")
        if vocabulary is not None and label not in vocabulary:
            raise InferenceError(f"the model's answer names a class it does not have: {label!r}")
        xmin, ymin, xmax, ymax = box
        elements.append(
            {
                "label": label,
                "score": score,
                "xmin": xmin,
                "ymin": ymin,
                "xmax": xmax,
                "ymax": ymax,
            }
        )
    return sorted(elements, key=lambda element: -element["score"])


def segmentation_elements(
    output: ImageMaskGenerationOutput, prompts: Sequence[Prompt], picture: Picture
) -> list[dict[str, Any]]:
    """Check a segmenter's answer and return the best mask a prompt as image_segmentation elements.

    Raises:
        InferenceError: If it is malformed.
    """
    shape = output.scores.shape
    if len(output.masks) != len(prompts) or len(shape) != 2 or shape[0] != len(prompts):
        raise InferenceError("the model's answer is malformed: not one list of masks a prompt")
    elements = []
    for index, (prompt, masks) in enumerate(zip(prompts, output.masks, strict=True)):
        scores = output.scores.values[index * shape[1] : (index + 1) * shape[1]]
        if not masks or len(scores) != len(masks):
            raise InferenceError("the model's answer is malformed: not one score a mask")
        iou, best = max(zip(scores, masks, strict=True), key=lambda pair: pair[0])
        check_score(iou)
        try:
            rle.check(best, (picture.height, picture.width))
        except ValueError as error:
            raise InferenceError(f"the model's answer is malformed: {error}") from error
        elements.append(
            {
                "label": prompt.label,
                "score": iou if prompt.score is None else prompt.score,
                "rle": best.to_dict(),
                "iou": iou,
                "prompt": geometry_to_dict(prompt.geometry),
            }
        )
    return elements


def check_score(score: float) -> None:
    if not 0 <= score <= 1:
        raise InferenceError(f"the model's answer is malformed: a score of {score}")
