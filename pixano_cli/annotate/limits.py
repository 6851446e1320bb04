"""How far a run may go: what it may cost and how long it may take, counted as it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic

from pixano_cli.annotate.prices import Price


class Limits:
    """Counts tokens and cost, and says when no more is to be begun.

    An image is begun only if the run stays within its cost even if this one is as dear as the
    dearest so far; so the first goes alone. Used from one event loop.

    Attributes:
        prompt_tokens: Tokens sent, as reported.
        completion_tokens: Tokens answered, as reported.
        reason: Why nothing more is begun; None as long as there is none.
    """

    def __init__(
        self,
        price: Price | None = None,
        *,
        max_cost: float | None = None,
        seconds: float | None = None,
    ) -> None:
        """Begin to count.

        Args:
            price: What tokens cost; None if that is not known.
            max_cost: Most that may be spent, in US dollars; needs a price.
            seconds: How long new images may be begun.
        """
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.reason: str | None = None
        self._price = price
        self._max_cost = max_cost
        self._seconds = seconds
        self._end = None if seconds is None else monotonic() + seconds
        self._spent = 0.0
        self._dearest: float | None = None
        self._begun = 0
        self._ended = asyncio.Condition()

    @property
    def cost(self) -> float | None:
        """US dollars spent; None if the price or the usage is not known."""
        return None if self._price is None or not self.tokens else self._spent

    @property
    def tokens(self) -> int:
        """Tokens sent and answered."""
        return self.prompt_tokens + self.completion_tokens

    def is_reached(self) -> bool:
        """Return whether nothing more is to be begun, because of the time or of what was found."""
        if self.reason is None and self._end is not None and monotonic() >= self._end:
            self.reason = f"stopped after the {self._seconds:g} s of --time-limit"
        return self.reason is not None

    async def begin(self) -> bool:
        """Wait until one more image can be begun; return False if it cannot.

        An image that is begun is to be ended with `end`, whatever became of it.
        """
        async with self._ended:
            while not self.is_reached():
                if self._fits():
                    self._begun += 1
                    return True
                if not self._begun:
                    self.reason = (
                        f"stopped at {_dollars(self._spent)}: one more answer could pass the "
                        f"{_dollars(self._max_cost)} of --max-cost"
                    )
                else:
                    await self._ended.wait()
            return False

    async def end(self, *usages: Mapping[str, int] | None) -> None:
        """Count what an image that was begun has used: one usage an answer.

        A usage is None where a server reports none; none at all means that nothing was asked.
        """
        async with self._ended:
            self._begun -= 1
            for usage in usages:
                if usage is not None:
                    self._count(usage)
                elif self._max_cost is not None:
                    self.reason = (
                        "stopped: the server does not report how many tokens it uses, so "
                        "--max-cost cannot be kept"
                    )
            self._ended.notify_all()

    def _fits(self) -> bool:
        if self._max_cost is None:
            return True
        if self._dearest is None:
            return self._begun == 0
        return self._spent + (self._begun + 1) * self._dearest <= self._max_cost

    def _count(self, usage: Mapping[str, int]) -> None:
        self.prompt_tokens += usage.get("prompt_tokens", 0)
        self.completion_tokens += usage.get("completion_tokens", 0)
        if self._price is not None:
            cost = self._price.of(usage)
            self._spent += cost
            self._dearest = max(cost, self._dearest or 0.0)


def _dollars(sum_: float | None) -> str:
    """Return a sum of money with four digits, or more where it has them."""
    whole, _, part = f"{sum_ or 0.0:.8f}".rstrip("0").partition(".")
    return f"${whole}.{part:0<4}"
