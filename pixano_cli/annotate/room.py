"""Room in memory for images that are read: for a few always, for more while they are small."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Room:
    """Lets images in, first come, first served. Used from one event loop."""

    def __init__(self, always: int, most: int, small: int) -> None:
        """Begin empty.

        Args:
            always: Images that there is room for, however large they are.
            most: Images that there is room for while all of them have less than `small` bytes.
            small: Bytes.
        """
        self._always = always
        self._most = most
        self._small = small
        self._images = 0
        self._bytes = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Wait for room and hold it; `size` is about how many bytes the image has."""
        await self._enter(size)
        try:
            yield
        finally:
            self._leave(size)

    async def _enter(self, size: int) -> None:
        if not self._waiting and self._fits(size):
            self._take(size)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, size))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._leave(size)
            else:
                future.cancel()
            raise

    def _leave(self, size: int) -> None:
        self._images -= 1
        self._bytes -= size
        while self._waiting:
            future, wanted = self._waiting[0]
            if not future.done():
                if not self._fits(wanted):
                    break
                self._take(wanted)
                future.set_result(None)
            self._waiting.popleft()

    def _fits(self, size: int) -> bool:
        if self._images < self._always:
            return True
        return self._images < self._most and self._bytes + size < self._small

    def _take(self, size: int) -> None:
        self._images += 1
        self._bytes += size
