"""Room for images in memory, against what it promises."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.annotate.room import Room

ALWAYS, MOST, SMALL = 3, 8, 100


@given(
    st.lists(st.integers(0, 60), max_size=40),
    st.lists(st.integers(0, 3), min_size=1, max_size=10),
    st.sets(st.integers(0, 39)),
)
def test_no_more_than_there_is_room_for(
    sizes: list[int], turns: list[int], given_up: set[int]
) -> None:
    room = Room(ALWAYS, MOST, SMALL)
    inside: list[int] = []
    entered: list[int] = []
    most = 0

    async def image(place: int, size: int) -> None:
        nonlocal most
        async with room.hold(size):
            inside.append(size)
            entered.append(place)
            most = max(most, len(inside))
            assert len(inside) <= ALWAYS or (len(inside) <= MOST and sum(inside) < SMALL)
            try:
                for _ in range(turns[place % len(turns)]):
                    await asyncio.sleep(0)
            finally:
                inside.remove(size)

    async def all_of_them() -> None:
        tasks = [asyncio.create_task(image(place, size)) for place, size in enumerate(sizes)]
        await asyncio.sleep(0)
        for place in given_up:
            if place < len(tasks):
                tasks[place].cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        for each in tasks:
            if not each.cancelled():
                await each

    asyncio.run(all_of_them())
    assert entered == sorted(entered)
    assert not inside
    assert (room._images, room._bytes) == (0, 0)


def test_small_ones_are_let_in_beyond() -> None:
    async def held(sizes: list[int]) -> int:
        room = Room(ALWAYS, MOST, SMALL)
        count = 0

        async def image(size: int) -> None:
            nonlocal count
            async with room.hold(size):
                count += 1
                await asyncio.sleep(3600)

        tasks = [asyncio.create_task(image(size)) for size in sizes]
        for _ in range(5):
            await asyncio.sleep(0)
        for each in tasks:
            each.cancel()
        return count

    assert asyncio.run(held([1] * 20)) == MOST
    assert asyncio.run(held([1000] * 20)) == ALWAYS
    assert asyncio.run(held([20] * 20)) == 4
