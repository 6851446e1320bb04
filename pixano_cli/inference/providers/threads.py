"""The local provider's own threads: jobs on them, awaited in the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pixano_cli.inference.errors import InferenceError, InferenceTimeoutError

T = TypeVar("T")

_CLOSED = "the local provider is closed: make a new one"


class Threads:
    """A number of threads that take jobs until they are closed."""

    def __init__(self, count: int) -> None:
        self.pool = ThreadPoolExecutor(count, thread_name_prefix="local-provider")
        self._closed = False

    async def run(self, job: Callable[[], T]) -> T:
        """Run a job on one of the threads and return what it returns.

        Raises:
            InferenceError: If the threads are closed before it begins.
        """
        if self._closed:
            raise InferenceError(_CLOSED)
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, job)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                raise InferenceError(_CLOSED) from None
            raise

    async def close(self) -> None:
        """Drop the jobs that wait and wait for those under way."""
        self._closed = True
        await asyncio.to_thread(self.pool.shutdown, wait=True, cancel_futures=True)


async def within(timeout: float, what: str, work: Awaitable[T]) -> T:
    """Await work for so many seconds.

    Raises:
        InferenceTimeoutError: If it takes longer; a thread that works on it cannot be ended.
    """
    # A plugin's own TimeoutError has become an InferenceError by now.
    try:
        async with asyncio.timeout(timeout):
            return await work
    except TimeoutError as error:
        raise InferenceTimeoutError(
            f"{what} did not finish in {timeout:g} s: allow more time or use a smaller model"
        ) from error
