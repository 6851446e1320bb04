"""An animated GIF or WebP gives what a viewer shows, frame by frame."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from pixano_cli.errors import VideoError
from pixano_cli.media.videos import open_video

from .pictures import exif_block
from .videos import Pixels, ffprobe_times, numbered, numbers_of, read, squares_gif, times_of

DURATIONS = [40, 100, 250, 20, 70, 40]


def animated(kind: str, pictures: list[Any], **options: Any) -> bytes:
    images = [each if isinstance(each, Image.Image) else Image.fromarray(each) for each in pictures]
    file = io.BytesIO()
    images[0].save(file, kind, save_all=True, append_images=images[1:], **options)
    return file.getvalue()


def counting(kind: str, count: int = 6, **options: Any) -> bytes:
    options = {"duration": DURATIONS[:count], "loop": 0} | options
    if kind == "WEBP":
        options |= {"quality": 90}
    return animated(kind, [numbered(index) for index in range(count)], **options)


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
class TestBoth:
    def test_every_frame_at_its_time(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "a.mp4"
        path.write_bytes(counting(kind))
        with open_video(path) as video:
            frames = list(video.frames())
            assert video.facts.format == kind.lower()
            assert (video.facts.width, video.facts.height) == (96, 64)
            assert video.facts.claimed_frames == 6
        assert numbers_of(frames) == list(range(6))
        assert [frame.index for frame in frames] == list(range(6))
        assert {frame.file_name for frame in frames} == {None}
        begins = [0, *itertools.accumulate(DURATIONS[:-1])]
        assert times_of(frames) == [begin / 1000 for begin in begins]

    def test_each_pass_begins_at_the_first_frame(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "a.gif"
        path.write_bytes(counting(kind))
        with open_video(path) as video:
            two = list(itertools.islice(video.frames(), 2))
            assert numbers_of(video.frames()) == list(range(6))
            both = zip(video.frames(), video.frames(), strict=True)
            assert [number for pair in both for number in numbers_of(pair)] == [
                index for index in range(6) for _ in range(2)
            ]
        assert numbers_of(two) == [0, 1]

    def test_one_that_holds_still(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "a.gif"
        path.write_bytes(counting(kind, 1))
        frames, error = read(path)
        assert error is None
        assert numbers_of(frames) == [0]

    def test_a_frame_that_is_not_shown_at_all_is_shown_for_a_tenth(
        self, tmp_path: Path, kind: str
    ) -> None:
        path = tmp_path / "a.gif"
        path.write_bytes(counting(kind, 4, duration=[0, 10, 20, 50]))
        assert times_of(read(path)[0]) == [0.0, 0.1, 0.2, 0.22]

    @settings(max_examples=15)
    @given(share=st.floats(0.02, 0.999))
    def test_cut_off(
        self, tmp_path_factory: pytest.TempPathFactory, kind: str, share: float
    ) -> None:
        path = tmp_path_factory.mktemp("cut") / "a.gif"
        data = counting(kind)
        path.write_bytes(data[: int(len(data) * share)])
        frames, error = read(path)
        assert isinstance(error, VideoError)
        assert numbers_of(frames) == list(range(len(frames)))

    def test_a_bomb(self, tmp_path: Path, kind: str) -> None:
        data = bytearray(counting(kind))
        if kind == "GIF":
            data[6:10] = b"\xff\xff\xff\xff"
        else:
            assert data[12:16] == b"VP8X"
            data[24:30] = b"\xfe\x3f\x00\xfe\x5f\x00"
            data[24:30] = (16383).to_bytes(3, "little") + (24575).to_bytes(3, "little")
        path = tmp_path / "a.gif"
        path.write_bytes(data)
        frames, error = read(path)
        assert not frames
        assert "bomb" in str(error) or "damaged" in str(error)
        assert kind == "WEBP" or "more than" in str(error)


class TestGif:
    def test_the_times_are_those_of_ffprobe(self, tmp_path: Path) -> None:
        path = tmp_path / "a.gif"
        path.write_bytes(counting("GIF", duration=[0, 10, 20, 30, 500, 40]))
        told = [float(best) for _, best in ffprobe_times(path) if best]
        assert times_of(read(path)[0]) == told

    def test_what_is_left_and_what_is_cleared_between_frames(self, tmp_path: Path) -> None:
        # Made by hand, so that the disposal is what it says: 1 leaves the frame, 2 clears it.
        path = tmp_path / "a.gif"
        frames = [(0, 0, 1, 1), (4, 4, 2, 2), (8, 8, 1, 3)]
        path.write_bytes(squares_gif(frames))
        shown = [frame.image() for frame in read(path)[0]]
        colours = {0: (255, 255, 255), 1: (255, 0, 0), 2: (0, 255, 0), 3: (0, 0, 255)}
        expected: list[list[tuple[int, int]]] = [
            [(0, 1)],
            [(0, 1), (4, 2)],
            [(0, 1), (8, 3)],  # the second frame was cleared
        ]
        for picture, squares in zip(shown, expected, strict=True):
            canvas = np.full((16, 16, 3), 255, np.uint8)
            for at, colour in squares:
                canvas[at : at + 4, at : at + 4] = colours[colour]
            assert np.array_equal(picture, canvas)

    def test_no_end_mark(self, tmp_path: Path) -> None:
        path = tmp_path / "a.gif"
        path.write_bytes(counting("GIF")[:-1])
        frames, error = read(path)
        assert len(frames) == 6
        assert "end mark is missing" in str(error)

    def test_what_stands_behind_the_end_mark(self, tmp_path: Path) -> None:
        path = tmp_path / "a.gif"
        path.write_bytes(counting("GIF") + b"\0\0appended")
        frames, error = read(path)
        assert error is None
        assert len(frames) == 6


class TestWebp:
    def test_transparency_is_white(self, tmp_path: Path) -> None:
        pictures = []
        for index in range(3):
            image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
            ImageDraw.Draw(image).rectangle((index * 8, 0, index * 8 + 7, 31), (200, 30, 30, 255))
            # Without a pixel in between, libwebp does not say that there is transparency.
            image.putpixel((31, 31), (0, 0, 0, 128))
            pictures.append(image)
        path = tmp_path / "a.webp"
        path.write_bytes(animated("WEBP", pictures, duration=50, lossless=True))
        for index, frame in enumerate(read(path)[0]):
            expected = np.full((32, 32, 3), 255, np.uint8)
            expected[:, index * 8 : index * 8 + 8] = (200, 30, 30)
            expected[31, 31] = 127
            assert np.array_equal(frame.image(), expected)

    def test_upright(self, tmp_path: Path) -> None:
        path = tmp_path / "a.webp"
        path.write_bytes(counting("WEBP", exif=exif_block(6)))
        plain = tmp_path / "b.webp"
        plain.write_bytes(counting("WEBP"))
        with open_video(path) as video:
            assert (video.facts.width, video.facts.height) == (64, 96)
        pairs: Any = zip(read(path)[0], read(plain)[0], strict=True)
        for turned, stored in pairs:
            assert np.array_equal(turned.image(), np.rot90(stored.image(), -1))


def test_pixels_are_rgb(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(counting("GIF"))
    images: list[Pixels] = [frame.image() for frame in read(path)[0]]
    assert {image.shape for image in images} == {(64, 96, 3)}
    assert {image.dtype for image in images} == {np.dtype(np.uint8)}
