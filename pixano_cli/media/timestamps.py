"""When a frame is shown, where the container tells it in part or wrongly.

Source: libavutil/frame.h, AVFrame.best_effort_timestamp: of the presentation time stamp that came
with a frame and the decoding time stamp of the packet that set it free, the one that has been
faulty less often. ffprobe prints it under that name; it is pts_time wherever the container's
presentation times are sound.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(slots=True)
class _Series:
    """Time stamps of one kind, as they come; those that do not rise are faults."""

    last: int | None = None
    faults: int = 0

    def take(self, stamp: int | None, instead: int | None) -> None:
        if stamp is None:
            self.last = instead if instead is not None else self.last
            return
        self.faults += self.last is not None and stamp <= self.last
        self.last = stamp


class Clock:
    """Tells when each frame of one pass is shown."""

    def __init__(self, time_base: Fraction, frame_rate: Fraction | None) -> None:
        """Start before the first frame.

        Args:
            time_base: Seconds in one unit of the time stamps.
            frame_rate: Frames a second, for frames without any time stamp; 25 if not known.
        """
        self._time_base = time_base
        self._step_s = Fraction(1) / (frame_rate or 25)
        self._presented = _Series()
        self._decoded = _Series()
        self._last_s: Fraction | None = None

    def tell(self, pts: int | None, dts: int | None) -> float:
        """Return the time of the next frame in seconds.

        A frame without a time stamp comes one frame's time after the one before; ffprobe prints
        N/A for it.

        Args:
            pts: Its presentation time stamp, None if the container has none.
            dts: The decoding time stamp of the packet that it came out with, None if none.
        """
        self._decoded.take(dts, pts)
        self._presented.take(pts, dts)
        if pts is not None and (dts is None or self._presented.faults <= self._decoded.faults):
            stamp: int | None = pts
        else:
            stamp = dts
        if stamp is not None:
            self._last_s = stamp * self._time_base
        else:
            self._last_s = Fraction(0) if self._last_s is None else self._last_s + self._step_s
        return float(self._last_s)
