"""SAM 2.1 as a segmenter of images: the models by name, for `segment`.

This module is imported to find the models; torch and sam2 are loaded with a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pixano_cli.models.base import register_model
from pixano_cli.models.everything import EverythingInput, EverythingModel, PointMask
from pixano_cli.models.point_prompts import PointPrompt, masks_wanted, point_prompts
from pixano_cli.models.sam2.checkpoints import BASE_PLUS, LARGE, SMALL, TINY
from pixano_cli.models.sam2.loaded import Sam2Weights, card_of
from pixano_cli.models.segmentation import SegmentationInput, SegmentationOutput

if TYPE_CHECKING:
    from pixano_cli.models.sam2.image_network import ImageFeatures


_USE = "masks from boxes and points"


class Sam2Image(Sam2Weights, EverythingModel):
    """Segmenter by prompts, with the answers of sam2's own `SAM2ImagePredictor`.

    The embedding it returns, with the high-resolution features that belong to it, saves the image
    encoder the next time. Scores are rounded to 0.00001.

    Its parameters are those of `Sam2Weights`.
    """

    def predict(self, input: SegmentationInput) -> SegmentationOutput:  # noqa: A002
        """Make the masks of one image.

        Without a prompt nothing is run, and the output is empty, unless the embedding is asked for.

        Args:
            input: Pixels, and prompts in pixels of that image. An embedding comes with its
                high-resolution features.

        Returns:
            Masks of the image's size, and predicted IoUs.

        Raises:
            RuntimeError: If the model is not loaded.
            TypeError: If the image is not given as pixels.
            ValueError: If prompts, embedding or number of masks are not as described.
        """
        network = self._loaded()
        from pixano_cli.models.sam2 import image_network

        if not isinstance(input.image, np.ndarray):
            raise TypeError("the image must be given as pixels [height, width, 3]")
        prompts = point_prompts(input)
        several = masks_wanted(input)
        count = several or 1
        features: ImageFeatures | None = None
        if input.image_embedding is not None:
            features = image_network.features_from(
                network, input.image_embedding, input.high_resolution_features
            )
        elif prompts or input.return_image_embedding:
            features = image_network.encode(network, input.image)
        size = (input.image.shape[1], input.image.shape[0])
        masks = []
        scores = np.zeros((len(prompts), count), np.float32)
        if features is not None:
            answers = image_network.decode(
                network, features, prompts, size, ambiguous=several is not None
            )
            for index, (logits, ious) in enumerate(answers):
                planes = (image_network.resized(each, size) for each in logits[:count])
                masks.append([image_network.mask_of(plane) for plane in planes])
                scores[index] = ious[:count].cpu().numpy()
        returned = features if input.return_image_embedding else None
        return SegmentationOutput(
            masks=masks,
            scores=np.round(scores.clip(0, 1), 5),
            image_embedding=None if returned is None else returned.embedding.cpu().numpy(),
            high_resolution_features=None
            if returned is None
            else [each.cpu().numpy() for each in returned.fine],
        )

    def point_masks(self, request: EverythingInput) -> Iterator[PointMask]:
        """Yield the masks for each point, where they are good enough; see `EverythingModel`."""
        network = self._loaded()
        from pixano_cli.models.sam2 import image_network

        size = (request.image.shape[1], request.image.shape[0])
        features = image_network.encode(network, request.image)
        prompts = [PointPrompt((point,), (1,)) for point in request.points]
        answers = image_network.decode(network, features, prompts, size, ambiguous=True)
        for point, (logits, ious) in zip(request.points, answers, strict=True):
            for plane, iou in zip(logits, ious.tolist(), strict=True):
                if iou >= request.min_iou and bool((plane > 0).any()):
                    whole = image_network.resized(plane, size)
                    stability = image_network.stability_of(whole)
                    if stability >= request.min_stability and bool((whole > 0).any()):
                        yield PointMask(image_network.mask_of(whole), iou, stability, point)


@register_model(TINY.name)
class Sam2ImageTiny(Sam2Image):
    """SAM 2.1 with its smallest image encoder, 39 million weights."""

    published = TINY
    card = card_of(TINY, _USE)


@register_model(SMALL.name)
class Sam2ImageSmall(Sam2Image):
    """SAM 2.1 with 46 million weights."""

    published = SMALL
    card = card_of(SMALL, _USE)


@register_model(BASE_PLUS.name)
class Sam2ImageBasePlus(Sam2Image):
    """SAM 2.1 with 81 million weights."""

    published = BASE_PLUS
    card = card_of(BASE_PLUS, _USE)


@register_model(LARGE.name)
class Sam2ImageLarge(Sam2Image):
    """SAM 2.1 with its largest image encoder, 224 million weights."""

    published = LARGE
    card = card_of(LARGE, _USE)
