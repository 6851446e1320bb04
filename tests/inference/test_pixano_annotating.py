"""Boxes, masks, tracks and text from a real Pixano Inference server, held against local ones."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from PIL import Image

from pixano_cli import rle
from pixano_cli.inference.errors import (
    InferenceError,
    InferenceTimeoutError,
    InvalidRequestError,
    ModelNotFoundError,
    TaskNotSupportedError,
)
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.providers.local import LocalProvider
from pixano_cli.inference.types import (
    ImageMaskGenerationInput,
    ImageZeroShotDetectionInput,
    InferenceTask,
    ModelConfig,
    TextImageConditionalGenerationInput,
    VideoMaskGenerationInput,
)
from pixano_cli.media import flight
from pixano_cli.rle import CompressedRLEData

from .real_server import KEY, Servers
from .squares import moving, of_colour, url

T = TypeVar("T")

SAMPLES = Path(__file__).parents[2] / "sample_data"
PICTURES = ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"]


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIXANO_INFERENCE_API_KEY", raising=False)


def locally(question: Callable[[InferenceProvider], Awaitable[T]]) -> T:
    async def run() -> T:
        provider = LocalProvider(concurrency=1)
        try:
            return await question(provider)
        finally:
            await provider.aclose()

    return asyncio.run(run())


def image(name: str) -> str:
    return flight.url_of(SAMPLES / name)


@pytest.mark.parametrize("name", PICTURES)
def test_boxes_are_those_of_the_same_model_here(servers: Servers, name: str) -> None:
    def detect(model: str, *classes: str) -> Any:
        request = ImageZeroShotDetectionInput(image(name), model, [*classes], 0.3)
        return lambda provider: provider.image_zero_shot_detection(request)

    there = servers.ask(detect("picodet")).data
    here = locally(detect("picodet-s-416")).data
    assert there.classes == here.classes
    assert there.scores == pytest.approx(here.scores)
    assert there.boxes == [[float(round(value)) for value in box] for box in here.boxes]
    # Classes that are asked for are chosen on this side.
    some = servers.ask(detect("picodet", "Cat", "zebra")).data
    assert some.classes == ["Cat" for each in here.classes if each == "cat"]


def test_masks_are_those_of_the_same_model_here(servers: Servers) -> None:
    def segment(model: str, **facts: Any) -> Any:
        request = ImageMaskGenerationInput(image("chelsea.png"), model, **facts)
        return lambda provider: provider.image_mask_generation(request)

    for facts in (
        {"boxes": [[110, 20, 400, 290], [20, 30, 90, 120]], "multimask_output": False},
        {"points": [[[250, 120]]], "labels": [[1]]},
    ):
        there = servers.ask(segment("mobile_sam", **facts)).data
        here = locally(segment("mobile-sam", **facts)).data
        assert there.scores.shape == here.scores.shape
        assert there.scores.values == pytest.approx(here.scores.values, abs=1e-4)
        assert there.masks == here.masks


def test_an_embedding_goes_there_and_back(servers: Servers) -> None:
    async def question(provider: InferenceProvider) -> None:
        request = ImageMaskGenerationInput(
            image("coffee.png"), "mobile_sam", boxes=[[100, 50, 400, 350]], multimask_output=False
        )
        plain = await provider.image_mask_generation(request)
        request.return_image_embedding = True
        first = await provider.image_mask_generation(request)
        request.return_image_embedding = False
        request.image_embedding = first.data.image_embedding
        assert request.image_embedding is not None
        assert request.image_embedding.shape == [1, 256, 64, 64]
        again = await provider.image_mask_generation(request)
        assert plain.data.masks == first.data.masks == again.data.masks

    servers.ask(question)


@pytest.mark.parametrize("window", [64, 3])
def test_tracking(servers: Servers, window: int) -> None:
    frames = moving(7)

    async def question(provider: InferenceProvider) -> None:
        request = VideoMaskGenerationInput(
            [url(frame) for frame in frames],
            "squares",
            [12, 5],
            [0, 2],
            boxes=[[0, 4, 8, 12], [50, 4, 58, 10]],
        )
        result = await provider.video_mask_generation(request)
        found = zip(
            result.data.objects_ids, result.data.frame_indexes, result.data.masks, strict=True
        )
        wanted = {(12, n): of_colour(frames[n], "red") for n in range(7)}
        wanted |= {(5, n): of_colour(frames[n], "blue") for n in range(2, 7)}
        assert {(object_id, frame): mask for object_id, frame, mask in found} == wanted
        assert result.status == "SUCCESS"
        assert result.id.startswith("job-")
        assert result.metadata["windows"] == (1 if window == 64 else 3)

    servers.ask(question, window=window)


def test_a_model_is_loaded_followed_with_and_unloaded(servers: Servers) -> None:
    """A tracker made of the embedded segmenter follows a crop that moves over a photograph."""
    photo = np.array(Image.open(SAMPLES / "chelsea.png").convert("RGB"))
    found: list[CompressedRLEData] = []
    frames = [photo[:, at : at + 400] for at in (0, 12, 24)]
    deployment = {"deployment": {"num_cpus": 0.1, "min_replicas": 1, "max_replicas": 1}}

    async def question(provider: InferenceProvider) -> None:
        config = ModelConfig("cat", InferenceTask.VIDEO_MASK_GENERATION.value, config=deployment)
        with pytest.raises(ModelNotFoundError, match=r"knows no .*\(422: .*Unknown model_class"):
            await provider.instantiate_model("followers", config)
        await provider.instantiate_model("follower", config, 120)
        with pytest.raises(InvalidRequestError, match=r"\(409: .*already deployed"):
            await provider.instantiate_model("follower", config)
        assert (await provider.describe_model("cat")).description == "follower"
        request = VideoMaskGenerationInput(
            [url(frame) for frame in frames], "cat", [1], [0], boxes=[[110, 20, 399, 290]]
        )
        result = await provider.video_mask_generation(request)
        assert result.data.frame_indexes == [0, 1, 2]
        found.extend(result.data.masks)
        await provider.delete_model("cat")
        with pytest.raises(ModelNotFoundError, match="no model 'cat' to delete"):
            await provider.delete_model("cat")
        assert "cat" not in {model.name for model in await provider.list_models()}
        with pytest.raises(ModelNotFoundError):
            await provider.video_mask_generation(request)

    async def the_same(provider: InferenceProvider) -> list[CompressedRLEData]:
        masks = []
        box = (110.0, 20.0, 399.0, 290.0)
        # The frame that both windows have is looked at in both.
        for frame in (0, 1, 1, 2):
            result = await provider.image_mask_generation(
                ImageMaskGenerationInput(
                    url(frames[frame]), "mobile-sam", boxes=[[*box]], multimask_output=False
                )
            )
            masks.append(result.data.masks[0][0])
            box = rle.bounding_box(masks[-1])
        return [masks[0], masks[1], masks[3]]

    servers.ask(question, window=2)
    assert found == locally(the_same)


def test_text(servers: Servers) -> None:
    async def question(provider: InferenceProvider) -> None:
        request = TextImageConditionalGenerationInput(
            "echo", "What is it?", [SAMPLES / "chelsea.png", image("coffee.png")], 30, 0.5
        )
        result = await provider.text_image_conditional_generation(request)
        assert result.data.generated_text == "451x300 600x400 What is it?"
        assert result.data.generation_config == {"temperature": 0.5, "max": 30}
        usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
        assert result.metadata["usage"] == usage

    servers.ask(question)


def test_what_is_refused(servers: Servers) -> None:
    async def question(provider: InferenceProvider) -> None:
        boxes = [[1, 2, 30, 40]]
        with pytest.raises(TaskNotSupportedError, match=r"'picodet' at .* does image_zero_shot"):
            await provider.image_mask_generation(
                ImageMaskGenerationInput(image("coffee.png"), "picodet", boxes=boxes)
            )
        with pytest.raises(ModelNotFoundError, match="did you mean 'squares'"):
            await provider.video_mask_generation(
                VideoMaskGenerationInput([image("coffee.png")], "square", [1], [0], boxes=boxes)
            )
        with pytest.raises(InferenceError, match="was not completed"):
            # A colour that no pixel of an empty mask has.
            await provider.video_mask_generation(
                VideoMaskGenerationInput(
                    [image("coffee.png")], "squares", [1], [0], boxes=[[900, 900, 910, 910]]
                )
            )

    servers.ask(question)


def test_the_time_is_over(servers: Servers) -> None:
    deployment = {"seconds": 2.0, "deployment": {"num_cpus": 0.1, "max_replicas": 1}}

    async def question(provider: InferenceProvider) -> None:
        config = ModelConfig("slow", InferenceTask.VIDEO_MASK_GENERATION.value, config=deployment)
        await provider.instantiate_model("squares", config, 120)
        request = VideoMaskGenerationInput(
            [url(frame) for frame in moving(2)], "slow", [1], [0], boxes=[[0, 4, 8, 12]]
        )
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError, match=r"/jobs did not answer in 0\.\d* s"):
            await provider.video_mask_generation(request, 0.7)
        assert time.monotonic() - started < 3
        assert len((await provider.video_mask_generation(request, 30)).data.masks) == 2
        await provider.delete_model("slow")

    servers.ask(question)


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_the_server_takes_a_key_in_either_header(servers: Servers, header: str) -> None:
    value = f"Bearer {KEY}" if header == "Authorization" else KEY
    models = f"{servers.guarded.url}/v1/models"
    assert httpx.get(models, headers={header: value}).status_code == 200
    assert httpx.get(models, headers={header: f"{value}x"}).status_code == 403


def test_the_command_detect_gives_the_boxes_of_the_local_model(
    servers: Servers, tmp_path: Path
) -> None:
    there, here = tmp_path / "there.json", tmp_path / "here.json"
    common = ["--threshold", "0.3", "--store", str(tmp_path / "store"), "--json"]
    remote = ["-o", str(there), "--provider", "pixano-inference", "--url", servers.guarded.url]
    remote += ["--api-key-file", str(servers.key_file), "--model", "picodet", *common]
    done = command(*remote)
    assert done.returncode == 0, done.stderr
    local = command("-o", str(here), *common)
    assert local.returncode == 0, local.stderr
    found, wanted = json.loads(there.read_bytes()), json.loads(here.read_bytes())
    assert found["categories"] == wanted["categories"]
    assert len(found["annotations"]) == len(wanted["annotations"]) > 4
    for one, other in zip(found["annotations"], wanted["annotations"], strict=True):
        assert one["category_id"] == other["category_id"]
        assert one["image_id"] == other["image_id"]
        x, y, width, height = other["bbox"]
        corners = (x, y, x + width, y + height)
        x, y, width, height = one["bbox"]
        assert (x, y, x + width, y + height) == pytest.approx(corners, abs=0.51)
    # A second time there is nothing left to ask.
    again = command(*remote)
    assert json.loads(again.stdout)["cached"] == 4
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [each for each in kept if KEY.encode() in each]
    assert KEY not in done.stdout + done.stderr + again.stdout + again.stderr


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the tool on the photographs, as from a shell."""
    program = [sys.executable, "-m", "pixano_cli", "detect", str(SAMPLES), *words]
    return subprocess.run(program, capture_output=True, text=True, timeout=200)
