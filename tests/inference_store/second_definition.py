"""What the filters and the sorting mean, in plain Python: a second definition of them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from pixano_cli import inference_store as istore
from pixano_cli.inference_store.places import EARTH_RADIUS_M
from pixano_cli.inference_store.records import Record

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Kept:
    """A record as it stands in the store."""

    record: Record
    created_at: int
    is_deleted: bool


class UnclearError(Exception):
    """A record is so near the edge of a circle that rounding decides."""


def passes(kept: Kept, asked: istore.BaseInferenceFilter) -> bool:
    record = kept.record
    if kept.is_deleted:
        return False
    for wanted, value in (
        (asked.inference_action_filter, record.inference_action),
        (asked.data_hash_filter, record.data_hash),
        (asked.data_source_filter, record.data_source),
    ):
        if wanted is not None and value != wanted:
            return False
    window = asked.time_window_filter
    if window is not None:
        seconds = Fraction(kept.created_at, 1_000_000)
        if seconds < (seconds_of(window.start) if window.start else 0):
            return False
        if window.end and seconds > seconds_of(window.end):
            return False
    if not all(has_metadata(record, each) for each in asked.metadata_filter or []):
        return False
    elements = asked.deconstructed_inference_filter
    if elements is not None and not has_element(record, elements):
        return False
    return asked.location_filter is None or is_there(record, asked.location_filter)


def in_order(
    kept: Sequence[Kept], sort: str = "created_at", *, descending: bool = False
) -> list[str]:
    """Ids in order: those with nothing to sort by are last, whatever the direction."""
    named = sorted(kept, key=lambda each: each.record.inference_id)
    keyed = [(sort_key(each, sort), each.record.inference_id) for each in named]
    known = [pair for pair in keyed if pair[0] is not None]
    known.sort(key=lambda pair: pair[0], reverse=descending)  # Keeps the order of equals.
    return [name for _, name in known] + [name for key, name in keyed if key is None]


def sort_key(kept: Kept, sort: str) -> Any:
    if sort == "created_at":
        return kept.created_at
    elements = list(kept.record.elements or ())
    if not elements:
        return None
    scores = [each["score"] for each in elements if each.get("score") is not None]
    best = next(each for each in elements if not scores or each.get("score") == max(scores))
    return best[sort] if sort == "label" else best.get("score")


def disorder(kept: Sequence[Kept]) -> int:
    """By how much any of them is dated earlier than one before it."""
    visible = [each.created_at for each in kept if not each.is_deleted]
    pairs = ((one, other) for index, one in enumerate(visible) for other in visible[index:])
    return max((one - other for one, other in pairs), default=0)


def seconds_of(text: str) -> Fraction:
    whole, _, fraction = text.removesuffix("Z").partition(".")
    since = datetime.strptime(whole + "+0000", "%Y-%m-%dT%H:%M:%S%z") - EPOCH
    return Fraction(since.days * 86400 + since.seconds) + Fraction(f"0.{fraction or 0}")


def has_metadata(record: Record, asked: istore.MetadataFilter) -> bool:
    kind = str(asked.type)
    for key, (stored_type, text) in record.metadata.items():
        found: Any
        if kind.startswith("json."):
            if stored_type != "json" or not f"{asked.key}.".startswith(f"{key}."):
                continue
            found = in_json(text, asked.key[len(key) + 1 :], kind, has_path=asked.key != key)
        else:
            found = meaning(kind, text) if (stored_type, key) == (kind, asked.key) else None
        if found is not None and compares(found, asked, kind.split(".")[-1]):
            return True
    return False


def compares(found: Any, asked: istore.MetadataFilter, kind: str) -> bool:
    if asked.operator == "in":
        inner = asked.value.strip()[1:-1]
        return found in [meaning(kind, part.strip()) for part in inner.split(",") if inner.strip()]
    wanted: Any = meaning(kind, asked.value)
    results: dict[str, bool] = {
        "=": found == wanted,
        "!=": found != wanted,
        "<": found < wanted,
        "<=": found <= wanted,
        ">": found > wanted,
        ">=": found >= wanted,
    }
    return results[str(asked.operator)]


def meaning(kind: str, text: str) -> str | int | float | None:
    if kind == "string":
        return text
    if kind == "int":
        return int(text) if re.fullmatch(r"[-+]?[0-9]+", text) else None
    if not re.fullmatch(r"[-+0-9.eE]+", text):
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def in_json(text: str, path: str, kind: str, *, has_path: bool) -> str | int | float | None:
    if "NaN" in text:
        return None
    try:
        value = json.loads(text)
        for name in path.split(".") if has_path else []:
            value = value[name]
    except (ValueError, KeyError, TypeError):
        return None
    types: dict[str, tuple[type, ...]] = {
        "json.string": (str,),
        "json.int": (int,),
        "json.float": (int, float),
    }
    if type(value) not in types[kind] or "\0" in str(value):
        return None
    found: str | int | float = float(value) if kind == "json.float" else value
    return found


def has_element(record: Record, asked: istore.DeconstructedInferenceFilter) -> bool:
    for element in record.elements or ():
        score = element.get("score")
        if asked.labels is not None and element["label"] not in asked.labels:
            continue
        if asked.minimum_score is not None and (score is None or score < asked.minimum_score):
            continue
        if asked.maximum_score is not None and (score is None or score > asked.maximum_score):
            continue
        return True
    return False


def is_there(record: Record, asked: istore.GeolocationFilter) -> bool:
    circle, rectangle = asked.gps_coordinates_circle, asked.gps_coordinates_rectangle
    if circle is None and rectangle is None:
        return True
    if record.latitude is None or record.longitude is None:
        return False
    if rectangle is not None:
        for value, one, other in (
            (record.latitude, rectangle.p1.latitude, rectangle.p2.latitude),
            (record.longitude, rectangle.p1.longitude, rectangle.p2.longitude),
        ):
            if not min(one, other) <= value <= max(one, other):
                return False
    if circle is None:
        return True
    here = on_sphere(record.latitude, record.longitude)
    there = on_sphere(circle.center.latitude, circle.center.longitude)
    distance = 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.dist(here, there) / 2))
    if abs(distance - circle.radius) < 0.01 + 1e-6 * distance:
        raise UnclearError
    return distance < circle.radius


def on_sphere(latitude: float, longitude: float) -> tuple[float, float, float]:
    north, east = math.radians(latitude), math.radians(longitude)
    return math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)
