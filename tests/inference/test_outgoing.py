"""Images as they go out: upright, in a format that every server reads, and as large as allowed."""

import asyncio
import base64
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixano_cli.inference.providers.outgoing import Outgoing, outgoing, outgoing_soon
from pixano_cli.media.decode import decode_image

from .remote import data_url, encoded, png

CHELSEA = Path(__file__).parents[2] / "sample_data" / "chelsea.png"


def sent(data: bytes, max_side: int | None = None) -> tuple[bytes, str, Outgoing]:
    url = data_url(data, "image/x")
    gone = outgoing(url, max_side)
    assert asyncio.run(outgoing_soon(url, max_side)) == gone
    kind, _, rest = gone.url.partition(";base64,")
    return base64.b64decode(rest), kind.removeprefix("data:"), gone


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("PNG", "RGB"),
        ("PNG", "L"),
        ("PNG", "1"),
        ("PNG", "P"),
        ("WEBP", "RGB"),
    ],
)
def test_a_plain_picture_goes_as_it_is(kind: str, mode: str) -> None:
    image = Image.open(io.BytesIO(png(40, 30))).convert(mode)
    for exif in (b"", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x01\0\0\0\0\0\0"):
        data = encoded(image, kind, exif=exif)
        body, media, gone = sent(data)
        assert body == data
        assert media == f"image/{kind.lower()}"
        assert (gone.width, gone.height, gone.displayed) == (40, 30, (40, 30))
        assert gone.scale == (1.0, 1.0)
        assert sent(data, 40)[0] == data


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_picture_goes_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.open(io.BytesIO(png(40, 30))), "PNG", exif=exif)
    body, media, gone = sent(data)
    assert media == "image/png"
    upright = decode_image(data)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(body))), upright)
    assert not Image.open(io.BytesIO(body)).getexif()
    assert (gone.height, gone.width) == upright.shape[:2]
    photo = encoded(Image.open(CHELSEA), "JPEG", exif=exif, quality=90)
    body, media, gone = sent(photo)
    assert media == "image/jpeg"
    difference = np.abs(decode_image(body).astype(int) - decode_image(photo))
    assert difference.mean() < 1.5
    assert difference.max() < 30


@pytest.mark.parametrize(
    ("kind", "mode", "media"),
    [
        ("PNG", "RGBA", "image/png"),
        ("PNG", "LA", "image/png"),
        ("TIFF", "RGB", "image/png"),
        ("BMP", "RGB", "image/png"),
        ("GIF", "P", "image/png"),
        ("JPEG", "CMYK", "image/jpeg"),
        ("WEBP", "RGBA", "image/jpeg"),
    ],
)
def test_what_servers_read_differently_goes_as_we_see_it(kind: str, mode: str, media: str) -> None:
    image = Image.open(io.BytesIO(png(16, 12, "RGBA" if mode == "LA" else mode)))
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(image.convert(mode), kind, **lossless)
    body, got, _ = sent(data)
    assert got == media
    found = np.asarray(Image.open(io.BytesIO(body)).convert("RGB")).astype(int)
    assert np.abs(found - decode_image(data)).max() <= (0 if media == "image/png" else 40)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_colour_that_stands_for_nothing(mode: str) -> None:
    image = Image.open(io.BytesIO(png(16, 12))).convert(mode)
    clear = image.getpixel((3, 3))
    data = encoded(image, "PNG", transparency=clear)
    assert decode_image(data)[3, 3].tolist() == [255, 255, 255]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(sent(data)[0]))), decode_image(data))


def test_16_bits_and_many_frames() -> None:
    deep = np.linspace(0, 65535, 12 * 16, dtype=np.uint16).reshape(12, 16)
    data = encoded(Image.fromarray(deep), "PNG")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(sent(data)[0]))), decode_image(data))
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    moving = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    body, media, _ = sent(moving)
    assert media == "image/jpeg"
    assert getattr(Image.open(io.BytesIO(body)), "n_frames", 1) == 1
    assert decode_image(body)[0, 0, 0] > 200


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 100),
    st.sampled_from([1, 6]),
    st.sampled_from(["PNG", "JPEG"]),
)
@settings(max_examples=60)
def test_no_side_is_longer_than_allowed(
    width: int, height: int, max_side: int, orientation: int, kind: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.new("RGB", (width, height), (9, 99, 199)), kind, exif=exif)
    body, _, gone = sent(data, max_side)
    shown = decode_image(body)
    assert (gone.height, gone.width) == shown.shape[:2]
    assert max(gone.width, gone.height) == min(max_side, max(width, height))
    assert gone.displayed == ((height, width) if orientation == 6 else (width, height))
    for side, whole, scale in zip(
        (gone.width, gone.height), gone.displayed, gone.scale, strict=True
    ):
        assert side * scale == pytest.approx(whole)
        assert side == max(1, round(whole * min(1, max_side / max(width, height))))
    assert np.abs(shown.astype(int) - (9, 99, 199)).max() <= 6
