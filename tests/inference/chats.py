"""What chat servers answer, for the tests' own server, and how the tests ask them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from typing import Any

from pixano_cli.inference.generation import GenerationInput
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.providers.conventions import Convention, convention_of
from pixano_cli.inference.types import (
    ImageZeroShotDetectionInput,
    ImageZeroShotDetectionResult,
    TextImageConditionalGenerationResult,
)

from .own_server import Reply, answer
from .remote import data_url, png

CHAT = "/v1/chat/completions"
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
TWICE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}


def completion(
    content: Any = "A cat.",
    finish: str | None = "stop",
    usage: Any = USAGE,
    logprobs: Any = None,
    **message: Any,
) -> Reply:
    """Answer as OpenAI's API does."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content, **message},
        "finish_reason": finish,
        "logprobs": logprobs,
    }
    return answer({"id": "x", "model": "m-1", "choices": [choice], "usage": usage})


def refusal(said: str, status: int = 400) -> Reply:
    """Refuse as OpenAI's API does."""
    return answer({"error": {"message": said, "type": "invalid_request_error"}}, status)


def boxes(*found: Sequence[Any], key: str = "bbox_2d") -> str:
    """Return the JSON of objects: (label, four numbers)."""
    return json.dumps({"objects": [{"label": label, key: list(box)} for label, box in found]})


def caption(
    provider: InferenceProvider,
    prompt: Any = "What?",
    model: str = "m",
    timeout: float = 10.0,
    **options: Any,
) -> Awaitable[TextImageConditionalGenerationResult]:
    """Ask for a text about an image."""
    images = options.pop("images", [data_url(png())])
    request = GenerationInput(model, prompt, images, **options)
    return provider.text_image_conditional_generation(request, timeout)


def detect(
    provider: InferenceProvider,
    model: str = "qwen3-vl",
    classes: list[str] | str = "cat, dog",
    image: str | None = None,
    timeout: float = 10.0,
    threshold: float = 0.5,
) -> Awaitable[ImageZeroShotDetectionResult]:
    """Ask for boxes in an image of 60x40 pixels."""
    request = ImageZeroShotDetectionInput(
        image or data_url(png(60, 40)), model, classes, box_threshold=threshold
    )
    return provider.image_zero_shot_detection(request, timeout)


def convention(name: str) -> Convention:
    """Return the convention of a name."""
    found = convention_of(name)
    assert found is not None
    return found
