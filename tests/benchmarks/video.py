"""`segment-video`: its throughput against the bare models, and its memory in long videos."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from figure import Figure, Required
from process import Ended, processors, program, tool
from sizes import Sizes

SAMPLE = Path(__file__).parents[2] / "sample_data" / "pan.mp4"


def video(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Measure the default way."""
    yield from _speed(work / "video", sizes)
    yield from _memory(work / "video", sizes)


def _speed(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Measure in turn, several times: what else the machine does then meets both alike."""
    inside, whole, loop = [], [], []
    ours_of_processors, bare_of_processors = [], []
    ended: list[Ended] = []
    threads = str(processors())
    for index in range(sizes.video_rounds):
        into = work / f"speed-{index}"
        ours = _segment(SAMPLE, into, "--every", str(sizes.video_every), "--json")
        told = json.loads(ours.output)
        bare = program("bare_video.py", SAMPLE, into / "out.json", threads)
        inside.append(told["frames"] / told["seconds"])
        whole.append(told["frames"] / ours.seconds)
        loop.append(told["frames"] / json.loads(bare.output)["seconds"])
        ours_of_processors.append(told["frames"] / ours.cpu_seconds)
        bare_of_processors.append(told["frames"] / bare.cpu_seconds)
        ended += [ours, bare]
    detail = {
        "frames": told["frames"],
        "masks": told["annotations"],
        "threads": int(threads),
        "cpu_seconds": [each.cpu_seconds for each in ended[::2]],
        "bare_cpu_seconds": [each.cpu_seconds for each in ended[1::2]],
        "peak_mb": [each.peak_mb for each in ended[::2]],
    }
    calls = "bare calls of its two models on decoded frames"
    both = "its two models called barely, decoding and start included"
    required = Required("ratio", 0.85, at_least=True)
    for what, rates, against, baseline, unit, limit in (
        (
            "decode, link and write, its models' loading included",
            inside,
            calls,
            loop,
            "frames/s",
            required,
        ),
        ("whole process", whole, calls, loop, "frames/s", None),
        # What else the machine does hardly touches these.
        ("whole process", ours_of_processors, both, bare_of_processors, "frames/processor s", None),
    ):
        pairs = sorted(zip(rates, baseline, strict=True), key=lambda pair: pair[0] / pair[1])
        ratios = [rate / base for rate, base in pairs]
        value, base = min(pairs, key=lambda pair: abs(pair[0] / pair[1] - median(ratios)))
        more = detail | {"ratios": ratios}
        yield Figure("video", what, value, base, against, unit, limit, more)


def _memory(work: Path, sizes: Sizes) -> Iterator[Figure]:
    def peak(clips: int, frames: int, mask_every: int) -> float:
        folder = work / f"clips-{clips}-{frames}"
        if not folder.exists():
            program("write_clips.py", folder, str(clips), str(frames))
        into = work / f"memory-{clips}-{frames}"
        return _segment(folder, into, "--mask-every", str(mask_every)).peak_mb

    few, many = (
        peak(1, frames, sizes.video_mask_every) for frames in (sizes.video_few, sizes.video_many)
    )
    what = f"peak in a video of {sizes.video_many} frames"
    yield Figure(
        "video", what, many, few, f"of {sizes.video_few}", "MB", Required("difference", 100.0)
    )
    # With so many masks that two are made at once in the first video already.
    one, ten = (
        peak(clips, sizes.video_clip_frames, sizes.video_clip_mask_every)
        for clips in (1, sizes.video_clips)
    )
    what = f"peak over {sizes.video_clips} videos of {sizes.video_clip_frames} frames in a row"
    yield Figure("video", what, ten, one, "over one", "MB", Required("difference", 20.0))


def _segment(source: Path, into: Path, *options: str) -> Ended:
    shutil.rmtree(into, ignore_errors=True)
    output = into / "out.json"
    ended = tool(
        "segment-video", source, "-o", output, "--store", into / "store", "--quiet", *options
    )
    if not output.exists():
        raise RuntimeError(f"{output} was not written")
    return ended
