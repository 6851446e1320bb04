"""`caption` from outside: texts of a server in files, what is asked once, money and limits."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from pycocotools.coco import COCO

from .own_server import Handler, OwnServer, answer, own_server

SAMPLES = Path(__file__).parents[2] / "sample_data"
NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
CHAT = "/v1/chat/completions"
USAGE = {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020}

Tool = Callable[..., subprocess.CompletedProcess[str]]


def text_of(asked: Any) -> str:
    """Return the text that a request puts beside its image."""
    parts = [part for message in asked["messages"] for part in message["content"]]
    assert [part["type"] for part in parts].count("image_url") == 1
    return "".join(part["text"] for part in parts if part["type"] == "text")


def say(text: str, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": USAGE} | more


def number(handler: Handler) -> None:
    """Answer with the request's number."""
    count = sum(asked.path == CHAT for asked in handler.own.asked)
    answer(say(f" text {count}\n"))(handler)


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_server() as own:
        own.on("/v1/models", answer({"data": [{"id": "seer"}]}))
        own.on(CHAT, number)
        yield own


@pytest.fixture
def tool(tmp_path: Path, server: OwnServer) -> Tool:
    """Run a command on a folder with the photographs, in a process of its own."""
    (tmp_path / "photos").mkdir()
    for name in NAMES:
        shutil.copy(SAMPLES / name, tmp_path / "photos")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pixano_cli", *arguments, "--store", "store"]
        environment = {**os.environ, "OPENAI_API_KEY": "sk-1"}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture
def caption(tool: Tool, server: OwnServer) -> Tool:
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        asked = ["--provider", "openai", "--url", server.url, "-o", "c.json", "-o", "c.parquet"]
        return tool("caption", "photos", *asked, *options)

    return run


def chats(server: OwnServer) -> list[Any]:
    return [asked.body for asked in server.asked if asked.path == CHAT]


def test_texts_are_written_and_asked_for_once(
    caption: Tool, tool: Tool, server: OwnServer, tmp_path: Path
) -> None:
    done = caption("--json", "--max-new-tokens", "50", "--temperature", "0.5", "--seed", "7")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["processed"], summary["annotations"], summary["empty"]) == (4, 4, 0)
    assert summary["tokens"] == {"prompt": 4000, "completion": 80}
    assert summary["cost"] is None
    assert "4 captions" in done.stderr
    for asked in chats(server):
        assert text_of(asked) == "Describe this image in one or two sentences."
        assert asked["temperature"] == 0.5
        assert asked["seed"] == 7
        assert 50 in (asked.get("max_tokens"), asked.get("max_completion_tokens"))
    coco = COCO(tmp_path / "c.json")
    assert {image["file_name"] for image in coco.imgs.values()} == set(NAMES)
    texts = {
        coco.imgs[each["image_id"]]["file_name"]: each["caption"]
        for each in coco.dataset["annotations"]
    }
    assert sorted(texts.values()) == ["text 1", "text 2", "text 3", "text 4"]
    rows = parquet.read_table(tmp_path / "c.parquet").to_pylist()
    assert {row["file_name"]: row["caption"] for row in rows} == texts
    first = (tmp_path / "c.json").read_bytes()

    asked_before = len(chats(server))
    again = caption("--json", "--max-new-tokens", "50", "--temperature", "0.5", "--seed", "7")
    assert json.loads(again.stdout)["cached"] == 4
    assert "tokens" not in json.loads(again.stdout)
    assert len(chats(server)) == asked_before
    assert (tmp_path / "c.json").read_bytes() == first

    exported = tool("export", "-o", "again.json")
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "again.json").read_bytes() == first
    shown = tool("store", "list", "--json")
    assert shown.returncode == 0, shown.stderr
    assert "text 1" in tool(
        "store", "show", json.loads(shown.stdout)[0]["inference_id"]
    ).stdout or ("seer#caption" in shown.stdout)


def test_another_prompt_is_another_question(caption: Tool, server: OwnServer) -> None:
    assert caption("--prompt", "One?").returncode == 0
    assert caption("--prompt", "Two?").returncode == 0
    assert [text_of(each) for each in chats(server)] == ["One?"] * 4 + ["Two?"] * 4


def test_prompts_that_name_the_image(
    caption: Tool, tool: Tool, server: OwnServer, tmp_path: Path
) -> None:
    shutil.copy(tmp_path / "photos" / "rocket.jpg", tmp_path / "photos" / "same.jpg")
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("{file_name} {width}x{height}: {labels}?\n")
    refused = caption("--prompt-file", str(prompt), "--max-failures", "9")
    assert refused.returncode == 0
    assert "5 failed" in refused.stderr
    failed = [json.loads(line) for line in (tmp_path / "c.json.failed.jsonl").open()]
    assert {each["stage"] for each in failed} == {"prompt"}
    assert "run `pixano-annotate detect`" in failed[0]["message"]
    assert chats(server) == []

    assert tool("detect", "photos", "-o", "boxes.json").returncode == 0
    done = caption("--prompt-file", str(prompt))
    assert done.returncode == 0, done.stderr
    texts = {text_of(each) for each in chats(server)}
    assert "chelsea.png 451x300: cat?" in texts
    # The same bytes under two names are two questions here.
    assert {text.split()[0] for text in texts} == {*NAMES, "same.jpg"}
    rows = parquet.read_table(tmp_path / "c.parquet").to_pylist()
    assert len({row["caption"] for row in rows}) == 5
    assert caption("--prompt-file", str(prompt)).returncode == 0
    assert len(chats(server)) == 5


def test_an_answer_that_says_nothing_has_failed(
    caption: Tool, server: OwnServer, tmp_path: Path
) -> None:
    server.on(CHAT, answer(say("  \n")))
    done = caption("--json")
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["failed"]) == (3, 4)
    assert summary["tokens"] == {"prompt": 4000, "completion": 80}
    failed = [json.loads(line) for line in (tmp_path / "c.json.failed.jsonl").open()]
    assert {each["stage"] for each in failed} == {"infer"}
    assert "empty" in failed[0]["message"]


class TestMoney:
    @pytest.fixture
    def prices(self, tmp_path: Path) -> str:
        path = tmp_path / "prices.json"
        path.write_text(json.dumps({"seer": {"input": 1000, "output": 0}}))
        return str(path)

    def test_a_run_stops_before_it_costs_too_much(
        self, caption: Tool, server: OwnServer, prices: str, tmp_path: Path
    ) -> None:
        # An answer costs a dollar.
        done = caption("--max-cost", "2.5", "--prices", prices)
        assert done.returncode == 1
        assert "stopped at $2.0000" in done.stderr
        assert "2 of 4 files done: run the same command again" in done.stderr
        assert len(chats(server)) == 2
        assert not (tmp_path / "c.json").exists()
        done = caption("--max-cost", "2.5", "--prices", prices, "--json")
        assert done.returncode == 0
        assert json.loads(done.stdout)["cost"] == 2.0
        assert "about $2.0000" in done.stderr
        assert len(chats(server)) == 4

    def test_no_price_is_known(self, caption: Tool, server: OwnServer) -> None:
        done = caption("--max-cost", "1")
        assert done.returncode == 2
        assert "--max-cost: no price is known for openai's seer" in done.stderr
        assert chats(server) == []

    def test_no_usage_is_reported(self, caption: Tool, server: OwnServer, prices: str) -> None:
        silent = say("text")
        del silent["usage"]
        server.on(CHAT, answer(silent))
        done = caption("--max-cost", "100", "--prices", prices)
        assert done.returncode == 1
        assert "does not report how many tokens" in done.stderr
        assert len(chats(server)) == 1

    def test_a_forecast(self, caption: Tool, server: OwnServer, prices: str) -> None:
        done = caption("--dry-run", "--json", "--prices", prices)
        forecast = json.loads(done.stdout)
        assert forecast["requests"] == forecast["pending"] == 4
        # From the sizes: 4 images of one to six tiles, a prompt, and 100 tokens of each answer.
        assert 4 * 255 < forecast["tokens"]["prompt"] < 4 * 1200
        assert forecast["tokens"]["completion"] == 400
        assert forecast["cost"] == round(forecast["tokens"]["prompt"] / 1000, 6)
        assert chats(server) == []
        assert caption("--max-cost", "2.5", "--prices", prices).returncode == 1
        # From what was used, once that is known.
        done = caption("--dry-run", "--prices", prices)
        assert "about 2 requests, 2,000 tokens sent and up to 40 answered: $2.0000" in done.stdout


def test_time_limit(caption: Tool, server: OwnServer) -> None:
    done = caption("--time-limit", "0.000001")
    assert done.returncode == 1
    assert "of --time-limit; 0 of 4 files done: run the same command again" in done.stderr
    assert caption().returncode == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--prompt", "a", "--prompt-file", "b"], "only one of them"),
        (["--prompt", "{name}"], "names {name}"),
        (["--max-new-tokens", "0"], "--max-new-tokens 0"),
        (["--temperature", "-1"], "--temperature -1.0"),
        (["--model", "sear"], "did you mean 'seer'"),
        (["--rpm", "0"], "--rpm 0"),
        (["--max-cost", "nan"], "--max-cost nan"),
    ],
)
def test_wrong_usage(caption: Tool, options: list[str], says: str) -> None:
    done = caption(*options)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_local_model_writes_text(tool: Tool) -> None:
    done = tool("caption", "photos", "-o", "c.json")
    assert done.returncode == 2
    assert "provider 'local' has no model for" in done.stderr
    assert "--provider" in done.stderr
