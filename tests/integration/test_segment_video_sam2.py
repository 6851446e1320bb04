"""`segment-video` with SAM 2: from the command line to the file, as sam2's own predictor has it."""

import importlib.util
import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

from pixano_cli import rle
from pixano_cli.models.tracking import ObjectPrompt

from .clips import Square, write_clip
from .coco_files import read
from .tool import Commands, Done, Log, check_store, query

pytest.importorskip("torch")
pytest.importorskip("sam2")

COUNT = 40
WIDTH, HEIGHT = 97, 61
BLOCK = np.zeros((HEIGHT, WIDTH), bool)
BLOCK[3:33, 3:33] = True
PROMPTS = [
    (0, ObjectPrompt(1, box=(5.5, 4.0, 29.0, 24.0))),
    (0, ObjectPrompt(2, points=((60.0, 40.0), (10.0, 10.0)), labels=(1, 0))),
    (9, ObjectPrompt(3, box=(40.0, 10.0, 80.0, 50.0))),
    (21, ObjectPrompt(1, points=((40.0, 30.0),), labels=(1,))),
    (30, ObjectPrompt(4, mask=rle.encode(BLOCK))),
]
# The program, with a line in a log before each step of a session.
COUNTED = """
import os, time
from pixano_cli.models.sam2 import session

step = session.Sam2Session.step

def noted(self, frame, image):
    log = os.open(os.environ["COUNTING_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{os.getpid()} step {frame}\\n".encode())
    os.close(log)
    time.sleep(float(os.environ["COUNTING_DELAY"]))
    return step(self, frame, image)

session.Sam2Session.step = noted
from pixano_cli.cli import main
main()
"""


class Own(NamedTuple):
    """A small network of sam2 with random weights: its predictor, and its files."""

    tiny_sam2: ModuleType
    predictor: Any
    weights: Path
    config: Path

    @property
    def options(self) -> tuple[object, ...]:
        given = ("--checkpoint", self.weights, "--model-config", self.config)
        return ("-m", "sam2.1-tiny", *given)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Own:
    from omegaconf import OmegaConf

    path = Path(__file__).parents[1] / "models" / "tiny_sam2.py"
    spec = importlib.util.spec_from_file_location("tiny_sam2", path)
    assert spec is not None
    assert spec.loader is not None
    tiny_sam2 = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny_sam2)
    folder = tmp_path_factory.mktemp("sam2")
    predictor = tiny_sam2.official()
    weights = tiny_sam2.save_weights(predictor, folder / "own.pt")
    sam2 = importlib.util.find_spec("sam2")
    assert sam2 is not None
    assert sam2.submodule_search_locations
    published = Path(sam2.submodule_search_locations[0]) / tiny_sam2.CONFIG
    config = OmegaConf.merge(
        OmegaConf.load(published), OmegaConf.from_dotlist(list(tiny_sam2.OVERRIDES))
    )
    OmegaConf.save(config, folder / "own.yaml")
    return Own(tiny_sam2, predictor, weights, folder / "own.yaml")


def as_json(frame: int, prompt: ObjectPrompt) -> dict[str, Any]:
    given: dict[str, Any] = {"object_id": prompt.object_id, "frame_index": frame, "label": "thing"}
    if prompt.box is not None:
        given["box"] = prompt.box
    if prompt.points:
        given |= {"points": prompt.points, "labels": prompt.labels}
    if prompt.mask is not None:
        given["mask"] = prompt.mask.to_dict()
    return given


@pytest.mark.usefixtures("log")
def test_every_mask_is_that_of_the_official_predictor(
    command: Callable[..., Done], own: Own, work: Path
) -> None:
    folder = work / "videos" / "seq"
    folder.mkdir(parents=True)
    own.tiny_sam2.save_frames(own.tiny_sam2.clip(COUNT, WIDTH, HEIGHT), folder)
    state = own.predictor.init_state(str(folder))
    for frame, prompt in PROMPTS:
        own.tiny_sam2.prompt_official(own.predictor, state, frame, prompt)
    expected = dict(own.tiny_sam2.follow_official(own.predictor, state))

    (work / "prompts.json").write_text(json.dumps({"seq": [as_json(*each) for each in PROMPTS]}))
    segment = ("segment-video", "videos", *own.options, "--prompts", "prompts.json")
    done = command(*segment, "-o", "out.json", "--json")
    assert done.code == 0, done.err
    assert done.summary["frames"] == COUNT
    coco = read(work / "out.json")
    found = {
        (coco.imgs[each["image_id"]]["frame_index"], each["track_id"]): coco.annToMask(each)
        for each in coco.anns.values()
    }
    assert len(found) == sum(mask.any() for masks in expected.values() for mask in masks.values())
    assert {number for _, number in found} == {1, 2, 3, 4}
    for frame, masks in expected.items():
        for number, mask in masks.items():
            if mask.any():
                assert np.array_equal(found[frame, number] > 0, mask), (frame, number)


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.long)])
def test_killed_inside_a_video_it_ends_as_if_it_had_not_been(
    kills: int, commands: Commands, log: Log, own: Own, work: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    frames, at_once = 20 * (kills + 1), 6
    squares = (Square("red", 4, 8, 0.4, 0.2), Square("green", 100, 60, -0.3, -0.1))
    write_clip(work / "clip.mp4", frames, squares)
    boxes = {1: (4, 8, 28, 32), 2: (100, 60, 124, 84)}
    objects = [{"object_id": number, "frame_index": 0, "box": box} for number, box in boxes.items()]
    objects.append({"object_id": 1, "frame_index": 25, "points": [[20, 20]], "labels": [1]})
    (work / "prompts.json").write_text(json.dumps({"clip.mp4": objects}))
    segment = ("segment-video", "clip.mp4", *own.options, "--prompts", "prompts.json", "-q")
    outputs = ("-o", "out.json", "-o", "out.parquet")
    commands.environment["COUNTING_DELAY"] = "0"
    whole = commands.run(*segment, *outputs, "--store", "whole", program=("-c", COUNTED))
    assert whole.code == 0, whole.err
    expected = [(work / name).read_bytes() for name in outputs[1::2]]
    assert log.count("step") == frames
    for name in outputs[1::2]:
        (work / name).unlink()
    log.clear()

    segment = (*segment, *outputs, "--store", "store", "--checkpoint-every", at_once)
    commands.environment["COUNTING_DELAY"] = "0.03"
    for kill in range(kills):
        goal = len(log) + choose.randint(1, 18)
        started = commands.start(*segment, program=("-c", COUNTED))
        assert started.until(lambda goal=goal: len(log) >= goal)  # type: ignore[misc]
        assert started.end(signal.SIGKILL).code == -signal.SIGKILL
        stepped = {frame for process, frame in steps(log) if process == started.process.pid}
        lost = stepped - recorded(work / "store")
        assert len(lost) <= at_once, (kill, lost)
        assert not any((work / name).exists() for name in outputs[1::2])
    done = commands.run(*segment, program=("-c", COUNTED))
    assert done.code == 0, done.err
    assert [(work / name).read_bytes() for name in outputs[1::2]] == expected
    again = log.count("step") - frames
    assert again <= kills * at_once
    check_store(work / "store")


def steps(log: Log) -> list[tuple[int, int]]:
    return [(process, int(frame)) for process, frame in log.lines("step")]


def recorded(store: Path) -> set[int]:
    if not store.exists() or not query(store, "SELECT 1 FROM sqlite_master WHERE name = 'frames'"):
        return set()
    return {index for (index,) in query(store, "SELECT frame_index FROM frames")}
