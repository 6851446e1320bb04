"""The translations for Pixano Inference, one by one: bodies, answers, class names, windows."""

import base64
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pixano_inference.schemas.nd_array import NDArrayFloat
from pixano_inference.schemas.v1 import TrackingRequestV1

from pixano_cli import rle
from pixano_cli.inference.errors import InferenceError, InvalidRequestError
from pixano_cli.inference.providers import (
    pixano_answers,
    pixano_bodies,
    pixano_classes,
    pixano_windows,
)
from pixano_cli.inference.providers.dialects import Generation
from pixano_cli.inference.providers.outgoing import Outgoing
from pixano_cli.inference.providers.pixano_answers import Array, Tracked
from pixano_cli.inference.providers.pixano_bodies import TrackPrompt
from pixano_cli.inference.types import NDArrayData, VideoMaskGenerationInput

OLD, NEW = [Generation.G1, Generation.G2, Generation.G3], [Generation.G4, Generation.G5]


def fail(how: str) -> InferenceError:
    return InferenceError(how)


def picture(width: int, height: int, *displayed: int) -> Outgoing:
    shown = (displayed[0], displayed[1]) if displayed else (width, height)
    return Outgoing("data:image/png;base64,AAAA", width, height, shown)


numbers = st.floats(0, 4000, allow_nan=False)


@given(st.lists(numbers, min_size=4, max_size=4), st.integers(1, 4000), st.integers(1, 4000))
def test_boxes_are_whole_and_near(box: list[float], width: int, height: int) -> None:
    sent = picture(width, height, 4000, 4000)
    x1, y1, x2, y2 = pixano_bodies.box_of(box, sent)
    assert all(type(value) is int for value in (x1, y1, x2, y2))
    assert x2 > x1
    assert y2 > y1
    assert abs(x1 - box[0] * width / 4000) <= 0.5001
    assert abs(y1 - box[1] * height / 4000) <= 0.5001
    if x2 > x1 + 1:
        assert abs(x2 - box[2] * width / 4000) <= 0.5001


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_a_point_inside_stays_inside(width: int, height: int, data: st.DataObject) -> None:
    x = data.draw(st.floats(0, 300, exclude_max=True))
    y = data.draw(st.floats(0, 200, exclude_max=True))
    found_x, found_y = pixano_bodies.point_of((x, y), picture(width, height, 300, 200))
    assert 0 <= found_x < width
    assert 0 <= found_y < height
    assert abs(found_x - x * width / 300) < 1


@pytest.mark.parametrize("box", [[1, 2, 3], [1, 2, 3, math.nan], [1, 2, math.inf, 4]])
def test_what_is_no_box(box: list[float]) -> None:
    with pytest.raises(InvalidRequestError, match="is no box"):
        pixano_bodies.box_of(box, picture(9, 9))


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(shapes, st.data())
def test_arrays_go_there_and_back(shape: list[int], data: st.DataObject) -> None:
    size = math.prod(shape)
    floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
    values = data.draw(st.lists(floats, min_size=size, max_size=size))
    for generation in Generation:
        written = pixano_bodies.array(generation, NDArrayData(values, shape))
        back = pixano_answers.array(Array.model_validate(written), fail)
        assert back.shape == tuple(shape)
        assert back.ravel().tolist() == values
    assert NDArrayFloat(**written).to_numpy().ravel().tolist() == values


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"shape": [2], "values": [1.0]}, "1 numbers for 2"),
        ({"shape": [2]}, "without values"),
        ({"shape": [1], "data": "?"}, "not base64"),
        ({"shape": [2], "data": base64.b64encode(b"1234").decode()}, "4 bytes for 2 numbers"),
        ({"shape": [1], "dtype": "int8", "data": ""}, "numbers of type 'int8'"),
        ({"shape": [1], "values": [1e39]}, "not finite"),
    ],
)
def test_what_is_no_array(written: dict[str, Any], told: str) -> None:
    with pytest.raises(InferenceError, match=told):
        pixano_answers.array(Array.model_validate(written), fail)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 5), st.data())
def test_masks_of_a_smaller_picture(
    width: int, height: int, scale: int, data: st.DataObject
) -> None:
    bits = data.draw(st.lists(st.booleans(), min_size=width * height, max_size=width * height))
    mask = np.array(bits).reshape(height, width)
    sent = picture(width, height, width * scale, height * scale)
    found = rle.decode(pixano_answers.displayed(rle.encode(mask), sent))
    assert np.array_equal(found, np.kron(mask, np.ones((scale, scale))).astype(bool))


RLE = rle.encode(np.eye(4, 6, dtype=np.bool_)).to_dict()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"boxes": [[1, 2, 3]], "scores": [1], "classes": ["a"]}, "data.boxes.0"),
        ({"boxes": [[1, 2, 3, 4]], "scores": [], "classes": ["a"]}, "1 boxes, 0 scores"),
        ({"boxes": [[1, 2, 3, "4"]], "scores": [1], "classes": ["a"]}, "data.boxes.0.3"),
        ({"boxes": [[1, 2, 3, 4]], "scores": [1], "classes": ["a"], "masks": []}, "and 0 masks"),
        (
            {"boxes": [[1, 2, 3, 4]], "scores": [1], "classes": ["a"], "masks": [RLE]},
            "is of size",
        ),
        ([], "data"),
    ],
)
def test_what_is_no_detection(data: Any, told: str) -> None:
    with pytest.raises(InferenceError) as raised:
        pixano_answers.detection(data, picture(9, 9), fail)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("masks", "scores", "told"),
    [
        ([[RLE]], {"values": [0.5], "shape": [1, 1]}, "1 groups of masks for 2 prompts"),
        ([[RLE], [RLE, RLE]], {"values": [0.5] * 3, "shape": [3]}, "2 groups"),
        ([[RLE], [RLE]], {"values": [0.5] * 3, "shape": [3]}, r"scores of shape \[3\]"),
        ([[RLE], [{"size": [4, 6], "counts": "PPY"}]], {"values": [0, 0], "shape": [2]}, "counts"),
    ],
)
def test_what_are_no_masks(masks: Any, scores: Any, told: str) -> None:
    data = {"masks": masks, "scores": scores}
    with pytest.raises(InferenceError, match=told):
        pixano_answers.segmentation(data, picture(6, 4), 2, None, fail)


def test_scores_are_kept_within_their_bounds_and_the_best_masks_in_their_order() -> None:
    data = {"masks": [[RLE] * 3], "scores": {"values": [0.2, 1.003, 0.9], "shape": [3]}}
    found = pixano_answers.segmentation(data, picture(6, 4), 1, 2, fail)
    assert found.scores.shape == [1, 2]
    assert found.scores.values == pytest.approx([1.0, 0.9])


FRAMES = [picture(6, 4)] * 3


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"frames": [{"frameIndex": 3, "objects": [{"trackId": 1, "mask": RLE}]}]}, "frame 3 of 3"),
        ({"frames": [{"frameIndex": 0, "objects": [{"trackId": 1}]}]}, "object 1 has no mask"),
        ({"objects_ids": [1], "frame_indexes": [0], "masks": []}, "differ in length"),
        ({"objects_ids": [1], "masks": [RLE]}, "data.frameIndexes: Field required"),
    ],
)
def test_what_are_no_tracks(data: Any, told: str) -> None:
    with pytest.raises(InferenceError) as raised:
        pixano_answers.tracking(data, FRAMES, fail)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    "data",
    [
        {"frames": [{"frameIndex": 2, "objects": [{"trackId": 9, "class": "a", "mask": RLE}]}]},
        {"objects_ids": [9], "frame_indexes": [2], "masks": [RLE]},
        {"objectsIds": [9], "frameIndexes": [2], "masks": [RLE]},
    ],
)
def test_tracks_of_either_form(data: Any) -> None:
    mask = rle.CompressedRLEData.from_dict(RLE)
    assert pixano_answers.tracking(data, FRAMES, fail) == [Tracked(9, 2, mask)]


def test_a_mask_without_a_size_is_empty() -> None:
    data = {"objects_ids": [9], "frame_indexes": [2], "masks": [{"size": [0, 0], "counts": ""}]}
    [found] = pixano_answers.tracking(data, FRAMES, fail)
    assert (found.mask.size, rle.area(found.mask)) == ([4, 6], 0)


@pytest.mark.parametrize("generation", NEW)
def test_keyframes_are_as_the_server_reads_them(generation: Generation) -> None:
    prompts = [
        TrackPrompt(1, 0, (1, 2, 4, 3)),
        TrackPrompt(2, 1, points=((3, 2),), labels=(0,)),
        TrackPrompt(3, 0, mask=rle.CompressedRLEData.from_dict(RLE)),
        TrackPrompt(4, 2, (1, 2, 4, 3), ((3, 2), (1, 1)), (1, 0)),
    ]
    [body] = pixano_bodies.tracking(generation, "m", FRAMES, prompts)
    keyframes = TrackingRequestV1(**body).to_input().keyframes
    assert keyframes is not None
    first, second, third, fourth = keyframes
    assert (first.box.x, first.box.y, first.box.width, first.box.height) == (1, 2, 3, 1)
    assert (second.frame_index, second.points[0].x, second.points[0].label) == (1, 3, 0)
    assert third.mask.to_mask().tolist() == np.eye(4, 6).tolist()
    assert (len(fourth.points), fourth.box.width, fourth.mask) == (2, 3, None)


@pytest.mark.parametrize("generation", OLD)
def test_arrays_of_prompts_are_of_one_kind(generation: Generation) -> None:
    prompts = [
        TrackPrompt(1, 0, (1, 2, 4, 3)),
        TrackPrompt(2, 1, points=((3, 2),), labels=(0,)),
        TrackPrompt(3, 2, (0, 0, 1, 1)),
    ]
    boxes, points = pixano_bodies.tracking(generation, "m", FRAMES, prompts)
    assert (boxes["objects_ids"], boxes["frame_indexes"]) == ([1, 3], [0, 2])
    assert (boxes["boxes"], boxes["points"]) == ([[1, 2, 4, 3], [0, 0, 1, 1]], None)
    assert (points["objects_ids"], points["points"], points["labels"]) == ([2], [[[3, 2]]], [[0]])
    assert points["boxes"] is None


@pytest.mark.parametrize(
    ("phrase", "names", "meant"),
    [
        ("cat", ["Cat", "dog"], "Cat"),
        ("cat", ["house cat", "cat"], "cat"),
        ("remote", ["cat", "Remote Control"], "Remote Control"),
        ("cat dog", ["dog", "cat"], "dog"),
        ("t - shirt", ["T-shirt"], "T-shirt"),
        ("", ["cat"], "cat"),
        ("", ["cat", "dog"], None),
        ("[UNK]", ["cat", "dog"], None),
        ("control", ["remote control", "control"], "control"),
    ],
)
def test_phrases(phrase: str, names: list[str], meant: str | None) -> None:
    assert pixano_classes.nearest_name(phrase, names) == meant


def test_a_class_set_of_its_own_is_taken_by_its_word() -> None:
    assert pixano_classes.same_name("dog", ["hot dog", "Dog"]) == "Dog"
    assert pixano_classes.same_name("dog", ["hot dog"]) is None


def test_class_names() -> None:
    assert pixano_classes.names_of(" cat . remote  control.cat. ") == ("cat", "remote control")
    assert pixano_classes.names_of(["a ", "b.c", "a", ""]) == ("a", "b.c")
    assert pixano_classes.grounding_text(["Cat", "Mr."]) == "cat. mr."


def test_messages() -> None:
    part = {"type": "image_url", "image_url": {"url": "u"}}
    text = {"type": "text", "text": "Say."}
    assert pixano_bodies.messages("Say.", ["u"]) == [{"role": "user", "content": [part, text]}]
    chat: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Say."},
    ]
    assert pixano_bodies.messages(chat, ["u"]) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [part, text]},
    ]
    assert chat[1]["content"] == "Say."
    assert pixano_bodies.messages("Say.", []) == [{"role": "user", "content": [text]}]


def video(count: int, *frames: int) -> VideoMaskGenerationInput:
    objects = [*range(len(frames))]
    boxes = [[1, 1, 2, 2]] * len(frames)
    return VideoMaskGenerationInput(["f"] * count, "m", objects, [*frames], boxes=boxes)  # type: ignore[arg-type]


@given(st.integers(1, 40), st.integers(2, 12), st.data())
def test_windows(count: int, window: int, data: st.DataObject) -> None:
    prompted = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=4))
    request = video(count, *prompted)
    start, covered, seen = 0, set[int](), list[int]()
    while True:
        frames = pixano_windows.frames_of(start, count, window)
        assert 1 <= len(frames) <= window
        covered |= {*frames}
        pictures = [picture(6, 4)] * len(frames)
        for prompt in pixano_windows.given_prompts(request, frames, pictures):
            seen.append(prompt.object_id)
            assert frames[prompt.frame] == prompted[prompt.object_id]
        if frames.stop == count:
            break
        start = frames.stop - 1
    # All frames are sent, and each prompt goes out once.
    assert covered == {*range(count)}
    assert sorted(seen) == request.objects_ids
    first = pixano_windows.first_window(request, 0, window)
    assert first <= min(prompted)
    assert first % (window - 1) == 0


def test_objects_are_carried_by_mask_or_box_and_told_of_where_they_are_not() -> None:
    mask = rle.encode(np.eye(4, 6, dtype=np.bool_))
    empty = rle.encode(np.zeros((4, 6), np.bool_))
    found = [Tracked(1, 0, mask), Tracked(1, 2, mask), Tracked(2, 1, mask), Tracked(3, 2, empty)]
    prompts, lost = pixano_windows.carried_prompts(found, 2, as_masks=True)
    assert prompts == [TrackPrompt(1, 0, mask=mask)]
    assert lost == [2, 3]
    prompts, _ = pixano_windows.carried_prompts(found, 2, as_masks=False)
    assert prompts == [TrackPrompt(1, 0, (0, 0, 4, 4))]
