"""Previews, as PyAV reads them, and what is drawn in them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import inf, nan
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pixano_cli import rle
from pixano_cli.annotations import AnnotatedImage, Annotation
from pixano_cli.errors import MediaReadError, OutputError
from pixano_cli.formats import preview
from pixano_cli.formats.drawing import COLOURS, caption_of, colour_of, draw
from pixano_cli.formats.mask_crop import decode_crop
from pixano_cli.formats.preview import write_preview
from pixano_cli.media.decode import RGBImage

from .samples import boxed, masked, writes_files
from .videos import frame, tracked

GREY = 90


def plain(height: int = 48, width: int = 64, shade: int = GREY) -> RGBImage:
    return np.full((height, width, 3), shade, np.uint8)


def read(path: Path) -> list[tuple[float, NDArray[np.uint8]]]:
    with av.open(str(path)) as video:
        return [
            (each.time or 0.0, each.to_ndarray(format="rgb24").astype(np.uint8))
            for each in video.decode(video=0)
        ]


def length(path: Path) -> float:
    """How many seconds the file says it is long."""
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        assert stream.duration is not None
        assert stream.time_base is not None
        return float(stream.duration * stream.time_base)


def frames(count: int, *annotations: Annotation) -> Iterator[tuple[RGBImage, AnnotatedImage]]:
    for at in range(count):
        yield plain(), frame("a.mp4", at, *annotations, timestamp_s=at / 25)


def test_the_frames_are_there_with_what_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "new" / "preview.mp4"
    cat = tracked(masked("cat", slice(10, 30), slice(20, 50)), 1)
    write_preview(frames(12, cat), path, 25)
    assert [*path.parent.iterdir()] == [path]
    shown = read(path)
    assert [round(seconds, 6) for seconds, _ in shown] == [at / 25 for at in range(12)]
    for _, pixels in shown:
        assert pixels.shape == (48, 64, 3)
        # Inside the mask, the colour of the track over the grey; outside, the grey.
        tint = GREY + (np.array(COLOURS[0]) - GREY) * (100 / 255)
        assert np.abs(pixels[18:22, 33:37].mean((0, 1)) - tint).max() < 6
        assert np.abs(pixels[2:6, 2:6].mean((0, 1)) - GREY).max() < 6
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.frames == 12
    assert length(path) == pytest.approx(12 / 25)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index comes first"


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 1), (3, 2)])
def test_odd_sides_gain_a_row_or_column_like_the_last(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    pixels = plain(*size, shade=0)
    pixels[-1, :] = 255
    pixels[:, -1] = 255
    write_preview([(pixels, frame("a.mp4", 0))] * 3, tmp_path / "preview.mp4", 30)
    for _, shown in read(tmp_path / "preview.mp4"):
        assert shown.shape[:2] == (size[0] + size[0] % 2, size[1] + size[1] % 2)
        assert shown[-1, :].min() > 230
        assert shown[:, -1].min() > 230


def test_a_frame_of_another_size_is_made_to_fit(tmp_path: Path) -> None:
    sizes = [(48, 64), (96, 64), (48, 64)]
    made = [(plain(*size, shade=250), frame("a", at)) for at, size in enumerate(sizes)]
    write_preview(made, tmp_path / "preview.mp4", 30)
    shown = [pixels for _, pixels in read(tmp_path / "preview.mp4")]
    assert [pixels.shape for pixels in shown] == [(48, 64, 3)] * 3
    assert [pixels[24, 2].max() > 128 for pixels in shown] == [True, False, True]
    assert all(pixels[24, 32].min() > 240 for pixels in shown)


@pytest.mark.parametrize(
    ("given_s", "expected_s"),
    [
        ([0.0, 0.04, 0.2, 0.21, 1.5], [0, 0.04, 0.2, 0.21, 1.5]),
        ([7.0, 7.04, 7.2], [0, 0.04, 0.2]),
        ([-1.0, 0.5], [0, 1.5]),
        ([None, None, None], [0, 0.04, 0.08]),
        ([0.0, None, 0.5], [0, 0.04, 0.5]),
        # A clock that stands, goes back, jumps or is broken goes on at the usual rate.
        ([0.0, 0.0, 0.1, 0.05, 0.15], [0, 0.04, 0.14, 0.18, 0.28]),
        ([0.0, 1e9, 1e9 + 0.5], [0, 0.04, 0.54]),
        ([0.0, nan, 0.2, inf, 0.3], [0, 0.04, 0.2, 0.24, 0.3]),
        ([nan, 700.1, 700.2], [0, 0.04, 0.14]),
    ],
)
def test_frames_are_shown_when_they_say(
    tmp_path: Path, given_s: Sequence[float | None], expected_s: Sequence[float]
) -> None:
    made = [(plain(), frame("a.mp4", at, timestamp_s=when)) for at, when in enumerate(given_s)]
    write_preview(made, tmp_path / "preview.mp4", 25)
    shown = [seconds for seconds, _ in read(tmp_path / "preview.mp4")]
    assert shown == pytest.approx(expected_s, abs=1e-4)
    assert length(tmp_path / "preview.mp4") == pytest.approx(expected_s[-1] + 0.04, abs=1e-4)


@pytest.mark.parametrize("rate", [24000 / 1001, 30000 / 1001, 50.0, 7.3])
def test_a_long_video_does_not_drift(rate: float) -> None:
    clock = preview._Clock(rate)
    ticks = [clock.ticks(at / rate) for at in range(20_000)]
    assert all(later > earlier for earlier, later in pairwise(ticks))
    assert ticks[-1] / preview.TICKS == pytest.approx(19_999 / rate, abs=1e-4)


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    cat = tracked(masked("cat", slice(10, 30), slice(20, 50)), 1)
    noise = np.random.default_rng(0).integers(0, 255, (6, 240, 320, 3), np.uint8)
    made = [(each, frame("a.mp4", at, cat)) for at, each in enumerate(noise)]
    for name in ("a.mp4", "b.mp4"):
        write_preview(made, tmp_path / name, 29.97)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_without_h264_it_is_mpeg4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = {"no-such-encoder": {}, "mpeg4": preview.ENCODERS["mpeg4"]}
    monkeypatch.setattr(preview, "ENCODERS", others)
    write_preview(frames(5), tmp_path / "preview.mp4", 25)
    with av.open(str(tmp_path / "preview.mp4")) as video:
        assert video.streams.video[0].codec_context.name == "mpeg4"
    assert [round(seconds, 6) for seconds, _ in read(tmp_path / "preview.mp4")] == [
        at / 25 for at in range(5)
    ]
    monkeypatch.setattr(preview, "ENCODERS", {"no-such-encoder": {}})
    with pytest.raises(OutputError, match="without any of no-such-encoder"):
        write_preview(frames(5), tmp_path / "preview.mp4", 25)


def test_no_frame_and_a_failure_leave_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "preview.mp4"
    path.write_text("earlier")
    with pytest.raises(OutputError, match=r"preview\.mp4: there is no frame to show"):
        write_preview([], path, 25)

    def failing() -> Iterator[tuple[RGBImage, AnnotatedImage]]:
        yield from frames(5)
        raise MediaReadError("gone")

    with pytest.raises(MediaReadError, match="gone"):
        write_preview(failing(), path, 25)
    assert path.read_text() == "earlier"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_a_disk_without_room_leaves_the_earlier_file(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "preview.mp4"
    path.write_text("earlier")
    noise = np.random.default_rng(0).integers(0, 255, (40, 240, 320, 3), np.uint8)
    made = [(each, frame("a.mp4", at)) for at, each in enumerate(noise)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, hard))
    try:
        with pytest.raises(OutputError, match=r"preview\.mp4: File too large"):
            write_preview(made, path, 25)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "earlier"
    assert [*tmp_path.iterdir()] == [path]


def test_a_track_keeps_its_colour_and_its_neighbour_has_another() -> None:
    early = tracked(boxed("cat", 1, 2, 3, 4), 5, 0.9)
    late = tracked(boxed("cup", 30, 20, 40, 40), 5, 0.1)
    assert colour_of(early) == colour_of(late)
    assert len({colour_of(tracked(early, at)) for at in range(1, 17)}) == len(COLOURS) == 16
    assert colour_of(boxed("cat", 1, 2, 3, 4)) == colour_of(boxed("cat", 5, 6, 7, 8))


@pytest.mark.parametrize(
    ("label", "track_id", "score", "caption"),
    [
        ("cat", 3, 0.871, "cat #3  0.87"),
        ("cat", None, 1.0, "cat  1.00"),
        ("cat", 3, None, "cat #3"),
        ("père\nNoël", None, None, "pere Noel"),
        ("猫", 12, None, "? #12"),
        (
            "a very long label that says far too much",
            1,
            None,
            "a very long label that says f... #1",
        ),
    ],
)
def test_captions(label: str, track_id: int | None, score: float | None, caption: str) -> None:
    box = boxed("cat", 1, 2, 3, 4).box
    assert caption_of(Annotation(label, score, box, 4.0, None, track_id)) == caption


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_captions_can_be_read_on_any_ground(shade: int) -> None:
    """Behind every caption lies its track's colour, and its letters differ from that clearly."""
    for track_id, colour in enumerate(COLOURS, start=1):
        cat = tracked(boxed("cat", 20, 30, 60, 46), track_id)
        drawn = draw(plain(120, 160, shade), [cat]).astype(int)
        tag = drawn[16:30, 20:50].reshape(-1, 3)
        assert (tag == colour).all(axis=1).sum() > len(tag) // 3
        light = tag @ np.array([0.299, 0.587, 0.114])
        assert np.ptp(light) > 90


def test_drawing_leaves_the_picture_and_what_is_far_from_objects() -> None:
    picture = plain(240, 320)
    cat = tracked(masked("cat", slice(10, 30), slice(20, 50)), 1)
    drawn = draw(picture, [cat])
    assert (picture == GREY).all()
    assert (drawn[100:] == GREY).all()
    assert (drawn[:, 200:] == GREY).all()
    assert not (drawn[10:30, 20:50] == GREY).all(axis=2).any()
    assert np.array_equal(draw(picture, []), picture)


def test_objects_at_the_edges_and_in_the_smallest_pictures_are_drawn() -> None:
    for height, width in [(1, 1), (2, 200), (200, 2), (480, 640)]:
        mask = rle.encode(np.ones((height, width), bool))
        box = (0.0, 0.0, float(width), float(height))
        whole = Annotation("cat", 0.5, type(boxed("cat", 1, 2, 3, 4).box)(*box), 1.0, mask, 1)
        drawn = draw(plain(height, width), [whole, whole])
        assert drawn.shape == (height, width, 3)
        assert not (drawn == GREY).all(axis=2).any()


@writes_files
@given(mask=hnp.arrays(np.bool_, st.tuples(st.integers(1, 30), st.integers(1, 30))))
def test_a_crop_is_the_mask_inside_its_box(mask: NDArray[np.bool_]) -> None:
    encoded = rle.encode(mask)
    crop = decode_crop(encoded)
    left, top, right, bottom = map(int, rle.bounding_box(encoded))
    assert crop.inside.shape == (bottom - top, right - left)
    again = np.zeros_like(mask)
    again[crop.place] = crop.inside
    assert np.array_equal(again, mask)


WRITE = """
import sys
from pathlib import Path
import numpy as np
from pixano_cli import rle
from pixano_cli.annotations import AnnotatedImage, Annotation, Box
from pixano_cli.formats.preview import write_preview

mask = np.zeros((240, 320), bool)
mask[20:120, 40:200] = True
mask = rle.encode(mask)
cat = Annotation("cat", 0.5, Box(40, 20, 200, 120), 16000.0, mask, 1)

def frames(count):
    for at in range(count):
        pixels = np.roll(np.arange(240 * 320 * 3, dtype=np.uint32), at).astype(np.uint8)
        yield pixels.reshape(240, 320, 3), AnnotatedImage("", "", 320, 240, 1, (cat,))

write_preview(frames(int(sys.argv[2])), Path(sys.argv[1]), 25)
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_longer_video_needs_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for count in (60, 600):
        run = subprocess.run(
            [sys.executable, "-c", WRITE, str(tmp_path / "preview.mp4"), str(count)],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(run.stdout) / 1e6)
    assert peaks[1] - peaks[0] < 15
