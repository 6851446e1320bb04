"""Elements of any task as annotations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixano_cli import rle
from pixano_cli.annotate.shapes import (
    ElementError,
    annotation_of,
    clip_polygon,
    oriented_corners,
)
from pixano_cli.annotations import annotation_from_element

WIDTH, HEIGHT = 40, 30
DETECTION, ORIENTED, SEGMENTATION = (
    "Object Detection",
    "Oriented Object Detection",
    "Image Segmentation",
)
near = st.floats(-60, 90).map(lambda value: round(value, 3))
numbers = near | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63)


def inside(polygon: list[tuple[float, float]]) -> NDArray[np.bool_]:
    """Which pixels' middles are inside a convex polygon, by the sides they are on."""
    ys, xs = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    sides = [
        (x2 - x1) * (ys - y1) - (y2 - y1) * (xs - x1)
        for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], polygon[0]], strict=True)
    ]
    found: NDArray[np.bool_] = np.all([side >= 0 for side in sides], axis=0)
    return found


@given(numbers, numbers, numbers, numbers, st.none() | st.floats(0, 1))
def test_upright_boxes_are_those_of_the_record(
    xmin: float, ymin: float, xmax: float, ymax: float, score: float | None
) -> None:
    element = {"label": "a", "xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}
    if score is not None:
        element["score"] = score
    wanted = annotation_from_element(element, WIDTH, HEIGHT)
    assert annotation_of(DETECTION, element, WIDTH, HEIGHT) == wanted


@given(near, near, st.floats(0.5, 60), st.floats(0.5, 60), st.floats(-10, 10))
def test_oriented_boxes_have_the_pixels_inside(
    cx: float, cy: float, w: float, h: float, r: float
) -> None:
    element = {"label": "a", "cx": cx, "cy": cy, "w": w, "h": h, "r": r}
    found = annotation_of(ORIENTED, element, WIDTH, HEIGHT)
    corners = oriented_corners(cx, cy, w, h, r)
    wanted = inside(corners)
    if found is None:
        assert not wanted.any()
        return
    xs, ys = zip(*corners, strict=True)
    assert min(xs) - 1e-6 <= found.box.xmin
    assert found.box.xmax <= max(xs) + 1e-6
    assert min(ys) - 1e-6 <= found.box.ymin
    assert found.box.ymax <= max(ys) + 1e-6
    if found.mask is None:
        assert wanted.sum() <= 3 * (w + h)
        return
    drawn = rle.decode(found.mask)
    # maskApi rounds an outline to a fifth of a pixel: only pixels it passes through may differ.
    differs = drawn != wanted
    middles = np.argwhere(differs)[:, ::-1] + 0.5
    assert all(_distance(corners, x, y) <= 1.2 for x, y in middles)
    assert found.area == drawn.sum()


def _distance(polygon: list[tuple[float, float]], x: float, y: float) -> float:
    return min(
        _to_segment(x, y, start, end)
        for start, end in zip(polygon, [*polygon[1:], polygon[0]], strict=True)
    )


def _to_segment(x: float, y: float, start: tuple[float, float], end: tuple[float, float]) -> float:
    dx, dy = end[0] - start[0], end[1] - start[1]
    part = ((x - start[0]) * dx + (y - start[1]) * dy) / max(dx * dx + dy * dy, 1e-12)
    part = min(max(part, 0), 1)
    return math.hypot(x - start[0] - part * dx, y - start[1] - part * dy)


def test_a_quarter_turn_swaps_the_sides() -> None:
    element = {"label": "a", "cx": 20, "cy": 15, "w": 10, "h": 4, "r": math.pi / 2}
    found = annotation_of(ORIENTED, element, WIDTH, HEIGHT)
    assert found is not None
    assert found.box == pytest.approx((18, 10, 22, 20))
    assert found.area == 40


def test_turning_goes_from_x_to_y() -> None:
    # A long thin box turned by a little: its right end goes down.
    corners = oriented_corners(0, 0, 10, 0, 0.1)
    assert corners[1][0] == pytest.approx(5 * math.cos(0.1))
    assert corners[1][1] == pytest.approx(5 * math.sin(0.1))


@given(
    st.lists(st.lists(st.fixed_dictionaries({"x": numbers, "y": numbers}), max_size=6), max_size=3)
)
def test_any_contour_is_drawn_inside_the_image(contour: list[list[dict[str, float]]]) -> None:
    element = {"label": "a", "contour": contour}
    found = annotation_of(SEGMENTATION, element, WIDTH, HEIGHT)
    if found is not None:
        assert found.mask is not None
        rle.check(found.mask, (HEIGHT, WIDTH))
        drawn = rle.decode(found.mask)
        ys, xs = np.nonzero(drawn)
        assert found.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert found.area == drawn.sum()


def spans(size: int) -> st.SearchStrategy[list[int]]:
    """Two different numbers from 0 to `size`, the smaller first."""
    ends = st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True)
    return ends.map(sorted)


@given(spans(WIDTH), spans(HEIGHT))
def test_a_contour_along_pixels_is_exact(x: list[int], y: list[int]) -> None:
    (x1, x2), (y1, y2) = x, y
    outer = [{"x": a, "y": b} for a, b in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]
    far = [{"x": x, "y": y} for x, y in ((-10, -10), (-5, -10), (-5, -5))]
    found = annotation_of(SEGMENTATION, {"label": "a", "contour": [outer, far]}, WIDTH, HEIGHT)
    assert found is not None
    assert found.box == (x1, y1, x2, y2)
    assert found.area == (x2 - x1) * (y2 - y1)


def test_polygons_of_one_contour_are_one_object() -> None:
    squares = [
        [{"x": x + dx, "y": dy} for dx, dy in ((0, 0), (2, 0), (2, 2), (0, 2))] for x in (0, 9)
    ]
    found = annotation_of(SEGMENTATION, {"label": "a", "contour": squares}, WIDTH, HEIGHT)
    assert found is not None
    assert found.area == 8
    assert found.box == (0, 0, 11, 2)


@given(st.lists(st.tuples(numbers, numbers), max_size=8))
def test_what_is_clipped_is_inside(polygon: list[tuple[float, float]]) -> None:
    limited = [(min(max(x, -1e10), 1e10), min(max(y, -1e10), 1e10)) for x, y in polygon]
    clipped = clip_polygon(limited, WIDTH, HEIGHT)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in clipped)
    if all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in polygon):
        assert clipped == polygon


@given(st.data())
def test_masks_are_those_of_the_record(data: st.DataObject) -> None:
    bits = data.draw(st.integers(0, 2 ** (6 * 5) - 1))
    mask = np.array([bits >> at & 1 for at in range(30)], dtype=np.uint8).reshape(5, 6)
    element = {"label": "a", "score": 0.5, "rle": rle.encode(mask).to_dict()}
    found = annotation_of(SEGMENTATION, element, 6, 5)
    assert found == annotation_from_element(element, 6, 5)
    runs, value = [0], 0
    for each in mask.T.ravel().tolist():
        if each != value:
            runs.append(0)
            value = each
        runs[-1] += 1
    uncompressed = {"label": "a", "score": 0.5, "rle": {"size": [5, 6], "counts": runs}}
    assert annotation_of(SEGMENTATION, uncompressed, 6, 5) == found


@pytest.mark.parametrize(
    ("task_type", "element", "message"),
    [
        (DETECTION, {"xmin": 1, "ymin": 1, "xmax": 2}, "its ymax is None, which is no number"),
        (DETECTION, {"xmin": "1", "ymin": 1, "xmax": 2, "ymax": 2}, "its xmin is '1'"),
        (DETECTION, {"xmin": True, "ymin": 1, "xmax": 2, "ymax": 2}, "its xmin is True"),
        (ORIENTED, {"cx": 1, "cy": 1, "w": 2, "h": 2}, "its r is None"),
        (SEGMENTATION, {}, "neither rle nor contour"),
        (SEGMENTATION, {"contour": "x"}, "no list of polygons"),
        (SEGMENTATION, {"contour": [{"x": 1}]}, "no list of polygons"),
        (SEGMENTATION, {"contour": [[[1, 2]]]}, "which is no point"),
        (SEGMENTATION, {"contour": [[{"x": 1}]]}, "its y is None"),
        (SEGMENTATION, {"rle": "x"}, "no object with size and counts"),
        (SEGMENTATION, {"rle": {"size": [3, 3], "counts": "9"}}, "size"),
        (SEGMENTATION, {"rle": {"size": [HEIGHT, WIDTH], "counts": "\x7f0"}}, "outside"),
        (SEGMENTATION, {"rle": {"size": [HEIGHT, WIDTH], "counts": 5}}, "not text"),
        (SEGMENTATION, {"rle": {"size": "x", "counts": "9"}}, "size"),
        (SEGMENTATION, {"rle": {"size": [3, 3], "counts": [9]}}, "of size"),
        (SEGMENTATION, {"rle": {"size": [HEIGHT, WIDTH], "counts": [9]}}, "covers 9 pixels"),
        (SEGMENTATION, {"rle": {"size": [HEIGHT, WIDTH], "counts": [-1]}}, "no lengths"),
    ],
)
def test_elements_of_another_form_are_refused(
    task_type: str, element: dict[str, Any], message: str
) -> None:
    with pytest.raises(ElementError, match=message):
        annotation_of(task_type, {"label": "a", **element}, WIDTH, HEIGHT)


def test_no_mask_is_drawn_in_an_image_that_cannot_be() -> None:
    triangle = [[{"x": 0, "y": 0}, {"x": 1e9, "y": 0}, {"x": 0, "y": 1e9}]]
    with pytest.raises(ElementError, match="too large to draw masks in"):
        annotation_of(SEGMENTATION, {"label": "a", "contour": triangle}, 10**9, 10**9)
