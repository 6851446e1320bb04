"""When a request is sent again, and how long after: never once a server has begun to answer it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from pixano_cli.inference.errors import InferenceError

T = TypeVar("T")

LONGEST_PAUSE_S = 120.0
"""How long a server may keep one request waiting by Retry-After, all its waits together."""

_LONGEST_BACKOFF_S = 20.0


class TryAgainError(Exception):
    """The same request may well be answered later.

    Attributes:
        error: What is raised if it is not sent again.
        asked: Seconds that the server asks to wait; None if it does not say.
    """

    def __init__(self, error: InferenceError, asked: float | None = None) -> None:
        """Hold what went wrong and when to try again."""
        super().__init__(str(error))
        self.error = error
        self.asked = asked


class Patience:
    """Sends one request up to `tries` times, until it is answered or refused for good.

    Between two tries it waits as long as the server asks, or else up to `pace` seconds, then up
    to twice as long each time: exponential backoff with full jitter, as in "Exponential Backoff
    And Jitter" (AWS Architecture Blog, 2015). Waits that the server asks for do not count as time
    that it takes: they move the end of `clock`, by no more than `LONGEST_PAUSE_S` in all.
    """

    def __init__(self, *, tries: int, pace: float, clock: asyncio.Timeout) -> None:
        """Make it for one request, whose time limit is `clock`."""
        self._tries = tries
        self._pace = pace
        self._clock = clock
        self._paused = 0.0
        self._backoff = wait_random_exponential(multiplier=pace, max=_LONGEST_BACKOFF_S)

    async def send(self, request: Callable[[], Awaitable[T]]) -> T:
        """Call `request` until it returns.

        Raises:
            InferenceError: What the last `TryAgainError` holds, if there is no use in going on.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TryAgainError),
            wait=self._wait,
            stop=self._is_over,
            before_sleep=self._pause,
            sleep=asyncio.sleep,
            reraise=True,
        )
        try:
            return await retrying(request)
        except TryAgainError as last:
            raise last.error from last.__cause__

    def _wait(self, state: RetryCallState) -> float:
        asked = _asked(state)
        if asked is None:
            return self._backoff(state)
        # Others were asked to wait for the same moment.
        return asked + random.uniform(0.0, self._pace)

    def _is_over(self, state: RetryCallState) -> bool:
        if state.attempt_number >= self._tries:
            return True
        if _asked(state) is not None:
            return self._paused + state.upcoming_sleep > LONGEST_PAUSE_S
        end = self._clock.when()
        now = asyncio.get_running_loop().time()
        return end is not None and now + state.upcoming_sleep >= end

    def _pause(self, state: RetryCallState) -> None:
        end = self._clock.when()
        if _asked(state) is not None and end is not None:
            self._paused += state.upcoming_sleep
            self._clock.reschedule(end + state.upcoming_sleep)


def retry_after(header: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks to wait. Source: RFC 9110, 10.2.3.

    Returns:
        Seconds from now, 0 for a moment that has passed; None if there is no header or it is
        neither a number nor a date.
    """
    if header is None:
        return None
    header = header.strip()
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _asked(state: RetryCallState) -> float | None:
    error = state.outcome.exception() if state.outcome else None
    return error.asked if isinstance(error, TryAgainError) else None
