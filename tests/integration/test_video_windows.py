"""Videos followed window by window from outside: by a model that takes whole clips."""

import json
import random
import signal
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from .tool import Commands, Done, Log, check_store

SIDE = 16
COLOURS = {1: (230, 30, 30), 2: (30, 30, 230)}
FRAMES = 50
WINDOW = 8


def place(track: int, frame: int) -> tuple[int, int]:
    """Return where a square begins; each has its own line and its own way."""
    way = abs((2 * frame + 40 * track) % 120 - 60)
    return way, 8 + 24 * (track - 1)


@pytest.fixture
def clip(work: Path) -> Path:
    """A video of two squares; the second is not to be seen from frame 10 to 12."""
    path = work / "clip.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10, options={"qp": "4"})
        stream.width, stream.height, stream.pix_fmt = 80, 64, "yuv420p"
        for index in range(FRAMES):
            pixels = np.full((64, 80, 3), 90, np.uint8)
            for track, colour in COLOURS.items():
                if track == 1 or not 10 <= index < 13:
                    x, y = place(track, index)
                    pixels[y : y + SIDE, x : x + SIDE] = colour
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        output.mux(stream.encode(None))
    return path


@pytest.fixture
def arguments(clip: Path) -> list[str]:
    """A command on the clip, in which both squares are named, and the second once more."""
    prompts = []
    for track, frame in ((1, 0), (2, 3), (2, 20)):
        x, y = place(track, frame)
        box = [x, y, x + SIDE, y + SIDE]
        prompts.append({"object_id": track, "label": f"square {track}", "frame_index": frame})
        prompts[-1]["box"] = box
    (clip.parent / "prompts.json").write_text(json.dumps({"clip.mp4": prompts}))
    command = ["segment-video", "clip.mp4", "-o", "out.json", "-m", "counting-tracker", "--json"]
    return [*command, "--prompts", "prompts.json", "--checkpoint-every", str(WINDOW)]


def boxes(path: Path) -> dict[int, dict[int, list[float]]]:
    """Return the boxes of each track by frame."""
    content = json.loads(path.read_text())
    frames = {each["id"]: each["frame_index"] for each in content["images"]}
    found: dict[int, dict[int, list[float]]] = defaultdict(dict)
    for each in content["annotations"]:
        assert frames[each["image_id"]] not in found[each["track_id"]]
        found[each["track_id"]][frames[each["image_id"]]] = each["bbox"]
    assert len(frames) == FRAMES
    return found


def check_boxes(path: Path, seen: dict[int, list[int]]) -> None:
    found = boxes(path)
    assert {track: sorted(frames) for track, frames in found.items()} == seen
    for track, frames in found.items():
        for frame, (x, y, width, height) in frames.items():
            wanted = (*place(track, frame), SIDE, SIDE)
            # The colours of a video are not quite those that it was made of.
            assert np.abs(np.subtract((x, y, width, height), wanted)).max() <= 2


def test_tracks_through_windows(
    command: Callable[..., Done], log: Log, arguments: list[str], work: Path
) -> None:
    done = command(*arguments)
    assert done.code == 0, done.err
    # Windows begin at 0, 7, 14 and so on: in 14 the second one is to be seen again.
    seen = {1: [*range(FRAMES)], 2: [*range(3, 10), *range(13, FRAMES)]}
    check_boxes(work / "out.json", seen)
    # A request with both, and in the windows in which one is prompted anew one more.
    assert log.count("track") == FRAMES + 6 + (14 + WINDOW - 20)
    before = log.count("track")
    again = command(*arguments)
    assert (again.summary["cached"], log.count("track")) == (1, before)


def test_the_window_is_part_of_the_request(
    command: Callable[..., Done], log: Log, arguments: list[str], work: Path
) -> None:
    command(*arguments)
    before = log.count("track")
    done = command(*arguments[:-1], "11")
    assert done.summary["processed"] == 1
    assert log.count("track") > before + FRAMES
    # One begins in frame 10, in which the second one is not to be seen.
    seen = {1: [*range(FRAMES)], 2: [*range(3, 10), *range(20, FRAMES)]}
    check_boxes(work / "out.json", seen)


def test_objects_that_are_found(
    command: Callable[..., Done], log: Log, clip: Path, arguments: list[str], work: Path
) -> None:
    command(*arguments)
    found = boxes(work / "out.json")
    truth = {
        "images": [
            {"id": frame + 1, "file_name": f"clip.mp4/frame_{frame:06d}.png"} | size
            for frame in range(FRAMES)
            for size in [{"width": 80, "height": 64}]
        ],
        "categories": [{"id": 1, "name": "square"}],
        "annotations": [
            {"id": 100 * track + frame, "image_id": frame + 1, "category_id": 1, "bbox": box}
            for track, frames in found.items()
            for frame, box in frames.items()
        ],
    }
    (work / "truth.json").write_text(json.dumps(truth))
    follow = ["segment-video", "clip.mp4", "-m", "counting-tracker", "--json"]
    follow += ["--from", "truth.json", "--checkpoint-every", str(WINDOW)]
    done = command(*follow, "-o", "found.json")
    assert done.code == 0, done.err
    seen = {1: [*range(FRAMES)], 2: [*range(3, 10), *range(13, FRAMES)]}
    assert {track: sorted(each) for track, each in boxes(work / "found.json").items()} == seen
    done = command(*follow, "-o", "found.json", "--detect-every", "15")
    assert done.code == 0, done.err
    seen = {1: [*range(FRAMES)], 2: [*range(15, FRAMES)]}
    assert {track: sorted(each) for track, each in boxes(work / "found.json").items()} == seen


def test_options_that_cannot_be(command: Callable[..., Done], arguments: list[str]) -> None:
    done = command(*arguments[:-1], "1")
    assert (done.code, done.line.count("takes clips of 2 frames or more")) == (2, 1)
    done = command(*arguments, "--mask-every", "2")
    assert (done.code, done.line.count("makes a mask in every frame")) == (2, 1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_ended_at_any_moment_a_run_ends_as_if_it_had_not_been(
    number: int, commands: Commands, log: Log, arguments: list[str], work: Path
) -> None:
    whole = commands.run(*arguments, "--store", "whole", "-o", "whole.parquet")
    assert whole.code == 0, whole.err
    wanted = {name: (work / name).read_bytes() for name in ("out.json", "whole.parquet")}
    asked = log.times("track")
    (work / "out.json").unlink()
    log.clear()
    commands.environment["COUNTING_DELAY"] = "0.15"
    arguments += ["--store", "store", "-o", "whole.parquet"]
    choose = random.Random(number)
    ended = 0
    for part in range(3):
        calls = choose.randint(1, 20) + part * len(asked) // 4
        started = commands.start(*arguments)
        if started.until(lambda calls=calls: len(log) >= calls):
            done = started.end(number)
            ended += done.code != 0
    commands.environment["COUNTING_DELAY"] = "0"
    done = commands.run(*arguments)
    assert done.code == 0, done.err
    assert {name: (work / name).read_bytes() for name in wanted} == wanted
    assert ended >= 2
    again = log.times("track") - asked
    assert asked - log.times("track") == Counter()
    most = WINDOW if number == signal.SIGKILL else 0
    assert again.total() <= ended * most
    check_store(work / "store")
