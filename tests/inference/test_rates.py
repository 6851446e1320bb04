"""Limits a minute: never more in any minute, and not much less either."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.inference.providers.rates import WINDOW_S, Rate


def most_in_a_minute(taken: list[tuple[float, float]]) -> float:
    """Return the most that was taken in any minute, by the definition."""
    return max(
        (
            sum(amount for when, amount in taken if start <= when < start + WINDOW_S)
            for start, _ in taken
        ),
        default=0.0,
    )


def take_all(rate: Rate, now: float, amounts: list[float]) -> list[tuple[float, float]]:
    taken = []
    for amount in amounts:
        while (wait := rate.wait(now, amount)) > 0:
            # A clock does not tell fractions of microseconds.
            now += wait + 1e-6
        rate.take(now, amount)
        taken.append((now, amount))
    return taken


@given(
    st.integers(1, 50),
    st.lists(st.floats(0, 200), max_size=40).map(sorted),
    st.floats(0, 1e6),
)
def test_never_more_in_any_minute(limit: int, arrivals: list[float], start: float) -> None:
    rate, taken, now = Rate(limit), list[tuple[float, float]](), start
    for arrival in arrivals:
        now = max(now, start + arrival)
        [(now, _)] = take_all(rate, now, [1.0])
        taken.append((now, 1.0))
    assert most_in_a_minute(taken) <= limit


@given(st.integers(100, 1000), st.lists(st.integers(0, 100), max_size=60))
def test_never_more_tokens_in_any_minute(limit: int, amounts: list[int]) -> None:
    taken = take_all(Rate(limit), 0.0, [float(each) for each in amounts])
    assert most_in_a_minute(taken) <= limit


@pytest.mark.parametrize("limit", [1, 7, 60, 1000, 30_000])
def test_all_of_it_may_be_used(limit: int) -> None:
    taken = take_all(Rate(limit), 5.0, [1.0] * (2 * limit))
    assert taken[0][0] == 5.0
    seconds = taken[-1][0] - 5.0
    assert seconds <= 2 * WINDOW_S + 1
    # Spread over the minute, but for a second's worth.
    first = sum(when < 6.0 for when, _ in taken)
    assert first <= max(1, 2 * limit / WINDOW_S + 2)


def test_what_is_too_much_by_itself_goes_alone() -> None:
    rate = Rate(100)
    assert take_all(rate, 0.0, [10.0])[-1][0] == 0.0
    [(now, _)] = take_all(rate, 1.0, [500.0])
    assert now >= WINDOW_S
    assert rate.wait(now, 1.0) >= WINDOW_S - 1


@given(
    st.lists(
        st.tuples(st.floats(0, 30), st.integers(1, 60), st.integers(0, 60), st.floats(0, 20)),
        max_size=25,
    )
)
def test_corrected_tokens_keep_to_the_limit(
    asked: list[tuple[float, int, int, float]],
) -> None:
    """Where the truth is known before the next is sent, no minute has more of it."""
    rate, now, truth = Rate(60), 0.0, list[tuple[float, float]]()
    for pause, estimate, actual, took in asked:
        now += pause
        if actual > estimate:
            actual = estimate
        [(now, _)] = take_all(rate, now, [float(estimate)])
        truth.append((now, float(actual)))
        now += took
        rate.correct(now, actual - estimate)
    assert most_in_a_minute(truth) <= 60


def test_what_was_more_than_estimated_is_waited_for() -> None:
    rate = Rate(60)
    rate.take(0.0, 30)
    rate.correct(1.0, 30)
    assert rate.wait(1.0, 1) >= WINDOW_S - 1
    other = Rate(60)
    other.take(0.0, 60)
    other.correct(1.0, -60)
    assert other.wait(1.0, 60) == 0.0
