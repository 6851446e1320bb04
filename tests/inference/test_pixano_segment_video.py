"""Whole videos followed by a tracker of a real Pixano Inference server, by the command."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.types import InferenceTask, ModelConfig, VideoMaskGenerationInput

from .annotating import Done, Work, end, stop, until
from .real_server import Servers
from .squares import of_colour, painted, url

FRAMES = 22
WINDOW = 6
DEPLOYMENT = {"num_cpus": 0.1, "min_replicas": 1, "max_replicas": 1}


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIXANO_INFERENCE_API_KEY", raising=False)


def frames() -> list[NDArray[np.uint8]]:
    """Return two squares on their ways, by whole blocks of JPEG: so they arrive as they are."""
    return [
        painted(
            {
                "red": (8 * n, 8, 8 * n + 16, 24),
                "blue": (168 - 8 * n, 32, 168 - 8 * n + 16, 40),
            },
            192,
            48,
        )
        for n in range(FRAMES)
    ]


@pytest.fixture
def arguments(work: Work, servers: Servers) -> list[str]:
    """A command on a folder of frames, with an object that begins in the third window."""
    (work.folder / "clip").mkdir()
    for index, pixels in enumerate(frames()):
        Image.fromarray(pixels).save(work.folder / "clip" / f"{index}.png")
    prompts: list[dict[str, Any]] = [
        {"object_id": 7, "label": "red", "frame_index": 0, "box": [0, 8, 16, 24]},
        {"object_id": 3, "label": "blue", "frame_index": 12, "points": [[75, 35]]},
    ]
    (work.folder / "prompts.json").write_text(json.dumps({"clip": prompts}))
    command = ["segment-video", "clip", "-o", "out.json", "--json", "--prompts", "prompts.json"]
    command += ["--provider", "pixano-inference", "--url", servers.guarded.url]
    command += ["--api-key-file", str(servers.key_file), "--store", "store"]
    return [*command, "--checkpoint-every", str(WINDOW)]


Masks = dict[tuple[int, int], dict[str, Any]]


def masks_of(work: Work) -> Masks:
    """Return what was written, by frame and track."""
    content = json.loads(work.output("out.json"))
    index = {each["id"]: each["frame_index"] for each in content["images"]}
    assert sorted(index.values()) == [*range(FRAMES)]
    found = {
        (index[each["image_id"]], each["track_id"]): each["segmentation"]
        for each in content["annotations"]
    }
    assert len(found) == len(content["annotations"])
    return found


def test_windows_are_as_good_as_one_request(
    command: Callable[..., Done], work: Work, arguments: list[str], servers: Servers
) -> None:
    done = command(*arguments, "-m", "squares")
    assert done.code == 0, done.err
    in_windows = masks_of(work)
    done = command(*arguments, "-m", "squares", "--checkpoint-every", "30")
    assert done.counts == (1, 1, 0, 0)
    assert masks_of(work) == in_windows

    async def question(provider: InferenceProvider) -> Masks:
        # By boxes only, as one request has prompts of one kind.
        boxes = [[0.0, 8.0, 16.0, 24.0], [72.0, 32.0, 88.0, 40.0]]
        request = VideoMaskGenerationInput(
            [url(frame) for frame in frames()], "squares", [7, 3], [0, 12], boxes=boxes
        )
        data = (await provider.video_mask_generation(request)).data
        answer = zip(data.frame_indexes, data.objects_ids, data.masks, strict=True)
        return {(frame, number): mask.to_dict() for frame, number, mask in answer}

    assert in_windows == servers.ask(question)
    wanted = {(at, 7): of_colour(frame, "red").to_dict() for at, frame in enumerate(frames())}
    later = [*enumerate(frames())][12:]
    assert in_windows == wanted | {
        (at, 3): of_colour(frame, "blue").to_dict() for at, frame in later
    }


@pytest.fixture
def noted(servers: Servers, tmp_path: Path) -> Iterator[Path]:
    """A file that has a line for each frame that the model "slow" was given."""
    log = tmp_path / "given"
    log.touch()

    async def load(provider: InferenceProvider) -> None:
        parameters = {"log": str(log), "seconds": 0.3, "deployment": DEPLOYMENT}
        config = ModelConfig("slow", InferenceTask.VIDEO_MASK_GENERATION.value, config=parameters)
        await provider.instantiate_model("squares", config, 120)

    servers.ask(load)
    yield log
    servers.ask(lambda provider: provider.delete_model("slow"))


def test_killed_inside_a_video(
    work: Work, arguments: list[str], servers: Servers, noted: Path
) -> None:
    arguments += ["-m", "slow"]
    whole = end(work.start(*arguments))
    assert whole.code == 0, whole.err
    wanted = work.output("out.json")
    given = Counter(noted.read_text().splitlines())
    # Each frame once, the seams twice, and the late object's first window.
    assert given.total() == FRAMES + 4 + 4
    (work.folder / "out.json").unlink()
    arguments[arguments.index("store")] = "another"
    killed = 0
    for more in (3, 11, 8):
        until_there = partial(is_at, noted, count(noted) + more)
        running = work.start(*arguments)
        until(until_there)
        killed += stop(running, signal.SIGKILL).code == -signal.SIGKILL
    done = end(work.start(*arguments))
    assert done.code == 0, done.err
    assert work.output("out.json") == wanted
    assert killed == 3
    again = Counter(noted.read_text().splitlines())
    again.subtract(given + given)
    assert min(again.values()) >= 0
    assert again.total() <= killed * WINDOW


def count(path: Path) -> int:
    return len(path.read_text().splitlines())


def is_at(path: Path, lines: int) -> bool:
    return count(path) >= lines
