"""Our sam2 backend against sam2's own predictor, on the same frames with the same random weights.

`sam2_speed.py [--side 256] [--objects 1,4] [--frames 40] [--threads N] [--device cpu]` prints JSON.

The two go through a folder of JPEG frames in turn, frame by frame, in alternating order, so that
whatever else runs on the machine slows both. sam2's predictor reads, resizes and normalises all
frames before, which is timed apart ("loading"); we read a frame when it is its turn ("reading") and
resize and normalise it in the step. sam2's masks are taken off the device as arrays, ours are RLE.
`ratio` is from files to masks, `ratio_of_steps` of the steps alone, both of medians; above 1 we are
faster. With `--threads 1` processor time is measured, else the time that passes. The masks are
compared as well.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pixano_cli import rle
from pixano_cli.inference.providers.allocator import keep_blocks
from pixano_cli.models.base import ModelDeploymentConfig
from pixano_cli.models.sam2.video import Sam2VideoTiny
from pixano_cli.models.tracking import ObjectPrompt

CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"
WIDTH, HEIGHT = 1280, 720
# The first frames have fewer memories to attend to, and warm both up.
FIRST = 8

Masks = dict[int, NDArray[np.bool_]]


def main() -> None:
    """Measure for each number of objects."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--objects", default="1,4")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    alone = options.threads == 1 and options.device == "cpu"
    clock = process_time if alone else perf_counter
    keep_blocks()  # as the local provider does; sam2's predictor runs with it here, too
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        frames = write_frames(work / "frames", options.frames)
        predictor, model = both(work, options.side, options.device)
        results = [
            compare(predictor, model, frames, int(count), clock)
            for count in options.objects.split(",")
        ]
    json.dump(
        {
            "side": options.side,
            "threads": options.threads,
            "device": options.device,
            "clock": clock.__name__,
            "torch": torch.__version__,
            "results": results,
        },
        sys.stdout,
        indent=2,
    )
    print()


def write_frames(folder: Path, count: int) -> list[Path]:
    """Write a video in which blocks move."""
    folder.mkdir()
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 255, (18, 32, 3), dtype=np.uint8))
    ground = np.asarray(coarse.resize((WIDTH, HEIGHT)))
    paths = []
    for index in range(count):
        frame = ground.copy()
        frame[100 + 5 * index : 300 + 5 * index, 200 + 10 * index : 400 + 10 * index] = 220, 40, 30
        paths.append(folder / f"{index:05d}.jpg")
        Image.fromarray(frame).save(paths[-1], quality=90)
    return paths


def both(work: Path, side: int, device: str) -> tuple[Any, Sam2VideoTiny]:
    """Make sam2's predictor with random weights, and our model with the same ones."""
    from sam2.build_sam import build_sam2_video_predictor

    torch.manual_seed(0)
    predictor = build_sam2_video_predictor(
        CONFIG, None, device, hydra_overrides_extra=[f"++model.image_size={side}"]
    )
    weights = work / "weights.pt"
    torch.save({"model": predictor.state_dict()}, weights)
    model = Sam2VideoTiny(
        ModelDeploymentConfig(
            name="tiny",
            capability="tracking",
            model_class="sam2.1-tiny",
            model_params={
                "device": device,
                "checkpoint": str(weights),
                "overrides": [f"model.image_size={side}"],
            },
        )
    )
    model.load_model()
    return predictor, model


def compare(
    predictor: Any,
    model: Sam2VideoTiny,
    frames: list[Path],
    count: int,
    clock: Callable[[], float],
) -> dict[str, float | int]:
    """Go through the video with both, in turn."""
    from sam2.utils.misc import load_video_frames

    boxes = {
        each: (100.0 + 40 * each, 80.0 + 20 * each, 420.0 + 40 * each, 330.0 + 20 * each)
        for each in range(1, count + 1)
    }
    folder = str(frames[0].parent)
    started = clock()
    load_video_frames(folder, predictor.image_size, False, compute_device=predictor.device)
    loading = (clock() - started) / len(frames)
    with autocast(predictor):
        state = predictor.init_state(folder)
        for each, box in boxes.items():
            predictor.add_new_points_or_box(state, 0, each, box=np.array(box, np.float32))
    session = model.open_session(WIDTH, HEIGHT, length=len(frames))
    session.condition(
        0, pixels(frames[0]), [ObjectPrompt(each, box=box) for each, box in boxes.items()]
    )
    theirs = official_masks(predictor, state)
    official_s: list[float] = []
    reading_s: list[float] = []
    ours_s: list[float] = []
    unequal = 0
    for index, path in enumerate(frames):
        for who in ("official", "ours") if index % 2 else ("ours", "official"):
            started = clock()
            if who == "official":
                expected = next(theirs)
                official_s.append(clock() - started)
            else:
                image = pixels(path)
                reading_s.append(clock() - started)
                found = session.step(index, image)
                ours_s.append(clock() - started - reading_s[-1])
        unequal += sum(
            not np.array_equal(rle.decode(found[each].mask), expected[each]) for each in boxes
        )
    session.close()
    steps, reading = median(official_s[FIRST:]), median(reading_s[FIRST:])
    ours = median(ours_s[FIRST:])
    return {
        "objects": count,
        "frames": len(frames) - FIRST,
        "official_loading_s": loading,
        "official_s": steps,
        "our_reading_s": reading,
        "ours_s": ours,
        "ratio": (steps + loading) / (ours + reading),
        "ratio_of_steps": steps / ours,
        "ratio_of_least": min(official_s[FIRST:]) / min(ours_s[FIRST:]),
        "unequal_masks": unequal,
    }


def official_masks(predictor: Any, state: Any) -> Iterator[Masks]:
    """Propagate with sam2's predictor; give the masks of each frame as arrays."""
    frames = predictor.propagate_in_video(state)
    while True:
        # Not around the whole loop: autocast would reach into what runs in between.
        with autocast(predictor):
            step = next(frames, None)
            if step is None:
                return
            _, objects, logits = step
            masks = (logits > 0).cpu().numpy()
        yield {each: masks[index, 0] for index, each in enumerate(objects)}


def autocast(predictor: Any) -> torch.autocast:
    """Compute in bfloat16 on CUDA, as sam2's own scripts do."""
    is_cuda = predictor.device.type == "cuda"
    return torch.autocast("cuda" if is_cuda else "cpu", dtype=torch.bfloat16, enabled=is_cuda)


def pixels(path: Path) -> NDArray[np.uint8]:
    """Read a frame."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


if __name__ == "__main__":
    main()
