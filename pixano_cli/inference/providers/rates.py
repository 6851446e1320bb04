"""Limits that the user sets: requests, and tokens, in a minute.

In no minute, whenever it begins, are there more than the limit. A leaky bucket, which the kept
libraries have, lets up to twice as many through in its first minute, which servers that count
exactly refuse. And as many servers count in shorter stretches than they say, the limit is spread
over the minute, but for what comes within a second.

Nothing here knows of clocks: the caller says when.
"""

from __future__ import annotations

from collections import deque

WINDOW_S = 60.0


class Rate:
    """At most `limit` of something in any minute."""

    def __init__(self, limit: float) -> None:
        """Begin with nothing taken."""
        self._limit = limit
        # Moments at which something was taken, each with how much that still counts.
        self._taken: deque[list[float]] = deque()
        self._sum = 0.0
        self._each_s = WINDOW_S / limit
        self._even_from = 0.0

    def wait(self, now: float, amount: float = 1.0) -> float:
        """Return the seconds until `amount` may be taken.

        What is more than the limit by itself may be taken once nothing else counts.
        """
        self._forget(now)
        moment = now
        excess = self._sum + amount - self._limit
        for when, counts in self._taken:
            if excess <= 0:
                break
            excess -= counts
            moment = when + WINDOW_S
        # A second's worth may come at once, or one thing that is more than that.
        return max(moment, self._even_from - 1.0) - now

    def take(self, now: float, amount: float = 1.0) -> None:
        """Note that `amount` is taken."""
        self._taken.append([now, amount])
        self._sum += amount
        self._even_from = max(self._even_from, now) + amount * self._each_s

    def correct(self, now: float, amount: float) -> None:
        """Note that what was taken before turned out to be more by `amount`, or less if negative.

        It is counted so that at no time too little counts: what there is too much of is taken
        off what is forgotten first.
        """
        self._forget(now)
        if amount >= 0:
            self.take(now, amount)
            return
        self._even_from += amount * self._each_s
        for entry in self._taken:
            less = min(entry[1], -amount)
            entry[1] -= less
            self._sum -= less
            amount += less
            if amount >= 0:
                break

    def _forget(self, now: float) -> None:
        while self._taken and self._taken[0][0] + WINDOW_S <= now:
            self._sum -= self._taken.popleft()[1]
        if not self._taken:
            # What adding and taking away fractions leaves.
            self._sum = 0.0
