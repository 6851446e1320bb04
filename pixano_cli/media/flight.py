"""Bytes in flight: a file is read once, although its path, and not its bytes, is handed on.

The engine reads and hashes a file, holds its bytes under the file's URL, and asks the provider;
a provider in the same process then finds the bytes here instead of reading the file again. Of a
video's frame it holds the pixels, for there are no bytes of it.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote_to_bytes

from pixano_cli.errors import MediaReadError
from pixano_cli.media.identity import read_file

if TYPE_CHECKING:
    from pixano_cli.media.decode import RGBImage

T = TypeVar("T")

_URL = re.compile(r"(?i)data:|[a-z][a-z0-9+.-]*://")

_held: dict[str, list[bytes]] = {}
_pixels: dict[str, list[RGBImage]] = {}
_lock = threading.Lock()


def url_of(path: Path) -> str:
    """Return the `file://` URL of a path, made absolute; any name can be had back from it.

    Bytes, not characters, are percent-encoded, so names that are no valid text survive.
    """
    return path.absolute().as_uri()


def path_of(url: str) -> Path:
    """Return the path of a `file://` URL: the inverse of `url_of`; of a frame's, its video's.

    Raises:
        MediaReadError: If it is no `file://` URL of this machine.
    """
    scheme, separator, rest = url.partition("://")
    host, slash, name = rest.partition("#")[0].partition("/")
    if scheme.lower() != "file" or not separator or not slash or host not in ("", "localhost"):
        raise MediaReadError(f"not the URL of a file on this machine: {_shown(url)}")
    name = os.fsdecode(unquote_to_bytes(name))
    return Path(name if os.name == "nt" else "/" + name)


def url_of_frame(url: str, index: int) -> str:
    """Return the URL of a frame of the video with this URL; its pixels have to be held to be had.

    Source: W3C Media Fragments URI 1.0 for the form; counting frames is our own.
    """
    return f"{url}#frame={index}"


@contextmanager
def hold(url: str, data: bytes) -> Iterator[None]:
    """Let `read_url(url)` return `data` until the block ends.

    Several blocks, in one thread or many, may hold the same URL; the latest one's data is what is
    read, and it is let go of when the last of them ends.
    """
    with _held_in(_held, url, data):
        yield


@contextmanager
def hold_pixels(url: str, pixels: RGBImage) -> Iterator[None]:
    """Let `held_pixels(url)` return `pixels` until the block ends; see `hold`.

    Args:
        url: URL of an image, or of a frame; see `url_of_frame`.
        pixels: [height, width, 3], RGB uint8, as displayed.
    """
    with _held_in(_pixels, url, pixels):
        yield


def held(url: str) -> bytes | None:
    """Return the bytes that are held under a URL; None if none are."""
    return _latest(_held, url)


def held_pixels(url: str) -> RGBImage | None:
    """Return the pixels that are held under a URL; None if none are."""
    return _latest(_pixels, url)


@contextmanager
def _held_in(table: dict[str, list[T]], url: str, what: T) -> Iterator[None]:
    with _lock:
        table.setdefault(url, []).append(what)
    try:
        yield
    finally:
        with _lock:
            stack = table[url]
            del stack[next(at for at, each in enumerate(stack) if each is what)]
            if not stack:
                del table[url]


def _latest(table: dict[str, list[T]], url: str) -> T | None:
    with _lock:
        stack = table.get(url)
        return stack[-1] if stack else None


def read_url(url: str) -> bytes:
    """Return the bytes of an image that travels as a string.

    Args:
        url: A URL that is held, where of pixels a PNG is made; else a `file://` URL, which is read
            from disk; else a `data:` URL.

    Raises:
        MediaReadError: If the file cannot be read, the data URL is not valid, or it is a URL of
            any other kind: nothing is fetched from a network.
    """
    data = held(url)
    if data is not None:
        return data
    pixels = held_pixels(url)
    if pixels is not None:
        return _png(pixels)
    scheme = url[:8].partition(":")[0].lower()
    if scheme == "file":
        return read_file(path_of(url))
    if scheme == "data":
        return _data_of(url)
    raise MediaReadError(
        f"cannot read {_shown(url)}: only file:// and data: URLs can be used here, "
        "so download the image first"
    )


def url_of_image(image: str | Path) -> str:
    """Return the URL of an image that is given by one, or by its path."""
    if isinstance(image, str) and _URL.match(image):
        return image
    return url_of(Path(image))


def _png(pixels: RGBImage) -> bytes:
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()


def _data_of(url: str) -> bytes:
    """Decode a `data:` URL. Source: RFC 2397."""
    header, comma, body = url.partition(",")
    if not comma:
        raise MediaReadError(f"not a valid data URL, its comma is missing: {_shown(url)}")
    content = unquote_to_bytes(body)
    if not header.lower().endswith(";base64"):
        return content
    try:
        return base64.b64decode(b"".join(content.split()), validate=True)
    except binascii.Error as error:
        raise MediaReadError(f"not a valid data URL ({error}): {_shown(url)}") from error


def _shown(url: str) -> str:
    return repr(url if len(url) <= 80 else url[:77] + "...")
