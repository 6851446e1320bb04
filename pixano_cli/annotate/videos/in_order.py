"""Work on several things at once, with the results in the order of the things."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def in_order(
    things: AsyncIterator[T], work: Callable[[T], Awaitable[R]], at_once: int
) -> AsyncGenerator[R, None]:
    """Yield what comes of the work on each thing, in their order.

    No more things are taken than are worked on, so what is in memory is bounded. Once one fails, or
    nobody waits any more, what is under way is given up.

    Args:
        things: What to work on.
        work: What to do with each.
        at_once: Most that are worked on at the same time.
    """
    under_way: deque[asyncio.Task[R]] = deque()
    is_over = False
    try:
        while True:
            while not is_over and len(under_way) < at_once:
                try:
                    thing = await anext(things)
                except StopAsyncIteration:
                    is_over = True
                else:
                    under_way.append(asyncio.ensure_future(_run(work, thing)))
            if not under_way:
                return
            yield await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.gather(*under_way, return_exceptions=True)


async def _run(work: Callable[[T], Awaitable[R]], thing: T) -> R:
    return await work(thing)
