"""Whose turn it is: in order, never more than allowed, and no turn is ever lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from pixano_cli.inference.errors import InferenceError, ProviderDownError
from pixano_cli.inference.providers.pacing import Pacing
from pixano_cli.inference.providers.rates import Rate
from pixano_cli.inference.providers.turns import Turns


def turns(start: int, most: int | None = None, rate: Rate | None = None) -> Turns:
    return Turns(Pacing(start=start, most=most or start), rate, None, lambda: False)


def test_first_come_first_served_but_who_comes_again_is_first() -> None:
    async def run() -> list[str]:
        queue, order = turns(1), list[str]()

        async def one(name: str, again: bool) -> None:
            turn = await queue.take(0, again=again)
            order.append(name)
            await asyncio.sleep(0)
            queue.end(turn, True)

        async with asyncio.TaskGroup() as group:
            for name in ("a", "b", "c", "d again"):
                group.create_task(one(name, name.endswith("again")))
        return order

    assert asyncio.run(run()) == ["a", "d again", "b", "c"]


@pytest.mark.parametrize("seed", range(8))
def test_no_turn_is_lost_whatever_is_given_up(seed: int) -> None:
    async def run() -> None:
        chance = random.Random(seed)
        queue, under_way, most = turns(3), 0, 0

        async def one() -> None:
            nonlocal under_way, most
            turn = await queue.take(0, again=chance.random() < 0.3)
            under_way += 1
            most = max(most, under_way)
            try:
                await asyncio.sleep(chance.random() / 500)
            finally:
                under_way -= 1
                queue.end(turn, chance.choice([True, None]))

        tasks = [asyncio.create_task(one()) for _ in range(200)]
        for task in tasks:
            if chance.random() < 0.4:
                task.cancel()
            if chance.random() < 0.1:
                await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert most <= 3
        # All three places are free again.
        for _ in range(3):
            await asyncio.wait_for(queue.take(0, again=False), 1)

    asyncio.run(run())


def test_a_turn_that_comes_as_it_is_given_up_goes_to_the_next() -> None:
    async def run() -> None:
        queue = turns(1)
        first = await queue.take(0, again=False)
        second = asyncio.create_task(queue.take(0, again=False))
        third = asyncio.create_task(queue.take(0, again=False))
        await asyncio.sleep(0)
        queue.end(first, True)
        second.cancel()
        await asyncio.wait_for(third, 1)
        assert second.cancelled()

    asyncio.run(run())


def test_all_that_wait_hear_of_the_end() -> None:
    async def run() -> list[object]:
        held_up = True
        queue = Turns(Pacing(start=4), None, None, lambda: held_up)
        waiting = [asyncio.create_task(queue.take(0, again=False)) for _ in range(5)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in waiting)
        queue.go_on(True, ProviderDownError("gone"))
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    assert all(isinstance(each, InferenceError) for each in asyncio.run(run()))


def test_they_go_on_one_at_a_time_after_an_outage() -> None:
    async def run() -> None:
        away = True
        queue = Turns(Pacing(start=8), None, None, lambda: away)
        waiting = [asyncio.create_task(queue.take(0, again=False)) for _ in range(8)]
        await asyncio.sleep(0.01)
        away = False
        queue.go_on(True, None)
        await asyncio.sleep(0.01)
        done = [task for task in waiting if task.done()]
        assert len(done) == 1
        while len(done) < 8:
            queue.end(done[-1].result(), True)
            await asyncio.sleep(0)
            done = [task for task in waiting if task.done()]

    asyncio.run(run())
