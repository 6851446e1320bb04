"""Where and when a photograph was taken, as its EXIF tells.

Source: Exif 3.0 (CIPA DC-008), sections 4.6.5 and 4.6.7; Pillow reads the directories.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Exif

_EXIF_DIRECTORY, _GPS_DIRECTORY = 0x8769, 0x8825
# When the picture was taken, with its fraction and offset; then the same of its digitisation.
_TIMES = ((0x9003, 0x9291, 0x9011), (0x9004, 0x9292, 0x9012))
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Capture:
    """Where and when a photograph was taken.

    Attributes:
        latitude: Degrees, north positive; None if unknown, and then so is the longitude.
        longitude: Degrees, east positive.
        captured_at: ISO 8601, with an offset where the camera wrote one, else in the camera's
            local time; None if unknown.
    """

    latitude: float | None = None
    longitude: float | None = None
    captured_at: str | None = None


NOWHERE = Capture()


def read_capture(exif: Exif) -> Capture:
    """Return what the directories tell; what is damaged or senseless in them is as if absent."""
    try:
        place = _place(exif.get_ifd(_GPS_DIRECTORY)) if _GPS_DIRECTORY in exif else None
    except Exception:  # Pillow raises whatever a damaged directory leads it to.
        place = None
    try:
        captured_at = _time(exif.get_ifd(_EXIF_DIRECTORY)) if _EXIF_DIRECTORY in exif else None
    except Exception:
        captured_at = None
    if place is None and captured_at is None:
        return NOWHERE
    latitude, longitude = place or (None, None)
    return Capture(latitude, longitude, captured_at)


def _place(gps: Mapping[int, Any]) -> tuple[float, float] | None:
    latitude = _degrees(gps.get(_LATITUDE), gps.get(_LATITUDE_REF), "NS", 90)
    longitude = _degrees(gps.get(_LONGITUDE), gps.get(_LONGITUDE_REF), "EW", 180)
    if latitude is None or longitude is None:
        return None
    return latitude, longitude


def _degrees(angle: Any, reference: Any, letters: str, limit: int) -> float | None:
    """Read (degrees, minutes, seconds) and their hemisphere; later parts may be missing."""
    if not isinstance(angle, tuple) or not 1 <= len(angle) <= 3:
        return None
    letter = reference.decode("ascii", "replace") if isinstance(reference, bytes) else reference
    letter = str(letter or "").strip("\0 ").upper()
    if letter not in tuple(letters):
        return None
    degrees = math.fsum(float(part) / 60**index for index, part in enumerate(angle))
    if not (math.isfinite(degrees) and 0 <= degrees <= limit):
        return None
    return -degrees if letter == letters[1] else degrees


def _time(directory: Mapping[int, Any]) -> str | None:
    for time_tag, fraction_tag, offset_tag in _TIMES:
        time = _text(directory.get(time_tag))
        fraction = _text(directory.get(fraction_tag))
        offset = _text(directory.get(offset_tag))
        try:
            read = datetime.strptime(time, "%Y:%m:%d %H:%M:%S")
        except ValueError:
            continue
        text = read.isoformat()
        if fraction.isdecimal() and fraction.isascii():
            text += f".{fraction[:6]}"
        try:
            return datetime.fromisoformat(text + offset).isoformat()
        except ValueError:
            return text
    return None


def _text(value: Any) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    return text.strip("\0 ") if isinstance(text, str) else ""
