from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from pixano_cli.annotate.limits import Limits
from pixano_cli.annotate.prices import Price

DOLLAR = Price(1_000_000.0, 1_000_000.0)
"""A price at which a token costs a dollar."""


@dataclass
class Run:
    """What became of images that were asked about at once."""

    done: int = 0
    left: int = 0
    at_once: int = 0
    most_at_once: int = 0


def run(limits: Limits, costs: Sequence[int | None], workers: int) -> Run:
    """Ask about images that cost so many dollars, or report nothing."""
    seen = Run()
    waiting = list(costs)

    async def work() -> None:
        while waiting and limits.reason is None:
            cost = waiting.pop(0)
            if not await limits.begin():
                seen.left += 1
                return
            seen.at_once += 1
            seen.most_at_once = max(seen.most_at_once, seen.at_once)
            await asyncio.sleep(0)
            seen.at_once -= 1
            seen.done += 1
            await limits.end(None if cost is None else {"prompt_tokens": cost})

    async def all_of_them() -> None:
        await asyncio.wait_for(asyncio.gather(*(work() for _ in range(workers))), 20)

    asyncio.run(all_of_them())
    return seen


def test_without_limits_all_go_at_once() -> None:
    limits = Limits()
    seen = run(limits, [None] * 50, 10)
    assert (seen.done, seen.most_at_once, limits.reason) == (50, 10, None)
    assert limits.cost is None


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 60), st.integers(1, 12), st.integers(1, 40))
def test_equal_costs_never_pass_the_limit(
    cost: int, images: int, workers: int, max_cost: int
) -> None:
    limits = Limits(DOLLAR, max_cost=max(max_cost, cost))
    seen = run(limits, [cost] * images, workers)
    assert limits.cost is not None
    assert limits.cost <= max(max_cost, cost)
    assert seen.done == min(images, max(max_cost, cost) // cost)
    assert (limits.reason is None) == (seen.left == 0)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 12))
def test_a_surprise_costs_no_more_than_what_is_in_flight(costs: list[int], workers: int) -> None:
    limits = Limits(DOLLAR, max_cost=20.0)
    run(limits, costs, workers)
    assert (limits.cost or 0) <= 20 + workers * max(costs)


def test_a_server_that_reports_no_usage() -> None:
    limits = Limits(DOLLAR, max_cost=5.0)
    seen = run(limits, [None] * 20, 4)
    assert seen.done == 1
    assert limits.reason is not None
    assert "does not report" in limits.reason


def test_time_limit() -> None:
    limits = Limits(seconds=0.05)

    async def one_after_the_other() -> int:
        done = 0
        while await limits.begin():
            await asyncio.sleep(0.01)
            await limits.end()
            done += 1
        return done

    assert 0 < asyncio.run(one_after_the_other()) <= 6
    assert limits.reason == "stopped after the 0.05 s of --time-limit"


def test_what_may_be_spent_is_told_as_it_was_given() -> None:
    limits = Limits(Price(0.15, 0.6), max_cost=0.00001)
    assert run(limits, [300, 300], 1).done == 1
    assert limits.reason == (
        "stopped at $0.000045: one more answer could pass the $0.00001 of --max-cost"
    )
    limits = Limits(DOLLAR, max_cost=5)
    run(limits, [3, 3], 1)
    assert limits.reason == (
        "stopped at $3.0000: one more answer could pass the $5.0000 of --max-cost"
    )
