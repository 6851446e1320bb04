"""A real Pixano Inference server, in processes of its own, with models of the tests' own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest

from pixano_cli.inference.provider import InferenceProvider

from .remote import ask

T = TypeVar("T")

PROGRAM = (sys.executable, "-c", "from pixano_inference.cli import main; main()")
"""Starts a server of the version that is installed beside this project."""

_READY_S = 300.0
_PROJECT = Path(__file__).parents[2]
_MODELS = """
from pixano_inference.configs import DeploymentConfig, ModelConfig

models = [
    ModelConfig(
        name=name,
        model_class=name,
        model_params={{"path": f"made/{{name}}"}},
        deployment=DeploymentConfig(num_cpus=0.1, min_replicas=1, max_replicas=1),
    )
    for name in {names}
]
"""


@dataclass(frozen=True)
class RealServer:
    """A server that is ready."""

    url: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End the server, and all that it has started, at once."""
        if self.process.poll() is not None:
            return
        started = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        for each in started:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(started, timeout=20)


def skip_without_server() -> None:
    """Skip where the server's own part of pixano-inference is not installed."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("pixano-inference[server] is not installed")


@contextmanager
def real_servers(
    folder: Path, *configured: tuple[str, str], program: Sequence[str] = PROGRAM
) -> Iterator[list[RealServer]]:
    """Run servers side by side until the block ends; all start at once.

    All can load the models of `real_models`.

    Args:
        folder: Where to write what they read.
        *configured: For each server its API keys, separated by commas, and the names of the models
            that it begins with, separated by spaces.
        program: Words that start one.
    """
    installed = folder / "installed"
    facts = installed / "tests_own-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: tests-own\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[pixano_inference.models]\nown = tests_own_models\n")
    shutil.copy(Path(__file__).with_name("real_models.py"), installed / "tests_own_models.py")
    servers: list[RealServer] = []
    # The path of a socket in it may have 107 characters and no more.
    temporary = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    try:
        for number, (keys, models) in enumerate(configured):
            config = folder / f"models{number}.py"
            config.write_text(_MODELS.format(names=models.split()))
            paths = os.pathsep.join(map(str, (installed, _PROJECT)))
            servers.append(_start(folder, paths, temporary / str(number), config, keys, program))
        for server in servers:
            _wait(server, folder)
        yield servers
    finally:
        for server in servers:
            server.kill()
        shutil.rmtree(temporary, ignore_errors=True)


def _start(
    folder: Path, paths: str, temporary: Path, config: Path, keys: str, program: Sequence[str]
) -> RealServer:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    temporary.mkdir()
    home = folder / f"home{port}"
    home.mkdir()
    environment = {
        **os.environ,
        "HOME": str(home),
        "PYTHONPATH": paths,
        "PIXANO_INFERENCE_API_KEYS": keys,
        "RAY_TMPDIR": str(temporary),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    environment.pop("RAY_ADDRESS", None)
    with (folder / f"log{port}").open("wb") as log:
        process = subprocess.Popen(
            [*program, "--port", str(port), "--config", str(config)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return RealServer(f"http://127.0.0.1:{port}", process)


def _wait(server: RealServer, folder: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if httpx.get(f"{server.url}/v1/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    log = (folder / f"log{server.url.rpartition(':')[2]}").read_text(errors="replace")
    raise AssertionError(f"the server is not ready:\n{log[-3000:]}")


KEY = "planted-5a1b9c3d7e"
LOADED = ("quarters", "ours", "nothing", "picodet", "mobile_sam", "squares", "echo")
"""The models that the guarded server begins with."""


@dataclass(frozen=True)
class Servers:
    """Two servers: one that wants a key, which this file holds, and one that does not."""

    guarded: RealServer
    key_file: Path
    open: RealServer

    def ask(self, question: Callable[[InferenceProvider], Awaitable[T]], **options: Any) -> T:
        """Ask the guarded server, with the key."""
        options = {"api_key_file": self.key_file} | options
        return ask("pixano-inference", self.guarded.url, question, **options)


@contextmanager
def two_servers(folder: Path) -> Iterator[Servers]:
    """Run the two servers until the block ends."""
    key_file = folder / "key"
    key_file.write_text(f"{KEY}\n")
    guarded, unguarded = (f"other,{KEY}", " ".join(LOADED)), ("", "quarters squares")
    with real_servers(folder, guarded, unguarded) as started:
        yield Servers(started[0], key_file, started[1])
