"""Answers that a model should not give, and how long it may take to give a better one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pixano_cli.inference.errors import InferenceError
from pixano_cli.inference.generation import GenerationInput
from pixano_cli.inference.providers.chat import Asked
from pixano_cli.inference.providers.chat_answers import Said, UnreadableError
from pixano_cli.inference.providers.grounding import read_boxes
from pixano_cli.inference.providers.openai import OpenAIProvider

HUGE = "1" + "0" * 400
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


class Talker(OpenAIProvider):
    """A model that says one thing after the other, and waits before the first for its turn."""

    def __init__(self, *texts: str, turn: float = 0.0) -> None:
        super().__init__("http://127.0.0.1:9")
        self.texts = list(texts)
        self.turn = turn
        self.limits: list[float] = []

    async def _say(self, asked: Asked, timeout: float) -> Said:
        self.limits.append(timeout)
        if len(self.limits) == 1:
            await asyncio.sleep(self.turn)
        return Said("there", self.texts.pop(0), usage=USAGE, seconds=0.25)


def generated(provider: Talker, schema: dict[str, Any], timeout: float = 10.0) -> Any:
    request = GenerationInput("m", "Count.", schema=schema)
    return asyncio.run(provider.text_image_conditional_generation(request, timeout))


@pytest.mark.parametrize(
    "entry",
    [
        f'{{"label": "cat", "bbox_2d": [1, 2, 3, {HUGE}]}}',
        '{"label": "\\ud83d", "bbox_2d": [1, 2, 3, 4]}',
    ],
    ids=["number", "half a character"],
)
def test_what_cannot_be_kept_is_unreadable(entry: str) -> None:
    with pytest.raises(UnreadableError):
        read_boxes(f'{{"objects": [{entry}]}}')


def test_a_score_that_is_no_number_is_none() -> None:
    [found] = read_boxes(f'[{{"label": "cat", "bbox_2d": [1, 2, 3, 4], "score": {HUGE}}}]')
    assert found.score == 1.0


@pytest.mark.parametrize("text", [HUGE, '"\\ud83d"'], ids=["number", "half a character"])
def test_json_that_cannot_be_written_is_asked_for_again(text: str) -> None:
    provider = Talker(text, "[1]")
    result = generated(provider, {"type": ["integer", "string", "array"]})
    assert result.data.generated_text == "[1]"
    provider = Talker(text, text)
    with pytest.raises(InferenceError, match="cannot be read, also when asked again") as raised:
        generated(provider, {"type": ["integer", "string", "array"]})
    assert raised.value.usage == {name: 2 * count for name, count in USAGE.items()}


def test_waiting_for_a_turn_takes_no_time_from_the_second_answer() -> None:
    provider = Talker("no JSON", "[1]", turn=0.3)
    generated(provider, {"type": "array"}, timeout=0.5)
    assert provider.limits == [0.5, 0.25]
