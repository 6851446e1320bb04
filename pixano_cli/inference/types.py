"""What is asked of a provider and what it answers, whatever backend it uses.

All coordinates are pixels of the image as displayed (EXIF orientation applied), origin at the
top left corner, x to the right, y down. The published interface writes them as integers; here
they are numbers: every integer is valid, and an embedded model gives parts of a pixel.

An image is a string: a URL (`file://` for a provider in this process, `http(s)://`) or a
`data:image/<type>;base64,` URL.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from pixano_cli.rle import CompressedRLEData

__all__ = [
    "CompressedRLEData",
    "ImageMaskGenerationInput",
    "ImageMaskGenerationOutput",
    "ImageMaskGenerationResult",
    "ImageZeroShotDetectionInput",
    "ImageZeroShotDetectionOutput",
    "ImageZeroShotDetectionResult",
    "InferenceTask",
    "ModelConfig",
    "ModelInfo",
    "NDArrayData",
    "ProviderCapabilities",
    "ServerInfo",
    "TextImageConditionalGenerationInput",
    "TextImageConditionalGenerationOutput",
    "TextImageConditionalGenerationResult",
    "UsageInfo",
    "VideoMaskGenerationInput",
    "VideoMaskGenerationOutput",
    "VideoMaskGenerationResult",
]


class InferenceTask(str, Enum):  # noqa: UP042 - the published bases
    """Tasks supported by inference providers."""

    MASK_GENERATION = "image_mask_generation"
    VIDEO_MASK_GENERATION = "video_mask_generation"
    OBJECT_DETECTION = "image_zero_shot_detection"
    TEXT_GENERATION = "text_image_conditional_generation"


@dataclass
class NDArrayData:
    """N-dimensional array data.

    Attributes:
        values: Flat list of values in C order (the last axis varies fastest).
        shape: Shape of the array; its product is the number of values.
    """

    values: list[float]
    shape: list[int]

    def to_dict(self) -> dict[str, Any]:
        """Convert to dictionary."""
        return {"values": self.values, "shape": self.shape}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NDArrayData:
        """Create from dictionary.

        Raises:
            KeyError: If `values` or `shape` is missing.
        """
        return cls(values=data["values"], shape=data["shape"])


class Message:
    """Part of a request or an answer that can be written as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Convert to dictionary: every field by its name, nested values and paths made plain."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if is_dataclass(value) and hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


@dataclass
class ImageMaskGenerationInput(Message):
    """Input for image mask generation: prompts for objects in one image.

    A prompt is a box, or points with labels, or both; prompt i is made of `boxes[i]`, `points[i]`
    and `labels[i]`.

    Attributes:
        image: Image as data URL or URL.
        model: Model name to use.
        image_embedding: Pre-computed image embedding (optional).
        high_resolution_features: Pre-computed high-res features (optional).
        reset_predictor: Whether to reset predictor state for new image.
        points: Points for mask generation [num_prompts, num_points, 2], (x, y) in pixels.
        labels: Labels for points [num_prompts, num_points], 1 inside the object, 0 outside.
        boxes: Bounding boxes [num_prompts, 4], [x1, y1, x2, y2] in pixels.
        num_multimask_outputs: Number of masks to generate per prompt.
        multimask_output: Whether to return multiple masks per prompt.
        return_image_embedding: Whether to return computed embeddings.
    """

    image: str
    model: str
    image_embedding: NDArrayData | None = None
    high_resolution_features: list[NDArrayData] | None = None
    reset_predictor: bool = True
    points: list[list[list[float]]] | None = None
    labels: list[list[int]] | None = None
    boxes: list[list[float]] | None = None
    num_multimask_outputs: int = 3
    multimask_output: bool = True
    return_image_embedding: bool = False


@dataclass
class ImageMaskGenerationOutput(Message):
    """Output for image mask generation.

    Attributes:
        masks: Generated masks [num_prompts, num_masks], each of the size of the image.
        scores: Confidence scores [num_prompts, num_masks], predicted IoU in [0, 1].
        image_embedding: Computed image embedding (if requested).
        high_resolution_features: Computed features (if requested).
    """

    masks: list[list[CompressedRLEData]]
    scores: NDArrayData
    image_embedding: NDArrayData | None = None
    high_resolution_features: list[NDArrayData] | None = None


@dataclass
class ImageMaskGenerationResult:
    """Complete result of image mask generation.

    Attributes:
        data: The output data.
        timestamp: When the inference completed.
        processing_time: Time taken in seconds.
        metadata: Additional metadata from the model.
        id: Unique identifier for the inference request.
        status: Status of the inference ("SUCCESS", "FAILURE").
    """

    data: ImageMaskGenerationOutput
    timestamp: datetime
    processing_time: float
    metadata: dict[str, Any]
    id: str = ""
    status: str = "SUCCESS"


@dataclass
class ImageZeroShotDetectionInput(Message):
    """Input for zero-shot object detection.

    Attributes:
        image: Image as data URL or URL.
        model: Model name to use.
        classes: Class names to detect. Empty asks a model with a class set of its own for all of
            it; such a model may look for all of it whatever is named.
        box_threshold: Lowest score of a box to return, in [0, 1].
        text_threshold: Lowest score of a match between text and box, in [0, 1].
    """

    image: str
    model: str
    classes: list[str] | str
    box_threshold: float = 0.5
    text_threshold: float = 0.5


@dataclass
class ImageZeroShotDetectionOutput(Message):
    """Output for zero-shot object detection: parallel lists, one entry an object.

    Attributes:
        boxes: Detected bounding boxes as [x1, y1, x2, y2] in pixels; not necessarily inside the
            image.
        scores: Confidence scores for each detection, in [0, 1].
        classes: Class names for each detection.
    """

    boxes: list[list[float]]
    scores: list[float]
    classes: list[str]


@dataclass
class ImageZeroShotDetectionResult:
    """Complete result of zero-shot object detection.

    Attributes:
        data: The output data.
        timestamp: When the inference completed.
        processing_time: Time taken in seconds.
        metadata: Additional metadata from the model.
        id: Unique identifier for the inference request.
        status: Status of the inference ("SUCCESS", "FAILURE").
    """

    data: ImageZeroShotDetectionOutput
    timestamp: datetime
    processing_time: float
    metadata: dict[str, Any]
    id: str = ""
    status: str = "SUCCESS"


@dataclass
class TextImageConditionalGenerationInput(Message):
    """Input for text-image conditional generation.

    Attributes:
        model: Model name to use.
        prompt: Prompt as string or list of message dicts.
        images: Optional list of image paths, URLs or data URLs.
        max_new_tokens: Maximum tokens to generate.
        temperature: Sampling temperature.
    """

    model: str
    prompt: str | list[dict[str, Any]]
    images: list[str | Path] | None = None
    max_new_tokens: int = 100
    temperature: float = 1.0


@dataclass
class UsageInfo(Message):
    """Token usage information.

    Attributes:
        prompt_tokens: Number of tokens in the prompt.
        completion_tokens: Number of tokens generated.
        total_tokens: Total tokens used.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass
class TextImageConditionalGenerationOutput(Message):
    """Output for text-image conditional generation.

    Attributes:
        generated_text: The generated text response.
        usage: Token usage information.
        generation_config: Generation configuration used.
    """

    generated_text: str
    usage: UsageInfo
    generation_config: dict[str, Any] = field(default_factory=dict)


@dataclass
class TextImageConditionalGenerationResult:
    """Complete result of text-image conditional generation.

    Attributes:
        data: The output data.
        timestamp: When the inference completed.
        processing_time: Time taken in seconds.
        metadata: Additional metadata from the model.
        id: Unique identifier for the inference request.
        status: Status of the inference ("SUCCESS", "FAILURE").
    """

    data: TextImageConditionalGenerationOutput
    timestamp: datetime
    processing_time: float
    metadata: dict[str, Any]
    id: str = ""
    status: str = "SUCCESS"


@dataclass
class VideoMaskGenerationInput(Message):
    """Input for video mask generation: one prompt an object, followed through the frames.

    Object i has the id `objects_ids[i]` and is prompted in frame `frame_indexes[i]` by `boxes[i]`,
    or by `points[i]` with `labels[i]`, or both.

    Attributes:
        video: List of frame images as data URLs or URLs, in order of time.
        model: Model name to use.
        objects_ids: IDs for each object to track, all different.
        frame_indexes: Frame indices for prompts, from 0, relative to `video`.
        points: Points for mask generation [num_objects, num_points, 2], (x, y) in pixels.
        labels: Labels for points [num_objects, num_points], 1 inside the object, 0 outside.
        boxes: Bounding boxes [num_objects, 4], [x1, y1, x2, y2] in pixels.
    """

    video: list[str]
    model: str
    objects_ids: list[int]
    frame_indexes: list[int]
    points: list[list[list[float]]] | None = None
    labels: list[list[int]] | None = None
    boxes: list[list[float]] | None = None


@dataclass
class VideoMaskGenerationOutput(Message):
    """Output for video mask generation: parallel lists, one entry an object in a frame.

    Attributes:
        objects_ids: IDs of tracked objects.
        frame_indexes: Frame indices for each mask, from 0, relative to the frames sent.
        masks: Generated masks for each frame, each of the size of the frame.
    """

    objects_ids: list[int]
    frame_indexes: list[int]
    masks: list[CompressedRLEData]


@dataclass
class VideoMaskGenerationResult:
    """Complete result of video mask generation.

    Attributes:
        data: The output data.
        status: Status of the inference ("SUCCESS", "FAILURE").
        timestamp: When the inference completed.
        processing_time: Time taken in seconds.
        metadata: Additional metadata from the model.
        id: Unique identifier for the inference request.
    """

    data: VideoMaskGenerationOutput
    status: str
    timestamp: datetime
    processing_time: float
    metadata: dict[str, Any]
    id: str = ""


@dataclass
class ModelConfig:
    """Configuration for instantiating a model.

    Attributes:
        name: Name of the model.
        task: Task of the model.
        path: Path to the model dump.
        config: Configuration of the model.
        processor_config: Configuration of the processor.
    """

    name: str
    task: str
    path: Path | str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    processor_config: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Convert to dictionary, with `path` as text; an empty path counts as none."""
        return {
            "name": self.name,
            "task": self.task,
            "path": str(self.path) if self.path else None,
            "config": self.config,
            "processor_config": self.processor_config,
        }


@dataclass
class ModelInfo:
    """Information about an available model.

    Attributes:
        name: Name of the model.
        task: Task the model can perform, a value of `InferenceTask` (or of `EmbeddingTask`, which
            is this project's).
        model_path: Path to the model weights (optional).
        model_class: Class name of the model (optional).
        provider: Provider backend for the model (optional).
    """

    name: str
    task: str
    model_path: str | None = None
    model_class: str | None = None
    provider: str | None = None


@dataclass
class ProviderCapabilities:
    """What a provider can do.

    Attributes:
        tasks: List of supported inference tasks.
        supports_batching: Whether the provider supports batch processing.
        supports_streaming: Whether the provider supports streaming responses.
        max_image_size: Maximum supported image size (optional), longest side in pixels.
    """

    tasks: list[InferenceTask]
    supports_batching: bool = False
    supports_streaming: bool = False
    max_image_size: int | None = None


@dataclass
class ServerInfo:
    """Information about the inference server.

    Attributes:
        app_name: Application name.
        app_version: Application version string.
        app_description: Application description.
        num_cpus: Number of CPUs available (None if unknown).
        num_gpus: Number of GPUs available.
        num_nodes: Number of nodes in the cluster.
        gpus_used: List of GPU indices currently in use.
        gpu_to_model: Mapping of GPU index to model name.
        models: List of loaded model names.
        models_to_task: Mapping of model names to their tasks.
    """

    app_name: str
    app_version: str
    app_description: str
    num_cpus: int | None
    num_gpus: int
    num_nodes: int
    gpus_used: list[int]
    gpu_to_model: dict[str, str]
    models: list[str]
    models_to_task: dict[str, str]
