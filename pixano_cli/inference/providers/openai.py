"""The provider that asks a server with OpenAI's API, whoever made it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal
from uuid import uuid4

from pydantic import Field, TypeAdapter

from pixano_cli.inference.embedding import (
    AnyTask,
    EmbeddingTask,
    ImageEmbeddingInput,
    ImageEmbeddingOutput,
    ImageEmbeddingResult,
)
from pixano_cli.inference.errors import InferenceError, InvalidRequestError
from pixano_cli.inference.provider import ModelDescription
from pixano_cli.inference.providers.chat import Asked
from pixano_cli.inference.providers.chat_answers import Said
from pixano_cli.inference.providers.chat_provider import ChatProvider
from pixano_cli.inference.providers.http import Answer
from pixano_cli.inference.providers.openai_chat import Manners, body, said_in
from pixano_cli.inference.providers.remote import LOOK_TIMEOUT_S, Vector, Wire, read
from pixano_cli.inference.types import InferenceTask, ModelInfo, ServerInfo

_ABSENT = frozenset({404, 405, 501})
_TOKENS = ("prompt_tokens", "total_tokens")

Form = Literal["chat", "input"]
"""How an image is put to `/embeddings`, which OpenAI's own API describes for text only.

"chat" is a conversation of one message with the image in it (vLLM); "input" a list of inputs, of
which an image is an object (Jina, SGLang).
"""

_FORMS: tuple[Form, ...] = ("chat", "input")


class ListedModel(Wire):
    """A model as it is listed."""

    id: str
    owned_by: str | None = None


class Listing(Wire):
    """The models of a server."""

    data: list[ListedModel]


class Embedding(Wire):
    """One vector."""

    embedding: Vector


class Embeddings(Wire):
    """The answer of `/embeddings` to one image."""

    model: str | None = None
    data: Annotated[list[Embedding], Field(min_length=1, max_length=1)]
    usage: dict[str, Any] | None = None


_LISTING = TypeAdapter(Listing)
_EMBEDDINGS = TypeAdapter(Embeddings)


class OpenAIProvider(ChatProvider):
    """Provider of the models of one server with OpenAI's API.

    The key is that of OPENAI_API_KEY or of `api_key_file`, and goes to the server of `url`.

    Example:
        ```python
        provider = OpenAIProvider("http://gpu-server:8000")
        request = TextImageConditionalGenerationInput(
            model="qwen3-vl-8b", prompt="Describe this image.", images=["/photos/1.jpg"]
        )
        text = (await provider.text_image_conditional_generation(request)).data.generated_text
        ```
    """

    title: ClassVar[str] = "openai"
    """Name of the provider."""

    variable: ClassVar[str] = "OPENAI_API_KEY"
    default_url: ClassVar[str] = "https://api.openai.com"
    default_path: ClassVar[str] = "/v1"
    health_path: ClassVar[str] = "/models"

    @cached_property
    def _forms(self) -> dict[str, Form]:
        """The form that has worked, by model."""
        return {}

    @cached_property
    def _manners(self) -> dict[str, Manners]:
        """What the server has turned out to take, by model."""
        return {}

    @property
    def name(self) -> str:
        """Provider name."""
        return self.title

    async def get_server_info(self) -> ServerInfo:
        """Tell the server's address and models; the API knows of nothing else."""
        models = await self._listed()
        return ServerInfo(
            app_name=self._server.url,
            app_version="",
            app_description="Server with OpenAI's API",
            num_cpus=None,
            num_gpus=0,
            num_nodes=1,
            gpus_used=[],
            gpu_to_model={},
            models=[model.id for model in models or []],
            models_to_task={},
        )

    async def list_models(self, task: InferenceTask | None = None) -> list[ModelInfo]:
        """List the server's models, as the server orders them.

        The API does not tell what a model does: `task` of each is empty, and whichever is asked
        for, all are listed, as any of them may do it.
        """
        return [
            ModelInfo(name=model.id, task="", model_class=model.owned_by, provider=self.name)
            for model in await self._listed() or []
        ]

    async def describe_model(
        self, model_name: str, task: AnyTask | None = None
    ) -> ModelDescription:
        """Tell that a model is there, if the server lists its models; see `ChatProvider`.

        Raises:
            ModelNotFoundError: If the server lists others only.
            TaskNotSupportedError: If no convention can be found in its boxes.
        """
        described = await super().describe_model(model_name, task)
        return replace(described, task=task) if task is EmbeddingTask.IMAGE_EMBEDDING else described

    async def image_embedding(
        self, input_data: ImageEmbeddingInput, timeout: float = 60.0
    ) -> ImageEmbeddingResult:
        """Return an image's vector, as the server gives it.

        What forms of the request a server understands is found out with the first image: a form
        that it refuses is followed by the other, and the one that works is kept to.

        Raises:
            MediaError: If the image cannot be read or decoded.
            ModelNotFoundError: If the server has no model of the name.
            InvalidRequestError: If the server refuses the request or the key, or takes no images.
            InferenceTimeoutError: If there is no result in time.
        """
        model = input_data.model
        image = (await self._outgoing(input_data.image)).url
        known = self._forms.get(model)
        refused: list[Answer] = []
        for form in (known,) if known else _FORMS:
            answer = await self._server.post(
                "/embeddings", _embedding(form, model, image), timeout=timeout, heed={400, 404, 422}
            )
            if answer.is_success:
                found = read(_EMBEDDINGS, answer)
                self._forms[model] = form
                return _result(found, answer, form)
            if answer.status == 404:
                raise await self._not_found(model, answer, "embeds")
            refused.append(answer)
        raise self._takes_none(model, refused)

    async def _say(self, asked: Asked, timeout: float) -> Said:
        while True:
            manners = self._manners.get(asked.model, Manners())
            answer = await self._post(
                "/chat/completions", body(asked, manners), asked, timeout, {400, 404, 422}
            )
            if answer.is_success:
                return self._counted(said_in(answer), asked)
            if answer.status == 404:
                raise await self._not_found(asked.model, answer, "chats")
            better = manners.after(answer.said, asked)
            if better == manners:
                raise self._refused(asked, answer)
            # Of requests that are refused side by side each may have another thing to tell.
            known = self._manners.get(asked.model, Manners())
            self._manners[asked.model] = known.after(answer.said, asked)

    async def _check_model(self, model: str) -> None:
        models = await self._listed()
        if models is not None and model not in (names := [each.id for each in models]):
            raise self._no_such_model(model, names)

    async def _listed(self) -> list[ListedModel] | None:
        """Return the server's models; None if it does not list them."""
        answer = await self._server.get("/models", timeout=LOOK_TIMEOUT_S, heed=_ABSENT)
        return read(_LISTING, answer).data if answer.is_success else None

    async def _not_found(self, model: str, answer: Answer, does: str) -> InferenceError:
        names = [each.id for each in await self._listed() or []]
        if names and model not in names:
            return self._no_such_model(model, names)
        return InvalidRequestError(
            f"{answer.where} is not there for model {model!r} ({answer.status}: {answer.said}): "
            f"check the URL, and that the server {does}"
        )

    def _refused(self, asked: Asked, answer: Answer) -> InvalidRequestError:
        sight = ": choose a model that sees" if asked.pictures and "image" in answer.said else ""
        return InvalidRequestError(
            f"{answer.where} refuses the request ({answer.status}: {answer.said}){sight}"
        )

    def _takes_none(self, model: str, refused: list[Answer]) -> InferenceError:
        said = "; ".join(dict.fromkeys(f"{each.status}: {each.said}" for each in refused))
        if len(refused) == 1:
            return InvalidRequestError(f"{refused[0].where} refuses the image ({said})")
        return InvalidRequestError(
            f"{refused[0].where} takes no image for model {model!r} ({said}): choose a model that "
            "embeds images"
        )


def _embedding(form: Form, model: str, image: str) -> dict[str, Any]:
    if form == "input":
        return {"model": model, "input": [{"image": image}]}
    content = [{"type": "image_url", "image_url": {"url": image}}]
    return {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "encoding_format": "float",
    }


def _result(found: Embeddings, answer: Answer, form: Form) -> ImageEmbeddingResult:
    usage = {
        name: count
        for name, count in (found.usage or {}).items()
        if name in _TOKENS and isinstance(count, int)
    }
    metadata: dict[str, Any] = {"form": form, "usage": usage}
    if found.model is not None:
        metadata["model"] = found.model
    return ImageEmbeddingResult(
        data=ImageEmbeddingOutput(found.data[0].embedding),
        timestamp=datetime.now(UTC),
        processing_time=answer.seconds,
        metadata=metadata,
        id=uuid4().hex,
    )
