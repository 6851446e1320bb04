"""What a Pixano Inference server answers: bodies of every generation to documented outputs.

Coordinates and masks come in pixels of the picture that was sent, and leave here in pixels of the
image as displayed.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from pixano_cli import rle
from pixano_cli.inference.errors import InferenceError
from pixano_cli.inference.providers.dialects import CamelWire
from pixano_cli.inference.providers.outgoing import Outgoing
from pixano_cli.inference.providers.remote import LONGEST_VECTOR, Number
from pixano_cli.inference.types import (
    ImageMaskGenerationOutput,
    NDArrayData,
    TextImageConditionalGenerationOutput,
    UsageInfo,
)
from pixano_cli.rle import CompressedRLEData

Failure = Callable[[str], InferenceError]
"""Makes the error for an answer that has not the documented shape, of how it has not."""


class Envelope(CamelWire):
    """What stands around an answer; that of a task not yet done has an id and a status only."""

    id: str = ""
    status: str
    timestamp: datetime = Field(default_factory=lambda: datetime.now(UTC))
    processing_time: Annotated[float, Field(ge=0)] = 0.0
    metadata: dict[str, Any] = Field(default_factory=dict)
    data: Any = None

    @property
    def moment(self) -> datetime:
        """When it was answered; a time without a zone is taken for UTC."""
        return self.timestamp if self.timestamp.tzinfo else self.timestamp.replace(tzinfo=UTC)

    @property
    def facts(self) -> dict[str, Any]:
        """What a documented result has beside its data."""
        return {
            "timestamp": self.moment,
            "processing_time": self.processing_time,
            "metadata": self.metadata,
            "id": self.id,
            "status": self.status,
        }


class Mask(CamelWire):
    """A mask in COCO's compressed form, as text."""

    size: Annotated[list[int], Field(min_length=2, max_length=2)]
    counts: str


class Array(CamelWire):
    """An array: numbers up to G3, then base64 of 32-bit floating point numbers in C order."""

    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=8)]
    values: list[Number] | None = None
    dtype: str = ""
    data: str | None = None


class Detected(CamelWire):
    """Boxes [x1, y1, x2, y2], and from G3 on perhaps masks."""

    boxes: list[Annotated[list[Number], Field(min_length=4, max_length=4)]]
    scores: list[Number]
    classes: list[str]
    masks: list[Mask] | None = None


class Segmented(CamelWire):
    """Masks [prompts][masks] and their scores."""

    masks: list[list[Mask]]
    scores: Array
    image_embedding: Array | None = None
    high_resolution_features: list[Array] | None = None


class Usage(CamelWire):
    """Tokens."""

    prompt_tokens: Annotated[int, Field(ge=0)] = 0
    completion_tokens: Annotated[int, Field(ge=0)] = 0
    total_tokens: Annotated[int, Field(ge=0)] = 0


class Generated(CamelWire):
    """Text."""

    generated_text: str
    usage: Usage | None = None
    generation_config: dict[str, Any] = Field(default_factory=dict)


class Embedded(CamelWire):
    """Vectors [images, `dim`]."""

    embeddings: Array
    dim: Annotated[int, Field(ge=1, le=LONGEST_VECTOR)]


class TrackedLists(CamelWire):
    """Masks in three parallel lists, up to G4."""

    objects_ids: list[int]
    frame_indexes: list[int]
    masks: list[Mask]


class TrackedObject(CamelWire):
    """An object in a frame."""

    track_id: int
    mask: Mask | None = None


class TrackedFrame(CamelWire):
    """The objects in a frame."""

    frame_index: int
    objects: list[TrackedObject] = Field(default_factory=list)


class TrackedFrames(CamelWire):
    """Masks frame by frame, from G5 on."""

    frames: list[TrackedFrame]


class Tracked(NamedTuple):
    """Where an object is in a frame, in pixels of the frame as sent."""

    object_id: int
    frame: int
    mask: CompressedRLEData


class Found(NamedTuple):
    """A detection, in pixels of the image as displayed."""

    box: list[float]
    score: float
    label: str
    mask: CompressedRLEData | None


_DETECTED = TypeAdapter(Detected)
_SEGMENTED = TypeAdapter(Segmented)
_GENERATED = TypeAdapter(Generated)
_EMBEDDED = TypeAdapter(Embedded)
_LISTS = TypeAdapter(TrackedLists)
_FRAMES = TypeAdapter(TrackedFrames)


def detection(data: Any, image: Outgoing, fail: Failure) -> list[Found]:
    """Return what a detector found, in its order.

    Raises:
        InferenceError: If the answer is malformed.
    """
    answered = _shaped(_DETECTED, data, fail)
    count = len(answered.boxes)
    if not count == len(answered.scores) == len(answered.classes):
        raise fail(
            f"{count} boxes, {len(answered.scores)} scores and {len(answered.classes)} classes"
        )
    if answered.masks is not None and len(answered.masks) != count:
        raise fail(f"{count} boxes and {len(answered.masks)} masks")
    scale = image.scale * 2
    return [
        Found(
            [value * by for value, by in zip(box, scale, strict=True)],
            score,
            label,
            displayed(mask_of(answered.masks[index], image, fail), image)
            if answered.masks
            else None,
        )
        for index, (box, score, label) in enumerate(
            zip(answered.boxes, answered.scores, answered.classes, strict=True)
        )
    ]


def segmentation(
    data: Any, image: Outgoing, prompts: int, most: int | None, fail: Failure
) -> ImageMaskGenerationOutput:
    """Return the masks of an image.

    Args:
        data: The answer.
        image: What was sent.
        prompts: How many prompts were sent; 0 for a model that needs none.
        most: Most masks a prompt that are wanted, the best of them; None wants all.
        fail: Makes the error.

    Raises:
        InferenceError: If the answer is malformed.
    """
    answered = _shaped(_SEGMENTED, data, fail)
    counts = {len(masks) for masks in answered.masks}
    if len(counts) > 1 or (prompts and len(answered.masks) != prompts):
        raise fail(f"{len(answered.masks)} groups of masks for {prompts} prompts")
    each = counts.pop() if counts else 0
    scores = array(answered.scores, fail)
    if scores.size != len(answered.masks) * each:
        raise fail(f"scores of shape {answered.scores.shape[:4]} for {len(answered.masks)} prompts")
    # Predicted IoU: a network's output may pass its bounds by a rounding error.
    scores = np.clip(scores.reshape(len(answered.masks), each), 0.0, 1.0)
    kept = np.arange(each)[None].repeat(len(scores), 0)
    if most is not None and most < each:
        kept = np.sort(np.argsort(-scores, axis=1, kind="stable")[:, :most], axis=1)
    return ImageMaskGenerationOutput(
        masks=[
            [displayed(mask_of(masks[place], image, fail), image) for place in places]
            for masks, places in zip(answered.masks, kept.tolist(), strict=True)
        ],
        scores=_listed(np.take_along_axis(scores, kept, axis=1)),
        image_embedding=_listed(array(answered.image_embedding, fail))
        if answered.image_embedding
        else None,
        high_resolution_features=[
            _listed(array(feature, fail)) for feature in answered.high_resolution_features
        ]
        if answered.high_resolution_features is not None
        else None,
    )


def generation(
    data: Any, fail: Failure
) -> tuple[TextImageConditionalGenerationOutput, dict[str, int] | None]:
    """Return the text and what the server says that it used, None if it does not say.

    Raises:
        InferenceError: If the answer is malformed.
    """
    answered = _shaped(_GENERATED, data, fail)
    usage = answered.usage or Usage()
    used = UsageInfo(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    output = TextImageConditionalGenerationOutput(
        answered.generated_text, used, answered.generation_config
    )
    return output, used.to_dict() if answered.usage else None


def embedding(data: Any, fail: Failure) -> list[float]:
    """Return the vector of one image.

    Raises:
        InferenceError: If the answer is malformed.
    """
    answered = _shaped(_EMBEDDED, data, fail)
    if answered.embeddings.shape != [1, answered.dim]:
        raise fail(f"vectors of shape {answered.embeddings.shape[:3]} for one image")
    return [float(value) for value in array(answered.embeddings, fail)[0]]


def tracking(data: Any, frames: Sequence[Outgoing], fail: Failure) -> list[Tracked]:
    """Return the masks of a video's objects, from either form, in the server's order.

    Raises:
        InferenceError: If the answer is malformed, or has boxes where masks are wanted.
    """
    found: list[tuple[int, int, Mask]] = []
    if isinstance(data, dict) and "frames" in data:
        for frame in _shaped(_FRAMES, data, fail).frames:
            for each in frame.objects:
                if each.mask is None:
                    raise fail(f"object {each.track_id} has no mask in frame {frame.frame_index}")
                found.append((each.track_id, frame.frame_index, each.mask))
    else:
        lists = _shaped(_LISTS, data, fail)
        if not len(lists.objects_ids) == len(lists.frame_indexes) == len(lists.masks):
            raise fail("lists of objects, frames and masks that differ in length")
        found.extend(zip(lists.objects_ids, lists.frame_indexes, lists.masks, strict=True))
    for _, index, _ in found:
        if not 0 <= index < len(frames):
            raise fail(f"frame {index} of {len(frames)}")
    return [
        Tracked(object_id, index, mask_of(mask, frames[index], fail))
        for object_id, index, mask in found
    ]


def mask_of(mask: Mask, image: Outgoing, fail: Failure) -> CompressedRLEData:
    """Return a mask, checked, in pixels of what was sent; without a size it is an empty one.

    Raises:
        InferenceError: If it is none, or of another picture.
    """
    if mask.size == [0, 0]:
        return rle.encode(np.zeros((image.height, image.width), np.bool_))
    try:
        found = CompressedRLEData(mask.size, mask.counts.encode("ascii"))
        rle.check(found, (image.height, image.width))
    except UnicodeEncodeError:
        raise fail("the mask's counts are not ASCII") from None
    except ValueError as error:
        raise fail(str(error)) from None
    return found


def displayed(mask: CompressedRLEData, image: Outgoing) -> CompressedRLEData:
    """Return a mask of what was sent as one of the image as displayed: the nearest pixel's."""
    width, height = image.displayed
    if mask.size == [height, width]:
        return mask
    pixels = rle.decode(mask)
    rows = ((np.arange(height) + 0.5) * image.height / height).astype(int)
    columns = ((np.arange(width) + 0.5) * image.width / width).astype(int)
    return rle.encode(pixels[np.ix_(rows, columns)])


def array(written: Array, fail: Failure) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return an array of either form.

    Raises:
        InferenceError: If it is not of its shape, or not finite.
    """
    size = math.prod(written.shape)
    if written.values is not None:
        if len(written.values) != size:
            raise fail(f"{len(written.values)} numbers for {size}")
        with np.errstate(over="ignore"):
            found = np.asarray(written.values, np.float32)
    elif written.data is not None:
        if written.dtype not in ("", "float32"):
            raise fail(f"numbers of type {written.dtype[:20]!r}")
        try:
            data = base64.b64decode(written.data, validate=True)
        except (binascii.Error, ValueError):
            raise fail("an array that is not base64") from None
        if len(data) != 4 * size:
            raise fail(f"{len(data)} bytes for {size} numbers")
        found = np.frombuffer(data, "<f4")
    else:
        raise fail("an array without values")
    if not np.isfinite(found).all():
        raise fail("an array with numbers that are not finite")
    return found.reshape(written.shape)


def _listed(found: np.ndarray[Any, np.dtype[np.float32]]) -> NDArrayData:
    return NDArrayData([float(value) for value in found.ravel()], list(found.shape))


def _shaped(shape: TypeAdapter[Any], data: Any, fail: Failure) -> Any:
    try:
        return shape.validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, ("data", *first["loc"][:4])))
        raise fail(f"{place}: {first['msg']}") from None
