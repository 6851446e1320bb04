"""Pixano Inference of every generation, as the tests' own server speaks it."""

import base64
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pixano_inference.schemas.nd_array import NDArrayFloat

from pixano_cli.inference.embedding import EmbeddingTask, ImageEmbeddingResult
from pixano_cli.inference.errors import (
    InferenceError,
    InvalidRequestError,
    ModelNotFoundError,
    TaskNotSupportedError,
)
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.providers.pixano_inference import PixanoInferenceProvider
from pixano_cli.inference.types import InferenceTask, ModelInfo

from .own_server import OwnServer, answer, own_server
from .remote import ask, data_url, embed, png

T = TypeVar("T")


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "PIXANO_INFERENCE_API_KEY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_server() as own:
        yield own


INFO = {"appName": "Pixano Inference", "appVersion": "0.7.1", "numCpus": None, "numGpus": 0}
MODELS = [
    {
        "name": "clip",
        "capability": "embedding",
        "modelClass": "Clip",
        "modelPath": "openai/clip",
        "status": "RUNNING",
        "interface": {"capability": "embedding", "modalities": ["image", "text"], "dim": 3},
    },
    {"name": "dino", "capability": "detection", "status": "RUNNING", "interface": None},
    {
        "name": "words",
        "capability": "embedding",
        "status": "RUNNING",
        "interface": {"capability": "embedding", "modalities": ["text"], "dim": None},
    },
    {"name": "names", "capability": "ner", "status": "RUNNING"},
]


def speak_g5(own: OwnServer, version: str = "0.7.1") -> None:
    own.on("/v1/info", answer({**INFO, "appVersion": version}))
    own.on("/v1/models", answer(MODELS))


def envelope(shape: list[int], vector: bytes, dim: int, **others: Any) -> dict[str, Any]:
    array = {"shape": shape, "dtype": "float32", "data": base64.b64encode(vector).decode()}
    whole = {
        "id": "ray-1",
        "status": "SUCCESS",
        "timestamp": "2026-11-21T12:08:42.011579Z",
        "processingTime": 0.25,
        "metadata": {"model_name": "clip"},
        "data": {"embeddings": array, "dim": dim},
    }
    return whole | others


def pixano(
    own: OwnServer, question: Callable[[InferenceProvider], Awaitable[T]], **options: Any
) -> T:
    return ask("pixano-inference", own.url, question, **options)


@pytest.mark.parametrize(
    ("version", "generation"), [("0.6.0", "G4"), ("0.7.0", "G5"), ("1.0", "G5"), ("unknown", "G5")]
)
def test_embedding_of_a_pixano_inference_server(
    server: OwnServer, version: str, generation: str
) -> None:
    speak_g5(server, version)
    vector = np.array([0.1, -2.5, 3e-8], np.float32)
    server.on("/v1/inference/embedding", answer(envelope([1, 3], vector.tobytes(), 3)))

    async def question(provider: InferenceProvider) -> ImageEmbeddingResult:
        await embed(provider, "clip")
        assert isinstance(provider, PixanoInferenceProvider)
        assert (await provider._pixano.dialect()).generation.name == generation
        return await embed(provider, "clip")

    result = pixano(server, question)
    assert result.data.embedding == [float(each) for each in vector]
    assert (result.id, result.status, result.processing_time) == ("ray-1", "SUCCESS", 0.25)
    assert result.timestamp.isoformat() == "2026-11-21T12:08:42.011579+00:00"
    assert result.metadata == {"model_name": "clip"}
    assert server.paths() == ["/v1/info", *["/v1/inference/embedding"] * 2]
    assert server.asked[1].body == {"model": "clip", "image": data_url(png()), "normalize": False}


@given(
    arrays(
        np.float32,
        st.integers(1, 40),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
@settings(max_examples=15)
def test_vectors_are_read_as_pixano_inference_writes_them(vector: Any) -> None:
    written = NDArrayFloat.from_numpy(vector[None]).model_dump()
    data = {"embeddings": written, "dim": len(vector)}
    with own_server() as own:
        speak_g5(own)
        own.on("/v1/inference/embedding", answer({**envelope([1, 1], b"", 1), "data": data}))
        result = pixano(own, embed)
    assert np.array_equal(np.asarray(result.data.embedding, np.float32), vector)


FOUR = np.arange(4, dtype=np.float32).tobytes()


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ({"id": "1", "status": "PENDING"}, "data: Field required"),
        (envelope([1, 4], FOUR, 4, status="FAILURE"), "failed ('FAILURE')"),
        (envelope([4], FOUR, 4), "vectors of shape [4] for one image"),
        (envelope([2, 2], FOUR, 2), "vectors of shape [2, 2] for one image"),
        (envelope([1, 4], FOUR, 3), "vectors of shape [1, 4] for one image"),
        (envelope([1, 4], FOUR[:15], 4), "15 bytes for 4 numbers"),
        (envelope([1, 10**9], FOUR, 10**9), "less than or equal to 65536"),
        (envelope([1, 1], np.array([math.nan], np.float32).tobytes(), 1), "not finite"),
        (envelope([1, 1], np.array([math.inf], np.float32).tobytes(), 1), "not finite"),
        (
            envelope([1, 1], b"", 1, data={"embeddings": {"shape": [1, 1], "data": "%"}, "dim": 1}),
            "not base64",
        ),
        (
            envelope(
                [1, 1],
                b"",
                1,
                data={"embeddings": {"shape": [1, 1], "dtype": "float64", "data": ""}, "dim": 1},
            ),
            "numbers of type 'float64'",
        ),
        (envelope([1, 4], FOUR, 4, timestamp="yesterday"), "timestamp"),
    ],
)
def test_what_is_no_embedding(server: OwnServer, reply: dict[str, Any], told: str) -> None:
    speak_g5(server)
    server.on("/v1/inference/embedding", answer(reply))
    with pytest.raises(InferenceError) as raised:
        pixano(server, lambda provider: embed(provider, "clip"))
    assert told in str(raised.value)
    assert server.url in str(raised.value)


def test_models_of_a_pixano_inference_server(server: OwnServer) -> None:
    speak_g5(server)

    async def question(provider: InferenceProvider) -> None:
        listed = await provider.list_models()
        assert listed[0] == ModelInfo(
            "clip", "image_embedding", "openai/clip", "Clip", "pixano-inference"
        )
        assert [(each.name, each.task) for each in listed[1:]] == [
            ("dino", "image_zero_shot_detection"),
            ("words", "text_embedding"),
            ("names", "ner"),
        ]
        assert await provider.list_models(InferenceTask.OBJECT_DETECTION) == [listed[1]]
        assert await provider.list_models(InferenceTask.MASK_GENERATION) == []
        clip = await provider.describe_model("clip")
        assert (clip.task, clip.embedding_size) == (EmbeddingTask.IMAGE_EMBEDDING, 3)
        assert (clip.origin, clip.description) == ("openai/clip", "Clip")
        dino = await provider.describe_model("dino")
        assert (dino.task, dino.embedding_size) == (InferenceTask.OBJECT_DETECTION, None)
        for name in ("words", "names"):
            with pytest.raises(TaskNotSupportedError, match="cannot use: choose another model"):
                await provider.describe_model(name)
        with pytest.raises(ModelNotFoundError, match=r"no model 'clop': did you mean 'clip'\?"):
            await provider.describe_model("clop")

    pixano(server, question)


def test_a_model_that_is_not_there_or_does_something_else(server: OwnServer) -> None:
    speak_g5(server)
    said = {"error": {"code": "x", "message": "no", "requestId": "1"}}
    server.on("/v1/inference/embedding", answer(said, 404), answer(said, 400))

    async def question(provider: InferenceProvider) -> None:
        with pytest.raises(ModelNotFoundError, match="known: clip, dino"):
            await embed(provider, "other")
        with pytest.raises(TaskNotSupportedError, match=r"'dino' at .* image_zero_shot_detection"):
            await embed(provider, "dino")
        with pytest.raises(InvalidRequestError, match=r"refuses the request \(400: no\)"):
            await embed(provider, "clip")

    pixano(server, question)


SETTINGS = {
    "app_name": "Pixano Inference",
    "app_version": "0.5.6",
    "app_description": "A server",
    "num_cpus": 4,
    "num_gpus": 2,
    "num_nodes": 1,
    "gpus_used": [1],
    "gpu_to_model": {"1": "sam"},
    "models": ["sam"],
}
G1 = {"/app/settings/": {**SETTINGS, "models_to_task": {"sam": "image_mask_generation"}}}
G2 = {**G1, "/ready": {"status": "ready"}}
G3 = {"/app/settings/": {**SETTINGS, "models_to_capability": {"sam": "segmentation"}}}


@pytest.mark.parametrize(
    ("paths", "model"),
    [
        (G1, {"name": "sam", "task": "image_mask_generation"}),
        (
            G2,
            {"name": "sam", "task": "image_mask_generation", "model_path": "p", "model_class": "c"},
        ),
        (
            G3,
            {"name": "sam", "capability": "segmentation", "model_path": "p", "model_class": "c"},
        ),
    ],
    ids=["G1", "G2", "G3"],
)
def test_older_generations(
    server: OwnServer, paths: dict[str, Any], model: dict[str, Any], request: Any
) -> None:
    for path, value in paths.items():
        server.on(path, answer(value))
    server.on("/app/models/", answer([model]))

    async def question(provider: InferenceProvider) -> None:
        with pytest.raises(TaskNotSupportedError) as raised:
            await embed(provider, "sam")
        assert "is Pixano Inference 0.5.6, which has no embeddings" in str(raised.value)
        assert isinstance(provider, PixanoInferenceProvider)
        assert (await provider._pixano.dialect()).generation.name == request.node.callspec.id
        [listed] = await provider.list_models()
        assert (listed.name, listed.task) == ("sam", "image_mask_generation")
        assert (listed.model_path, listed.model_class) == (
            model.get("model_path"),
            model.get("model_class"),
        )
        described = await provider.describe_model("sam")
        assert described.task is InferenceTask.MASK_GENERATION
        info = await provider.get_server_info()
        assert (info.app_version, info.num_cpus, info.num_gpus) == ("0.5.6", 4, 2)
        assert (info.gpus_used, info.gpu_to_model) == ([1], {"1": "sam"})
        assert info.models_to_task == {"sam": "image_mask_generation"}

    pixano(server, question)
    assert "POST" not in [asked.method for asked in server.asked]


@pytest.mark.parametrize("value", [{"hello": 1}, [], None])
def test_a_server_of_something_else(server: OwnServer, value: Any) -> None:
    server.on("/v1/info", answer(value))
    with pytest.raises(InferenceError, match="is no Pixano Inference server"):
        pixano(server, embed)


def test_info_is_open_where_models_are_not(server: OwnServer) -> None:
    speak_g5(server)
    server.on("/v1/models", answer({"error": {"message": "Missing API key."}}, 401))

    async def question(provider: InferenceProvider) -> None:
        info = await provider.get_server_info()
        assert (info.app_version, info.models_to_task) == ("0.7.1", {})
        with pytest.raises(InvalidRequestError, match=r"set PIXANO_INFERENCE_API_KEY"):
            await provider.list_models()

    pixano(server, question)
