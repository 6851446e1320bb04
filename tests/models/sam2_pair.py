"""sam2's own predictor beside our model, on one video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixano_cli import rle
from pixano_cli.models.base import RGBImage
from pixano_cli.models.sam2.session import Sam2Session
from pixano_cli.models.sam2.video import Sam2VideoTiny
from pixano_cli.models.tracking import ObjectMask, ObjectPrompt

from . import tiny_sam2

WIDTH, HEIGHT = 97, 61
# More than the 7 frames whose masks are remembered and the 16 whose pointers are.
COUNT = 25

Prompts = Sequence[tuple[int, ObjectPrompt]]
Masks = dict[int, dict[int, NDArray[np.bool_]]]


def block(x: int, y: int, width: int, height: int) -> rle.CompressedRLEData:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[y : y + height, x : x + width] = True
    return rle.encode(mask)


BOX = ObjectPrompt(1, box=(5.5, 4.0, 29.0, 24.0))
POINTS = ObjectPrompt(2, points=((60.0, 40.0), (10.0, 10.0)), labels=(1, 0))
BOX_AND_POINT = ObjectPrompt(3, box=(40.0, 10.0, 80.0, 50.0), points=((60.0, 20.0),), labels=(1,))
MASK = ObjectPrompt(4, mask=block(50, 30, 20, 15))


class Pair:
    """sam2's predictor and our model, with the same weights, and a video for both."""

    def __init__(self, folder: Path, overrides: Sequence[str] = (), **options: Any) -> None:
        self.official = tiny_sam2.official(overrides, **options)
        weights = tiny_sam2.save_weights(self.official, folder / "weights.pt")
        self.model: Sam2VideoTiny = tiny_sam2.tracker(weights, overrides)
        self.frames: list[RGBImage] = []
        self.folder = folder

    def use_clip(self, count: int, width: int = WIDTH, height: int = HEIGHT) -> None:
        folder = self.folder / f"{count}-{width}-{height}"
        folder.mkdir(exist_ok=True)
        self.frames = tiny_sam2.save_frames(tiny_sam2.clip(count, width, height), folder)
        self.path = folder

    def session(self, state: bytes | None = None) -> Sam2Session:
        height, width = self.frames[0].shape[:2]
        session = self.model.open_session(width, height, state, length=len(self.frames))
        assert isinstance(session, Sam2Session)
        return session

    def official_state(self) -> Any:
        return self.official.init_state(str(self.path))

    def follow_official(self, prompts: Prompts) -> Masks:
        state = self.official_state()
        for frame, prompt in prompts:
            tiny_sam2.prompt_official(self.official, state, frame, prompt)
        return dict(tiny_sam2.follow_official(self.official, state))

    def follow(self, prompts: Prompts) -> Masks:
        session = self.session()
        for frame, prompt in prompts:
            session.condition(frame, self.frames[frame], [prompt])
        first = min(frame for frame, _ in prompts)
        return {
            frame: decoded(session.step(frame, self.frames[frame]))
            for frame in range(first, len(self.frames))
        }


def decoded(found: Mapping[int, ObjectMask]) -> dict[int, NDArray[np.bool_]]:
    return {each: rle.decode(item.mask) for each, item in found.items()}


def assert_equal(ours: Masks, theirs: Masks) -> None:
    assert list(ours) == list(theirs)
    for frame, masks in theirs.items():
        assert list(ours[frame]) == list(masks)
        for each, mask in masks.items():
            assert np.array_equal(ours[frame][each], mask), f"object {each} in frame {frame}"


def assert_telling(masks: Masks) -> None:
    """Neither empty nor full, and not the same all the time."""
    shares = [mask.mean() for each in masks.values() for mask in each.values()]
    assert min(shares) > 0.005
    assert max(shares) < 0.95
    assert max(shares) - min(shares) > 0.02
