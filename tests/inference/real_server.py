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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

_READY_S = 150.0


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
    folder: Path, plugin: str, *configured: tuple[str, str]
) -> Iterator[list[RealServer]]:
    """Run servers side by side until the block ends; all start at once.

    Args:
        folder: Where to write what they read.
        plugin: Source of a module that registers models.
        *configured: For each server its API keys, separated by commas, and the source of its list
            of models.
    """
    installed = folder / "installed"
    facts = installed / "tests_own-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: tests-own\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[pixano_inference.models]\nown = tests_own_models\n")
    (installed / "tests_own_models.py").write_text(plugin)
    servers: list[RealServer] = []
    # The path of a socket in it may have 107 characters and no more.
    temporary = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    try:
        for number, (keys, models) in enumerate(configured):
            config = folder / f"models{number}.py"
            config.write_text(models)
            servers.append(_start(folder, installed, temporary / str(number), config, keys))
        for server in servers:
            _wait(server, folder)
        yield servers
    finally:
        for server in servers:
            server.kill()
        shutil.rmtree(temporary, ignore_errors=True)


def _start(folder: Path, installed: Path, temporary: Path, config: Path, keys: str) -> RealServer:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    temporary.mkdir()
    home = folder / f"home{port}"
    home.mkdir()
    environment = {
        **os.environ,
        "HOME": str(home),
        "PYTHONPATH": str(installed),
        "PIXANO_INFERENCE_API_KEYS": keys,
        "RAY_TMPDIR": str(temporary),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    environment.pop("RAY_ADDRESS", None)
    start = "from pixano_inference.cli import main; main()"
    with (folder / f"log{port}").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", start, "--port", str(port), "--config", str(config)],
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
