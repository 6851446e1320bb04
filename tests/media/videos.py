"""Clips made on the spot whose frames tell their own number, and what else tells their times."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pixano_cli.errors import PixanoAnnotateError
from pixano_cli.media.video import Frame
from pixano_cli.media.videos import open_video

Pixels = NDArray[np.uint8]

SIZE = (96, 64)
_BITS = 8
_PTS_GENERATED = 1


def numbered(index: int, size: tuple[int, int] = SIZE) -> Pixels:
    """Return a picture that says its number: bars for its bits above, a slope of colour below."""
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    columns = np.arange(width) * _BITS // width
    picture[: height // 2] = (((index >> columns) & 1) * 200 + 20).astype(np.uint8)[None, :, None]
    below = picture[height // 2 :]
    below[..., 0] = np.linspace(40, 220, width, dtype=np.uint8)
    below[..., 1] = np.linspace(220, 60, below.shape[0], dtype=np.uint8)[:, None]
    below[..., 2] = 90
    return picture


def noisy(count: int) -> list[Pixels]:
    """Return numbered pictures that all need about as many bytes."""
    pictures = [numbered(index) for index in range(count)]
    for index, picture in enumerate(pictures):
        below = picture[picture.shape[0] // 2 :]
        below[:] = np.random.default_rng(index).integers(0, 255, below.shape)
    return pictures


def number_of(picture: Pixels) -> int:
    """Read a picture's number, coded with losses or not."""
    height, width, _ = picture.shape
    centres = [(2 * bit + 1) * width // (2 * _BITS) for bit in range(_BITS)]
    levels = picture[height // 8 : height * 3 // 8, centres].mean(axis=(0, 2))
    return sum(1 << bit for bit, level in enumerate(levels) if level > 120)


def write_video(
    path: Path,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = SIZE,
    count: int = 12,
    rate: int = 25,
    times: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    container: str | None = None,
    prepare: Callable[[Any], None] | None = None,
    pictures: Iterable[Pixels] | None = None,
    shift: int = 0,
) -> Path:
    """Write a clip of numbered frames.

    Args:
        path: Where to; its suffix chooses the container unless `container` does.
        codec: Encoder.
        size: Width and height.
        count: Number of frames.
        rate: Frames a second.
        times: Presentation times in `time_base`, one a frame.
        time_base: 1 / rate by default.
        pix_fmt: Pixel format.
        options: Of the encoder.
        container_options: Of the muxer.
        container: libav's name of the container.
        prepare: Called with the stream before anything is written.
        pictures: Instead of numbered ones.
        shift: Added to the time stamps of the packets, in units of the muxer's time base for
            `time_base`.
    """
    with av.open(str(path), "w", format=container, options=container_options or {}) as output:
        stream = output.add_stream(codec, rate=rate, options=_quiet(codec) | (options or {}))
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = time_base or Fraction(1, rate)
        if prepare:
            prepare(stream)
        pictures = pictures or (numbered(index, size) for index in range(count))
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = times[index] if times else index
            frame.time_base = time_base or Fraction(1, rate)
            _mux(output, stream.encode(frame), shift)
        _mux(output, stream.encode(None), shift)
    return path


def _quiet(codec: str) -> dict[str, str]:
    return {"libx265": {"x265-params": "log-level=none"}}.get(codec, {})


def _mux(output: Any, packets: Iterable[Any], shift: int) -> None:
    for packet in packets:
        packet.pts += shift
        packet.dts += shift
        output.mux(packet)


def squares_gif(
    frames: list[tuple[int, int, int, int]], screen: tuple[int, int] = (16, 16)
) -> bytes:
    """Write squares of four pixels on a screen: (x, y, disposal, colour), colour 0 to 3.

    Source: GIF89a specification. Codes of 3 bits, each pixel after a clear code.
    """
    palette = bytes([255, 255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    sides = b"".join(side.to_bytes(2, "little") for side in screen)
    data = b"GIF89a" + sides + b"\xf1\0\0" + palette
    for x, y, disposal, colour in frames:
        control = bytes([disposal << 2 | 1, 10, 0, 0])
        data += b"!\xf9\x04" + control + b"\0"
        data += b"," + b"".join(n.to_bytes(2, "little") for n in (x, y, 4, 4)) + b"\0"
        codes = [code for _ in range(16) for code in (4, colour)] + [5]
        bits = sum(code << 3 * index for index, code in enumerate(codes))
        body = bits.to_bytes((3 * len(codes) + 7) // 8, "little")
        data += b"\x02" + bytes([len(body)]) + body + b"\0"
    return data + b";"


def read(path: Path, **how: Any) -> tuple[list[Frame], PixanoAnnotateError | None]:
    """Return all frames that can be read, and the error in which reading ends."""
    frames: list[Frame] = []
    try:
        with open_video(path, **how) as video:
            frames.extend(video.frames())
    except PixanoAnnotateError as error:
        return frames, error
    return frames, None


def times_of(frames: Iterable[Frame]) -> list[float]:
    return [frame.timestamp_s for frame in frames]


def numbers_of(frames: Iterable[Frame]) -> list[int]:
    return [number_of(frame.image()) for frame in frames]


def packet_times(path: Path) -> list[float]:
    """Return the presentation times of what is shown, as the container tells them."""
    with av.open(str(path)) as container:
        container.flags &= ~_PTS_GENERATED
        stream = container.streams.video[0]
        stamps = [
            packet.pts
            for packet in container.demux(stream)
            if packet.size and not packet.is_discard
        ]
        return [float(stamp * stream.time_base) for stamp in sorted(stamps)]


def ffprobe_times(path: Path) -> list[tuple[str | None, str | None]]:
    """Return ffprobe's pts_time and best_effort_timestamp_time of every frame; None for N/A."""
    program = shutil.which("ffprobe")
    if program is None:
        pytest.skip("ffprobe is not installed: apt-get install ffmpeg")
    names = "pts_time", "best_effort_timestamp_time"
    command = [program, "-v", "quiet", "-select_streams", "v:0", "-show_frames", "-of", "json"]
    command += ["-show_entries", f"frame={','.join(names)}", str(path)]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return [(frame.get(names[0]), frame.get(names[1])) for frame in told["frames"]]


def peak_mib(code: str, *arguments: object) -> float:
    """Return the peak resident memory in MiB of a Python process that runs some code."""
    # Not what getrusage tells: that counts the process that this one was forked from.
    code += (
        "\nprint(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout) / 1024
