"""The provider against real Pixano Inference servers, with and without API keys."""

import asyncio
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixano_cli.inference.embedding import EmbeddingTask
from pixano_cli.inference.errors import (
    InferenceError,
    InvalidRequestError,
    ModelNotFoundError,
    TaskNotSupportedError,
)
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.providers.local import LocalProvider
from pixano_cli.inference.providers.pixano_inference import PixanoInferenceProvider
from pixano_cli.inference.types import InferenceTask, ModelInfo
from pixano_cli.media import flight
from pixano_cli.media.decode import decode_image

from .real_server import KEY, LOADED, Servers
from .remote import ask, data_url, embed, encoded

T = TypeVar("T")

SAMPLES = Path(__file__).parents[2] / "sample_data"
PICTURES = ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"]


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIXANO_INFERENCE_API_KEY", raising=False)


def quarters(data: bytes) -> NDArray[np.float64]:
    """Work out what the model of that name answers."""
    pixels = decode_image(data)
    height, width = (side // 2 for side in pixels.shape[:2])
    parts = [
        pixels[top : top + height, left : left + width].mean(axis=(0, 1))
        for top in (0, height)
        for left in (0, width)
    ]
    return np.concatenate(parts)


def test_server_and_models(servers: Servers) -> None:
    async def question(provider: InferenceProvider) -> None:
        info = await provider.get_server_info()
        assert (info.app_name, info.app_version) == ("Pixano Inference", "0.7.1")
        assert sorted(info.models) == sorted(LOADED)
        assert info.models_to_task == {
            "quarters": "image_embedding",
            "ours": "image_embedding",
            "nothing": "image_zero_shot_detection",
            "picodet": "image_zero_shot_detection",
            "mobile_sam": "image_mask_generation",
            "squares": "video_mask_generation",
            "echo": "text_image_conditional_generation",
        }
        assert (info.num_nodes, info.gpus_used, info.gpu_to_model) == (1, [], {})
        listed = {model.name: model for model in await provider.list_models()}
        assert listed["quarters"] == ModelInfo(
            "quarters", "image_embedding", "made/quarters", "quarters", "pixano-inference"
        )
        detectors = await provider.list_models(InferenceTask.OBJECT_DETECTION)
        assert {model.name for model in detectors} == {"nothing", "picodet"}
        described = await provider.describe_model("quarters")
        assert (described.task, described.embedding_size) == (EmbeddingTask.IMAGE_EMBEDDING, 12)
        assert (await provider.describe_model("ours")).embedding_size is None
        assert (await provider.describe_model("nothing")).task is InferenceTask.OBJECT_DETECTION

    servers.ask(question)


@pytest.mark.parametrize("name", PICTURES)
def test_vector_is_that_of_the_picture(servers: Servers, name: str) -> None:
    path = SAMPLES / name
    result = servers.ask(lambda provider: embed(provider, "quarters", flight.url_of(path), 60.0))
    # Not of length 1: that is not asked for.
    assert np.allclose(result.data.embedding, quarters(path.read_bytes()), rtol=1e-5)
    assert result.status == "SUCCESS"
    assert result.id.startswith("ray-quarters-")
    assert result.metadata["model_name"] == "quarters"
    assert abs(datetime.now(UTC) - result.timestamp) < timedelta(minutes=1)
    assert 0 < result.processing_time < 60


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_pictures_arrive_upright(servers: Servers, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.open(SAMPLES / "chelsea.png"), "JPEG", exif=exif, quality=90)
    result = servers.ask(lambda provider: embed(provider, "quarters", data_url(data), 60.0))
    assert np.allclose(result.data.embedding, quarters(data), atol=0.5)
    assert not np.allclose(quarters(data)[:3], quarters(data)[-3:], atol=5)


@pytest.mark.parametrize("name", PICTURES[:3])
def test_vectors_are_those_of_the_same_model_here(servers: Servers, name: str) -> None:
    image = flight.url_of(SAMPLES / name)
    there = servers.ask(lambda provider: embed(provider, "ours", image, 60.0)).data.embedding

    async def local() -> list[float]:
        provider = LocalProvider(concurrency=1)
        try:
            return (await embed(provider, "pplcnetv2", image, 60.0)).data.embedding
        finally:
            await provider.aclose()

    here = asyncio.run(local())
    assert len(there) == len(here) == 1280
    assert np.allclose(there, here, rtol=1e-4, atol=1e-4)


def test_many_at_once_are_answered_each_with_its_own(servers: Servers) -> None:
    photo = Image.open(SAMPLES / "coffee.png").convert("RGB")
    pictures = [encoded(photo.crop((at, at, at + 90, at + 70)), "PNG") for at in range(0, 320, 10)]

    async def question(provider: InferenceProvider) -> list[list[float]]:
        results = await asyncio.gather(
            *(embed(provider, "quarters", data_url(each), 60.0) for each in pictures)
        )
        return [result.data.embedding for result in results]

    for found, picture in zip(servers.ask(question), pictures, strict=True):
        assert np.allclose(found, quarters(picture), rtol=1e-5)


def test_what_the_server_refuses(servers: Servers) -> None:
    damaged = io.BytesIO()
    Image.open(SAMPLES / "chelsea.png").convert("RGB").save(damaged, "JPEG")
    half = data_url(damaged.getvalue()[:5000], "image/jpeg")

    async def question(provider: InferenceProvider) -> None:
        with pytest.raises(ModelNotFoundError, match=r"no model 'quarter': did you mean 'quarte"):
            await embed(provider, "quarter")
        with pytest.raises(TaskNotSupportedError, match=r"'nothing' at .* does image_zero_shot"):
            await embed(provider, "nothing")
        with pytest.raises(InferenceError, match=r"failed \(500: Inference error\.\)"):
            await embed(provider, "quarters", half, 60.0)
        # An address below that of the API.
        other = PixanoInferenceProvider(f"{servers.guarded.url}/elsewhere")
        with pytest.raises(InferenceError, match="is no Pixano Inference server"):
            await other.list_models()
        await other.aclose()

    servers.ask(question)


def test_keys(servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def question(provider: InferenceProvider) -> str:
        with pytest.raises(InvalidRequestError) as raised:
            await provider.list_models()
        with pytest.raises(InvalidRequestError) as again:
            await embed(provider, "quarters")
        assert (await provider.get_server_info()).models_to_task == {}
        return f"{raised.value} {again.value}"

    url = servers.guarded.url
    told = ask("pixano-inference", url, question)
    assert told.count("wants an API key (401: Missing API key.") == 2
    assert told.count("set PIXANO_INFERENCE_API_KEY") == 2
    wrong = tmp_path / "wrong"
    wrong.write_text("planted-wrong-key")
    told = ask("pixano-inference", url, question, api_key_file=wrong)
    assert told.count(f"refuses the API key of the file {str(wrong)!r} (403: Invalid API") == 2
    assert "planted" not in told
    monkeypatch.setenv("PIXANO_INFERENCE_API_KEY", KEY)
    assert ask("pixano-inference", url, lambda provider: provider.list_models())
