"""A server that is away is waited for, and given up in the end; nothing is sent meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pixano_cli.inference.errors import (
    InferenceError,
    ProviderConnectionError,
    ProviderDownError,
)
from pixano_cli.inference.providers import breaker
from pixano_cli.inference.providers.breaker import FAILURES, Breaker

AWAY = ProviderConnectionError("http://h cannot be reached (connection refused): is it running?")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(breaker, "FIRST_PATIENCE_S", 0.05)


class Watched:
    """A breaker before a server that is away for some looks, and what it was told."""

    def __init__(self, away_for: int, patience: float = 5.0) -> None:
        self.looks = 0
        self.told: list[tuple[bool, InferenceError | None]] = []
        self._away_for = away_for
        self.breaker = Breaker(
            "http://h", self._look, lambda *told: self.told.append(told), patience=patience
        )

    async def _look(self) -> InferenceError | None:
        self.looks += 1
        return AWAY if self.looks <= self._away_for else None

    def fail(self, times: int) -> None:
        for _ in range(times):
            self.breaker.failed()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_a_few_failures_change_nothing() -> None:
    async def test() -> None:
        watched = Watched(0)
        watched.fail(FAILURES - 1)
        watched.breaker.answered()
        watched.fail(FAILURES - 1)
        assert not watched.breaker.is_open
        assert not await watched.breaker.closed()
        assert watched.looks == 0

    run(test)


def test_failures_in_a_row_without_an_outage() -> None:
    async def test() -> None:
        watched = Watched(0)
        watched.fail(FAILURES)
        assert watched.breaker.is_open
        assert not await watched.breaker.closed()
        assert not watched.breaker.is_open
        assert (watched.looks, watched.told) == (1, [(False, None)])

    run(test)


def test_a_server_that_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        watched = Watched(4)
        watched.breaker.answered()
        watched.fail(3 * FAILURES)
        assert await asyncio.gather(*(watched.breaker.closed() for _ in range(3))) == [True] * 3
        assert (watched.looks, watched.told) == (5, [(True, None)])
        assert not watched.breaker.is_open

    run(test)
    waits, back = (record.getMessage() for record in caplog.records)
    assert waits == f"{AWAY} Waiting up to 5 s for it."
    assert back == "http://h answers again"


def test_a_server_that_stays_away() -> None:
    async def test() -> None:
        watched = Watched(10**6, patience=0.1)
        watched.breaker.answered()
        watched.fail(FAILURES)
        with pytest.raises(ProviderDownError, match=r"not lost, run again when it is back") as got:
            await watched.breaker.closed()
        assert watched.told == [(True, got.value)]
        # Whoever asks next finds out anew.
        assert not watched.breaker.is_open

    run(test)


def test_a_server_that_was_never_there_is_not_waited_for_as_long() -> None:
    async def test() -> None:
        watched = Watched(10**6, patience=300.0)
        watched.fail(FAILURES)
        with pytest.raises(ProviderConnectionError) as got:
            await watched.breaker.closed()
        assert got.value is AWAY

    run(test)


def test_the_pauses_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def soon(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async def test() -> None:
        monkeypatch.setattr(asyncio, "sleep", soon)
        watched = Watched(20, patience=300.0)
        watched.breaker.answered()
        watched.fail(FAILURES)
        assert await watched.breaker.closed()

    run(test)
    assert len(pauses) == 20
    for index, pause in enumerate(pauses):
        most = min(0.01 * 2**index, breaker._LONGEST_PAUSE_S)
        assert most / 2 <= pause <= most


def test_closing_stops_the_looking() -> None:
    async def test() -> None:
        watched = Watched(10**6, patience=300.0)
        watched.breaker.answered()
        watched.fail(FAILURES)
        waiting = asyncio.create_task(watched.breaker.closed())
        await asyncio.sleep(0.03)
        await watched.breaker.aclose()
        looks = watched.looks
        await asyncio.sleep(0.05)
        assert watched.looks == looks
        assert waiting.cancelled()
        assert watched.told == []

    run(test)
