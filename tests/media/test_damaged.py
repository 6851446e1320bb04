"""What is no whole, safe image is refused with one line, whatever Pillow makes of it."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from pixano_cli.errors import ImageDecodeError
from pixano_cli.media.decode import decode_image
from pixano_cli.media.identity import exif_orientation, probe, sniff

from .pictures import encoded, exif_block, photograph, png_chunk

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

KINDS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
WHOLE = {
    **{kind: encoded(photograph(), kind) for kind in KINDS},
    "JPEG with EXIF": encoded(photograph(), "JPEG", exif=exif_block(6)),
    "JPEG progressive": encoded(photograph(), "JPEG", progressive=True),
    "PNG palette": encoded(
        Image.fromarray(photograph()).quantize(9), "PNG", transparency=1, exif=exif_block(3)
    ),
    "WEBP lossless": encoded(photograph(), "WEBP", lossless=True, exif=exif_block(6)),
    "TIFF LZW": encoded(photograph(), "TIFF", compression="tiff_lzw", exif=exif_block(8)),
    "TIFF JPEG": encoded(photograph(), "TIFF", compression="jpeg"),
    "AVIF turned": encoded(photograph(), "AVIF", exif=exif_block(6)),
}


def refused(data: bytes) -> str:
    with pytest.raises(ImageDecodeError) as caught:
        decode_image(data)
    text = str(caught.value)
    assert text
    assert text == " ".join(text.split())
    return text


def survives(data: bytes) -> None:
    """Either use works, both telling the same size, or raises nothing but what it should."""
    try:
        facts = probe(data)
    except ImageDecodeError:
        with pytest.raises(ImageDecodeError):
            decode_image(data)
        return
    try:
        shape = decode_image(data).shape
    except ImageDecodeError:
        return
    assert shape == (facts.height, facts.width, 3)


def huge_png(width: int, height: int) -> bytes:
    head = struct.pack(">LLBBBBB", width, height, 1, 0, 0, 0, 0)
    body = zlib.compress(bytes(width // 8 + 1))
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", head)
        + png_chunk(b"IDAT", body)
        + png_chunk(b"IEND", b"")
    )


def test_empty() -> None:
    assert refused(b"") == "the file is empty"


@pytest.mark.parametrize(
    "text", ["hello", "été à la plage " * 20, "x" * 63 + "é", "[1, 2]\n", "BMW and GIF"]
)
def test_text(text: str) -> None:
    assert refused(text.encode()).startswith("text, not a JPEG, PNG")


def test_anything_else() -> None:
    assert refused(b"\x00\x01\x02\xff" * 30).startswith("unknown content, not a JPEG, PNG")
    assert refused(b"\x00\x00\x00\x18ftypheic\0\0\0\0mif1heic") == (
        "a HEIC file, which is not supported: convert it to JPEG, PNG, WebP, TIFF, BMP, GIF or AVIF"
    )


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated(kind: str, share: float) -> None:
    data = WHOLE[kind]
    text = refused(data[: int(len(data) * share)])
    assert text.startswith(("truncated ", "damaged ", "broken EXIF"))


def test_truncated_although_a_plugin_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    text = refused(WHOLE["JPEG"][:-500])
    assert text == "truncated JPEG image: its end is missing, so copy it again"


@pytest.mark.parametrize("kind", WHOLE)
def test_only_a_head(kind: str) -> None:
    for length in (4, 16, 20, 64):
        refused(WHOLE[kind][:length])


def test_decompression_bomb() -> None:
    size = struct.pack("<HH", 60_000, 60_000)
    for bomb in (
        huge_png(50_000, 50_000),
        b"GIF89a" + size + b"\0\0\0," + bytes(4) + size + b"\0\x08\0;",
    ):
        assert refused(bomb) == (
            "more than 178,956,970 pixels, perhaps a decompression bomb: "
            "scale it down or cut it into tiles"
        )
        with pytest.raises(ImageDecodeError, match="bomb"):
            probe(bomb)
    refused(b"RIFF" + struct.pack("<L", 22) + b"WEBPVP8X" + bytes([10] + [0] * 7 + [255] * 6))


def test_a_large_photograph_is_no_bomb() -> None:
    # 102 megapixels, as of medium-format cameras: Pillow warns, and refuses from 179 on.
    facts = probe(huge_png(11_648, 8_736))
    assert (facts.width, facts.height) == (11_648, 8_736)


def test_a_bomb_in_a_text_chunk() -> None:
    data = WHOLE["PNG"]
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000)))
    refused(data[:33] + text + data[33:])


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
@example(b"\xff\xd8\xff")
@example(b"II*\0\xff\xff\xff\xff")
def test_random_bytes(data: bytes) -> None:
    survives(data)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.binary(max_size=100))
def test_random_bytes_behind_a_signature(kind: str, data: bytes) -> None:
    survives(WHOLE[kind][:16] + data)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.integers(0, 2**32), st.integers(1, 6), st.booleans())
def test_mutated_images(kind: str, seed: int, changes: int, in_head: bool) -> None:
    generator = random.Random(seed)
    data = bytearray(WHOLE[kind])
    for _ in range(changes):
        reach = min(len(data), 200) if in_head else len(data)
        data[generator.randrange(reach)] = generator.choice([0, 1, 0x7F, 0x80, 0xFF, seed & 0xFF])
    survives(bytes(data))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
def test_any_exif_block_tells_or_is_broken(block: bytes, head: bytes) -> None:
    try:
        orientation = exif_orientation(head + block)
    except ImageDecodeError:
        return
    assert orientation in range(1, 9)


@pytest.mark.parametrize("kind", KINDS)
def test_sniff(kind: str) -> None:
    assert sniff(WHOLE[kind][:64]) == kind


def test_nothing_is_printed(tmp_path: Path) -> None:
    """Pillow's warnings and logs do not reach the user.

    What libtiff itself says of a damaged TIFF does: nothing short of closing stderr stops it.
    """
    script = """
import pathlib, random, sys, warnings
from pixano_cli.errors import ImageDecodeError
from pixano_cli.media.decode import decode_image
refused = 0
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    whole = path.read_bytes()
    for seed in range(60):
        generator = random.Random(seed)
        data = bytearray(whole)
        for _ in range(4):
            data[generator.randrange(min(len(data), 300) if seed % 2 else len(data))] ^= 255
        try:
            decode_image(bytes(data))
        except ImageDecodeError:
            refused += 1
print(refused)
"""
    for kind, data in WHOLE.items():
        if kind not in ("TIFF LZW", "TIFF JPEG"):
            (tmp_path / kind).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stderr == ""
    assert int(done.stdout) > 100
