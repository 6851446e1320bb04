"""A circuit breaker: when a server is away, nothing is sent until it is back.

After some failures in a row, none answered between, it opens. Then only the health route is
asked, with growing pauses; its answer closes the breaker again. See M. Nygard, "Release It!"
(2007), 5.2; here nothing fails while it is open, but waits.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from pixano_cli.inference.errors import InferenceError, ProviderDownError

logger = logging.getLogger(__name__)

FAILURES = 5
"""Failures in a row that open it."""

PATIENCE_S = 300.0
"""How long a server may be away before it is given up."""

FIRST_PATIENCE_S = 30.0
"""The same for one that has never answered: its URL may be wrong."""

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0


class Breaker:
    """Knows whether one server is there; for one event loop."""

    def __init__(
        self,
        url: str,
        look: Callable[[], Awaitable[InferenceError | None]],
        changed: Callable[[bool, InferenceError | None], None],
        *,
        patience: float = PATIENCE_S,
    ) -> None:
        """Begin closed.

        Args:
            url: The server, for errors.
            look: Asks the health route; returns what is wrong, or None if it answers.
            changed: Called when it closes, with whether the server had been away, and with the
                error that those that wait are to fail with if it is given up.
            patience: Seconds that a server may be away.
        """
        self._url = url
        self._look = look
        self._changed = changed
        self._patience = patience
        self._in_a_row = 0
        self._has_answered = False
        self._watching: asyncio.Task[tuple[bool, InferenceError | None]] | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing is to be sent now."""
        return self._watching is not None

    def answered(self) -> None:
        """Note that a request was answered, whatever it said."""
        self._has_answered = True
        self._in_a_row = 0

    def failed(self) -> None:
        """Note that a request was not answered; after some in a row it opens."""
        self._in_a_row += 1
        if self._in_a_row >= FAILURES and self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    async def closed(self) -> bool:
        """Wait until it is closed; return whether the server was found to be away meanwhile.

        Raises:
            InferenceError: If the server is given up.
        """
        if self._watching is None:
            return False
        was_away, error = await asyncio.shield(self._watching)
        if error is not None:
            raise error
        return was_away

    async def aclose(self) -> None:
        """Stop looking."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch(self) -> tuple[bool, InferenceError | None]:
        """Look until the server is back, or for as long as is sensible."""
        loop = asyncio.get_running_loop()
        patience = self._patience if self._has_answered else min(self._patience, FIRST_PATIENCE_S)
        end = loop.time() + patience
        pause = _FIRST_PAUSE_S
        was_away = False
        given_up: InferenceError | None = None
        try:
            while (wrong := await self._look()) is not None:
                if not was_away:
                    logger.warning("%s Waiting up to %.0f s for it.", wrong, patience)
                    was_away = True
                left = end - loop.time()
                if left <= 0:
                    given_up = self._given_up(wrong, patience)
                    break
                await asyncio.sleep(min(pause * random.uniform(0.5, 1.0), left))
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            else:
                self._has_answered = True
                if was_away:
                    logger.warning("%s answers again", self._url)
        finally:
            # Whoever asks next finds out anew.
            self._in_a_row = 0
            self._watching = None
        self._changed(was_away, given_up)
        return was_away, given_up

    def _given_up(self, wrong: InferenceError, patience: float) -> InferenceError:
        if not self._has_answered:
            return wrong
        return ProviderDownError(
            f"{self._url} has been away for {patience:.0f} s and is given up: what was not "
            "answered is not lost, run again when it is back"
        )
