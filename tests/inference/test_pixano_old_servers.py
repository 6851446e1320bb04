"""The provider against real Pixano Inference servers of older versions, each in its own venv.

A version's packages are installed once, into a folder of this project that git does not see: about
a minute each. 0.5.6 does not run with what it asks for today, so that two of its dependencies are
held back; and it needs Redis.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

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

from .real_server import KEY, LOADED, RealServer, real_servers
from .remote import ask, embed
from .squares import moving, of_colour, url

pytestmark = pytest.mark.long

PROJECT = Path(__file__).parents[2]
SAMPLES = PROJECT / "sample_data"
CHELSEA = flight.url_of(SAMPLES / "chelsea.png")
DETECTION = InferenceTask.OBJECT_DETECTION.value
VIDEO = InferenceTask.VIDEO_MASK_GENERATION.value
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIXANO_INFERENCE_API_KEY", raising=False)


def python_with(name: str, *packages: str) -> str:
    """Return the Python of a venv of this project's that has the packages."""
    folder = PROJECT / f".venv-pixano-{name}"
    python, mark = folder / "bin" / "python", folder / "installed"
    wanted = "\n".join(packages)
    if not mark.exists() or mark.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        (folder / ".gitignore").write_text("*\n")
        options = ["--quiet", "--disable-pip-version-check"]
        made = subprocess.run(
            [python, "-m", "pip", "install", *options, *packages], capture_output=True, text=True
        )
        if made.returncode:
            pytest.skip(f"pixano-inference {name} cannot be installed: {made.stderr[-300:]}")
        mark.write_text(wanted)
    return str(python)


def detecting(model: str, *classes: str) -> ImageZeroShotDetectionInput:
    return ImageZeroShotDetectionInput(CHELSEA, model, [*classes], 0.3)


def local_boxes() -> list[list[float]]:
    async def run() -> list[list[float]]:
        provider = LocalProvider(concurrency=1)
        try:
            found = await provider.image_zero_shot_detection(detecting("picodet-s-416"))
            return [[float(round(value)) for value in box] for box in found.data.boxes]
        finally:
            await provider.aclose()

    return asyncio.run(run())


async def check_tracking(provider: InferenceProvider) -> None:
    """Follow two squares in windows of four."""
    frames = moving(7)
    request = VideoMaskGenerationInput(
        [url(frame) for frame in frames],
        "squares",
        [12, 5],
        [0, 4],
        boxes=[[0, 4, 8, 12], [50, 8, 58, 14]],
    )
    result = await provider.video_mask_generation(request)
    found = zip(result.data.objects_ids, result.data.frame_indexes, result.data.masks, strict=True)
    wanted = {(12, n): of_colour(frames[n], "red") for n in range(7)}
    wanted |= {(5, n): of_colour(frames[n], "blue") for n in range(4, 7)}
    assert {(object_id, frame): mask for object_id, frame, mask in found} == wanted
    assert result.metadata["windows"] == 2


@pytest.fixture(scope="module")
def fourth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A server of 0.6.0."""
    python = python_with("0.6", "pixano-inference==0.6.0", "onnxruntime")
    folder = tmp_path_factory.mktemp("fourth")
    program = (python, "-c", "from pixano_inference.main import app; app()")
    with real_servers(folder, (KEY, " ".join(LOADED)), program=program) as [server]:
        yield server


def test_0_6(fourth: RealServer, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(KEY)
    boxes = local_boxes()

    async def question(provider: InferenceProvider) -> None:
        info = await provider.get_server_info()
        assert info.app_version == "0.6.0"
        assert sorted(info.models) == sorted(LOADED)
        assert len(await provider.list_models()) == len(LOADED)
        assert (await provider.describe_model("picodet")).categories is None
        # It is not told that the model has classes of its own.
        result = await provider.image_zero_shot_detection(detecting("picodet"))
        assert result.data.boxes == boxes
        masks = await provider.image_mask_generation(
            ImageMaskGenerationInput(CHELSEA, "mobile_sam", boxes=[[110, 20, 400, 290]])
        )
        assert masks.data.scores.shape == [1, 3]
        assert masks.data.masks[0][0].size == [300, 451]
        assert len((await embed(provider, "quarters", CHELSEA, 60)).data.embedding) == 12
        text = await provider.text_image_conditional_generation(
            TextImageConditionalGenerationInput("echo", "What is it?", [CHELSEA])
        )
        assert text.data.generated_text == "451x300 What is it?"
        assert text.metadata["usage"]["total_tokens"] == 9
        await check_tracking(provider)
        deployment = {"seconds": 3.0, "deployment": {"num_cpus": 0.1, "max_replicas": 1}}
        await provider.instantiate_model("squares", ModelConfig("slow", VIDEO, config=deployment))
        request = VideoMaskGenerationInput([CHELSEA], "slow", [1], [0], boxes=[[1, 2, 9, 9]])
        with pytest.raises(InferenceTimeoutError):
            await provider.video_mask_generation(request, 0.7)
        with pytest.raises(InvalidRequestError, match="already deployed"):
            await provider.instantiate_model("squares", ModelConfig("slow", VIDEO))
        with pytest.raises(ModelNotFoundError, match="knows no"):
            await provider.instantiate_model("circles", ModelConfig("c", VIDEO))
        await provider.delete_model("slow")
        with pytest.raises(ModelNotFoundError):
            await provider.delete_model("slow")
        with pytest.raises(TaskNotSupportedError):
            await provider.video_mask_generation(
                VideoMaskGenerationInput([CHELSEA], "picodet", [1], [0], boxes=[[1, 2, 9, 9]])
            )

    ask("pixano-inference", fourth.url, question, window=4, api_key_file=key_file)

    async def refused(provider: InferenceProvider) -> None:
        with pytest.raises(InvalidRequestError, match="wants an API key"):
            await provider.list_models()

    ask("pixano-inference", fourth.url, refused)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of 0.5.6."""
    redis = shutil.which("redis-server")
    if redis is None:
        pytest.skip("Redis is not installed: apt-get install redis-server")
    # FastAPI took any word once, and kombu an older client of Redis.
    held_back = ("fastapi<0.116", "kombu<5.6")
    python = python_with("0.5", "pixano-inference==0.5.6", *held_back, "onnxruntime")
    folder = tmp_path_factory.mktemp("first")
    shutil.copy(Path(__file__).with_name("real_provider.py"), folder / "sitecustomize.py")
    ports = [free_port(), free_port()]
    environment = {
        **os.environ,
        "TESTS_OWN_PROVIDER": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (folder, PROJECT))),
        "REDIS_URL": "127.0.0.1",
        "REDIS_PORT": str(ports[0]),
    }
    start = "from pixano_inference.main import serve; serve()"
    commands = [
        [redis, "--port", str(ports[0]), "--bind", "127.0.0.1", "--save", ""],
        [python, "-c", start, "--port", str(ports[1])],
    ]
    with (folder / "log").open("wb") as log:
        running = [
            subprocess.Popen(
                command, cwd=folder, env=environment, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL,
            )
            for command in commands
        ]  # fmt: skip
    try:
        server = f"http://127.0.0.1:{ports[1]}"
        wait_for(f"{server}/app/settings/", running[1], folder / "log")
        yield server
    finally:
        for process in running:
            children = psutil.Process(process.pid).children(recursive=True)
            for each in (*children, process):
                each.kill()
            process.wait()


def free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(address).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"the server is not ready:\n{log.read_text(errors='replace')[-3000:]}")


def test_0_5(first: str) -> None:
    found_here = local_boxes()

    async def question(provider: InferenceProvider) -> None:
        with pytest.raises(InvalidRequestError, match=r"\(400: .*broken weights"):
            await provider.instantiate_model("own", ModelConfig("bad", DETECTION, "broken"), 120)
        with pytest.raises(ModelNotFoundError, match="knows no provider 'nobody'"):
            await provider.instantiate_model("nobody", ModelConfig("x", DETECTION), 120)
        # One after the other: the worker of a model takes from the queues of all that are loaded
        # after it, and fails on what it does not know.
        await provider.instantiate_model("own", ModelConfig("pico", DETECTION), 120)
        info = await provider.get_server_info()
        assert (info.app_version, info.models) == ("0.5.6", ["pico"])
        assert info.models_to_task == {"pico": DETECTION}
        assert [model.task for model in await provider.list_models()] == [DETECTION]
        # A result can be read only once: all of them come.
        results = await asyncio.gather(
            *(provider.image_zero_shot_detection(detecting("pico"), 60) for _ in range(20))
        )
        assert all(result.data.boxes == found_here for result in results)
        cats = await provider.image_zero_shot_detection(detecting("pico", "Cat"))
        assert set(cats.data.classes) == {"Cat"}
        with pytest.raises(TaskNotSupportedError):
            await provider.image_mask_generation(
                ImageMaskGenerationInput(CHELSEA, "pico", boxes=[[1, 2, 9, 9]])
            )
        with pytest.raises(InferenceError, match=r"\(500: .*model of that name already"):
            await provider.instantiate_model("own", ModelConfig("pico", DETECTION), 120)
        await provider.delete_model("pico")
        with pytest.raises(ModelNotFoundError):
            await provider.image_zero_shot_detection(detecting("pico"))
        with pytest.raises(ModelNotFoundError):
            await provider.delete_model("pico")

        config = ModelConfig("sam", InferenceTask.MASK_GENERATION.value)
        await provider.instantiate_model("own", config, 120)
        masks = await provider.image_mask_generation(
            ImageMaskGenerationInput(CHELSEA, "sam", boxes=[[110, 20, 400, 290]])
        )
        assert masks.data.scores.shape == [1, 3]
        await provider.delete_model("sam")

        await provider.instantiate_model("own", ModelConfig("squares", VIDEO), 120)
        await check_tracking(provider)
        # There is no such pixel, so that it fails in the worker.
        boxes = [[900, 900, 910, 910]]
        with pytest.raises(InferenceError, match="failed"):
            await provider.video_mask_generation(
                VideoMaskGenerationInput([CHELSEA], "squares", [1], [0], boxes=boxes)
            )
        await provider.delete_model("squares")

    ask("pixano-inference", first, question, window=4)
