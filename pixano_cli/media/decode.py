"""From bytes to upright RGB pixels, whatever the image's mode.

What becomes of pixels that are not 8-bit RGB:

- Grey, palette, 1-bit, CMYK (Adobe's inverted kind too), YCbCr and LAB: converted as Pillow does.
  Colour profiles are not applied.
- Transparency (alpha, a transparent palette entry or colour): shown on white, as viewers do, so
  that a model sees what a person who corrects its boxes sees, not what hides under transparent
  pixels. A BMP whose alpha is 0 everywhere does not use it and is taken as opaque.
- 16-bit grey: scaled by the full range of its bits (65535, or 4095 for a 12-bit TIFF), neither
  clipped nor stretched, so that two images of a series stay comparable. 16-bit colour likewise.
- Floating point grey: 0..1 is scaled to 0..255; where values lie beyond, no white is agreed on, so
  they are stretched from their minimum to their maximum. NaN becomes black.
- 32-bit integer grey: as 16-bit where all values fit, else stretched.
- An animation or a file of several pages: its first picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from pixano_cli.errors import ImageDecodeError
from pixano_cli.media.identity import open_image, refuse

RGBImage = NDArray[np.uint8]
"""Pixels [height, width, 3], RGB, 0 to 255, of an image as displayed."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE = 258


def decode_image(data: bytes, min_size: tuple[int, int] | None = None) -> RGBImage:
    """Decode an image and turn it upright.

    Safe to call from several threads at once; Pillow lets go of the interpreter while it decodes.

    Args:
        data: The whole file.
        min_size: (width, height) in displayed pixels. A JPEG may then be decoded at a half, a
            quarter or an eighth of its size, no smaller than this in either direction, which is
            faster; its coordinates are to be scaled back by the size that `probe` gives.

    Returns:
        Read-only, C-contiguous pixels; of the size that `probe` gives unless `min_size` is given.

    Raises:
        ImageDecodeError: If `data` is not one whole, safe image in a supported format.
    """
    # A plugin may have set it for its own ends; a cut-off picture is an error here.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    image, facts = open_image(data)
    try:
        if min_size is not None and facts.format == "JPEG":
            width, height = max(min_size[0], 1), max(min_size[1], 1)
            image.draft(None, (height, width) if facts.orientation >= 5 else (width, height))
        image.load()
        upright = to_rgb(image, facts.format)
        if facts.format != "TIFF":
            upright = turn_upright(upright, facts.orientation)
        pixels = np.asarray(upright)
    except Exception as error:
        refuse(error, facts.format)
    finally:
        image.close()
    if min_size is None and pixels.shape != (facts.height, facts.width, 3):
        raise ImageDecodeError(
            f"damaged {facts.format} image: its header tells {facts.width} x {facts.height} "
            f"pixels, its content {pixels.shape[1]} x {pixels.shape[0]}"
        )
    return pixels


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return an image as displayed; `orientation` is EXIF's, 1 to 8."""
    return image if orientation == 1 else image.transpose(_UPRIGHT[orientation])


def to_rgb(image: Image.Image, kind: str) -> Image.Image:
    """Return a decoded image, not yet upright, in RGB; `kind` is its format."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bits(image)).convert("RGB")
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"), kind)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image, kind: str) -> Image.Image:
    alpha = image.getchannel("A")
    lowest, highest = alpha.getextrema()
    if lowest == 255 or (kind == "BMP" and highest == 0):
        return image.convert("RGB")
    canvas = Image.new("RGB", image.size, (255, 255, 255))
    canvas.paste(image, mask=alpha)
    return canvas


def _to_8_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Scale grey values of 16 or 32 bits, integer or floating point, to 0..255."""
    values: NDArray[Any] = np.asarray(image)
    if image.mode == "F":
        return _stretch(values, unit=True)
    if image.mode == "I" and (values.min() < 0 or values.max() > 65535):
        return _stretch(values, unit=False)
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]
    white = 4095 if bits == 12 else 65535
    table = (np.arange(65536, dtype=np.uint32).clip(max=white) * 510 + white) // (2 * white)
    scaled: NDArray[np.uint8] = table.astype(np.uint8)[values]
    return scaled


def _stretch(values: NDArray[Any], *, unit: bool) -> NDArray[np.uint8]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if unit and low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    if low == high:
        return np.zeros(values.shape, np.uint8)
    scaled = (values.astype(np.float64) - low) * (255.0 / (high - low))
    bounded = np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0).clip(0.0, 255.0)
    return bounded.round().astype(np.uint8)
