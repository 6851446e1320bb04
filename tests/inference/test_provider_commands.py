"""`providers list` and `providers check` from outside."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pixano_cli.inference.check import SHAPES, SIZE

from .own_server import OwnServer, answer, own_server

CHAT = "/v1/chat/completions"


def tool(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OPENAI_API_KEY": "sk-planted-77"}
    done = subprocess.run(
        [sys.executable, "-m", "pixano_cli", "providers", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "sk-planted-77" not in done.stdout + done.stderr
    return done


def boxes(server: OwnServer, form: str) -> None:
    """Let a server find the known shapes, and write them in a form."""
    width, height = SIZE
    found = []
    for name, (x1, y1, x2, y2) in SHAPES.items():
        numbers = [x1 / width, y1 / height, x2 / width, y2 / height]
        if form == "yxyx-thousand":
            numbers = [round(1000 * numbers[place]) for place in (1, 0, 3, 2)]
        elif form == "nonsense":
            numbers = [0.9, 0.9, 0.99, 0.99]
        found.append({"label": name, "box": numbers})
    text = json.dumps({"objects": found})
    chat: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
    server.on("/v1/models", answer({"data": [{"id": "seer"}, {"id": "qwen3-vl"}]}))
    server.on(CHAT, answer({"choices": [{**chat, "finish_reason": "stop"}]}))


def test_list(tmp_path: Path) -> None:
    done = tool(tmp_path, "list", "--json")
    assert done.returncode == 0, done.stderr
    known = {each["name"]: each for each in json.loads(done.stdout)}
    assert known.keys() >= {
        "gemini", "litellm", "lmstudio", "local", "max", "ollama", "openai", "pixano-inference",
        "vllm",
    }  # fmt: skip
    assert known["local"]["url"] is None
    assert known["gemini"]["variable"] == "GEMINI_API_KEY"
    assert set(known["pixano-inference"]["tasks"]) == set(known["local"]["tasks"])
    table = tool(tmp_path, "list").stdout
    assert "OPENAI_API_KEY" in table
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_answers(tmp_path: Path) -> None:
    with own_server() as own:
        boxes(own, "unit")
        done = tool(tmp_path, "check", "openai", "--url", own.url)
        assert done.returncode == 0, done.stderr
        assert "models:  seer, qwen3-vl" in done.stdout
        assert CHAT not in own.paths()


@pytest.mark.parametrize(
    ("model", "form", "options", "code", "says"),
    [
        ("seer", "yxyx-thousand", (), 0, "gives boxes as yxyx-thousand"),
        ("seer", "unit", (), 0, "gives boxes as xyxy-unit"),
        ("qwen3-vl", "unit", (), 1, "use --box-format xyxy-unit"),
        ("qwen3-vl", "unit", ("--box-format", "xyxy-unit"), 0, "gives boxes as xyxy-unit"),
        ("seer", "nonsense", (), 1, "in no convention"),
    ],
)
def test_how_a_model_gives_boxes(
    tmp_path: Path, model: str, form: str, options: tuple[str, ...], code: int, says: str
) -> None:
    with own_server() as own:
        boxes(own, form)
        done = tool(tmp_path, "check", "openai", "--url", own.url, "-m", model, *options)
        assert done.returncode == code, done.stdout + done.stderr
        assert says in done.stdout
        assert own.paths().count(CHAT) == 1
        printed = tool(tmp_path, "check", "openai", "--url", own.url, "-m", model, "--json")
        assert json.loads(printed.stdout)["boxes"]["model"] == model


def test_nobody_there(tmp_path: Path) -> None:
    done = tool(tmp_path, "check", "nobody")
    assert done.returncode == 2
    assert "there is no provider 'nobody'" in done.stderr


def test_local(tmp_path: Path) -> None:
    done = tool(tmp_path, "check", "local", "-m", "picodet-s-416")
    assert done.returncode == 0, done.stderr
    assert "picodet-s-416 (boxes)" in done.stdout
    assert "boxes in pixels" in done.stdout
