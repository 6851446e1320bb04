"""The embedded model for vectors on real photographs, with its real weights."""

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from pixano_cli.errors import ModelError
from pixano_cli.media.decode import decode_image
from pixano_cli.models import pplcnet
from pixano_cli.models.base import ModelDeploymentConfig, RGBImage
from pixano_cli.models.embedding import EmbeddingInput
from pixano_cli.models.pplcnet import PPLCNetV2

ROOT = Path(__file__).parents[2]
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")

Vector = NDArray[np.float32]


def photograph(name: str) -> Image.Image:
    with Image.open(ROOT / "sample_data" / name) as image:
        return image.convert("RGB")


def new_model() -> PPLCNetV2:
    return PPLCNetV2(
        ModelDeploymentConfig(name="pplcnetv2", capability="embedding", model_class="pplcnetv2")
    )


@pytest.fixture(scope="module")
def model() -> Iterator[PPLCNetV2]:
    loaded = new_model()
    loaded.load_model()
    yield loaded
    loaded.unload()


def embed(model: PPLCNetV2, image: Image.Image | RGBImage) -> Vector:
    output = model.predict(EmbeddingInput(image=np.asarray(image), normalize=False))
    assert output.embeddings.shape == (1, 1280)
    assert output.embeddings.dtype == np.float32
    vector: Vector = output.embeddings[0]
    return vector


def cosine(one: Vector, other: Vector) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def saved_as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def without_border(image: Image.Image, part: float) -> Image.Image:
    x, y = round(image.width * part), round(image.height * part)
    return image.crop((x, y, image.width - x, image.height - y))


NEAR_DUPLICATES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "a border cut off": lambda image: without_border(image, 0.05),
    "a larger border cut off": lambda image: without_border(image, 0.1),
    "smaller": lambda image: image.resize((image.width * 3 // 4, image.height * 3 // 4)),
    "larger": lambda image: image.resize((image.width * 2, image.height * 2)),
    "a worse JPEG": lambda image: saved_as_jpeg(image, 40),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


@pytest.mark.parametrize("how", NEAR_DUPLICATES)
def test_near_duplicates_are_nearer_than_different_photographs(model: PPLCNetV2, how: str) -> None:
    vectors = {name: embed(model, photograph(name)) for name in PHOTOGRAPHS}
    different = max(
        cosine(vectors[one], vectors[other]) for one, other in permutations(PHOTOGRAPHS, 2)
    )
    for name in PHOTOGRAPHS:
        copy = embed(model, NEAR_DUPLICATES[how](photograph(name)))
        assert cosine(vectors[name], copy) > 0.8 > 0.5 > different
        assert all(
            np.linalg.norm(vectors[name] - copy) < np.linalg.norm(vectors[other] - copy)
            for other in PHOTOGRAPHS
            if other != name
        )


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_it_agrees_with_the_preprocessing_as_published(model: PPLCNetV2, name: str) -> None:
    """The whole is scaled and then cut; here only what is kept is scaled, at parts of a pixel."""
    image = photograph(name)
    scale = 256 / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    left, top = (width - 224) // 2, (height - 224) // 2
    middle = image.resize((width, height), Image.Resampling.BILINEAR).crop(
        (left, top, left + 224, top + 224)
    )
    normal = (np.asarray(middle) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    session = model._session
    assert session is not None
    (expected,) = session.run(None, {"x": normal.transpose(2, 0, 1)[None].astype(np.float32)})

    assert cosine(embed(model, image), expected[0]) > 0.995


def test_what_lies_far_from_the_middle_is_not_seen(model: PPLCNetV2) -> None:
    image = np.array(photograph("coffee.png"))
    assert image.shape == (400, 600, 3)
    vector = embed(model, image)
    # The middle is 400 / 256 * 224 = 350 pixels wide and high; smoothing looks 3 further.
    painted = image.copy()
    painted[:, :121] = painted[:, -121:] = painted[:21] = painted[-21:] = 255
    assert np.array_equal(embed(model, painted), vector)
    painted[:, :135] = 255
    assert not np.array_equal(embed(model, painted), vector)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_reduced_scale_changes_little(model: PPLCNetV2, name: str) -> None:
    """A large JPEG is decoded at a reduced scale: nearly the vector of all its pixels."""
    image = photograph(name)
    buffer = io.BytesIO()
    image.resize((image.width * 4, image.height * 4), Image.Resampling.BICUBIC).save(
        buffer, "JPEG", quality=92
    )
    whole = decode_image(buffer.getvalue())
    reduced = decode_image(buffer.getvalue(), min_size=PPLCNetV2.input_size)
    assert reduced.size * 4 <= whole.size
    assert cosine(embed(model, whole), embed(model, reduced)) > 0.998


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (5, 7), (224, 224), (256, 256)])
def test_an_image_of_any_shape_has_a_vector(model: PPLCNetV2, shape: tuple[int, int]) -> None:
    vector = embed(model, np.full((*shape, 3), 200, np.uint8))
    assert np.isfinite(vector).all()
    # One colour is the same at every size.
    assert np.allclose(vector, embed(model, np.full((300, 300, 3), 200, np.uint8)), atol=1e-4)


def test_vectors_are_what_stood_before_the_classifier(model: PPLCNetV2) -> None:
    vector = embed(model, photograph("chelsea.png"))
    assert vector.min() == 0.0
    assert 0.2 < (vector > 0).mean() < 0.8


def test_several_images_have_a_vector_each_in_order(model: PPLCNetV2) -> None:
    images = [np.asarray(photograph(name)) for name in PHOTOGRAPHS]
    output = model.predict(EmbeddingInput(image=list(images), normalize=False))
    assert output.dim == 1280
    assert np.array_equal(output.embeddings, np.stack([embed(model, each) for each in images]))


def test_normalized_vectors_have_length_one_and_the_same_direction(model: PPLCNetV2) -> None:
    image = np.asarray(photograph("rocket.jpg"))
    (vector,) = model.predict(EmbeddingInput(image=image)).embeddings
    assert np.isclose(np.linalg.norm(vector), 1, atol=1e-6)
    assert np.isclose(cosine(vector, embed(model, image)), 1, atol=1e-6)


def test_a_vector_of_zeros_stays_one(model: PPLCNetV2, monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind:
        def run(self, *_: object) -> list[NDArray[np.float32]]:
            return [np.zeros((1, 1280), np.float32)]

    monkeypatch.setattr(model, "_session", Blind())
    assert not model.predict(EmbeddingInput(image=np.zeros((9, 9, 3), np.uint8))).embeddings.any()


def test_answers_are_bit_identical_however_many_calls_run_at_once(model: PPLCNetV2) -> None:
    images = [np.asarray(photograph(name)) for name in PHOTOGRAPHS] * 3
    alone = [embed(model, image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(lambda image: embed(model, image), images))
    assert np.array_equal(alone, at_once)


def test_what_is_no_pixels_is_refused(model: PPLCNetV2) -> None:
    for given in (
        EmbeddingInput(image="file:///a.png"),
        EmbeddingInput(image=["a.png"]),
        EmbeddingInput(text="a cat"),
    ):
        with pytest.raises(TypeError, match="pixels"):
            model.predict(given)


def test_it_must_be_loaded() -> None:
    with pytest.raises(RuntimeError, match="load_model"):
        new_model().predict(EmbeddingInput(image=np.zeros((9, 9, 3), np.uint8)))


def test_damaged_weights_are_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pplcnet, "_WEIGHTS", replace(pplcnet._WEIGHTS, sha256="0" * 64))
    with pytest.raises(ModelError, match="damaged"):
        new_model().load_model()


def test_its_card_and_digest_and_the_notice() -> None:
    model = new_model()
    card = model.card
    assert card is not None
    assert (card.license, card.embedding_size, card.categories) == ("Apache-2.0", 1280, None)
    (weights,) = card.weights
    assert model.digest == weights.sha256
    notice = (ROOT / "NOTICE").read_text()
    assert weights.name in notice
    assert weights.sha256 in notice
