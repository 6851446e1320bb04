"""The local provider's micro-batching, by a plugin that counts its batches."""

import asyncio
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from pixano_cli.errors import ImageDecodeError
from pixano_cli.inference.providers.local import LocalProvider
from pixano_cli.inference.types import ModelConfig
from pixano_cli.media import flight
from pixano_cli.models import DetectionInput, DetectionOutput

from .local_detectors import Measure, Picture, Register, detect


class Batching(Measure):
    """Has a batch pass of its own, which cannot do an image one pixel wide."""

    batches: ClassVar[list[int]] = []

    def predict(self, input: DetectionInput) -> DetectionOutput:  # noqa: A002
        assert isinstance(input.image, np.ndarray)
        if input.image.shape[1] == 1:
            raise ValueError("too narrow")
        return super().predict(input)

    def predict_batch(self, inputs: list[DetectionInput]) -> list[DetectionOutput]:
        self.batches.append(len(inputs))
        return [self.predict(each) for each in inputs]


@pytest.fixture
def batches(register: Register, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sizes: list[int] = []
    monkeypatch.setattr(Batching, "batches", sizes)
    register(Batching)
    return sizes


def widths(results: list[Any]) -> list[float]:
    return [result.data.boxes[0][2] for result in results]


def test_requests_that_come_together_are_one_batch(batches: list[int], picture: Picture) -> None:
    async def ask() -> list[Any]:
        provider = LocalProvider(concurrency=2, batch_size=4)
        asked = [detect(provider, picture(10 + index, 10)) for index in range(8)]
        results = await asyncio.gather(*asked)
        await provider.aclose()
        return results

    results = asyncio.run(ask())

    assert widths(results) == list(range(10, 18))
    assert batches == [4, 4]


def test_a_batch_that_does_not_fill_is_asked_after_the_wait(
    batches: list[int], picture: Picture
) -> None:
    async def ask() -> list[Any]:
        provider = LocalProvider(concurrency=2, batch_size=100)
        asked = [detect(provider, picture(10 + index, 10)) for index in range(3)]
        results = await asyncio.gather(*asked)
        await provider.aclose()
        return results

    assert widths(asyncio.run(ask())) == [10, 11, 12]
    assert batches == [3]


def test_the_configuration_can_ask_for_batches(batches: list[int], picture: Picture) -> None:
    async def ask() -> list[Any]:
        provider = LocalProvider(concurrency=2)
        config = ModelConfig(
            "mine",
            "detection",
            config={"model_class": "plugin", "max_batch_size": 2, "batch_wait_timeout_s": 5},
        )
        await provider.instantiate_model("local", config)
        asked = [detect(provider, picture(10 + index, 10), model="mine") for index in range(4)]
        results = await asyncio.gather(*asked)
        await provider.aclose()
        return results

    assert widths(asyncio.run(ask())) == [10, 11, 12, 13]
    assert batches == [2, 2]


def test_one_bad_input_fails_alone(batches: list[int], picture: Picture) -> None:
    async def ask() -> list[Any]:
        provider = LocalProvider(concurrency=2, batch_size=3)
        asked = [detect(provider, picture(width, 10)) for width in (10, 1, 12)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        await provider.aclose()
        return list(results)

    first, bad, last = asyncio.run(ask())

    assert batches == [3]
    assert widths([first, last]) == [10, 12]
    assert str(bad) == "model 'plugin' failed on 1x10.png: ValueError: too narrow"


def test_an_image_that_cannot_be_decoded_never_reaches_a_batch(
    batches: list[int], picture: Picture, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")

    async def ask() -> list[Any]:
        provider = LocalProvider(concurrency=2, batch_size=2)
        images = [picture(10, 10), flight.url_of(tmp_path / "bad.png"), picture(12, 10)]
        asked = [detect(provider, image) for image in images]
        results = await asyncio.gather(*asked, return_exceptions=True)
        await provider.aclose()
        return list(results)

    first, bad, last = asyncio.run(ask())

    assert isinstance(bad, ImageDecodeError)
    assert widths([first, last]) == [10, 12]
    assert batches == [2]


def test_a_batch_of_the_wrong_length_is_asked_one_by_one(
    register: Register, picture: Picture
) -> None:
    class Forgetful(Measure):
        def predict_batch(self, inputs: list[DetectionInput]) -> list[DetectionOutput]:
            return [self.predict(each) for each in inputs[1:]]

    register(Forgetful)

    async def ask() -> list[Any]:
        provider = LocalProvider(concurrency=2, batch_size=2)
        results = await asyncio.gather(*[detect(provider, picture(w, 10)) for w in (10, 11)])
        await provider.aclose()
        return results

    assert widths(asyncio.run(ask())) == [10, 11]


@pytest.mark.parametrize("batch_size", [None, 1])
def test_without_a_batch_size_nothing_waits(
    batches: list[int], picture: Picture, batch_size: int | None
) -> None:
    async def ask() -> list[Any]:
        provider = LocalProvider(concurrency=2, batch_size=batch_size)
        results = await asyncio.gather(*[detect(provider, picture(w, 10)) for w in (10, 11)])
        await provider.aclose()
        return results

    assert widths(asyncio.run(ask())) == [10, 11]
    assert batches == []
