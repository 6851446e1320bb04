"""The same command again: everything is recorded, nothing is inferred."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from figure import Figure, Required
from pictures import TINY, pictures
from process import Ended, tool
from sizes import Sizes


def again(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Time the command on images that it has recorded, against its first run, which infers them."""
    count = sizes.again_images
    folder = pictures(work, "tiny", count, TINY)
    into = work / "again"
    shutil.rmtree(into, ignore_errors=True)
    first = _detect(folder, into, processed=count)
    written = (into / "out.json").read_bytes()
    runs = [_detect(folder, into, processed=0) for _ in range(sizes.again_rounds)]
    if (into / "out.json").read_bytes() != written:
        raise RuntimeError("the second run wrote another file than the first")
    yield Figure(
        "again",
        f"detect on {count} recorded images",
        median(each.seconds for each in runs),
        first.seconds,
        "first run",
        "s",
        Required("value", 3.0),
        {
            "seconds": [each.seconds for each in runs],
            "cpu_seconds": [each.cpu_seconds for each in runs],
            "peak_mb": max(each.peak_mb for each in runs),
            "store_mb": (into / "store" / "store.sqlite3").stat().st_size / 1e6,
        },
    )


def _detect(folder: Path, into: Path, *, processed: int) -> Ended:
    ended = tool(
        *("detect", folder, "-o", into / "out.json", "--store", into / "store"),
        *("--quiet", "--json"),
    )
    summary = json.loads(ended.output)
    if summary["processed"] != processed:
        raise RuntimeError(f"{summary['processed']} images were inferred, not {processed}")
    return ended
