"""Our sam2 backend, frame by frame, against sam2's own predictor, which is given all frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixano_cli.models.base import RGBImage
from pixano_cli.models.tracking import ObjectPrompt

pytest.importorskip("torch")
pytest.importorskip("sam2")

from pixano_cli.models.sam2.features import network_input
from pixano_cli.models.sam2.session import Sam2Session

from . import tiny_sam2
from .sam2_pair import (
    BOX,
    BOX_AND_POINT,
    COUNT,
    HEIGHT,
    MASK,
    POINTS,
    WIDTH,
    Pair,
    Prompts,
    assert_equal,
    assert_telling,
    block,
    decoded,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    "prompts",
    [
        pytest.param([(0, BOX)], id="box"),
        pytest.param([(0, POINTS)], id="points"),
        pytest.param([(0, MASK)], id="mask"),
        pytest.param([(0, BOX), (0, POINTS), (0, BOX_AND_POINT), (0, MASK)], id="several objects"),
        pytest.param([(3, BOX), (3, POINTS)], id="not from the first frame"),
        pytest.param([(0, BOX), (9, POINTS), (21, MASK)], id="objects in mid-video"),
        pytest.param([(21, MASK), (9, POINTS), (0, BOX)], id="prompts in reverse order"),
        pytest.param(
            [
                (0, BOX),
                (0, POINTS),
                (12, ObjectPrompt(1, points=((40.0, 30.0),), labels=(1,))),
                (20, ObjectPrompt(2, box=(10.0, 10.0, 50.0, 40.0))),
                (24, ObjectPrompt(1, mask=block(3, 3, 30, 30))),
            ],
            id="corrections in later frames",
        ),
        pytest.param(
            [
                (0, BOX),
                (0, ObjectPrompt(1, points=((15.0, 8.0),), labels=(0,))),
                (0, ObjectPrompt(1, points=((20.0, 20.0), (28.0, 22.0)), labels=(1, 1))),
                (0, MASK),
                (0, ObjectPrompt(4, points=((52.0, 32.0),), labels=(1,))),
                (5, POINTS),
                (5, ObjectPrompt(2, box=(40.0, 20.0, 70.0, 50.0))),
                (5, ObjectPrompt(2, points=((41.0, 21.0),), labels=(0,))),
                (5, ObjectPrompt(3, points=((5.0, 5.0),), labels=(1,))),
                (5, ObjectPrompt(3, mask=block(1, 2, 30, 20))),
            ],
            id="several prompts in one frame",
        ),
    ],
)
def test_masks_are_those_of_the_official_predictor(pair: Pair, prompts: Prompts) -> None:
    pair.use_clip(COUNT)
    theirs = pair.follow_official(prompts)
    assert_telling(theirs)
    assert_equal(pair.follow(prompts), theirs)


@pytest.mark.parametrize(("width", "height"), [(128, 128), (33, 200), (301, 47), (64, 40), (3, 5)])
def test_frames_of_any_size(pair: Pair, width: int, height: int) -> None:
    pair.use_clip(18, width, height)
    box = (width * 0.1, height * 0.2, width * 0.5, height * 0.7)
    prompts = [
        (0, ObjectPrompt(1, box=box)),
        (0, ObjectPrompt(2, points=((width * 0.7, height * 0.5),), labels=(1,))),
    ]
    assert_equal(pair.follow(prompts), pair.follow_official(prompts))


@pytest.mark.parametrize("count", [1, 2, 5, 15])
def test_a_short_video_of_known_length(pair: Pair, count: int) -> None:
    pair.use_clip(count)
    prompts = [(0, BOX), (count // 2, POINTS)]
    assert_equal(pair.follow(prompts), pair.follow_official(prompts))


def test_condition_shows_what_the_official_predictor_shows(pair: Pair) -> None:
    pair.use_clip(COUNT)
    state, session = pair.official_state(), pair.session()
    for frame, prompt in [(0, BOX), (4, POINTS), (4, BOX_AND_POINT), (4, MASK), (4, POINTS)]:
        expected = tiny_sam2.prompt_official(pair.official, state, frame, prompt)
        found = session.condition(frame, pair.frames[frame], [prompt])
        assert list(found) == [prompt.object_id]
        assert np.array_equal(decoded(found)[prompt.object_id], expected[prompt.object_id])


@pytest.mark.parametrize(
    ("width", "height"), [(97, 61), (128, 128), (700, 30), (1, 1), (1920, 1080)]
)
@pytest.mark.parametrize("side", [128, 512])
def test_the_network_is_shown_the_same_pixels(
    tmp_path: Path, width: int, height: int, side: int
) -> None:
    from sam2.utils.misc import load_video_frames

    frames = tiny_sam2.save_frames(tiny_sam2.clip(2, width, height), tmp_path)
    theirs, *size = load_video_frames(str(tmp_path), side, True)
    assert size == [height, width]
    for frame, expected in zip(frames, theirs, strict=True):
        assert np.array_equal(network_input(frame, side)[0], expected.numpy())


def test_prompts_of_a_frame_may_come_together(pair: Pair) -> None:
    pair.use_clip(COUNT)
    prompts = [BOX, POINTS, ObjectPrompt(1, points=((15.0, 8.0),), labels=(0,)), MASK]
    session = pair.session()
    shown = session.condition(0, pair.frames[0], prompts)
    assert list(shown) == [1, 2, 4]
    ours = {i: decoded(session.step(i, pair.frames[i])) for i in range(COUNT)}
    assert_equal(ours, pair.follow([(0, each) for each in prompts]))
    assert_equal({0: decoded(shown)}, {0: ours[0]})


@pytest.mark.parametrize("prompt", [MASK, POINTS])
def test_a_new_object_in_the_frame_reached(pair: Pair, prompt: ObjectPrompt) -> None:
    pair.use_clip(COUNT)
    reached = 11
    state, session = pair.official_state(), pair.session()
    for early in (BOX, BOX_AND_POINT):
        tiny_sam2.prompt_official(pair.official, state, 0, early)
        session.condition(0, pair.frames[0], [early])
    theirs = dict(tiny_sam2.follow_official(pair.official, state, max_frame_num_to_track=reached))
    ours = {i: decoded(session.step(i, pair.frames[i])) for i in range(reached + 1)}
    assert_equal(ours, theirs)

    expected = tiny_sam2.prompt_official(pair.official, state, reached, prompt)
    found = decoded(session.condition(reached, pair.frames[reached], [prompt]))
    assert np.array_equal(found[prompt.object_id], expected[prompt.object_id])
    theirs = dict(tiny_sam2.follow_official(pair.official, state, start_frame_idx=reached + 1))
    assert len(theirs) == COUNT - reached - 1
    assert_telling(theirs)
    ours = {i: decoded(session.step(i, pair.frames[i])) for i in range(reached + 1, COUNT)}
    assert_equal(ours, theirs)


def test_prompts_ahead_while_on_the_way(pair: Pair) -> None:
    pair.use_clip(COUNT)
    state, session = pair.official_state(), pair.session()
    tiny_sam2.prompt_official(pair.official, state, 0, BOX)
    session.condition(0, pair.frames[0], [BOX])
    list(tiny_sam2.follow_official(pair.official, state, max_frame_num_to_track=8))
    for index in range(9):
        session.step(index, pair.frames[index])
    for frame, prompt in [(20, MASK), (14, ObjectPrompt(1, box=(30.0, 20.0, 60.0, 50.0)))]:
        tiny_sam2.prompt_official(pair.official, state, frame, prompt)
        session.condition(frame, pair.frames[frame], [prompt])
    theirs = dict(tiny_sam2.follow_official(pair.official, state, start_frame_idx=9))
    ours = {i: decoded(session.step(i, pair.frames[i])) for i in range(9, COUNT)}
    assert_equal(ours, theirs)


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_prompts(pair: Pair, data: st.DataObject) -> None:
    pair.use_clip(COUNT)
    x, y = st.floats(0, WIDTH), st.floats(0, HEIGHT)
    points = st.lists(st.tuples(x, y, st.sampled_from([0, 1])), min_size=1, max_size=3)
    boxes = st.tuples(st.floats(0, 48), st.floats(0, 30), st.floats(49, 97), st.floats(31, 61))
    corner = st.integers(0, 40)
    sides = st.integers(4, 20)

    def prompt(object_id: int) -> ObjectPrompt:
        kind = data.draw(st.sampled_from(["box", "points", "both", "mask"]))
        if kind == "mask":
            return ObjectPrompt(
                object_id,
                mask=block(*(data.draw(each) for each in (corner, corner, sides, sides))),
            )
        given_points = data.draw(points) if kind != "box" else []
        return ObjectPrompt(
            object_id,
            box=data.draw(boxes) if kind != "points" else None,
            points=tuple((x, y) for x, y, _ in given_points),
            labels=tuple(label for _, _, label in given_points),
        )

    places = data.draw(
        st.lists(st.tuples(st.integers(0, COUNT - 1), st.integers(1, 3)), min_size=1, max_size=5)
    )
    prompts = [(frame, prompt(object_id)) for frame, object_id in places]
    assert_equal(pair.follow(prompts), pair.follow_official(prompts))


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(["model.max_cond_frames_in_attn=2"], id="few conditioning frames"),
        pytest.param(
            ["model.max_cond_frames_in_attn=3"],
            id="three conditioning frames",
            marks=pytest.mark.long,
        ),
        pytest.param(["model.memory_temporal_stride_for_eval=3"], id="stride"),
        pytest.param(
            [
                "model.memory_temporal_stride_for_eval=4",
                "model.num_maskmem=5",
                "model.max_cond_frames_in_attn=4",
            ],
            id="stride and few",
        ),
        pytest.param(["model.num_maskmem=1"], id="only conditioning frames"),
        pytest.param(["model.num_maskmem=2"], id="one frame", marks=pytest.mark.long),
        pytest.param(["model.max_obj_ptrs_in_encoder=3"], id="few pointers"),
        pytest.param(
            ["model.only_obj_ptrs_in_the_past_for_eval=false"],
            id="pointers ahead",
            marks=pytest.mark.long,
        ),
        pytest.param(["model.non_overlap_masks=true"], id="no overlap"),
        pytest.param(
            ["model.non_overlap_masks_for_mem_enc=true"],
            id="no overlap in memory",
            marks=pytest.mark.long,
        ),
        pytest.param(
            ["model.use_mask_input_as_output_without_sam=false"],
            id="masks as prompts",
            marks=pytest.mark.long,
        ),
        pytest.param(
            ["model.multimask_output_for_tracking=false"], id="one mask", marks=pytest.mark.long
        ),
    ],
)
def test_networks_of_other_settings(tmp_path: Path, overrides: list[str]) -> None:
    pair = Pair(tmp_path, overrides)
    pair.use_clip(COUNT)
    prompts: Prompts = [
        (0, BOX),
        (0, POINTS),
        (2, ObjectPrompt(1, box=(8.0, 6.0, 33.0, 26.0))),
        (6, ObjectPrompt(1, points=((20.0, 20.0),), labels=(1,))),
        (9, MASK),
        (10, ObjectPrompt(1, points=((30.0, 20.0),), labels=(1,))),
        (18, ObjectPrompt(1, box=(38.0, 20.0, 70.0, 45.0))),
        (23, ObjectPrompt(1, points=((60.0, 40.0),), labels=(1,))),
    ]
    theirs = pair.follow_official(prompts)
    assert_equal(pair.follow(prompts), theirs)


def test_objects_that_come_and_go(tmp_path: Path) -> None:
    pair = Pair(tmp_path, certainty=0.05)
    pair.use_clip(COUNT)
    prompts = [(0, BOX), (0, POINTS), (14, MASK)]
    theirs = pair.follow_official(prompts)
    empty = [not mask.any() for each in theirs.values() for mask in each.values()]
    assert 0.1 < np.mean(empty) < 0.9
    assert_equal(pair.follow(prompts), theirs)


def test_batches_give_nearly_the_same(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done on a GPU: objects of one layout together, and the last ones by themselves."""
    pair.use_clip(COUNT)
    prompts: Prompts = [(0, BOX), (0, POINTS), (0, BOX_AND_POINT), (9, MASK)]
    alone = pair.follow(prompts)
    sizes: list[int] = []
    track = Sam2Session._track

    def counted(self: Sam2Session, frame: int, image: RGBImage, group: list[int]) -> Any:
        sizes.append(len(group))
        return track(self, frame, image, group)

    session_init: Callable[..., None] = Sam2Session.__init__

    def with_batches(self: Sam2Session, *arguments: Any) -> None:
        session_init(self, *arguments)
        self._batch = 2

    monkeypatch.setattr(Sam2Session, "_track", counted)
    monkeypatch.setattr(Sam2Session, "__init__", with_batches)
    together = pair.follow(prompts)
    assert set(sizes) == {1, 2}
    for frame, masks in alone.items():
        for each, mask in masks.items():
            other = together[frame][each]
            # Masks here have some hundred pixels: one is more than a thousandth.
            assert (mask ^ other).sum() <= max(2, 0.001 * (mask | other).sum())
