"""Distributions with model plugins, offered to this process the way pip's are; small networks."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pixano_cli.models import base, plugins

if TYPE_CHECKING:
    from .sam2_pair import Pair


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Offer distributions to a process that has discovered only what is installed.

    Called with a distribution's name, its modules and its entry_points.txt, it writes them to a
    folder of the path and returns the folder. Registries and imported modules are as they were
    afterwards.
    """
    from pixano_inference.models import ModelClassRegistry

    plugins.discover_models()  # or modules imported meanwhile would be missed by tests after this
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))
    monkeypatch.setattr(plugins, "_failures", None)
    monkeypatch.setattr(ModelClassRegistry, "_registry", ModelClassRegistry.list_all())
    imported = set(sys.modules)

    def write(
        distribution: str, modules: dict[str, str], entry_points: str, version: str = "1.0"
    ) -> Path:
        folder = tmp_path / "installed"
        facts = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        facts.mkdir(parents=True)
        (facts / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        (facts / "entry_points.txt").write_text(entry_points)
        for name, source in modules.items():
            (folder / f"{name}.py").write_text(source)
        if str(folder) not in sys.path:
            monkeypatch.syspath_prepend(str(folder))
        return folder

    yield write
    for name in set(sys.modules) - imported:
        path = getattr(sys.modules[name], "__file__", None) or ""
        if path.startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch use one thread, which is faster for small networks; quieten sam2."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="cannot import name '_C'")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Return sam2's own predictor and our model, with the same small, random network."""
    from .sam2_pair import Pair

    return Pair(tmp_path_factory.mktemp("pair"))
