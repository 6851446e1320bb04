"""A damaged video gives the frames before the damage, and says so; a whole one is never refused."""

from __future__ import annotations

import itertools
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixano_cli.errors import VideoError
from pixano_cli.media import video_file
from pixano_cli.media.damage import find_damage
from pixano_cli.media.opening import video_stream
from pixano_cli.media.video import Frame
from pixano_cli.media.videos import open_video

from .videos import noisy, numbers_of, read, times_of, write_video

COUNT = 30
FASTSTART = {"movflags": "+faststart"}
KINDS: dict[str, dict[str, Any]] = {
    "front.mp4": {"options": {"bf": "2"}, "container_options": FASTSTART},
    "plain.mp4": {"options": {"bf": "0"}, "container_options": FASTSTART},
    "end.mp4": {},
    "fragments.mp4": {
        "options": {"g": "8", "bf": "0"},
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "a.mkv": {"options": {"g": "8", "bf": "0"}},
    "live.mkv": {"options": {"g": "8", "bf": "0"}, "container_options": {"live": "1"}},
    "a.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}},
    "slices.mkv": {"options": {"x264-params": "slices=4"}},
    "vp8.webm": {"codec": "libvpx", "options": {"cpu-used": "16", "deadline": "realtime"}},
    "a.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "pictures.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "av1.mp4": {
        "codec": "libsvtav1",
        "options": {"preset": "12"},
        "container_options": FASTSTART,
    },
}
WHOLE_TOLD = [name for name in KINDS if name != "live.mkv"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a clip of a kind, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("clips")

    def clip(name: str) -> Path:
        if not (folder / name).exists():
            write_video(folder / name, pictures=noisy(COUNT), **KINDS[name])
        return folder / name

    return clip


def damaged(clip: Path, data: bytes) -> Path:
    path = clip.with_name(f"damaged-{clip.name}")
    path.write_bytes(data)
    return path


def read_on(path: Path, processors: int) -> tuple[list[Frame], VideoError | None]:
    """Read a video on a machine with so many processors."""
    frames: list[Frame] = []

    def choose(container: Any) -> Any:
        stream = video_stream(container)
        stream.codec_context.thread_count = processors
        return stream

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_file, "video_stream", choose)
        try:
            with open_video(path) as video:
                frames.extend(video.frames())
        except VideoError as error:
            return frames, error
    return frames, None


class TestCutOff:
    @pytest.mark.parametrize("name", WHOLE_TOLD)
    @settings(max_examples=25)
    @given(share=st.floats(0.0, 0.9999))
    def test_it_never_looks_whole(
        self, clips: Callable[[str], Path], name: str, share: float
    ) -> None:
        clip = clips(name)
        data = clip.read_bytes()
        whole, _ = read(clip)
        cut = int(len(data) * share)
        # Between two fragments, nothing tells that there was another.
        cut += data[cut + 4 : cut + 8] == b"moof"
        frames, error = read(damaged(clip, data[:cut]))
        assert numbers_of(frames) == list(range(len(frames)))
        assert times_of(frames) == times_of(whole)[: len(frames)]
        if len(frames) < COUNT:
            assert isinstance(error, VideoError)

    @pytest.mark.parametrize("share", [0.35, 0.6, 0.85])
    @pytest.mark.parametrize(
        "name", ["plain.mp4", "fragments.mp4", "a.mkv", "live.mkv", "pictures.avi"]
    )
    def test_all_before_it_comes_and_the_error_says_how_to_use_it(
        self, clips: Callable[[str], Path], name: str, share: float
    ) -> None:
        clip = clips(name)
        data = clip.read_bytes()
        cut = int(len(data) * share)
        path = damaged(clip, data[:cut])
        with av.open(str(clip)) as container:
            sound = sum(
                packet.pos + packet.size <= cut
                for packet in container.demux(video=0)
                if packet.size
            )
        frames, error = read(path)
        assert len(frames) == sound
        assert re.match(
            rf"damaged or cut off after {sound} frames, at {frames[-1].timestamp_s:.3f} s \(",
            str(error),
        )
        end_s = float(str(error).split("--end ")[1])
        with open_video(path) as video:
            until = itertools.takewhile(lambda frame: frame.timestamp_s < end_s, video.frames())
            assert len(list(until)) == sound - 1

    def test_before_its_index(self, clips: Callable[[str], Path]) -> None:
        data = clips("end.mp4").read_bytes()
        frames, error = read(damaged(clips("end.mp4"), data[: len(data) // 2]))
        assert not frames
        assert "index (the moov box) is missing" in str(error)

    def test_behind_its_frames_it_is_whole(self, clips: Callable[[str], Path]) -> None:
        data = clips("a.mkv").read_bytes()
        frames, error = read(damaged(clips("a.mkv"), data[:-5]))
        assert error is None
        assert len(frames) == COUNT


class TestHoles:
    @pytest.mark.parametrize("name", KINDS)
    @settings(max_examples=25)
    @given(share=st.floats(0.1, 0.9), size=st.integers(1, 2000), filler=st.integers(0, 3))
    def test_frames_stay_in_order_and_the_same_each_time(
        self, clips: Callable[[str], Path], name: str, share: float, size: int, filler: int
    ) -> None:
        clip = clips(name)
        data = bytearray(clip.read_bytes())
        at = int(len(data) * share)
        size = min(size, len(data) - at)
        data[at : at + size] = random.Random(filler).randbytes(size) if filler else bytes(size)
        path = damaged(clip, bytes(data))
        found = []
        for processors in (1, 2, 7):
            frames, error = read_on(path, processors)
            assert error is None or isinstance(error, VideoError)
            pixels = [frame.image().tobytes() for frame in frames]
            found.append((times_of(frames), pixels, str(error)))
        assert found[0] == found[1] == found[2]

    @pytest.mark.parametrize("filler", [0, 1])
    @pytest.mark.parametrize(
        "name", ["front.mp4", "plain.mp4", "a.mkv", "a.avi", "pictures.avi", "av1.mp4", "a.webm"]
    )
    def test_a_hole_over_several_packets_ends_the_video(
        self, clips: Callable[[str], Path], name: str, filler: int
    ) -> None:
        clip = clips(name)
        data = bytearray(clip.read_bytes())
        with av.open(str(clip)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
            first = packets[15].pos
            end = packets[18].pos + packets[18].size
        hole = random.Random(1).randbytes(end - first) if filler else bytes(end - first)
        data[first:end] = hole
        whole, _ = read(clip)
        frames, error = read(damaged(clip, bytes(data)))
        assert isinstance(error, VideoError)
        assert len(frames) <= 19
        assert times_of(frames) == times_of(whole)[: len(frames)]
        assert numbers_of(frames[:13]) == list(range(min(13, len(frames))))

    def test_what_is_lost_among_the_last_frames_is_told(self, clips: Callable[[str], Path]) -> None:
        clip = clips("plain.mp4")
        data = bytearray(clip.read_bytes())
        with av.open(str(clip)) as container:
            last = [packet for packet in container.demux(video=0) if packet.size][-2:]
        for packet in last:
            data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
        path = damaged(clip, bytes(data))
        for processors in (1, 2, 7):
            frames, error = read_on(path, processors)
            assert len(frames) == COUNT - 2
            assert "h264 data cannot be decoded" in str(error)

    def test_nothing_reaches_stderr(self, clips: Callable[[str], Path]) -> None:
        clip = clips("plain.mp4")
        data = bytearray(clip.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 4000] = bytes(4000)
        code = (
            "import sys; from pathlib import Path; from pixano_cli.media.videos import open_video\n"
            "from pixano_cli.errors import VideoError\n"
            "try:\n    with open_video(Path(sys.argv[1])) as video: list(video.frames())\n"
            "except VideoError: print('refused')"
        )
        command = [sys.executable, "-c", code, str(damaged(clip, bytes(data)))]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("refused\n", "")


class TestStartInTheMiddle:
    def test_what_was_cut_from_a_broadcast_begins_where_it_can(self, tmp_path: Path) -> None:
        options = {"g": "10", "bf": "2", "x264-params": "open-gop=1:keyint=10:min-keyint=10"}
        path = write_video(tmp_path / "a.ts", count=COUNT, options=options)
        data = path.read_bytes()
        # As a recorder that was switched on late: whole transport packets, no header but the first.
        late = 188 * (len(data) // 188 // 3)
        path.write_bytes(data[: 188 * 3] + data[late:])
        frames, error = read(path)
        assert error is None
        assert numbers_of(frames)[-10:] == list(range(COUNT - 10, COUNT))

    @pytest.mark.parametrize(
        ("name", "share"),
        [
            ("plain.mp4", 1.0),
            ("plain.mp4", 0.5),
            ("front.mp4", 1.0),
            ("a.mkv", 1.0),
            ("a.avi", 1.0),
        ],
    )
    def test_but_no_file_with_an_index_does(
        self, clips: Callable[[str], Path], name: str, share: float
    ) -> None:
        clip = clips(name)
        data = bytearray(clip.read_bytes())
        with av.open(str(clip)) as container:
            first = next(iter(container.demux(video=0)))
        hole = int(first.size * share)
        end = first.pos + first.size
        data[end - hole : end] = bytes(hole)
        frames, error = read(damaged(clip, bytes(data)))
        assert not frames
        assert str(error).startswith("not one frame can be read: ")


class TestStructure:
    @pytest.mark.parametrize("name", KINDS)
    def test_a_whole_file_has_no_damage(self, clips: Callable[[str], Path], name: str) -> None:
        path = clips(name)
        with av.open(str(path)) as container:
            assert find_damage(path, container.format.name) is None
        frames, error = read(path)
        assert error is None
        assert len(frames) == COUNT

    @settings(max_examples=60)
    @given(share=st.floats(0, 1), noise=st.binary(max_size=40))
    @pytest.mark.parametrize("name", ["fragments.mp4", "a.mkv", "live.mkv", "a.avi"])
    def test_whatever_the_bytes_it_ends(
        self, clips: Callable[[str], Path], name: str, share: float, noise: bytes
    ) -> None:
        clip = clips(name)
        data = bytearray(clip.read_bytes())
        at = int(share * len(data))
        data[at : at + len(noise)] = noise
        path = damaged(clip, bytes(data))
        kind = {".mp4": "mov,mp4", ".mkv": "matroska", ".avi": "avi"}[clip.suffix]
        at_fault = find_damage(path, kind)
        assert at_fault is None or 0 <= at_fault <= len(data)

    @pytest.mark.parametrize(
        "tail",
        [b"\0" * 5, b"\0" * 4000, b"appended", random.Random(7).randbytes(100)],
        ids=["five", "many", "text", "noise"],
    )
    @pytest.mark.parametrize("name", KINDS)
    def test_what_is_appended_is_no_damage(
        self, clips: Callable[[str], Path], name: str, tail: bytes
    ) -> None:
        if name == "live.mkv":
            pytest.skip("its extent is that of the file")
        frames, error = read(damaged(clips(name), clips(name).read_bytes() + tail))
        assert error is None or "fragments" in name
        assert len(frames) == COUNT

    def test_with_sound_between_the_frames(self, tmp_path: Path) -> None:
        for suffix in ("mp4", "mkv", "avi", "mov", "ts"):
            path = _with_sound(tmp_path / f"a.{suffix}")
            frames, error = read(path)
            assert error is None
            assert numbers_of(frames) == list(range(COUNT))

    def test_an_avi_that_was_never_finished(self, clips: Callable[[str], Path]) -> None:
        data = bytearray(clips("pictures.avi").read_bytes())
        movi = data.index(b"movi")
        data[4:8] = data[movi - 4 : movi] = bytes(4)
        end = data.rindex(b"idx1")
        frames, error = read(damaged(clips("pictures.avi"), bytes(data[:end])))
        assert error is None
        assert len(frames) == COUNT

    def test_an_avi_without_padding(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.avi", count=COUNT, codec="mjpeg", pix_fmt="yuvj420p")
        data = path.read_bytes()
        movi = data.index(b"movi")
        at = movi + 4
        chunks = []
        while data[at : at + 4] != b"idx1":
            size = int.from_bytes(data[at + 4 : at + 8], "little")
            chunks.append(data[at : at + 8 + size])
            at += 8 + size + size % 2
        assert any(len(chunk) % 2 for chunk in chunks)
        body = b"".join(chunks)
        length = (len(body) + 4).to_bytes(4, "little")
        path.write_bytes(data[: movi - 4] + length + b"movi" + body)
        assert find_damage(path, "avi") is None

    def test_an_unknown_element_of_matroska_is_passed_over(
        self, clips: Callable[[str], Path]
    ) -> None:
        data = clips("live.mkv").read_bytes()
        cluster = data.index(b"\x1f\x43\xb6\x75", data.index(b"\x1f\x43\xb6\x75") + 4)
        unknown = b"\x4f\xfe\x83abc"
        path = damaged(clips("live.mkv"), data[:cluster] + unknown + data[cluster:])
        frames, error = read(path)
        assert error is None
        assert len(frames) == COUNT


def _with_sound(path: Path) -> Path:
    import numpy as np

    from .videos import SIZE, numbered

    with av.open(str(path), "w", format="mpegts" if path.suffix == ".ts" else None) as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height = SIZE
        sound = output.add_stream("mp2", rate=48000)
        samples = np.zeros((1, 1152 * 2), np.int16)
        for index in range(COUNT):
            frame = av.VideoFrame.from_ndarray(numbered(index), "rgb24")
            frame.pts = index
            output.mux(stream.encode(frame))
            for part in range(2):
                heard = av.AudioFrame.from_ndarray(samples, "s16", "stereo")
                heard.sample_rate = 48000
                heard.pts = (index * 2 + part) * 1152
                output.mux(sound.encode(heard))
        output.mux(stream.encode(None))
        output.mux(sound.encode(None))
    return path
