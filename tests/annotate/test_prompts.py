"""Prompts: read as written, refused with a reason, fitted to their image."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.annotate.prompts import (
    Prompt,
    PromptError,
    dump_prompts,
    geometry_from_dict,
    geometry_to_dict,
    load_prompts,
    read_prompts,
)
from pixano_cli.annotations import Box
from pixano_cli.errors import UsageError

coordinates = st.floats(0, 4000, allow_nan=False).map(lambda value: round(value, 3))
boxes = (
    st.tuples(coordinates, coordinates, coordinates, coordinates)
    .map(lambda c: Box(min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])))
    .filter(lambda box: not box.is_empty)
)


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    points = tuple(draw(st.lists(st.tuples(coordinates, coordinates), max_size=4)))
    labels = tuple(draw(st.integers(0, 1)) for _ in points)
    box = draw(st.none() | boxes) if points else draw(boxes)
    score = draw(st.none() | st.floats(0, 1))
    return Prompt(draw(st.text(min_size=1)), score, box, points, labels)


@given(st.lists(prompts(), max_size=5))
def test_dumped_prompts_load_as_they_were(given_prompts: list[Prompt]) -> None:
    assert load_prompts(dump_prompts(given_prompts)) == given_prompts


@given(prompts())
def test_a_geometry_is_the_same_after_the_record(prompt: Prompt) -> None:
    stored = orjson.loads(orjson.dumps(geometry_to_dict(prompt.geometry)))
    assert geometry_from_dict(stored) == prompt.geometry


@given(prompts(), st.integers(1, 5000), st.integers(1, 5000))
def test_a_fitted_prompt_is_inside_its_image(prompt: Prompt, width: int, height: int) -> None:
    inside = all(x <= width and y <= height for x, y in prompt.points)
    box = prompt.box
    overlaps = box is None or (box.xmin < width and box.ymin < height)
    if not (inside and overlaps):
        with pytest.raises(PromptError, match=f"outside the {width}x{height} image"):
            prompt.fit(width, height)
        return
    fitted = prompt.fit(width, height)
    assert (fitted.label, fitted.score, fitted.points) == (
        prompt.label,
        prompt.score,
        prompt.points,
    )
    if box is not None and fitted.box is not None:
        assert fitted.box.xmax == min(box.xmax, width)
        assert fitted.box.ymax == min(box.ymax, height)
        assert (fitted.box.xmin, fitted.box.ymin) == (box.xmin, box.ymin)


def test_points_without_labels_are_on_the_object() -> None:
    assert Prompt.from_dict({"points": [[1, 2], [3, 4]]}).labels == (1, 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([], "a prompt is an object"),
        ({}, "has a box or points"),
        ({"points": []}, "has a box or points"),
        ({"box": [1, 2, 3]}, "box is"),
        ({"box": [1, 2, 3, "4"]}, "box is"),
        ({"box": [5, 5, 5, 9]}, "xmax > xmin"),
        ({"box": [0, 0, 1, True]}, "box is"),
        ({"box": [0, 0, 9, 9], "bbox": []}, "unknown key 'bbox'"),
        ({"box": [0, 0, 9, 9], "label": 3}, "label is a text"),
        ({"box": [0, 0, 9, 9], "score": 2}, "score is a number"),
        ({"points": [[1, 2, 3]]}, "points is a list"),
        ({"points": [[1, 2]], "labels": [1, 0]}, "labels has"),
        ({"points": [[1, 2]], "labels": [2]}, "labels has"),
        ({"points": [[1, 2]], "labels": "1"}, "labels has"),
    ],
)
def test_what_is_no_prompt_is_refused_with_the_reason(data: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Prompt.from_dict(data)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON"),
        (b"[]", "is not an object"),
        (b'{"images": [], "annotations": []}', "give it with --from"),
        (b'{"a.jpg": {}}', "'a.jpg': a list of prompts"),
        (b'{"a.jpg": [{"box": 1}]}', "'a.jpg': box is"),
    ],
)
def test_what_is_no_prompts_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "prompts.json"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        read_prompts(file)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(["box", "points", "labels", "label", "score", "a.jpg"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_json_is_prompts_or_a_reason(value: Any) -> None:
    reason = None
    try:
        prompt = Prompt.from_dict(value)
    except ValueError as error:
        reason = str(error)
    if reason is None:
        assert Prompt.from_dict(orjson.loads(orjson.dumps(prompt.to_dict()))) == prompt
    else:
        assert len(reason.splitlines()) == 1
