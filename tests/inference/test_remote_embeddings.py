"""Servers with OpenAI's API, and what holds for every remote provider, on the tests' own server."""

import json
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pixano_cli.errors import ImageDecodeError, MediaReadError, UsageError
from pixano_cli.inference import get_provider
from pixano_cli.inference.embedding import EmbeddingTask
from pixano_cli.inference.errors import (
    InferenceError,
    InvalidRequestError,
    ModelNotFoundError,
    TaskNotSupportedError,
)
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.providers.openai import OpenAIProvider
from pixano_cli.inference.providers.pixano_inference import PixanoInferenceProvider
from pixano_cli.inference.types import (
    ImageMaskGenerationInput,
    InferenceTask,
    ModelConfig,
    ModelInfo,
    VideoMaskGenerationInput,
)
from pixano_cli.media import flight
from pixano_cli.media.decode import decode_image

from .own_server import OwnServer, Reply, answer, own_server, text
from .remote import KEY, ask, data_url, embed, png

CHELSEA = Path(__file__).parents[2] / "sample_data" / "chelsea.png"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "PIXANO_INFERENCE_API_KEY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_server() as own:
        yield own


def openai_error(own: OwnServer, **options: Any) -> InferenceError:
    with pytest.raises(InferenceError) as raised:
        ask("openai", own.url, embed, **options)
    assert own.url in str(raised.value)
    return raised.value


VECTOR = {"data": [{"index": 0, "embedding": [0.5, -1, 2e-3]}], "model": "m-1", "object": "list"}


def test_image_is_put_as_a_conversation_first(server: OwnServer) -> None:
    usage = {"prompt_tokens": 7, "total_tokens": 7, "other": "x"}
    server.on("/v1/embeddings", answer({**VECTOR, "usage": usage}))
    image = png()
    result = ask("openai", server.url, lambda provider: embed(provider, "m", data_url(image)))
    assert result.data.embedding == [0.5, -1.0, 0.002]
    assert result.metadata == {
        "model": "m-1",
        "form": "chat",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    assert result.status == "SUCCESS"
    assert result.id
    assert 0 < result.processing_time < 10
    [asked] = server.asked
    part = {"type": "image_url", "image_url": {"url": data_url(image)}}
    assert asked.body == {
        "model": "m",
        "messages": [{"role": "user", "content": [part]}],
        "encoding_format": "float",
    }


@pytest.mark.parametrize("status", [400, 422])
def test_another_form_is_tried_once_and_kept_to(server: OwnServer, status: int) -> None:
    refusal = answer({"error": {"message": "input is missing"}}, status)
    server.on("/v1/embeddings", refusal, answer(VECTOR))

    async def question(provider: InferenceProvider) -> list[str]:
        return [(await embed(provider)).metadata["form"] for _ in range(3)]

    assert ask("openai", server.url, question) == ["input"] * 3
    forms = ["chat" if "messages" in asked.body else "input" for asked in server.asked]
    assert forms == ["chat", "input", "input", "input"]
    assert server.asked[1].body == {"model": "m", "input": [{"image": data_url(png())}]}


def test_a_form_that_works_is_not_given_up_for_one_image(server: OwnServer) -> None:
    refusal = answer({"error": {"message": "cannot identify image"}}, 400)
    server.on("/v1/embeddings", answer(VECTOR), refusal, answer(VECTOR))

    async def question(provider: InferenceProvider) -> None:
        await embed(provider)
        with pytest.raises(InvalidRequestError, match=r"refuses the image \(400: cannot identify"):
            await embed(provider)
        await embed(provider)

    ask("openai", server.url, question)
    assert all("messages" in asked.body for asked in server.asked)
    assert len(server.asked) == 3


def test_a_server_that_embeds_text_only(server: OwnServer) -> None:
    server.on(
        "/v1/embeddings",
        answer({"error": {"message": "Unrecognized request argument: messages"}}, 400),
        answer({"error": {"message": "'$.input' is invalid"}}, 400),
    )
    error = openai_error(server)
    assert isinstance(error, InvalidRequestError)
    assert str(error) == (
        f"{server.url}/v1/embeddings takes no image for model 'm' (400: Unrecognized request "
        "argument: messages; 400: '$.input' is invalid): choose a model that embeds images"
    )
    assert len(server.asked) == 2


def test_openai_models(server: OwnServer) -> None:
    models = [{"id": "clip", "object": "model", "owned_by": "us"}, {"id": "chat"}]
    server.on("/v1/models", answer({"object": "list", "data": models}))

    async def question(provider: InferenceProvider) -> None:
        listed = [
            ModelInfo("clip", "", None, "us", "openai"),
            ModelInfo("chat", "", None, None, "openai"),
        ]
        assert await provider.list_models() == listed
        assert await provider.list_models(InferenceTask.TEXT_GENERATION) == listed
        described = await provider.describe_model("clip", EmbeddingTask.IMAGE_EMBEDDING)
        assert (described.name, described.task) == ("clip", EmbeddingTask.IMAGE_EMBEDDING)
        assert (described.digest, described.embedding_size) == ("", None)
        with pytest.raises(ModelNotFoundError, match=r"no model 'clap': did you mean 'clip'\?"):
            await provider.describe_model("clap")
        info = await provider.get_server_info()
        assert (info.app_name, info.models) == (f"{server.url}/v1", ["clip", "chat"])
        assert (await provider.get_capabilities()).tasks == [
            InferenceTask.TEXT_GENERATION,
            InferenceTask.OBJECT_DETECTION,
        ]

    ask("openai", server.url, question)


def test_a_server_that_lists_no_models_is_believed(server: OwnServer) -> None:
    server.on("/api/embeddings", answer(VECTOR))

    async def question(provider: InferenceProvider) -> None:
        assert (await provider.describe_model("any")).name == "any"
        assert await provider.list_models() == []
        assert (await embed(provider, "any")).data.embedding[0] == 0.5

    ask("openai", f"{server.url}/api", question)


def test_an_unknown_model_and_an_unknown_address(server: OwnServer) -> None:
    server.on("/v1/models", answer({"data": [{"id": "clip"}]}))
    with pytest.raises(ModelNotFoundError, match="no model 'm': known: clip"):
        ask("openai", server.url, embed)
    with pytest.raises(InvalidRequestError, match=r"is not there for model 'clip' \(404: Not F"):
        ask("openai", server.url, lambda provider: embed(provider, "clip"))


def vectors(*embeddings: Any) -> Reply:
    return answer({"data": [{"embedding": each} for each in embeddings]})


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (answer({}), "data: Field required"),
        (answer([]), "valid dictionary"),
        (answer(None), "valid dictionary"),
        (answer({"data": []}), "at least 1 item"),
        (vectors([1.0], [1.0]), "at most 1 item"),
        (vectors([]), "data.0.embedding: List should have at least 1 item"),
        (vectors([[1.0, 2.0]]), "data.0.embedding.0: Input should be a valid number"),
        (vectors(["1.0"]), "valid number"),
        (vectors([True]), "valid number"),
        (vectors([None]), "valid number"),
        (vectors("AAAAAA=="), "valid list"),
        (text('{"data": [{"embedding": [1e999]}]}'), "answers"),
        (text('{"data": [{"embedding": [NaN]}]}'), "not JSON"),
        (vectors([0.0] * 65_537), "at most 65536 items"),
    ],
)
def test_what_is_no_vector(server: OwnServer, reply: Reply, told: str) -> None:
    server.on("/v1/embeddings", reply)
    error = openai_error(server)
    assert type(error) is InferenceError
    assert told in str(error)
    assert len(server.asked) == 1


def test_openai_faults_and_keys(server: OwnServer, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    server.on(
        "/v1/embeddings",
        answer({}, 429, Retry_After="0"),
        answer({}, 503),
        answer({"error": {"message": f"Incorrect API key: {KEY}"}}, 401),
    )
    error = openai_error(server, api_key_file=file)
    assert isinstance(error, InvalidRequestError)
    assert "refuses the API key of the file" in str(error)
    assert KEY not in str(error)
    assert [asked.headers["Authorization"] for asked in server.asked] == [f"Bearer {KEY}"] * 3
    assert not any(KEY in json.dumps(asked.body) for asked in server.asked)


def test_key_of_the_environment(server: OwnServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.on("/v1/embeddings", answer(VECTOR))
    provider = OpenAIProvider(server.url)
    assert KEY not in repr(vars(provider)) + repr(vars(provider._server))
    ask("openai", server.url, embed)
    assert server.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    monkeypatch.delenv("OPENAI_API_KEY")
    server.on("/v1/embeddings", answer({"detail": "who?"}, 401))
    assert "wants an API key (401: who?): set OPENAI_API_KEY" in str(openai_error(server))


# Both


def test_what_no_chat_does_is_said() -> None:
    async def question(provider: InferenceProvider) -> None:
        asked: list[Awaitable[object]] = [
            provider.image_mask_generation(ImageMaskGenerationInput("x", "m")),
            provider.video_mask_generation(VideoMaskGenerationInput(["x"], "m", [], [])),
        ]
        for each in asked:
            with pytest.raises(
                TaskNotSupportedError, match="provider 'openai' gives no "
            ) as raised:
                await each
            assert "use another with --provider" in str(raised.value)
        for deployed in (
            provider.instantiate_model("sam2", ModelConfig("m", "")),
            provider.delete_model("m"),
        ):
            with pytest.raises(TaskNotSupportedError, match="managed by the server administrator"):
                await deployed

    ask("openai", "http://127.0.0.1:1", question)


@pytest.mark.parametrize("name", ["openai", "pixano-inference"])
@pytest.mark.parametrize(
    "options",
    [{"concurrency": 0}, {"max_side": 0}, {"url": "nowhere"}, {"api_key_file": "/none"}],
)
def test_options_are_checked(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        get_provider(name, **options)
    with pytest.raises(UsageError, match="unexpected keyword argument 'device'"):
        get_provider(name, device="cuda")


def test_addresses_by_default() -> None:
    assert OpenAIProvider()._server.url == "https://api.openai.com/v1"
    assert OpenAIProvider("http://h:8000/")._server.url == "http://h:8000/v1"
    assert OpenAIProvider("http://h:8000/openai")._server.url == "http://h:8000/openai"
    assert PixanoInferenceProvider()._server.url == "http://127.0.0.1:7463"


@pytest.mark.parametrize("name", ["openai", "pixano-inference"])
def test_images_that_cannot_be_sent(server: OwnServer, name: str, tmp_path: Path) -> None:
    server.on("/v1/info", answer({"appVersion": "0.7.1"}))

    async def question(provider: InferenceProvider) -> None:
        with pytest.raises(ImageDecodeError):
            await embed(provider, image=data_url(b"no image"))
        with pytest.raises(MediaReadError, match="no such file"):
            await embed(provider, image=flight.url_of(tmp_path / "none.jpg"))
        with pytest.raises(MediaReadError, match="only file:// and data:"):
            await embed(provider, image="http://example.com/1.jpg")

    ask(name, server.url, question)
    assert "POST" not in [asked.method for asked in server.asked]


def test_max_side_reaches_the_server(server: OwnServer) -> None:
    server.on("/v1/embeddings", answer(VECTOR))
    image = flight.url_of(CHELSEA)
    ask("openai", server.url, lambda provider: embed(provider, "m", image), max_side=64)
    url = server.asked[0].body["messages"][0]["content"][0]["image_url"]["url"]
    assert decode_image(flight.read_url(url)).shape == (43, 64, 3)


def test_a_held_file_is_not_read_again(server: OwnServer, tmp_path: Path) -> None:
    server.on("/v1/embeddings", answer(VECTOR))
    url = flight.url_of(tmp_path / "gone.png")
    with flight.hold(url, png()):
        ask("openai", server.url, lambda provider: embed(provider, "m", url))
    part = server.asked[0].body["messages"][0]["content"][0]
    assert part["image_url"]["url"] == data_url(png())
