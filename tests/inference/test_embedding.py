"""Vectors of images: the interface's default, and the local provider with plugins and its own."""

import asyncio
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from pixano_cli.errors import MediaReadError
from pixano_cli.inference import (
    EmbeddingTask,
    ImageEmbeddingInput,
    ImageEmbeddingOutput,
    InferenceError,
    InferenceProvider,
    InferenceTask,
    ModelNotFoundError,
    TaskNotSupportedError,
)
from pixano_cli.inference.embedding import task_of
from pixano_cli.inference.providers.local import LocalProvider
from pixano_cli.media import flight
from pixano_cli.models import EmbeddingInput, EmbeddingModel, EmbeddingOutput, ModelCard

from .local_detectors import Picture, Register

CHELSEA = flight.url_of(Path(__file__).parents[2] / "sample_data" / "chelsea.png")


def embed(provider: InferenceProvider, image: str, model: str = "plugin") -> list[float]:
    result = asyncio.run(provider.image_embedding(ImageEmbeddingInput(image, model)))
    assert result.status == "SUCCESS"
    return result.data.embedding


class Shape(EmbeddingModel):
    """The vector of an image is its width and height."""

    asked: ClassVar[list[bool]] = []

    def load_model(self) -> None:
        pass

    def predict(self, input: EmbeddingInput) -> EmbeddingOutput:  # noqa: A002
        assert isinstance(input.image, np.ndarray)
        self.asked.append(input.normalize)
        height, width = input.image.shape[:2]
        return EmbeddingOutput(embeddings=np.array([[width, height]], np.float32), dim=2)


def test_tasks_are_read_by_name() -> None:
    for task in (*InferenceTask, *EmbeddingTask):
        assert task_of(task.value) is task
    with pytest.raises(ValueError, match="image_caption"):
        task_of("image_caption")


def test_input_and_output_can_be_written_as_json() -> None:
    assert ImageEmbeddingInput("a.png", "m").to_dict() == {"image": "a.png", "model": "m"}
    assert ImageEmbeddingOutput([0.5]).to_dict() == {"embedding": [0.5]}


def test_a_provider_that_knows_nothing_of_it_says_so() -> None:
    class Published(LocalProvider):
        image_embedding = InferenceProvider.image_embedding

    with pytest.raises(TaskNotSupportedError, match="'local' does not embed images"):
        embed(Published(), CHELSEA)


def test_the_embedded_model(provider: LocalProvider) -> None:
    vector = embed(provider, CHELSEA, "pplcnetv2")
    assert len(vector) == 1280
    assert all(type(number) is float for number in vector)
    assert np.array_equal(np.float32(vector), np.array(vector))
    assert np.linalg.norm(vector) > 2
    described = asyncio.run(provider.describe_model("pplcnetv2"))
    assert described.task is EmbeddingTask.IMAGE_EMBEDDING
    assert described.embedding_size == 1280
    assert described.size is not None


def test_a_plugin_is_asked_for_what_its_network_makes(
    provider: LocalProvider, register: Register, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(Shape, "asked", asked)
    register(Shape)
    assert embed(provider, picture(7, 5)) == [7.0, 5.0]
    assert asked == [False]
    described = asyncio.run(provider.describe_model("plugin"))
    assert described.embedding_size is None
    assert described.task is EmbeddingTask.IMAGE_EMBEDDING


def test_a_card_tells_the_size(provider: LocalProvider, register: Register) -> None:
    class Carded(Shape):
        card = ModelCard("", "", "", embedding_size=2)

    register(Carded)
    assert asyncio.run(provider.describe_model("plugin")).embedding_size == 2


@pytest.mark.parametrize(
    ("input_size", "expected"), [(None, [1600, 800]), ((300, 200), [400, 200])]
)
def test_a_large_jpeg_is_decoded_no_smaller_than_the_model_reads(
    provider: LocalProvider,
    register: Register,
    tmp_path: Path,
    input_size: tuple[int, int] | None,
    expected: list[float],
) -> None:
    register(type("Sized", (Shape,), {"input_size": input_size}))
    path = tmp_path / "a.jpg"
    Image.new("RGB", (1600, 800)).save(path)
    assert embed(provider, flight.url_of(path)) == expected


@pytest.mark.parametrize(
    ("embeddings", "dim"),
    [
        (np.zeros((1, 3)), 2),
        (np.zeros((2, 2)), 2),
        (np.zeros(2), 2),
        (np.zeros((1, 0)), 0),
        (np.array([[1.0, np.nan]]), 2),
        (np.array([[np.inf, 1.0]]), 2),
    ],
)
def test_what_is_no_vector_is_an_error_of_that_image(
    provider: LocalProvider, register: Register, picture: Picture, embeddings: Any, dim: int
) -> None:
    class Wrong(Shape):
        def predict(self, input: EmbeddingInput) -> EmbeddingOutput:  # noqa: A002
            return EmbeddingOutput(embeddings=embeddings.astype(np.float32), dim=dim)

    register(Wrong)
    with pytest.raises(InferenceError, match=r"'plugin' failed on 7x5.png: .*vector"):
        embed(provider, picture(7, 5))


def test_a_model_is_asked_for_its_own_task_only(
    provider: LocalProvider, register: Register
) -> None:
    register(Shape)
    with pytest.raises(TaskNotSupportedError, match=r"use one of: .*plugin, pplcnetv2"):
        embed(provider, CHELSEA, "picodet-s-416")
    with pytest.raises(ModelNotFoundError, match="did you mean 'pplcnetv2'"):
        embed(provider, CHELSEA, "pplcnet")
    with pytest.raises(MediaReadError):
        embed(provider, "file:///nowhere.png")


def test_no_published_task_lists_it(provider: LocalProvider) -> None:
    async def listed(task: InferenceTask | None = None) -> dict[str, str]:
        return {model.name: model.task for model in await provider.list_models(task)}

    for task in InferenceTask:
        assert "pplcnetv2" not in asyncio.run(listed(task))
    assert asyncio.run(listed())["pplcnetv2"] == "image_embedding"
    capabilities = asyncio.run(provider.get_capabilities())
    assert set(capabilities.tasks) <= set(InferenceTask)
