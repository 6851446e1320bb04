"""Where and when a photograph was taken, in every format, and in damaged and senseless blocks."""

from __future__ import annotations

import io
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from pixano_cli.media.capture import NOWHERE, Capture
from pixano_cli.media.identity import probe

PARIS = {1: "N", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 17.0, 40.2)}
AT_NOON = {0x9003: "2023:05:01 12:30:00"}


def picture(
    kind: str = "JPEG", gps: dict[int, Any] | None = None, taken: dict[int, Any] | None = None
) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "maker"  # Pillow writes no directories below an empty one.
    if gps is not None:
        exif.get_ifd(0x8825).update(gps)
    if taken is not None:
        exif.get_ifd(0x8769).update(taken)
    file = io.BytesIO()
    Image.new("RGB", (8, 6)).save(file, kind, exif=exif.tobytes())
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_is_read_in_every_format(kind: str) -> None:
    capture = probe(picture(kind, PARIS, AT_NOON)).capture
    assert capture.latitude == pytest.approx(48 + 51 / 60 + 30 / 3600, abs=1e-6)
    assert capture.longitude == pytest.approx(2 + 17 / 60 + 40.2 / 3600, abs=1e-6)
    assert capture.captured_at == "2023-05-01T12:30:00"


@given(
    st.tuples(st.integers(0, 89), st.integers(0, 59), st.integers(0, 59), st.sampled_from("NS")),
    st.tuples(st.integers(0, 179), st.integers(0, 59), st.integers(0, 59), st.sampled_from("EW")),
)
def test_any_place_is_read(
    latitude: tuple[int, int, int, str], longitude: tuple[int, int, int, str]
) -> None:
    gps = {1: latitude[3], 2: latitude[:3], 3: longitude[3], 4: longitude[:3]}
    capture = probe(picture(gps=gps)).capture
    for found, (degrees, minutes, seconds, letter) in (
        (capture.latitude, latitude),
        (capture.longitude, longitude),
    ):
        sign = -1 if letter in "SW" else 1
        assert found == pytest.approx(sign * (degrees * 3600 + minutes * 60 + seconds) / 3600)


@pytest.mark.parametrize(
    "wrong",
    [
        {1: ""},
        {1: "E"},
        {2: (91.0, 0.0, 0.0)},
        {2: (IFDRational(0, 0), IFDRational(0, 0), IFDRational(0, 0))},
        {4: (180.0, 0.0, 1.0)},
        {3: None},
        {4: None},
    ],
)
def test_senseless_place_is_none(wrong: dict[int, Any]) -> None:
    gps = {tag: value for tag, value in (PARIS | wrong).items() if value is not None}
    assert probe(picture(gps=gps)).capture == NOWHERE


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({0x9003: "2023:05:01 12:30:00", 0x9011: "+02:00"}, "2023-05-01T12:30:00+02:00"),
        ({0x9003: "2023:05:01 12:30:00", 0x9011: "nonsense"}, "2023-05-01T12:30:00"),
        ({0x9003: "2023:05:01 12:30:00", 0x9291: "25"}, "2023-05-01T12:30:00.250000"),
        ({0x9004: "2023:05:01 12:30:00"}, "2023-05-01T12:30:00"),
        ({0x9003: "0000:00:00 00:00:00", 0x9004: "2023:05:01 12:30:00"}, "2023-05-01T12:30:00"),
        ({0x9003: "    :  :     :  :  "}, None),
        ({0x9003: "2023:02:30 12:30:00"}, None),
    ],
)
def test_time_is_read_as_the_camera_wrote_it(tags: dict[int, str], expected: str | None) -> None:
    assert probe(picture(taken=tags)).capture.captured_at == expected


def test_picture_without_exif_is_nowhere() -> None:
    assert probe(picture()).capture == NOWHERE == Capture()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(st.binary(max_size=200), st.integers(0, 150))
def test_damaged_directories_never_fail_the_picture(garbage: bytes, at: int) -> None:
    """Only IFD0, which holds the orientation, is needed; the others may be anything."""
    head = b"II*\0" + struct.pack("<LH", 8, 2)
    entries = struct.pack("<HHLL", 0x8769, 4, 1, at) + struct.pack("<HHLL", 0x8825, 4, 1, at + 7)
    file = io.BytesIO()
    Image.new("RGB", (8, 6)).save(file, "JPEG", exif=b"Exif\0\0" + head + entries + garbage)
    capture = probe(file.getvalue()).capture
    assert capture.latitude is None or math.isfinite(capture.latitude)
