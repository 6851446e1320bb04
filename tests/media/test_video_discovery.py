"""Every source finds the videos it names, once, in order, under a name that stays the same."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pixano_cli.errors import MediaReadError, UsageError
from pixano_cli.media.discover import SourceFile, discover
from pixano_cli.media.discover_videos import discover_videos
from pixano_cli.media.videos import open_video

from .pictures import SAMPLES, encoded, photograph
from .test_video_animation import counting
from .videos import numbered, write_video

PNG = encoded(photograph(), "PNG")
GIF = counting("GIF", 2)
WEBP = counting("WEBP", 2)
STILL_GIF = encoded(photograph(), "GIF")
Touch = Callable[..., Path]


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a video."""
    return write_video(tmp_path_factory.mktemp("mp4") / "a.mp4", count=2).read_bytes()


@pytest.fixture
def touch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Touch:
    """Make files below a new current folder."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str, content: bytes = PNG) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path

    return make


def find(*sources: str, recursive: bool = True, stdin: str | None = None) -> list[SourceFile]:
    text = None if stdin is None else io.StringIO(stdin)
    found = list(discover_videos(sources, recursive=recursive, stdin=text))
    assert len({file.file_name for file in found}) == len(found)
    assert all(file.path.is_absolute() for file in found)
    return found


def names(*sources: str, recursive: bool = True, stdin: str | None = None) -> list[str]:
    return [file.file_name for file in find(*sources, recursive=recursive, stdin=stdin)]


class TestFiles:
    @pytest.mark.parametrize(
        "suffix", ["mp4", "MP4", "mkv", "mov", "avi", "webm", "m4v", "mpg", "mts", "wmv", "flv"]
    )
    def test_by_suffix(self, touch: Touch, suffix: str) -> None:
        touch(f"in/a.{suffix}", content=b"whatever")
        touch("in/b.txt", "in/c.json", content=b"text")
        assert names("in") == [f"a.{suffix}"]

    @pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "mov", "webm", "ts", "flv"])
    def test_by_the_first_bytes(self, touch: Touch, tmp_path: Path, suffix: str) -> None:
        touch("in/notes.txt", content=b"text")
        codec = "libvpx-vp9" if suffix == "webm" else "libx264"
        write_video(tmp_path / f"in/a.{suffix}", codec=codec).rename(tmp_path / "in/clip")
        assert names("in") == ["clip"]

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.ts", b"export const answer = 42;\n" * 40),
            ("a", b"\0\0\0\x18ftypheic\0\0\0\0" + bytes(500)),
            ("a", b"\0\0\0\x18ftypM4A \0\0\0\0" + bytes(500)),
            ("a", encoded(photograph(), "AVIF")),
            ("a.mka", b"\x1aE\xdf\xa3" + bytes(500)),
            ("a", b"RIFF\0\0\0\0WAVE" + bytes(500)),
            ("a", STILL_GIF),
            ("a.gif", b"GIF89a"),
            ("a.webp", b"RIFF\0\0\0\0WEBPVP8X"),
        ],
    )
    def test_no_video(self, touch: Touch, mp4: bytes, name: str, content: bytes) -> None:
        touch("in/z.mp4", content=mp4)
        touch(f"in/{name}", content=content)
        assert names("in") == ["z.mp4"]

    def test_animated_images(self, touch: Touch) -> None:
        touch("in/a.gif", "in/b", content=GIF)
        touch("in/c.webp", "in/d", content=WEBP)
        touch("in/e.gif", content=STILL_GIF)
        touch("in/f.webp", content=encoded(photograph(), "WEBP"))
        assert names("in") == ["a.gif", "b", "c.webp", "d"]

    def test_images_beside_a_video_are_passed_over(self, touch: Touch, mp4: bytes) -> None:
        touch("in/1.png", "in/2.png", "in/deep/3.png", "in/.hidden/4.png")
        touch("in/a.mp4", "in/.b.mp4", content=mp4)
        assert names("in") == ["a.mp4", "deep"]

    def test_one_named_by_itself_always_counts(self, touch: Touch) -> None:
        touch("in/a.txt", "in/b.png", "in/c.gif")
        assert names("in/a.txt", "in/b.png", "in/c.gif") == ["a.txt", "b.png", "c.gif"]

    def test_its_size_and_time(self, touch: Touch, mp4: bytes) -> None:
        root = touch("in/a.mp4", content=mp4)
        status = (root / "in/a.mp4").stat()
        expected = SourceFile("a.mp4", root / "in/a.mp4", "in", len(mp4), status.st_mtime_ns)
        assert find("in") == [expected]
        assert find("in/a.mp4") == [expected]


class TestFolders:
    def test_one_of_images_is_one_video(self, touch: Touch) -> None:
        root = touch("in/seq/2.png", "in/seq/10.png", "in/other/deep/1.png")
        touch("in/seq/notes.txt", content=b"text")
        assert names("in") == ["other/deep", "seq"]
        assert names("in/seq") == ["seq"]
        assert find("in/seq")[0].path == root / "in/seq"
        os.chdir("in/seq")
        assert names(".") == ["seq"]
        assert names("../seq/") == ["seq"]

    def test_folders_inside_of_one_are_looked_into(self, touch: Touch, mp4: bytes) -> None:
        touch("seq/1.png", "seq/more/2.png")
        touch("seq/clips/a.mp4", content=mp4)
        assert names("seq") == ["seq", "clips/a.mp4", "more"]
        assert names("seq", recursive=False) == ["seq"]
        assert names(".") == ["seq", "seq/clips/a.mp4", "seq/more"]

    def test_its_size_and_time_tell_a_change(self, touch: Touch) -> None:
        root = touch("seq/1.png", "seq/2.png", "seq/sub/3.png")
        for name, time in {"seq/1.png": 100, "seq/2.png": 300, "seq/sub/3.png": 900}.items():
            os.utime(root / name, (time, time))
        os.utime(root / "seq", (200, 200))
        (file,) = find("seq", recursive=False)
        assert file.size == 2 * len(PNG)
        assert file.mtime_ns == 300 * 10**9
        (root / "seq/1.png").rename(root / "seq/0.png")
        assert find("seq", recursive=False)[0].mtime_ns > file.mtime_ns

    def test_several_folders_of_frames(self, touch: Touch) -> None:
        touch("a/seq/1.png", "b/seq/1.png", "c/1.png", "c/sub/1.png")
        assert names("a/seq", "b/seq", "c") == ["seq", "seq-2", "c", "c/sub"]
        assert names("a/seq", "a/seq") == ["seq"]

    def test_a_folder_inside_of_the_same_name(self, touch: Touch) -> None:
        touch("seq/1.png", "seq/seq/1.png", "seq/seq-2/1.png")
        assert names("seq") == ["seq-3", "seq-2", "seq"]

    def test_one_that_cannot_be_listed_is_found_and_fails(
        self, touch: Touch, mp4: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = touch("in/a.mp4", content=mp4)
        touch("in/locked/1.png")
        scandir = os.scandir

        def refuse(path: str) -> object:
            if str(path).endswith("locked"):
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        found = find("in")
        assert [file.file_name for file in found] == ["a.mp4", "locked"]
        assert found[1].size == -1
        with pytest.raises(MediaReadError, match="permission denied"):
            open_video(root / "in/locked")

    def test_links_do_not_lead_out(self, touch: Touch, mp4: bytes) -> None:
        root = touch("out/a.mp4", content=mp4)
        touch("out/frames/1.png", "in/seq/1.png")
        (root / "in/b.mp4").symlink_to(root / "out/a.mp4")
        (root / "in/frames").symlink_to(root / "out/frames")
        (root / "in/again").symlink_to(root / "in/seq")
        assert names("in") == ["seq"]

    def test_a_video_that_is_a_broken_link_is_found_and_fails(self, touch: Touch) -> None:
        root = touch("in/1.png")
        (root / "in/a.mp4").symlink_to("nowhere")
        (file,) = find("in")
        assert (file.file_name, file.size) == ("a.mp4", -1)
        with pytest.raises(MediaReadError, match="no such file"):
            open_video(file.path)


class TestSources:
    def test_patterns(self, touch: Touch, mp4: bytes) -> None:
        touch("in/a.mp4", "in/b.mkv", "in/deep/c.mp4", content=mp4)
        touch("in/seq1/1.png", "in/seq2/1.png", "in/still.png")
        assert names("in/*.mp4") == ["a.mp4"]
        assert names("in/**/*.mp4") == ["a.mp4", "deep/c.mp4"]
        assert names("in/seq*") == ["seq1", "seq2"]
        assert names("in/*") == ["a.mp4", "b.mkv", "deep/c.mp4", "seq1", "seq2"]
        assert names("in/**") == ["a.mp4", "b.mkv", "deep/c.mp4", "seq1", "seq2"]
        for pattern in ("in/*.png", "in/seq1/*.png", "in/*.avi"):
            with pytest.raises(UsageError, match="no video matches"):
                find(pattern)

    def test_a_list(self, touch: Touch, mp4: bytes) -> None:
        touch("in/a.mp4", "in/b.mp4", content=mp4)
        touch("in/seq/1.png")
        assert names("-", stdin="in/b.mp4\nin/seq\n") == ["b.mp4", "seq"]
        assert names("-", stdin="in/seq\n") == ["seq"]
        assert names("-", stdin="in\n") == ["a.mp4", "b.mp4", "seq"]
        assert names("-", "in/a.mp4", stdin="in/seq/\n") == ["seq", "in/a.mp4"]

    def test_several_roots(self, touch: Touch, mp4: bytes) -> None:
        touch("one/a.mp4", "two/a.mp4", content=mp4)
        assert names("one", "two") == ["one/a.mp4", "two/a.mp4"]
        assert names("one/a.mp4", "two/a.mp4") == ["one/a.mp4", "two/a.mp4"]

    def test_no_video_at_all(self, touch: Touch) -> None:
        touch("in/notes.txt", content=b"text")
        touch("empty/deep/x.json", content=b"{}")
        with pytest.raises(UsageError, match="no videos in 'in', 'empty': name video files"):
            find("in", "empty")
        with pytest.raises(UsageError, match="no such file or folder: 'none'"):
            find("none")
        with pytest.raises(UsageError, match="no source given"):
            find()

    def test_the_order_is_that_of_names(self, touch: Touch, mp4: bytes) -> None:
        touch("in/b.mp4", "in/a/z.mp4", "in/c/a.mp4", "in/B.mp4", content=mp4)
        touch("in/a.seq/1.png", "in/b.seq/1.png")
        assert names("in") == ["B.mp4", "a.seq", "a/z.mp4", "b.mp4", "b.seq", "c/a.mp4"]


class TestSampleData:
    def test_it_holds_one_video(self) -> None:
        assert [file.file_name for file in discover_videos([SAMPLES])] == ["pan.mp4"]

    def test_images_are_what_they_were(self) -> None:
        found = [file.file_name for file in discover([SAMPLES])]
        assert found == ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"]


def test_what_is_found_can_be_opened(touch: Touch, mp4: bytes) -> None:
    touch("in/a.mp4", content=mp4)
    touch("in/b.gif", content=GIF)
    touch("in/c.webp", content=WEBP)
    touch("in/d/1.png", "in/d/2.png", content=encoded(numbered(0), "PNG"))
    for file in find("in"):
        with open_video(file.path) as video:
            assert len(list(video.frames())) == 2
