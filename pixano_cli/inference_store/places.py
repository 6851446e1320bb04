"""Places on the globe: what lies in a circle or a rectangle, and the boxes around them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Float, and_, false, func

from pixano_cli.errors import StoreError
from pixano_cli.inference_store.models import GeoCircle, GeolocationFilter, GeoPoint, GeoRectangle

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of the Earth in metres (IUGG)."""

_MARGIN = 1e-7  # Degrees, a centimetre: much more than rounding ever makes.
_RADIAN = math.pi / 180


class Box(NamedTuple):
    """What lies between two latitudes and two longitudes, in degrees, edges included."""

    south: float
    north: float
    west: float
    east: float


EVERYWHERE = Box(-90.0, 90.0, -180.0, 180.0)


def areas(
    asked: GeolocationFilter, latitude: ColumnElement[Any], longitude: ColumnElement[Any]
) -> Iterator[tuple[ColumnElement[bool], Sequence[Box]]]:
    """Yield a condition for each area, and boxes outside of which it never holds.

    Args:
        asked: The areas; a point has to be in both.
        latitude: Column of latitudes; a null is nowhere.
        longitude: Column of longitudes.

    Raises:
        StoreError: If an area is not on the globe.
    """
    if asked.gps_coordinates_circle is not None:
        circle = asked.gps_coordinates_circle
        check_point(circle.center)
        if math.isnan(circle.radius):
            raise StoreError("a circle's radius is no number of metres")
        boxes = boxes_around(circle)
        yield _in_circle(circle, latitude, longitude), boxes
    if asked.gps_coordinates_rectangle is not None:
        box = _box(asked.gps_coordinates_rectangle)
        yield _in_box(box, latitude, longitude), [box]


def boxes_around(circle: GeoCircle) -> list[Box]:
    """Return the boxes that hold a circle: two where it crosses the 180th meridian.

    The circle's easternmost point is where a meridian touches it, at asin(sin(radius) /
    cos(latitude of the center)) from the center: J. P. Snyder, "Map Projections: A Working
    Manual" (1987), gives the right spherical triangle.
    """
    if circle.radius < 0:
        return []
    angle = circle.radius / EARTH_RADIUS_M
    reach = math.degrees(min(angle, math.pi)) + _MARGIN
    latitude, longitude = circle.center.latitude, circle.center.longitude
    south, north = max(latitude - reach, -90.0), min(latitude + reach, 90.0)
    if south == -90 or north == 90:
        return [Box(south, north, -180.0, 180.0)]
    sine = math.sin(angle) / math.cos(latitude * _RADIAN)
    # So near to a pole rounding would decide.
    half = 180.0 if sine > 1 - 1e-9 else math.degrees(math.asin(sine)) + _MARGIN
    west, east = longitude - half, longitude + half
    if east - west >= 360:
        return [Box(south, north, -180.0, 180.0)]
    if west < -180:
        return [Box(south, north, -180.0, east), Box(south, north, west + 360, 180.0)]
    if east > 180:
        return [Box(south, north, west, 180.0), Box(south, north, -180.0, east - 360)]
    return [Box(south, north, west, east)]


def check_point(point: GeoPoint) -> None:
    """Refuse a point that is not on the globe.

    Raises:
        StoreError: If its latitude is not in -90..90 or its longitude not in -180..180.
    """
    if not (-90 <= point.latitude <= 90 and -180 <= point.longitude <= 180):
        raise StoreError(
            f"latitude {point.latitude}, longitude {point.longitude} is no point on the globe: "
            "they are in -90..90 and -180..180 degrees"
        )


def _in_circle(
    circle: GeoCircle, latitude: ColumnElement[Any], longitude: ColumnElement[Any]
) -> ColumnElement[bool]:
    """Compare haversines and not distances: the half-angle's squared sine, which grows with it.

    R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68 (1984).
    """
    if circle.radius < 0:
        return false()
    half_angle = circle.radius / (2 * EARTH_RADIUS_M)
    if half_angle >= math.pi / 2:
        return _in_box(EVERYWHERE, latitude, longitude)
    vertical = func.sin((latitude - circle.center.latitude) * (_RADIAN / 2), type_=Float)
    horizontal = func.sin((longitude - circle.center.longitude) * (_RADIAN / 2), type_=Float)
    narrowing = func.cos(latitude * _RADIAN, type_=Float) * math.cos(
        circle.center.latitude * _RADIAN
    )
    haversine = vertical * vertical + narrowing * horizontal * horizontal
    return haversine <= math.sin(half_angle) ** 2


def _in_box(
    box: Box, latitude: ColumnElement[Any], longitude: ColumnElement[Any]
) -> ColumnElement[bool]:
    return and_(latitude.between(box.south, box.north), longitude.between(box.west, box.east))


def _box(rectangle: GeoRectangle) -> Box:
    for corner in (rectangle.p1, rectangle.p2):
        check_point(corner)
    south, north = sorted((rectangle.p1.latitude, rectangle.p2.latitude))
    west, east = sorted((rectangle.p1.longitude, rectangle.p2.longitude))
    return Box(south, north, west, east)
