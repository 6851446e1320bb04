"""Vectors of images: a task of this project, beside the four of the published interface.

The published tasks, `InferenceTask`, stay as they are, and with them what `list_models` can be
asked for and `get_capabilities` tells: a backend that knows nothing of vectors is a whole provider.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from pixano_cli.inference.types import InferenceTask, Message

__all__ = [
    "AnyTask",
    "EmbeddingTask",
    "ImageEmbeddingInput",
    "ImageEmbeddingOutput",
    "ImageEmbeddingResult",
    "task_of",
]


class EmbeddingTask(str, Enum):  # noqa: UP042 - the bases of the published tasks
    """What a provider may do beside the published tasks."""

    IMAGE_EMBEDDING = "image_embedding"


AnyTask = InferenceTask | EmbeddingTask
"""A published task or one of this project's."""


def task_of(name: str) -> AnyTask:
    """Return the task of a name.

    Raises:
        ValueError: If there is none of this name.
    """
    known = {task.value: task for task in EmbeddingTask}
    return known[name] if name in known else InferenceTask(name)


@dataclass
class ImageEmbeddingInput(Message):
    """Input for image embedding.

    Attributes:
        image: Image as data URL or URL.
        model: Model name to use.
    """

    image: str
    model: str


@dataclass
class ImageEmbeddingOutput(Message):
    """Output for image embedding.

    Attributes:
        embedding: The image's vector, as the model gives it: its length is the model's own and it
            need not be 1 long.
    """

    embedding: list[float]


@dataclass
class ImageEmbeddingResult:
    """Complete result of image embedding.

    Attributes:
        data: The output data.
        timestamp: When the inference completed.
        processing_time: Time taken in seconds.
        metadata: Additional metadata from the model.
        id: Unique identifier for the inference request.
        status: Status of the inference ("SUCCESS", "FAILURE").
    """

    data: ImageEmbeddingOutput
    timestamp: datetime
    processing_time: float
    metadata: dict[str, Any]
    id: str = ""
    status: str = "SUCCESS"
