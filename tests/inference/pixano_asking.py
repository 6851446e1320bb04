"""What the tests ask a server of their own that speaks as a generation of Pixano Inference."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.types import (
    ImageMaskGenerationInput,
    ImageZeroShotDetectionInput,
    VideoMaskGenerationInput,
)

from .pixano_generations import PixanoServer
from .remote import ask
from .squares import moving, painted, url

T = TypeVar("T")

ALL = [1, 2, 3, 4, 5]
SQUARES = {"red": (5, 6, 20, 16), "blue": (30, 10, 41, 33)}
PICTURE = painted(SQUARES)  # type: ignore[arg-type]


def pixano(
    own: PixanoServer, question: Callable[[InferenceProvider], Awaitable[T]], **options: Any
) -> T:
    return ask("pixano-inference", own.url, question, **options)


def detecting(**facts: Any) -> ImageZeroShotDetectionInput:
    return ImageZeroShotDetectionInput(
        **{"image": url(PICTURE), "model": "colours", "classes": []} | facts
    )


def masking(**facts: Any) -> ImageMaskGenerationInput:
    return ImageMaskGenerationInput(**{"image": url(PICTURE), "model": "boxes"} | facts)


def following(count: int, **facts: Any) -> VideoMaskGenerationInput:
    given: dict[str, Any] = {
        "video": [url(frame) for frame in moving(count)],
        "model": "squares",
        "objects_ids": [7, 3],
        "frame_indexes": [0, 0],
        "boxes": [[1, 5, 7, 11], [50.4, 0.2, 57.6, 5.9]],
    }
    return VideoMaskGenerationInput(**given | facts)
