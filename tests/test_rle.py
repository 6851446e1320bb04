"""Masks against a plain reading of the format, and against pycocotools."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pixano_cli import rle
from pixano_cli.rle import CompressedRLEData

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def plain_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Column-major runs, zeros first, pixel by pixel."""
    height, width = mask.shape
    runs, last = [0], False
    for x, y in itertools.product(range(width), range(height)):
        if bool(mask[y, x]) != last:
            runs.append(0)
            last = not last
        runs[-1] += 1
    return runs


def plain_text(runs: list[int]) -> bytes:
    """The compressed text of runs, number by number."""
    text = bytearray()
    for index, run in enumerate(runs):
        number = run - runs[index - 2] if index > 2 else run
        while True:
            digit, number = number & 31, number >> 5
            done = number == (-1 if digit & 16 else 0)
            text.append(48 + digit + (0 if done else 32))
            if done:
                break
    return bytes(text)


def plain_parse(text: bytes) -> list[int] | None:
    """The runs of a compressed text, character by character; None where it is cut off."""
    runs: list[int] = []
    at = 0
    while at < len(text):
        number = place = 0
        while True:
            if at == len(text):
                return None
            digit = text[at] - 48
            if not 0 <= digit < 64:
                return None
            at += 1
            number |= (digit & 31) << place
            place += 5
            if not digit & 32:
                break
        if digit & 16:
            number -= 1 << place
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
    return runs


def expand(runs: list[int], height: int, width: int) -> NDArray[np.bool_]:
    values = [index % 2 == 1 for index, run in enumerate(runs) for _ in range(run)]
    return np.array(values, dtype=bool).reshape(width, height).T


def tight_box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return 0.0, 0.0, 0.0, 0.0
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


@st.composite
def masks(draw: st.DrawFn) -> NDArray[np.bool_]:
    """Small masks of any content, and larger ones of a few runs."""
    if draw(st.booleans()):
        return draw(hnp.arrays(np.bool_, SIZES))
    height, width = draw(st.integers(1, 700)), draw(st.integers(1, 700))
    ends = sorted(draw(st.lists(st.integers(0, height * width), max_size=12)))
    flat = np.zeros(height * width, dtype=bool)
    for start, end in itertools.pairwise(ends):
        flat[start:end] ^= True
    return flat.reshape(width, height).T


SPECIAL = [
    np.zeros((1, 1), dtype=bool),
    np.ones((1, 1), dtype=bool),
    np.zeros((7, 5), dtype=bool),
    np.ones((7, 5), dtype=bool),
    np.ones((1, 9), dtype=bool),
    np.ones((9, 1), dtype=bool),
    np.indices((8, 9)).sum(axis=0) % 2 == 0,
    np.indices((9, 8)).sum(axis=0) % 2 == 1,
]


@pytest.mark.parametrize("mask", SPECIAL, ids=lambda mask: "x".join(map(str, mask.shape)))
def test_special_masks_have_the_plain_text_and_decode(mask: NDArray[np.bool_]) -> None:
    encoded = rle.encode(mask)
    assert encoded.counts == plain_text(plain_runs(mask))
    assert np.array_equal(rle.decode(encoded), mask)


@given(hnp.arrays(np.bool_, SIZES))
def test_encode_agrees_with_the_plain_definition(mask: NDArray[np.bool_]) -> None:
    encoded = rle.encode(mask)
    assert encoded.size == list(mask.shape)
    assert encoded.counts == plain_text(plain_runs(mask))


@given(masks())
def test_decode_inverts_encode(mask: NDArray[np.bool_]) -> None:
    encoded = rle.encode(mask)
    decoded = rle.decode(encoded)
    assert decoded.dtype == np.bool_
    assert np.array_equal(decoded, mask)
    rle.check(encoded, mask.shape)


@given(masks())
def test_agrees_with_pycocotools(mask: NDArray[np.bool_]) -> None:
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = rle.encode(mask)
    assert {"size": ours.size, "counts": ours.counts} == theirs
    assert rle.area(ours) == coco_mask.area(theirs) == mask.sum()
    x, y, width, height = coco_mask.toBbox(theirs)
    assert rle.bounding_box(ours) == (x, y, x + width, y + height) == tight_box(mask)


@given(hnp.arrays(np.uint8, SIZES))
def test_every_value_but_zero_is_inside(mask: NDArray[np.uint8]) -> None:
    assert np.array_equal(rle.decode(rle.encode(mask)), mask != 0)


@given(masks())
def test_any_memory_layout_encodes_alike(mask: NDArray[np.bool_]) -> None:
    encoded = rle.encode(np.ascontiguousarray(mask))
    read_only = np.asfortranarray(mask)
    read_only.setflags(write=False)
    assert rle.encode(read_only) == encoded
    assert rle.encode(mask[::-1, ::-1][::-1, ::-1]) == encoded


@given(masks())
def test_a_dictionary_survives_json(mask: NDArray[np.bool_]) -> None:
    encoded = rle.encode(mask)
    assert CompressedRLEData.from_dict(json.loads(json.dumps(encoded.to_dict()))) == encoded
    assert CompressedRLEData.from_dict({"size": encoded.size, "counts": encoded.counts}) == encoded


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (3,), (2, 2, 2)])
def test_encode_refuses_what_is_no_mask(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="mask"):
        rle.encode(np.zeros(shape, dtype=bool))


@st.composite
def valid_runs(draw: st.DrawFn) -> tuple[int, int, list[int]]:
    """Any runs that cover a mask, some of length zero, as other encoders write them."""
    height, width = draw(SIZES)
    ends = sorted(draw(st.lists(st.integers(0, height * width), max_size=9)))
    edges = [0, *ends, height * width]
    return height, width, [end - start for start, end in itertools.pairwise(edges)]


@given(valid_runs())
@example((4, 3, [12, 0]))
@example((4, 3, [0, 0, 12]))
@example((4, 3, [5, 0, 3, 2, 2]))
def test_runs_of_length_zero_are_read(case: tuple[int, int, list[int]]) -> None:
    height, width, runs = case
    foreign = CompressedRLEData([height, width], plain_text(runs))
    rle.check(foreign)
    mask = expand(runs, height, width)
    assert np.array_equal(rle.decode(foreign), mask)
    assert rle.area(foreign) == mask.sum()
    assert rle.bounding_box(foreign) == tight_box(mask)


@given(
    SIZES,
    st.one_of(
        st.binary(max_size=12),
        st.lists(st.integers(48, 111), max_size=12).map(bytes),
        st.lists(st.integers(-5, 60), min_size=1, max_size=6).map(plain_text),
    ),
)
@example((4, 3), b"")
@example((4, 3), b"\x00\xff")
@example((1, 1), b"Q0O")
def test_check_lets_pass_exactly_what_covers_the_mask(size: tuple[int, int], text: bytes) -> None:
    height, width = size
    runs = plain_parse(text)
    candidate = CompressedRLEData([height, width], text)
    try:
        rle.check(candidate)
    except ValueError:
        assert (
            not runs
            or min(runs) < 0
            or sum(runs) != height * width
            or any(len(digits) > 6 for digits in numbers(text))
        )
    else:
        assert runs
        assert sum(runs) == height * width
        assert np.array_equal(rle.decode(candidate), expand(runs, height, width))


def numbers(text: bytes) -> list[bytes]:
    """The digits of each number of a compressed text."""
    ends = [at + 1 for at, character in enumerate(text) if not (character - 48) & 32]
    return [text[start:end] for start, end in itertools.pairwise([0, *ends])]


@given(masks(), st.data())
def test_check_refuses_a_mask_that_lost_a_piece(
    mask: NDArray[np.bool_], data: st.DataObject
) -> None:
    encoded = rle.encode(mask)
    cut = data.draw(st.integers(0, len(encoded.counts) - 1))
    broken = CompressedRLEData(encoded.size, encoded.counts[:cut])
    runs = plain_parse(broken.counts)
    if runs and min(runs) >= 0 and sum(runs) == mask.size:
        rle.check(broken)
    else:
        with pytest.raises(ValueError, match="counts"):
            rle.check(broken)


@pytest.mark.parametrize(
    "size",
    [[0, 12], [12, 0], [-4, -3], [4], [4, 3, 1], [4.0, 3], [True, 12], "43", None, [2**15] * 2],
)
def test_check_refuses_a_wrong_size(size: object) -> None:
    with pytest.raises(ValueError, match="size") as caught:
        rle.check(CompressedRLEData(size, b"<"))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("counts", ["<", [12], None, 12])
def test_check_refuses_counts_of_another_kind(counts: object) -> None:
    with pytest.raises(ValueError, match="counts"):
        rle.check(CompressedRLEData([4, 3], counts))  # type: ignore[arg-type]


def test_check_refuses_another_size_than_the_images() -> None:
    mask = rle.encode(np.ones((4, 3), dtype=bool))
    rle.check(mask, (4, 3))
    with pytest.raises(ValueError, match=r"of size \[4, 3\], not \[3, 4\]"):
        rle.check(mask, (3, 4))


def test_the_largest_runs_are_read_exactly() -> None:
    height, width = 23_000, 23_000
    runs = [height * width - 8, 7, 1]
    wide = CompressedRLEData([height, width], plain_text(runs))
    rle.check(wide)
    assert rle.area(wide) == 7
    wide = CompressedRLEData([height, width], plain_text([0, height * width - 1, 0, 1]))
    rle.check(wide)
    assert rle.area(wide) == height * width
