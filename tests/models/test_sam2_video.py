"""The tracker: the manners of its sessions, whole clips at once, and memory that does not grow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixano_cli import rle
from pixano_cli.models.base import ModelDeploymentConfig, registered_uses
from pixano_cli.models.plugins import discover_models
from pixano_cli.models.sam2.checkpoints import PUBLISHED
from pixano_cli.models.sam2.video import Sam2VideoTiny
from pixano_cli.models.tracking import ObjectPrompt, StreamingTrackingModel, TrackingInput

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from pixano_cli.models.sam2 import session as session_module  # noqa: E402

from . import tiny_sam2  # noqa: E402
from .sam2_pair import (  # noqa: E402
    BOX,
    BOX_AND_POINT,
    COUNT,
    HEIGHT,
    MASK,
    POINTS,
    WIDTH,
    Pair,
    assert_equal,
    block,
    decoded,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def begun(pair: Pair) -> Pair:
    pair.use_clip(COUNT)
    return pair


def test_the_models_are_found_by_name() -> None:
    discover_models()
    trackers = {
        name: model_class
        for name, model_class in registered_uses()
        if issubclass(model_class, StreamingTrackingModel)
    }
    assert set(PUBLISHED) <= set(trackers)
    for name, published in PUBLISHED.items():
        card = trackers[name].card
        assert card is not None
        assert card.license == "Apache-2.0"
        assert published.repository in card.origin


def test_scores(begun: Pair) -> None:
    session = begun.session()
    shown = session.condition(0, begun.frames[0], [BOX, MASK])
    step = session.step(0, begun.frames[0])
    assert dict(step) == dict(shown)
    assert shown[4].score == 0.99995  # a mask is taken for the truth: a logit of 10
    assert shown[1].score is not None
    assert 0.5 < shown[1].score < 1
    assert shown[1].score == round(shown[1].score, 5)


def test_a_network_that_does_not_say_whether_an_object_is_there(tmp_path: Path) -> None:
    overrides = [
        "model.pred_obj_scores=false",
        "model.fixed_no_obj_ptr=false",
        "model.no_obj_embed_spatial=false",
        "model.use_multimask_token_for_obj_ptr=false",
    ]
    pair = Pair(tmp_path, overrides)
    pair.use_clip(9)
    session = pair.session()
    assert session.condition(0, pair.frames[0], [BOX])[1].score is None
    assert session.step(0, pair.frames[0])[1].score is None
    prompts = [(0, BOX), (4, MASK)]
    assert_equal(pair.follow(prompts), pair.follow_official(prompts))


def test_forgotten_objects_change_nothing_for_others(begun: Pair) -> None:
    alone, session = begun.session(), begun.session()
    alone.condition(0, begun.frames[0], [POINTS, MASK])
    session.condition(0, begun.frames[0], [BOX, POINTS, MASK])
    session.condition(15, begun.frames[15], [BOX, BOX_AND_POINT])
    for frame in range(COUNT):
        if frame == 9:
            session.forget([1, 3, 77])
        expected = alone.step(frame, begun.frames[frame])
        found = session.step(frame, begun.frames[frame])
        assert list(found) == ([1, 2, 4, 3] if frame < 9 else [2, 4])
        assert {each: found[each] for each in expected} == expected


def test_a_forgotten_object_may_come_again_as_a_new_one(begun: Pair) -> None:
    session, fresh = begun.session(), begun.session()
    session.condition(0, begun.frames[0], [BOX, POINTS])
    session.step(0, begun.frames[0])
    fresh.condition(0, begun.frames[0], [POINTS])
    fresh.step(0, begun.frames[0])
    session.forget([1])
    again = ObjectPrompt(1, box=(20.0, 10.0, 60.0, 40.0))
    assert session.condition(0, begun.frames[0], [again]) == fresh.condition(
        0, begun.frames[0], [again]
    )
    for frame in range(1, 6):
        found = session.step(frame, begun.frames[frame])
        assert dict(found) == dict(fresh.step(frame, begun.frames[frame]))


def test_without_objects_nothing_is_run(begun: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Any] = []
    encode = session_module.encode

    def counted(*arguments: Any) -> Any:
        runs.append(arguments)
        return encode(*arguments)

    monkeypatch.setattr(session_module, "encode", counted)
    session = begun.session()
    assert session.condition(0, begun.frames[0], []) == {}
    assert session.step(0, begun.frames[0]) == {}
    assert session.step(1, begun.frames[1]) == {}
    assert not runs
    session.condition(1, begun.frames[1], [BOX])
    session.condition(1, begun.frames[1], [POINTS])
    assert len(runs) == 1
    session.step(2, begun.frames[2])
    assert len(runs) == 2
    session.forget([1, 2])
    session.step(3, begun.frames[3])
    assert len(runs) == 2


FRAME = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
NAN = float("nan")


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (ObjectPrompt(1), "neither a box nor points nor a mask"),
        (ObjectPrompt(1, box=(0, 0, NAN, 4)), "four finite numbers"),
        (ObjectPrompt(1, box=(0, 0, 4)), "four finite numbers"),  # type: ignore[arg-type]
        (ObjectPrompt(1, points=((1, float("inf")),), labels=(1,)), "two finite numbers"),
        (ObjectPrompt(1, points=((1, 1),)), "1 points but 0 labels"),
        (ObjectPrompt(1, points=((1, 1),), labels=(2,)), "labels must be 0 or 1"),
        (ObjectPrompt(1, box=(1, 1, 9, 9), mask=block(1, 1, 5, 5)), "a mask, and a box or points"),
        (ObjectPrompt(1, mask=rle.encode(np.ones((3, 3), np.bool_))), "of size"),
        (ObjectPrompt(1, mask=rle.CompressedRLEData([HEIGHT, WIDTH], b"01")), "cover"),
    ],
)
def test_prompts_that_cannot_be_used(begun: Pair, prompt: ObjectPrompt, words: str) -> None:
    session = begun.session()
    session.condition(2, begun.frames[2], [BOX])
    before = session.state()
    with pytest.raises(ValueError, match=words):
        session.condition(3, begun.frames[3], [POINTS, prompt])
    assert session.state() == before


def test_frames_that_cannot_be_used(begun: Pair) -> None:
    session = begun.session()
    session.condition(2, begun.frames[2], [BOX])
    before = session.state()
    for image in (FRAME[:-1], FRAME[:, :, :2], FRAME.astype(np.float32)):
        with pytest.raises(ValueError, match="a frame must be pixels"):
            session.condition(3, image, [POINTS])  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="a frame must be pixels"):
            session.step(2, image)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frame -1"):
        session.step(-1, FRAME)
    with pytest.raises(ValueError, match="frame -1"):
        session.condition(-1, FRAME, [BOX])
    assert session.state() == before
    session.step(2, begun.frames[2])
    before = session.state()
    for frame in (2, 1, 4):
        with pytest.raises(ValueError, match="is not the one after frame 2"):
            session.step(frame, begun.frames[frame])
    with pytest.raises(ValueError, match="frame 2 was reached already"):
        session.condition(1, begun.frames[1], [POINTS])
    session.condition(2, begun.frames[2], [POINTS])
    session.step(3, begun.frames[3])
    with pytest.raises(ValueError, match="correct it in a later frame"):
        session.condition(3, begun.frames[3], [POINTS])


def test_box_corners_in_any_order(begun: Pair) -> None:
    turned = ObjectPrompt(1, box=(29.0, 24.0, 5.5, 4.0))
    first, second = begun.session(), begun.session()
    assert first.condition(0, begun.frames[0], [BOX]) == second.condition(
        0, begun.frames[0], [turned]
    )


def test_a_closed_session(begun: Pair) -> None:
    session = begun.session()
    session.condition(0, begun.frames[0], [BOX])
    session.close()
    session.close()
    for use in (
        session.state,
        lambda: session.step(0, begun.frames[0]),
        lambda: session.condition(0, begun.frames[0], [BOX]),
    ):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_sessions_side_by_side(begun: Pair) -> None:
    """In threads too, as several videos may be followed at once."""
    from concurrent.futures import ThreadPoolExecutor

    prompts = [[BOX, POINTS], [MASK], [POINTS, BOX_AND_POINT, MASK], [BOX]]

    def follow(given: list[ObjectPrompt]) -> list[Any]:
        torch.set_num_threads(1)
        session = begun.session()
        session.condition(0, begun.frames[0], given)
        return [dict(session.step(frame, begun.frames[frame])) for frame in range(12)]

    expected = [follow(each) for each in prompts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(follow, prompts)) == expected


def test_a_whole_clip(begun: Pair) -> None:
    request = TrackingInput(
        video=list(begun.frames),
        objects_ids=[7, 2, 5],
        frame_indexes=[9, 3, 3],
        boxes=[[5.5, 4.0, 29.0, 24.0], [10.0, 10.0, 50.0, 40.0], [40.0, 10.0, 80.0, 50.0]],
    )
    output = begun.model.predict(request)
    prompts = [
        (frame, ObjectPrompt(each, box=(box[0], box[1], box[2], box[3])))
        for each, frame, box in zip(
            request.objects_ids, request.frame_indexes, request.boxes or [], strict=True
        )
    ]
    theirs = begun.follow_official([prompts[1], prompts[2], prompts[0]])
    assert output.frame_indexes == [frame for frame in range(3, COUNT) for _ in range(3)]
    assert output.objects_ids == [7, 2, 5] * (COUNT - 3)
    for each, frame, mask in zip(
        output.objects_ids, output.frame_indexes, output.masks, strict=True
    ):
        assert np.array_equal(rle.decode(mask), theirs[frame][each])


def test_a_clip_of_files_by_points(begun: Pair) -> None:
    files = sorted(begun.path.iterdir())[:4]
    points = {"points": [[[60.0, 40.0], [10.0, 10.0]]], "labels": [[1, 0]]}
    asked = {"objects_ids": [2], "frame_indexes": [0], **points}
    of_files = begun.model.predict(
        TrackingInput(video=[files[0], str(files[1]), files[2].as_uri(), files[3]], **asked)
    )
    of_pixels = begun.model.predict(TrackingInput(video=list(begun.frames[:4]), **asked))
    assert of_files == of_pixels
    session = begun.model.open_session(WIDTH, HEIGHT, length=4)
    session.condition(0, begun.frames[0], [POINTS])
    found = [decoded(session.step(frame, begun.frames[frame]))[2] for frame in range(4)]
    assert all(
        np.array_equal(rle.decode(mask), expected)
        for mask, expected in zip(of_pixels.masks, found, strict=True)
    )


def test_clips_that_cannot_be_followed(begun: Pair) -> None:
    nothing = begun.model.predict(TrackingInput(video=[], objects_ids=[], frame_indexes=[]))
    assert nothing.masks == []
    asked = {"objects_ids": [1], "frame_indexes": [0]}
    with pytest.raises(ValueError, match="neither a box"):
        begun.model.predict(TrackingInput(video=[FRAME], **asked))
    with pytest.raises(ValueError, match="four numbers"):
        begun.model.predict(TrackingInput(video=[FRAME], boxes=[[1.0, 2.0]], **asked))
    with pytest.raises(ValueError, match="a frame must be pixels"):
        begun.model.predict(
            TrackingInput(video=[FRAME, FRAME[:-1]], boxes=[[1.0, 2.0, 9.0, 9.0]], **asked)
        )


def test_a_model_that_is_not_loaded(pair: Pair) -> None:
    config = ModelDeploymentConfig(name="m", capability="tracking", model_class="sam2.1-tiny")
    model = Sam2VideoTiny(config)
    for use in (
        lambda: model.open_session(10, 10),
        lambda: model.predict(TrackingInput(video=[], objects_ids=[], frame_indexes=[])),
    ):
        with pytest.raises(RuntimeError, match="load_model"):
            use()
    loaded = tiny_sam2.tracker(pair.folder / "weights.pt")
    loaded.unload()
    with pytest.raises(RuntimeError, match="load_model"):
        loaded.open_session(10, 10)


def measured(weights: Path, *arguments: str) -> dict[str, float]:
    """Run `follow_sam2.py` in a process of its own; memory is measured in MB."""
    script = Path(__file__).with_name("follow_sam2.py")
    ended = subprocess.run(
        [sys.executable, str(script), str(weights), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    answer: dict[str, float] = json.loads(ended.stdout)
    return answer


def test_ten_sessions_add_nothing(pair: Pair) -> None:
    memory = measured(pair.folder / "weights.pt", "sessions", "10", "24")
    assert memory["after 10"] - memory["after 3"] < 4


@pytest.mark.long
def test_memory_does_not_grow_with_the_video(pair: Pair) -> None:
    weights = pair.folder / "weights.pt"
    memory = measured(weights, "ours", "300", "3000")
    assert memory["3000"] - memory["300"] < 20
    assert memory["state 3000"] - memory["state 300"] < 0.01
    # sam2's own predictor holds all frames and what it remembers of each.
    grown = measured(weights, "official", "3000")["3000"]
    grown -= measured(weights, "official", "300")["300"]
    assert grown > 400
