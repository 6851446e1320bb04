"""The embedded segmenter on real photographs, with its real weights."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixano_cli import rle
from pixano_cli.annotations import Box
from pixano_cli.errors import ModelError
from pixano_cli.models import mobile_sam
from pixano_cli.models.base import ModelDeploymentConfig, RGBImage
from pixano_cli.models.mobile_sam import MobileSam
from pixano_cli.models.segmentation import SegmentationInput, SegmentationOutput

SAMPLES = Path(__file__).parents[2] / "sample_data"
CAT = [-0.17, 0.01, 414.22, 300.03]
CUP = [168.49, 16.76, 425.54, 302.46]
ON_THE_CUP = [300.0, 230.0]
ON_THE_TABLE = [540.0, 60.0]


def pixels(name: str) -> RGBImage:
    with Image.open(SAMPLES / name) as image:
        return np.asarray(image.convert("RGB"))


def new_model() -> MobileSam:
    return MobileSam(
        ModelDeploymentConfig(
            name="mobile-sam", capability="segmentation", model_class="mobile-sam"
        )
    )


@pytest.fixture(scope="module")
def model() -> Iterator[MobileSam]:
    loaded = new_model()
    loaded.load_model()
    yield loaded
    loaded.unload()


class Embedded:
    """A photograph that is encoded once for all tests that only need the decoder."""

    def __init__(self, model: MobileSam, name: str) -> None:
        self.model = model
        self.image = pixels(name)
        request = SegmentationInput(image=self.image, return_image_embedding=True)
        embedding = model.predict(request).image_embedding
        assert embedding is not None
        self.embedding = embedding

    def ask(self, **prompts: Any) -> SegmentationOutput:
        request = SegmentationInput(image=self.image, image_embedding=self.embedding, **prompts)
        return self.model.predict(request)

    def logits(
        self, points: list[list[float]], labels: list[float], width: int, height: int
    ) -> NDArray[np.float32]:
        """Ask the decoder as its export documents; [4, height, width]."""
        assert self.model._decoder is not None
        scale = 1024 / max(width, height)
        fitted = [int(width * scale + 0.5), int(height * scale + 0.5)]
        frame = np.array(points) * fitted / [width, height]
        masks, _, _ = self.model._decoder.run(
            None,
            {
                "image_embeddings": self.embedding,
                "point_coords": frame[None].astype(np.float32),
                "point_labels": np.array([labels], np.float32),
                "mask_input": np.zeros((1, 1, 256, 256), np.float32),
                "has_mask_input": np.zeros(1, np.float32),
                "orig_im_size": np.array([height, width], np.float32),
            },
        )
        logits: NDArray[np.float32] = masks[0]
        return logits

    def mask(self, **prompts: Any) -> NDArray[np.bool_]:
        return rle.decode(self.ask(multimask_output=False, **prompts).masks[0][0])


@pytest.fixture(scope="module")
def coffee(model: MobileSam) -> Embedded:
    return Embedded(model, "coffee.png")


class CountingEncoder:
    """Stands before the real encoder and counts its calls."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        self.calls = 0

    def run(self, *given: Any) -> Any:
        self.calls += 1
        return self.encoder.run(*given)


@pytest.fixture
def encoder(model: MobileSam, monkeypatch: pytest.MonkeyPatch) -> CountingEncoder:
    counting = CountingEncoder(model._encoder)
    monkeypatch.setattr(model, "_encoder", counting)
    return counting


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / (first | second).sum())


def box_iou(first: Box, second: Box) -> float:
    width = min(first.xmax, second.xmax) - max(first.xmin, second.xmin)
    height = min(first.ymax, second.ymax) - max(first.ymin, second.ymin)
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (first.area + second.area - shared)


def test_the_cats_mask_covers_the_cat(model: MobileSam) -> None:
    image = pixels("chelsea.png")

    found = model.predict(SegmentationInput(image=image, boxes=[CAT], multimask_output=False))

    ((mask,),) = found.masks
    inside = rle.decode(mask)
    assert inside.shape == image.shape[:2]
    assert box_iou(Box(*rle.bounding_box(mask)), Box(*CAT)) > 0.8
    assert 0.6 < inside.sum() / Box(*CAT).area < 0.95
    # Read off the photograph by eye: eyes, nose and forehead are cat, the right edge is not.
    assert all(inside[y, x] for x, y in [(165, 105), (315, 140), (268, 225), (230, 30)])
    assert not any(inside[y, x] for x, y in [(430, 40), (440, 250), (390, 270), (10, 60)])
    assert found.scores[0, 0] > 0.9


def test_masks_of_several_boxes_come_in_their_order(
    coffee: Embedded, encoder: CountingEncoder
) -> None:
    table = [0.0, 0.0, 600.0, 400.0]
    found = coffee.model.predict(
        SegmentationInput(image=coffee.image, boxes=[table, CUP], multimask_output=False)
    )

    assert encoder.calls == 1
    assert found.scores.shape == (2, 1)
    areas = [rle.area(masks[0]) for masks in found.masks]
    assert areas[0] > 2 * areas[1]
    assert np.array_equal(rle.decode(found.masks[1][0]), coffee.mask(boxes=[CUP]))


def test_a_point_finds_what_it_is_on(coffee: Embedded) -> None:
    by_point = coffee.mask(points=[[ON_THE_CUP]], labels=[[1]])
    by_box = coffee.mask(boxes=[CUP])

    assert by_point[230, 300]
    assert iou(by_point, by_box) > 0.6


@pytest.mark.parametrize(
    ("prompt", "points", "labels"),
    [
        ({"boxes": [CUP]}, [CUP[:2], CUP[2:]], [2, 3]),
        ({"points": [[ON_THE_CUP]], "labels": [[1]]}, [ON_THE_CUP, [0, 0]], [1, -1]),
        (
            {"points": [[ON_THE_CUP, ON_THE_TABLE]], "labels": [[1, 0]], "boxes": [CUP]},
            [ON_THE_CUP, ON_THE_TABLE, CUP[:2], CUP[2:]],
            [1, 0, 2, 3],
        ),
    ],
    ids=["box", "point", "both"],
)
def test_prompts_are_given_to_the_decoder_as_its_export_documents(
    coffee: Embedded, prompt: dict[str, Any], points: list[list[float]], labels: list[float]
) -> None:
    single, *several = coffee.logits(points, labels, 600, 400) > 0

    assert np.array_equal(coffee.mask(**prompt), single)
    for mask, expected in zip(coffee.ask(**prompt).masks[0], several, strict=True):
        assert np.array_equal(rle.decode(mask), expected)


def test_a_point_and_a_box_make_one_prompt(coffee: Embedded) -> None:
    box = coffee.mask(boxes=[CUP])
    spoon = [[372.0, 262.0]]
    with_the_spoon = coffee.mask(boxes=[CUP], points=[spoon], labels=[[1]])

    assert not box[262, 372]
    assert with_the_spoon[262, 372]


def test_a_negative_point_takes_away(coffee: Embedded) -> None:
    points = [ON_THE_CUP, ON_THE_TABLE]
    both = coffee.mask(points=[points], labels=[[1, 1]])
    only_cup = coffee.mask(points=[points], labels=[[1, 0]])

    assert both[60, 540]
    assert not only_cup[60, 540]


def test_prompts_may_be_of_different_lengths(coffee: Embedded) -> None:
    together = coffee.ask(
        boxes=[CUP, [], CUP],
        points=[[], [ON_THE_CUP], [ON_THE_CUP, ON_THE_TABLE]],
        labels=[[], [1], [1, 0]],
    )
    alone = [
        coffee.ask(boxes=[CUP]),
        coffee.ask(points=[[ON_THE_CUP]], labels=[[1]]),
        coffee.ask(boxes=[CUP], points=[[ON_THE_CUP, ON_THE_TABLE]], labels=[[1, 0]]),
    ]

    assert together.masks == [each.masks[0] for each in alone]
    assert np.array_equal(together.scores, np.concatenate([each.scores for each in alone]))


def test_a_boxs_corners_may_come_in_any_order(coffee: Embedded) -> None:
    x1, y1, x2, y2 = CUP
    assert np.array_equal(coffee.mask(boxes=[CUP]), coffee.mask(boxes=[[x2, y1, x1, y2]]))


def test_several_masks_for_an_ambiguous_prompt(coffee: Embedded) -> None:
    three = coffee.ask(points=[[ON_THE_CUP]], labels=[[1]])
    one = coffee.ask(points=[[ON_THE_CUP]], labels=[[1]], multimask_output=False)
    two = coffee.ask(points=[[ON_THE_CUP]], labels=[[1]], num_multimask_outputs=2)
    many = coffee.ask(points=[[ON_THE_CUP]], labels=[[1]], num_multimask_outputs=9)

    assert three.scores.shape == (1, 3)
    assert one.scores.shape == (1, 1)
    assert len({mask.counts for mask in [*three.masks[0], *one.masks[0]]}) == 4
    assert two.masks[0] == three.masks[0][:2]
    assert many.masks == three.masks
    for scores in (three.scores, one.scores):
        assert scores.dtype == np.float32
        assert ((scores >= 0) & (scores <= 1)).all()
        assert np.array_equal(scores, scores.round(5))


@pytest.mark.parametrize("prompts", [{}, {"boxes": []}, {"points": [], "labels": [], "boxes": []}])
def test_without_prompts_nothing_is_encoded(
    coffee: Embedded, encoder: CountingEncoder, prompts: dict[str, Any]
) -> None:
    found = coffee.model.predict(SegmentationInput(image=coffee.image, **prompts))

    assert encoder.calls == 0
    assert found.masks == []
    assert found.scores.shape == (0, 3)
    assert found.image_embedding is None


def test_an_embedding_given_saves_the_encoder(coffee: Embedded, encoder: CountingEncoder) -> None:
    found = coffee.ask(boxes=[CUP], return_image_embedding=True)

    assert encoder.calls == 0
    assert found.image_embedding is not None
    assert np.array_equal(found.image_embedding, coffee.embedding)


def test_answers_are_bit_identical_whatever_runs_beside(coffee: Embedded) -> None:
    def whole(_: int) -> SegmentationOutput:
        return coffee.model.predict(
            SegmentationInput(image=coffee.image, boxes=[CUP], return_image_embedding=True)
        )

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(whole, range(3)))

    for answer in answers:
        assert answer.image_embedding is not None
        assert np.array_equal(answer.image_embedding, coffee.embedding)
        assert answer.masks == coffee.ask(boxes=[CUP]).masks
        assert np.array_equal(answer.scores, coffee.ask(boxes=[CUP]).scores)


def test_a_large_image_has_the_mask_that_full_size_logits_give(coffee: Embedded) -> None:
    width, height = 2400, 1600
    scaled = (np.array(CUP) * 4).tolist()
    large = np.zeros((height, width, 3), np.uint8)  # the embedding says what is in it
    found = coffee.model.predict(
        SegmentationInput(
            image=large,
            image_embedding=coffee.embedding,
            boxes=[scaled],
            multimask_output=False,
        )
    )
    logits = coffee.logits([scaled[:2], scaled[2:]], [2, 3], width, height)

    mask = rle.decode(found.masks[0][0])
    assert mask.shape == (height, width)
    assert iou(mask, logits[0] > 0) > 0.999


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (2500, 1), (3, 2049)])
def test_images_of_any_shape_are_taken(coffee: Embedded, shape: tuple[int, int]) -> None:
    found = coffee.model.predict(
        SegmentationInput(
            image=np.zeros((*shape, 3), np.uint8),
            image_embedding=coffee.embedding,
            boxes=[[0.0, 0.0, float(shape[1]), float(shape[0])]],
        )
    )
    assert [mask.size for mask in found.masks[0]] == [list(shape)] * 3


@pytest.mark.parametrize(
    ("prompts", "reason"),
    [
        ({"boxes": [[1, 2, 3]]}, "prompt 0: a box must be four finite numbers"),
        ({"boxes": [CUP, [1, 2, 3, math.nan]]}, "prompt 1: a box must be four finite numbers"),
        ({"boxes": [[1, 2, math.inf, 4]]}, "four finite numbers"),
        ({"points": [[[1, 2, 3]]], "labels": [[1]]}, "a point must be two finite numbers"),
        ({"points": [[[1, math.nan]]], "labels": [[1]]}, "a point must be two finite numbers"),
        ({"points": [[[1, 2]]], "labels": [[2]]}, "labels must be 0 or 1"),
        ({"points": [[[1, 2]]], "labels": [[1, 1]]}, "1 points but 2 labels"),
        ({"points": [[[1, 2]]]}, "1 prompts of points but 0 of labels"),
        ({"labels": [[1]]}, "0 prompts of points but 1 of labels"),
        ({"boxes": [CUP, CUP], "points": [[[1, 2]]], "labels": [[1]]}, "2 boxes but 1 prompts"),
        ({"boxes": [[]]}, "prompt 0 has neither a box nor a point"),
        ({"points": [[]], "labels": [[]]}, "prompt 0 has neither a box nor a point"),
        ({"boxes": [CUP], "num_multimask_outputs": 0}, "at least 1"),
        ({"boxes": [CUP], "image_embedding": np.zeros((1, 2), np.float32)}, "image_embedding"),
    ],
)
def test_a_prompt_that_makes_no_sense_is_refused_before_the_encoder_runs(
    coffee: Embedded, encoder: CountingEncoder, prompts: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason) as raised:
        coffee.model.predict(SegmentationInput(image=coffee.image, **prompts))

    assert "\n" not in str(raised.value)
    assert encoder.calls == 0


def test_it_must_be_loaded_and_given_pixels(model: MobileSam) -> None:
    with pytest.raises(RuntimeError, match="load_model"):
        new_model().predict(SegmentationInput(image=pixels("coffee.png"), boxes=[CUP]))
    with pytest.raises(TypeError, match="pixels"):
        model.predict(SegmentationInput(image="coffee.png", boxes=[CUP]))


@pytest.mark.parametrize("name", ["_ENCODER", "_DECODER"])
def test_damaged_weights_are_not_loaded(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(mobile_sam, name, replace(getattr(mobile_sam, name), sha256="0" * 64))
    with pytest.raises(ModelError, match="damaged"):
        new_model().load_model()


def test_its_card() -> None:
    card = MobileSam.card

    assert card is not None
    assert card.license == "Apache-2.0"
    assert card.categories is None
    assert sum(file.size for file in card.weights) > 20_000_000
    assert new_model().digest not in {file.sha256 for file in card.weights}
