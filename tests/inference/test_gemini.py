"""Google's Gemini API, as its reference tells it, on the tests' own server."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from pixano_cli.inference import get_provider
from pixano_cli.inference.check import SHAPES, SIZE, check_provider
from pixano_cli.inference.errors import InferenceError, InvalidRequestError, ModelNotFoundError
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.providers.gemini import GeminiProvider
from pixano_cli.inference.types import InferenceTask, ModelInfo, UsageInfo

from .chats import boxes, caption, convention, detect
from .own_server import OwnServer, Reply, answer, own_server
from .remote import KEY, ask, png
from .test_conventions import written

MODEL = "gemini-2.5-flash"
GENERATE = f"/v1beta/models/{MODEL}:generateContent"
COUNTS = {
    "promptTokenCount": 263,
    "candidatesTokenCount": 5,
    "thoughtsTokenCount": 20,
    "totalTokenCount": 288,
}
USAGE = {"prompt_tokens": 263, "completion_tokens": 25, "total_tokens": 288}
SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_server() as own:
        yield own


def generated(*parts: Any, finish: str = "STOP", **candidate: Any) -> Reply:
    pieces = [{"text": part} if isinstance(part, str) else part for part in parts]
    best = {"content": {"role": "model", "parts": pieces}, "finishReason": finish, **candidate}
    return answer({"candidates": [best], "usageMetadata": COUNTS, "modelVersion": f"{MODEL}-001"})


def refusal(said: str, status: int = 400) -> Reply:
    error = {"code": status, "message": said, "status": "INVALID_ARGUMENT"}
    return answer({"error": error}, status)


def ask_gemini(own: OwnServer, question: Any = None, **options: Any) -> Any:
    question = question or (lambda provider: caption(provider, model=MODEL))
    return ask("gemini", own.url, question, **options)


def test_a_text_about_an_image(server: OwnServer) -> None:
    thought = {"text": "Ears.", "thought": True}
    server.on(GENERATE, generated(thought, "A ", "cat.\n", avgLogprobs=-0.25))
    talk = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "What?"}]
    result = ask_gemini(
        server,
        lambda provider: caption(provider, talk, MODEL, max_new_tokens=9, temperature=0.5, seed=4),
    )
    assert result.data.generated_text == "A cat."
    assert result.data.usage == UsageInfo(263, 25, 288)
    assert result.metadata == {
        "usage": USAGE,
        "model": f"{MODEL}-001",
        "reasoning": "Ears.",
        "logprobs": -0.25,
        "finish_reason": "stop",
    }
    [asked] = server.asked

    image = {"mimeType": "image/png", "data": base64.b64encode(png()).decode()}
    assert asked.body == {
        "systemInstruction": {"parts": [{"text": "Be short."}]},
        "contents": [{"role": "user", "parts": [{"inlineData": image}, {"text": "What?"}]}],
        "generationConfig": {"maxOutputTokens": 9, "temperature": 0.5, "seed": 4},
    }


def test_the_key_is_in_its_header_and_nowhere_else(server: OwnServer) -> None:
    server.on(GENERATE, generated("A cat."))
    server.on("/v1beta/models?pageSize=1000", answer({"models": []}))

    async def question(provider: InferenceProvider) -> None:
        await caption(provider, model=MODEL)
        await provider.list_models()

    ask_gemini(server, question)
    assert len(server.asked) == 2
    for asked in server.asked:
        headers = {name.lower(): value for name, value in asked.headers.items()}
        assert headers["x-goog-api-key"] == KEY
        assert "authorization" not in headers
        assert KEY not in asked.path + json.dumps(asked.body)


def test_models_on_pages(server: OwnServer) -> None:
    def models(*names: str, **more: str) -> Reply:
        listed = [
            {"name": f"models/{name}", "supportedGenerationMethods": ["generateContent"]}
            for name in names
        ]
        embedder = {"name": "models/embedder", "supportedGenerationMethods": ["embedContent"]}
        return answer({"models": [*listed, embedder], **more})

    server.on("/v1beta/models?pageSize=1000", models("a", nextPageToken="p=2&x"))
    server.on("/v1beta/models?pageSize=1000&pageToken=p%3D2%26x", models("b"))

    async def question(provider: InferenceProvider) -> None:
        expected = [ModelInfo(name, "", None, None, "gemini") for name in ("a", "b")]
        assert await provider.list_models() == expected
        assert await provider.list_models(InferenceTask.OBJECT_DETECTION) == expected
        assert (await provider.get_server_info()).models == ["a", "b"]
        with pytest.raises(ModelNotFoundError, match="no model 'c': known: a, b"):
            await provider.describe_model("c")
        with pytest.raises(ModelNotFoundError, match="no model 'c': known: a, b"):
            await caption(provider, model="c")

    ask_gemini(server, question)


def test_pages_without_end(server: OwnServer) -> None:
    endless = answer({"models": [], "nextPageToken": "x"})
    server.on("/v1beta/models?pageSize=1000", endless)
    server.on("/v1beta/models?pageSize=1000&pageToken=x", endless)
    with pytest.raises(InferenceError, match="goes on after 50 pages"):
        ask_gemini(server, lambda provider: provider.list_models())


def test_structure(server: OwnServer) -> None:
    server.on(
        GENERATE,
        generated('{"label": "cat"}'),
        refusal("Unknown name \"responseJsonSchema\" at 'generation_config': Cannot find field."),
        generated('```json\n{"label": "dog"}\n```'),
        generated("A cow."),
        generated('{"label": "cow"}'),
    )

    async def question(provider: InferenceProvider) -> list[Any]:
        results = [await caption(provider, model=MODEL, schema=SCHEMA) for _ in range(3)]
        assert results[2].metadata["usage"]["total_tokens"] == 2 * 288
        return [json.loads(result.data.generated_text)["label"] for result in results]

    assert ask_gemini(server, question) == ["cat", "dog", "cow"]
    configs = [asked.body["generationConfig"] for asked in server.asked]
    shaped = {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}
    for config, wanted in zip(configs, [shaped, shaped, {}, {}, {}], strict=True):
        assert {name: each for name, each in config.items() if "response" in name} == wanted
    assert [each["role"] for each in server.asked[-1].body["contents"]] == ["user", "model", "user"]


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (
            answer({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": COUNTS}),
            r"refuses to answer: its server blocks the request \(SAFETY\)",
        ),
        (generated(finish="IMAGE_SAFETY"), r"its server stopped the answer \(IMAGE_SAFETY\)"),
        (generated("A c", finish="RECITATION"), r"stopped the answer \(RECITATION\)"),
        (
            generated(finish="PROHIBITED_CONTENT", finishMessage="Not that."),
            r"stopped the answer \(Not that.\)",
        ),
        (
            generated({"text": "Ears", "thought": True}, finish="MAX_TOKENS"),
            "has used all of its 100 tokens for reasoning",
        ),
        (generated(finish="MALFORMED_FUNCTION_CALL"), "ended with 'malformed_function_call'"),
        (generated(), "gives an empty answer"),
    ],
)
def test_answers_that_are_none(server: OwnServer, reply: Reply, told: str) -> None:
    server.on(GENERATE, reply)
    with pytest.raises(InferenceError, match=told) as raised:
        ask_gemini(server)
    assert "candidatesTokenCount" not in str(raised.value)
    assert raised.value.usage == {**USAGE}
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (answer({}), "no candidates"),
        (answer({"candidates": [{"content": "A cat."}]}), "candidates.0.content"),
        (answer([]), "valid dictionary"),
    ],
)
def test_wrong_shapes(server: OwnServer, reply: Reply, told: str) -> None:
    server.on(GENERATE, reply)
    with pytest.raises(InferenceError, match=f"otherwise than documented .*{told}"):
        ask_gemini(server)


def test_refusals(server: OwnServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.on(GENERATE, refusal("API key not valid. Please pass a valid API key."))
    with pytest.raises(InvalidRequestError, match=r"refuses the API key .*check GEMINI_API_KEY"):
        ask_gemini(server)
    server.on(GENERATE, refusal("Unable to process input image."))
    with pytest.raises(InvalidRequestError, match=r"refuses the request \(400: Unable to process"):
        ask_gemini(server)
    monkeypatch.delenv("GEMINI_API_KEY")
    server.on(GENERATE, refusal("Method doesn't allow unregistered callers", 403))
    with pytest.raises(InvalidRequestError, match=r"wants an API key .*: set GEMINI_API_KEY"):
        ask_gemini(server)


@pytest.mark.parametrize("model", ["", "../secret", "a/../b", "a?key=x", "a b", "/a", "a//b"])
def test_a_name_is_no_path(server: OwnServer, model: str) -> None:
    with pytest.raises(InvalidRequestError, match="can be no name of a Gemini model"):
        ask_gemini(server, lambda provider: caption(provider, model=model))
    assert server.asked == []


def test_a_name_may_be_written_in_full(server: OwnServer) -> None:
    server.on(GENERATE, generated("A cat."))
    ask_gemini(server, lambda provider: caption(provider, model=f"models/{MODEL}"))
    assert server.paths() == [GENERATE]


def test_boxes_are_y_first_in_thousandths(server: OwnServer) -> None:
    server.on(f"/v1beta/models/{MODEL}", answer({"name": f"models/{MODEL}"}))
    server.on(GENERATE, generated(boxes(("cat", (250, 100, 750, 500)), key="box_2d")))

    async def question(provider: InferenceProvider) -> None:
        described = await provider.describe_model(MODEL, InferenceTask.OBJECT_DETECTION)
        assert described.parameters == {"boxes": "yxyx-thousand", "grounding": 1}
        result = await detect(provider, MODEL)
        assert result.data.boxes == [[6, 10, 30, 30]]

    ask_gemini(server, question)
    assert '"box_2d": [y_min, x_min, y_max, x_max]' in str(server.asked[-1].body)


def test_a_check_finds_what_a_proxy_mixed_up(server: OwnServer) -> None:
    given = [
        (name, written(convention("xyxy-unit"), box, SIZE, SIZE)) for name, box in SHAPES.items()
    ]
    server.on(GENERATE, generated(boxes(*given, key="box_2d")))
    report = ask_gemini(server, lambda provider: check_provider(provider, MODEL))
    assert (report.used, report.found, report.is_good) == ("yxyx-thousand", "xyxy-unit", False)
    assert report.usage == USAGE


def test_the_address_by_default() -> None:
    provider = get_provider("gemini")
    assert isinstance(provider, GeminiProvider)
    assert provider._server.url == "https://generativelanguage.googleapis.com/v1beta"
    assert KEY not in repr(vars(provider)) + repr(vars(provider._server))
