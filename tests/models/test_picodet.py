"""The embedded detector on real photographs, with its real weights."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixano_cli.errors import ModelError
from pixano_cli.models import picodet
from pixano_cli.models.base import ModelDeploymentConfig, RGBImage
from pixano_cli.models.coco_classes import COCO_CATEGORIES
from pixano_cli.models.detection import DetectionInput, DetectionOutput
from pixano_cli.models.picodet import PicoDet

SAMPLES = Path(__file__).parents[2] / "sample_data"
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def pixels(name: str) -> RGBImage:
    with Image.open(SAMPLES / name) as image:
        return np.asarray(image.convert("RGB"))


def new_model() -> PicoDet:
    return PicoDet(
        ModelDeploymentConfig(
            name="picodet-s-416", capability="detection", model_class="picodet-s-416"
        )
    )


@pytest.fixture(scope="module")
def model() -> Iterator[PicoDet]:
    loaded = new_model()
    loaded.load_model()
    yield loaded
    loaded.unload()


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("astronaut.png", ["person"]),
        ("chelsea.png", ["cat"]),
        ("coffee.png", ["dining table", "cup"]),
        ("rocket.jpg", []),
    ],
)
def test_it_finds_what_is_in_the_photographs(model: PicoDet, name: str, classes: list[str]) -> None:
    assert model.predict(DetectionInput(image=pixels(name))).classes == classes


def test_boxes_are_where_the_things_are(model: PicoDet) -> None:
    found = model.predict(DetectionInput(image=pixels("coffee.png")))

    cup = found.boxes[found.classes.index("cup")]
    # Read off the photograph by eye: the cup without its saucer.
    assert np.abs(np.array(cup) - [171, 17, 424, 306]).max() < 12


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_it_agrees_with_the_preprocessing_as_published(model: PicoDet, name: str) -> None:
    image = pixels(name)
    height, width = image.shape[:2]
    resized = Image.fromarray(image).resize((416, 416), Image.Resampling.BILINEAR)
    normal = (np.asarray(resized) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    session = model._session
    assert session is not None
    rows, _ = session.run(
        None,
        {
            "image": normal.transpose(2, 0, 1)[None].astype(np.float32),
            "scale_factor": np.array([[416 / height, 416 / width]], np.float32),
        },
    )
    expected = sorted((row for row in rows.tolist() if row[1] >= 0.3), key=lambda row: -row[1])

    found = model.predict(DetectionInput(image=image, box_threshold=0.3))

    assert found.classes == [COCO_CATEGORIES[int(row[0])].name for row in expected]
    assert np.allclose(found.scores, [row[1] for row in expected], atol=1e-4)
    assert np.allclose(found.boxes, [row[2:] for row in expected], atol=0.05) or not expected


def test_answers_are_rounded_plain_numbers_best_first(model: PicoDet) -> None:
    found = model.predict(DetectionInput(image=pixels("coffee.png"), box_threshold=0.05))

    assert len(found.boxes) == len(found.scores) == len(found.classes) > 2
    assert found.scores == sorted(found.scores, reverse=True)
    assert found.scores == [round(score, 5) for score in found.scores]
    assert all(
        type(value) is float and value == round(value, 2) for b in found.boxes for value in b
    )


@given(threshold=st.floats(0.05, 1.0))
def test_a_threshold_applied_afterwards_gives_the_same(threshold: float) -> None:
    rng = np.random.default_rng(7)
    scores = np.concatenate([rng.random(60), [0.5, 0.5, 0.499996, 0.499994, 0.500004, threshold]])
    rows = np.column_stack(
        [rng.integers(0, 80, scores.size), scores, rng.random((scores.size, 4)) * 400]
    ).astype(np.float32)

    at_once = picodet._detections(rows, threshold, None)
    at_floor = picodet._detections(rows, 0.05, None)

    order = list(
        zip((-score for score in at_floor.scores), at_floor.classes, at_floor.boxes, strict=True)
    )
    assert order == sorted(order)
    kept = [index for index, score in enumerate(at_floor.scores) if score >= threshold]
    assert at_once == DetectionOutput(
        boxes=[at_floor.boxes[index] for index in kept],
        scores=[at_floor.scores[index] for index in kept],
        classes=[at_floor.classes[index] for index in kept],
    )


@pytest.mark.parametrize("classes", [None, [], ""])
def test_no_classes_means_all(model: PicoDet, classes: list[str] | str | None) -> None:
    found = model.predict(DetectionInput(image=pixels("coffee.png"), classes=classes))
    assert found.classes == ["dining table", "cup"]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [(["cup"], ["cup"]), ("cup, cat", ["cup"]), (["unicorn"], []), (["Cup"], [])],
)
def test_named_classes_are_kept_and_unknown_ones_match_nothing(
    model: PicoDet, classes: list[str] | str, expected: list[str]
) -> None:
    found = model.predict(DetectionInput(image=pixels("coffee.png"), classes=classes))
    assert found.classes == expected


def test_answers_are_bit_identical_whatever_runs_beside(model: PicoDet) -> None:
    inputs = [DetectionInput(image=pixels(name), box_threshold=0.0) for name in PHOTOGRAPHS]
    alone = [model.predict(each) for each in inputs]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(model.predict, inputs * 4))

    assert together == alone * 4


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (2000, 3)])
def test_images_of_any_shape_are_taken(model: PicoDet, shape: tuple[int, int]) -> None:
    found = model.predict(DetectionInput(image=np.zeros((*shape, 3), np.uint8)))
    assert found.classes == []


def test_it_must_be_loaded_and_given_pixels(model: PicoDet) -> None:
    with pytest.raises(RuntimeError, match="load_model"):
        new_model().predict(DetectionInput(image=pixels("coffee.png")))
    with pytest.raises(TypeError, match="pixels"):
        model.predict(DetectionInput(image="coffee.png"))


def test_after_unloading_it_can_be_loaded_again() -> None:
    model = new_model()
    model.load_model()
    model.unload()
    with pytest.raises(RuntimeError, match="load_model"):
        model.predict(DetectionInput(image=pixels("chelsea.png")))

    model.load_model()

    assert model.predict(DetectionInput(image=pixels("chelsea.png"))).classes == ["cat"]


def test_damaged_weights_are_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picodet, "_WEIGHTS", replace(picodet._WEIGHTS, sha256="0" * 64))
    with pytest.raises(ModelError, match="damaged"):
        new_model().load_model()


def test_its_card_and_digest() -> None:
    model = new_model()
    card = model.card

    assert card is not None
    assert card.license == "Apache-2.0"
    assert card.categories == COCO_CATEGORIES
    assert model.digest == card.weights[0].sha256


def test_the_classes_have_cocos_own_ids() -> None:
    ids = [category.id for category in COCO_CATEGORIES]

    assert ids == sorted(set(ids))
    assert set(range(1, 91)) - set(ids) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert len({category.name for category in COCO_CATEGORIES}) == len(ids) == 80
    assert {category.supercategory for category in COCO_CATEGORIES} == {
        *("person", "vehicle", "outdoor", "animal", "accessory", "sports"),
        *("kitchen", "food", "furniture", "electronic", "appliance", "indoor"),
    }
    by_name = {category.name: category.id for category in COCO_CATEGORIES}
    assert by_name["cat"] == 17
    assert by_name["cup"] == 47
    assert by_name["dining table"] == 67
    assert by_name["toothbrush"] == 90
