"""Sampling: which frames are looked at follows from their own indexes and times."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import inf, nan
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.annotate.videos.sampling import Sampling, parse_time
from pixano_cli.errors import UsageError

Place = tuple[int, float]


def chosen(sampling: Sampling, frames: list[Place]) -> list[Place]:
    return [*sampling.choose(frames, lambda frame: frame)]


def video(rate: Fraction | int, frames: int, digits: int = 9) -> list[Place]:
    return [(index, round(float(index / Fraction(rate)), digits)) for index in range(frames)]


@st.composite
def samplings(draw: st.DrawFn) -> Sampling:
    start = draw(st.none() | st.floats(0, 8))
    end = draw(st.none() | st.floats(0.01, 8).map(lambda length: (start or 0.0) + length))
    if draw(st.booleans()):
        return Sampling(draw(st.integers(1, 9)), None, start, end)
    return Sampling(1, draw(st.floats(0.05, 60)), start, end)


@st.composite
def videos(draw: st.DrawFn) -> list[Place]:
    """Frames at any times, also before 0 and at once."""
    steps = draw(st.lists(st.floats(0, 0.5), max_size=60))
    time, frames = draw(st.floats(-1, 1)), []
    for index, step in enumerate(steps):
        time += step
        frames.append((index, time))
    return frames


@given(samplings(), videos(), st.data())
def test_the_choice_is_the_same_among_any_frames_that_hold_it(
    sampling: Sampling, frames: list[Place], data: st.DataObject
) -> None:
    choice = chosen(sampling, frames)
    more = data.draw(st.sets(st.sampled_from(frames))) if frames else set()
    assert chosen(sampling, sorted({*choice, *more})) == choice
    assert chosen(sampling, choice) == choice


@given(samplings(), videos())
def test_only_the_frames_asked_for(sampling: Sampling, frames: list[Place]) -> None:
    inside = [
        (index, time)
        for index, time in frames
        if (sampling.start_s is None or time >= sampling.start_s - 1e-6)
        and (sampling.end_s is None or time < sampling.end_s - 1e-6)
    ]
    choice = chosen(sampling, frames)
    if sampling.fps is None:
        assert choice == [frame for frame in inside if frame[0] % sampling.every == 0]
        return
    assert set(choice) <= set(inside)
    # One frame a tick: the first, and there is one wherever the video has any.
    ticks = [int((time + 0.0006) * sampling.fps // 1) for _, time in inside]
    assert [int((time + 0.0006) * sampling.fps // 1) for _, time in choice] == sorted({*ticks})
    assert choice == [inside[ticks.index(tick)] for tick in sorted({*ticks})]


@pytest.mark.parametrize("digits", [9, 6, 3])
@pytest.mark.parametrize(
    ("rate", "fps", "step"),
    [(30, 30.0, 1), (30, 10.0, 3), (25, 5.0, 5), (60, 20.0, 3), (24, 8.0, 3), (30, 60.0, 1)],
)
def test_a_rate_that_divides_the_videos_takes_every_nth_frame(
    rate: int, fps: float, step: int, digits: int
) -> None:
    frames = video(rate, 3000, digits)
    assert chosen(Sampling(fps=fps), frames) == frames[::step]


def test_a_rate_that_does_not_divide_the_videos_is_kept_on_average() -> None:
    frames = video(Fraction(30000, 1001), 30_000)
    choice = chosen(Sampling(fps=12.5), frames)
    assert len(choice) == pytest.approx(12.5 * frames[-1][1], abs=1.5)
    gaps = [after[0] - before[0] for before, after in pairwise(choice)]
    assert {*gaps} == {2, 3}
    for number, (_, time) in enumerate(choice):
        assert -0.00061 <= time - number / 12.5 < 1 / 25


def test_start_is_inside_and_end_is_not() -> None:
    frames = video(10, 100)
    assert chosen(Sampling(start_s=2.0, end_s=2.3), frames) == frames[20:23]
    first, second = Sampling(end_s=4.7), Sampling(start_s=4.7)
    assert chosen(first, frames) + chosen(second, frames) == frames
    # The index is the source's, wherever the choice starts.
    assert chosen(Sampling(every=20, start_s=2.1), frames)[0] == frames[40]
    assert chosen(Sampling(start_s=99.0), frames) == []


def test_reading_stops_at_the_end() -> None:
    read = []

    def frames() -> Any:
        for frame in video(10, 100):
            read.append(frame)
            yield frame

    assert len([*Sampling(end_s=1.0).choose(frames(), lambda frame: frame)]) == 10
    assert len(read) == 11
    assert Sampling(end_s=1.0).is_over(1.0)
    assert not Sampling(end_s=1.0).is_over(0.99)
    assert not Sampling().is_over(1e9)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"every": 0}, "--every 0: a whole number from 1"),
        ({"every": -3}, "--every -3"),
        ({"every": 2.0}, "--every 2.0"),
        ({"every": True}, "--every True"),
        ({"fps": 0}, "--fps 0: frames a second"),
        ({"fps": -1.0}, "--fps -1.0"),
        ({"fps": nan}, "--fps nan"),
        ({"fps": inf}, "--fps inf"),
        ({"fps": 2, "every": 2}, "--every and --fps exclude each other"),
        ({"start_s": -1}, "--start -1: seconds from 0"),
        ({"start_s": nan}, "--start nan"),
        ({"end_s": inf}, "--end inf"),
        ({"end_s": 0.0}, "--end 0.0: a time after --start"),
        ({"start_s": 5, "end_s": 5}, "--end 5: a time after --start"),
    ],
)
def test_what_cannot_be_sampled_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        Sampling(**given)
    assert reason in str(caught.value)


def test_equal_samplings_are_written_alike() -> None:
    assert Sampling().to_dict() == {}
    assert Sampling(every=3).to_dict() == {"every": 3}
    written = [
        orjson.dumps(each.to_dict())
        for each in (Sampling(fps=2, start_s=1, end_s=3), Sampling(1, 2.0, 1.0, 3.0))
    ]
    assert written == [b'{"fps":2.0,"start_s":1.0,"end_s":3.0}'] * 2


@given(samplings())
def test_a_sampling_is_the_same_after_the_record(sampling: Sampling) -> None:
    assert Sampling(**orjson.loads(orjson.dumps(sampling.to_dict()))) == sampling


def test_rate_of_the_frames_that_are_looked_at() -> None:
    assert Sampling().frame_rate(25.0) == 25.0
    assert Sampling(every=5).frame_rate(25.0) == 5.0
    assert Sampling(fps=2).frame_rate(25.0) == 2.0
    assert Sampling(fps=60).frame_rate(25.0) == 25.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12.5", 12.5),
        ("0", 0.0),
        (".5", 0.5),
        ("7.", 7.0),
        (" 90 ", 90.0),
        ("2:03.5", 123.5),
        ("90:00", 5400.0),
        ("1:02:03.5", 3723.5),
        ("100:00:00", 360_000.0),
    ],
)
def test_times_of_the_command_line(text: str, seconds: float) -> None:
    assert parse_time(text, "--start") == seconds


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59_999))
def test_a_time_is_the_sum_of_its_parts(hours: int, minutes: int, milliseconds: int) -> None:
    text = f"{hours}:{minutes:02d}:{milliseconds / 1000:06.3f}"
    assert parse_time(text, "--end") == hours * 3600 + minutes * 60 + milliseconds / 1000


@pytest.mark.parametrize(
    "text",
    [
        *("", "-1", "1e3", "nan", "1:60", "1:60:00", "1:2:3:4", "1:", ":5", ".", "1.5:00", "٣"),
        *("1_0", "9" * 400, "9" * 400 + ":00:00"),
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--start"):
        parse_time(text, "--start")
