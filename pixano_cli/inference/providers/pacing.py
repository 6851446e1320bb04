"""How many requests a server is asked at once: as many as it keeps up with, found out by asking.

The number triples every round trip until the server is too busy for the first time, then
is halved: additive steps would never get anywhere within a folder. What was too many is remembered,
so that the number comes back at once to just below it, doubling, and is tried again only now and
then, with a step that doubles for as long as the server bears it. That is slow start with its
threshold (RFC 5681) and the search around the last known limit of CUBIC (RFC 9438), with requests
in place of segments.

Nothing here knows of sockets or clocks: the caller tells what happened, and when.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

START = 24
"""Requests at once to begin with, unless told otherwise: a server that keeps up has all of `MOST`
after one round trip."""

MOST = 64
"""Requests at once at most, unless told otherwise."""

# By how much the number grows with each answer while none was refused.
_BOLD_STEP = 2

_FIRST_PROBE_S = 2.0
_RAREST_PROBE_S = 60.0
# A refused probe halves the number for about two round trips, so it must be rare among many.
_ROUND_TRIPS_A_PROBE = 20.0
# The same for the time that a server then wants to be left alone.
_PAUSES_A_PROBE = 20.0

_SHORTEST_GAP_S = 0.02
_LONGEST_GAP_S = 20.0
_GAP_SHRINKS = 0.85


@dataclass(frozen=True, slots=True)
class Turn:
    """A request under way.

    Attributes:
        number: Which one it is, counted from 1.
        at_once: How many were under way as it was sent, with itself.
        sent: When.
    """

    number: int
    at_once: int
    sent: float


class Pacing:
    """How many may be under way, for one server.

    Where even one at a time is too much, as with a server that counts requests a minute, they are
    spaced: the gap between two doubles with every refusal and shrinks with every answer.
    """

    def __init__(self, *, start: int = START, most: int = MOST) -> None:
        """Begin with `start` at once; never more than `most`."""
        self._limit = min(start, most)
        self._most = most
        # The fewest at once that were refused; beyond `most` while none were.
        self._ceiling = most + 1
        self._under_way = 0
        self._sent = 0
        # Of a request up to this number the answer says nothing about the present limit.
        self._cut_at = 0
        self._round_trip = 0.0
        self._closed_until = -inf
        self._gap = 0.0
        self._last_sent = -inf
        self._step = 1
        self._probe_every = _FIRST_PROBE_S
        self._probe_from = inf

    @property
    def limit(self) -> int:
        """Most that may be under way now."""
        return self._limit

    @property
    def under_way(self) -> int:
        """How many are."""
        return self._under_way

    def wait(self, now: float) -> float:
        """Return the seconds until one more may be sent; infinite if one has to end first."""
        if self._under_way >= self._limit:
            return inf
        return max(self._closed_until, self._last_sent + self._gap, now) - now

    def send(self, now: float) -> Turn:
        """Note that one more is sent."""
        self._sent += 1
        self._under_way += 1
        self._last_sent = now
        return Turn(self._sent, self._under_way, now)

    def drop(self, turn: Turn) -> None:
        """Note that one has ended in a way that tells nothing about how busy the server is."""
        self._under_way -= 1

    def keep(self, turn: Turn, now: float) -> None:
        """Note that one was answered: the server keeps up."""
        self._under_way -= 1
        took = now - turn.sent
        self._round_trip += (took - self._round_trip) * (0.125 if self._round_trip else 1.0)
        if turn.number <= self._cut_at:
            return
        if self._gap:
            self._gap = self._gap * _GAP_SHRINKS if self._gap > _SHORTEST_GAP_S else 0.0
            return
        if turn.at_once >= self._ceiling:
            # So many are not too many any more.
            self._ceiling = min(turn.at_once + 1 + self._step, self._most + 1)
            self._step *= 2
            self._probe_every = _FIRST_PROBE_S
            self._probe_from = now
        # Where half of what is allowed is not used, nothing shows that more would be borne.
        if 2 * (self._under_way + 1) > self._limit:
            self._grow(now)

    def refuse(self, turn: Turn, now: float, pause: float = 0.0) -> None:
        """Note that one was refused, or not answered in time: the server is too busy.

        Args:
            turn: Which.
            now: When.
            pause: Seconds for which the server wants no request at all.
        """
        self._under_way -= 1
        self._closed_until = max(self._closed_until, now + pause)
        is_probe = turn.at_once == self._ceiling
        is_news = turn.number > self._cut_at
        if is_news:
            self._cut_at = self._sent
            self._step = 1
            if self._limit == 1:
                self._gap = min(max(2 * self._gap, _SHORTEST_GAP_S), _LONGEST_GAP_S)
            self._limit = max(1, self._limit // 2)
        # What was sent early and refused late says little: never below what is allowed now.
        self._ceiling = max(self._limit + 1, min(self._ceiling, turn.at_once))
        if not is_news:
            return
        if is_probe:
            self._probe_every = min(2 * self._probe_every, _RAREST_PROBE_S)
        patience = max(_ROUND_TRIPS_A_PROBE * self._round_trip, _PAUSES_A_PROBE * pause)
        self._probe_from = now + max(self._probe_every, patience)

    def restart(self, now: float) -> None:
        """Begin with one at a time, for a server that was away; what is known of it is kept."""
        self._limit = 1
        self._gap = 0.0
        self._cut_at = self._sent
        self._probe_from = now + self._probe_every

    def _grow(self, now: float) -> None:
        top = min(self._ceiling - 1, self._most)
        if self._limit < top:
            # Towards what is known to be too many no faster than TCP does.
            step = 1 if self._ceiling <= self._most else _BOLD_STEP
            self._limit = min(self._limit + step, top)
        elif self._limit < self._most and now >= self._probe_from:
            self._limit += 1
            # This probe's answer comes first.
            self._probe_from = inf
