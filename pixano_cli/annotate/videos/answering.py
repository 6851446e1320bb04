"""Answers about single frames, on their way to the store.

Each stands alone, so they are committed in whatever order they come. A frame that a model was asked
about is asked about again after a kill, unless the answer is committed: so there are never more
than so many frames of which one is not.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

from pixano_cli.inference.errors import InferenceError
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.records import Record, insert_records

# What costs little to commit does not wait for company for long.
_SOON_S = 1.0

Ask = Callable[[], Coroutine[Any, Any, Record]]
"""Asks a model about a frame, and returns what is to be recorded."""


class Answers:
    """Asks about frames of one video, and commits what is answered."""

    def __init__(self, store: Store, limit: int) -> None:
        """Begin a video.

        Args:
            store: Where to commit.
            limit: Most frames that were asked about while an answer is not committed.
        """
        self._store = store
        self._limit = limit
        # By frame, how many questions are asked whose answers are not committed.
        self._open: Counter[int] = Counter()
        self._calls: set[asyncio.Task[None]] = set()
        self._answered: list[tuple[int, Record]] = []
        self._alone = asyncio.Lock()
        self._committed = monotonic()
        self._failure: Exception | None = None

    async def ask(self, frame: int, ask: Ask) -> Record:
        """Ask about a frame once there is room for one more; what is answered will be committed.

        Raises:
            InferenceError: If the provider fails or answers nonsense.
            StoreError: If answers cannot be committed.
        """
        while frame not in self._open and len(self._open) >= self._limit:
            if self._failure is not None:
                raise self._failure
            if not self._answered and self._calls:
                await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
            await self.commit()
        self._open[frame] += 1
        answer: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        call = asyncio.ensure_future(self._call(frame, ask, answer))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        record = await answer
        if len(self._open) >= self._limit or monotonic() - self._committed >= _SOON_S:
            await self.commit()
        return record

    async def commit(self) -> None:
        """Commit what is answered.

        Raises:
            StoreError: If it cannot be.
        """
        # To the end, whatever becomes of the one who waits for it.
        await asyncio.shield(asyncio.ensure_future(self._commit()))

    async def aclose(self) -> None:
        """Wait for the answers to what was asked, and commit them: they may be paid for."""
        if self._calls:
            await asyncio.wait(self._calls)
        await self.commit()

    async def _call(self, frame: int, ask: Ask, answer: asyncio.Future[Record]) -> None:
        """Ask to the end, whether anybody still waits for the answer or not."""
        try:
            record = await ask()
        except asyncio.CancelledError:
            answer.cancel()
            raise
        except (Exception, SystemExit) as error:
            self._settle([frame])
            if isinstance(error, SystemExit):
                error = InferenceError(f"the model tried to end the program: {error!r}")
            if not answer.done():
                answer.set_exception(error)
                # Or it is logged where whoever waited was stopped by another error.
                answer.exception()
            return
        self._answered.append((frame, record))
        if not answer.done():
            answer.set_result(record)

    async def _commit(self) -> None:
        async with self._alone:
            answered, self._answered = self._answered, []
            if not answered:
                return
            try:
                await asyncio.to_thread(self._write, [record for _, record in answered])
            except Exception as error:
                self._failure = error
                raise
            self._settle([frame for frame, _ in answered])
            self._committed = monotonic()

    def _settle(self, frames: list[int]) -> None:
        self._open.subtract(frames)
        for frame in frames:
            if not self._open[frame]:
                del self._open[frame]

    def _write(self, records: list[Record]) -> None:
        with self._store.write() as connection:
            insert_records(connection, records)
