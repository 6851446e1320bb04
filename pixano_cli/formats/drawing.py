"""Annotations drawn on a picture: masks, boxes, and what they are, in a colour of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from unicodedata import combining, normalize
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pixano_cli.annotations import Annotation, Box
from pixano_cli.formats.mask_crop import decode_crop
from pixano_cli.media.decode import RGBImage

Colour = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]

COLOURS: Sequence[Colour] = (
    (42, 157, 143),
    (230, 57, 70),
    (244, 162, 97),
    (69, 123, 157),
    (131, 56, 236),
    (255, 190, 11),
    (58, 134, 255),
    (251, 86, 7),
    (255, 0, 110),
    (106, 153, 78),
    (0, 180, 216),
    (199, 125, 255),
    (141, 110, 99),
    (6, 214, 160),
    (181, 228, 140),
    (155, 34, 38),
)
"""Colours in the order of track ids, then from the first again: neighbours differ clearly."""

_TINT = np.uint8(100)
_LONGEST_LABEL = 32
_SMALLEST_WITH_CAPTIONS = 80
_LIGHT = 150


def colour_of(annotation: Annotation) -> Colour:
    """Return the colour of an annotation: that of its track, else of its label."""
    if annotation.track_id is not None:
        return COLOURS[(annotation.track_id - 1) % len(COLOURS)]
    return COLOURS[crc32(annotation.label.encode(errors="backslashreplace")) % len(COLOURS)]


def caption_of(annotation: Annotation) -> str:
    """Return what is written beside an annotation: `cat #3  0.87`.

    Pillow's own font has the letters of ASCII: others lose their accents, or become a `?`.
    """
    plain = "".join(each for each in normalize("NFKD", annotation.label) if not combining(each))
    label = " ".join(plain.encode("ascii", errors="replace").decode().split())
    if len(label) > _LONGEST_LABEL:
        label = f"{label[: _LONGEST_LABEL - 3]}..."
    track = "" if annotation.track_id is None else f" #{annotation.track_id}"
    score = "" if annotation.score is None else f"  {annotation.score:.2f}"
    return f"{label}{track}{score}"


def draw(image: RGBImage, annotations: Sequence[Annotation]) -> RGBImage:
    """Draw annotations on a copy of a picture [height, width, 3].

    The best, which come first, lie on top; captions lie above all else and, where there is room,
    beside each other. Lines and letters grow with the picture; one that captions would hide has
    none.
    """
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    side = min(canvas.size)
    line = max(1, round(side / 220))
    for annotation in reversed(annotations):
        colour = colour_of(annotation)
        if annotation.mask is not None:
            x, y, inside = decode_crop(annotation.mask)
            canvas.paste(colour, (x, y), Image.fromarray(inside * _TINT))
            canvas.paste(colour, (x, y), Image.fromarray(_outline(inside, line)))
        left, top, right, bottom = _pixels(annotation.box)
        pen.rectangle((left, top, right, bottom), outline=colour, width=line)
    if side >= _SMALLEST_WITH_CAPTIONS:
        font = _font(max(11, side // 32))
        taken: list[Rectangle] = []
        for annotation in annotations:
            taken.append(_tag(pen, annotation, font, taken, canvas.size))
    return np.asarray(canvas)


@lru_cache(maxsize=4)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _pixels(box: Box) -> Rectangle:
    """Return the corners of the pixels that a box touches, the last ones included."""
    left, top = int(box.xmin), int(box.ymin)
    return left, top, max(left, int(np.ceil(box.xmax)) - 1), max(top, int(np.ceil(box.ymax)) - 1)


def _outline(inside: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Return the pixels of a mask that are less than `width` from its edge."""
    deep = inside
    for _ in range(width):
        around = np.pad(deep, 1)
        deep = deep & around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return inside & ~deep


def _tag(
    pen: ImageDraw.ImageDraw,
    annotation: Annotation,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    taken: Sequence[Rectangle],
    size: tuple[int, int],
) -> Rectangle:
    """Write an annotation's caption on its colour, off those of others; return where it stands."""
    caption = caption_of(annotation)
    colour = colour_of(annotation)
    ascent, descent = font.getmetrics() if isinstance(font, ImageFont.FreeTypeFont) else (11, 2)
    margin = max(2, (ascent + descent) // 5)
    width = int(np.ceil(font.getlength(caption))) + 2 * margin
    height = ascent + descent
    places = [
        (left, top, left + width, top + height)
        for left, top in _places(annotation.box, width, height, size)
    ]
    place = next((each for each in places if not _meets(each, taken)), places[0])
    left, top, right, bottom = place
    pen.rectangle((left, top, right - 1, bottom - 1), fill=colour)
    red, green, blue = colour
    light = 0.299 * red + 0.587 * green + 0.114 * blue > _LIGHT
    pen.text((left + margin, top), caption, fill="black" if light else "white", font=font)
    return place


def _places(box: Box, width: int, height: int, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield corners for a caption: above the box, below it, inside it at the top, at the bottom."""
    left, top, right, bottom = _pixels(box)
    x = max(0, min(left, size[0] - width))
    if top >= height:
        yield x, top - height
    yield x, min(top, max(0, size[1] - height))
    if bottom + height < size[1]:
        yield x, bottom + 1
    yield max(0, min(right - width, size[0] - width)), max(0, bottom - height)


def _meets(place: Rectangle, others: Sequence[Rectangle]) -> bool:
    left, top, right, bottom = place
    return any(
        left < other[2] and other[0] < right and top < other[3] and other[1] < bottom
        for other in others
    )
