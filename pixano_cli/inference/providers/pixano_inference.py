"""The provider that asks a Pixano Inference server."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pixano_cli.errors import UsageError
from pixano_cli.inference.embedding import (
    AnyTask,
    EmbeddingTask,
    ImageEmbeddingInput,
    ImageEmbeddingOutput,
    ImageEmbeddingResult,
    task_of,
)
from pixano_cli.inference.errors import (
    InvalidRequestError,
    TaskNotSupportedError,
)
from pixano_cli.inference.provider import ModelDescription
from pixano_cli.inference.providers import (
    pixano_answers,
    pixano_bodies,
    pixano_classes,
    pixano_deploy,
)
from pixano_cli.inference.providers.dialects import (
    DIALECTS,
    Dialect,
    Generation,
    get_info,
    get_models,
)
from pixano_cli.inference.providers.pixano_server import TASKS_AT_ONCE, PixanoServer
from pixano_cli.inference.providers.pixano_video import follow
from pixano_cli.inference.providers.pixano_windows import WINDOW
from pixano_cli.inference.providers.remote import RemoteProvider
from pixano_cli.inference.types import (
    ImageMaskGenerationInput,
    ImageMaskGenerationResult,
    ImageZeroShotDetectionInput,
    ImageZeroShotDetectionOutput,
    ImageZeroShotDetectionResult,
    InferenceTask,
    ModelConfig,
    ModelInfo,
    ServerInfo,
    TextImageConditionalGenerationInput,
    TextImageConditionalGenerationResult,
    VideoMaskGenerationInput,
    VideoMaskGenerationOutput,
    VideoMaskGenerationResult,
)
from pixano_cli.media import flight


class PixanoInferenceProvider(RemoteProvider):
    """Provider of the models of one Pixano Inference server, of any generation.

    The key is that of PIXANO_INFERENCE_API_KEY or of `api_key_file`; a server without keys takes
    requests without.

    Example:
        ```python
        provider = PixanoInferenceProvider("http://gpu-server:7463")
        print([model.name for model in await provider.list_models()])
        ```
    """

    variable: ClassVar[str] = "PIXANO_INFERENCE_API_KEY"
    default_url: ClassVar[str] = "http://127.0.0.1:7463"
    # The masks of a window, or the features of SAM 2, which are some 22 MB.
    answer_limit: ClassVar[int] = 64 * 1024 * 1024
    tasks: ClassVar[tuple[InferenceTask, ...]] = tuple(InferenceTask)

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key_file: str | Path | None = None,
        concurrency: int | None = None,
        rpm: float | None = None,
        tpm: float | None = None,
        max_side: int | None = None,
        tries: int = 5,
        pace: float = 0.5,
        dialect: str = "auto",
        window: int = WINDOW,
    ) -> None:
        """Make the provider; nothing is sent yet.

        Args:
            url: Address of the server; by default that of `default_url`.
            api_key_file: File that holds the key, in place of the environment variable.
            concurrency: Most requests under way at once, and how many to begin with.
            rpm: Most requests a minute.
            tpm: Most tokens a minute, as far as they can be told before.
            max_side: Longest side of an image that is sent, in pixels; None sends all of it.
            tries: How often a request is sent at most.
            pace: Longest first wait between two tries, in seconds.
            dialect: Generation of the server, "g1" to "g5"; "auto" finds it out.
            window: Most frames of a video that are sent at once, from 2.

        Raises:
            UsageError: If a value is out of range, the URL is no server's, or the key cannot be
                had.
        """
        super().__init__(
            url,
            api_key_file=api_key_file,
            concurrency=concurrency,
            rpm=rpm,
            tpm=tpm,
            max_side=max_side,
            tries=tries,
            pace=pace,
        )
        if dialect.lower() not in DIALECTS:
            raise UsageError(f"--dialect must be one of {', '.join(DIALECTS)}, not {dialect!r}")
        if window < 2:
            raise UsageError(f"window must be at least 2 frames, not {window}")
        self._window = window
        is_said = dialect.lower() != "auto"
        spoken = Dialect(Generation[dialect.upper()], "") if is_said else None
        self._pixano = PixanoServer(self._server, spoken, concurrency or TASKS_AT_ONCE)

    @property
    def name(self) -> str:
        """Provider name."""
        return "pixano-inference"

    async def get_server_info(self) -> ServerInfo:
        """Tell about the server.

        From 0.6 on it counts the GPUs in use without naming them: `gpus_used` is then empty. What
        the models do is told to those who have a key, if the server wants one.
        """
        dialect = await self._pixano.dialect()
        info = await get_info(self._server, dialect)
        try:
            models = await get_models(self._server, dialect)
        except InvalidRequestError:
            models = []
        return ServerInfo(
            app_name=info.app_name,
            app_version=info.app_version,
            app_description=info.app_description,
            num_cpus=info.num_cpus,
            num_gpus=info.num_gpus,
            num_nodes=info.num_nodes,
            gpus_used=info.gpus_used if isinstance(info.gpus_used, list) else [],
            gpu_to_model=info.gpu_to_model,
            models=info.models,
            models_to_task={model.name: model.does for model in models},
        )

    async def list_models(self, task: InferenceTask | None = None) -> list[ModelInfo]:
        """List the server's models, as the server orders them.

        `task` of a model is a value of `InferenceTask` or `EmbeddingTask`, or the server's own
        word for what is neither.
        """
        return [
            ModelInfo(
                name=model.name,
                task=model.does,
                model_path=model.model_path,
                model_class=model.model_class,
                provider=self.name,
            )
            for model in await self._pixano.models()
            if task is None or model.does == task.value
        ]

    async def describe_model(
        self, model_name: str, task: AnyTask | None = None
    ) -> ModelDescription:
        """Tell what the server tells of a model; it has no digest of the weights.

        Args:
            model_name: Name of the model.
            task: What it is wanted for; a model does one thing here, so it says nothing.

        Raises:
            ModelNotFoundError: If there is no model of the name.
            TaskNotSupportedError: If no task asks for what it does.
        """
        model = await self._pixano.find(model_name)
        try:
            does = task_of(model.does)
        except ValueError:
            raise TaskNotSupportedError(
                f"model {model_name!r} at {self._server.url} does {model.does}, which "
                "pixano-annotate cannot use: choose another model"
            ) from None
        return ModelDescription(
            model_name,
            does,
            origin=model.model_path or "",
            description=model.model_class or "",
            categories=pixano_classes.categories_of(model.class_names),
            embedding_size=model.embedding_size,
            parameters={} if self._max_side is None else {"max_side": self._max_side},
        )

    async def instantiate_model(
        self, provider: str, config: ModelConfig, timeout: int = 60
    ) -> None:
        """Load a model, on a server up to 0.5.6 or from 0.6 on.

        Args:
            provider: Up to 0.5.6 the server's provider (as "sam2", "transformers"); from 0.6 on the
                class of the model, unless `config.config["model_class"]` names it.
            config: What to load; from 0.6 on `config.config["deployment"]` is what the server's
                deployment takes (as `num_cpus`), and the rest of it are the model's parameters.
            timeout: Seconds for loading. A server may go on to load after that.

        Raises:
            ModelNotFoundError: If the server knows no such provider, class or task.
            TaskNotSupportedError: If the server loads no models on request, or the model does
                something else than `config.task`.
            InvalidRequestError: If the server refuses, as where there is a model of that name.
            InferenceTimeoutError: If it is not loaded in time.
        """
        dialect = await self._pixano.dialect()
        await pixano_deploy.instantiate(self._server, dialect, provider, config, timeout)
        self._pixano.forget()

    async def delete_model(self, model_name: str) -> None:
        """Unload a model, on a server up to 0.5.6 or from 0.6 on.

        Raises:
            ModelNotFoundError: If there is no model of the name.
            TaskNotSupportedError: If the server unloads no models on request.
        """
        await pixano_deploy.delete(self._server, await self._pixano.dialect(), model_name)
        self._pixano.forget()

    async def image_mask_generation(
        self, input_data: ImageMaskGenerationInput, timeout: float = 60.0
    ) -> ImageMaskGenerationResult:
        """Return masks for prompts in an image, in pixels of the image as displayed.

        Prompts are rounded to whole pixels, and the server always encodes the image anew, unless
        its embedding is given: `reset_predictor` is of no use between several clients.

        Raises:
            MediaError: If the image cannot be read or decoded.
            ModelNotFoundError: If the server has no model of the name.
            TaskNotSupportedError: If the model does not generate masks.
            InvalidRequestError: If the server refuses the request or the key.
            InferenceTimeoutError: If there is no result in time.
        """
        dialect = await self._pixano.dialect()
        image = await self._outgoing(input_data.image)
        body = pixano_bodies.segmentation(dialect.generation, input_data, image)
        told = await self._pixano.ask(
            InferenceTask.MASK_GENERATION, input_data.model, body, timeout
        )
        envelope = told.envelope
        return ImageMaskGenerationResult(
            data=pixano_answers.segmentation(
                envelope.data,
                image,
                len(input_data.boxes or input_data.points or ()),
                input_data.num_multimask_outputs if input_data.multimask_output else None,
                told.fail,
            ),
            **envelope.facts,
        )

    async def image_zero_shot_detection(
        self, input_data: ImageZeroShotDetectionInput, timeout: float = 60.0
    ) -> ImageZeroShotDetectionResult:
        """Return boxes of objects, of the classes that are asked for, if any are.

        Where the model gives masks too, they are in the result's `metadata["masks"]`, one a box.

        Raises:
            MediaError: If the image cannot be read or decoded.
            ModelNotFoundError: If the server has no model of the name.
            TaskNotSupportedError: If the model does not detect.
            InvalidRequestError: If the server refuses the request or the key, or the model needs
                classes and none are named.
            InferenceTimeoutError: If there is no result in time.
        """
        dialect = await self._pixano.dialect()
        name = input_data.model
        model = await self._pixano.known(name)
        names = pixano_classes.names_of(input_data.classes)
        classes = pixano_classes.asked_of(model, names, dialect.generation, self._server.url)
        image = await self._outgoing(input_data.image)
        body = pixano_bodies.detection(input_data, image, classes)
        told = await self._pixano.ask(InferenceTask.OBJECT_DETECTION, name, body, timeout)
        envelope = told.envelope
        found = pixano_answers.detection(envelope.data, image, told.fail)
        labels = pixano_classes.meant_by(model, [each.label for each in found], names)
        kept = [
            (each, label) for each, label in zip(found, labels, strict=True) if label is not None
        ]
        metadata = dict(envelope.metadata)
        if any(each.mask for each, _ in kept):
            metadata["masks"] = [each.mask.to_dict() for each, _ in kept if each.mask]
        return ImageZeroShotDetectionResult(
            data=ImageZeroShotDetectionOutput(
                boxes=[each.box for each, _ in kept],
                scores=[each.score for each, _ in kept],
                classes=[label for _, label in kept],
            ),
            **envelope.facts | {"metadata": metadata},
        )

    async def text_image_conditional_generation(
        self, input_data: TextImageConditionalGenerationInput, timeout: float = 60.0
    ) -> TextImageConditionalGenerationResult:
        """Return text about images; the server takes neither a seed nor a schema.

        Raises:
            MediaError: If an image cannot be read or decoded.
            ModelNotFoundError: If the server has no model of the name.
            TaskNotSupportedError: If the model does not generate text.
            InvalidRequestError: If the server refuses the request or the key.
            InferenceTimeoutError: If there is no result in time.
        """
        await self._pixano.dialect()
        images = [await self._sent(image) for image in input_data.images or ()]
        chat = pixano_bodies.messages(input_data.prompt, images)
        body = pixano_bodies.generation(input_data, chat)
        told = await self._pixano.ask(
            InferenceTask.TEXT_GENERATION, input_data.model, body, timeout
        )
        envelope = told.envelope
        output, usage = pixano_answers.generation(envelope.data, told.fail)
        metadata = {**envelope.metadata, **({"usage": usage} if usage else {})}
        return TextImageConditionalGenerationResult(
            data=output,
            **envelope.facts | {"metadata": metadata},
        )

    async def video_mask_generation(
        self, input_data: VideoMaskGenerationInput, timeout: float = 120.0
    ) -> VideoMaskGenerationResult:
        """Follow objects through a video of any length, forward from where each is prompted.

        No more than `window` frames are sent at once. An object that is not to be seen in the frame
        that two windows share is lost there: `metadata["lost"]` has that frame by its id, and
        `metadata["windows"]` how many there were.

        Args:
            input_data: The frames and the prompts.
            timeout: Seconds for the whole video.

        Raises:
            MediaError: If a frame cannot be read or decoded.
            ModelNotFoundError: If the server has no model of the name.
            TaskNotSupportedError: If the model does not follow objects.
            InvalidRequestError: If the server refuses the request or the key, or prompts and
                objects do not fit together.
            InferenceTimeoutError: If there is no result in time.
        """
        followed = await follow(self._pixano, input_data, self._window, self._outgoing, timeout)
        last = followed.answers[-1]
        return VideoMaskGenerationResult(
            data=VideoMaskGenerationOutput(
                objects_ids=[each.object_id for each in followed.found],
                frame_indexes=[each.frame for each in followed.found],
                masks=[each.mask for each in followed.found],
            ),
            status=last.status,
            timestamp=last.moment,
            processing_time=sum(each.processing_time for each in followed.answers),
            metadata={
                **last.metadata,
                "windows": followed.windows,
                **({"lost": followed.lost} if followed.lost else {}),
            },
            id=last.id,
        )

    async def image_embedding(
        self, input_data: ImageEmbeddingInput, timeout: float = 60.0
    ) -> ImageEmbeddingResult:
        """Return an image's vector, not scaled to length 1 if the model can leave it; from 0.6 on.

        Raises:
            MediaError: If the image cannot be read or decoded.
            ModelNotFoundError: If the server has no model of the name.
            TaskNotSupportedError: If the model does not embed images, or the server is too old.
            InvalidRequestError: If the server refuses the request or the key.
            InferenceTimeoutError: If there is no result in time.
        """
        dialect = await self._pixano.dialect()
        if not dialect.generation.embeds:
            raise TaskNotSupportedError(
                f"{self._server.url} is Pixano Inference {dialect.version}, which has no "
                "embeddings: they came with 0.6, so use a newer server or --provider local"
            )
        image = await self._outgoing(input_data.image)
        body = {"model": input_data.model, "image": image.url, "normalize": False}
        told = await self._pixano.ask(
            EmbeddingTask.IMAGE_EMBEDDING, input_data.model, body, timeout
        )
        envelope = told.envelope
        vector = pixano_answers.embedding(envelope.data, told.fail)
        return ImageEmbeddingResult(
            data=ImageEmbeddingOutput(vector),
            **envelope.facts,
        )

    async def _sent(self, image: str | Path) -> str:
        """Return the URL that an image goes out as; one of the web is for the server to fetch."""
        url = flight.url_of_image(image)
        is_of_the_web = url[:8].lower().startswith(("http://", "https://"))
        return url if is_of_the_web else (await self._outgoing(url)).url
