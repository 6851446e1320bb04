"""How fast a server is asked, against the rate that it allows; and memory with many images.

The server is `slow_server.py`: 0.1 s an answer, 64 or 8 at once, 429 beyond. The ideal is what it
could answer: 640 or 80 a second.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from figure import Figure, Required
from process import HERE, Ended, program, tool
from sizes import Sizes

TAKES_S = 0.1
MANY, FEW = 64, 8
SETTLED_S = 10.0


def remote(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Measure the provider by itself, then whole commands, then memory."""
    yield from _provider(sizes)
    yield from _commands(work, sizes)
    yield from _memory(work, sizes)


def _provider(sizes: Sizes) -> Iterator[Figure]:
    requests = sizes.remote_requests
    for allows, told, required in ((MANY, (), 0.90), (MANY, (str(MANY),), 0.90), (FEW, (), 0.85)):
        with _server("openai", TAKES_S, allows) as url:
            ended = json.loads(program("ask_remote.py", url, str(requests), *told).output)
            stats = _stats(url)
        knowing = ", as it is told" if told else ""
        yield Figure(
            "remote",
            f"provider, {requests} requests, {allows} at once allowed{knowing}",
            requests / ended["seconds"],
            allows / TAKES_S,
            "ideal",
            "requests/s",
            Required("ratio", required, at_least=True),
            {"cpu_seconds": ended["cpu_seconds"], "most_at_once": stats["most_at_once"]},
        )
        if allows == FEW:
            yield _answered(stats)


def _answered(stats: Any) -> Figure:
    """Return how many requests were not refused, once it is known how many are allowed."""
    settled = min(SETTLED_S, stats["answered"][-1] / 2)
    answered = sum(moment > settled for moment in stats["answered"])
    refused = sum(moment > settled for moment in stats["refused"])
    return Figure(
        "remote",
        f"requests that are not refused after {settled:.0f} s, {FEW} at once allowed",
        answered,
        answered + refused,
        "all",
        "requests",
        Required("ratio", 0.98, at_least=True),
        {"refused_in_all": len(stats["refused"])},
    )


def _commands(work: Path, sizes: Sizes) -> Iterator[Figure]:
    folder = _pictures(work, sizes.remote_requests)
    for command, speaks, suffix in (
        ("embed", "openai", ".parquet"),
        ("detect", "pixano-inference", ".json"),
    ):
        with _server(speaks, TAKES_S, MANY) as url:
            ended = _annotate(work, command, speaks, url, folder, suffix)
            stats = _stats(url)
        for what, seconds, required in (
            ("after its start", stats["answered"][-1], Required("ratio", 0.90, at_least=True)),
            ("whole process", ended.seconds, None),
        ):
            yield Figure(
                "remote",
                f"{command}, {what}, {sizes.remote_requests} images, {MANY} at once allowed",
                sizes.remote_requests / seconds,
                MANY / TAKES_S,
                "ideal",
                "images/s",
                required,
                {"cpu_seconds": ended.cpu_seconds, "refused": len(stats["refused"])},
            )


def _memory(work: Path, sizes: Sizes) -> Iterator[Figure]:
    peaks = []
    seconds = []
    for count in (sizes.remote_few, sizes.remote_many):
        with _server("openai", 0.0, 1000) as url:
            ended = _annotate(work, "embed", "openai", url, _pictures(work, count), ".parquet")
        peaks.append(ended.peak_mb)
        seconds.append(ended.seconds)
    few, many = peaks
    yield Figure(
        "remote",
        f"peak of embed with {sizes.remote_many} images queued",
        many,
        few,
        f"with {sizes.remote_few}",
        "MB",
        Required("difference", 50.0),
        {"seconds": seconds},
    )


def _annotate(work: Path, command: str, speaks: str, url: str, folder: Path, suffix: str) -> Ended:
    into = work / f"remote-{command}"
    shutil.rmtree(into, ignore_errors=True)
    output = into / f"out{suffix}"
    which = ("--provider", speaks, "--url", url, "--model", "m")
    ended = tool(command, folder, "-o", output, *which, "--store", into / "store", "--quiet")
    if not output.exists():
        raise RuntimeError(f"{output} was not written")
    return ended


def _pictures(work: Path, count: int) -> Path:
    folder = work / f"many-{count}"
    if not folder.exists():
        making = work / f"many-{count}.part"
        shutil.rmtree(making, ignore_errors=True)
        # Another process, so that this one stays small: see `process.run`.
        program("many_pictures.py", making, str(count))
        making.rename(folder)
    return folder


@contextmanager
def _server(speaks: str, takes: float, allows: int) -> Iterator[str]:
    """Run the slow server; yield its URL."""
    options: Sequence[str] = ("--speaks", speaks, "--takes", str(takes), "--allows", str(allows))
    command = [sys.executable, str(HERE / "slow_server.py"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


def _stats(url: str) -> Any:
    with urlopen(f"{url}/stats") as answer:
        return json.load(answer)
