"""What is asked for a vector, what of the answers is recorded, and what of the record is shown."""

import asyncio
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.annotate.embedding import Embedding, Embeddings, checked_vector
from pixano_cli.annotate.identity import Request
from pixano_cli.annotate.task import Image
from pixano_cli.errors import StoreError
from pixano_cli.inference.embedding import ImageEmbeddingOutput, ImageEmbeddingResult
from pixano_cli.inference.errors import InferenceError
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference_store import ledger, runs
from pixano_cli.inference_store.database import Store, open_store
from pixano_cli.inference_store.ledger import Item, Outcome, Picture
from pixano_cli.inference_store.models import NewRegisterModelRequest, TaskType
from pixano_cli.inference_store.register import put_model

REQUEST = Request("image_embedding", "fake", "vectors", "", {})

float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(float32s | st.integers(-1000, 1000), min_size=1, max_size=20))
def test_a_vector_is_kept_to_the_last_bit(numbers: list[float]) -> None:
    vector = checked_vector(ImageEmbeddingOutput(numbers))
    assert vector == numbers
    assert all(type(number) is float for number in vector)
    assert [math.copysign(1, each) for each in vector] == [math.copysign(1, x) for x in numbers]


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [[1.0, 2.0]],
        [[1.0], [2.0, 3.0]],
        [1.0, math.nan],
        [1.0, math.inf],
        [1.0, 1e39],
        [1.0, 10**400],
        ["1.0"],
        [True, False],
        [1.0, None],
        [1j],
        1.0,
        None,
        "vector",
    ],
)
def test_what_is_no_vector_is_not_recorded(answer: Any) -> None:
    with pytest.raises(InferenceError, match="malformed"):
        checked_vector(ImageEmbeddingOutput(answer))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


def image(name: str) -> Image:
    digest = name.ljust(64, "0")
    item = Item(f"{name}.jpg", "root", f"file:///{name}.jpg", 1, 1, digest)
    return Image(item, Picture(digest, 1, 40, 30, 6, "JPEG"), "run")


def provider_of(answers: dict[str, list[float]]) -> InferenceProvider:
    class Fake:
        """Answers by the image's URL, those that are asked together together."""

        async def image_embedding(self, asked: Any, timeout: float) -> ImageEmbeddingResult:
            await asyncio.sleep(0)
            data = ImageEmbeddingOutput(answers[Path(asked.image).stem])
            return ImageEmbeddingResult(data, datetime.now(UTC), 0.0, {})

    fake: Any = Fake()
    return fake


def embedding_size(store: Store) -> list[int]:
    with store.read() as connection:
        found = connection.exec_driver_sql("SELECT embedding_size FROM models")
        return [row[0] for row in found]


def record(store: Store, task: Embedding, *images: Image, again: bool = False) -> None:
    """Ask about the images and record the answers, as a run does."""

    async def ask() -> None:
        for each in images:
            records = await task.ask(each, store, again=again)
            outcome = Outcome(each.item, "processed", each.picture, tuple(records))
            with store.write() as connection:
                ledger.record_outcomes(connection, "run", [outcome], overwrite=again)

    asyncio.run(ask())


def test_a_model_of_unknown_size_is_registered_with_its_first_answer(store: Store) -> None:
    task = Embedding(provider_of({"a": [1, 2, 3], "b": [4, 5, 6]}), REQUEST, None)
    assert task.registrations == ()
    record(store, task, image("a"), image("b"))
    assert embedding_size(store) == [3]
    (registration,) = task.registrations
    assert (registration.model_id, registration.embedding_size) == ("vectors", 3)
    assert registration.task_type == "Image Embedding"
    # What is recorded already is not asked for again, nor need the size be known for that.
    again = Embedding(provider_of({}), REQUEST, None)
    assert asyncio.run(again.ask(image("b"), store, again=False)) == []


def test_all_vectors_of_a_model_have_one_size(store: Store) -> None:
    answers = {"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0], "c": [3.0, 4.0]}
    task = Embedding(provider_of(answers), REQUEST, None)

    async def ask_all() -> list[Any]:
        asked = (task.ask(image(name), store, again=False) for name in answers)
        return await asyncio.gather(*asked, return_exceptions=True)

    first, odd, last = asyncio.run(ask_all())
    assert isinstance(odd, InferenceError)
    assert "3 numbers, where 2 are recorded" in str(odd)
    assert [list(each[0].embedding) for each in (first, last)] == [[1.0, 2.0], [3.0, 4.0]]
    assert embedding_size(store) == [2]


def test_a_model_of_unknown_size_has_that_which_is_registered(store: Store) -> None:
    known = Embedding(provider_of({}), REQUEST, 2)
    with store.write() as connection:
        put_model(connection, known.registrations[0])
    task = Embedding(provider_of({"a": [1.0], "b": [1.0, 2.0]}), REQUEST, None)
    with pytest.raises(InferenceError, match="1 numbers, where 2 are recorded"):
        record(store, task, image("a"))
    record(store, task, image("b"))
    assert embedding_size(store) == [2]


def test_a_model_registered_for_another_task_ends_the_run(store: Store) -> None:
    detector = NewRegisterModelRequest(
        model_id="vectors", project_id="p", task_type=TaskType.OBJECT_DETECTION
    )
    with store.write() as connection:
        put_model(connection, detector)
    task = Embedding(provider_of({"a": [1.0]}), REQUEST, None)
    with pytest.raises(StoreError, match="registered for Object Detection"):
        record(store, task, image("a"))


def test_what_is_shown_is_what_was_answered(store: Store) -> None:
    answers = {"a": [0.1, -0.0], "b": [1e-45, 3.4e38], "gone": [1.0, 1.0]}
    task = Embedding(provider_of(answers), REQUEST, 2)
    product = Embeddings(REQUEST.key, 2)
    items = [image(name).item for name in ("a", "b", "gone", "never")]
    with store.write() as connection:
        put_model(connection, task.registrations[0])
        runs.begin_run(connection, "run", "job", {})
        ledger.add_items(connection, "run", items, set())
    record(store, task, *map(image, answers))
    assert product.recorded(store, items) == {"a.jpg", "b.jpg", "gone.jpg"}
    with store.write() as connection:
        connection.exec_driver_sql(
            "DELETE FROM inferences WHERE data_hash LIKE 'gone%'",
        )
    shown = list(product.images(store, "run"))
    assert [each.file_name for each in shown] == ["a.jpg", "b.jpg"]
    assert [(each.width, each.height, each.orientation) for each in shown] == [(40, 30, 6)] * 2
    for each, answer in zip(shown, answers.values(), strict=False):
        assert each.embedding.dtype == np.float32
        assert each.embedding.tobytes() == np.array(answer, np.float32).tobytes()
    assert product.recorded(store, items) == {"a.jpg", "b.jpg"}


def test_asked_again_a_vector_takes_the_place_of_the_earlier(store: Store) -> None:
    first = Embedding(provider_of({"a": [1.0, 2.0]}), REQUEST, None)
    record(store, first, image("a"))
    second = Embedding(provider_of({"a": [3.0, 4.0]}), REQUEST, None)
    record(store, second, image("a"), again=True)
    digest = image("a").picture.sha256
    assert ledger.vectors(store, REQUEST.key, [digest])[digest].tolist() == [3.0, 4.0]
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM embeddings").scalar() == 1


def test_a_product_is_read_back_as_it_was_kept() -> None:
    for product in (Embeddings("key", 3), Embeddings("key", None)):
        assert Embeddings.from_dict(product.to_dict()) == product
