"""A folder of images is a video: a frame a file, in natural order, upright."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.errors import ImageDecodeError, MediaReadError, VideoError
from pixano_cli.media.decode import decode_image
from pixano_cli.media.frame_folder import list_frames
from pixano_cli.media.video_identity import digest_of
from pixano_cli.media.videos import open_video

from .pictures import as_stored, encoded, exif_block, photograph
from .videos import numbered, numbers_of, read, times_of

PNG = encoded(photograph(), "PNG")


def fill(folder: Path, *names: str, content: bytes = PNG) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def order(folder: Path) -> list[str]:
    return [seen.relative for seen in list_frames(folder)]


class TestOrder:
    @pytest.mark.parametrize(
        "names",
        [
            ["frame2.png", "frame10.png", "frame100.png"],
            ["1.png", "2.jpg", "3.bmp", "10.png", "011.png"],
            ["a1b2.png", "a1b10.png", "a2b1.png"],
            ["clip.png", "clip2.png", "clip10.png", "clip-1.png"],
            ["A1.png", "a2.png", "B1.png", "b2.png"],
            ["7.png", "07.png", "08.png", "8-b.png"],
            ["frame.9.png", "frame.10.png"],
            ["9" * 100 + ".png", "1" + "0" * 100 + ".png"],
            ["2024-01-02 09-05-07.png", "2024-01-02 10-00-00.png", "2024-10-02 01-00-00.png"],
        ],
    )
    def test_numbers_count_by_their_value(self, tmp_path: Path, names: list[str]) -> None:
        fill(tmp_path, *reversed(names))
        found = order(tmp_path)
        if "07.png" in names:
            assert found[2:] == names[2:]
        else:
            assert found == names

    @given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8, unique=True))
    def test_whatever_the_padding(
        self, tmp_path_factory: pytest.TempPathFactory, numbers: list[int]
    ) -> None:
        folder = tmp_path_factory.mktemp("frames")
        for number in numbers:
            width = number % 8
            (folder / f"img_{number:0{width}}_v2.png").touch()
        found = [int(name.split("_")[1]) for name in order(folder)]
        assert found == sorted(numbers)

    def test_only_images_directly_in_it_count(self, tmp_path: Path) -> None:
        fill(tmp_path, "1.png", "2", "sub/3.png", ".hidden.png", "._1.png")
        fill(tmp_path, "notes.txt", "Thumbs.db", "frames.json", content=b"some text")
        assert order(tmp_path) == ["1.png", "2"]

    def test_a_link_that_leads_out_is_no_frame(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        fill(tmp_path, "frames/1.png", "secret.png")
        (tmp_path / "frames/2.png").symlink_to(tmp_path / "secret.png")
        (tmp_path / "frames/3.png").symlink_to("1.png")
        with caplog.at_level(logging.WARNING):
            assert order(tmp_path / "frames") == ["1.png", "3.png"]
        assert "lead out" in caplog.text


class TestFrames:
    def test_mixed_formats(self, tmp_path: Path) -> None:
        kinds = ["PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "AVIF"]
        for index, kind in enumerate(kinds):
            name = f"{index}.{kind.lower()}" if index % 2 else f"{index}"
            (tmp_path / name).write_bytes(encoded(numbered(index), kind))
        frames, error = read(tmp_path)
        assert error is None
        assert numbers_of(frames) == list(range(len(kinds)))
        assert [frame.index for frame in frames] == list(range(len(kinds)))
        assert [frame.file_name for frame in frames] == order(tmp_path)
        with open_video(tmp_path) as video:
            assert video.facts.format == "folder"
            assert video.facts.claimed_frames == len(kinds)
            assert (video.facts.width, video.facts.height) == (96, 64)

    def test_its_clock_is_the_one_given(self, tmp_path: Path) -> None:
        fill(tmp_path, "1.png", "2.png", "3.png")
        assert times_of(read(tmp_path)[0]) == [0.0, 1 / 30, 2 / 30]
        assert times_of(read(tmp_path, frame_rate=4.0)[0]) == [0.0, 0.25, 0.5]
        with open_video(tmp_path, frame_rate=4.0) as video:
            assert video.facts.frame_rate == 4.0

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_frames_are_upright(self, tmp_path: Path, orientation: int) -> None:
        stored = as_stored(photograph(), orientation)
        data = encoded(stored, "PNG", exif=exif_block(orientation))
        fill(tmp_path, "1.png")
        fill(tmp_path, "2.png", content=data)
        frames, _ = read(tmp_path)
        for frame in frames:
            assert np.array_equal(frame.image(), photograph())

    def test_a_damaged_frame_fails_when_its_pixels_are_asked_for(self, tmp_path: Path) -> None:
        fill(tmp_path, "1.png", "2.png", "3.png")
        fill(tmp_path, "2.png", content=PNG[: len(PNG) // 2])
        frames, error = read(tmp_path)
        assert error is None
        assert len(frames) == 3
        assert np.array_equal(frames[2].image(), decode_image(PNG))
        with pytest.raises(ImageDecodeError, match=r"frame '2\.png': truncated PNG"):
            frames[1].image()

    def test_a_frame_of_another_size_is_named(self, tmp_path: Path) -> None:
        fill(tmp_path, "1.png")
        fill(tmp_path, "2.png", content=encoded(photograph()[:-2], "PNG"))
        frames, _ = read(tmp_path)
        with pytest.raises(VideoError, match=r"frame '2\.png' has 96 x 54 pixels.* 96 x 56"):
            frames[1].image()

    def test_a_frame_that_is_gone_or_a_pipe(self, tmp_path: Path) -> None:
        fill(tmp_path, "1.png", "2.png")
        os.mkfifo(tmp_path / "3.png")
        frames, _ = read(tmp_path)
        (tmp_path / "2.png").unlink()
        with pytest.raises(MediaReadError, match="no such file"):
            frames[1].image()
        with pytest.raises(MediaReadError, match="named pipe"):
            frames[2].image()

    def test_a_damaged_first_frame(self, tmp_path: Path) -> None:
        fill(tmp_path, "2.png")
        fill(tmp_path, "1.png", content=b"no image")
        frames, error = read(tmp_path)
        assert not frames
        assert isinstance(error, VideoError)
        assert str(error) == (
            "its first frame, '1.png': text, not a JPEG, PNG, WebP, TIFF, BMP, GIF or AVIF image"
        )

    def test_no_frames(self, tmp_path: Path) -> None:
        fill(tmp_path, "sub/1.png")
        assert str(read(tmp_path)[1]) == "no images in this folder"

    def test_names_that_are_no_utf8(self, tmp_path: Path) -> None:
        fill(tmp_path, os.fsdecode(b"\xe9.png"))
        (frame,), _ = read(tmp_path)
        assert frame.file_name == "\\xe9.png"
        assert np.array_equal(frame.image(), decode_image(PNG))


class TestDigest:
    def test_that_of_a_file_is_that_of_its_bytes(self, tmp_path: Path) -> None:
        data = os.urandom(3_000_001)
        (tmp_path / "a.mp4").write_bytes(data)
        assert digest_of(tmp_path / "a.mp4") == (hashlib.sha256(data).hexdigest(), len(data))

    def test_that_of_a_folder_is_that_of_its_frames(self, tmp_path: Path) -> None:
        contents = {"f2.png": PNG, "f10.png": PNG + b"\0", "f1.png": PNG + b"\0\0"}
        for name, content in contents.items():
            fill(tmp_path, name, content=content)
        fill(tmp_path, "sub/f3.png", ".f4.png")
        text = "".join(
            f"{name}\0{hashlib.sha256(contents[name]).hexdigest()}\n"
            for name in ("f1.png", "f2.png", "f10.png")
        )
        expected = hashlib.sha256(text.encode()).hexdigest()
        assert digest_of(tmp_path) == (expected, 3 * len(PNG) + 3)

    def test_any_change_of_a_frame_changes_it(self, tmp_path: Path) -> None:
        fill(tmp_path, "1.png", "2.png", "3.png")
        fill(tmp_path, "2.png", content=PNG + b"\0")
        digests = [digest_of(tmp_path)[0]]
        fill(tmp_path, "3.png", content=PNG + b"\1")
        digests.append(digest_of(tmp_path)[0])
        (tmp_path / "3.png").rename(tmp_path / "4.png")
        digests.append(digest_of(tmp_path)[0])
        (tmp_path / "1.png").rename(tmp_path / "5.png")
        digests.append(digest_of(tmp_path)[0])
        (tmp_path / "5.png").unlink()
        digests.append(digest_of(tmp_path)[0])
        assert len(set(digests)) == 5
        fill(tmp_path, ".x.png", "notes.txt", "deep/6.png", content=b"text")
        assert digest_of(tmp_path)[0] == digests[-1]

    def test_what_cannot_be_read(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.mp4")
        for path, reason in (
            (tmp_path / "a.mp4", "named pipe"),
            (Path("/dev/zero"), "device"),
            (tmp_path / "none", "no such file"),
        ):
            with pytest.raises(MediaReadError, match=reason):
                digest_of(path)
        fill(tmp_path, "frames/1.png")
        os.mkfifo(tmp_path / "frames/2.png")
        with pytest.raises(MediaReadError, match="named pipe"):
            digest_of(tmp_path / "frames")
