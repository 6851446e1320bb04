"""When a request is sent again, and how long after: never once a server has begun to answer it."""

from __future__ import annotations

import asyncio
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
_MOST_OUTAGES = 3


class TryAgainError(Exception):
    """The same request may well be answered later.

    Attributes:
        error: What is raised if it is not sent again.
        asked: Seconds that the server asks to wait; None if it does not say.
        was_away: Whether the server was found to be away, and is back: then this was no try.
    """

    def __init__(
        self, error: InferenceError, asked: float | None = None, was_away: bool = False
    ) -> None:
        """Hold what went wrong and when to try again."""
        super().__init__(str(error))
        self.error = error
        self.asked = asked
        self.was_away = was_away


class Patience:
    """Sends one request up to `tries` times, until it is answered or refused for good.

    Between two tries it waits up to `pace` seconds, then up to twice as long each time:
    exponential backoff with full jitter, as in "Exponential Backoff And Jitter" (AWS Architecture
    Blog, 2015). Where the server says how long to wait, that is for whoever sends to see to, as it
    holds for all requests; no request waits for more than `LONGEST_PAUSE_S` in all.
    """

    def __init__(self, *, tries: int, pace: float, clock: asyncio.Timeout) -> None:
        """Make it for one request, whose time limit is `clock`."""
        self._tries = tries
        self._clock = clock
        self._paused = 0.0
        self._outages = 0
        self._backoff = wait_random_exponential(multiplier=pace, max=_LONGEST_BACKOFF_S)

    async def send(self, request: Callable[[], Awaitable[T]]) -> T:
        """Call `request` until it returns.

        Raises:
            InferenceError: What the last `TryAgainError` holds, if there is no use in going on.
        """
        try:
            # Nearly all are answered at once, and need none of what follows.
            return await request()
        except TryAgainError as error:
            failed = [error]

        async def again() -> T:
            if failed:
                raise failed.pop()
            return await request()

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TryAgainError),
            wait=self._wait,
            stop=self._is_over,
            sleep=asyncio.sleep,
            reraise=True,
        )
        try:
            return await retrying(again)
        except TryAgainError as last:
            raise last.error from last.__cause__

    def _wait(self, state: RetryCallState) -> float:
        last = _last(state)
        return 0.0 if last.was_away or last.asked is not None else self._backoff(state)

    def _is_over(self, state: RetryCallState) -> bool:
        last = _last(state)
        if last.was_away:
            # A request that takes the server down each time must come to an end.
            self._outages += 1
            return self._outages > _MOST_OUTAGES
        if state.attempt_number - self._outages >= self._tries:
            return True
        if last.asked is not None:
            self._paused += last.asked
            return self._paused > LONGEST_PAUSE_S
        end = self._clock.when()
        now = asyncio.get_running_loop().time()
        return end is not None and now + state.upcoming_sleep >= end


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


def _last(state: RetryCallState) -> TryAgainError:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, TryAgainError):
        raise AssertionError("only such errors are followed by another try") from error
    return error
