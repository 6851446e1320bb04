"""The identity of work: what was asked of what, as a digest.

Two askings have one identity if, and only if, a model would be given the same input and the
same request. Whatever is applied to an answer afterwards (a threshold, a class filter, a
format) is no part of it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson


@dataclass(frozen=True)
class Request:
    """What is asked of a model, apart from the input and its prompts.

    Attributes:
        task: An InferenceTask's value.
        provider: Name of the provider.
        model: Name of the model.
        model_digest: Digest of the model's weights and parameters; empty if the provider has none.
        parameters: Every parameter that changes the raw answer. Where it runs does not belong here.
    """

    task: str
    provider: str
    model: str
    model_digest: str
    parameters: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Convert to dictionary."""
        return {
            "task": self.task,
            "provider": self.provider,
            "model": self.model,
            "model_digest": self.model_digest,
            "parameters": dict(self.parameters),
        }

    @cached_property
    def key(self) -> str:
        """Hex digest of the request."""
        return hashlib.sha256(canonical_json(self.to_dict())).hexdigest()


def inference_id(
    request_key: str,
    content: str,
    prompts: Sequence[Mapping[str, Any]] | None = None,
    frame: int | None = None,
) -> str:
    """Return the id of the answer to one asking.

    Args:
        request_key: A request's key.
        content: sha256 of the file's bytes, as hex digest.
        prompts: The prompts as dictionaries; None where the task takes none.
        frame: Index of the video's frame; None for an image.
    """
    work = {"content": content, "frame": frame, "prompts": prompts, "request": request_key}
    return hashlib.sha256(canonical_json(work)).hexdigest()


def canonical_json(value: Any) -> bytes:
    """Write a value so that equal values give equal bytes: keys sorted, 1 and 1.0 and 1e0 the same.

    Raises:
        ValueError: For NaN or an infinity, which are equal to nothing.
    """
    return orjson.dumps(_canonical(value), option=orjson.OPT_SORT_KEYS)


def _canonical(value: Any) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no identity")
        return int(value) if value.is_integer() and abs(value) <= 2**53 else value
    if isinstance(value, Mapping):
        return {str(key): _canonical(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(each) for each in value]
    return value
