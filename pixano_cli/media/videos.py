"""Open whatever counts as a video: a file, a folder of frames, an animated image."""

from __future__ import annotations

import os
from pathlib import Path

from pixano_cli.media.identity import SIGNATURE_BYTES, open_file, sniff
from pixano_cli.media.video import Video

DEFAULT_FRAME_RATE = 30.0
"""Frames a second of a folder of frames, which has no clock of its own."""

_ANIMATED = ("GIF", "WEBP")


def open_video(path: Path, *, frame_rate: float = DEFAULT_FRAME_RATE) -> Video:
    """Open a video; what kind it is, its content tells, not its name.

    Args:
        path: A folder of frames, an animated GIF or WebP, or a video file.
        frame_rate: Frames a second of a folder of frames.

    Raises:
        MediaReadError: If it cannot be read.
        VideoError: If it is no video, or not one frame of it can be decoded.
    """
    # Not path.is_dir(), which raises what open_file says better.
    if os.path.isdir(path):  # noqa: PTH112
        from pixano_cli.media.frame_folder import FrameFolder

        return FrameFolder(path, frame_rate)
    with open_file(path) as file:
        kind = sniff(file.read(SIGNATURE_BYTES))
    if kind in _ANIMATED:
        from pixano_cli.media.animation import Animation

        return Animation(path, kind)
    from pixano_cli.media.video_file import VideoFile

    return VideoFile(path)
