"""A real server with OpenAI's API: `transformers serve`, with a small model of the tests' own.

It has its own virtual environment, in the one that the tests run in, so that PyTorch is no
dependency of theirs: about 1.2 GB, made once in some three minutes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

MODEL = "tests/tiny-llava"

_HOME = Path(sys.prefix) / "transformers-serve"
_PACKAGES = (
    *("torch==2.13.0", "transformers==5.23.0", "accelerate==1.15.0", "openai==3.54.0"),
    *("fastapi", "uvicorn", "pydantic", "pillow", "rich", "typer", "requests"),
)
_READY_S = 120.0


def environment() -> Path:
    """Return the Python of the server's environment, which is made if it is not there."""
    python = _HOME / "bin" / "python"
    done = _HOME / "installed"
    if done.exists() and done.read_text() == repr(_PACKAGES):
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", _HOME], check=True)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    made = subprocess.run([*install, *_PACKAGES], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"transformers serve cannot be installed: {made.stderr.strip()[-300:]}")
    done.write_text(repr(_PACKAGES))
    return python


@contextmanager
def transformers_server(folder: Path) -> Iterator[str]:
    """Run a server until the block ends; gives its URL."""
    python = environment()
    cache = folder / "hub"
    script = Path(__file__).with_name("tiny_llava.py")
    offline = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder),
        "HF_HUB_CACHE": str(cache),
    }
    subprocess.run(
        [python, script, cache, MODEL], env=offline, check=True, capture_output=True, text=True
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python.with_name("transformers"), "serve", "--host", "127.0.0.1"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--device", "cpu"],
            env=offline,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, process, folder / "log")
        yield url
    finally:
        process.kill()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"the server is not ready:\n{log.read_text(errors='replace')[-3000:]}")
