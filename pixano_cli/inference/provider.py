"""The interface that every inference backend implements, and the only one the engine knows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pixano_cli.annotations import Category
from pixano_cli.inference.embedding import (
    AnyTask,
    ImageEmbeddingInput,
    ImageEmbeddingResult,
    task_of,
)
from pixano_cli.inference.errors import ModelNotFoundError, TaskNotSupportedError, choices
from pixano_cli.inference.everything import ImageEverythingInput, ImageEverythingResult
from pixano_cli.inference.types import (
    ImageMaskGenerationInput,
    ImageMaskGenerationResult,
    ImageZeroShotDetectionInput,
    ImageZeroShotDetectionResult,
    InferenceTask,
    ModelConfig,
    ModelInfo,
    ProviderCapabilities,
    ServerInfo,
    TextImageConditionalGenerationInput,
    TextImageConditionalGenerationResult,
    VideoMaskGenerationInput,
    VideoMaskGenerationResult,
)
from pixano_cli.inference.video import VideoSession

_ADMINISTERED = "Model deployment is managed by the server administrator"


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a provider tells of one of its models.

    Attributes:
        name: Name of the model.
        task: What it does.
        digest: Hex digest of what determines its answers (weights and parameters); empty if the
            provider cannot tell.
        license: SPDX identifier of the weights' licence; empty if unknown.
        origin: Where the weights come from; empty if unknown.
        description: One line for people.
        size: Size of the weights in bytes; None if unknown.
        categories: The classes of a model with a class set of its own; None if it detects whatever
            classes are named, or if the provider cannot tell.
        embedding_size: Numbers in a vector of a model that embeds; None if it does not, or if the
            provider cannot tell before it has asked it.
        gives_everything: Whether it can be asked for all masks of an image, without prompts.
        streams: Whether it follows objects a frame at a time: `open_video` opens a session.
        parameters: What the provider itself puts into its requests to the model and changes the
            raw answer, by name: it is recorded, and is part of what an answer is known by.
    """

    name: str
    task: AnyTask
    digest: str = ""
    license: str = ""
    origin: str = ""
    description: str = ""
    size: int | None = None
    categories: tuple[Category, ...] | None = None
    embedding_size: int | None = None
    gives_everything: bool = False
    streams: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)


class InferenceProvider(ABC):
    """Abstract interface for inference backends.

    `describe_model`, `image_embedding`, `image_everything`, `open_video`, `hold_back` and `aclose`
    are this project's additions to the published interface; each has a default, so that a provider
    written for it is whole.

    Every method that asks a model may raise any error of `pixano_cli.inference.errors`; those
    that are named below are raised for the reason given.

    Example:
        ```python
        @register_provider("my-backend")
        class MyProvider(InferenceProvider):
            @property
            def name(self) -> str:
                return "my-backend"

            async def image_zero_shot_detection(self, input_data, timeout=60.0):
                ...
        ```
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Provider name (e.g., 'pixano-inference', 'openai', 'gemini')."""

    @abstractmethod
    async def get_capabilities(self) -> ProviderCapabilities:
        """Return what this provider can do.

        Returns:
            ProviderCapabilities describing supported tasks and features.
        """

    @abstractmethod
    async def get_server_info(self) -> ServerInfo:
        """Get server information.

        Returns:
            ServerInfo with version, GPU info, models, readiness.
        """

    @abstractmethod
    async def list_models(self, task: InferenceTask | None = None) -> list[ModelInfo]:
        """List available models, optionally filtered by task.

        Args:
            task: Optional task to filter models by.

        Returns:
            List of available models.
        """

    @abstractmethod
    async def image_mask_generation(
        self, input_data: ImageMaskGenerationInput, timeout: float = 60.0
    ) -> ImageMaskGenerationResult:
        """Generate masks for an image.

        Args:
            input_data: Input data for mask generation.
            timeout: Maximum time to wait for result, in seconds.

        Returns:
            Mask generation result.

        Raises:
            ModelNotFoundError: If the provider has no model of the name.
            TaskNotSupportedError: If the model does not generate masks.
            InferenceTimeoutError: If there is no result in time.
        """

    @abstractmethod
    async def image_zero_shot_detection(
        self, input_data: ImageZeroShotDetectionInput, timeout: float = 60.0
    ) -> ImageZeroShotDetectionResult:
        """Detect objects in an image using zero-shot detection.

        Args:
            input_data: Input data for detection.
            timeout: Maximum time to wait for result, in seconds.

        Returns:
            Detection result.

        Raises:
            ModelNotFoundError: If the provider has no model of the name.
            TaskNotSupportedError: If the model does not detect.
            InferenceTimeoutError: If there is no result in time.
        """

    @abstractmethod
    async def text_image_conditional_generation(
        self, input_data: TextImageConditionalGenerationInput, timeout: float = 60.0
    ) -> TextImageConditionalGenerationResult:
        """Generate text conditioned on images.

        Args:
            input_data: Input data for text generation.
            timeout: Maximum time to wait for result, in seconds.

        Returns:
            Text generation result.

        Raises:
            ModelNotFoundError: If the provider has no model of the name.
            TaskNotSupportedError: If the model does not generate text.
            InferenceTimeoutError: If there is no result in time.
        """

    @abstractmethod
    async def video_mask_generation(
        self, input_data: VideoMaskGenerationInput, timeout: float = 120.0
    ) -> VideoMaskGenerationResult:
        """Generate masks for video frames.

        Args:
            input_data: Input data for video mask generation.
            timeout: Maximum time to wait for result, in seconds.

        Returns:
            Video mask generation result.

        Raises:
            ModelNotFoundError: If the provider has no model of the name.
            TaskNotSupportedError: If the model does not follow objects through a video.
            InferenceTimeoutError: If there is no result in time.
        """

    async def instantiate_model(
        self, provider: str, config: ModelConfig, timeout: int = 60
    ) -> None:
        """Instantiate (load) a model.

        Args:
            provider: The model provider name (e.g., "sam2", "transformers").
            config: Configuration for the model.
            timeout: Timeout in seconds for model loading.

        Raises:
            TaskNotSupportedError: Model deployment is managed by the server administrator.
        """
        raise TaskNotSupportedError(_ADMINISTERED)

    async def delete_model(self, model_name: str) -> None:
        """Delete (unload) a model.

        Args:
            model_name: Name of the model to delete.

        Raises:
            TaskNotSupportedError: Model deployment is managed by the server administrator.
        """
        raise TaskNotSupportedError(_ADMINISTERED)

    async def describe_model(
        self, model_name: str, task: AnyTask | None = None
    ) -> ModelDescription:
        """Tell what is known of a model; by default its name and task, from `list_models`.

        Args:
            model_name: Name of the model.
            task: What it is to be asked for, of a model that does several things.

        Returns:
            The description.

        Raises:
            ModelNotFoundError: If the provider has no model of the name.
            TaskNotSupportedError: If its task is none that pixano-annotate knows.
        """
        models = {model.name: model for model in await self.list_models()}
        model = models.get(model_name)
        if model is None:
            raise ModelNotFoundError(
                f"provider {self.name!r} has no model {model_name!r}: {choices(model_name, models)}"
            )
        try:
            task = task_of(model.task)
        except ValueError:
            raise TaskNotSupportedError(
                f"model {model_name!r} of provider {self.name!r} does {model.task!r}, "
                "which pixano-annotate cannot use: choose another model"
            ) from None
        return ModelDescription(model_name, task)

    async def image_embedding(
        self, input_data: ImageEmbeddingInput, timeout: float = 60.0
    ) -> ImageEmbeddingResult:
        """Return an image's vector; by default no model of a provider does.

        Args:
            input_data: Input data for embedding.
            timeout: Maximum time to wait for result, in seconds.

        Returns:
            Embedding result.

        Raises:
            ModelNotFoundError: If the provider has no model of the name.
            TaskNotSupportedError: If the model, or the provider, does not embed images.
            InferenceTimeoutError: If there is no result in time.
        """
        raise TaskNotSupportedError(
            f"provider {self.name!r} does not embed images: use another with --provider"
        )

    async def image_everything(
        self, input_data: ImageEverythingInput, timeout: float = 60.0
    ) -> ImageEverythingResult:
        """Return all masks of an image; by default no model of a provider does.

        Args:
            input_data: What is asked.
            timeout: Maximum time to wait for result, in seconds.

        Returns:
            The masks that are good enough, those of the same thing not yet made one.

        Raises:
            ModelNotFoundError: If the provider has no model of the name.
            TaskNotSupportedError: If the model, or the provider, needs prompts.
            InferenceTimeoutError: If there is no result in time.
        """
        raise TaskNotSupportedError(
            f"provider {self.name!r} makes masks for prompts only: use another with --provider"
        )

    async def open_video(
        self,
        model_name: str,
        width: int,
        height: int,
        state: bytes | None = None,
        *,
        length: int | None = None,
    ) -> VideoSession | None:
        """Begin to follow objects through a video a frame at a time, or go on; by default None.

        Args:
            model_name: Name of the model, one for VIDEO_MASK_GENERATION.
            width: Width of the frames as displayed, in pixels.
            height: Their height.
            state: That of an earlier session, to go on from.
            length: Number of frames that will be followed, where the video is short.

        Returns:
            The session; None if the model takes all frames at once, by `video_mask_generation`.

        Raises:
            ModelNotFoundError: If the provider has no model of the name.
            TaskNotSupportedError: If the model does not follow objects through a video.
            ModelError: If it cannot be loaded, or the state is not one of it.
        """
        return None

    def hold_back(self) -> None:  # noqa: B027 - most providers keep nobody waiting for long
        """Begin nothing more: what waits for its turn, or to be tried again, is given up.

        That raises NotSentError; what is under way goes on. Called in the event loop.
        """

    async def aclose(self) -> None:  # noqa: B027 - most providers have nothing to close
        """Free models, connections and threads. Afterwards the provider is of no more use."""
