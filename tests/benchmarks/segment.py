"""Throughput of `segment` from start to end, detector included, against a bare MobileSAM loop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from figure import Figure
from pictures import MEGAPIXEL, pictures
from process import processors, program, tool
from sizes import Sizes


def segment(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Let the bare loop decode the very boxes that `segment` finds for itself."""
    count = sizes.segment_images
    folder = pictures(work, "megapixel", count, MEGAPIXEL)
    into = work / "segment"
    shutil.rmtree(into, ignore_errors=True)
    arguments = ("--store", into / "store", "--quiet")
    ours = tool("segment", folder, "-o", into / "masks.json", *arguments)
    tool("detect", folder, "-o", into / "boxes.json", *arguments)
    bare = program("bare_segment.py", folder, into / "boxes.json", str(processors()))
    masks = len(json.loads((into / "masks.json").read_bytes())["annotations"])
    detail = {
        "images": count,
        "masks": masks,
        "peak_mb": ours.peak_mb,
        "cpu_seconds": ours.cpu_seconds,
        "bare_peak_mb": bare.peak_mb,
        "bare_cpu_seconds": bare.cpu_seconds,
    }
    yield Figure(
        "segment",
        f"segment, whole process, {masks} masks",
        count / ours.seconds,
        count / bare.seconds,
        "bare MobileSAM loop, whole process",
        "images/s",
        None,
        detail,
    )
