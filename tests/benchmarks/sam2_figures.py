"""The sam2 backend against sam2's own predictor: its throughput, and its memory in long videos.

Without the extra `sam2` there is nothing to measure.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from figure import Figure, Required
from process import processors, program, run
from sizes import Sizes

MODELS = Path(__file__).parents[1] / "models"
SAVE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tiny_sam2
tiny_sam2.save_weights(tiny_sam2.official(), Path(sys.argv[2]))
"""


def sam2(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Measure both, with random weights: tiny of its usual form, and a smaller one for memory."""
    if find_spec("sam2") is None or find_spec("torch") is None:
        return
    yield from _speed(sizes)
    yield from _memory(work / "sam2", sizes)


def _speed(sizes: Sizes) -> Iterator[Figure]:
    options = ("--objects", sizes.sam2_objects, "--frames", str(sizes.sam2_frames))
    told = json.loads(program("sam2_speed.py", *options, "--threads", str(processors())).output)
    for result in told["results"]:
        steps, official_steps = result["ours_s"], result["official_s"]
        whole = steps + result["our_reading_s"]
        official = official_steps + result["official_loading_s"]
        for what, ours_s, official_s, required in (
            ("from files to masks", whole, official, Required("ratio", 1.0, at_least=True)),
            ("its steps alone", steps, official_steps, None),
        ):
            yield Figure(
                "sam2",
                f"{result['objects']} objects at {told['side']} pixels, {what}",
                1 / ours_s,
                1 / official_s,
                "sam2's own predictor",
                "frames/s",
                required,
                result,
            )


def _memory(work: Path, sizes: Sizes) -> Iterator[Figure]:
    weights = work / "weights.pt"
    if not weights.exists():
        work.mkdir(parents=True, exist_ok=True)
        run(sys.executable, "-c", SAVE, MODELS, weights)
    few, many = sizes.sam2_few, sizes.sam2_many

    def follow(*what: str) -> dict[str, float]:
        told: dict[str, float] = json.loads(
            run(sys.executable, MODELS / "follow_sam2.py", weights, *what).output
        )
        return told

    ours = follow("ours", str(few), str(many))
    official = {count: follow("official", str(count))[str(count)] for count in (few, many)}
    for who, peaks, required in (
        ("ours", (ours[str(many)], ours[str(few)]), Required("difference", 100.0)),
        ("sam2's own predictor", (official[many], official[few]), None),
    ):
        what = f"peak of {who} in a video of {many} frames"
        yield Figure("sam2", what, *peaks, f"of {few}", "MB", required)
