"""From the documented requests to a model's inputs, and from its outputs to documented answers.

Reading and decoding an image happens here, on the thread that then asks the model. What a model
returns is checked here, once, so that nothing behind the provider has to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pixano_cli.inference.embedding import ImageEmbeddingInput, ImageEmbeddingOutput
from pixano_cli.inference.errors import InvalidRequestError, TaskNotSupportedError
from pixano_cli.inference.everything import ImageEverythingInput, ImageEverythingOutput
from pixano_cli.inference.providers.asking import Question
from pixano_cli.inference.providers.embeddings import Embedding, RecentEmbeddings
from pixano_cli.inference.providers.loading import LocalModel
from pixano_cli.inference.types import (
    ImageMaskGenerationInput,
    ImageMaskGenerationOutput,
    ImageZeroShotDetectionInput,
    ImageZeroShotDetectionOutput,
    NDArrayData,
    TextImageConditionalGenerationInput,
    TextImageConditionalGenerationOutput,
    UsageInfo,
    VideoMaskGenerationInput,
    VideoMaskGenerationOutput,
)
from pixano_cli.media import flight
from pixano_cli.media.decode import decode_image
from pixano_cli.media.identity import probe, sha256
from pixano_cli.models.base import RGBImage
from pixano_cli.models.detection import DetectionInput, DetectionOutput
from pixano_cli.models.embedding import EmbeddingInput, EmbeddingOutput
from pixano_cli.models.everything import EverythingInput, EverythingModel, PointMask, grid
from pixano_cli.models.pixano_inference_adapters import PluginAdapter
from pixano_cli.models.segmentation import SegmentationInput, SegmentationOutput
from pixano_cli.models.tracking import TrackingInput, TrackingOutput
from pixano_cli.models.vlm import VLMInput, VLMOutput


def detection(
    request: ImageZeroShotDetectionInput, model: LocalModel
) -> Question[ImageZeroShotDetectionOutput]:
    """Ask a detector. It may see the image at a reduced scale; the answer is at full scale.

    Boxes are rounded to 0.01 pixel.

    Raises:
        MediaError: If the image cannot be read or decoded.
        InvalidRequestError: If the request's values are of the wrong type.
    """
    image, (width, height) = _reduced(request.image, getattr(model.model_class, "input_size", None))
    scale_x, scale_y = width / image.shape[1], height / image.shape[0]
    with _valid_request(model):
        model_input = DetectionInput(
            image=image,
            classes=request.classes or None,
            box_threshold=request.box_threshold,
            text_threshold=request.text_threshold,
        )

    def read(output: DetectionOutput) -> ImageZeroShotDetectionOutput:
        boxes = [
            [
                round(x1 * scale_x, 2),
                round(y1 * scale_y, 2),
                round(x2 * scale_x, 2),
                round(y2 * scale_y, 2),
            ]
            for x1, y1, x2, y2 in output.boxes
        ]
        if not len(boxes) == len(output.scores) == len(output.classes):
            raise ValueError(
                f"it returned {len(boxes)} boxes, {len(output.scores)} scores and "
                f"{len(output.classes)} classes"
            )
        if not all(map(isfinite, (value for box in boxes for value in box))):
            raise ValueError("it returned a box that is not finite")
        if not all(map(isfinite, output.scores)):
            raise ValueError("it returned a score that is not finite")
        return ImageZeroShotDetectionOutput(boxes, list(output.scores), list(output.classes))

    return Question(_name(request.image), model_input, read)


def segmentation(
    request: ImageMaskGenerationInput, model: LocalModel, recent: RecentEmbeddings
) -> Question[ImageMaskGenerationOutput]:
    """Ask a segmenter; the embedding is remembered, and used if `reset_predictor` is False.

    That of a plugin for Pixano Inference is not: it gives arrays as lists of numbers, which takes
    longer than to encode the image again.

    Raises:
        MediaError: If the image cannot be read or decoded.
        InvalidRequestError: If the request's values are of the wrong type or shape.
    """
    image, identity = _identified(request.image)
    key = (model.digest, identity)
    remembers = not issubclass(model.model_class, PluginAdapter)
    remember = remembers and bool(request.boxes or request.points)
    with _valid_request(model):
        given = _given_embedding(request)
        known = given or (None if request.reset_predictor else recent.get(key))
        model_input = SegmentationInput(
            image=image,
            image_embedding=known.image_embedding if known else None,
            high_resolution_features=known.high_resolution_features if known else None,
            reset_predictor=request.reset_predictor,
            points=request.points or None,
            labels=request.labels or None,
            boxes=request.boxes or None,
            num_multimask_outputs=request.num_multimask_outputs,
            multimask_output=request.multimask_output,
            return_image_embedding=request.return_image_embedding or (remember and not known),
        )

    def read(output: SegmentationOutput) -> ImageMaskGenerationOutput:
        size = list(image.shape[:2])
        if output.scores.shape[:1] != (len(output.masks),) or any(
            mask.size != size for masks in output.masks for mask in masks
        ):
            raise ValueError("it returned masks of another size or number than its image or scores")
        made, features = output.image_embedding, output.high_resolution_features
        if remembers and made is not None and not given:
            recent.put(key, Embedding(made, features))
        answer = ImageMaskGenerationOutput(output.masks, _listed(output.scores, digits=5))
        if request.return_image_embedding:
            answer.image_embedding = None if made is None else _listed(made)
            answer.high_resolution_features = (
                None if features is None else [*map(_listed, features)]
            )
        return answer

    return Question(_name(request.image), model_input, read)


def everything(request: ImageEverythingInput, model: LocalModel) -> Question[ImageEverythingOutput]:
    """Ask a segmenter for all masks of an image.

    Raises:
        MediaError: If the image cannot be read or decoded.
        TaskNotSupportedError: If the model needs prompts.
        InvalidRequestError: If the request's values are of the wrong type or out of range.
    """
    if not issubclass(model.model_class, EverythingModel):
        raise TaskNotSupportedError(f"model {model.name!r} makes masks for prompts only")
    if request.points_per_side < 1:
        raise InvalidRequestError(f"{request.points_per_side} points per side: from 1 are wanted")
    image = _decoded(request.image)
    with _valid_request(model):
        model_input = EverythingInput(
            image=image,
            points=grid(request.points_per_side, image.shape[1], image.shape[0]),
            min_iou=request.min_iou,
            min_stability=request.min_stability,
        )

    def ask(loaded: EverythingModel, asked: EverythingInput) -> list[PointMask]:
        return list(loaded.point_masks(asked))

    def read(found: list[PointMask]) -> ImageEverythingOutput:
        size = list(image.shape[:2])
        if any(each.mask.size != size for each in found):
            raise ValueError("it returned masks of another size than its image")
        if not all(isfinite(number) for each in found for number in (each.iou, each.stability)):
            raise ValueError("it returned a score that is not finite")
        # Equally good ones stay in the order of their points.
        found = sorted(found, key=lambda each: -each.iou)
        return ImageEverythingOutput(
            masks=[each.mask for each in found],
            scores=[round(min(max(each.iou, 0.0), 1.0), 5) for each in found],
            stabilities=[round(each.stability, 5) for each in found],
            points=[list(each.point) for each in found],
        )

    return Question(_name(request.image), model_input, read, ask)


def embedding(request: ImageEmbeddingInput, model: LocalModel) -> Question[ImageEmbeddingOutput]:
    """Ask an embedding model. It may see the image at a reduced scale.

    The vector is asked for as the network makes it, not scaled to length 1: its length may say
    something, and who wants it scaled can scale it.

    Raises:
        MediaError: If the image cannot be read or decoded.
    """
    image, _ = _reduced(request.image, getattr(model.model_class, "input_size", None))
    with _valid_request(model):
        model_input = EmbeddingInput(image=image, normalize=False)

    def read(output: EmbeddingOutput) -> ImageEmbeddingOutput:
        vectors = output.embeddings
        if vectors.ndim != 2 or vectors.shape[0] != 1 or vectors.shape[1] != output.dim:
            raise ValueError(
                f"it returned vectors of shape {vectors.shape} where one of {output.dim} numbers "
                "was asked for"
            )
        if not output.dim or not np.isfinite(vectors).all():
            raise ValueError("it returned a vector that is empty or not finite")
        return ImageEmbeddingOutput(vectors[0].tolist())

    return Question(_name(request.image), model_input, read)


def generation(
    request: TextImageConditionalGenerationInput, model: LocalModel
) -> Question[TextImageConditionalGenerationOutput]:
    """Ask a vision-language model.

    Raises:
        MediaError: If an image cannot be read or decoded.
        InvalidRequestError: If the request's values are of the wrong type.
    """
    images: list[RGBImage | str | Path] | None = None
    if request.images is not None:
        images = [_decoded(image) for image in request.images]
    with _valid_request(model):
        model_input = VLMInput(
            prompt=request.prompt,
            images=images,
            max_new_tokens=request.max_new_tokens,
            temperature=request.temperature,
        )

    def read(output: VLMOutput) -> TextImageConditionalGenerationOutput:
        usage = output.usage
        return TextImageConditionalGenerationOutput(
            generated_text=output.generated_text,
            usage=UsageInfo(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens),
            generation_config=dict(output.generation_config),
        )

    subject = _name(request.images[0]) if request.images else "the prompt"
    return Question(subject, model_input, read)


def tracking(
    request: VideoMaskGenerationInput, model: LocalModel
) -> Question[VideoMaskGenerationOutput]:
    """Ask a tracker. All frames of the request are in memory at once.

    Raises:
        MediaError: If a frame cannot be read or decoded.
        InvalidRequestError: If the request's values are of the wrong type or do not fit together.
    """
    frames = [_decoded(frame) for frame in request.video]
    with _valid_request(model):
        model_input = TrackingInput(
            video=list(frames),
            objects_ids=request.objects_ids,
            frame_indexes=request.frame_indexes,
            points=request.points,
            labels=request.labels,
            boxes=request.boxes,
        )

    def read(output: TrackingOutput) -> VideoMaskGenerationOutput:
        if not len(output.objects_ids) == len(output.frame_indexes) == len(output.masks):
            raise ValueError(
                f"it returned {len(output.objects_ids)} objects, {len(output.frame_indexes)} "
                f"frames and {len(output.masks)} masks"
            )
        for index, mask in zip(output.frame_indexes, output.masks, strict=True):
            if not 0 <= index < len(frames) or mask.size != list(frames[index].shape[:2]):
                raise ValueError("it returned a mask that fits no frame")
        return VideoMaskGenerationOutput(output.objects_ids, output.frame_indexes, output.masks)

    subject = f"{len(frames)} frames from {_name(request.video[0])}" if frames else "no frames"
    return Question(subject, model_input, read)


def _reduced(
    image: str | Path, input_size: tuple[int, int] | None
) -> tuple[RGBImage, tuple[int, int]]:
    """Return pixels, reduced where a model reads few of a large JPEG, and the (width, height)."""
    url = flight.url_of_image(image)
    pixels = flight.held_pixels(url)
    if pixels is None:
        data = flight.read_url(url)
        pixels = decode_image(data, min_size=input_size)
        if input_size is not None:
            displayed = probe(data)
            return pixels, (displayed.width, displayed.height)
    return pixels, (pixels.shape[1], pixels.shape[0])


def _identified(image: str | Path) -> tuple[RGBImage, str]:
    """Return pixels, and what they are known by as long as this process knows of the image."""
    url = flight.url_of_image(image)
    pixels = flight.held_pixels(url)
    if pixels is not None:
        return pixels, url
    data = flight.read_url(url)
    return decode_image(data), sha256(data)


def _decoded(image: str | Path) -> RGBImage:
    return _identified(image)[0]


def _name(image: str | Path) -> str:
    text = str(image)
    if text[:5].lower() == "data:":
        return "an image given as a data URL"
    if text[:7].lower() == "file://":
        frame = text.partition("#frame=")[2]
        name = flight.path_of(text).name
        return f"{name}, frame {frame}" if frame else name
    return Path(text).name


@contextmanager
def _valid_request(model: LocalModel) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the request"
        raise InvalidRequestError(
            f"model {model.name!r} cannot be asked: {where}: {first['msg']}"
        ) from error
    except ValueError as error:
        raise InvalidRequestError(f"model {model.name!r} cannot be asked: {error}") from error


def _given_embedding(request: ImageMaskGenerationInput) -> Embedding | None:
    if request.image_embedding is None:
        return None
    features = request.high_resolution_features
    return Embedding(
        _array(request.image_embedding),
        None if features is None else [_array(each) for each in features],
    )


def _array(data: NDArrayData) -> NDArray[np.float32]:
    return np.array(data.values, np.float32).reshape(data.shape)


def _listed(array: NDArray[np.float32], digits: int | None = None) -> NDArrayData:
    values: list[float] = array.ravel().tolist()
    if digits is not None:
        values = [round(value, digits) for value in values]
    return NDArrayData(values, list(array.shape))
