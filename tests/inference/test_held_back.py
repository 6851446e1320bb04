"""Requests that are held back: what has not begun is given up, what is under way goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pixano_cli.inference.errors import NotSentError
from pixano_cli.inference.providers.http import Answer, HttpServer

from .own_server import OwnServer, after, answer, own_server, reset
from .test_faults import free_port, until, with_http


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_server() as own:
        own.on("/x", after(0.2, answer({})))
        own.on("/health", answer({}))
        yield own


def test_what_waits_for_its_turn_is_not_sent(server: OwnServer) -> None:
    async def ask(http: HttpServer) -> list[Answer | BaseException]:
        asking = [asyncio.create_task(http.post("/x", {}, timeout=5)) for _ in range(20)]
        await until(lambda: len(server.asked) == 3)
        http.hold_back()
        late = [http.post("/x", {}, timeout=5)]
        return await asyncio.gather(*asking, *late, return_exceptions=True)

    got = with_http(server.url, ask, concurrency=3)
    kinds = [type(each) for each in got]
    assert kinds.count(Answer) == len(server.asked) == 3
    assert kinds.count(NotSentError) == 18


def test_what_is_under_way_may_be_asked_after(server: OwnServer) -> None:
    async def ask(http: HttpServer) -> Answer:
        http.hold_back()
        return await http.get("/x", timeout=5)

    assert with_http(server.url, ask).is_success


@pytest.mark.parametrize("reply", [answer({}, 429, Retry_After="60"), answer({}, 429), reset])
def test_what_waits_for_another_try_is_given_up(server: OwnServer, reply: object) -> None:
    server.on("/x", reply)  # type: ignore[arg-type]

    async def ask(http: HttpServer) -> object:
        asking = asyncio.create_task(http.post("/x", {}, timeout=60))
        await until(lambda: len(server.asked) > 0)
        await asyncio.sleep(0.02)
        http.hold_back()
        async with asyncio.timeout(2):
            return (await asyncio.gather(asking, return_exceptions=True))[0]

    assert isinstance(with_http(server.url, ask, tries=1000), NotSentError)


@pytest.mark.parametrize("method", ["post", "get"])
def test_nobody_waits_for_a_server_that_is_away(method: str) -> None:
    async def ask(http: HttpServer) -> list[object]:
        send = (
            http.get
            if method == "get"
            else lambda path, timeout: http.post(path, {}, timeout=timeout)
        )
        asking = [asyncio.create_task(send("/x", timeout=60)) for _ in range(20)]
        await until(lambda: http._breaker.is_open)
        await asyncio.sleep(0.1)
        http.hold_back()
        async with asyncio.timeout(2):
            return [*await asyncio.gather(*asking, return_exceptions=True)]

    got = with_http(f"http://127.0.0.1:{free_port()}", ask)
    assert {type(each) for each in got} == {NotSentError}
