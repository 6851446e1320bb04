"""A detector that answers what is certain, and how the tests ask it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pixano_cli.inference.providers.local import LocalProvider
from pixano_cli.inference.types import ImageZeroShotDetectionInput, ImageZeroShotDetectionResult
from pixano_cli.models import DetectionInput, DetectionModel, DetectionOutput, InferenceModel

Register = Callable[[type[InferenceModel[Any, Any]]], None]
Picture = Callable[[int, int], str]


async def detect(
    provider: LocalProvider, image: str, timeout: float = 60.0, **options: Any
) -> ImageZeroShotDetectionResult:
    options.setdefault("classes", "")
    return await provider.image_zero_shot_detection(
        ImageZeroShotDetectionInput(image=image, model=options.pop("model", "plugin"), **options),
        timeout,
    )


class Measure(DetectionModel):
    """Answers with one box, the whole image."""

    def load_model(self) -> None:
        pass

    def predict(self, input: DetectionInput) -> DetectionOutput:  # noqa: A002
        assert isinstance(input.image, np.ndarray)
        height, width = input.image.shape[:2]
        return DetectionOutput(boxes=[[0, 0, width, height]], scores=[1.0], classes=["image"])
