"""The provider that asks a Pixano Inference server."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import AliasChoices, Field, TypeAdapter

from pixano_cli.inference.embedding import (
    EmbeddingTask,
    ImageEmbeddingInput,
    ImageEmbeddingOutput,
    ImageEmbeddingResult,
    task_of,
)
from pixano_cli.inference.errors import (
    InferenceError,
    InvalidRequestError,
    TaskNotSupportedError,
)
from pixano_cli.inference.provider import ModelDescription
from pixano_cli.inference.providers.dialects import (
    Dialect,
    ListedModel,
    find_dialect,
    get_info,
    get_models,
)
from pixano_cli.inference.providers.http import Answer
from pixano_cli.inference.providers.remote import (
    LONGEST_VECTOR,
    RemoteProvider,
    Wire,
    malformed,
    read,
)
from pixano_cli.inference.types import InferenceTask, ModelInfo, ServerInfo


class Array(Wire):
    """An array of 32-bit floating point numbers: base64 of the bytes, in C order."""

    shape: Annotated[list[int], Field(min_length=1, max_length=8)]
    dtype: str = ""
    data: str


class Embeddings(Wire):
    """Vectors [number of images, `dim`]."""

    embeddings: Array
    dim: Annotated[int, Field(ge=1, le=LONGEST_VECTOR)]


class Embedded(Wire):
    """The envelope around an answer, with vectors in it."""

    id: str = ""
    status: str
    timestamp: datetime = Field(default_factory=lambda: datetime.now(UTC))
    processing_time: Annotated[
        float,
        Field(validation_alias=AliasChoices("processingTime", "processing_time"), ge=0),
    ] = 0.0
    metadata: dict[str, Any] = Field(default_factory=dict)
    data: Embeddings


_EMBEDDED = TypeAdapter(Embedded)


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

    _dialect: Dialect | None = None

    @property
    def name(self) -> str:
        """Provider name."""
        return "pixano-inference"

    async def get_server_info(self) -> ServerInfo:
        """Tell about the server.

        From 0.6 on it counts the GPUs in use without naming them: `gpus_used` is then empty. What
        the models do is told to those who have a key, if the server wants one.
        """
        dialect = await self._speak()
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
            for model in await self._models()
            if task is None or model.does == task.value
        ]

    async def describe_model(self, model_name: str) -> ModelDescription:
        """Tell what the server tells of a model; it has no digest of the weights.

        Raises:
            ModelNotFoundError: If there is no model of the name.
            TaskNotSupportedError: If no task asks for what it does.
        """
        model = await self._find(model_name)
        try:
            task = task_of(model.does)
        except ValueError:
            raise TaskNotSupportedError(
                f"model {model_name!r} at {self._server.url} does {model.does}, which "
                "pixano-annotate cannot use: choose another model"
            ) from None
        return ModelDescription(
            model_name,
            task,
            origin=model.model_path or "",
            description=model.model_class or "",
            embedding_size=model.embedding_size,
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
        dialect = await self._speak()
        if not dialect.generation.embeds:
            raise TaskNotSupportedError(
                f"{self._server.url} is Pixano Inference {dialect.version}, which has no "
                "embeddings: they came with 0.6, so use a newer server or --provider local"
            )
        image = await self._outgoing(input_data.image)
        answer = await self._server.post(
            "/v1/inference/embedding",
            {"model": input_data.model, "image": image.url, "normalize": False},
            timeout=timeout,
            heed={400, 404},
        )
        if not answer.is_success:
            raise await self._refused(input_data.model, answer)
        envelope = read(_EMBEDDED, answer)
        if envelope.status != "SUCCESS":
            raise InferenceError(
                f"{answer.where} failed ({envelope.status[:40]!r}): its own log may say why"
            )
        return ImageEmbeddingResult(
            data=ImageEmbeddingOutput(_vector(envelope.data, answer)),
            timestamp=envelope.timestamp,
            processing_time=envelope.processing_time,
            metadata=envelope.metadata,
            id=envelope.id,
            status=envelope.status,
        )

    async def _speak(self) -> Dialect:
        if self._dialect is None:
            self._dialect = await find_dialect(self._server)
        return self._dialect

    async def _models(self) -> list[ListedModel]:
        return await get_models(self._server, await self._speak())

    async def _find(self, name: str) -> ListedModel:
        models = {model.name: model for model in await self._models()}
        if name not in models:
            raise self._no_such_model(name, models)
        return models[name]

    async def _refused(self, name: str, answer: Answer) -> InferenceError:
        """Return the error for an embedding that is refused: of the model, or of the request."""
        model = await self._find(name)
        if model.does != EmbeddingTask.IMAGE_EMBEDDING.value:
            return TaskNotSupportedError(
                f"model {name!r} at {self._server.url} does {model.does}, "
                "and does not embed images: choose another model"
            )
        return InvalidRequestError(
            f"{answer.where} refuses the request ({answer.status}: {answer.said})"
        )


def _vector(answered: Embeddings, answer: Answer) -> list[float]:
    array, size = answered.embeddings, answered.dim
    if array.shape != [1, size]:
        raise malformed(answer, f"vectors of shape {array.shape[:3]} for one image")
    if array.dtype not in ("", "float32"):
        raise malformed(answer, f"numbers of type {array.dtype[:20]!r}")
    try:
        data = base64.b64decode(array.data, validate=True)
    except binascii.Error:
        raise malformed(answer, "a vector that is not base64") from None
    if len(data) != 4 * size:
        raise malformed(answer, f"{len(data)} bytes for {size} numbers")
    vector = np.frombuffer(data, "<f4")
    if not np.isfinite(vector).all():
        raise malformed(answer, "a vector with numbers that are not finite")
    return [float(each) for each in vector]
