"""A video file gives the frames that ffprobe lists, in order, at their times, as displayed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixano_cli.media.video_file import VideoFile
from pixano_cli.media.videos import open_video

from .videos import (
    SIZE,
    Pixels,
    ffprobe_times,
    number_of,
    numbered,
    numbers_of,
    packet_times,
    read,
    times_of,
    write_video,
)

KINDS = {
    "h264.mp4": {"codec": "libx264"},
    "h264.mov": {"codec": "libx264"},
    "h264.mkv": {"codec": "libx264"},
    "h264.avi": {"codec": "libx264"},
    "h264.ts": {"codec": "libx264"},
    "h264.flv": {"codec": "libx264"},
    "fragments.mp4": {
        "codec": "libx264",
        "options": {"g": "4"},
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "hevc.mp4": {"codec": "libx265"},
    "hevc.mkv": {"codec": "libx265"},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}},
    "vp8.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "8"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "av1.webm": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "mjpeg.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "ffv1.mkv": {"codec": "ffv1", "pix_fmt": "bgr0"},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
}
FORMATS = {".ts": "mpegts", ".mkv": "matroska"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a clip of a kind, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("clips")

    def clip(name: str) -> Path:
        if not (folder / name).exists():
            write_video(folder / name, **KINDS[name])  # type: ignore[arg-type]
        return folder / name

    return clip


def assert_told_by_ffprobe(path: Path, times: list[float]) -> None:
    told = ffprobe_times(path)
    assert len(told) == len(times)
    compared = 0
    for time, (pts, best_effort) in zip(times, told, strict=True):
        for text in (pts, best_effort):
            if text is not None:
                assert abs(time - float(text)) < 1e-6
                compared += 1
    assert compared


class TestKinds:
    @pytest.mark.parametrize("name", KINDS)
    def test_every_frame_comes_once_in_order(self, clips: Callable[[str], Path], name: str) -> None:
        path = clips(name)
        with open_video(path) as video:
            frames = list(video.frames())
        assert numbers_of(frames) == list(range(12))
        assert [frame.index for frame in frames] == list(range(12))
        assert {frame.file_name for frame in frames} == {None}
        assert (video.facts.width, video.facts.height) == SIZE
        assert video.facts.frame_rate == pytest.approx(25, rel=0.01)
        assert video.facts.format == FORMATS.get(path.suffix, path.suffix[1:])
        claimed = video.facts.claimed_frames
        assert claimed is None or abs(claimed - 12) <= 3
        steps = np.diff(times_of(frames))
        assert steps == pytest.approx(1 / 25, abs=1e-3)

    @pytest.mark.parametrize("name", KINDS)
    def test_the_times_are_those_of_ffprobe(self, clips: Callable[[str], Path], name: str) -> None:
        frames, error = read(clips(name))
        assert error is None
        assert_told_by_ffprobe(clips(name), times_of(frames))

    def test_motion_jpeg_without_a_container(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.mjpeg", codec="mjpeg", pix_fmt="yuvj420p")
        assert numbers_of(read(path)[0]) == list(range(12))

    def test_no_time_stamps_at_all(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.h264", options={"bf": "2"})
        frames, error = read(path)
        assert error is None
        assert numbers_of(frames) == list(range(12))
        assert times_of(frames) == pytest.approx([index / 25 for index in range(12)])


class TestTimes:
    @settings(max_examples=12)
    @given(st.lists(st.integers(1, 4000), min_size=2, max_size=11), st.integers(0, 100_000))
    def test_variable_frame_rate(
        self, tmp_path_factory: pytest.TempPathFactory, steps: list[int], start: int
    ) -> None:
        times = [start, *(start + step for step in itertools.accumulate(steps))]
        path = tmp_path_factory.mktemp("vfr") / "vfr.mkv"
        base = Fraction(1, 1000)
        write_video(path, count=len(times), times=times, time_base=base, options={"bf": "2"})
        frames, error = read(path)
        assert error is None
        assert numbers_of(frames) == list(range(len(times)))
        # Matroska's muxer begins at the first time stamp or 0, in milliseconds.
        assert times_of(frames) == packet_times(path)
        assert np.diff(times_of(frames)) == pytest.approx(np.diff(times) / 1000, abs=1e-9)

    @pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "webm"])
    def test_a_start_that_is_not_zero(self, tmp_path: Path, suffix: str) -> None:
        codec = "libvpx-vp9" if suffix == "webm" else "libx264"
        times = [250 + index for index in range(12)]
        path = write_video(tmp_path / f"a.{suffix}", codec=codec, times=times)
        frames, _ = read(path)
        # MPEG-TS begins 1.4 seconds later still.
        expected = [time / 25 + (1.4 if suffix == "ts" else 0) for time in times]
        assert times_of(frames) == packet_times(path)
        if suffix != "ts":
            assert times_of(frames) == pytest.approx(expected, abs=1e-3)
        assert times_of(frames)[0] >= 10
        assert_told_by_ffprobe(path, times_of(frames))

    def test_b_frames_come_in_the_order_of_presentation(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.mp4", count=40, options={"bf": "3", "b-pyramid": "normal"})
        with av.open(str(path)) as container:
            stamps = [packet.pts for packet in container.demux(video=0) if packet.size]
        assert stamps != sorted(stamps), "the clip has no B-frames"
        frames, _ = read(path)
        assert numbers_of(frames) == list(range(40))
        assert times_of(frames) == packet_times(path)
        assert_told_by_ffprobe(path, times_of(frames))

    @pytest.mark.parametrize("hidden", [1, 5, 9])
    def test_an_edit_list_hides_the_beginning(self, tmp_path: Path, hidden: int) -> None:
        path = tmp_path / "a.mp4"
        base = Fraction(1, 12800)
        write_video(
            path,
            times=[index * 512 for index in range(12)],
            time_base=base,
            options={"bf": "0"},
            container_options={"avoid_negative_ts": "disabled"},
            shift=-hidden * 512,
        )
        with av.open(str(path)) as container:
            assert any(packet.is_discard for packet in container.demux(video=0))
        frames, error = read(path)
        assert error is None
        assert numbers_of(frames) == list(range(hidden, 12))
        assert times_of(frames) == [index / 25 for index in range(12 - hidden)]
        assert times_of(frames) == packet_times(path)
        assert_told_by_ffprobe(path, times_of(frames))

    def test_a_file_that_claims_another_number_of_frames(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.avi", codec="mjpeg", pix_fmt="yuvj420p")
        data = path.read_bytes()
        header = data.index(b"avih") + 8 + 16
        stream = data.index(b"strh") + 8 + 32
        wrong = (9999).to_bytes(4, "little")
        data = data[:header] + wrong + data[header + 4 : stream] + wrong + data[stream + 4 :]
        path.write_bytes(data)
        with open_video(path) as video:
            assert video.facts.claimed_frames == 9999
            assert numbers_of(video.frames()) == list(range(12))


class TestPixels:
    @pytest.mark.parametrize("degrees", [0, 90, 180, 270])
    @pytest.mark.parametrize("mirrored", [False, True])
    def test_turned_and_mirrored_as_displayed(
        self, tmp_path: Path, degrees: int, mirrored: bool
    ) -> None:
        def turn(stream: Any) -> None:
            stream.set_display_rotation(degrees, hflip=mirrored)

        # As libav: the angle is counterclockwise; the picture is turned, then mirrored.
        with open_video(write_video(tmp_path / "a.mp4", count=3)) as video:
            stored = [frame.image() for frame in video.frames()]
        with open_video(write_video(tmp_path / "b.mp4", count=3, prepare=turn)) as video:
            shown = [frame.image() for frame in video.frames()]
            facts = video.facts
        for as_stored, as_shown in zip(stored, shown, strict=True):
            expected = np.rot90(as_stored, degrees // 90)
            assert np.array_equal(expected[:, ::-1] if mirrored else expected, as_shown)
            assert as_shown.shape == (facts.height, facts.width, 3)
        assert (facts.width > facts.height) == (degrees in (0, 180))

    def test_an_odd_angle_is_taken_for_the_nearest_right_one(self, tmp_path: Path) -> None:
        path = write_video(
            tmp_path / "a.mp4", prepare=lambda stream: stream.set_display_rotation(92.0)
        )
        with open_video(path) as video:
            assert (video.facts.width, video.facts.height) == SIZE[::-1]

    @pytest.mark.parametrize("size", [(101, 77), (101, 78), (100, 77), (17, 33), (2, 2)])
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
            ("a.mp4", {"codec": "mpeg4"}),
            ("b.mp4", {"codec": "libx264", "pix_fmt": "yuv444p"}),
            ("a.mkv", {"codec": "ffv1", "pix_fmt": "yuv420p"}),
        ],
    )
    def test_odd_sizes(
        self, tmp_path: Path, size: tuple[int, int], name: str, options: dict[str, Any]
    ) -> None:
        path = write_video(tmp_path / name, size=size, count=3, **options)
        with VideoFile(path) as video, av.open(str(path)) as container:
            assert (video.facts.width, video.facts.height) == size
            pairs = zip(video.frames(), container.decode(video=0), strict=True)
            for frame, reference in pairs:
                image = frame.image()
                assert image.shape == (size[1], size[0], 3)
                assert np.array_equal(image, reference.to_ndarray(format="rgb24"))
                assert image.flags.c_contiguous
                assert not image.flags.writeable

    @pytest.mark.parametrize("name", ["h264.mp4", "hevc.mp4", "vp9.webm", "av1.mp4", "ffv1.mkv"])
    def test_the_same_whatever_the_threads(self, clips: Callable[[str], Path], name: str) -> None:
        frames, _ = read(clips(name))
        for kind, count in itertools.product(("NONE", "SLICE", "FRAME"), (1, 4)):
            with av.open(str(clips(name))) as container:
                stream = container.streams.video[0]
                stream.codec_context.thread_count = count
                stream.codec_context.thread_type = kind
                decoded = [
                    each.to_ndarray(format="rgb24", threads=count)
                    for each in container.decode(stream)
                ]
            for frame, pixels in zip(frames, decoded, strict=True):
                assert np.array_equal(frame.image(), pixels)

    @pytest.mark.parametrize("full", [False, True])
    @pytest.mark.parametrize("matrix", ["bt601", "bt709"])
    def test_colours_by_the_range_and_matrix_that_the_file_tells(
        self, tmp_path: Path, full: bool, matrix: str
    ) -> None:
        colours = [(235, 20, 20), (20, 200, 30), (25, 25, 220), (128, 128, 128), (250, 250, 250)]
        picture = np.zeros((64, 80, 3), np.uint8)
        for index, colour in enumerate(colours):
            picture[:, index * 16 : index * 16 + 16] = colour

        def tag(stream: Any) -> None:
            stream.codec_context.color_range = 2 if full else 1
            stream.codec_context.colorspace = 1 if matrix == "bt709" else 6

        path = tmp_path / "a.mkv"
        with av.open(str(path), "w") as output:
            stream = output.add_stream("libx264", rate=25, options={"qp": "1"})
            stream.width, stream.height, stream.pix_fmt = 80, 64, "yuv444p"
            tag(stream)
            stored = av.VideoFrame(80, 64, "yuv444p")
            for plane, values in zip(stored.planes, _to_yuv(picture, full, matrix), strict=True):
                padded = np.zeros((64, plane.line_size), np.uint8)
                padded[:, :80] = values
                plane.update(padded.tobytes())
            stored.pts = 0
            output.mux(stream.encode(stored))
            output.mux(stream.encode(None))
        (frame,), _ = read(path)
        for index, colour in enumerate(colours):
            shown = frame.image()[16:48, index * 16 + 4 : index * 16 + 12].mean(axis=(0, 1))
            assert shown == pytest.approx(colour, abs=4)

    def test_a_frame_of_another_size_is_scaled_to_the_first(self, tmp_path: Path) -> None:
        first = write_video(tmp_path / "a.h264", count=3)
        second = write_video(tmp_path / "b.h264", count=3, size=(144, 96))
        path = tmp_path / "c.h264"
        path.write_bytes(first.read_bytes() + second.read_bytes())
        with av.open(str(path)) as container:
            assert len({frame.width for frame in container.decode(video=0)}) == 2
        frames, error = read(path)
        assert error is None
        assert {frame.image().shape for frame in frames} == {(SIZE[1], SIZE[0], 3)}
        assert numbers_of(frames) == [0, 1, 2, 0, 1, 2]

    def test_4k(self, tmp_path: Path) -> None:
        size = (3840, 2160)
        path = write_video(tmp_path / "a.mp4", size=size, count=3, options={"preset": "ultrafast"})
        frames, error = read(path)
        assert error is None
        assert numbers_of(frames) == [0, 1, 2]
        difference = frames[2].image().astype(int) - numbered(2, size)
        assert abs(difference).mean() < 4

    def test_one_frame(self, tmp_path: Path) -> None:
        for name in ("a.mp4", "a.mkv", "a.avi", "a.mov"):
            frames, error = read(write_video(tmp_path / name, count=1))
            assert error is None
            assert numbers_of(frames) == [0]


def _to_yuv(picture: Pixels, full: bool, matrix: str) -> list[Pixels]:
    """Source: ITU-T H.273, table 4 and equations 19 to 30."""
    red, blue = (0.2126, 0.0722) if matrix == "bt709" else (0.299, 0.114)
    r, g, b = (picture[..., index] / 255 for index in range(3))
    y = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    planes = (
        (255 * y, 255 * cb + 128, 255 * cr + 128)
        if full
        else (219 * y + 16, 224 * cb + 128, 224 * cr + 128)
    )
    return [plane.round().clip(0, 255).astype(np.uint8) for plane in planes]


class TestPasses:
    def test_each_begins_at_the_first_frame(self, clips: Callable[[str], Path]) -> None:
        with open_video(clips("h264.mp4")) as video:
            half = list(itertools.islice(video.frames(), 6))
            whole = list(video.frames())
            both = zip(video.frames(), video.frames(), strict=True)
            assert all(a.timestamp_s == b.timestamp_s for a, b in both)
        assert numbers_of(half) == list(range(6))
        assert numbers_of(whole) == list(range(12))

    def test_a_skipped_frame_is_not_converted(
        self, clips: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise AssertionError

        with open_video(clips("h264.mp4")) as video:
            monkeypatch.setattr(VideoFile, "convert", refuse)
            frames = list(video.frames())
            assert len(frames) == 12
            with pytest.raises(AssertionError):
                frames[0].image()

    def test_frames_outlive_the_video(self, clips: Callable[[str], Path]) -> None:
        video = open_video(clips("h264.mp4"))
        passing = video.frames()
        kept = [next(passing), next(passing)]
        video.close()
        video.close()
        assert numbers_of(kept) == [0, 1]
        assert list(passing) == []

    def test_pixels_asked_for_on_several_threads(self, clips: Callable[[str], Path]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        frames, _ = read(clips("h264.mp4"))
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda frame: number_of(frame.image()), frames * 5))
        assert found == list(range(12)) * 5
