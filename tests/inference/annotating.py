"""Whole commands against the tests' own server, and a server that counts what each image costs."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from .own_server import Handler, OwnServer, Reply, answer, own_server
from .remote import png

CHAT = "/v1/chat/completions"
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
LISTING = answer({"data": [{"id": "seer"}]})
PATIENCE_S = 60.0


def say(text: str, usage: Mapping[str, int] | None = USAGE) -> Reply:
    """Say something, as OpenAI's API does."""
    message = {"role": "assistant", "content": text}
    return answer({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})


def boxes(text: str) -> str:
    """Return one box whose place depends on the image, in thousandths with y first."""
    number = int(text, 16) % 400
    return json.dumps({"objects": [{"label": "cat", "box": [number, 100, number + 300, 800]}]})


def digest_in(body: Any) -> str:
    """Return the digest of the bytes of the image in a chat."""
    for message in body["messages"]:
        for part in message["content"]:
            if isinstance(part, dict) and part["type"] == "image_url":
                data = part["image_url"]["url"].partition(";base64,")[2]
                return hashlib.sha256(b64decode(data)).hexdigest()
    raise AssertionError("a chat without an image")


@dataclass
class Seer:
    """A model that says of each image what no other image makes it say.

    Attributes:
        own: The server it is on.
        text: Makes what it says of the first eight digits of an image's digest.
        faults: What happens instead to the requests to come, by digest, or by "" for any image.
        again: What happens to all requests about an image, by digest, until it is removed.
        asked: How often each image was asked about.
        answered: How often what was asked was answered with the truth.
        moments: When requests came.
        takes: Seconds that an answer takes.
    """

    own: OwnServer
    text: Callable[[str], str] = "a picture like {}".format
    faults: dict[str, list[Reply]] = field(default_factory=dict)
    again: dict[str, Reply] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    moments: list[float] = field(default_factory=list)
    takes: float = 0.0

    @property
    def url(self) -> str:
        """Its address."""
        return self.own.url

    def reply(self, handler: Handler) -> None:
        """Answer a chat."""
        digest = digest_in(handler.body)
        with self.own.lock:
            self.moments.append(monotonic())
            self.asked[digest] += 1
            queue = self.faults.get(digest) or self.faults.get("") or []
            fault = queue.pop(0) if queue else self.again.get(digest)
        if fault is not None:
            fault(handler)
            return
        if self.takes:
            self.own.closing.wait(self.takes)
        say(self.text(digest[:8]))(handler)
        with self.own.lock:
            self.answered[digest] += 1


@contextmanager
def seer(certificate: str | None = None, port: int = 0) -> Iterator[Seer]:
    """Run a server with the one model."""
    with own_server(certificate, port) as own:
        model = Seer(own)
        own.on("/v1/models", LISTING)
        own.on(CHAT, model.reply)
        yield model


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The summary that --json prints."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Files in all, processed, recorded already, failed."""
        found = (self.summary[key] for key in ("total", "processed", "cached", "failed"))
        total, processed, cached, failed = found
        return total, processed, cached, failed


@dataclass(frozen=True)
class Work:
    """A folder with pictures, in which commands are run."""

    folder: Path

    def pictures(self, count: int) -> list[str]:
        """Write so many pictures, no two alike, and return their digests in order of name."""
        photos = self.folder / "photos"
        photos.mkdir()
        digests = []
        for index in range(count):
            data = png(40 + index, 30)
            (photos / f"{index:04}.png").write_bytes(data)
            digests.append(hashlib.sha256(data).hexdigest())
        return digests

    def command(self, *options: str, task: str = "caption", out: str = "c.json") -> list[str]:
        """Return the arguments of a command on the pictures."""
        command = [task, "photos", "-o", out, "--store", "store", "--json", *options]
        return command + (["--classes", "cat"] if task == "detect" else [])

    def start(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a command in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "pixano_cli", *arguments],
            cwd=self.folder,
            env={**keyless(), **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def failed(self, out: str = "c.json") -> list[dict[str, str]]:
        """Return the entries of the list of failures."""
        path = self.folder / f"{out}.failed.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]

    def output(self, out: str = "c.json") -> bytes:
        """Return an output."""
        return (self.folder / out).read_bytes()


def keyless() -> dict[str, str]:
    """Return the environment without any key."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.endswith(("API_KEY", "API_TOKEN"))
    }


def end(process: subprocess.Popen[str]) -> Done:
    """Wait until a command ends."""
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Done(process.returncode, out, err)


def stop(process: subprocess.Popen[str], number: int = signal.SIGINT) -> Done:
    """Send a signal to a command and wait until it ends."""
    process.send_signal(number)
    return end(process)


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end_at = monotonic() + PATIENCE_S
    while not holds():
        assert monotonic() < end_at, "waited too long"
        sleep(0.005)
