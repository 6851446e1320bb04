"""Boxes of every convention, the families of models, and what cannot be a box."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.errors import UsageError
from pixano_cli.inference.check import SHAPES, SIZE, score
from pixano_cli.inference.providers.conventions import (
    Box,
    Convention,
    Size,
    clipped,
    convention_of,
    conventions,
    fitting,
    iou,
    profile_of,
)
from pixano_cli.inference.providers.grounding import Finding

SIZES = st.tuples(st.integers(30, 5000), st.integers(30, 5000))
PARTS = st.tuples(*[st.floats(0, 1)] * 4)


def written(convention: Convention, box: Box, sent: Size, displayed: Size) -> Box:
    """The numbers that a model of a convention gives for a box of the image as displayed."""
    width, height = convention.frame(sent)
    x1, x2 = (x * width / displayed[0] for x in (box[0], box[2]))
    y1, y2 = (y * height / displayed[1] for y in (box[1], box[3]))
    if convention.axes == "yxyx":
        return y1, x1, y2, x2
    return (x1, y1, x2 - x1, y2 - y1) if convention.axes == "xywh" else (x1, y1, x2, y2)


@given(st.sampled_from(conventions()), SIZES, SIZES, PARTS)
def test_a_box_comes_back(
    convention: Convention, sent: Size, displayed: Size, parts: tuple[float, ...]
) -> None:
    (x1, x2), (y1, y2) = sorted(parts[:2]), sorted(parts[2:])
    box = (x1 * displayed[0], y1 * displayed[1], x2 * displayed[0], y2 * displayed[1])
    numbers = written(convention, box, sent, displayed)
    assert convention.to_pixels(numbers, sent, displayed) == pytest.approx(box, abs=1e-6)
    assert convention.fits(numbers, sent)
    assert convention in fitting([numbers], sent)


def test_examples() -> None:
    sent, displayed = (640, 320), (1280, 640)

    def pixels(name: str, *numbers: float) -> Box:
        convention = convention_of(name)
        assert convention is not None
        return convention.to_pixels(numbers, sent, displayed)

    whole = (128.0, 128.0, 640.0, 512.0)
    assert pixels("xyxy-pixels", 64, 64, 320, 256) == whole
    assert pixels("yxyx-thousand", 200, 100, 800, 500) == whole
    assert pixels("xywh-unit", 0.1, 0.2, 0.4, 0.6) == pytest.approx(whole)
    # 640 is 22.86 patches of 28 pixels, which Qwen2.5-VL makes 23; 320 is 11.43, which it makes 11.
    assert pixels("xyxy-grid28", 64.4, 61.6, 322, 246.4) == pytest.approx(whole)


def test_the_grid_has_limits() -> None:
    grid = Convention("xyxy", "grid28")
    assert grid.frame((644, 308)) == (644, 308)
    width, height = grid.frame((8000, 6000))
    assert width * height <= 28 * 28 * 16384
    assert (width % 28, height % 28) == (0, 0)
    assert width / height == pytest.approx(8 / 6, rel=0.01)
    small = grid.frame((30, 20))
    assert small[0] * small[1] >= 56 * 56


@pytest.mark.parametrize(
    ("model", "name", "key"),
    [
        ("gemini-2.5-flash", "yxyx-thousand", "box_2d"),
        ("models/gemini-3-pro-preview", "yxyx-thousand", "box_2d"),
        ("google/gemma-3-27b-it", "yxyx-thousand", "box_2d"),
        ("gemma3:12b", "yxyx-thousand", "box_2d"),
        ("Qwen/Qwen2-VL-7B-Instruct", "xyxy-thousand", "bbox_2d"),
        ("Qwen/Qwen2.5-VL-72B-Instruct-AWQ", "xyxy-grid28", "bbox_2d"),
        ("qwen2.5vl:7b", "xyxy-grid28", "bbox_2d"),
        ("qwen/qwen2_5-vl", "xyxy-grid28", "bbox_2d"),
        ("Qwen/Qwen3-VL-8B-Instruct", "xyxy-thousand", "bbox_2d"),
        ("qwen3-vl:8b", "xyxy-thousand", "bbox_2d"),
        ("qwen3.5:9b", "xyxy-thousand", "bbox_2d"),
        ("gpt-4o", "xyxy-unit", "box"),
        ("openai/gpt-5-mini", "xyxy-unit", "box"),
        ("o3", "xyxy-unit", "box"),
        ("o4-mini", "xyxy-unit", "box"),
        ("llava-hf/llava-1.5-7b-hf", "xyxy-unit", "box"),
        ("OpenGVLab/InternVL3-8B", "xyxy-thousand", "box"),
        ("zai-org/GLM-4.5V", "xyxy-thousand", "box"),
        ("deepseek-ai/deepseek-vl2", "xyxy-thousand", "box"),
    ],
)
def test_families(model: str, name: str, key: str) -> None:
    profile = profile_of(model)
    assert profile is not None
    assert (profile.convention.name, profile.key) == (name, key)


@pytest.mark.parametrize("model", ["", "tiny", "mistral-small", "qwen2.5:7b", "pro3", "gemma-2-9b"])
def test_no_known_family(model: str) -> None:
    assert profile_of(model) is None


def test_names() -> None:
    for each in conventions():
        assert convention_of(each.name) == each
    assert convention_of("auto") is None
    assert convention_of("yxyx-1000") == Convention("yxyx", "thousand")
    assert convention_of("xyxy-1") == convention_of("xyxy-normalized") == Convention("xyxy", "unit")
    for name in ("", "xyxy", "xyxy-", "yxxy-unit", "xyxy-centimetres", "XYXY-unit"):
        with pytest.raises(UsageError, match="auto is wanted, or one of xyxy-pixels, "):
            convention_of(name)


@pytest.mark.parametrize(
    ("name", "numbers", "fits"),
    [
        ("xyxy-pixels", (0, 0, 640, 480), True),
        ("xyxy-pixels", (-32, -24, 672, 504), True),
        ("xyxy-pixels", (-33, 0, 10, 10), False),
        ("xyxy-pixels", (0, 0, 10, 505), False),
        ("xyxy-pixels", (20, 0, 10, 10), False),
        ("xyxy-pixels", (0, 20, 10, 10), False),
        ("yxyx-pixels", (0, 0, 480, 640), True),
        ("yxyx-pixels", (0, 0, 640, 480), False),
        ("xyxy-unit", (0, 0, 1.05, 1), True),
        ("xyxy-unit", (0, 0, 1.06, 1), False),
        ("xyxy-thousand", (0, 0, 1000, 1000), True),
        ("xywh-pixels", (600, 440, 40, 40), True),
        ("xywh-pixels", (600, 440, 80, 40), False),
    ],
)
def test_what_can_be_a_box(name: str, numbers: Box, fits: bool) -> None:
    convention = convention_of(name)
    assert convention is not None
    assert convention.fits(numbers, (640, 480)) is fits


def test_clipping() -> None:
    assert clipped((-1, -2, 3, 4), (2, 9)) == (0, 0, 2, 4)
    assert clipped((0, 0, 2, 9), (2, 9)) == (0, 0, 2, 9)
    assert clipped((2, 0, 3, 4), (2, 9)) is None
    assert clipped((1, 1, 1, 4), (2, 9)) is None


BOXES = st.tuples(*[st.integers(0, 50)] * 4).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]) + 1, max(b[1], b[3]) + 1)
)


@given(BOXES, BOXES)
def test_iou_counts_pixels(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    def cells(box: tuple[int, ...]) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    a, b = cells(first), cells(second)
    expected = len(a & b) / len(a | b)
    assert iou(first, second) == pytest.approx(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("truth", conventions(), ids=lambda each: each.name)
def test_every_convention_is_told_from_every_other(truth: Convention) -> None:
    found = [Finding(name, written(truth, box, SIZE, SIZE)) for name, box in SHAPES.items()]
    scores = score(found, SIZE)
    names = list(scores)
    assert names[0] == truth.name
    assert scores[truth.name] == pytest.approx(1)
    other = next(name for name in names if name != truth.name)
    related = {"pixels", "grid28"}
    if {each.partition("-")[2] for each in (truth.name, other)} == related:
        # These two differ by what a patch is rounded by.
        assert scores[other] < 0.95
        other = names[2]
    assert scores[other] < 0.3
    assert all(first >= second for first, second in pairwise(scores.values()))
