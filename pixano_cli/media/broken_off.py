"""The error of a video that ends too early: what of it was read, and how to use that."""

from __future__ import annotations

from dataclasses import dataclass

from pixano_cli.errors import VideoError


@dataclass(slots=True)
class ReadSoFar:
    """How far a video was read.

    Attributes:
        count: Frames that were read.
    """

    count: int = 0
    _earlier_s: float | None = None
    _last_s: float | None = None

    def add(self, timestamp_s: float) -> None:
        """Count a frame that is shown at this time."""
        self.count += 1
        self._earlier_s, self._last_s = self._last_s, timestamp_s

    def broken_off(self, reason: object) -> VideoError:
        """Return the error that a user sees."""
        last_s = self._last_s
        if last_s is None:
            return VideoError(f"not one frame can be read: {reason}")
        advice = "copy it again"
        # What ends at this time sees the last frame, and so does not ask for one beyond it.
        if self._earlier_s is not None and max(self._earlier_s, 0.0) < last_s:
            end_s = (max(self._earlier_s, 0.0) + last_s) / 2
            advice += f", or use what is there with --end {end_s:.3f}"
        return VideoError(
            f"damaged or cut off after {self.count} frames, at {last_s:.3f} s ({reason}): {advice}"
        )
