"""A frame's time is its presentation time stamp, and the next best thing where that is faulty."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.media.timestamps import Clock

BASE = Fraction(1, 90_000)
STAMPS = st.integers(-(2**40), 2**40)


@given(st.lists(STAMPS, min_size=1, unique=True), st.data())
def test_rising_stamps_are_the_times(stamps: list[int], data: st.DataObject) -> None:
    clock = Clock(BASE, Fraction(25))
    for stamp in sorted(stamps):
        dts = data.draw(st.none() | STAMPS)
        assert clock.tell(stamp, dts) == stamp / 90_000


@given(st.lists(STAMPS, min_size=1, unique=True))
def test_without_presentation_times_those_of_decoding_are(stamps: list[int]) -> None:
    clock = Clock(BASE, None)
    assert [clock.tell(None, stamp) for stamp in stamps] == [stamp / 90_000 for stamp in stamps]


def test_stamps_that_do_not_rise_give_way_to_those_that_do() -> None:
    clock = Clock(Fraction(1), None)
    told = [clock.tell(pts, dts) for pts, dts in zip([5, 5, 5, 5], [0, 1, 2, 3], strict=True)]
    assert told == [5.0, 1.0, 2.0, 3.0]


def test_both_faulty_the_presentation_time_stays() -> None:
    clock = Clock(Fraction(1), None)
    assert [clock.tell(5, 7), clock.tell(5, 7), clock.tell(5, 7)] == [5.0, 5.0, 5.0]


@pytest.mark.parametrize(("rate", "step"), [(Fraction(10), 0.1), (None, 0.04)])
def test_without_any_stamp_it_runs_at_the_frame_rate(rate: Fraction | None, step: float) -> None:
    clock = Clock(BASE, rate)
    assert [clock.tell(None, None) for _ in range(3)] == pytest.approx([0, step, 2 * step])
    assert clock.tell(90_000, None) == 1.0
    assert clock.tell(None, None) == pytest.approx(1 + step)
