"""Read a video file through libav, frame by frame.

What is read is what ffprobe lists: the frames of the first real video stream, in the order of
presentation, with their time stamps, edit lists applied as libav applies them.

- Pixels: as stored, turned and mirrored by the display matrix, whatever their pixel aspect ratio.
  Colours are converted as libswscale does by default: by the matrix and range that the file tells,
  BT.601 where it tells none; no tone mapping; an alpha channel is dropped; fields stay woven.
- A frame of another size than the first is scaled to it, as players do: one video, one frame of
  coordinates.
- Threads work inside a frame, as is PyAV's default, and not across frames, where errors among the
  last frames would be lost. H.264 and VP8 are decoded on one thread: on several, these decoders
  look for errors no more (of 25 damaged H.264 clips, 25 went unnoticed instead of 4).

A damaged video ends in a VideoError after the frames before the damage. Damage is a hole or an end
where the container's structure has none, a packet that the demuxer marks or the decoder refuses,
and a frame in which the decoder conceals errors. Where a container may begin in the middle, as what
is cut from a broadcast does, what comes before the first sound frame is no damage. Wrong bytes that
no decoder notices are not noticed here either.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from pixano_cli.errors import VideoError
from pixano_cli.media.broken_off import ReadSoFar
from pixano_cli.media.damage import find_damage
from pixano_cli.media.decode import RGBImage
from pixano_cli.media.display_matrix import is_turned, read_matrix, upright
from pixano_cli.media.identity import SIGNATURE_BYTES, open_file
from pixano_cli.media.opening import open_container, video_stream
from pixano_cli.media.timestamps import Clock
from pixano_cli.media.video import Frame, Video, VideoFacts

_ON_ONE_THREAD = frozenset({"h264", "vp8"})
_MAY_BEGIN_ANYWHERE = frozenset({"mpegts", "mpeg", "mpegvideo", "m4v", "h264", "hevc", "vvc"})


class VideoFile(Video):
    """A video file that is open."""

    def __init__(self, path: Path) -> None:
        """Open a video file and decode its first frame.

        Raises:
            MediaReadError: If the file cannot be read.
            VideoError: If there is no video in it that begins with a frame that can be decoded.
        """
        self._path = path.absolute()
        with open_file(self._path) as file:
            head = file.read(SIGNATURE_BYTES)
            size = os.fstat(file.fileno()).st_size
        self._converter = VideoReformatter()
        self._conversion = threading.Lock()
        self._passes: list[Generator[Frame]] = []
        with open_container(self._path, head) as container:
            stream = video_stream(container)
            self._damage = find_damage(self._path, container.format.name)
            if self._damage is None and "mp4" in container.format.name:
                entries = stream.index_entries
                self._damage = size if any(e.pos + e.size > size for e in entries) else None
            self._head = head
            with closing(self._decoded(container, stream)) as frames:
                try:
                    first = next(frames, None)
                except _Damage as damage:
                    raise ReadSoFar().broken_off(damage) from damage
            if first is None:
                raise VideoError("no frames in it")
            width, height = first.width, first.height
            if is_turned(read_matrix(first)):
                width, height = height, width
            rate = _frame_rate(stream)
            self.facts = VideoFacts(
                width=width,
                height=height,
                frame_rate=float(rate) if rate else None,
                format=_format_name(container, head),
                claimed_frames=_claimed_frames(container, stream, rate),
            )

    def frames(self) -> Iterator[Frame]:
        """Yield all frames from the first; see `Video.frames`."""
        frames = self._frames()
        self._passes.append(frames)
        return frames

    def close(self) -> None:
        """Close the file; frames at hand keep their pixels."""
        while self._passes:
            self._passes.pop().close()

    def convert(self, frame: av.VideoFrame) -> RGBImage:
        """Return the pixels of a decoded frame; safe to call from several threads at once."""
        matrix = read_matrix(frame)
        width, height = self.facts.width, self.facts.height
        if is_turned(matrix):
            width, height = height, width
        with self._conversion:
            converted = self._converter.reformat(frame, width, height, "rgb24", threads=1)
        stored = cast(RGBImage, converted.to_ndarray())
        pixels = np.ascontiguousarray(upright(stored, matrix))
        pixels.flags.writeable = False
        return pixels

    def _frames(self) -> Generator[Frame]:
        so_far = ReadSoFar()
        with open_container(self._path, self._head) as container:
            stream = video_stream(container)
            clock = Clock(stream.time_base or Fraction(1, 90_000), _frame_rate(stream))
            with closing(self._decoded(container, stream)) as frames:
                try:
                    for index, frame in enumerate(frames):
                        timestamp_s = clock.tell(frame.pts, frame.dts)
                        so_far.add(timestamp_s)
                        yield _DecodedFrame(self, index, timestamp_s, frame)
                except _Damage as damage:
                    raise so_far.broken_off(damage) from damage

    def _decoded(self, container: Any, stream: Any) -> Generator[av.VideoFrame]:
        decoder = stream.codec_context
        if decoder.name in _ON_ONE_THREAD:
            decoder.thread_count = 1
        is_av1 = decoder.name == "libdav1d"
        if is_av1:
            # It would work ahead by itself.
            decoder.options = {"max_frame_delay": "1"}
        is_begun = False
        begins_anywhere = container.format.name in _MAY_BEGIN_ANYWHERE
        try:
            for packet in chain(container.demux(stream), [None]):
                if packet is None:
                    if self._damage is not None:
                        break
                # An empty packet would end the decoding; some AVI files have them for no change.
                elif packet.size == 0:
                    continue
                elif self._damage is not None and (packet.pos or 0) >= self._damage:
                    break
                elif packet.is_corrupt and is_begun:
                    raise _Damage("a packet is incomplete")
                # The decoder passes over zeros; no unit of AV1 begins with one.
                elif is_av1 and is_begun and memoryview(packet)[0] == 0:
                    raise _Damage("a packet is empty")
                try:
                    frames = decoder.decode(packet)
                except av.FFmpegError as error:
                    if packet is not None and packet.has_sidedata("encryption_info"):
                        raise VideoError("it is encrypted, and cannot be read") from error
                    if is_begun or not begins_anywhere:
                        raise _Damage(f"its {decoder.name} data cannot be decoded") from error
                    continue
                for frame in frames:
                    if frame.is_corrupt and (is_begun or (frame.key_frame and not begins_anywhere)):
                        raise _Damage(f"errors in its {decoder.name} data")
                    is_begun = is_begun or not frame.is_corrupt
                    yield frame
        except av.FFmpegError as error:
            raise _Damage((error.strerror or "it cannot be read").lower()) from error
        if self._damage is not None:
            raise _Damage("part of the file is missing")


class _DecodedFrame(Frame):
    __slots__ = ("_frame", "_video", "file_name", "index", "timestamp_s")

    def __init__(
        self, video: VideoFile, index: int, timestamp_s: float, frame: av.VideoFrame
    ) -> None:
        self.index = index
        self.timestamp_s = timestamp_s
        self.file_name = None
        self._video = video
        self._frame = frame

    def image(self) -> RGBImage:
        try:
            return self._video.convert(self._frame)
        except (av.FFmpegError, ValueError) as error:
            name = self._frame.format.name
            raise VideoError(f"frame {self.index}: {name} pixels cannot be converted") from error


class _Damage(Exception):  # noqa: N818
    """Where decoding has to end; the text says what is wrong."""


def _format_name(container: Any, head: bytes) -> str:
    name: str = container.format.name
    if name.startswith("mov,"):
        return "mp4" if head[4:8] == b"ftyp" and head[8:12] != b"qt  " else "mov"
    if name.startswith("matroska"):
        return "webm" if b"webm" in head else "matroska"
    return name.partition(",")[0]


def _frame_rate(stream: Any) -> Fraction | None:
    average: Fraction | None = stream.average_rate
    guessed: Fraction | None = stream.guessed_rate
    if average and guessed and average > 1.5 * guessed:
        # Some containers count fields, or ticks of their clock.
        return guessed
    return average or guessed


def _claimed_frames(container: Any, stream: Any, rate: Fraction | None) -> int | None:
    if stream.frames:
        return int(stream.frames)
    if stream.duration and stream.time_base:
        seconds = stream.duration * stream.time_base
    else:
        seconds = Fraction(container.duration or 0, av.time_base)
    return round(seconds * rate) if rate and seconds > 0 else None
