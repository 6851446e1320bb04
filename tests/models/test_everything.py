"""All masks of an image: the embedded segmenter against the rules of the official generator."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from pixano_cli import rle
from pixano_cli.annotate.everything import EveryMask, everything_elements
from pixano_cli.annotations import Category
from pixano_cli.inference.everything import ImageEverythingInput, ImageEverythingOutput
from pixano_cli.inference.providers.loading import LocalModel
from pixano_cli.inference.providers.translation import everything
from pixano_cli.inference_store.ledger import Item, Picture
from pixano_cli.media.flight import url_of
from pixano_cli.models.base import ModelDeploymentConfig, RGBImage
from pixano_cli.models.everything import EverythingInput, PointMask, grid, stability_of
from pixano_cli.models.mobile_sam import MobileSam
from pixano_cli.models.segmentation import SegmentationInput

SAMPLES = Path(__file__).parents[2] / "sample_data"
SIDE = 5
CONFIG = ModelDeploymentConfig(
    name="mobile-sam", capability="segmentation", model_class="mobile-sam"
)


def pixels(name: str) -> RGBImage:
    with Image.open(SAMPLES / name) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def model() -> Iterator[MobileSam]:
    loaded = MobileSam(CONFIG)
    loaded.load_model()
    yield loaded
    loaded.unload()


@pytest.fixture(scope="module")
def candidates(model: MobileSam) -> list[PointMask]:
    """All masks that the points of a grid over the coffee give, good and bad."""
    image = pixels("coffee.png")
    points = grid(SIDE, image.shape[1], image.shape[0])
    request = EverythingInput(image=image, points=points, min_iou=-1, min_stability=0)
    return list(model.point_masks(request))


def official_grid(number: int) -> NDArray[np.float64]:
    """Return `build_point_grid` of sam2, word for word."""
    offset = 1 / (2 * number)
    side = np.linspace(offset, 1 - offset, number)
    x = np.tile(side[None, :], (number, 1))
    y = np.tile(side[:, None], (1, number))
    return np.stack([x, y], axis=-1).reshape(-1, 2)


@given(st.integers(1, 40), st.integers(1, 5000), st.integers(1, 5000))
def test_points_are_those_of_the_official_grid(number: int, width: int, height: int) -> None:
    assert grid(number, width, height) == [
        (x, y) for x, y in (official_grid(number) * [width, height]).tolist()
    ]


@given(arrays.arrays(np.float32, (5, 7), elements=st.floats(-3, 3, width=32)))
def test_stability_is_the_iou_of_two_masks(logits: NDArray[np.float32]) -> None:
    inner, outer = logits > 1, logits > -1
    union = (inner | outer).sum()
    expected = (inner & outer).sum() / union if union else 0.0
    assert stability_of(logits) == pytest.approx(expected)


def test_points_give_the_masks_that_prompts_give(
    model: MobileSam, candidates: list[PointMask]
) -> None:
    image = pixels("coffee.png")
    points = list(dict.fromkeys(each.point for each in candidates))
    assert points == grid(SIDE, 600, 400)
    request = SegmentationInput(
        image=image, points=[[list(point)] for point in points], labels=[[1]] * len(points)
    )
    output = model.predict(request)
    masks = [mask for masks in output.masks for mask in masks]
    scores = output.scores.ravel().tolist()
    expected = [(mask, score) for mask, score in zip(masks, scores, strict=True) if rle.area(mask)]
    assert [each.mask for each in candidates] == [mask for mask, _ in expected]
    for each, (_, score) in zip(candidates, expected, strict=True):
        assert min(max(each.iou, 0), 1) == pytest.approx(score, abs=1e-5)
        assert 0 <= each.stability <= 1


def test_floors_take_away_and_change_nothing(model: MobileSam, candidates: list[PointMask]) -> None:
    image = pixels("coffee.png")
    request = EverythingInput(
        image=image, points=grid(SIDE, 600, 400), min_iou=0.9, min_stability=0.93
    )
    expected = [each for each in candidates if each.iou >= 0.9 and each.stability >= 0.93]
    assert 3 < len(expected) < len(candidates)
    assert list(model.point_masks(request)) == expected


def official(
    found: list[PointMask], min_iou: float, min_stability: float
) -> list[tuple[float, bytes]]:
    """Return what sam2's generator keeps of masks: scores and RLEs, best first.

    The order of `_process_batch` and `_process_crop`: predicted IoU, stability, boxes from the
    first to the last pixel, then suppression above an IoU of 0.7, best predicted IoU first.
    """
    good = [each for each in found if each.iou > min_iou and each.stability >= min_stability]
    boxes = []
    for each in good:
        rows, columns = np.nonzero(rle.decode(each.mask))
        boxes.append([columns.min(), rows.min(), columns.max(), rows.max()])
    order = sorted(range(len(good)), key=lambda index: -good[index].iou)
    stay: list[int] = []
    for index in order:
        for other in stay:
            low = np.maximum(boxes[index][:2], boxes[other][:2])
            high = np.minimum(boxes[index][2:], boxes[other][2:])
            shared = np.prod(np.maximum(high - low, 0))
            areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (boxes[index], boxes[other])]
            if shared / (sum(areas) - shared) > 0.7:
                break
        else:
            stay.append(index)
    return [(good[index].iou, good[index].mask.counts) for index in stay]


@pytest.fixture(scope="module")
def answer(model: MobileSam) -> ImageEverythingOutput:
    """The provider's answer about the coffee, with what is good enough to be recorded."""
    request = ImageEverythingInput(
        url_of(SAMPLES / "coffee.png"), "mobile-sam", SIDE, min_iou=0.5, min_stability=0.8
    )
    question = everything(request, LocalModel(MobileSam, CONFIG))
    return question.read(question.predict(model, question.model_input))


@pytest.mark.parametrize(
    ("min_iou", "min_stability"), [(0.8, 0.95), (0.88, 0.95), (0.5, 0.8), (0.7, 0.9), (0.97, 0.98)]
)
def test_what_is_written_is_what_the_official_generator_keeps(
    candidates: list[PointMask],
    answer: ImageEverythingOutput,
    min_iou: float,
    min_stability: float,
) -> None:
    """All the way: the provider's answer, what of it is recorded, and what of that is written."""
    assert answer.scores == sorted(answer.scores, reverse=True)
    picture = Picture("0" * 64, 1, 600, 400, 1, "PNG")
    elements = everything_elements(answer, picture, 0.8)
    assert len(elements) < len(answer.masks)
    product = EveryMask("key", min_iou, min_stability, 0, (Category(1, "object"),))
    image = product.annotate(Item("coffee.png", "", "", 0, 0), picture, elements)
    expected = official(candidates, min_iou, min_stability)
    assert expected
    found = {each.mask.counts: each.score for each in image.annotations if each.mask}
    assert len(found) == len(image.annotations) == len(expected)
    for iou, counts in expected:
        assert found[counts] == pytest.approx(min(iou, 1), abs=1e-5)
    assert {each.label for each in image.annotations} == {"object"}
