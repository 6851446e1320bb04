"""Which frames of a video are looked at.

The choice follows from the frames' own indexes and times alone: made again among any frames that
hold those it chose, it is the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pixano_cli.errors import UsageError

T = TypeVar("T")

_TIME = re.compile(r"(?:(?:([0-9]{1,9}):)?([0-9]{1,9}):)?([0-9]{1,9}(?:\.[0-9]*)?|\.[0-9]+)")
_FASTEST = 100_000.0

# Matroska and WebM round times to a millisecond: a frame may seem to be half of one early. Without
# this, --fps 30 would drop a third of the frames of a video of 30 frames a second.
_EARLY_S = 0.0006
# What is left of a time that was computed from a fraction.
_NOISE_S = 1e-6


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which frames of a video are looked at; by default all of them.

    Attributes:
        every: Take the frames of the source whose index is a multiple of this.
        fps: Take the first frame at or after each tick of a clock with so many ticks a second that
            starts at time 0; where ticks are closer than frames, every frame is taken once.
        start_s: Leave out frames before this time, in seconds.
        end_s: Leave out frames at or after this time, in seconds.

    Raises:
        UsageError: If a value is out of its range, or `every` and `fps` are both given.
    """

    every: int = 1
    fps: float | None = None
    start_s: float | None = None
    end_s: float | None = None

    def __post_init__(self) -> None:
        if type(self.every) is not int or self.every < 1:
            raise UsageError(f"--every {self.every}: a whole number from 1 is wanted")
        if self.fps is not None and not 0 < self.fps <= _FASTEST:
            raise UsageError(f"--fps {self.fps}: frames a second are wanted, more than 0")
        if self.fps is not None and self.every != 1:
            raise UsageError("--every and --fps exclude each other: give one of them")
        for option, time in (("--start", self.start_s), ("--end", self.end_s)):
            if time is not None and not 0 <= time < math.inf:
                raise UsageError(f"{option} {time}: seconds from 0 are wanted")
        if self.end_s is not None and self.end_s <= (self.start_s or 0.0):
            raise UsageError(f"--end {self.end_s}: a time after --start is wanted")
        # Equal samplings are written alike.
        for name in ("fps", "start_s", "end_s"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, float(value) + 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Convert to dictionary: what differs from looking at all frames."""
        given = {"fps": self.fps, "start_s": self.start_s, "end_s": self.end_s}
        every = {} if self.every == 1 else {"every": self.every}
        return every | {name: value for name, value in given.items() if value is not None}

    def choose(self, frames: Iterable[T], place: Callable[[T], tuple[int, float]]) -> Iterator[T]:
        """Yield those of the frames that are looked at.

        Args:
            frames: Frames in the order of presentation; read one at a time, and not beyond the
                first one that is over.
            place: A frame's index in the source, and its time in seconds.
        """
        cell = -math.inf
        for frame in frames:
            index, timestamp_s = place(frame)
            if self.is_over(timestamp_s):
                return
            if self.start_s is not None and timestamp_s + _NOISE_S < self.start_s:
                continue
            if index % self.every:
                continue
            if self.fps is not None:
                tick = math.floor((timestamp_s + _EARLY_S) * self.fps)
                if tick <= cell:
                    continue
                cell = tick
            yield frame

    def is_over(self, timestamp_s: float) -> bool:
        """Whether neither a frame of this time nor any later one is looked at."""
        return self.end_s is not None and timestamp_s + _NOISE_S >= self.end_s

    def frame_rate(self, source: float) -> float:
        """Return how many frames a second are looked at, of a video that has `source`."""
        return source / self.every if self.fps is None else min(source, self.fps)


def parse_time(text: str, option: str) -> float:
    """Read a time given on the command line: "12.5", "2:03.5" or "1:02:03.5", in seconds.

    Args:
        text: Seconds, or minutes and seconds, or hours, minutes and seconds.
        option: The option's name, for the message.

    Raises:
        UsageError: If it is no time.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise UsageError(f'{option} {text!r}: a time is wanted, as "12.5" or "1:02:03.5"')
    hours, minutes, seconds = match.groups()
    if (minutes is not None and float(seconds) >= 60) or (hours is not None and int(minutes) >= 60):
        raise UsageError(f"{option} {text!r}: minutes and seconds go up to 59")
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)
