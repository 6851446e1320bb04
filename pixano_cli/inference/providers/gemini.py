"""The provider that asks Google's Gemini API. Source: the API's reference, version v1beta.

The key travels in the header `x-goog-api-key`, never in an address, which proxies write down.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from pydantic import Field, TypeAdapter

from pixano_cli.inference.errors import InferenceError, InvalidRequestError
from pixano_cli.inference.providers.chat import Asked, Part, Utterance
from pixano_cli.inference.providers.chat_answers import LENGTH, Said, usage_of
from pixano_cli.inference.providers.chat_provider import ChatProvider
from pixano_cli.inference.providers.http import Answer
from pixano_cli.inference.providers.remote import LOOK_TIMEOUT_S, Wire, malformed, read
from pixano_cli.inference.types import InferenceTask, ModelInfo, ServerInfo

_PAGE = 1000
_MOST_PAGES = 50
_MODEL = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*")
_STRUCTURE = re.compile(r"response_?json_?schema|response_?schema|response_?mime_?type|json mode")
_ENDS = {"STOP": "stop", "MAX_TOKENS": LENGTH, "FINISH_REASON_UNSPECIFIED": ""}
_BLOCKED = frozenset(
    {
        *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "OTHER"),
    }
)


class ListedModel(Wire):
    """A model as it is listed."""

    name: str
    methods: list[str] = Field(default=[], alias="supportedGenerationMethods")

    @property
    def short(self) -> str:
        """Its name, as users write it."""
        return self.name.removeprefix("models/")


class Page(Wire):
    """Some of the models."""

    models: list[ListedModel] = Field(default=[])
    next_page: str = Field(default="", alias="nextPageToken")


class Piece(Wire):
    """Part of an answer."""

    text: str = ""
    thought: bool = False


class Content(Wire):
    """What the model says."""

    parts: list[Piece] = Field(default=[])


class Candidate(Wire):
    """One answer."""

    content: Content = Content()
    finish: str = Field(default="", alias="finishReason")
    message: str = Field(default="", alias="finishMessage")
    logprob: float | None = Field(default=None, alias="avgLogprobs")


class Feedback(Wire):
    """What is said of the request itself."""

    blocked: str = Field(default="", alias="blockReason")
    message: str = Field(default="", alias="blockReasonMessage")


class Generated(Wire):
    """What `generateContent` answers."""

    candidates: list[Candidate] = Field(default=[])
    feedback: Feedback = Field(default=Feedback(), alias="promptFeedback")
    usage: dict[str, Any] = Field(default={}, alias="usageMetadata")
    model: str = Field(default="", alias="modelVersion")


_LISTING = TypeAdapter(Page)
_GENERATED = TypeAdapter(Generated)


@dataclass(frozen=True, slots=True)
class Manners:
    """What a model takes, as far as its refusals have told.

    Attributes:
        structured: Whether it takes a schema.
    """

    structured: bool = True


class GeminiProvider(ChatProvider):
    """Provider of Google's Gemini models.

    The key is that of GEMINI_API_KEY or of `api_key_file`.

    Example:
        ```python
        provider = GeminiProvider()
        request = ImageZeroShotDetectionInput(
            image="file:///photos/1.jpg", model="gemini-2.5-flash", classes=["cat"]
        )
        boxes = (await provider.image_zero_shot_detection(request)).data.boxes
        ```
    """

    variable: ClassVar[str] = "GEMINI_API_KEY"
    default_url: ClassVar[str] = "https://generativelanguage.googleapis.com"
    default_path: ClassVar[str] = "/v1beta"
    key_header: ClassVar[str] = "x-goog-api-key"
    health_path: ClassVar[str] = "/models?pageSize=1"

    @cached_property
    def _manners(self) -> dict[str, Manners]:
        """What models have turned out to take, by name."""
        return {}

    @property
    def name(self) -> str:
        """Provider name."""
        return "gemini"

    async def get_server_info(self) -> ServerInfo:
        """Tell the server's address and models; the API knows of nothing else."""
        return ServerInfo(
            app_name=self._server.url,
            app_version=self._server.url.rpartition("/")[2],
            app_description="Gemini API",
            num_cpus=None,
            num_gpus=0,
            num_nodes=1,
            gpus_used=[],
            gpu_to_model={},
            models=[model.short for model in await self._listed()],
            models_to_task={},
        )

    async def list_models(self, task: InferenceTask | None = None) -> list[ModelInfo]:
        """List the models that generate, as the server orders them.

        The API does not tell which of them see images: `task` of each is empty, and whichever is
        asked for, all are listed.
        """
        return [
            ModelInfo(name=model.short, task="", provider=self.name)
            for model in await self._listed()
        ]

    async def _check_model(self, model: str) -> None:
        answer = await self._server.get(f"/{_path(model)}", timeout=LOOK_TIMEOUT_S, heed={400, 404})
        if answer.is_success:
            return
        self._check_key(answer)
        raise self._no_such_model(model, [each.short for each in await self._listed()])

    async def _say(self, asked: Asked, timeout: float) -> Said:
        path = f"/{_path(asked.model)}:generateContent"
        while True:
            manners = self._manners.get(asked.model, Manners())
            answer = await self._post(path, _body(asked, manners), asked, timeout, {400, 404})
            if answer.is_success:
                return self._counted(_said_in(answer), asked)
            self._check_key(answer)
            if answer.status == 404:
                raise self._no_such_model(
                    asked.model, [each.short for each in await self._listed()]
                )
            names_structure = _STRUCTURE.search(answer.said.lower())
            if asked.schema is None or not manners.structured or not names_structure:
                raise InvalidRequestError(
                    f"{answer.where} refuses the request ({answer.status}: {answer.said})"
                )
            self._manners[asked.model] = replace(manners, structured=False)

    def _check_key(self, answer: Answer) -> None:
        """Raise the error for a bad key, which is no 401 here."""
        if re.search(r"api[ _]key", answer.said.lower()):
            raise InvalidRequestError(
                f"{answer.where} refuses the API key ({answer.status}: {answer.said}): check "
                f"{self.variable}, or the file of the key"
            )

    async def _listed(self) -> list[ListedModel]:
        found: list[ListedModel] = []
        token = ""
        for _ in range(_MOST_PAGES):
            query = {"pageSize": str(_PAGE)} | ({"pageToken": token} if token else {})
            answer = await self._server.get(
                f"/models?{urlencode(query)}", timeout=LOOK_TIMEOUT_S, heed={400}
            )
            if not answer.is_success:
                self._check_key(answer)
                raise InvalidRequestError(
                    f"{answer.where} refuses the request ({answer.status}: {answer.said})"
                )
            page = read(_LISTING, answer)
            found += [each for each in page.models if "generateContent" in each.methods]
            token = page.next_page
            if not token:
                return found
        raise InferenceError(
            f"{self._server.url}/models goes on after {_MOST_PAGES} pages: check the URL"
        )


def _path(model: str) -> str:
    """Return the path of a model.

    Raises:
        InvalidRequestError: If it can be no model's name.
    """
    if not _MODEL.fullmatch(model) or ".." in model:
        raise InvalidRequestError(f"{model!r} can be no name of a Gemini model: check it")
    return quote(model if "/" in model else f"models/{model}")


def _body(asked: Asked, manners: Manners) -> dict[str, Any]:
    config: dict[str, Any] = {
        "maxOutputTokens": asked.max_tokens,
        "temperature": asked.temperature,
    }
    if asked.seed is not None:
        config["seed"] = asked.seed
    if asked.schema is not None and manners.structured:
        config["responseMimeType"] = "application/json"
        config["responseJsonSchema"] = asked.schema
    system = [each for each in asked.talk if each.role == "system"]
    written: dict[str, Any] = {
        "contents": [_content(each) for each in asked.talk if each.role != "system"],
        "generationConfig": config,
    }
    if system:
        written["systemInstruction"] = {
            "parts": [_part(part) for each in system for part in each.parts]
        }
    return written


def _content(utterance: Utterance) -> dict[str, Any]:
    role = "model" if utterance.role == "assistant" else "user"
    return {"role": role, "parts": [_part(part) for part in utterance.parts]}


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"text": part}
    head, _, data = part.url.partition(";base64,")
    return {"inlineData": {"mimeType": head.removeprefix("data:"), "data": data}}


def _said_in(answer: Answer) -> Said:
    found = read(_GENERATED, answer)
    counts = found.usage
    # Thoughts are paid for as the answer is, and are counted beside it.
    completion = counts.get("candidatesTokenCount", 0), counts.get("thoughtsTokenCount", 0)
    usage = (
        usage_of(counts.get("promptTokenCount", 0), sum(completion), counts.get("totalTokenCount"))
        if counts and all(isinstance(count, int) for count in completion)
        else {}
    )
    said = Said(answer.where, "", usage=usage, model=found.model, seconds=answer.seconds)
    if found.feedback.blocked:
        why = found.feedback.message or found.feedback.blocked
        return replace(said, refusal=f"its server blocks the request ({why})")
    if not found.candidates:
        raise malformed(answer, "no candidates")
    best = found.candidates[0]
    refusal = best.message or best.finish if best.finish in _BLOCKED else ""
    return replace(
        said,
        text="".join(part.text for part in best.content.parts if not part.thought).strip(),
        reasoning="".join(part.text for part in best.content.parts if part.thought).strip(),
        finish=_ENDS.get(best.finish, best.finish.lower()),
        refusal=refusal and f"its server stopped the answer ({refusal})",
        logprob=best.logprob,
    )
