"""Answers with boxes: every form that models use, and everything that is not to be read as less."""

import json
from typing import Any

import pytest

from pixano_cli.inference.errors import InferenceError
from pixano_cli.inference.providers.chat_answers import Said, UnreadableError
from pixano_cli.inference.providers.conventions import (
    UNKNOWN,
    Box,
    Convention,
    convention_of,
    profile_of,
)
from pixano_cli.inference.providers.grounding import (
    Finding,
    Grounding,
    asked_label,
    named,
    place,
    question,
    read_boxes,
)

CAT = Finding("cat", (1.0, 2.0, 3.0, 4.0))
DOG = Finding("dog", (5.0, 6.0, 7.0, 8.0))


@pytest.mark.parametrize(
    "text",
    [
        '{"objects": [{"label": "cat", "bbox_2d": [1, 2, 3, 4]}, '
        '{"label": "dog", "bbox_2d": [5, 6, 7, 8]}]}',
        '```json\n[\n\t{"bbox_2d": [1, 2, 3, 4], "label": "cat"},\n'
        '\t{"bbox_2d": [5, 6, 7, 8], "label": "dog"}\n]\n```',
        '[{"box_2d": [1.0, 2, 3, 4], "class": "cat", "mask": "x"}, '
        '{"box": [5, 6, 7, 8], "name": " dog "}]',
        'There are two:\n{"bbox": [1, 2, 3, 4], "category": "cat"}\nand\n'
        '{"bbox": [[5, 6, 7, 8]], "label": "dog"}. That is all [of them].',
        '{"detections": [{"label": "cat", "bounding_box": [1, 2, 3, 4]}, '
        '{"label": "dog", "box": [5, 6, 7, 8]}], "image": "photo"}',
    ],
)
def test_forms(text: str) -> None:
    assert read_boxes(text) == (CAT, DOG)


@pytest.mark.parametrize("text", ["[]", '{"objects": []}', "There are none: ```json\n[]\n```"])
def test_an_honest_empty_list_is_empty(text: str) -> None:
    assert read_boxes(text) == ()


@pytest.mark.parametrize(
    ("entry", "score"),
    [
        ({"score": 0.25}, 0.25),
        ({"confidence": 1}, 1.0),
        ({"confidence": 87}, 1.0),
        ({"score": None}, 1.0),
        ({"score": "high"}, 1.0),
    ],
)
def test_scores(entry: dict[str, Any], score: float) -> None:
    [found] = read_boxes(json.dumps([{"label": "cat", "box": [1, 2, 3, 4], **entry}]))
    assert found.score == score


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("I see a cat and a dog.", "no JSON"),
        ("{}", "no list of objects"),
        ("[[1, 2, 3, 4]]", "no list of objects"),
        ('{"a": [], "b": []}', "no list of objects"),
        ('[{"label": "cat", "box": [1, 2, 3, 4]}, {"label": "dog"}]', "has no box of four"),
        ('[{"label": "cat", "box": [1, 2, 3]}]', "has no box of four"),
        ('[{"label": "cat", "box": [1, 2, 3, "4"]}]', "has no box of four"),
        ('[{"label": "cat", "box": [1, 2, 3, true]}]', "has no box of four"),
        ('[{"label": "cat", "box": [1, 2, 3, 1e999]}]', "has no box of four"),
        ('[{"label": "cat", "box": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}}]', "no box of four"),
        ('[{"box": [1, 2, 3, 4]}]', "has no label"),
        ('[{"label": "", "box": [1, 2, 3, 4]}]', "has no label"),
        ('[{"label": "cat", "box": [1, 2, 3, 4]}, {"label": "do', "breaks off"),
        ('[{"label": "cat", "box": [1, 2, 3, 4]},', "breaks off"),
        ("[{'label': 'cat', 'box': [1, 2, 3, 4]}]", "no JSON|not valid|no list"),
    ],
)
def test_what_cannot_be_read_is_never_empty(text: str, told: str) -> None:
    with pytest.raises(UnreadableError, match=told):
        read_boxes(text)


def grounded(*boxes: Box, sent: tuple[int, int] = (640, 480)) -> Grounding:
    found = tuple(Finding("cat", box) for box in boxes)
    said = Said("URL", "x", usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})
    return Grounding(found, sent, (1280, 960), UNKNOWN, said)


def convention(name: str) -> Convention:
    found = convention_of(name)
    assert found is not None
    return found


def test_boxes_are_of_the_displayed_image() -> None:
    placed = place(grounded((250, 100, 750, 500)), convention("yxyx-thousand"))
    assert [each.numbers for each in placed.found] == [(128, 240, 640, 720)]
    assert (placed.clipped, placed.dropped) == (0, 0)


def test_boxes_at_the_edge_are_clipped_and_counted() -> None:
    boxes = ((-10, 0, 320, 490), (10, 10, 10, 50), (641, 0, 650, 40), (0, 0, 640, 480))
    placed = place(grounded(*boxes), convention("xyxy-pixels"))
    assert [each.numbers for each in placed.found] == [(0, 0, 640, 960), (0, 0, 1280, 960)]
    assert (placed.clipped, placed.dropped) == (1, 2)


@pytest.mark.parametrize(
    ("box", "name", "others"),
    [
        # Outside, axes swapped, corners swapped, another scale.
        ((0, 0, 5000, 5000), "xyxy-thousand", ""),
        ((10, 10, 300, 630), "xyxy-pixels", "yxyx-pixels"),
        ((300, 200, 100, 150), "xyxy-pixels", "xywh-pixels"),
        ((100, 100, 600, 400), "xyxy-unit", "xyxy-pixels"),
    ],
)
def test_boxes_that_cannot_be(box: Box, name: str, others: str) -> None:
    with pytest.raises(InferenceError, match=f"as {name}") as raised:
        place(grounded(box), convention(name))
    told = str(raised.value)
    assert f"[{', '.join(f'{number:g}' for number in box)}] for 'cat'" in told
    assert ("but could be as" in told) is bool(others)
    assert others in told
    assert "providers check" in told
    assert "--box-format" in told
    assert raised.value.usage == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


@pytest.mark.parametrize(
    ("label", "meant"),
    [
        ("cat", "cat"),
        (" Cat ", "cat"),
        ("cats", "cat"),
        ("traffic_light", "traffic light"),
        ("Traffic-Lights", "traffic light"),
        ("a black cat", "cat"),
        ("a red traffic light", "traffic light"),
        ("light", "light"),
        ("caterpillar", "caterpillar"),
        ("cat and dog", "cat and dog"),
        ("glass", "glasses"),
    ],
)
def test_labels(label: str, meant: str) -> None:
    assert asked_label(label, ["cat", "dog", "traffic light", "light", "glasses"]) == meant


def test_classes() -> None:
    assert named(["cat", " dog", "cat", ""]) == named("cat, dog") == named("cat . dog .")
    assert named([]) == named("") == ()


def test_the_question_says_how() -> None:
    profile = profile_of("gemini-2.5-flash")
    assert profile is not None
    asked = question("gemini-2.5-flash", "data:x", ["cat", "dog"], profile, (640, 480))
    text = asked.talk[0].parts[1]
    assert isinstance(text, str)
    assert '"box_2d": [y_min, x_min, y_max, x_max]' in text
    assert "from 0 to 1000" in text
    assert '"cat", "dog"' in text
    assert asked.schema is not None
    found = asked.schema["properties"]["objects"]["items"]["properties"]
    assert found["label"]["enum"] == ["cat", "dog"]
    pixels = profile_of("qwen2.5vl")
    assert pixels is not None
    text = question("q", "data:x", ["cat"], pixels, (640, 480)).talk[0].parts[1]
    assert isinstance(text, str)
    assert "which is 640 wide and 480 high" in text
