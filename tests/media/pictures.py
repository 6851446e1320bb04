"""Pictures made on the spot, and a second definition of the eight orientations."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

SAMPLES = Path(__file__).parents[2] / "sample_data"


def photograph() -> Pixels:
    """Return a photograph whose eight turns all differ and whose sides are not equal."""
    with Image.open(SAMPLES / "chelsea.png") as image:
        return np.asarray(image.convert("RGB").resize((96, 56)))


def encoded(pixels: Pixels | Image.Image, kind: str, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif_block(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def as_stored(upright: Pixels, orientation: int) -> Pixels:
    """Turn displayed pixels into stored ones.

    Source: Exif 3.0, 4.6.4 (Orientation): which sides of the scene row 0 and column 0 of the stored
    image are.
    """
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright[:, ::-1].transpose(1, 0, 2),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright[::-1].transpose(1, 0, 2),
    }
    return np.ascontiguousarray(stored[orientation])


def png_chunk(kind: bytes, body: bytes) -> bytes:
    crc = zlib.crc32(kind + body)
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", crc)
