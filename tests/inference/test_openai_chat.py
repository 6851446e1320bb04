"""Text and structured answers from servers with OpenAI's API, on the tests' own server."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pixano_cli.inference.errors import (
    InferenceError,
    InferenceTimeoutError,
    InvalidRequestError,
    ModelNotFoundError,
)
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.types import InferenceTask, TextImageConditionalGenerationInput, UsageInfo
from pixano_cli.media import flight
from pixano_cli.media.decode import decode_image

from .chats import CHAT, TWICE, USAGE, caption, completion, refusal
from .own_server import OwnServer, Reply, after, answer, own_server
from .remote import KEY, ask, data_url, png

CHELSEA = Path(__file__).parents[2] / "sample_data" / "chelsea.png"
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string"}},
    "required": ["label"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "VLLM_API_KEY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_server() as own:
        yield own


def error_of(own: OwnServer, **options: Any) -> InferenceError:
    with pytest.raises(InferenceError) as raised:
        ask("openai", own.url, lambda provider: caption(provider, **options))
    assert "\n" not in str(raised.value)
    return raised.value


def test_a_text_about_an_image(server: OwnServer) -> None:
    logprobs = {"content": [{"token": "A", "logprob": -0.5}, {"token": " cat.", "logprob": -1.5}]}
    server.on(CHAT, completion(" A cat.\n", logprobs=logprobs))
    result = ask(
        "openai",
        server.url,
        lambda provider: caption(provider, max_new_tokens=7, temperature=0.5, seed=3),
    )
    assert result.data.generated_text == "A cat."
    assert result.data.usage == UsageInfo(10, 5, 15)
    assert result.data.generation_config == {"max_new_tokens": 7, "temperature": 0.5, "seed": 3}
    assert result.metadata == {
        "usage": USAGE,
        "model": "m-1",
        "logprobs": -1.0,
        "finish_reason": "stop",
    }
    assert 0 < result.processing_time < 10
    [asked] = server.asked
    image = {"type": "image_url", "image_url": {"url": data_url(png())}}
    assert asked.body == {
        "model": "m",
        "messages": [{"role": "user", "content": [image, {"type": "text", "text": "What?"}]}],
        "max_tokens": 7,
        "temperature": 0.5,
        "logprobs": True,
        "seed": 3,
    }


def test_the_published_request_does(server: OwnServer) -> None:
    server.on(CHAT, completion())
    request = TextImageConditionalGenerationInput(
        "m", [{"role": "system", "content": "Short."}, {"role": "user", "content": "Hello?"}]
    )
    ask("vllm", server.url, lambda each: each.text_image_conditional_generation(request))
    assert server.asked[0].body["messages"] == [
        {"role": "system", "content": "Short."},
        {"role": "user", "content": "Hello?"},
    ]
    assert "seed" not in server.asked[0].body


def test_images_of_files_are_scaled_down(server: OwnServer) -> None:
    server.on(CHAT, completion())
    images = [flight.url_of(CHELSEA), str(CHELSEA), CHELSEA]
    ask("openai", server.url, lambda each: caption(each, images=images), max_side=64)
    parts = server.asked[0].body["messages"][0]["content"]
    urls = {part["image_url"]["url"] for part in parts[:3]}
    assert [decode_image(flight.read_url(url)).shape for url in urls] == [(43, 64, 3)]


@pytest.mark.parametrize(
    ("reply", "reasoning"),
    [
        (completion("<think>Ears.</think>\nA cat."), "Ears."),
        (completion("A cat.", reasoning_content="Ears."), "Ears."),
        (completion("A cat.", reasoning=" Ears. "), "Ears."),
        (
            completion(
                [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "Ears."}]},
                    {"type": "text", "text": "A cat."},
                ]
            ),
            "Ears.",
        ),
        (completion("A cat.", reasoning_content=None), None),
    ],
)
def test_reasoning_is_no_part_of_the_answer(
    server: OwnServer, reply: Reply, reasoning: str | None
) -> None:
    server.on(CHAT, reply)
    result = ask("openai", server.url, caption)
    assert result.data.generated_text == "A cat."
    assert result.metadata.get("reasoning") == reasoning


def test_a_server_that_tells_nothing_else(server: OwnServer) -> None:
    server.on(CHAT, answer({"choices": [{"message": {"content": "A cat."}}]}))
    result = ask("openai", server.url, caption)
    assert result.metadata == {}
    assert result.data.usage == UsageInfo(0, 0, 0)


def test_refused_fields_are_left_out_and_stay_out(server: OwnServer) -> None:
    server.on(
        CHAT,
        refusal("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        refusal("You are not allowed to request logprobs from this model."),
        refusal("Unsupported value: 'temperature' does not support 1.0 with this model.", 422),
        completion(),
    )

    async def question(provider: InferenceProvider) -> None:
        for _ in range(3):
            assert (await caption(provider)).data.generated_text == "A cat."

    ask("openai", server.url, question)
    assert len(server.asked) == 6
    for asked in server.asked[3:]:
        assert set(asked.body) == {"model", "messages", "max_completion_tokens"}


def test_what_the_user_wants_is_not_left_out(server: OwnServer) -> None:
    server.on(CHAT, refusal("Unsupported value: 'temperature' does not support 0.2"))
    error = error_of(server, temperature=0.2)
    assert isinstance(error, InvalidRequestError)
    assert "'temperature' does not support 0.2" in str(error)
    assert len(server.asked) == 1


def test_refusals_side_by_side(server: OwnServer) -> None:
    def reply(handler: Any) -> None:
        asked = server.asked[-1].body
        unknown = next((name for name in ("logprobs", "max_tokens") if name in asked), None)
        if unknown is None:
            completion()(handler)
        else:
            refusal(f"unsupported parameter {unknown}")(handler)

    server.on(CHAT, after(0.02, reply))

    async def question(provider: InferenceProvider) -> list[str]:
        results = await asyncio.gather(*(caption(provider) for _ in range(8)))
        return [result.data.generated_text for result in results]

    assert ask("openai", server.url, question) == ["A cat."] * 8


@pytest.mark.parametrize("status", [400, 422])
def test_structure_by_the_server_or_else_by_the_prompt(server: OwnServer, status: int) -> None:
    server.on(
        CHAT,
        completion('{"label": "cat"}'),
        refusal("response_format json_schema is not supported", status),
        completion('Sure!\n```json\n{"label":   "dog"}\n```'),
        completion('{"label": "cow"}'),
    )

    async def question(provider: InferenceProvider) -> list[str]:
        return [(await caption(provider, schema=SCHEMA)).data.generated_text for _ in range(3)]

    texts = ask("openai", server.url, question)
    assert texts == ['{"label":"cat"}', '{"label":"dog"}', '{"label":"cow"}']
    formats = [asked.body.get("response_format") for asked in server.asked]
    wanted = {"name": "answer", "schema": SCHEMA, "strict": True}
    shaped = {"type": "json_schema", "json_schema": wanted}
    assert formats == [shaped, shaped, None, None]
    for asked in server.asked:
        assert "Answer with JSON only" in asked.body["messages"][0]["content"][-1]["text"]


@pytest.mark.parametrize(
    ("first", "fault"),
    [
        ("A cat, I think.", "it has no JSON"),
        ('{"label": 3}', "the answer.label is not of type string"),
        ('{"label": "ca', "breaks off"),
        ("<think>It is</think>{'label': 'cat'}", "is not valid JSON"),
    ],
)
def test_one_repair_and_its_price(server: OwnServer, first: str, fault: str) -> None:
    server.on(CHAT, completion(first), completion('{"label": "cat"}'))
    result = ask("openai", server.url, lambda provider: caption(provider, schema=SCHEMA))
    assert result.data.generated_text == '{"label":"cat"}'
    assert result.metadata["usage"] == TWICE
    assert result.data.usage == UsageInfo(20, 10, 30)
    asked = server.asked[1].body["messages"]
    assert [message["role"] for message in asked] == ["user", "assistant", "user"]
    assert fault in asked[2]["content"]
    assert json.dumps(SCHEMA, separators=(",", ":")) in asked[2]["content"]


def test_there_is_no_second_repair(server: OwnServer) -> None:
    server.on(CHAT, completion("A cat."))
    error = error_of(server, schema=SCHEMA)
    assert "cannot be read, also when asked again: it has no JSON" in str(error)
    assert error.usage == TWICE
    assert len(server.asked) == 2


def test_what_the_first_answer_cost_is_not_forgotten(server: OwnServer) -> None:
    server.on(CHAT, completion("A cat."), answer({"error": "out of memory"}, 500))
    error = error_of(server, schema=SCHEMA)
    assert "out of memory" in str(error)
    assert error.usage == USAGE
    server.on(CHAT, completion("A cat."), after(5, completion()))
    late = error_of(server, schema=SCHEMA, timeout=0.5)
    assert isinstance(late, InferenceTimeoutError)
    assert late.usage == USAGE


def test_a_cut_text_is_marked(server: OwnServer) -> None:
    server.on(CHAT, completion("A cat with", finish="length"))
    result = ask("openai", server.url, caption)
    assert result.data.generated_text == "A cat with"
    assert result.metadata["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("reply", "schema", "told"),
    [
        (completion('{"label": "ca', "length"), SCHEMA, "cut off after 100 tokens.*allow more new"),
        (completion("", "length", reasoning="Ears"), None, "all of its 100 tokens for reasoning"),
        (completion(None, "length"), None, "100 tokens for nothing that can be read"),
        (completion(""), None, "gives an empty answer: try again"),
        (completion("<think>Ears.</think>"), None, "gives an empty answer"),
        (completion(None, refusal="I can't."), SCHEMA, "refuses to answer: I can't"),
        (completion("", "content_filter"), None, "content filter stopped"),
    ],
)
def test_answers_that_are_none(server: OwnServer, reply: Reply, schema: Any, told: str) -> None:
    server.on(CHAT, reply)
    with pytest.raises(InferenceError, match=told) as raised:
        ask("openai", server.url, lambda provider: caption(provider, schema=schema))
    assert raised.value.usage == USAGE
    assert f"the model at {server.url}{CHAT}" in str(raised.value)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (answer({}), "choices: Field required"),
        (answer({"choices": []}), "at least 1 item"),
        (answer({"choices": [{"message": "A cat."}]}), "choices.0.message"),
        (answer({"choices": [{"message": {"content": 3}}]}), "choices.0.message.content"),
        (answer({"error": {"message": "overloaded"}}), "choices: Field required"),
        (answer([]), "valid dictionary"),
    ],
)
def test_wrong_shapes(server: OwnServer, reply: Reply, told: str) -> None:
    server.on(CHAT, reply)
    error = error_of(server)
    assert "answers otherwise than documented" in str(error)
    assert told in str(error)
    assert len(server.asked) == 1


def test_no_such_model_and_no_such_route(server: OwnServer) -> None:
    server.on("/v1/models", answer({"data": [{"id": "m-2"}]}))
    with pytest.raises(ModelNotFoundError, match="no model 'm': known: m-2"):
        ask("openai", server.url, caption)
    server.on("/v1/models", answer({"data": [{"id": "m"}]}))
    assert "check the URL, and that the server chats" in str(error_of(server))


def test_a_model_without_eyes(server: OwnServer) -> None:
    server.on(CHAT, refusal("this model does not accept image input"))
    assert "choose a model that sees" in str(error_of(server))


def test_a_key_is_shown_to_nobody(server: OwnServer, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    server.on(CHAT, refusal(f"bad request of {KEY}"))
    with pytest.raises(InvalidRequestError) as raised:
        ask("openai", server.url, caption, api_key_file=file)
    assert KEY not in str(raised.value)
    assert server.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in json.dumps(server.asked[0].body) + server.asked[0].path


def test_a_model_does_what_it_is_asked_for(server: OwnServer) -> None:
    server.on("/v1/models", answer({"data": [{"id": "qwen2.5-vl"}]}))

    async def question(provider: InferenceProvider) -> None:
        for task in (InferenceTask.TEXT_GENERATION, InferenceTask.MASK_GENERATION, None):
            described = await provider.describe_model("qwen2.5-vl", task)
            assert described.task is InferenceTask.TEXT_GENERATION
            assert described.parameters == {"max_side": 512}
        described = await provider.describe_model("qwen2.5-vl", InferenceTask.OBJECT_DETECTION)
        assert described.task is InferenceTask.OBJECT_DETECTION
        assert described.parameters == {"max_side": 512, "boxes": "xyxy-grid28", "grounding": 1}

    ask("openai", server.url, question, max_side=512)
    assert {asked.method for asked in server.asked} == {"GET"}


def test_tokens_a_minute_are_counted(server: OwnServer) -> None:
    server.on(CHAT, refusal("logprobs"), completion())

    async def question(provider: InferenceProvider) -> None:
        # Each is taken for 1,100 tokens before, and for 15 after.
        for _ in range(4):
            await caption(provider)

    ask("openai", server.url, question, tpm=2_500)
    assert len(server.asked) == 5
