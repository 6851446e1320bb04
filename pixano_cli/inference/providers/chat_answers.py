"""What a model says: the answer apart from its reasoning, and the JSON in it.

Nothing is guessed into an answer: what breaks off or cannot be read is an error, never less.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pixano_cli.inference.errors import InferenceError
from pixano_cli.inference.providers.chat_schema import check

Usage = Mapping[str, int]
"""Tokens by the names of `UsageInfo`; empty where a server does not tell."""

USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")
"""The names of a usage."""

LENGTH = "length"
"""Why an answer ends that is cut off."""

_THOUGHT = re.compile(r"\s*<(think|thinking|thought|reasoning)>(.*?)</\1>", re.DOTALL)
_OPEN_THOUGHT = re.compile(r"\s*<(?:think|thinking|thought|reasoning)>", re.DOTALL)
_END_OF_THOUGHT = re.compile(r"^(.*?)</(?:think|thinking|thought|reasoning)>", re.DOTALL)
_BEGIN = re.compile(r"[\[{]")


@dataclass(frozen=True, slots=True)
class Said:
    """What a model answered.

    Attributes:
        where: Address of what was asked, for errors.
        text: The answer, without its reasoning.
        reasoning: What it says to itself before; empty if it does not, or keeps it.
        finish: Why the answer ends: "stop", "length" where it is cut off, else a server's word.
        refusal: Why the model, or its server, does not answer; empty if it does.
        usage: Tokens that were used.
        logprob: Mean log-probability of the answer's tokens; None where it is not told.
        model: What the server calls the model; empty where it does not tell.
        seconds: Time that the answer took.
    """

    where: str
    text: str
    reasoning: str = ""
    finish: str = ""
    refusal: str = ""
    usage: Usage = field(default_factory=dict)
    logprob: float | None = None
    model: str = ""
    seconds: float = 0.0


class UnreadableError(ValueError):
    """An answer is not what was asked for; the model may do better when told so."""


def usage_of(prompt: Any, completion: Any, total: Any = None) -> Usage:
    """Return the usage that a server reports; empty if it does not report one."""
    if not _is_count(prompt) or not _is_count(completion):
        return {}
    whole = total if _is_count(total) else prompt + completion
    return dict(zip(USAGE, (prompt, completion, whole), strict=True))


def summed(first: Usage | None, second: Usage | None) -> Usage:
    """Return the usage of two answers together."""
    if not first or not second:
        return dict(first or second or {})
    return {name: first[name] + second[name] for name in USAGE}


def apart(text: str) -> tuple[str, str]:
    """Return an answer without the reasoning that it begins with, and the reasoning.

    Understands `<think>...</think>` and its like, also where the first half is missing, which
    chat templates put into the prompt; what is not closed is reasoning to its end.
    """
    thoughts = []
    while match := _THOUGHT.match(text):
        thoughts.append(match[2].strip())
        text = text[match.end() :]
    if match := _OPEN_THOUGHT.match(text):
        thoughts.append(text[match.end() :].strip())
        text = ""
    elif not thoughts and (match := _END_OF_THOUGHT.match(text)):
        thoughts.append(match[1].strip())
        text = text[match.end() :]
    return text.strip(), "\n".join(filter(None, thoughts))


def check_said(said: Said, asked_tokens: int) -> None:
    """Check that there is an answer.

    Raises:
        InferenceError: If there is none, with the reason and the usage.
    """
    if said.refusal:
        raise failure(said, f"refuses to answer: {one_line(said.refusal)}")
    if said.text:
        return
    if said.finish == LENGTH:
        what = "reasoning" if said.reasoning else "nothing that can be read"
        raise failure(
            said, f"has used all of its {asked_tokens} tokens for {what}: allow more new tokens"
        )
    ended = f" (it ended with {one_line(said.finish)!r})" if said.finish not in ("", "stop") else ""
    raise failure(said, f"gives an empty answer{ended}: try again, or choose another model")


def failure(said: Said, what: str) -> InferenceError:
    """Return the error for an answer that is of no use, with what it has cost."""
    error = InferenceError(f"the model at {said.where} {what}")
    error.usage = said.usage or None
    return error


def one_line(text: str, limit: int = 200) -> str:
    """Return text of a model as one short line of visible characters."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def find_json(text: str) -> list[Any]:
    """Return the JSON values, objects and arrays, that stand in a text, in order.

    Whatever stands between them is passed over: explanations, code fences.

    Raises:
        UnreadableError: If one breaks off at the end of the text, or something that is to be an
            object is none.
    """
    decoder = json.JSONDecoder(parse_constant=_no_number)
    values, at = [], 0
    while match := _BEGIN.search(text, at):
        start = match.start()
        try:
            value, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = _end(text, start)
            if end is None:
                raise UnreadableError("it breaks off in the middle of its JSON") from None
            if match[0] == "{" or '"' in text[start:end]:
                raise UnreadableError(
                    f"{one_line(text[start:end], 60)!r} is not valid JSON"
                ) from None
            at = end
        else:
            values.append(value)
    return values


def read_json(text: str, schema: Mapping[str, Any]) -> Any:
    """Return the one value of an answer that has the shape of a schema, the last if several have.

    Raises:
        UnreadableError: If none has.
    """
    try:
        values = [json.loads(text, parse_constant=_no_number)]
    except (ValueError, RecursionError):
        values = find_json(text)
    if not values:
        raise UnreadableError("it has no JSON")
    fault: ValueError | None = None
    for value in reversed(values):
        try:
            check(value, schema)
        except ValueError as error:
            fault = fault or error
        else:
            return value
    raise UnreadableError(str(fault))


def _end(text: str, start: int) -> int | None:
    """Return where the brackets that open at `start` are closed; None if they are not."""
    depth, at, in_string = 0, start, False
    while at < len(text):
        each = text[at]
        if in_string:
            if each == "\\":
                at += 1
            elif each == '"':
                in_string = False
        elif each == '"':
            in_string = True
        elif each in "[{":
            depth += 1
        elif each in "]}":
            depth -= 1
            if not depth:
                return at + 1
        at += 1
    return None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
