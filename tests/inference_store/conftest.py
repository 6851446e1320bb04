from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pixano_cli import inference_store as istore

from .requests import registration


@pytest.fixture
def store(tmp_path: Path) -> Iterator[istore.Store]:
    """A new store that the documented functions work on, with a detection model registered."""
    with istore.connect(tmp_path / "store") as opened:
        istore.register_model_for_inference_storage(registration())
        yield opened
