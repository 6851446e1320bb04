"""`detect` with a language model from outside: one paid request an image, and none twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pixano_cli.inference.check import SHAPES, SIZE

from .own_server import Handler, OwnServer, answer, own_server, silence

SAMPLES = Path(__file__).parents[2] / "sample_data"
CHAT = "/v1/chat/completions"

Tool = Callable[..., subprocess.CompletedProcess[str]]


def find(handler: Handler) -> None:
    """Find the known shapes in the known picture, else one cat; y first, in thousandths."""
    text = json.dumps(handler.own.asked[-1].body)
    if "red rectangle" in text:
        width, height = SIZE
        found = [
            {"label": name, "box": [round(1000 * each) for each in (y1, x1, y2, x2)]}
            for name, (x1, y1, x2, y2) in (
                (name, (x1 / width, y1 / height, x2 / width, y2 / height))
                for name, (x1, y1, x2, y2) in SHAPES.items()
            )
        ]
    else:
        found = [{"label": "cat", "box": [100, 200, 500, 900]}]
    message = {"role": "assistant", "content": json.dumps({"objects": found})}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    choice = {"message": message, "finish_reason": "stop"}
    answer({"choices": [choice], "usage": usage})(handler)


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_server() as own:
        own.on("/v1/models", answer({"data": [{"id": "seer"}]}))
        own.on(CHAT, find)
        yield own


@pytest.fixture
def detect(tmp_path: Path, server: OwnServer) -> Tool:
    (tmp_path / "photos").mkdir()
    for name in ("chelsea.png", "rocket.jpg"):
        shutil.copy(SAMPLES / name, tmp_path / "photos")

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pixano_cli", "detect", "photos", "-o", "b.json"]
        command += ["--provider", "vllm", "--url", server.url, "--store", "store", *options]
        environment = {name: value for name, value in os.environ.items() if "API_KEY" not in name}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


def chats(server: OwnServer) -> int:
    return server.paths().count(CHAT)


def check_boxes(coco: dict[str, Any]) -> None:
    for each in coco["annotations"]:
        image = coco["images"][each["image_id"] - 1]
        x, y, width, height = each["bbox"]
        assert x == pytest.approx(0.2 * image["width"])
        assert y == pytest.approx(0.1 * image["height"])
        assert x + width == pytest.approx(0.9 * image["width"])
        assert y + height == pytest.approx(0.5 * image["height"])


def test_boxes_of_an_unknown_model_are_checked_once(
    detect: Tool, server: OwnServer, tmp_path: Path
) -> None:
    forecast = detect("--classes", "cat", "--dry-run")
    assert forecast.returncode == 0, forecast.stderr
    assert "about 2 requests" in forecast.stdout
    assert chats(server) == 0
    done = detect("--classes", "cat")
    assert done.returncode == 0, done.stderr
    assert chats(server) == 3
    coco = json.loads((tmp_path / "b.json").read_text())
    assert len(coco["annotations"]) == 2
    check_boxes(coco)
    assert coco["info"]["requests"][0]["parameters"]["boxes"] == "yxyx-thousand"
    first = (tmp_path / "b.json").read_bytes()
    # Neither the boxes nor their convention are paid for again.
    assert detect("--classes", "cat").returncode == 0
    assert chats(server) == 3
    assert (tmp_path / "b.json").read_bytes() == first
    forecast = detect("--classes", "cat", "--dry-run", "--json")
    assert json.loads(forecast.stdout)["pending"] == 0


def test_without_classes_nothing_is_asked(detect: Tool, server: OwnServer) -> None:
    done = detect("--box-format", "yxyx-thousand")
    assert done.returncode == 2
    assert "--classes: model 'seer' has no classes of its own" in done.stderr
    assert chats(server) == 0


def test_a_format_that_is_none(detect: Tool) -> None:
    done = detect("--classes", "cat", "--box-format", "yx")
    assert done.returncode == 2
    assert "--box-format 'yx'" in done.stderr


def test_a_smaller_picture_is_sent_and_boxes_are_of_the_whole(
    detect: Tool, server: OwnServer, tmp_path: Path
) -> None:
    done = detect("--classes", "cat", "--box-format", "yxyx-thousand", "--max-side", "100")
    assert done.returncode == 0, done.stderr
    coco = json.loads((tmp_path / "b.json").read_text())
    check_boxes(coco)
    assert all(len(json.dumps(asked.body)) < 60_000 for asked in server.asked)
    assert coco["info"]["requests"][0]["parameters"]["max_side"] == 100


def test_a_model_of_another_task_is_not_asked(
    detect: Tool, server: OwnServer, tmp_path: Path
) -> None:
    server.on("/v1/embeddings", answer({"data": [{"embedding": [1.0, 2.0]}]}))
    assert detect("--classes", "cat", "--box-format", "yxyx-thousand").returncode == 0
    command = [sys.executable, "-m", "pixano_cli", "embed", "photos", "-o", "v.parquet"]
    command += ["--provider", "vllm", "--url", server.url, "--store", "store"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "model 'seer' is registered for Object Detection in this store" in done.stderr
    assert "/v1/embeddings" not in server.paths()


def test_what_asks_about_the_server_does_not_count_against_the_rate(
    detect: Tool, server: OwnServer, tmp_path: Path
) -> None:
    (tmp_path / "photos" / "rocket.jpg").unlink()
    # One image, one request: the list of models before it would take the only one of a minute.
    begun = time.monotonic()
    done = detect("--classes", "cat", "--box-format", "yxyx-thousand", "--rpm", "1")
    assert done.returncode == 0, done.stderr
    assert server.paths().count("/v1/models") > 0
    assert chats(server) == 1
    assert time.monotonic() - begun < 55


def test_a_run_stops_that_has_not_asked_for_an_image_yet(
    server: OwnServer, detect: Tool, tmp_path: Path
) -> None:
    server.on("/v1/models", silence)
    command = [sys.executable, "-m", "pixano_cli", "detect", "photos", "-o", "b.json"]
    command += ["--provider", "vllm", "--url", server.url, "--store", "store", "--classes", "cat"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not server.paths():
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 143
    assert "run the same command again" in told
