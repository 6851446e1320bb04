"""The sample video is what its script makes, its true boxes are true, and the detector agrees."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixano_cli.media.videos import open_video
from pixano_cli.models.base import ModelDeploymentConfig
from pixano_cli.models.detection import DetectionInput
from pixano_cli.models.picodet import PicoDet

from .pictures import SAMPLES
from .videos import Pixels, read

Box = list[float]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script that made it."""
    spec = importlib.util.spec_from_file_location("make_video", SAMPLES / "make_video.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def images() -> list[Pixels]:
    """All its frames."""
    frames, error = read(SAMPLES / "pan.mp4")
    assert error is None
    return [frame.image() for frame in frames]


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    """What is told of it."""
    told: dict[str, Any] = json.loads((SAMPLES / "pan.json").read_text())
    return told


def test_it_is_small_and_plays_anywhere() -> None:
    assert (SAMPLES / "pan.mp4").stat().st_size < 400_000
    with open_video(SAMPLES / "pan.mp4") as video:
        facts = video.facts
    assert (facts.format, facts.width, facts.height) == ("mp4", 384, 288)
    assert (facts.frame_rate, facts.claimed_frames) == (30.0, 60)


def test_each_frame_shows_its_window_of_the_photograph(
    script: ModuleType, images: list[Pixels]
) -> None:
    with Image.open(SAMPLES / script.PHOTOGRAPH) as opened:
        photograph = opened.convert("RGB")
    assert len(images) == script.FRAMES
    for index, image in enumerate(images):
        size, shown = (image.shape[1], image.shape[0]), script.window(index)
        expected = np.asarray(photograph.resize(size, Image.Resampling.LANCZOS, box=shown))
        difference = image.astype(np.float64) - expected
        assert np.sqrt((difference**2).mean()) < 6


def test_the_script_makes_what_is_here(
    script: ModuleType, tmp_path: Path, images: list[Pixels]
) -> None:
    script.main(tmp_path)
    assert (tmp_path / "pan.json").read_text() == (SAMPLES / "pan.json").read_text()
    frames, error = read(tmp_path / "pan.mp4")
    assert error is None
    # Another version of the encoder may choose other bytes.
    for frame, image in zip(frames, images, strict=True):
        assert abs(frame.image().astype(int) - image).mean() < 3


def test_the_detector_finds_the_object_in_every_frame(
    truth: dict[str, Any], images: list[Pixels]
) -> None:
    model = PicoDet(
        ModelDeploymentConfig(
            name="picodet-s-416", capability="detection", model_class="picodet-s-416"
        )
    )
    model.load_model()
    overlaps = []
    for image, true in zip(images, truth["boxes"], strict=True):
        found = model.predict(DetectionInput(image=image, classes=[truth["label"]]))
        assert len(found.boxes) == 1
        overlaps.append(_iou(_clipped(found.boxes[0], image), true))
    model.unload()
    assert min(overlaps) >= 0.9
    assert np.mean(overlaps) >= 0.95


def _clipped(box: Any, image: Pixels) -> Box:
    height, width, _ = image.shape
    return [max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height)]


def _iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, 0) * max(height, 0)
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)
