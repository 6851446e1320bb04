"""What servers do to a whole command, one test each: what is recorded, asked again, and told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from .annotating import CHAT, Done, Seer, Work, boxes, say, seer
from .own_server import (
    Reply,
    answer,
    break_off,
    end_early,
    flood,
    garbage,
    own_server,
    reset,
    silence,
    stall,
    text,
)

Command = Callable[..., Done]

COUNT = 6


@dataclass
class Case:
    """Six pictures, a server for them, and what it says of them without any fault."""

    work: Work
    server: Seer
    command: Command
    digests: list[str]
    task: str = "caption"
    options: tuple[str, ...] = ()

    def run(self, *options: str) -> Done:
        """Run the command against the server."""
        asked = ["--provider", "openai", "--url", self.server.url, *self.options, *options]
        return self.command(*self.work.command(*asked, task=self.task))

    def without_faults(self) -> bytes:
        """Return the output of the same command with a store and a server of its own."""
        with seer() as model:
            model.text = self.server.text
            asked = ("--provider", "openai", "--url", model.url, *self.options)
            command = self.work.command(*asked, task=self.task, out="expected.json")
            command[command.index("store")] = "other store"
            assert self.command(*command).code == 0
        return self.work.output("expected.json")

    def check_once_it_is_over(self, lost: int, asked: int) -> None:
        """Check that the same command asks for what was lost only, and then for nothing.

        Args:
            lost: How many images have no answer yet.
            asked: How many chats there were so far.
        """
        self.server.faults.clear()
        self.server.again.clear()
        assert self.server.asked.total() == asked
        done = self.run()
        assert done.code == 0, done.err
        assert done.counts == (COUNT, lost, COUNT - lost, 0)
        assert self.server.asked.total() == asked + lost
        assert self.server.answered == dict.fromkeys(self.digests, 1)
        assert self.work.output() == self.without_faults()
        assert not (self.work.folder / "c.json.failed.jsonl").exists()
        assert self.run().counts == (COUNT, 0, COUNT, 0)
        assert self.server.asked.total() == asked + lost


@pytest.fixture
def case(work: Work, command: Command) -> Iterator[Case]:
    digests = work.pictures(COUNT)
    with seer() as server:
        yield Case(work, server, command, digests)


# What comes and goes: nobody notices.


@pytest.mark.parametrize(
    "fault",
    [
        answer({"error": "slow down"}, 429),
        answer({}, 429, Retry_After="0"),
        answer({}, 502),
        answer({}, 503),
        answer({}, 503, Retry_After="1"),
        answer({}, 504),
        answer({"error": {"message": "overloaded"}}, 529),
        answer({}, 500, Retry_After="0"),
        reset,
    ],
    ids=["429", "429-after", "502", "503", "503-after", "504", "529", "500-after", "reset"],
)
def test_a_fault_that_passes(case: Case, fault: Reply) -> None:
    case.server.faults[""] = [fault] * 3
    done = case.run()
    assert done.code == 0, done.err
    assert done.counts == (COUNT, COUNT, 0, 0)
    assert done.summary["tokens"] == {"prompt": 100 * COUNT, "completion": 10 * COUNT}
    case.check_once_it_is_over(0, COUNT + 3)


# What stays for one image: the others are done, and a second run asks for that one only.


@pytest.mark.parametrize(
    ("fault", "kind", "told", "tries"),
    [
        (
            answer({"error": "slow down"}, 429),
            "InferenceError",
            "is too busy (429: slow down): lower the concurrency, set a limit of requests a minute",
            5,
        ),
        (
            answer({"error": "quota"}, 429, Retry_After="3600"),
            "InferenceError",
            "is too busy (429: quota), and asks to wait for 3,600 s: lower the concurrency",
            1,
        ),
        (
            answer({"error": {"message": "out of memory"}}, 500),
            "InferenceError",
            "failed (500: out of memory): its own log may say why",
            1,
        ),
        (answer({}, 503), "InferenceError", "is too busy (503): lower the concurrency", 5),
        (answer({}, 529), "InferenceError", "is too busy (529): lower the concurrency", 5),
        (
            reset,
            "ProviderConnectionError",
            "cannot be reached (connection reset by peer): is the server running, and the URL",
            5,
        ),
        (
            stall,
            "InferenceTimeoutError",
            "did not answer in 0.5 s: allow more time, or lower the concurrency",
            1,
        ),
        (silence, "InferenceTimeoutError", "did not answer in 0.5 s: allow more time", 1),
        (
            break_off,
            "ProviderConnectionError",
            "broke off in the middle of its answer (connection closed): try again",
            1,
        ),
        (end_early, "ProviderConnectionError", "broke off in the middle of its answer", 1),
        (garbage, "ProviderConnectionError", "does not speak HTTP as it should: is the URL", 1),
        (
            text('{"choices": [{"message": {"content": "A ca'),
            "InferenceError",
            "what is not JSON, or only the beginning of it: try again, and check the URL",
            1,
        ),
        (
            answer({"choices": {"message": "A cat."}}),
            "InferenceError",
            "answers otherwise than documented (choices: Input should be a valid list): check the",
            1,
        ),
        (say("  "), "InferenceError", "gives an empty answer: try again, or choose another", 1),
        (text(""), "InferenceError", "answers with what is not JSON", 1),
        (
            flood,
            "InferenceError",
            "answers with more than 8,388,608 bytes, which cannot be the answer: check the URL",
            1,
        ),
        (text(b" " * 10_000_000), "InferenceError", "answers with more than 8,388,608 bytes", 1),
        (
            text("<html>Sign in</html>", kind="text/html"),
            "InferenceError",
            "answers with a web page, not with JSON: check the URL",
            1,
        ),
        (
            answer({"error": {"message": "image too large"}}, 413),
            "InvalidRequestError",
            "takes no 0.0 MB at once (413: image too large): send a smaller image",
            1,
        ),
        (
            answer({"error": {"message": "content"}}, 422),
            "InvalidRequestError",
            "refuses the request (422: content)",
            1,
        ),
    ],
    ids=[
        *("429", "429-long", "500", "503", "529", "reset", "stall", "silence", "broken"),
        *("early-end", "garbage", "cut-json", "schema", "empty", "no-body", "10-mb-chunked"),
        *("10-mb", "html", "413", "422"),
    ],
)
def test_a_fault_of_one_image(case: Case, fault: Reply, kind: str, told: str, tries: int) -> None:
    poor = case.digests[2]
    case.server.again[poor] = fault
    limit = ["--timeout", "0.5"] if kind == "InferenceTimeoutError" else []
    done = case.run(*limit)
    assert done.code == 3, done.err
    assert done.counts == (COUNT, COUNT - 1, 0, 1)
    assert "1 file failed: more than --max-failures allows" in done.err
    assert "run again to retry" in done.err
    [failed] = case.work.failed()
    assert (failed["path"], failed["stage"], failed["error_class"]) == ("0002.png", "infer", kind)
    assert failed["message"].startswith((case.server.url, f"the model at {case.server.url}"))
    assert told in failed["message"]
    assert len(json.loads(case.work.output())["images"]) == COUNT - 1
    assert case.server.asked[poor] == tries
    case.check_once_it_is_over(1, COUNT - 1 + tries)


def test_a_fault_that_is_allowed(case: Case) -> None:
    case.server.again[case.digests[0]] = answer({}, 500)
    done = case.run("--max-failures", "1", "-v")
    assert done.code == 0
    assert done.counts == (COUNT, COUNT - 1, 0, 1)
    assert "failed (infer): 0000.png: " in done.err
    case.check_once_it_is_over(1, COUNT)


@pytest.mark.parametrize("fault", [answer({}, 500), break_off, answer({"data": []})])
def test_vectors_that_are_asked_for_once(case: Case, fault: Reply) -> None:
    vector = answer({"data": [{"embedding": [0.25, 0.5]}]})
    case.server.own.on("/v1/embeddings", vector, vector, fault, vector)
    asked = case.work.command(
        "--provider", "openai", "--url", case.server.url, task="embed", out="v.parquet"
    )
    done = case.command(*asked)
    assert done.code == 3, done.err
    assert done.counts == (COUNT, COUNT - 1, 0, 1)
    [failed] = case.work.failed("v.parquet")
    assert failed["stage"] == "infer"
    assert case.server.url in failed["message"]
    assert case.server.own.paths().count("/v1/embeddings") == COUNT
    assert case.command(*asked).counts == (COUNT, 1, COUNT - 1, 0)
    assert case.command(*asked).counts == (COUNT, 0, COUNT, 0)
    assert case.server.own.paths().count("/v1/embeddings") == COUNT + 1


# Boxes.


@pytest.mark.parametrize(
    ("says", "told", "tries"),
    [
        (
            '{"objects": [{"label": "cat", "box": [100, 100, 1400, 800]}]}',
            "gives a box [100, 100, 1400, 800] for 'cat', which is none in a picture of 42x30 as "
            "yxyx-thousand",
            1,
        ),
        (
            '{"objects": [{"label": "cat", "box": [800, 100, 200, 900]}]}',
            "which is none in a picture of 42x30",
            1,
        ),
        ('{"objects": [{"label": "cat", "box": [1, 2, 3]}]}', "cannot be read, also when asked", 2),
        ('{"objects": [{"label": "cat", "box": [1, 2', "cannot be read, also when asked again", 2),
        ("There is a cat.", "cannot be read, also when asked again: it has no JSON", 2),
    ],
    ids=["outside", "swapped", "three", "cut", "prose"],
)
def test_boxes_that_are_none(case: Case, says: str, told: str, tries: int) -> None:
    case.task, case.server.text = "detect", boxes
    case.options = ("--box-format", "yxyx-thousand")
    poor = case.digests[2]
    case.server.again[poor] = say(says)
    done = case.run()
    assert done.code == 3, done.err
    assert done.counts == (COUNT, COUNT - 1, 0, 1)
    # What could not be used was paid for all the same.
    assert done.summary["tokens"]["prompt"] == 100 * (COUNT - 1 + tries)
    [failed] = case.work.failed()
    assert (failed["path"], failed["stage"]) == ("0002.png", "infer")
    assert told in failed["message"]
    case.check_once_it_is_over(1, COUNT - 1 + tries)


def test_an_image_without_any_box_is_answered(case: Case) -> None:
    case.task, case.server.text = "detect", boxes
    case.server.again[case.digests[2]] = say('{"objects": []}')
    case.options = ("--box-format", "yxyx-thousand")
    done = case.run()
    assert (done.code, done.summary["empty"]) == (0, 1)
    assert case.run().counts == (COUNT, 0, COUNT, 0)
    assert case.server.asked.total() == COUNT


# Where the server is not what it should be.


def test_a_redirection_to_another_host(case: Case) -> None:
    with own_server() as other:
        other.on(CHAT, say("stolen"))
        case.server.again[case.digests[2]] = answer({}, 307, Location=f"{other.url}{CHAT}")
        done = case.run()
        assert done.code == 3, done.err
        assert other.connections == 0
        [failed] = case.work.failed()
        assert failed["error_class"] == "ProviderConnectionError"
        assert f"sends on to {other.url}/v1, where nothing was sent" in failed["message"]
        assert "if that is right, give its address as the URL" in failed["message"]
    case.check_once_it_is_over(1, COUNT)


def test_a_server_that_has_moved(case: Case) -> None:
    with own_server() as old:
        old.on("/v1/models", answer({}, 301, Location=f"{case.server.url}/v1/models"))
        done = case.command(*case.work.command("--provider", "openai", "--url", old.url))
        assert done.code == 1
        assert f"sends on to {case.server.url}/v1, where nothing was sent" in done.err
        assert len(done.err.splitlines()) == 1
        assert old.paths() == ["/v1/models"]
        assert case.server.own.asked == []
    case.check_once_it_is_over(COUNT, 0)


def test_a_certificate_that_nobody_vouches_for(
    work: Work, command: Command, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = work.pictures(COUNT)
    with ExitStack() as stack:
        server = stack.enter_context(seer(str(certificate)))
        case = Case(work, server, command, digests)
        done = case.run()
        assert done.code == 1
        assert "its certificate is not valid (self-signed certificate)" in done.err
        assert "set SSL_CERT_FILE" in done.err
        assert len(done.err.splitlines()) == 1
        assert (server.own.asked, server.own.connections) == ([], 1)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        case.check_once_it_is_over(COUNT, 0)
