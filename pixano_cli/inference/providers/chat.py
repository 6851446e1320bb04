"""A conversation with pictures, whatever a server calls its parts: what is asked, in which words.

The prompt forms are those of the published interface: a text with a list of images, or a list of
messages as chat templates take it, in the form of OpenAI's API or of Hugging Face's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import orjson

from pixano_cli.inference.errors import InvalidRequestError
from pixano_cli.inference.generation import GenerationInput
from pixano_cli.inference.providers.chat_schema import check_schema
from pixano_cli.inference.types import TextImageConditionalGenerationInput
from pixano_cli.media.flight import url_of_image

Role = Literal["system", "user", "assistant"]

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "model": "assistant",
}
_IMAGES = ("image_url", "image", "url", "path")
_QUOTED = 4_000


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of a conversation, by its URL."""

    url: str


Part = str | Picture
"""Text or a picture."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """What one side says at once."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model is asked.

    Attributes:
        model: Its name.
        talk: The conversation so far.
        max_tokens: Most tokens of the answer.
        temperature: Sampling temperature.
        seed: Number to draw by; None leaves it to the server.
        schema: JSON schema of the answer; None for any text.
        is_firm: Whether `temperature` and `max_tokens` are the user's, to be kept to or refused;
            else a server that cannot do them does what it can.
    """

    model: str
    talk: tuple[Utterance, ...]
    max_tokens: int
    temperature: float
    seed: int | None = None
    schema: Mapping[str, Any] | None = None
    is_firm: bool = True

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The pictures of the conversation, in order."""
        return tuple(part for each in self.talk for part in each.parts if isinstance(part, Picture))

    @property
    def tokens(self) -> int:
        """About how many tokens the answer and what is asked take, for limits by the minute."""
        text = sum(len(part) for each in self.talk for part in each.parts if isinstance(part, str))
        return text // 4 + 1_000 * len(self.pictures) + self.max_tokens


def asked_of(request: TextImageConditionalGenerationInput) -> Asked:
    """Return what a request for text asks of a model.

    Raises:
        InvalidRequestError: If the prompt has none of the documented forms, a number is out of
            range, or the schema has keywords that cannot be checked.
    """
    if request.max_new_tokens < 1:
        raise InvalidRequestError(
            f"max_new_tokens must be at least 1, not {request.max_new_tokens}"
        )
    if not 0 <= request.temperature < float("inf"):
        raise InvalidRequestError(f"temperature must be at least 0, not {request.temperature}")
    talk = utterances(request.prompt, request.images)
    seed = schema = None
    if isinstance(request, GenerationInput):
        seed, schema = request.seed, request.schema
    if schema is not None:
        try:
            check_schema(schema)
        except ValueError as error:
            raise InvalidRequestError(f"the schema of the answer cannot be used: {error}") from None
        talk = (*talk[:-1], _with_text(talk[-1], _in_words(schema)))
    return Asked(request.model, talk, request.max_new_tokens, request.temperature, seed, schema)


def utterances(
    prompt: str | Sequence[Mapping[str, Any]], images: Sequence[str | Path] | None
) -> tuple[Utterance, ...]:
    """Return the conversation of a prompt.

    A text goes after its images. In a list of messages each `{"type": "image"}` without an image
    of its own stands for the next of `images`; if there is none, they go before the text of the
    first message of the user.

    Raises:
        InvalidRequestError: If the prompt has another form, or images are missing or left over.
    """
    given = [Picture(url_of_image(each)) for each in images or ()]
    if isinstance(prompt, str):
        if not prompt.strip():
            raise InvalidRequestError("the prompt is empty: say what the model is to do")
        return (Utterance("user", (*given, prompt)),)
    waiting = iter(given)
    talk = [_utterance(message, waiting) for message in prompt]
    left = tuple(waiting)
    asking = [index for index, each in enumerate(talk) if each.role == "user"]
    if not asking:
        raise InvalidRequestError("the prompt has no message of the user")
    if left and len(left) < len(given):
        raise InvalidRequestError(f"the prompt has no place for {len(left)} of its images")
    first = talk[asking[0]]
    talk[asking[0]] = replace(first, parts=(*left, *first.parts))
    return tuple(talk)


def asked_again(asked: Asked, answer: str, fault: str) -> Asked:
    """Return what is asked once more after an answer that cannot be read."""
    said = answer if len(answer) <= _QUOTED else answer[:_QUOTED] + " ..."
    wish = (
        f"That answer cannot be read: {fault}. Answer the question again, with the corrected JSON "
        "only: no explanation, no code fence."
    )
    shape = [] if asked.schema is None else [_in_words(asked.schema)]
    talk = (
        *asked.talk,
        Utterance("assistant", (said,)),
        Utterance("user", ("\n".join([wish, *shape]),)),
    )
    return replace(asked, talk=talk)


def _in_words(schema: Mapping[str, Any]) -> str:
    return f"Answer with JSON only, of this JSON schema: {orjson.dumps(dict(schema)).decode()}"


def _with_text(utterance: Utterance, text: str) -> Utterance:
    return replace(utterance, parts=(*utterance.parts, text))


def _utterance(message: Mapping[str, Any], waiting: Iterator[Picture]) -> Utterance:
    if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
        raise InvalidRequestError(
            "a message of the prompt has no role: system, user or assistant is wanted"
        )
    content = message.get("content")
    parts = [content] if isinstance(content, str) else content
    if not isinstance(parts, list) or not parts:
        raise InvalidRequestError(
            "a message of the prompt has no content: text or parts are wanted"
        )
    return Utterance(_ROLES[message["role"]], tuple(_part(part, waiting) for part in parts))


def _part(part: Any, waiting: Iterator[Picture]) -> Part:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind in ("image_url", "image"):
        image = next((part[key] for key in _IMAGES if key in part), None)
        if isinstance(image, Mapping):
            image = image.get("url")
        if isinstance(image, (str, Path)):
            return Picture(url_of_image(image))
        if image is None and kind == "image":
            for picture in waiting:
                return picture
            raise InvalidRequestError("the prompt names more images than are given")
    raise InvalidRequestError(
        f"a part of the prompt has the type {kind!r}: text, image_url or image is wanted"
    )
