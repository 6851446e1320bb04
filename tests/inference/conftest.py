"""A local provider, plugins registered until a test ends, and pictures to ask about."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pixano_cli.inference.providers import breaker
from pixano_cli.inference.providers.local import LocalProvider
from pixano_cli.media import flight
from pixano_cli.models import InferenceModel, base, plugins, register_model

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
