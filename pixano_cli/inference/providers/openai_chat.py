"""OpenAI's chat completions: a request as a body, and what each server leaves out of the API."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from pixano_cli.inference.providers.chat import Asked, Part
from pixano_cli.inference.providers.chat_answers import Said, apart, usage_of
from pixano_cli.inference.providers.chat_schema import is_strict
from pixano_cli.inference.providers.http import Answer
from pixano_cli.inference.providers.remote import Wire, read

LEAST_TOKENS = 256
"""Fewest tokens of an answer down to which a request shrinks for a server with little room."""

_UNKNOWN = re.compile(
    r"unsupported|not supported|unrecogni[sz]ed|unknown|not permitted|not allowed|extra|unexpected"
    r"|does not support|only the default|invalid"
)
_STRUCTURE = re.compile(r"response_?format|json_?schema|structured|guided|grammar")
_ROOM = re.compile(r"context|too large|too long|max_model_len|at most|exceed")


@dataclass(frozen=True, slots=True)
class Manners:
    """What a server takes for one of its models, as far as its refusals have told.

    Attributes:
        tokens: How the most tokens of an answer are called. The older name is tried first:
            servers that do not know the newer one pass over it, and would answer without end.
        structured: Whether it takes a schema.
        logprobs: Whether it takes the wish for log-probabilities.
        temperature: Whether it takes a temperature.
        room: Most tokens of an answer that it has room for; None if it has not said.
    """

    tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    structured: bool = True
    logprobs: bool = True
    temperature: bool = True
    room: int | None = None

    def after(self, said: str, asked: Asked) -> Manners:
        """Return the manners that a refusal asks for; the same if it is about something else.

        What the user wishes for is not given up: a temperature other than 1, the number of tokens.

        Args:
            said: What the server says.
            asked: What it was asked.
        """
        told = said.lower()
        changed = self
        if self.structured and asked.schema is not None and _STRUCTURE.search(told):
            changed = replace(changed, structured=False)
        if self.logprobs and "logprob" in told:
            changed = replace(changed, logprobs=False)
        is_unknown = _UNKNOWN.search(told) is not None
        if self.tokens == "max_tokens" and (
            "max_completion_tokens" in told
            or (re.search(r"\bmax_tokens\b", told) and is_unknown and not _ROOM.search(told))
        ):
            changed = replace(changed, tokens="max_completion_tokens")
        may_drop = not asked.is_firm or asked.temperature == 1.0
        if self.temperature and "temperature" in told and is_unknown and may_drop:
            changed = replace(changed, temperature=False)
        if changed == self and not asked.is_firm and "token" in told and _ROOM.search(told):
            half = min(asked.max_tokens, self.room or asked.max_tokens) // 2
            if half >= LEAST_TOKENS:
                changed = replace(changed, room=half)
        return changed


class Message(Wire):
    """What the model says."""

    content: str | list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None


class Choice(Wire):
    """One answer."""

    message: Message
    finish_reason: str | None = None
    logprobs: Any = None


class Completion(Wire):
    """What `/chat/completions` answers."""

    model: str | None = None
    choices: Annotated[list[Choice], Field(min_length=1)]
    usage: dict[str, Any] | None = None


_COMPLETION = TypeAdapter(Completion)


def body(asked: Asked, manners: Manners) -> dict[str, Any]:
    """Return the body of a request."""
    tokens = asked.max_tokens if manners.room is None else min(asked.max_tokens, manners.room)
    written: dict[str, Any] = {
        "model": asked.model,
        "messages": [{"role": each.role, "content": _content(each.parts)} for each in asked.talk],
        manners.tokens: tokens,
    }
    if manners.temperature:
        written["temperature"] = asked.temperature
    if manners.logprobs:
        written["logprobs"] = True
    if asked.seed is not None:
        written["seed"] = asked.seed
    if asked.schema is not None and manners.structured:
        written["response_format"] = {
            "type": "json_schema",
            "json_schema": {
                "name": "answer",
                "schema": asked.schema,
                "strict": is_strict(asked.schema),
            },
        }
    return written


def said_in(answer: Answer) -> Said:
    """Return what is said in an answer.

    Raises:
        InferenceError: If it has not the documented shape.
    """
    found = read(_COMPLETION, answer)
    choice = found.choices[0]
    message = choice.message
    text, reasoning = apart(_text(message.content))
    thoughts = (_thoughts(message.content), message.reasoning_content, message.reasoning, reasoning)
    finish = choice.finish_reason or ""
    refusal = message.refusal or ""
    if finish == "content_filter":
        refusal = refusal or "its server's content filter stopped the answer"
    usage = found.usage or {}
    return Said(
        where=answer.where,
        text=text,
        reasoning=next((each.strip() for each in thoughts if each and each.strip()), ""),
        finish=finish,
        refusal=refusal,
        usage=usage_of(*map(usage.get, ("prompt_tokens", "completion_tokens", "total_tokens"))),
        logprob=_mean_logprob(choice.logprobs),
        model=found.model or "",
        seconds=answer.seconds,
    )


def _content(parts: tuple[Part, ...]) -> str | list[dict[str, Any]]:
    if len(parts) == 1 and isinstance(parts[0], str):
        return parts[0]
    return [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": part.url}}
        for part in parts
    ]


def _text(content: str | list[dict[str, Any]] | None) -> str:
    if isinstance(content, list):
        return "".join(str(each["text"]) for each in content if isinstance(each.get("text"), str))
    return content or ""


def _thoughts(content: str | list[dict[str, Any]] | None) -> str:
    """Return the reasoning of a content in parts, as Mistral's models give it."""
    if not isinstance(content, list):
        return ""
    inner = [each["thinking"] for each in content if "thinking" in each]
    return "".join(each if isinstance(each, str) else _text(each) for each in inner)


def _mean_logprob(logprobs: Any) -> float | None:
    """Return the mean of the chosen tokens' log-probabilities; None where there are none."""
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    values = [
        float(each["logprob"])
        for each in tokens or ()
        if isinstance(each, dict) and isinstance(each.get("logprob"), (int, float))
    ]
    return sum(values) / len(values) if values else None
