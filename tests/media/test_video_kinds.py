"""What is no video is refused in one line that says why; what is one is read whatever its name."""

from __future__ import annotations

import os
import re
import socket
import threading
from pathlib import Path

import av
import numpy as np
import pytest

from pixano_cli.errors import MediaReadError, PixanoAnnotateError, VideoError
from pixano_cli.media.videos import open_video

from .pictures import SAMPLES, encoded, photograph
from .videos import SIZE, numbers_of, read, write_video

KEY, KEY_ID = "00112233445566778899aabbccddeeff", "a7e61c373e219033c21091fa607bf3b8"


def refusal(path: Path) -> PixanoAnnotateError:
    frames, error = read(path)
    assert not frames
    assert error is not None
    assert "\n" not in str(error)
    return error


class TestNames:
    @pytest.mark.parametrize("name", ["a.avi", "a.mkv", "a.jpg", "a.txt", "a", "a.gif", "a.ts"])
    def test_an_mp4_is_read_whatever_its_name(self, tmp_path: Path, name: str) -> None:
        path = write_video(tmp_path / "a.mp4").rename(tmp_path / name)
        frames, error = read(path)
        assert error is None
        assert numbers_of(frames) == list(range(12))

    @pytest.mark.parametrize(
        "name",
        [
            "http:x.mp4",
            "concat:a.mp4",
            "%03d.mp4",
            "-i.mp4",
            "a b'\"$.mp4",
            "ü\u2028.mp4",
            "a?b#.mp4",
        ],
    )
    def test_odd_names(self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        write_video(tmp_path / "plain.mp4").rename(tmp_path / name)
        monkeypatch.chdir(tmp_path)
        assert len(read(Path(name))[0]) == 12

    def test_a_name_that_is_no_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / os.fsdecode(b"\xe9.mp4")
        write_video(tmp_path / "plain.mp4").rename(path)
        assert len(read(path)[0]) == 12


class TestNoVideo:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "AVIF"])
    def test_an_image(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "a.mp4"
        path.write_bytes(encoded(photograph(), kind))
        assert f"{kind} image, not a video" in str(refusal(path))

    def test_a_heic_image(self, tmp_path: Path) -> None:
        (tmp_path / "a.mov").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
        assert "HEIC image" in str(refusal(tmp_path / "a.mov"))

    @pytest.mark.parametrize(
        "text",
        [
            "This is a text.\n" * 30,
            "ffconcat version 1.0\nfile 'other.mp4'\n",
            "<?xml version='1.0'?><MPD/>",
        ],
    )
    def test_a_text(self, tmp_path: Path, text: str) -> None:
        write_video(tmp_path / "other.mp4")
        (tmp_path / "a.mp4").write_text(text)
        assert str(refusal(tmp_path / "a.mp4")).startswith("text, not a video")

    def test_a_playlist_asks_nobody(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            path = tmp_path / "a.m3u8"
            path.write_text(
                f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:{port}/a.ts\n"
                "#EXT-X-ENDLIST\n"
            )
            assert str(refusal(path)).startswith("text, not a video")
            server.settimeout(0.1)
            with pytest.raises(TimeoutError):
                server.accept()

    def test_an_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").touch()
        assert str(refusal(tmp_path / "a.mp4")) == "the file is empty"

    @pytest.mark.parametrize("seed", range(5))
    def test_rubbish(self, tmp_path: Path, seed: int) -> None:
        noise = np.random.default_rng(seed).bytes(5000)
        (tmp_path / "a.mp4").write_bytes(b"\x80" + noise)
        assert isinstance(refusal(tmp_path / "a.mp4"), VideoError)

    @pytest.mark.parametrize(
        ("name", "head"),
        [
            ("a.mkv", b"\x1aE\xdf\xa3"),
            ("a.avi", b"RIFF\0\0\0\0AVI "),
            ("a.mp4", b"\0\0\0\x18ftypisom"),
        ],
    )
    def test_a_header_and_nothing_else(self, tmp_path: Path, name: str, head: bytes) -> None:
        (tmp_path / name).write_bytes(head + bytes(300))
        assert "copy it again" in str(refusal(tmp_path / name))


class TestNoPicture:
    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.wav"])
    def test_sound_only(self, tmp_path: Path, name: str) -> None:
        with av.open(str(tmp_path / name), "w") as output:
            _add_sound(output)
        assert "no video" in str(refusal(tmp_path / name))

    def test_sound_with_a_cover(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mp4"
        with av.open(str(path), "w") as output:
            cover = output.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt = *SIZE, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            picture = av.VideoFrame.from_ndarray(photograph(), "rgb24")
            _add_sound(output, cover.encode(picture.reformat(*SIZE, "yuvj420p")))
        with av.open(str(path)) as container:
            assert container.streams.video
        assert "sound without a picture" in str(refusal(path))

    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.mov"])
    def test_no_frames(self, tmp_path: Path, name: str) -> None:
        with av.open(str(tmp_path / name), "w") as output:
            stream = output.add_stream("mpeg4", rate=25)
            stream.width, stream.height = SIZE
            output.start_encoding()
        assert re.match("no frames in it|no video stream in it", str(refusal(tmp_path / name)))

    def test_an_unknown_codec(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.mp4")
        path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
        assert "codec" in str(refusal(path))

    def test_encrypted(self, tmp_path: Path) -> None:
        scheme = {
            "encryption_scheme": "cenc-aes-ctr",
            "encryption_key": KEY,
            "encryption_kid": KEY_ID,
        }
        path = write_video(tmp_path / "a.mp4", container_options=scheme)
        assert "encrypted" in str(refusal(path))


class TestFiles:
    def test_a_missing_one(self, tmp_path: Path) -> None:
        error = refusal(tmp_path / "a.mp4")
        assert isinstance(error, MediaReadError)
        assert "no such file" in str(error)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_one_that_may_not_be_read(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.mp4")
        path.chmod(0)
        assert "permission denied" in str(refusal(path))

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.mp4")
        found: list[PixanoAnnotateError] = []
        thread = threading.Thread(target=lambda: found.append(refusal(tmp_path / "a.mp4")))
        thread.daemon = True
        thread.start()
        thread.join(20)
        assert "named pipe" in str(found[0])

    def test_a_device(self) -> None:
        assert "device" in str(refusal(Path("/dev/null")))

    def test_the_sample(self) -> None:
        with open_video(SAMPLES / "pan.mp4") as video:
            assert (video.facts.width, video.facts.height) == (384, 288)


def _add_sound(output: av.container.OutputContainer, before: object = ()) -> None:
    sound = output.add_stream("pcm_s16le" if output.format.name == "wav" else "aac", rate=48000)
    output.mux(before)  # type: ignore[arg-type]
    for index in range(10):
        samples = np.zeros((2, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, "fltp", "stereo")
        frame.sample_rate = 48000
        frame.pts = index * 1024
        output.mux(sound.encode(frame))
    output.mux(sound.encode(None))
