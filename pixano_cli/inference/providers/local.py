"""The local provider: model plugins in this process, behind the same interface as any server.

A request is one job on one of the provider's own threads, which reads, decodes and predicts; there
are as many threads as calls at once. Only a model that has a batch pass of its own, and is given a
batch size, is asked in another way: its requests are decoded side by side and then grouped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import Any, TypeVar
from uuid import uuid4

from pixano_cli.errors import UsageError
from pixano_cli.inference.embedding import (
    AnyTask,
    EmbeddingTask,
    ImageEmbeddingInput,
    ImageEmbeddingResult,
)
from pixano_cli.inference.errors import InvalidRequestError
from pixano_cli.inference.everything import ImageEverythingInput, ImageEverythingResult
from pixano_cli.inference.provider import InferenceProvider, ModelDescription
from pixano_cli.inference.providers.about import model_info, server_info
from pixano_cli.inference.providers.allocator import keep_blocks
from pixano_cli.inference.providers.asking import (
    Answered,
    Question,
    answer_alone,
    asking,
    read_answer,
)
from pixano_cli.inference.providers.batching import MicroBatcher
from pixano_cli.inference.providers.embeddings import RecentEmbeddings
from pixano_cli.inference.providers.loading import LocalModel, LocalModels
from pixano_cli.inference.providers.local_video import open_session
from pixano_cli.inference.providers.threads import Threads, within
from pixano_cli.inference.providers.translation import (
    detection,
    embedding,
    everything,
    generation,
    segmentation,
    tracking,
)
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
from pixano_cli.models.base import InferenceModel
from pixano_cli.models.onnx import check_device
from pixano_cli.processors import processors

AnswerT = TypeVar("AnswerT")
ResultT = TypeVar("ResultT")


class LocalProvider(InferenceProvider):
    """Provider of the models in this process.

    It may be asked by any number of coroutines at once; `concurrency` requests are worked on at
    the same time. A model is loaded when it is first asked. Errors of media (`MediaError`) and of
    models (`ModelError`) come as they are.

    A request that runs into its timeout raises at once, but Python cannot end the thread that
    works on it: that thread is taken until the model returns, and `aclose` waits for it.

    Example:
        ```python
        provider = LocalProvider(concurrency=2)
        request = ImageZeroShotDetectionInput(
            image="file:///photos/1.jpg", model="picodet-s-416", classes=[]
        )
        result = await provider.image_zero_shot_detection(request)
        ```
    """

    def __init__(
        self,
        *,
        device: str = "cpu",
        concurrency: int | None = None,
        batch_size: int | None = None,
        model_params: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Make the provider; nothing is loaded yet.

        Args:
            device: "cpu", "cuda", "cuda:N", "mps" or "auto"; given to every model.
            concurrency: Most requests worked on at once; by default one for each processor that
                this process may use.
            batch_size: Most inputs given at once to a model with a batch pass of its own, whatever
                its configuration says; 1 disables batching; None leaves it to the configuration.
                Batches only fill if at least as many requests are under way.
            model_params: What more than the device is given to a registered model, by its name.

        Raises:
            UsageError: If a value is out of range or the device is unknown.
        """
        check_device(device)
        for option, value in (("concurrency", concurrency), ("batch size", batch_size)):
            if value is not None and value < 1:
                raise UsageError(f"{option} must be at least 1, not {value}")
        keep_blocks()
        self._device = device
        self._batch_size = batch_size
        self._concurrency = concurrency or processors()
        self._threads = Threads(self._concurrency)
        self._models = LocalModels(device, model_params)
        self._discovered = False
        self._batchers: dict[LocalModel, MicroBatcher] = {}
        self._embeddings = RecentEmbeddings(2 * self._concurrency)

    @property
    def name(self) -> str:
        """Provider name."""
        return "local"

    async def get_capabilities(self) -> ProviderCapabilities:
        """Return the tasks that some installed model does."""
        await self._discover()
        tasks = {model.task for model in self._models.all()}
        return ProviderCapabilities(
            tasks=[task for task in InferenceTask if task in tasks], supports_batching=True
        )

    async def get_server_info(self) -> ServerInfo:
        """Tell about this process; `models` are those that are loaded."""
        await self._discover()
        return server_info(self._models.all(), self._device)

    async def list_models(self, task: InferenceTask | None = None) -> list[ModelInfo]:
        """List the models in order of name, loaded or not.

        Without a task those that embed are among them; no published task asks for these.
        """
        await self._discover()
        return [
            model_info(model, self.name)
            for model in self._models.all()
            if model.task and task in (None, model.task)
        ]

    async def describe_model(
        self, model_name: str, task: AnyTask | None = None
    ) -> ModelDescription:
        """Tell what is known of a model, from its card, without loading it.

        Of a name with several uses, that of the task, or the first.

        Raises:
            ModelNotFoundError: If there is no model of the name.
            TaskNotSupportedError: If no task asks for what it does.
            ModelError: If its weights are missing, or it cannot tell its digest.
        """
        await self._discover()
        uses = self._models.uses(model_name)
        model = next((each for each in uses if each.task == task), uses[0])
        return await self._threads.run(model.describe)

    async def image_zero_shot_detection(
        self, input_data: ImageZeroShotDetectionInput, timeout: float = 60.0
    ) -> ImageZeroShotDetectionResult:
        """Detect objects in an image; see `InferenceProvider`.

        Without `classes` a model with a class set of its own looks for all of it. Where a model
        reads few pixels, a large JPEG is decoded at a reduced scale; boxes are of the whole image.
        """
        return await self._answer(
            ImageZeroShotDetectionResult,
            InferenceTask.OBJECT_DETECTION,
            input_data.model,
            partial(detection, input_data),
            timeout,
        )

    async def image_mask_generation(
        self, input_data: ImageMaskGenerationInput, timeout: float = 60.0
    ) -> ImageMaskGenerationResult:
        """Generate masks for an image; see `InferenceProvider`.

        The embeddings of the last few images are kept: with `reset_predictor` False another call
        on one of them does not encode it again.

        Raises:
            InvalidRequestError: If the model refuses the prompts.
        """
        return await self._answer(
            ImageMaskGenerationResult,
            InferenceTask.MASK_GENERATION,
            input_data.model,
            partial(segmentation, input_data, recent=self._embeddings),
            timeout,
        )

    async def text_image_conditional_generation(
        self, input_data: TextImageConditionalGenerationInput, timeout: float = 60.0
    ) -> TextImageConditionalGenerationResult:
        """Generate text conditioned on images; see `InferenceProvider`."""
        return await self._answer(
            TextImageConditionalGenerationResult,
            InferenceTask.TEXT_GENERATION,
            input_data.model,
            partial(generation, input_data),
            timeout,
        )

    async def video_mask_generation(
        self, input_data: VideoMaskGenerationInput, timeout: float = 120.0
    ) -> VideoMaskGenerationResult:
        """Generate masks for video frames; see `InferenceProvider`.

        All frames are decoded into memory: a long video is for the caller to divide.
        """
        return await self._answer(
            VideoMaskGenerationResult,
            InferenceTask.VIDEO_MASK_GENERATION,
            input_data.model,
            partial(tracking, input_data),
            timeout,
        )

    async def image_embedding(
        self, input_data: ImageEmbeddingInput, timeout: float = 60.0
    ) -> ImageEmbeddingResult:
        """Return an image's vector; see `InferenceProvider`.

        It is not scaled to length 1. Where a model reads few pixels, a large JPEG is decoded at a
        reduced scale.
        """
        return await self._answer(
            ImageEmbeddingResult,
            EmbeddingTask.IMAGE_EMBEDDING,
            input_data.model,
            partial(embedding, input_data),
            timeout,
        )

    async def image_everything(
        self, input_data: ImageEverythingInput, timeout: float = 60.0
    ) -> ImageEverythingResult:
        """Return all masks of an image; see `InferenceProvider`.

        Raises:
            TaskNotSupportedError: If the model needs prompts.
        """
        return await self._answer(
            ImageEverythingResult,
            InferenceTask.MASK_GENERATION,
            input_data.model,
            partial(everything, input_data),
            timeout,
            batches=False,
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
        """Begin to follow objects through a video, or go on; see `InferenceProvider`."""
        await self._discover()
        model = self._models.find(model_name, InferenceTask.VIDEO_MASK_GENERATION)
        return await open_session(model, width, height, state, length, self._threads.run)

    async def instantiate_model(
        self, provider: str, config: ModelConfig, timeout: int = 60
    ) -> None:
        """Make and load a named instance of a registered class, to be asked by that name.

        The name of a registered class, with nothing configured, loads that one ahead of its use.

        Args:
            provider: "local".
            config: `name` is the new name; `task` a task or capability, or empty; `path` becomes
                the model's parameter "path" and a `processor_config` its "processor_config";
                `config` may have `model_class` (the registered name; by default `name`),
                `model_params`, `resources`, `max_batch_size` and `batch_wait_timeout_s`.
            timeout: Timeout in seconds for loading.

        Raises:
            InvalidRequestError: If the provider is another, the name is taken, or `config` has
                something else or a value of the wrong type in it.
            ModelNotFoundError: If no class is registered under the name.
            TaskNotSupportedError: If the class does not do the task.
            ModelError: If it cannot be loaded.
            InferenceTimeoutError: If it is not loaded in time.
        """
        if provider != self.name:
            raise InvalidRequestError(
                f"the local provider makes no model of provider {provider!r}: use 'local'"
            )
        await self._discover()
        model = self._models.add(config)
        try:
            await within(timeout, f"loading model {config.name!r}", self._threads.run(model.load))
        except BaseException:
            self._models.forget(config.name)
            raise

    async def delete_model(self, model_name: str) -> None:
        """Unload a model once nothing uses it, and forget it if it is a named instance.

        Raises:
            ModelNotFoundError: If there is no model of the name.
        """
        await self._discover()
        uses = self._models.uses(model_name)
        self._models.forget(model_name)
        for model in uses:
            self._batchers.pop(model, None)
            await asyncio.to_thread(model.unload)

    async def aclose(self) -> None:
        """Drop requests that wait, wait for those under way, and unload all models."""
        await self._threads.close()
        for model in self._models.known():
            await asyncio.to_thread(model.unload)
        self._batchers.clear()
        self._embeddings.clear()

    async def _answer(
        self,
        result: Callable[..., ResultT],
        task: AnyTask,
        model_name: str,
        ask: Callable[[LocalModel], Question[AnswerT]],
        timeout: float,
        batches: bool = True,
    ) -> ResultT:
        if not self._discovered:
            await self._discover()
        model = self._models.find(model_name, task)
        batcher = self._batcher(model) if batches else None
        answer = (
            self._threads.run(partial(answer_alone, model, ask))
            if batcher is None
            else self._ask_in_batch(model, batcher, ask)
        )
        answered = await within(timeout, f"model {model_name!r}", answer)
        return result(
            data=answered.data,
            timestamp=datetime.now(UTC),
            processing_time=answered.seconds,
            metadata=answered.metadata,
            id=uuid4().hex,
            status="SUCCESS",
        )

    async def _ask_in_batch(
        self,
        model: LocalModel,
        batcher: MicroBatcher,
        ask: Callable[[LocalModel], Question[AnswerT]],
    ) -> Answered[AnswerT]:
        start = perf_counter()
        question = await self._threads.run(partial(ask, model))
        with asking(model, question.subject):
            output = await batcher.predict(question.model_input)
        return read_answer(model, question, output, start)

    def _batcher(self, model: LocalModel) -> MicroBatcher | None:
        size = self._batch_size or model.config.max_batch_size
        if size == 1 or model.model_class.predict_batch is InferenceModel.predict_batch:
            return None
        batcher = self._batchers.get(model)
        if batcher is None:
            batcher = MicroBatcher(
                model, self._threads.pool, size, model.config.batch_wait_timeout_s
            )
            self._batchers[model] = batcher
        return batcher

    async def _discover(self) -> None:
        if not self._discovered:
            await self._threads.run(self._models.discover)
            self._discovered = True
