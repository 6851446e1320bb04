"""Suppression by overlap against its definition, one pair of boxes after the other."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pixano_cli import rle
from pixano_cli.annotate.suppression import ever_kept, kept, overlaps

Box = tuple[int, int, int, int]
"""First and last column and row that are inside, as xmin, ymin, xmax, ymax."""

SIZE = (24, 20)


def mask_of(box: Box) -> rle.CompressedRLEData:
    mask = np.zeros(SIZE, np.bool_)
    mask[box[1] : box[3] + 1, box[0] : box[2] + 1] = True
    return rle.encode(mask)


def iou(one: Box, other: Box) -> float:
    """Return the IoU of two boxes as torchvision's `nms` does: widths are of xmax - xmin.

    Of boxes without an area, which are none to it, the same ones are one here.
    """
    if one == other:
        return 1.0
    width = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    union = sum(areas) - width * height
    return width * height / union if union else 0.0


def suppressed(boxes: Sequence[Box], allowed: Sequence[bool]) -> list[int]:
    """Return which of the boxes stay, by the definition; the best comes first."""
    stay: list[int] = []
    for index, box in enumerate(boxes):
        if allowed[index] and all(iou(box, boxes[other]) <= 0.7 for other in stay):
            stay.append(index)
    return stay


def sides(most: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(0, most - 1), st.integers(0, most - 1)).map(
        lambda pair: (min(pair), max(pair))
    )


BOXES = st.tuples(sides(SIZE[1]), sides(SIZE[0])).map(
    lambda pair: (pair[0][0], pair[1][0], pair[0][1], pair[1][1])
)
# Many of them near each other, so that chains of overlaps come about.
NEAR = st.tuples(*[st.integers(0, 2)] * 2, *[st.integers(14, 17)] * 2).map(
    lambda box: (box[0], box[1], box[2], box[3])
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(BOXES | NEAR, st.booleans()), max_size=16))
def test_the_best_of_those_that_overlap_stays(given_boxes: list[tuple[Box, bool]]) -> None:
    boxes = [box for box, _ in given_boxes]
    allowed = [each for _, each in given_boxes]
    overlapping = overlaps([mask_of(box) for box in boxes])
    assert kept(overlapping, np.array(allowed, np.bool_)) == suppressed(boxes, allowed)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(NEAR, st.floats(0.75, 1)), max_size=14),
    st.integers(80, 100),
    st.integers(0, 14),
)
def test_what_is_recorded_is_enough_for_any_thresholds(
    found: list[tuple[Box, float]], level: int, best: int
) -> None:
    """Thresholds applied to what is recorded choose what they choose of all there is."""
    boxes = [box for box, _ in found]
    stabilities = [round(stability, 5) for _, stability in found]
    overlapping = overlaps([mask_of(box) for box in boxes])
    recorded = ever_kept(overlapping, np.array(stabilities), 0.8)
    # A threshold of predicted IoU leaves the first so many; one of stability is in hundredths.
    allowed = [
        index < best and stability >= level / 100 for index, stability in enumerate(stabilities)
    ]
    expected = suppressed(boxes, allowed)
    assert set(expected) <= set(recorded)
    again = suppressed([boxes[index] for index in recorded], [allowed[index] for index in recorded])
    assert [recorded[index] for index in again] == expected


def test_no_more_is_recorded_than_may_be_written() -> None:
    box = (0, 0, 15, 15)
    same = overlaps([mask_of(box)] * 4)
    assert ever_kept(same, np.array([0.9, 0.9, 0.89, 0.95]), 0.8) == [0, 3]
    assert ever_kept(same, np.array([0.7, 0.9, 0.95, 0.95]), 0.8) == [1, 2]
    assert ever_kept(overlaps([]), np.array([]), 0.8) == []


def test_a_share_of_just_the_limit_does_not_suppress() -> None:
    ten, seven = (0, 0, 10, 1), (0, 0, 7, 1)
    assert iou(ten, seven) == 0.7
    assert not overlaps([mask_of(ten), mask_of(seven)])[0, 1]
    assert overlaps([mask_of(ten), mask_of((0, 0, 8, 1))])[0, 1]
