"""The value type: clipping, reading of elements, order and numbers."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pixano_cli import rle
from pixano_cli.annotations import (
    AnnotatedImage,
    Annotation,
    Box,
    Category,
    annotation_from_element,
    number,
    order,
)

SIDES = st.integers(1, 30)
ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)
QUARTERS = st.integers(-60, 180).map(lambda quarters: quarters / 4)


def painted(box: Box, width: int, height: int) -> int:
    """The sixteenths of square pixels of an image that a box of quarter coordinates covers."""
    canvas = np.zeros((4 * height, 4 * width), dtype=bool)
    xmin, ymin, xmax, ymax = (max(0, int(4 * side)) for side in box)
    canvas[ymin:ymax, xmin:xmax] = True
    return int(canvas.sum())


@given(QUARTERS, QUARTERS, QUARTERS, QUARTERS, SIDES, SIDES)
def test_clip_keeps_the_part_that_painting_the_image_shows(
    x1: float, y1: float, x2: float, y2: float, width: int, height: int
) -> None:
    box = Box(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
    clipped = box.clip(width, height)
    covered = painted(box, width, height)
    assert clipped.area * 16 == covered
    assert clipped.is_empty == (covered == 0)


@given(
    st.tuples(ANY_FLOAT, ANY_FLOAT, ANY_FLOAT, ANY_FLOAT),
    SIDES,
    SIDES,
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_point_is_in_the_clip_if_it_is_in_the_box_and_the_image(
    corners: tuple[float, float, float, float], width: int, height: int, across: float, down: float
) -> None:
    box = Box(*corners)
    clipped = box.clip(width, height)
    x, y = across * width, down * height

    def inside(box: Box) -> bool:
        return box.xmin < x < box.xmax and box.ymin < y < box.ymax

    in_image = 0 < x < width and 0 < y < height
    assert inside(clipped) == (inside(box) and in_image)


@given(st.tuples(ANY_FLOAT, ANY_FLOAT, ANY_FLOAT, ANY_FLOAT), SIDES, SIDES)
@example((math.nan, 0.0, 5.0, 5.0), 9, 9)
@example((-math.inf, -math.inf, math.inf, math.inf), 9, 9)
@example((-0.0, -0.0, 5.0, 5.0), 9, 9)
def test_a_clip_that_is_not_empty_lies_inside(
    corners: tuple[float, float, float, float], width: int, height: int
) -> None:
    clipped = Box(*corners).clip(width, height)
    assert [str(side) for side in clipped.clip(width, height)] == [str(side) for side in clipped]
    if any(map(math.isnan, corners)):
        assert clipped.is_empty
    elif not clipped.is_empty:
        assert 0 <= clipped.xmin < clipped.xmax <= width
        assert 0 <= clipped.ymin < clipped.ymax <= height
    assert "-0.0" not in [str(side) for side in clipped]


def box_element(box: tuple[float, float, float, float], **more: Any) -> dict[str, Any]:
    return {"label": "cat", "score": 0.5, **dict(zip(Box._fields, box, strict=True)), **more}


def test_an_element_with_whole_numbers_reads_as_floats() -> None:
    annotation = annotation_from_element(box_element((1, 2, 30, 4), score=1), 20, 10)
    assert annotation == Annotation("cat", 1.0, Box(1.0, 2.0, 20.0, 4.0), 38.0)
    assert annotation is not None
    assert {type(value) for value in (*annotation.box, annotation.score, annotation.area)} == {
        float
    }


@pytest.mark.parametrize(
    "box",
    [
        (-5.0, -5.0, 0.0, 5.0),
        (20.0, 0.0, 30.0, 5.0),
        (0.0, 10.0, 5.0, 30.0),
        (3.0, 3.0, 3.0, 9.0),
        (5.0, 5.0, 4.0, 4.0),
        (math.nan, 0.0, 5.0, 5.0),
    ],
)
def test_an_element_without_a_part_in_the_image_is_dropped(
    box: tuple[float, float, float, float],
) -> None:
    assert annotation_from_element(box_element(box), 20, 10) is None


@pytest.mark.parametrize("score", [None, math.nan])
def test_no_score_is_none(score: float | None) -> None:
    annotation = annotation_from_element(box_element((0, 0, 5, 5), score=score), 20, 10)
    assert annotation is not None
    assert annotation.score is None


def test_an_element_with_a_mask_has_the_masks_box_and_area() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[2:5, 3:9] = True
    mask[3, 4] = False
    element = {"label": "cat", "score": 0.9, "rle": rle.encode(mask).to_dict()}
    annotation = annotation_from_element(element, 20, 10)
    assert annotation == Annotation("cat", 0.9, Box(3.0, 2.0, 9.0, 5.0), 17.0, rle.encode(mask))


@pytest.mark.parametrize("counts", ["X6", "X60"])
def test_an_element_with_an_empty_mask_is_dropped(counts: str) -> None:
    mask = {"size": [10, 20], "counts": counts}
    rle.check(rle.CompressedRLEData.from_dict(mask))
    assert annotation_from_element({"label": "cat", "rle": mask}, 20, 10) is None


# Few values each, so that most ties occur.
BOXES = st.sampled_from([Box(0.0, 0.0, 1.0, 1.0), Box(0.0, 0.0, 2.0, 1.0)])
MASKS = st.none() | st.sampled_from([b"X6", b"0X6", b"5c6"]).map(
    lambda counts: rle.CompressedRLEData([10, 20], counts)
)
ANNOTATIONS = st.builds(
    Annotation,
    st.sampled_from(["cat", "dog"]),
    st.none() | st.sampled_from([0.0, 0.5, 1.0]),
    BOXES,
    st.sampled_from([1.0, 2.0]),
    MASKS,
    st.none() | st.integers(0, 2),
)


@given(st.lists(ANNOTATIONS, max_size=12), st.randoms(use_true_random=False))
def test_order_does_not_depend_on_the_order_before(
    annotations: list[Annotation], chance: random.Random
) -> None:
    shuffled = [*annotations]
    chance.shuffle(shuffled)
    ordered = order(annotations)
    assert order(shuffled) == ordered == order(ordered)
    scores = [-1.0 if each.score is None else each.score for each in ordered]
    assert scores == sorted(scores, reverse=True)
    assert sorted(map(repr, ordered)) == sorted(map(repr, annotations))


@given(st.lists(st.lists(ANNOTATIONS, max_size=4), max_size=6))
def test_numbers_are_unique_from_1_and_follow_the_order(found: list[list[Annotation]]) -> None:
    categories = [Category(7, "dog"), Category(3, "cat")]
    images = [
        AnnotatedImage(f"{at}.jpg", "00", 20, 10, 1, tuple(each)) for at, each in enumerate(found)
    ]
    numbered = [*number(iter(images), categories)]
    annotations = [each for image in numbered for each in image.annotations]
    assert [image.id for image in numbered] == [*range(1, len(images) + 1)]
    assert [each.id for each in annotations] == [*range(1, len(annotations) + 1)]
    assert all(each.category_id == {"dog": 7, "cat": 3}[each.label] for each in annotations)
    for image, before in zip(numbered, images, strict=True):
        assert image.file_name == before.file_name
        for each, original in zip(image.annotations, before.annotations, strict=True):
            for field in ("label", "score", "box", "area", "mask", "track_id"):
                assert getattr(each, field) == getattr(original, field)


def test_a_label_outside_the_categories_is_an_error() -> None:
    image = AnnotatedImage("a.jpg", "00", 9, 9, 1, (Annotation("owl", 0.5, Box(0, 0, 1, 1), 1.0),))
    with pytest.raises(KeyError, match="owl"):
        next(number([image], [Category(1, "cat")]))
