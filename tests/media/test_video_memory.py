"""However long a video is, reading it takes the same memory, and so does telling its digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from .videos import numbered, peak_mib, squares_gif, write_video

SIZE = (320, 240)
READ = """
import sys
from pathlib import Path
from pixano_cli.media.videos import open_video
count = 0
with open_video(Path(sys.argv[1])) as video:
    for frame in video.frames():
        count += frame.image().shape[2]
assert count == 3 * int(sys.argv[2]), count
"""
DIGEST = """
import sys
from pathlib import Path
from pixano_cli.media.video_identity import digest_of
assert digest_of(Path(sys.argv[1]))[1] == int(sys.argv[2])
"""


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        pytest.param("a.avi", "mpeg4", marks=pytest.mark.long),
        pytest.param("a.webm", "libvpx", marks=pytest.mark.long),
    ],
)
def test_of_a_video_file(tmp_path: Path, name: str, codec: str) -> None:
    options = {
        "libx264": {"preset": "ultrafast"},
        "libvpx": {"cpu-used": "16", "deadline": "realtime"},
    }
    picture = numbered(0, SIZE)
    peaks = []
    for count in (300, 3000):
        path = tmp_path / f"{count}-{name}"
        pictures = (picture for _ in range(count))
        write_video(path, codec=codec, size=SIZE, pictures=pictures, options=options.get(codec, {}))
        peaks.append(peak_mib(READ, path, count))
    assert peaks[1] - peaks[0] < 30


def test_of_a_gif(tmp_path: Path) -> None:
    peaks = []
    for count in (300, 3000):
        path = tmp_path / f"{count}.gif"
        squares = [(index % 300, index % 200, 1, index % 3 + 1) for index in range(count)]
        path.write_bytes(squares_gif(squares, SIZE))
        peaks.append(peak_mib(READ, path, count))
    assert peaks[1] - peaks[0] < 30


def test_of_a_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with path.open("wb") as file:
        file.truncate(400 * 2**20)
    small = tmp_path / "b.mp4"
    small.write_bytes(bytes(1000))
    peaks = [peak_mib(DIGEST, each, each.stat().st_size) for each in (small, path)]
    assert peaks[1] - peaks[0] < 30
