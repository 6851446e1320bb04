"""How many requests are under way at once, against simulated servers."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixano_cli.inference.providers.pacing import MOST, START, Pacing, Turn


@dataclass
class Simulated:
    """A server in simulated time, and as many requests as can be sent to it.

    Attributes:
        allows: Given the time, most requests that it works on at once; others are refused.
        takes: Given the chance, seconds that an answer takes.
        refuses_in: Seconds that a refusal takes.
        retry_after: Seconds that it asks to wait with a refusal.
    """

    allows: Callable[[float], int]
    takes: Callable[[random.Random], float] = lambda chance: 0.1
    refuses_in: float = 0.002
    retry_after: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    most_at_once: int = 0

    def run(self, pacing: Pacing, until: float, requests: int | None = None) -> float:
        """Send for so long, or until so many are answered; return the time of the end."""
        now, busy = 0.0, 0
        order = count()
        events: list[tuple[float, int, Turn, bool]] = []
        while now < until and (requests is None or len(self.answered) < requests):
            left = None if requests is None else requests - len(self.answered)
            while (wait := pacing.wait(now)) == 0 and (left is None or pacing.under_way < left):
                turn = pacing.send(now)
                self.most_at_once = max(self.most_at_once, pacing.under_way)
                assert pacing.under_way <= pacing.limit
                accepted = busy < self.allows(now)
                busy += accepted
                took = self.takes(self.chance) if accepted else self.refuses_in
                heapq.heappush(events, (now + took, next(order), turn, accepted))
            if not events or (wait and now + wait < events[0][0]):
                assert 0 < wait < float("inf"), "nothing is under way and nothing may be sent"
                now += wait
                continue
            now, _, turn, accepted = heapq.heappop(events)
            if accepted:
                busy -= 1
                pacing.keep(turn, now)
                self.answered.append(now)
            else:
                pacing.refuse(turn, now, self.retry_after)
                self.refused.append(now)
        return now

    def share_refused(self, after: float) -> float:
        """Return the share of requests that were refused from a time on."""
        refused = sum(moment >= after for moment in self.refused)
        answered = sum(moment >= after for moment in self.answered)
        return refused / max(refused + answered, 1)


def jittered(mean: float) -> Callable[[random.Random], float]:
    return lambda chance: mean * chance.uniform(0.5, 1.5)


def test_a_server_that_takes_64_at_once_is_asked_at_nearly_its_rate() -> None:
    server = Simulated(lambda now: 64)
    end = server.run(Pacing(), 60.0, requests=2000)
    assert 2000 / end >= 0.90 * 640
    assert server.refused == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("takes", [0.02, 0.1, 1.0, 10.0])
def test_a_server_that_takes_8_at_once_is_seldom_asked_for_more(takes: float, seed: int) -> None:
    for shape in (lambda chance: takes, jittered(takes)):
        server = Simulated(lambda now: 8, shape, chance=random.Random(seed))
        end = server.run(Pacing(), max(30.0, 200 * takes))
        assert len(server.answered) / end >= 0.90 * 8 / takes
        # One that takes 10 s has only begun to answer by then.
        assert server.share_refused(after=max(10.0, 2.5 * takes)) < 0.02
        assert server.share_refused(after=0.0) < 0.05


def test_a_server_that_asks_for_pauses_loses_little_by_them() -> None:
    server = Simulated(lambda now: 8, retry_after=1.0)
    end = server.run(Pacing(), 60.0)
    assert len(server.answered) / end >= 0.85 * 80
    for refused in server.refused:
        # 8 at most were under way, and nothing is sent for a second.
        assert sum(refused < moment < refused + 1.0 for moment in server.answered) <= 8


@given(
    st.integers(1, 40),
    st.sampled_from([0.01, 0.1, 2.0]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_any_number_is_found(allowed: int, takes: float, start: int, most: int, seed: int) -> None:
    server = Simulated(lambda now: allowed, jittered(takes), chance=random.Random(seed))
    pacing = Pacing(start=start, most=most)
    server.run(pacing, 120 * takes)
    settled = 60 * takes
    answered = sum(moment > settled for moment in server.answered)
    # One at a time is half of two, and so on: a small number is lost where it is probed for.
    best = min(allowed, most)
    assert answered / settled >= 0.8 * best / takes - 1 / takes * (best > 1)
    assert server.most_at_once <= most
    assert server.share_refused(after=max(settled, 10.0)) < 0.05


def test_a_server_that_grows_is_followed() -> None:
    server = Simulated(lambda now: 4 if now < 20 else 64)
    server.run(Pacing(), 60.0)
    assert sum(moment > 50 for moment in server.answered) / 10 >= 0.95 * 640


def test_a_server_that_shrinks_is_followed() -> None:
    server = Simulated(lambda now: 64 if now < 20 else 4)
    server.run(Pacing(), 60.0)
    assert sum(moment > 30 for moment in server.answered) / 30 >= 0.90 * 40
    assert server.share_refused(after=30.0) < 0.02


def test_a_short_trouble_does_not_slow_down_for_long() -> None:
    server = Simulated(lambda now: 0 if 10 < now < 11 else 64)
    server.run(Pacing(), 30.0)
    assert sum(moment > 18 for moment in server.answered) / 12 >= 0.90 * 640
    # While nothing is answered, ever fewer are sent.
    assert len(server.refused) < 150


@pytest.mark.parametrize("rate", [0.2, 1.0, 10.0])
def test_a_server_that_counts_by_the_minute(rate: float) -> None:
    taken: list[float] = []

    def allows(now: float) -> int:
        if taken and now - taken[-1] < 1 / rate:
            return 0
        taken.append(now)
        return 1000

    server = Simulated(allows, lambda chance: 0.05)
    end = server.run(Pacing(), 600.0)
    assert len(server.answered) / end >= 0.5 * rate
    assert server.share_refused(after=60.0) < 0.4


def test_a_burst_of_refusals_halves_once() -> None:
    pacing = Pacing(start=16, most=64)
    turns = [pacing.send(0.0) for _ in range(16)]
    for turn in turns:
        pacing.refuse(turn, 0.1)
    assert pacing.limit == 8
    later = pacing.send(0.2)
    pacing.refuse(later, 0.3)
    assert pacing.limit == 4


def test_what_is_not_used_does_not_grow() -> None:
    pacing = Pacing()
    for moment in range(100):
        pacing.keep(pacing.send(moment), moment + 0.1)
    assert pacing.limit == START


def test_a_restart_begins_with_one() -> None:
    pacing = Pacing()
    server = Simulated(lambda now: 8)
    server.run(pacing, 5.0)
    pacing.restart(5.0)
    assert pacing.limit == 1


def events() -> Iterator[str]:
    yield from ("send", "keep", "refuse", "drop", "restart", "wait")


@given(
    st.lists(
        st.tuples(st.sampled_from([*events()]), st.integers(0, 99), st.floats(0, 30)), max_size=40
    )
)
@settings(max_examples=60)
def test_whatever_happens_the_number_stays_within_bounds(
    happened: list[tuple[str, int, float]],
) -> None:
    pacing, now, under_way = Pacing(), 0.0, list[Turn]()
    for what, which, value in happened:
        now += value
        if what == "send" and pacing.wait(now) == 0:
            under_way.append(pacing.send(now))
        elif what == "restart":
            pacing.restart(now)
        elif under_way and what in ("keep", "refuse", "drop"):
            turn = under_way.pop(which % len(under_way))
            before = pacing.limit
            if what == "keep":
                pacing.keep(turn, now)
            elif what == "refuse":
                pacing.refuse(turn, now, value)
                assert pacing.limit in (before, max(1, before // 2))
                assert pacing.wait(now) >= value - 1e-6
            else:
                pacing.drop(turn)
        assert 1 <= pacing.limit <= MOST
        assert pacing.under_way == len(under_way)
        assert pacing.wait(now) >= 0
