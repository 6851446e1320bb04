"""Answers about frames reach the store, and never more than so many wait for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixano_cli.annotate.videos.answering import Answers
from pixano_cli.errors import StoreError
from pixano_cli.inference.errors import InferenceError
from pixano_cli.inference_store.database import Store, open_store
from pixano_cli.inference_store.frames import recorded_frames
from pixano_cli.inference_store.models import NewRegisterModelRequest, TaskType
from pixano_cli.inference_store.records import Record
from pixano_cli.inference_store.register import put_model

NUMBERS = count()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        with opened.write() as connection:
            model = NewRegisterModelRequest(
                model_id="m", project_id="p", task_type=TaskType.OBJECT_DETECTION, embedding_size=0
            )
            put_model(connection, model)
        yield opened


def record(frame: int, number: int, request_key: str = "key") -> Record:
    return Record(
        *("m", f"{request_key} {frame} {number}", "object_detection", "detect", "sha", 1),
        elements=[{"label": "a", "score": 0.5}],
        request_key=request_key,
        frame=(frame, frame / 25, None),
    )


def recorded(store: Store, request_key: str = "key") -> list[int]:
    return [frame.index for frame in recorded_frames(store, request_key, "sha")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(
    limit=st.integers(1, 5),
    frames=st.lists(st.integers(0, 9), min_size=1, max_size=25),
    delays=st.lists(st.integers(0, 3), min_size=25, max_size=25),
)
def test_never_more_frames_are_open_than_the_limit(
    store: Store, limit: int, frames: list[int], delays: list[int]
) -> None:
    request_key = f"key {next(NUMBERS)}"
    begun: list[tuple[int, int]] = []
    most = 0

    async def run() -> None:
        nonlocal most
        answers = Answers(store, limit)

        async def ask(number: int, frame: int) -> None:
            async def call() -> Record:
                nonlocal most
                begun.append((frame, number))
                waiting = {each for each, _ in begun} - settled(begun)
                most = max(most, len(waiting))
                for _ in range(delays[number]):
                    await asyncio.sleep(0)
                return record(frame, number, request_key)

            assert (await answers.ask(frame, call)).frame == (frame, frame / 25, None)

        async with asyncio.timeout(20):
            await asyncio.gather(*(ask(*each) for each in enumerate(frames)))
            await answers.aclose()

    def settled(begun: list[tuple[int, int]]) -> set[int]:
        """Return the frames of which all that was begun is in the store."""
        kept = {
            frame.index: len(frame.elements) for frame in recorded_frames(store, request_key, "sha")
        }
        asked = Counter(frame for frame, _ in begun)
        return {frame for frame, number in asked.items() if kept.get(frame, 0) == number}

    asyncio.run(run())
    assert most <= limit
    assert recorded(store, request_key) == sorted(set(frames))


def test_who_stops_waiting_loses_nothing(store: Store) -> None:
    async def run() -> None:
        answers = Answers(store, 10)
        is_released = asyncio.Event()

        async def call() -> Record:
            await is_released.wait()
            return record(3, 0)

        waiting = asyncio.ensure_future(answers.ask(3, call))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        is_released.set()
        await answers.aclose()

    asyncio.run(run())
    assert recorded(store) == [3]


@pytest.mark.parametrize("error", [InferenceError("no"), SystemExit(3), ValueError("what")])
def test_a_question_that_fails_takes_no_room(store: Store, error: BaseException) -> None:
    async def run() -> None:
        answers = Answers(store, 1)

        async def fails() -> Record:
            raise error

        async def works() -> Record:
            return record(5, 0)

        for _ in range(3):
            with pytest.raises(InferenceError if isinstance(error, SystemExit) else type(error)):
                await answers.ask(4, fails)
        await answers.ask(5, works)
        await answers.aclose()

    asyncio.run(run())
    assert recorded(store) == [5]


def test_a_store_that_fails_ends_all_who_wait(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        answers = Answers(store, 2)

        def full(_: object) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(answers, "_write", full)

        async def ask(frame: int) -> None:
            async def call() -> Record:
                return record(frame, 0)

            await answers.ask(frame, call)

        async with asyncio.timeout(20):
            ended = await asyncio.gather(*map(ask, range(6)), return_exceptions=True)
            assert sum(isinstance(each, StoreError) for each in ended) >= 4
            assert all(each is None or isinstance(each, StoreError) for each in ended)

    asyncio.run(run())
    assert recorded(store) == []
