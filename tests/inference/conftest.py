"""A local provider, plugins registered until a test ends, and pictures to ask about."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pixano_cli.cli.app import run as run_command_line
from pixano_cli.inference.providers import breaker, retries
from pixano_cli.inference.providers.local import LocalProvider
from pixano_cli.media import flight
from pixano_cli.models import InferenceModel, base, plugins, register_model

from .annotating import Done, Work, keyless
from .real_server import Servers, skip_without_server, two_servers


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Real Pixano Inference servers, which run until the tests end."""
    skip_without_server()
    with two_servers(tmp_path_factory.mktemp("servers")) as running:
        yield running


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[InferenceModel[Any, Any]]], None]:
    """Register a class as "plugin" until the test ends."""
    plugins.discover_models()
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))

    def as_plugin(model_class: type[InferenceModel[Any, Any]]) -> None:
        register_model("plugin")(model_class)

    return as_plugin


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[int, int], str]:
    """Write a grey picture of a size and return its URL."""

    def write(width: int, height: int) -> str:
        path = tmp_path / f"{width}x{height}.png"
        Image.new("RGB", (width, height), "grey").save(path)
        return flight.url_of(path)

    return write


@pytest.fixture
def provider() -> Iterator[LocalProvider]:
    made = LocalProvider(concurrency=3)
    yield made
    asyncio.run(made.aclose())


@pytest.fixture(autouse=True)
def _nobody_waits_for_a_server_that_was_never_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "FIRST_PATIENCE_S", 5.0)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A file with a key and a certificate for this machine, which nobody has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    made, key, both = (tmp_path / f"{name}.pem" for name in ("made", "key", "both"))
    call = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=own", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(made)]
    subprocess.run([*call, *names, *files], check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + made.read_bytes())
    return both


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """An empty folder to run commands in."""
    folder = tmp_path / "work"
    folder.mkdir()
    return Work(folder)


@pytest.fixture
def command(
    work: Work, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Run a command in this process, without any key, and without long waits between two tries."""
    monkeypatch.chdir(work.folder)
    for name in set(os.environ) - set(keyless()):
        monkeypatch.delenv(name)
    monkeypatch.setattr(retries, "_LONGEST_BACKOFF_S", 0.05)

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        code = run_command_line(arguments)
        return Done(code, *capsys.readouterr())

    return run
