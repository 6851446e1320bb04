"""Peak memory of `detect` must not grow with the number of images."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from figure import Figure, Required
from pictures import SMALL, pictures
from process import tool
from sizes import Sizes


def memory(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Compare the peak at many images with the peak at few."""
    peaks = []
    for count in (sizes.memory_few, sizes.memory_many):
        folder = pictures(work, "small", count, SMALL)
        into = work / f"memory-{count}"
        shutil.rmtree(into, ignore_errors=True)
        ended = tool(
            "detect", folder, "-o", into / "out.json", "--store", into / "store", "--quiet"
        )
        peaks.append(ended.peak_mb)
    few, many = peaks
    yield Figure(
        "memory",
        f"peak of detect at {sizes.memory_many} images",
        many,
        few,
        f"at {sizes.memory_few}",
        "MB",
        Required("difference", 100.0),
    )
