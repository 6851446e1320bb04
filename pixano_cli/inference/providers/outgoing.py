"""An image as it travels to a server: upright, in a format that every server reads, as a data URL.

Servers do not turn an image by its EXIF orientation, and each does something else with
transparency, 16 bits or CMYK. So only a picture that has none of these goes out as the bytes that
it is; of any other the pixels go out that a local model would see (`media.decode`).
"""

from __future__ import annotations

import asyncio
import base64
import io
from dataclasses import dataclass

from PIL import Image

from pixano_cli.media.decode import decode_image
from pixano_cli.media.flight import held, held_pixels, read_url
from pixano_cli.media.identity import ImageFacts, open_image

_AS_THEY_ARE = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_PLAIN_MODES = frozenset({"1", "L", "P", "RGB"})
_PHOTOGRAPHS = frozenset({"JPEG", "WEBP", "AVIF"})
_JPEG_QUALITY = 95
_SMALL = 100_000


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An image on its way.

    Attributes:
        url: `data:image/<jpeg|png|webp>;base64,` URL.
        width: Width of what is sent, in pixels.
        height: Height of what is sent, in pixels.
        displayed: (width, height) of the image as displayed, whose coordinates are wanted back.
    """

    url: str
    width: int
    height: int
    displayed: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """What x and y of an answer are to be multiplied by."""
        return self.displayed[0] / self.width, self.displayed[1] / self.height


def outgoing(image: str, max_side: int | None = None) -> Outgoing:
    """Read an image and make it ready to be sent.

    What cannot go as it is is encoded again: a picture in a format for photographs, and a video's
    frame, as JPEG of quality 95 with whole colour, a tenth of the size of anything lossless; others
    as PNG.

    Args:
        image: A `file://` or `data:` URL; see `media.flight`.
        max_side: Longest side to send, in pixels; a larger image is scaled down to it.

    Raises:
        MediaReadError: If the bytes cannot be had.
        ImageDecodeError: If they are no image that can be used.
    """
    frame = held_pixels(image)
    if frame is not None:
        height, width = frame.shape[:2]
        return _encoded(
            Image.fromarray(frame), within(width, height, max_side), (width, height), is_photo=True
        )
    data = read_url(image)
    facts, is_plain = _look(data)
    size = within(facts.width, facts.height, max_side)
    displayed = (facts.width, facts.height)
    if is_plain and size == displayed:
        return _as_it_is(facts, data)
    pixels = Image.fromarray(decode_image(data, min_size=None if size == displayed else size))
    return _encoded(pixels, size, displayed, is_photo=facts.format in _PHOTOGRAPHS)


def _encoded(
    pixels: Image.Image, size: tuple[int, int], displayed: tuple[int, int], *, is_photo: bool
) -> Outgoing:
    if pixels.size != size:
        pixels = pixels.resize(size, Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    if is_photo:
        pixels.save(encoded, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
        return Outgoing(_data_url("image/jpeg", encoded.getvalue()), *size, displayed)
    pixels.save(encoded, "PNG", compress_level=1)
    return Outgoing(_data_url("image/png", encoded.getvalue()), *size, displayed)


async def outgoing_soon(image: str, max_side: int | None = None) -> Outgoing:
    """Do what `outgoing` does without holding up the event loop for long.

    A small picture that is at hand and goes as it is costs less than handing it to a thread.
    """
    data = held(image)
    if data is None and image.startswith("data:") and len(image) <= _SMALL:
        data = read_url(image)
    if data is not None and len(data) <= _SMALL:
        facts, is_plain = _look(data)
        size = (facts.width, facts.height)
        if is_plain and size == within(*size, max_side):
            return _as_it_is(facts, data)
    return await asyncio.to_thread(outgoing, image, max_side)


def _as_it_is(facts: ImageFacts, data: bytes) -> Outgoing:
    size = (facts.width, facts.height)
    return Outgoing(_data_url(_AS_THEY_ARE[facts.format], data), *size, displayed=size)


def _look(data: bytes) -> tuple[ImageFacts, bool]:
    """Return an image's facts, and whether every server would see in its bytes what we see."""
    image, facts = open_image(data)
    try:
        is_plain = (
            facts.format in _AS_THEY_ARE
            and facts.orientation == 1
            and image.mode in _PLAIN_MODES
            and not image.has_transparency_data
            and getattr(image, "n_frames", 1) == 1
        )
    finally:
        image.close()
    return facts, is_plain


def within(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """Return the (width, height) in which an image is sent, no side longer than `max_side`."""
    longest = max(width, height)
    if max_side is None or longest <= max_side:
        return width, height
    return (
        max(1, round(width * max_side / longest)),
        max(1, round(height * max_side / longest)),
    )


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
