"""How much memory following takes, in MB, as JSON: run by the tests in a process of its own.

`follow_sam2.py WEIGHTS ours COUNT...` follows two objects through the longest video, and gives the
peak, and the size of the state, after COUNT frames; `official COUNT` lets sam2's own predictor
follow them; `sessions COUNT FRAMES` follows one video after the other, and gives what is in use
after each of them.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import resource
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from models import tiny_sam2
from pixano_cli.models.base import RGBImage
from pixano_cli.models.tracking import ObjectPrompt

WIDTH, HEIGHT = 96, 64
PROMPTS = [
    ObjectPrompt(1, box=(5.0, 4.0, 29.0, 24.0)),
    ObjectPrompt(2, points=((60.0, 40.0),), labels=(1,)),
]
CYCLE = tiny_sam2.clip(20, WIDTH, HEIGHT)


def frame(index: int) -> RGBImage:
    """Return a frame of an endless video, in memory of its own."""
    return np.roll(CYCLE[index % 20], index // 20, axis=1)


def peak_mb() -> float:
    """Return the most memory that this process ever had."""
    # Not ru_maxrss, which also holds what its parent had.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def in_use_mb() -> float:
    """Return the memory that this process has now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def ours(weights: Path, counts: list[int]) -> dict[str, float]:
    """Follow with our model."""
    memory: dict[str, float] = {}
    session = tiny_sam2.tracker(weights).open_session(WIDTH, HEIGHT)
    session.condition(0, frame(0), PROMPTS)
    for index in range(max(counts)):
        session.step(index, frame(index))
        # The state after as many frames as its frame numbers have digits.
        if index + 1 in counts:
            memory[f"state {index + 1}"] = len(session.state()) / 1e6
            memory[str(index + 1)] = peak_mb()
    return memory


def official(count: int) -> dict[str, float]:
    """Follow with sam2's own predictor."""
    predictor = tiny_sam2.official()
    with tempfile.TemporaryDirectory() as folder:
        for index in range(count):
            Image.fromarray(frame(index)).save(Path(folder, f"{index:05d}.jpg"))
        state = predictor.init_state(folder)
        for prompt in PROMPTS:
            tiny_sam2.prompt_official(predictor, state, 0, prompt)
        for _ in tiny_sam2.follow_official(predictor, state):
            pass
    return {str(count): peak_mb()}


def sessions(weights: Path, count: int, frames: int) -> dict[str, float]:
    """Follow through one video after the other."""
    model = tiny_sam2.tracker(weights)
    memory: dict[str, float] = {}
    for number in range(1, count + 1):
        session = model.open_session(WIDTH, HEIGHT)
        session.condition(0, frame(number), PROMPTS)
        session.condition(frames // 2, frame(number + frames // 2), PROMPTS)
        for index in range(frames):
            session.step(index, frame(number + index))
        model.open_session(WIDTH, HEIGHT, session.state()).close()
        session.close()
        memory[f"after {number}"] = in_use_mb()
    return memory


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    path, what, *numbers = sys.argv[1:]
    # Progress bars, which sam2 draws.
    with contextlib.redirect_stderr(io.StringIO()):
        if what == "ours":
            result = ours(Path(path), [int(each) for each in numbers])
        elif what == "official":
            result = official(int(numbers[0]))
        else:
            result = sessions(Path(path), int(numbers[0]), int(numbers[1]))
    print(json.dumps(result))
