"""What a file is: its bytes, its digest, and the size and orientation of the image in it.

An image is known by its content, never by its name. The orientation is that of the file's EXIF
data: the EXIF block of a JPEG or WebP, a PNG's eXIf chunk wherever it stands, a TIFF's own tag,
an AVIF's irot and imir properties (which overrule its EXIF block). What XMP or a PNG's textual
profile say of the orientation is not heeded, as it is not by the web browsers that people
annotate in.
"""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pixano_cli.errors import ImageDecodeError, MediaReadError
from pixano_cli.media.capture import NOWHERE, Capture, read_capture

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

SIGNATURE_BYTES = 64
"""How many bytes from a file's start `sniff` needs."""

MAX_FILE_BYTES = 2**31
"""Largest file read: any image of as many pixels as Pillow allows fits, at 16 bits a band."""

_NAMES = {"WEBP": "WebP"}
_TIFF_HEADERS = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")
_BMP_HEADER_SIZES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_OTHERS = (
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypheix", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "Photoshop"),
    (0, b"<svg", "SVG"),
    (0, b"version https://git-lfs", "Git LFS pointer"),
)
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
)
_REASONS = {
    errno.ENOENT: "no such file",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ELOOP: "its symbolic links lead in a circle",
}
_SPECIAL = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
_ORIENTATION = 0x0112
_SHORT, _LONG = 3, 4

# Pillow warns of much that is no fault of the image (odd tags, large pictures), and logs what
# it also raises. A filter for its modules alone, as the one that can be set safely from
# threads is the process's own.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image's header tells.

    Attributes:
        width: Width in pixels as displayed, that is, with the orientation applied.
        height: Height in pixels as displayed.
        orientation: EXIF orientation stored in the file, 1 to 8; 1 if there is none or it is
            none of these.
        format: JPEG, PNG, WEBP, TIFF, BMP, GIF or AVIF.
        capture: Where and when it was taken, as far as it tells.
    """

    width: int
    height: int
    orientation: int
    format: str
    capture: Capture = NOWHERE


def read_file(path: Path) -> bytes:
    """Return the content of a regular file; never waits for a pipe or a device.

    Raises:
        MediaReadError: If it is no regular file, is too large, or cannot be read; the text says
            which.
    """
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE_BYTES:
                raise MediaReadError(
                    f"cannot read {str(path)!r}: its {size:,} bytes are more than the "
                    f"{MAX_FILE_BYTES:,} allowed: split it"
                )
            return file.read()
    except MemoryError as error:
        raise MediaReadError(f"cannot read {str(path)!r}: not enough memory") from error


@contextmanager
def open_file(path: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file, of any size, to read from it; never waits for a pipe or a device.

    Raises:
        MediaReadError: If it is no regular file or cannot be read, be it inside the block; the
            text says why.
    """
    try:
        _require_regular(path, path.stat())
        # Between the two looks a pipe may have taken the file's place: do not wait to open it.
        descriptor = os.open(path, _OPEN_FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            _require_regular(path, os.fstat(descriptor))
            yield file
    except OSError as error:
        reason = _REASONS.get(error.errno or 0) or (error.strerror or str(error)).lower()
        raise MediaReadError(f"cannot read {str(path)!r}: {reason}") from error
    except ValueError as error:
        raise MediaReadError(f"cannot read {str(path)!r}: no possible file name") from error


def _require_regular(path: Path, status: os.stat_result) -> None:
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        os.scandir(path).close()  # raises the reason why the folder was not looked into
        raise MediaReadError(f"cannot read {str(path)!r}: it is a folder")
    if not stat.S_ISREG(mode):
        kind = _SPECIAL.get(stat.S_IFMT(mode), "a device")
        raise MediaReadError(f"cannot read {str(path)!r}: it is {kind}, not a file")


def sha256(data: bytes) -> str:
    """Return the SHA-256 digest of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def sniff(head: bytes) -> str | None:
    """Tell the image format by the first `SIGNATURE_BYTES` bytes of a file.

    Returns:
        JPEG, PNG, WEBP, TIFF, BMP, GIF or AVIF; None for anything else.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith(_TIFF_HEADERS):
        return "TIFF"
    if head[4:8] == b"ftyp":
        brands = head[8 : min(int.from_bytes(head[:4], "big"), SIGNATURE_BYTES)]
        is_avif = any(brands[at : at + 4] in (b"avif", b"avis") for at in range(0, len(brands), 4))
        return "AVIF" if is_avif else None
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    return None


def probe(data: bytes) -> ImageFacts:
    """Read an image's header; its pixels are not decoded.

    Raises:
        ImageDecodeError: If `data` is no image in a supported format, its header is damaged, it
            has more pixels than Pillow's limit (about 179 million), or an EXIF block so broken
            that the coordinate frame is unknown.
    """
    image, facts = open_image(data)
    with image:
        if facts.format == "TIFF":
            return replace(facts, capture=read_capture(image.getexif()))
        block = _exif_block(image, facts.format, data)
        return replace(facts, capture=_capture_in(block)) if block else facts


def _capture_in(block: bytes) -> Capture:
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(block)
    except Exception:  # Its first directory is sound, or `open_image` would have refused it.
        return NOWHERE
    return read_capture(exif)


def open_image(data: bytes) -> tuple[ImageFile, ImageFacts]:
    """Open an image without decoding it; for `decode`, which goes on from there.

    Raises:
        ImageDecodeError: As `probe` does.
    """
    from PIL import Image

    kind = sniff(data[:SIGNATURE_BYTES])
    if kind is None:
        raise ImageDecodeError(_not_an_image(data))
    try:
        image = Image.open(io.BytesIO(data), formats=[kind])
        width, height = image.size
        if kind == "TIFF":
            # Pillow turns a TIFF upright by itself, and by its XMP where the tag is missing.
            image.info.pop("xmp", None)
            tag = image.tag_v2.get(_ORIENTATION)  # type: ignore[attr-defined]
            orientation = next((value for value in range(1, 9) if value == tag), 1)
        else:
            block = _exif_block(image, kind, data)
            orientation = exif_orientation(block) if block else 1
            if orientation >= 5:
                width, height = height, width
    except Exception as error:
        refuse(error, kind)
    return image, ImageFacts(width, height, orientation, kind)


def _exif_block(image: ImageFile, kind: str, data: bytes) -> bytes | None:
    block: bytes | None = image.info.get("exif")
    return _late_exif_chunk(data) if block is None and kind == "PNG" else block


def exif_orientation(block: bytes) -> int:
    """Read the orientation from an EXIF block, with or without its `Exif` identifier.

    Source: Exif 3.0 (CIPA DC-008), sections 4.5 and 4.6.2: a TIFF header, then image file
    directories, the first of which (IFD0) holds the orientation.

    Returns:
        1 to 8; 1 where the block does not tell or tells anything else.

    Raises:
        ImageDecodeError: If IFD0 cannot be found or is cut off, so that nobody can tell.
    """
    while block.startswith(b"Exif\0\0"):
        block = block[6:]
    if not block:
        return 1
    if not block.startswith(_TIFF_HEADERS[:4]):
        raise _broken_exif("it has no TIFF header")
    order = "<" if block.startswith(b"II") else ">"
    try:
        (start,) = struct.unpack_from(order + "L", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
    except struct.error:
        raise _broken_exif("its directory lies outside") from None
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if entry + 12 > len(block):
            raise _broken_exif("its directory is cut off")
        tag, kind, values = struct.unpack_from(order + "HHL", block, entry)
        if tag == _ORIENTATION:
            if values != 1 or kind not in (_SHORT, _LONG):
                return 1
            code = order + ("H" if kind == _SHORT else "L")
            (orientation,) = struct.unpack_from(code, block, entry + 8)
            return orientation if 1 <= orientation <= 8 else 1
    return 1


def _broken_exif(how: str) -> ImageDecodeError:
    return ImageDecodeError(
        f"broken EXIF block ({how}), so which side is up is unknown: rewrite or strip it"
    )


def _late_exif_chunk(data: bytes) -> bytes | None:
    """Find a PNG's eXIf chunk behind its pixels, where Pillow sees it only after decoding.

    Source: PNG specification, third edition, section 5.3: length, type, data, CRC.
    """
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, at)
        if kind == b"eXIf":
            return data[at + 8 : at + 8 + length]
        at += length + 12
    return None


def refuse(error: Exception, kind: str) -> NoReturn:
    """Raise what went wrong in Pillow, which may be any exception, as one line to act on.

    Args:
        error: What was raised.
        kind: The image's format.

    Raises:
        ImageDecodeError: Always.
    """
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, ImageDecodeError):
        raise error
    name = _NAMES.get(kind, kind)
    reason = " ".join(str(error).split())
    if isinstance(error, Image.DecompressionBombError):
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        message = (
            f"more than {limit:,} pixels, perhaps a decompression bomb: "
            "scale it down or cut it into tiles"
        )
    elif isinstance(error, MemoryError):
        message = f"not enough memory to decode this {name} image: lower the concurrency"
    elif isinstance(error, UnidentifiedImageError):
        message = f"damaged {name} image or an unusual variant: its header cannot be understood"
    elif "truncated" in reason.lower() or isinstance(error, EOFError):
        message = f"truncated {name} image: its end is missing, so copy it again"
    else:
        message = f"damaged {name} image ({reason or type(error).__name__}): save or copy it again"
    raise ImageDecodeError(message) from error


def _not_an_image(data: bytes) -> str:
    if not data:
        return "the file is empty"
    supported = "JPEG, PNG, WebP, TIFF, BMP, GIF or AVIF"
    for at, signature, name in _OTHERS:
        if data.startswith(signature, at):
            return f"a {name} file, which is not supported: convert it to {supported}"
    content = "text" if is_text(data[:SIGNATURE_BYTES]) else "unknown content"
    return f"{content}, not a {supported} image"


def is_text(head: bytes) -> bool:
    """Whether the first bytes of a file, cut anywhere, look like text."""
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in head) and _is_utf8(head)


def _is_utf8(head: bytes) -> bool:
    # The last character may be cut in two.
    for end in range(len(head), max(len(head) - 4, 0), -1):
        try:
            head[:end].decode()
        except UnicodeDecodeError:
            continue
        return True
    return False
