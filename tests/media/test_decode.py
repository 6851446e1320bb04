"""Pixels come out upright and right whatever the format and mode."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from pixano_cli.errors import ImageDecodeError
from pixano_cli.media.decode import decode_image
from pixano_cli.media.identity import ImageFacts, exif_orientation, probe

from .pictures import SAMPLES, Pixels, as_stored, encoded, exif_block, photograph, png_chunk

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}
LOSSY: dict[str, dict[str, Any]] = {kind: {"quality": 90} for kind in ("JPEG", "WEBP", "AVIF")}


@pytest.fixture
def picture() -> Pixels:
    return photograph()


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", LOSSLESS)
    def test_lossless_pixels_are_those_of_the_upright_image(
        self, kind: str, orientation: int, picture: Pixels
    ) -> None:
        data = encoded(
            as_stored(picture, orientation), kind, exif=exif_block(orientation), **LOSSLESS[kind]
        )
        pixels = decode_image(data)
        np.testing.assert_array_equal(pixels, picture)
        assert pixels.flags.c_contiguous
        assert pixels.dtype == np.uint8
        assert probe(data) == ImageFacts(96, 56, orientation, kind)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", LOSSY)
    def test_lossy_pixels_are_the_stored_ones_turned(
        self, kind: str, orientation: int, picture: Pixels
    ) -> None:
        stored = as_stored(picture, orientation)
        without = decode_image(encoded(stored, kind, **LOSSY[kind]))
        data = encoded(stored, kind, exif=exif_block(orientation), **LOSSY[kind])
        pixels = decode_image(data)
        np.testing.assert_array_equal(as_stored(pixels, orientation), without)
        assert np.abs(pixels.astype(int) - picture).mean() < 6
        assert probe(data) == ImageFacts(96, 56, orientation, kind)

    @pytest.mark.parametrize("value", [0, 9, 6000])
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
    def test_a_value_without_meaning_is_upright(
        self, kind: str, value: int, picture: Pixels
    ) -> None:
        data = encoded(picture, kind, exif=exif_block(value))
        assert probe(data) == ImageFacts(96, 56, 1, kind)
        np.testing.assert_array_equal(decode_image(data), decode_image(encoded(picture, kind)))

    def test_a_png_may_tell_it_behind_the_pixels(self, picture: Pixels) -> None:
        plain = encoded(as_stored(picture, 6), "PNG")
        end = plain.rindex(b"IEND") - 4
        data = plain[:end] + png_chunk(b"eXIf", exif_block(6)[6:]) + plain[end:]
        assert probe(data) == ImageFacts(96, 56, 6, "PNG")
        np.testing.assert_array_equal(decode_image(data), picture)

    def test_xmp_is_not_heeded(self, picture: Pixels) -> None:
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
        for data in (
            encoded(picture, "TIFF", tiffinfo={700: xmp}),
            encoded(picture, "WEBP", xmp=xmp, lossless=True),
        ):
            assert probe(data).orientation == 1
            np.testing.assert_array_equal(decode_image(data), picture)

    @given(
        order=st.sampled_from("<>"),
        orientation=st.integers(1, 8),
        tags=st.lists(st.integers(0, 0xFFFF).filter(lambda tag: tag != 0x0112), max_size=5),
        start=st.integers(8, 40),
        identifiers=st.integers(0, 2),
        is_long=st.booleans(),
    )
    def test_it_is_found_wherever_it_is_in_the_block(
        self,
        order: str,
        orientation: int,
        tags: list[int],
        start: int,
        identifiers: int,
        is_long: bool,
    ) -> None:
        directory = struct.pack(order + "H", len(tags) + 1)
        for tag in tags:
            directory += struct.pack(order + "HHLL", tag, 4, 1, 0xFFFFFFFF)
        directory += struct.pack(
            order + ("HHLL" if is_long else "HHLHxx"), 0x0112, 4 if is_long else 3, 1, orientation
        )
        mark = b"II*\0" if order == "<" else b"MM\0*"
        block = mark + struct.pack(order + "L", start) + bytes(start - 8) + directory
        assert exif_orientation(b"Exif\0\0" * identifiers + block) == orientation

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
    @pytest.mark.parametrize(
        "block",
        [
            b"Exif\0\0" + b"no TIFF header at all",
            b"Exif\0\0" + b"II",
            b"Exif\0\0" + b"II*\0" + struct.pack("<L", 5000) + bytes(20),
            b"Exif\0\0" + b"MM\0*" + struct.pack(">L", 0xFFFFFFFF) + bytes(20),
            b"Exif\0\0" + b"II*\0" + struct.pack("<LH", 8, 40) + bytes(30),
            exif_block(6)[:12],
        ],
        ids=["no header", "header cut", "outside", "far outside", "too many", "cut"],
    )
    def test_a_broken_block_is_an_error(self, kind: str, block: bytes, picture: Pixels) -> None:
        data = encoded(picture, kind, exif=block)
        for read in (probe, decode_image):
            with pytest.raises(
                ImageDecodeError, match=r"^broken EXIF block .*rewrite or strip it$"
            ):
                read(data)

    def test_a_block_without_content_tells_nothing(self) -> None:
        assert exif_orientation(b"Exif\0\0") == 1


class TestMode:
    def test_grey(self, picture: Pixels) -> None:
        grey = Image.fromarray(picture).convert("L")
        expected = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
        for kind in ("PNG", "TIFF", "BMP", "GIF"):
            np.testing.assert_array_equal(decode_image(encoded(grey, kind)), expected)
        assert decode_image(encoded(grey, "JPEG")).shape == (56, 96, 3)

    def test_one_bit(self, picture: Pixels) -> None:
        image = Image.fromarray(picture).convert("1")
        expected = np.where(np.asarray(image)[..., None], 255, 0).repeat(3, axis=2)
        for kind in ("PNG", "TIFF", "BMP", "GIF"):
            np.testing.assert_array_equal(decode_image(encoded(image, kind)), expected)

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
    def test_palette(self, kind: str, picture: Pixels) -> None:
        image = Image.fromarray(picture).quantize(64)
        data = encoded(image, kind)
        np.testing.assert_array_equal(decode_image(data), np.asarray(image.convert("RGB")))

    @pytest.mark.parametrize("kind", ["PNG", "GIF"])
    def test_transparent_palette_entry_is_white(self, kind: str, picture: Pixels) -> None:
        image = Image.fromarray(picture).quantize(16)
        hidden = np.asarray(image) == 3
        assert hidden.any()
        pixels = decode_image(encoded(image, kind, transparency=3))
        assert (pixels[hidden] == 255).all()
        np.testing.assert_array_equal(pixels[~hidden], np.asarray(image.convert("RGB"))[~hidden])

    def test_half_transparent_palette_entries(self, picture: Pixels) -> None:
        image = Image.fromarray(picture).quantize(8)
        alphas = bytes(range(0, 256, 36))
        pixels = decode_image(encoded(image, "PNG", transparency=alphas))
        alpha = np.frombuffer(alphas, np.uint8)[np.asarray(image)][..., None] / 255
        expected = np.asarray(image.convert("RGB")) * alpha + 255 * (1 - alpha)
        np.testing.assert_allclose(pixels, expected, atol=1)

    def test_transparent_colour_is_white(self, picture: Pixels) -> None:
        pixels = picture.copy()
        pixels[10:20, 10:20] = (1, 2, 3)
        decoded = decode_image(encoded(pixels, "PNG", transparency=(1, 2, 3)))
        assert (decoded[10:20, 10:20] == 255).all()
        np.testing.assert_array_equal(decoded[:10], pixels[:10])

    @pytest.mark.parametrize(
        ("kind", "options"),
        [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})],
    )
    def test_alpha_is_shown_on_white(
        self, kind: str, options: dict[str, bool], picture: Pixels
    ) -> None:
        alpha = np.linspace(0, 255, picture.shape[0]).astype(np.uint8)[:, None, None]
        alpha = np.broadcast_to(alpha, (*picture.shape[:2], 1))
        data = encoded(np.concatenate([picture, alpha], axis=2), kind, **options)
        share = alpha / 255
        np.testing.assert_allclose(decode_image(data), picture * share + 255 * (1 - share), atol=1)

    def test_grey_alpha(self, picture: Pixels) -> None:
        grey = picture[..., :1]
        alpha = np.full_like(grey, 102)
        data = encoded(np.concatenate([grey, alpha], axis=2), "PNG")
        expected = np.repeat(grey * 0.4 + 255 * 0.6, 3, axis=2)
        np.testing.assert_allclose(decode_image(data), expected, atol=1)

    def test_opaque_alpha_changes_nothing(self, picture: Pixels) -> None:
        alpha = np.full((*picture.shape[:2], 1), 255, np.uint8)
        data = encoded(np.concatenate([picture, alpha], axis=2), "PNG")
        np.testing.assert_array_equal(decode_image(data), picture)

    def test_unused_alpha_of_a_bmp(self, picture: Pixels) -> None:
        unused = np.zeros((*picture.shape[:2], 1), np.uint8)
        image = Image.fromarray(np.concatenate([picture, unused], axis=2))
        np.testing.assert_array_equal(decode_image(encoded(image, "BMP")), picture)
        assert (decode_image(encoded(image, "PNG")) == 255).all()

    @pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
    def test_cmyk(self, kind: str, picture: Pixels) -> None:
        image = Image.fromarray(picture).convert("CMYK")
        options = {"quality": 95} if kind == "JPEG" else {}
        pixels = decode_image(encoded(image, kind, **options))
        assert np.abs(pixels.astype(int) - picture).mean() < 4

    def test_ycbcr(self, picture: Pixels) -> None:
        image = Image.fromarray(picture).convert("YCbCr")
        pixels = decode_image(encoded(image, "TIFF", compression="tiff_lzw"))
        np.testing.assert_allclose(pixels, picture, atol=3)

    def test_lab(self, picture: Pixels) -> None:
        rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        transform = ImageCms.buildTransform(rgb, lab, "RGB", "LAB")
        image = ImageCms.applyTransform(Image.fromarray(picture), transform)
        assert image is not None
        pixels = decode_image(encoded(image, "TIFF"))
        assert np.abs(pixels.astype(int) - picture).mean() < 3

    @pytest.mark.parametrize("mode", ["I;16", "I;16B"])
    @pytest.mark.parametrize("orientation", [1, 6])
    def test_16_bit_grey_tiff_uses_the_full_range(self, mode: str, orientation: int) -> None:
        values = np.linspace(0, 65535, 40 * 30).round().astype("<u2").reshape(30, 40)
        image = Image.fromarray(values)
        if mode == "I;16B":
            image = Image.frombytes("I;16B", (40, 30), values.astype(">u2").tobytes())
        assert image.mode == mode
        expected = np.repeat((values / 257).round().astype(np.uint8)[..., None], 3, axis=2)
        pixels = decode_image(encoded(image, "TIFF", exif=exif_block(orientation)))
        np.testing.assert_array_equal(as_stored(pixels, orientation), expected)
        assert (pixels.min(), pixels.max()) == (0, 255)

    def test_16_bit_grey_png(self) -> None:
        values = np.linspace(0, 65535, 1200).round().astype("<u2").reshape(30, 40)
        pixels = decode_image(encoded(Image.fromarray(values), "PNG"))
        np.testing.assert_array_equal(pixels[..., 1], (values / 257).round())

    def test_12_bit_grey_tiff(self) -> None:
        # Two 12-bit values in three bytes: black and white, then 0x800 and 0x7FF.
        rows = bytes([0x00, 0x0F, 0xFF, 0x80, 0x07, 0xFF])
        tags = [(256, 3, 4), (257, 3, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (277, 3, 1)]
        tags += [(278, 3, 1), (279, 4, len(rows)), (273, 4, 8 + 2 + 12 * 9 + 4)]
        data = b"II*\0" + struct.pack("<LH", 8, len(tags))
        for tag, kind, value in sorted(tags):
            data += struct.pack("<HHLL", tag, kind, 1, value)
        data += bytes(4) + rows
        assert decode_image(data)[0, :, 0].tolist() == [0, 255, 128, 127]

    def test_16_bit_colour_png(self) -> None:
        values = np.array([[[0, 0x80FF, 0xFFFF]]], ">u2")
        head = struct.pack(">LLBBBBB", 1, 1, 16, 2, 0, 0, 0)
        data = (
            b"\x89PNG\r\n\x1a\n"
            + png_chunk(b"IHDR", head)
            + png_chunk(b"IDAT", zlib.compress(b"\0" + values.tobytes()))
            + png_chunk(b"IEND", b"")
        )
        assert decode_image(data).tolist() == [[[0, 0x80, 255]]]

    def test_float(self) -> None:
        unit = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
        pixels = decode_image(encoded(Image.fromarray(unit), "TIFF"))
        np.testing.assert_array_equal(pixels[..., 0].ravel(), np.arange(256))
        wide = unit * 5000 - 1000
        pixels = decode_image(encoded(Image.fromarray(wide), "TIFF"))
        np.testing.assert_allclose(pixels[..., 0].ravel(), np.arange(256), atol=1)

    @pytest.mark.filterwarnings("error::RuntimeWarning")
    def test_float_that_is_no_number(self) -> None:
        values = np.array([[np.nan, -np.inf, 0.0, 1.0, np.inf]], np.float32)
        pixels = decode_image(encoded(Image.fromarray(values), "TIFF"))
        assert pixels[0, :, 0].tolist() == [0, 0, 0, 255, 255]
        nothing = np.full((2, 2), np.nan, np.float32)
        assert not decode_image(encoded(Image.fromarray(nothing), "TIFF")).all()

    def test_32_bit_integers(self) -> None:
        short = np.array([[0, 257, 65535]], np.int32)
        assert decode_image(encoded(Image.fromarray(short), "TIFF"))[0, :, 0].tolist() == [
            0,
            1,
            255,
        ]
        long = np.array([[-1000, 0, 1_000_000]], np.int32)
        assert decode_image(encoded(Image.fromarray(long), "TIFF"))[0, :, 0].tolist() == [0, 0, 255]


class TestFirstPicture:
    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("GIF", {}),
            ("PNG", {}),
            ("WEBP", {"lossless": True}),
            ("TIFF", {}),
            ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
            ("MPO", {"quality": 95}),
        ],
    )
    def test_of_several(self, kind: str, options: dict[str, object], picture: Pixels) -> None:
        first = Image.fromarray(picture).quantize(200).convert("RGB")
        others = [Image.new("RGB", first.size, colour) for colour in ("red", "blue")]
        data = encoded(first, kind, save_all=True, append_images=others, **options)
        facts = probe(data)
        assert facts == ImageFacts(96, 56, 1, "JPEG" if kind == "MPO" else kind)
        difference = decode_image(data).astype(int) - np.asarray(first)
        assert np.abs(difference).mean() < 3


class TestReducedScale:
    @given(
        size=st.tuples(st.integers(1, 700), st.integers(1, 700)),
        wanted=st.tuples(st.integers(0, 800), st.integers(0, 800)),
        orientation=st.integers(1, 8),
    )
    def test_no_smaller_than_asked(
        self, size: tuple[int, int], wanted: tuple[int, int], orientation: int
    ) -> None:
        data = encoded(Image.new("L", size), "JPEG", exif=exif_block(orientation))
        facts = probe(data)
        height, width, _ = decode_image(data, wanted).shape
        assert width >= min(wanted[0], facts.width)
        assert height >= min(wanted[1], facts.height)
        scale = round(facts.width / width) if facts.width >= 64 else None
        assert scale in (None, 1, 2, 4, 8)

    @pytest.mark.parametrize("orientation", [1, 6])
    def test_it_is_the_same_picture(self, orientation: int, picture: Pixels) -> None:
        large = Image.fromarray(as_stored(picture, orientation))
        large = large.resize((large.width * 8, large.height * 8))
        data = encoded(large, "JPEG", exif=exif_block(orientation), quality=95)
        small = decode_image(data, (96, 56))
        assert small.shape == (56, 96, 3)
        assert np.abs(small.astype(int) - picture).mean() < 4
        assert decode_image(data, (97, 56)).shape == (112, 192, 3)

    def test_only_jpegs_are_reduced(self, picture: Pixels) -> None:
        assert decode_image(encoded(picture, "PNG"), (10, 10)).shape == picture.shape


@given(
    st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"]),
    st.sampled_from(["L", "RGB"]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 8),
)
def test_the_size_told_is_the_size_decoded(
    kind: str, mode: str, width: int, height: int, orientation: int
) -> None:
    options = {} if kind in ("BMP", "GIF") else {"exif": exif_block(orientation)}
    data = encoded(Image.new(mode, (width, height), 200), kind, **options)
    facts = probe(data)
    assert decode_image(data).shape == (facts.height, facts.width, 3)
    turned = orientation >= 5 and bool(options)
    assert (facts.width, facts.height) == ((height, width) if turned else (width, height))


def test_the_samples() -> None:
    for path in sorted(SAMPLES.glob("*.png")) + sorted(SAMPLES.glob("*.jpg")):
        with Image.open(path) as image:
            expected = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(decode_image(path.read_bytes()), expected)


def test_the_suffix_does_not_matter(tmp_path: Path, picture: Pixels) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(picture, "PNG"))
    np.testing.assert_array_equal(decode_image(path.read_bytes()), picture)
    assert probe(path.read_bytes()).format == "PNG"


def test_many_threads_agree(picture: Pixels) -> None:
    files = [
        encoded(as_stored(picture, orientation), kind, exif=exif_block(orientation))
        for orientation in range(1, 9)
        for kind in ("JPEG", "PNG", "TIFF")
    ]
    alone = [decode_image(data) for data in files]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(decode_image, files * 4))
    for pixels, expected in zip(together, alone * 4, strict=True):
        np.testing.assert_array_equal(pixels, expected)


def test_grey_jpeg_of_a_photograph_is_grey() -> None:
    data = io.BytesIO()
    Image.fromarray(photograph()).convert("L").save(data, "JPEG")
    pixels = decode_image(data.getvalue())
    assert (pixels[..., 0] == pixels[..., 2]).all()
