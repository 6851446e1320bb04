"""Asking a model written for Pixano Inference: one adapter a capability.

Such a plugin is a class on the base classes of the package `pixano_inference` (0.7). It is given
what it is given on a server: that package's own configuration and inputs, one call at a time, and
images as encoded bytes (PNG without compression, which loses nothing and is what 0.7 takes in
memory).
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pixano_cli.errors import ModelError
from pixano_cli.models.base import (
    InferenceModel,
    InputT,
    ModelDeploymentConfig,
    OutputT,
    RGBImage,
)
from pixano_cli.models.detection import DetectionInput, DetectionModel, DetectionOutput
from pixano_cli.models.embedding import EmbeddingInput, EmbeddingModel, EmbeddingOutput
from pixano_cli.models.segmentation import (
    SegmentationInput,
    SegmentationModel,
    SegmentationOutput,
)
from pixano_cli.models.tracking import TrackingInput, TrackingModel, TrackingOutput
from pixano_cli.models.vlm import UsageInfo, VLMInput, VLMModel, VLMOutput
from pixano_cli.rle import CompressedRLEData


class PluginAdapter(InferenceModel[InputT, OutputT]):
    """A model of this tool that asks one written for Pixano Inference.

    The device is told in that package's way: one GPU in the resources for any `device` but "cpu".
    Which one is the environment's to say (CUDA_VISIBLE_DEVICES).
    """

    plugin_class: ClassVar[type[Any]]
    origin: ClassVar[str]

    def __init__(self, config: ModelDeploymentConfig) -> None:
        """Initialize the model with deployment config."""
        super().__init__(config)
        self._plugin: Any = None
        self._turn = Lock()

    @property
    def metadata(self) -> dict[str, Any]:
        """Model metadata, the plugin's own included once it is loaded."""
        return {**super().metadata, **(self._plugin.metadata if self._plugin else {})}

    @property
    def digest(self) -> str:
        """Hex digest of the plugin, the version of its package and its parameters.

        What files the parameters name is not looked into.
        """
        parameters = {
            key: value for key, value in self.config.model_params.items() if key != "device"
        }
        subject = [self.origin, self.plugin_class.__module__, self.plugin_class.__qualname__]
        identity = json.dumps([*subject, parameters], sort_keys=True, default=str)
        return hashlib.sha256(identity.encode()).hexdigest()

    def load_model(self) -> None:
        """Make the plugin with its configuration and have it load its weights.

        Raises:
            ModelError: If it cannot.
        """
        _allow_images()
        try:
            plugin = self.plugin_class(plugin_config(self.config))
            plugin.load_model()
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ModelError(
                f"model {self.model_name!r} of {self.origin} cannot be loaded: {reason}"
            ) from error
        self._plugin = plugin

    def predict(self, input: InputT) -> OutputT:  # noqa: A002 - the published name
        """Ask the plugin, one call at a time, as its server does."""
        given = self._give(input)
        with self._turn:
            answer = self._plugin.predict(given)
        return self._take(answer)

    def predict_batch(self, inputs: list[InputT]) -> list[OutputT]:
        """Ask the plugin for several at once."""
        given = [self._give(each) for each in inputs]
        with self._turn:
            answers = self._plugin.predict_batch(given)
        return [self._take(answer) for answer in answers]

    def unload(self) -> None:
        """Have the plugin free what it took."""
        with self._turn:
            if self._plugin is not None:
                self._plugin.unload()
                self._plugin = None

    @abstractmethod
    def _give(self, asked: InputT) -> Any:
        """Convert an input to the plugin's."""

    @abstractmethod
    def _take(self, answer: Any) -> OutputT:
        """Convert the plugin's output."""


class DetectionAdapter(PluginAdapter[DetectionInput, DetectionOutput], DetectionModel):
    """A detector written for Pixano Inference. Its boxes are whole pixels."""

    def _give(self, asked: DetectionInput) -> Any:
        from pixano_inference.models import DetectionInput as PluginInput

        return PluginInput(
            image=_encoded(asked.image),
            classes=asked.classes or None,
            box_threshold=asked.box_threshold,
            text_threshold=asked.text_threshold,
        )

    def _take(self, answer: Any) -> DetectionOutput:
        masks = None if answer.masks is None else [_rle(mask) for mask in answer.masks]
        return DetectionOutput(
            boxes=answer.boxes, scores=answer.scores, classes=answer.classes, masks=masks
        )


class SegmentationAdapter(PluginAdapter[SegmentationInput, SegmentationOutput], SegmentationModel):
    """A segmenter written for Pixano Inference. Prompts are rounded to whole pixels."""

    def _give(self, asked: SegmentationInput) -> Any:
        from pixano_inference.models import SegmentationInput as PluginInput

        features = asked.high_resolution_features
        return PluginInput(
            image=_encoded(asked.image),
            image_embedding=_their_array(asked.image_embedding),
            high_resolution_features=None
            if features is None
            else list(map(_their_array, features)),
            # Calls come from several threads: the image of the call before may be another's.
            reset_predictor=True,
            points=_rounded(asked.points),
            labels=asked.labels,
            boxes=_rounded(asked.boxes),
            num_multimask_outputs=asked.num_multimask_outputs,
            multimask_output=asked.multimask_output,
            return_image_embedding=asked.return_image_embedding,
        )

    def _take(self, answer: Any) -> SegmentationOutput:
        features = answer.high_resolution_features
        embedding = answer.image_embedding
        return SegmentationOutput(
            masks=[[_rle(mask) for mask in masks] for masks in answer.masks],
            scores=answer.scores.to_numpy(),
            image_embedding=None if embedding is None else embedding.to_numpy(),
            high_resolution_features=None
            if features is None
            else [each.to_numpy() for each in features],
        )


class TrackingAdapter(PluginAdapter[TrackingInput, TrackingOutput], TrackingModel):
    """A tracker written for Pixano Inference, of objects that are prompted and given as masks.

    Prompts are rounded to whole pixels.
    """

    def _give(self, asked: TrackingInput) -> Any:
        from pixano_inference.models import TrackingInput as PluginInput

        keyframes = []
        for index, frame_index in enumerate(asked.frame_indexes):
            keyframe: dict[str, Any] = {"frame_index": frame_index}
            if asked.points is not None and asked.labels is not None:
                points = zip(_rounded(asked.points[index]), asked.labels[index], strict=True)
                keyframe["points"] = [{"x": x, "y": y, "label": label} for (x, y), label in points]
            if asked.boxes is not None:
                x1, y1, x2, y2 = _rounded(asked.boxes[index])
                keyframe["box"] = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
            keyframes.append(keyframe)
        return PluginInput(
            video=[_encoded(frame) for frame in asked.video],
            objects_ids=asked.objects_ids,
            frame_indexes=asked.frame_indexes,
            keyframes=keyframes or None,
        )

    def _take(self, answer: Any) -> TrackingOutput:
        found = [(frame.frame_index, each) for frame in answer.frames for each in frame.objects]
        if any(each.mask is None for _, each in found):
            raise ModelError(f"model {self.model_name!r} of {self.origin} follows boxes, not masks")
        return TrackingOutput(
            objects_ids=[each.track_id for _, each in found],
            frame_indexes=[index for index, _ in found],
            masks=[_rle(each.mask) for _, each in found],
        )


class VLMAdapter(PluginAdapter[VLMInput, VLMOutput], VLMModel):
    """A vision-language model written for Pixano Inference."""

    def _give(self, asked: VLMInput) -> Any:
        from pixano_inference.models import VLMInput as PluginInput

        return PluginInput(
            prompt=asked.prompt,
            images=None if asked.images is None else [_encoded(image) for image in asked.images],
            max_new_tokens=asked.max_new_tokens,
            temperature=asked.temperature,
        )

    def _take(self, answer: Any) -> VLMOutput:
        return VLMOutput(
            generated_text=answer.generated_text,
            usage=UsageInfo(**answer.usage.model_dump()),
            generation_config=answer.generation_config,
        )


class EmbeddingAdapter(PluginAdapter[EmbeddingInput, EmbeddingOutput], EmbeddingModel):
    """An embedding model written for Pixano Inference."""

    def _give(self, asked: EmbeddingInput) -> Any:
        from pixano_inference.models import EmbeddingInput as PluginInput

        image: list[str | bytes] | str | bytes | None
        if isinstance(asked.image, list):
            image = [_encoded(each) for each in asked.image]
        else:
            image = None if asked.image is None else _encoded(asked.image)
        return PluginInput(image=image, text=asked.text, normalize=asked.normalize)

    def _take(self, answer: Any) -> EmbeddingOutput:
        return EmbeddingOutput(embeddings=answer.embeddings.to_numpy(), dim=answer.dim)


def plugin_config(config: ModelDeploymentConfig) -> Any:
    """Make that package's configuration of ours; see `PluginAdapter` for the device."""
    from pixano_inference.configs import ModelDeploymentConfig as PluginConfig

    settings = config.model_dump()
    device = settings["model_params"].pop("device", None)
    if device == "cpu":
        settings["resources"]["num_gpus"] = 0.0
    elif device not in (None, "auto"):
        settings["resources"]["num_gpus"] = max(1.0, settings["resources"]["num_gpus"])
    return PluginConfig(**settings)


def _allow_images() -> None:
    """Set the policy that package's image reader asks for, as its server does for its models."""
    from pixano_inference.utils.media_security import (
        MediaPolicy,
        get_media_policy,
        set_media_policy,
    )

    try:
        get_media_policy()
    except ImportError:  # reading one from the environment takes the package's server extra
        set_media_policy(MediaPolicy())


def _encoded(image: RGBImage | str | Path) -> bytes | str:
    """Encode pixels, or those of a file; an http URL stays what it is, for the plugin to fetch."""
    from PIL import Image

    if isinstance(image, str) and image.startswith(("http://", "https://")):
        return image
    pixels = image if isinstance(image, np.ndarray) else _decoded(image)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def _decoded(image: str | Path) -> RGBImage:
    from pixano_cli.media.decode import decode_image
    from pixano_cli.media.flight import read_url
    from pixano_cli.media.identity import read_file

    if isinstance(image, str) and image.startswith(("file:", "data:")):
        return decode_image(read_url(image))
    return decode_image(read_file(Path(image)))


def _rounded(coordinates: Any) -> Any:
    if isinstance(coordinates, list):
        return [_rounded(each) for each in coordinates]
    return None if coordinates is None else round(coordinates)


def _rle(mask: Any) -> CompressedRLEData:
    return CompressedRLEData(size=list(mask.size), counts=mask.counts)


def _their_array(array: NDArray[np.float32] | None) -> Any:
    from pixano_inference.schemas.nd_array import NDArrayFloat

    return None if array is None else NDArrayFloat.from_numpy(array)
