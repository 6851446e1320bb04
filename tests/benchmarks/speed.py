"""Throughput of `detect` from start to end, against a bare loop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from figure import Figure, Required
from pictures import MEGAPIXEL, pictures
from process import Ended, processors, program, tool
from sizes import Sizes

REQUIRED = Required("ratio", 0.90, at_least=True)


def speed(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Measure in turn, several times: what else the machine does then meets both alike."""
    folder = pictures(work, "megapixel", sizes.speed_images, MEGAPIXEL)
    threads = str(processors())
    ours: list[Ended] = []
    bare: list[Ended] = []
    reduced: list[Ended] = []
    for index in range(sizes.speed_rounds):
        ours.append(_detect(folder, work / f"speed-{index}"))
        bare.append(program("bare_detect.py", folder, threads))
        reduced.append(program("bare_detect.py", folder, threads, "reduced"))
    rates = [sizes.speed_images / each.seconds for each in ours]
    size = sum(path.stat().st_size for path in folder.iterdir()) / sizes.speed_images
    detail = {
        "images": sizes.speed_images,
        "kilobytes_an_image": round(size / 1e3),
        "threads": int(threads),
        "cpu_seconds": [each.cpu_seconds for each in ours],
        "bare_cpu_seconds": [each.cpu_seconds for each in bare],
        "reduced_cpu_seconds": [each.cpu_seconds for each in reduced],
    }

    def figure(against: str, baseline: list[float], required: Required | None) -> Figure:
        return _figure(rates, against, baseline, required, detail)

    whole = [sizes.speed_images / each.seconds for each in bare]
    loop = [sizes.speed_images / json.loads(each.output)["seconds"] for each in bare]
    same = [sizes.speed_images / each.seconds for each in reduced]
    yield figure("bare loop, whole process", whole, REQUIRED)
    yield figure("bare loop without its start", loop, None)
    yield figure("bare loop that decodes at a reduced scale too", same, None)


def _figure(
    rates: list[float],
    against: str,
    baseline: list[float],
    required: Required | None,
    detail: dict[str, object],
) -> Figure:
    """Give the pair whose ratio is the median one."""
    pairs = sorted(zip(rates, baseline, strict=True), key=lambda pair: pair[0] / pair[1])
    ratios = [ours / theirs for ours, theirs in pairs]
    value, base = min(pairs, key=lambda pair: abs(pair[0] / pair[1] - median(ratios)))
    return Figure(
        "speed",
        "detect, whole process",
        value,
        base,
        against,
        "images/s",
        required,
        detail | {"ratios": ratios},
    )


def _detect(folder: Path, into: Path) -> Ended:
    shutil.rmtree(into, ignore_errors=True)
    output = into / "out.json"
    ended = tool("detect", folder, "-o", output, "--store", into / "store", "--quiet")
    if not output.exists():
        raise RuntimeError(f"{output} was not written")
    return ended
