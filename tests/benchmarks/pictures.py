"""Pictures to measure with: random parts of the sample photographs, no two of them alike."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from process import processors

if TYPE_CHECKING:
    from PIL.Image import Image

SAMPLES = Path(__file__).parents[2] / "sample_data"
QUALITY = 88

# About a million pixels each, in the shapes that cameras and phones give. A JPEG decoder can halve
# the first two and stay above the detector's 416 pixels, which saves time, but not the others.
MEGAPIXEL = ((1152, 864), (864, 1152), (1224, 816), (1333, 750))
SMALL = ((320, 240), (240, 320), (300, 200))
TINY = ((96, 72), (72, 96))


def pictures(work: Path, name: str, count: int, sizes: Sequence[tuple[int, int]]) -> Path:
    """Return a folder with `count` JPEGs of the sizes, made unless they are there.

    Args:
        work: Where to make the folder.
        name: Its name; also what tells these pictures from others of the same number.
        count: How many.
        sizes: (width, height) in pixels, taken in turn.
    """
    folder = work / f"{name}-{count}"
    if not folder.exists():
        making = work / f"{name}-{count}.part"
        making.mkdir(parents=True, exist_ok=True)
        # Other processes, so that this one stays small: see `process.run`.
        with ProcessPoolExecutor(processors(), mp_context=get_context("spawn")) as pool:
            shapes = [sizes[index % len(sizes)] for index in range(count)]
            for _ in pool.map(_make, repeat(making), range(count), shapes, chunksize=50):
                pass
        making.rename(folder)
    return folder


def _make(folder: Path, index: int, size: tuple[int, int]) -> None:
    from PIL import Image

    chance = random.Random(index)
    photograph = chance.choice(_photographs())
    width, height = size
    part = chance.uniform(0.5, 1.0) * min(photograph.width / width, photograph.height / height)
    left = chance.uniform(0.0, photograph.width - part * width)
    upper = chance.uniform(0.0, photograph.height - part * height)
    picture = photograph.resize(
        size,
        Image.Resampling.BICUBIC,
        box=(left, upper, left + part * width, upper + part * height),
    )
    picture.save(folder / f"{index:06}.jpg", quality=QUALITY)


@cache
def _photographs() -> list[Image]:
    from PIL import Image

    files = sorted(path for path in SAMPLES.iterdir() if path.suffix in (".png", ".jpg"))
    photographs = []
    for path in files:
        with Image.open(path) as image:
            photographs.append(image.convert("RGB"))
    return photographs
