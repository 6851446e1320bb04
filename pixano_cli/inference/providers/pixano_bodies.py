"""What is written to a Pixano Inference server: documented requests to bodies, by generation.

Coordinates go out in pixels of the picture that is sent, and as integers, which is all that the
servers take. Names are in snake_case, which every generation reads.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixano_cli.inference.errors import InvalidRequestError
from pixano_cli.inference.providers.dialects import Generation
from pixano_cli.inference.providers.outgoing import Outgoing
from pixano_cli.inference.types import (
    ImageMaskGenerationInput,
    ImageZeroShotDetectionInput,
    NDArrayData,
    TextImageConditionalGenerationInput,
)
from pixano_cli.rle import CompressedRLEData

MULTIMASK_OUTPUTS = 3
"""Masks a prompt that SAM2 makes, and all that it may be asked for, where several are wanted."""


@dataclass(frozen=True, slots=True)
class TrackPrompt:
    """What says which object to follow, in one frame.

    Attributes:
        object_id: The object.
        frame: Index of the frame, from 0.
        box: [x1, y1, x2, y2] in pixels of the frame as sent.
        points: (x, y) in the same pixels.
        labels: For each point 1 inside the object, 0 outside.
        mask: Mask of the frame's size as sent, in place of box and points.
    """

    object_id: int
    frame: int
    box: tuple[int, int, int, int] | None = None
    points: tuple[tuple[int, int], ...] = ()
    labels: tuple[int, ...] = ()
    mask: CompressedRLEData | None = None

    @property
    def kind(self) -> tuple[bool, bool]:
        """Whether it has a box, and whether it has points."""
        return self.box is not None, bool(self.points)


def segmentation(
    generation: Generation, request: ImageMaskGenerationInput, image: Outgoing
) -> dict[str, Any]:
    """Return the body of a request for masks.

    The predictor is always reset: the image that a server has in mind may be another client's.

    Raises:
        InvalidRequestError: If prompts do not fit together.
    """
    points, labels, boxes = request.points or None, request.labels or None, request.boxes or None
    _check_prompts(request.model, points, labels, boxes)
    several = request.multimask_output and request.num_multimask_outputs < MULTIMASK_OUTPUTS
    body: dict[str, Any] = {
        "model": request.model,
        "image": image.url,
        "reset_predictor": True,
        "points": points and [[point_of(each, image) for each in group] for group in points],
        "labels": labels,
        "boxes": boxes and [list(box_of(each, image)) for each in boxes],
        "num_multimask_outputs": MULTIMASK_OUTPUTS if several else request.num_multimask_outputs,
        "multimask_output": request.multimask_output,
        "return_image_embedding": request.return_image_embedding,
    }
    if request.image_embedding is not None:
        body["image_embedding"] = array(generation, request.image_embedding)
    if request.high_resolution_features is not None:
        body["high_resolution_features"] = [
            array(generation, each) for each in request.high_resolution_features
        ]
    return body


def detection(
    request: ImageZeroShotDetectionInput, image: Outgoing, classes: list[str] | str | None
) -> dict[str, Any]:
    """Return the body of a request for boxes, with `classes` as the model wants them."""
    return {
        "model": request.model,
        "image": image.url,
        "classes": classes,
        "box_threshold": request.box_threshold,
        "text_threshold": request.text_threshold,
    }


def generation(
    request: TextImageConditionalGenerationInput, messages: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the body of a request for text: the images are in the messages.

    That is the one form that the models of every server read.
    """
    return {
        "model": request.model,
        "prompt": messages,
        "images": None,
        "max_new_tokens": request.max_new_tokens,
        "temperature": request.temperature,
    }


def messages(prompt: str | list[dict[str, Any]], images: Sequence[str]) -> list[dict[str, Any]]:
    """Return a chat with images in it, as parts of the last message that a user says.

    Args:
        prompt: What is said, or a chat.
        images: URLs.
    """
    chat: list[dict[str, Any]]
    chat = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    parts = [{"type": "image_url", "image_url": {"url": image}} for image in images]
    asks = [index for index, each in enumerate(chat) if each.get("role", "user") == "user"]
    if not asks:
        chat, asks = [*chat, {"role": "user", "content": []}], [len(chat)]
    last = asks[-1]
    said = chat[last].get("content") or []
    if isinstance(said, str):
        said = [{"type": "text", "text": said}]
    if parts or not isinstance(prompt, str):
        chat[last] = {**chat[last], "content": [*parts, *said]}
    else:
        chat[last] = {**chat[last], "content": said}
    return chat


def tracking(
    generation: Generation, model: str, frames: Sequence[Outgoing], prompts: Sequence[TrackPrompt]
) -> list[dict[str, Any]]:
    """Return the bodies that ask to follow objects through frames: one, or one a kind of prompt.

    Up to G3 the prompts are parallel arrays, so that those of one body are all boxes, all points
    or all both.

    Args:
        generation: Who is asked.
        model: Name of the model.
        frames: The frames.
        prompts: One an object, with frames that are indexes into `frames`.
    """
    video = [frame.url for frame in frames]
    if generation.takes_keyframes:
        common = _common(model, video, prompts)
        return [{**common, "propagate": True, "keyframes": [_keyframe(each) for each in prompts]}]
    kinds: dict[tuple[bool, bool], list[TrackPrompt]] = {}
    for prompt in prompts:
        kinds.setdefault(prompt.kind, []).append(prompt)
    return [
        {
            **_common(model, video, group),
            "boxes": [list(each.box) for each in group if each.box] if has_box else None,
            "points": [[list(xy) for xy in each.points] for each in group] if has_points else None,
            "labels": [list(each.labels) for each in group] if has_points else None,
        }
        for (has_box, has_points), group in kinds.items()
    ]


def array(generation: Generation, data: NDArrayData) -> dict[str, Any]:
    """Return an array as a generation writes it.

    Raises:
        InvalidRequestError: If it has not as many values as its shape says.
    """
    if math.prod(data.shape) != len(data.values):
        raise InvalidRequestError(
            f"an array of shape {data.shape} with {len(data.values)} values cannot be sent"
        )
    if generation <= Generation.G3:
        return {"values": data.values, "shape": data.shape}
    encoded = base64.b64encode(np.asarray(data.values, "<f4").tobytes()).decode("ascii")
    return {"shape": data.shape, "dtype": "float32", "data": encoded}


def box_of(box: Sequence[float], image: Outgoing) -> tuple[int, int, int, int]:
    """Return a box in whole pixels of what is sent, at least one pixel in each direction.

    Args:
        box: [x1, y1, x2, y2] in pixels as displayed.
        image: What is sent.

    Raises:
        InvalidRequestError: If it is no box.
    """
    if len(box) != 4 or not all(map(math.isfinite, box)):
        raise InvalidRequestError(f"{list(box)} is no box: [x1, y1, x2, y2] in pixels is wanted")
    scale_x, scale_y = image.scale
    x1, y1, x2, y2 = (
        _rounded(value / scale) for value, scale in zip(box, (scale_x, scale_y) * 2, strict=True)
    )
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def point_of(point: Sequence[float], image: Outgoing) -> tuple[int, int]:
    """Return the pixel of what is sent that a point is in; one inside the image stays inside.

    Raises:
        InvalidRequestError: If it is no point.
    """
    if len(point) != 2 or not all(map(math.isfinite, point)):
        raise InvalidRequestError(f"{list(point)} is no point: [x, y] in pixels is wanted")
    (x, y), (scale_x, scale_y) = point, image.scale
    return (
        min(_rounded(x / scale_x), max(image.width - 1, math.floor(x / scale_x))),
        min(_rounded(y / scale_y), max(image.height - 1, math.floor(y / scale_y))),
    )


def _rounded(value: float) -> int:
    # Halves go up, all alike, where round() takes the even neighbour.
    return math.floor(value + 0.5)


def _check_prompts(
    model: str,
    points: Sequence[Sequence[Any]] | None,
    labels: Sequence[Sequence[Any]] | None,
    boxes: Sequence[Any] | None,
) -> None:
    lengths = [list(map(len, each)) for each in (points, labels) if each is not None]
    if (points is None) != (labels is None) or lengths[:1] != lengths[1:]:
        raise InvalidRequestError(f"model {model!r} cannot be asked: not one label a point")
    if points is not None and boxes is not None and len(points) != len(boxes):
        raise InvalidRequestError(
            f"model {model!r} cannot be asked: {len(boxes)} boxes and {len(points)} sets of points"
        )


def _common(model: str, video: list[str], prompts: Sequence[TrackPrompt]) -> dict[str, Any]:
    return {
        "model": model,
        "video": video,
        "objects_ids": [each.object_id for each in prompts],
        "frame_indexes": [each.frame for each in prompts],
    }


def _keyframe(prompt: TrackPrompt) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if prompt.mask is not None:
        said["mask"] = prompt.mask.to_dict()
    if prompt.box is not None:
        x1, y1, x2, y2 = prompt.box
        said["box"] = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
    if prompt.points:
        said["points"] = [
            {"x": x, "y": y, "label": label}
            for (x, y), label in zip(prompt.points, prompt.labels, strict=True)
        ]
    return {"frameIndex": prompt.frame, "prompts": said}
