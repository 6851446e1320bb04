"""Whose turn it is: requests wait in a queue until their server may be asked once more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from pixano_cli.inference.errors import InferenceError
from pixano_cli.inference.providers.pacing import Pacing, Turn
from pixano_cli.inference.providers.rates import Rate


class _Waiting(NamedTuple):
    future: asyncio.Future[Turn]
    tokens: int
    counts: bool


class Turns:
    """The queue before one server, for one event loop.

    All of it hold: no more at once than `pacing` allows, no more a minute than the rates, and
    nothing while it is held up.
    """

    def __init__(
        self,
        pacing: Pacing,
        requests: Rate | None,
        tokens: Rate | None,
        held_up: Callable[[], bool],
    ) -> None:
        """Begin with an empty queue.

        Args:
            pacing: How many may be under way, and how soon.
            requests: Limit of requests a minute.
            tokens: Limit of tokens a minute.
            held_up: Whether nothing is to be sent; when that ends, `go_on` is to be called.
        """
        self._pacing = pacing
        self._requests = requests
        self._tokens = tokens
        self._held_up = held_up
        self._queue: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, tokens: int, *, again: bool, counts: bool = True) -> Turn:
        """Wait for a turn.

        Args:
            tokens: About how many tokens the request takes.
            counts: Whether it counts against the requests a minute: only what asks a model does.
            again: Whether the request has had a turn before: then its next comes first.

        Raises:
            InferenceError: If the server is given up meanwhile.
        """
        now = asyncio.get_running_loop().time()
        if not self._queue and self._wait(now, tokens, counts) == 0:
            return self._send(now, tokens, counts)
        waiting = _Waiting(asyncio.get_running_loop().create_future(), tokens, counts)
        if again:
            self._queue.appendleft(waiting)
        else:
            self._queue.append(waiting)
        self._serve()
        try:
            return await waiting.future
        except asyncio.CancelledError:
            if waiting.future.done() and not waiting.future.cancelled():
                # It came just before nobody wanted it any more.
                if waiting.future.exception() is None:
                    self.end(waiting.future.result(), None)
            else:
                waiting.future.cancel()
                self._serve()
            raise

    def end(self, turn: Turn, kept_up: bool | None, pause: float = 0.0) -> None:
        """Give a turn back.

        Args:
            turn: The turn.
            kept_up: Whether the server answered rather than being too busy; None if unknown.
            pause: Seconds for which the server wants no request.
        """
        now = asyncio.get_running_loop().time()
        if kept_up is None:
            self._pacing.drop(turn)
        elif kept_up:
            self._pacing.keep(turn, now)
        else:
            self._pacing.refuse(turn, now, pause)
        self._serve()

    def correct(self, tokens: int) -> None:
        """Note that requests took more tokens than was told, or fewer if negative."""
        if self._tokens is not None and tokens:
            self._tokens.correct(asyncio.get_running_loop().time(), tokens)
            self._serve()

    def go_on(self, was_away: bool, error: InferenceError | None) -> None:
        """Serve the queue again, after it was held up.

        Args:
            was_away: Whether the server was away: then one is sent at first.
            error: What all that wait are to fail with, if there is no use in waiting.
        """
        if was_away:
            self._pacing.restart(asyncio.get_running_loop().time())
        while error is not None and self._queue:
            waiting = self._queue.popleft()
            if not waiting.future.done():
                waiting.future.set_exception(error)
        self._serve()

    def _serve(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._queue:
            future, tokens, counts = self._queue[0]
            if future.done():
                self._queue.popleft()
                continue
            now = loop.time()
            wait = self._wait(now, tokens, counts)
            if wait == 0:
                self._queue.popleft()
                future.set_result(self._send(now, tokens, counts))
                continue
            if wait < float("inf"):
                self._timer = loop.call_at(now + wait, self._serve)
            break

    def _wait(self, now: float, tokens: int, counts: bool) -> float:
        """Return the seconds until one may be sent; infinite if nobody can say yet."""
        if self._held_up():
            return float("inf")
        wait = self._pacing.wait(now)
        if self._requests is not None and counts:
            wait = max(wait, self._requests.wait(now))
        if self._tokens is not None and tokens:
            wait = max(wait, self._tokens.wait(now, tokens))
        return wait

    def _send(self, now: float, tokens: int, counts: bool) -> Turn:
        if self._requests is not None and counts:
            self._requests.take(now)
        if self._tokens is not None and tokens:
            self._tokens.take(now, tokens)
        return self._pacing.send(now)
