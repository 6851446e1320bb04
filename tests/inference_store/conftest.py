from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixano_cli import inference_store as istore

from .requests import registration


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a closed store with a detection model registered, to copy."""
    folder = tmp_path_factory.mktemp("new") / "store"
    with istore.connect(folder):
        istore.register_model_for_inference_storage(registration())
    return folder


@pytest.fixture
def store(new_store: Path, tmp_path: Path) -> Iterator[istore.Store]:
    """A store that the documented functions work on, with a detection model registered."""
    shutil.copytree(new_store, tmp_path / "store")
    with istore.connect(tmp_path / "store") as opened:
        yield opened
