"""Filters as people write them, read as the filters of the inference store.

What is wrong is told with the name of its option. How each is written is said where it is
read: see `Filters`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, time, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from pixano_cli.errors import StoreError, UsageError

# The command line imports this for `Filters` alone.
if TYPE_CHECKING:
    from pixano_cli.inference_store.database import Store
    from pixano_cli.inference_store.models import (
        BaseInferenceFilter,
        GeoCircle,
        GeoPoint,
        GeoRectangle,
        MetadataFilter,
        MetadataFilterType,
        TimeWindowFilter,
    )

_AGE = re.compile(r"([0-9]+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME_FORMS = (
    "write a date (2024-05-31, in UTC), a time with its zone (2024-05-31T12:00:00Z or "
    "2024-05-31T12:00:00+02:00), or an age (90s, 30m, 12h, 7d, 2w)"
)

_META = re.compile(
    r"""\s*(?P<key>.+?)
    (?::(?P<type>(?:json\.)?(?:string|int|float)))?
    \s*(?P<operator>!=|>=|<=|=|>|<|\sin(?=\s*\[.*\]\s*$))
    \s*(?P<value>.*?)\s*""",
    re.VERBOSE | re.DOTALL,
)
_META_FORMS = (
    "write key=value, key!=value, key>5, key>=5, key<5, key<=5 or key in [a,b], with a type "
    "where it is not the stored one: key:int=5, key.path:json.float>0.5"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which records are meant, as the options of the same names say it; all of it has to hold.

    Attributes:
        model_id: Of one of these models; none of them named means any.
        label: With an object of one of these labels, within the scores.
        min_score: With an object of this score or more, among the labels.
        max_score: With an object of this score or less.
        since: Made then or later: a date, a time with its zone, or an age such as 7d or 12h. A
            date is a whole day in UTC, from its start.
        until: Made then or before, likewise; a date is one to its end.
        meta: With such metadata: KEY OPERATOR VALUE, the operator one of = != > >= < <= in.
            The type may follow the key: KEY:int>5. Without one, a key is compared as the type it
            is stored under; a value in double quotes is a string, written as in JSON. Blanks
            around the parts do not count.
        near: Taken within METRES of a place: LAT,LON,METRES.
        within: Taken in a rectangle, by two opposite corners: LAT,LON,LAT,LON.
        source: From this data source.
        hash: On this input, by its sha256.
        action: Answers to this: detect, embed, predict or predict_proba.
    """

    model_id: Sequence[str] = ()
    label: Sequence[str] = ()
    min_score: float | None = None
    max_score: float | None = None
    since: str | None = None
    until: str | None = None
    meta: Sequence[str] = ()
    near: str | None = None
    within: str | None = None
    source: str | None = None
    hash: str | None = None
    action: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether none is given, so that every record is meant."""
        return all(value in (None, (), []) for value in astuple(self))


class Comparison(NamedTuple):
    """What one `--meta` says; the type is None where it is left to the store."""

    key: str
    type: str | None
    operator: str
    value: str


def read_filters(
    filters: Filters, store: Store | None = None, *, at: datetime | None = None
) -> BaseInferenceFilter:
    """Read filters as the inference store takes them; the models are not among these.

    Args:
        filters: What was written.
        store: Tells the types of metadata that are not written; None leaves it to the values.
        at: The time that ages are counted from; now, if not given.

    Raises:
        UsageError: If one of them cannot be read, or cannot be stored anyway.
        StoreError: If the store cannot be read.
    """
    from pixano_cli.inference_store.models import (
        BaseInferenceFilter,
        DeconstructedInferenceFilter,
        GeolocationFilter,
        InferenceAction,
    )

    _check_texts(filters)
    if filters.action is not None:
        actions = [each.value for each in InferenceAction]
        if filters.action not in actions:
            raise UsageError(f"--action {filters.action}: one of {', '.join(actions)} is wanted")
    for option, bound in (("--min-score", filters.min_score), ("--max-score", filters.max_score)):
        if bound is not None and not math.isfinite(bound):
            raise UsageError(f"{option} {bound}: a number is wanted")
    scored = (filters.min_score, filters.max_score) != (None, None)
    located = (filters.near, filters.within) != (None, None)
    return BaseInferenceFilter(
        inference_action_filter=filters.action,
        data_hash_filter=filters.hash,
        data_source_filter=filters.source,
        time_window_filter=_window(filters, at or datetime.now(UTC)),
        metadata_filter=[_metadata_filter(each, filters, store) for each in filters.meta] or None,
        location_filter=GeolocationFilter(
            gps_coordinates_circle=None if filters.near is None else read_near(filters.near),
            gps_coordinates_rectangle=None
            if filters.within is None
            else read_within(filters.within),
        )
        if located
        else None,
        deconstructed_inference_filter=DeconstructedInferenceFilter(
            labels=list(filters.label) or None,
            minimum_score=filters.min_score,
            maximum_score=filters.max_score,
        )
        if filters.label or scored
        else None,
    )


def read_models(store: Store, named: Sequence[str]) -> list[str]:
    """Return the models that are meant, in order: those named, or else all that are registered.

    Raises:
        UsageError: If one of them is not registered.
        StoreError: If the store cannot be read.
    """
    from sqlalchemy import select

    from pixano_cli.inference_store import schema

    with store.read() as connection:
        known = sorted(connection.execute(select(schema.models.c.model_id)).scalars())
    for name in named:
        if name not in known:
            close = get_close_matches(name, known, 1)
            few = ", ".join(known[:6]) + (", ..." if len(known) > 6 else "")
            there = f"it has {few}" if known else "it has none"
            hint = f"did you mean {close[0]!r}?" if close else there
            raise UsageError(f"--model-id: store {store.name} has no model {name!r}: {hint}")
    return [each for each in known if not named or each in named]


def read_meta(text: str) -> Comparison:
    """Read what a `--meta` says.

    Raises:
        UsageError: If it is not of the form.
    """
    form = _META.fullmatch(text)
    if form is None:
        raise UsageError(f"--meta {text!r} is no comparison: {_META_FORMS}")
    key, kind, operator, value = form["key"], form["type"], form["operator"].strip(), form["value"]
    if operator == "=" and value.startswith("="):
        raise UsageError(f"--meta {text!r}: write one = and, for a value that begins so, quotes")
    if operator == "in":
        return Comparison(key, kind, operator, value)
    unquoted = _unquoted(value)
    if unquoted is not None:
        return Comparison(key, kind or "string", operator, unquoted)
    return Comparison(key, kind, operator, value)


def looks_like(operator: str, value: str) -> str:
    """Return the type a value looks like: int, float or string; for `in`, all that are listed."""
    from pixano_cli.inference_store import values

    for kind in ("int", "float"):
        try:
            operand = values.read_operand(kind, operator, value)
        except StoreError:
            continue
        if operand != frozenset():
            return kind
    return "string"


def type_meant(looks: str, stored: Collection[MetadataFilterType]) -> MetadataFilterType:
    """Return the type to compare as, of those a key is stored under, where none is written.

    It is the one that the value looks like; if the key is not stored under it, a number is
    compared with numbers of the other kind, then as a text, and inside a json last.
    """
    from pixano_cli.inference_store.models import MetadataFilterType

    order = {
        "int": ("int", "float", "json.int", "json.float", "string", "json.string"),
        "float": ("float", "json.float", "string", "json.string"),
        "string": ("string", "json.string"),
    }[looks]
    wanted = [MetadataFilterType(each) for each in order]
    return next((each for each in wanted if each in stored), wanted[0])


def whole_operand(operator: str, value: str) -> str | None:
    """Return the integer that integers can be compared with, in place of a number with a fraction.

    None where there is none: no integer equals 2.5, and a text is no number.
    """
    from pixano_cli.inference_store import values

    number = values.read("float", value)
    if not isinstance(number, float):
        return None
    low, high = math.floor(number), math.ceil(number)
    if low == high or operator in (">", "<="):
        return str(low)
    return str(high) if operator in (">=", "<") else None


def read_near(text: str) -> GeoCircle:
    """Read `LAT,LON,METRES`.

    Raises:
        UsageError: If it is not of the form, is no place on the globe, or has a negative radius.
    """
    from pixano_cli.inference_store.models import GeoCircle

    latitude, longitude, radius = _numbers("--near", text, "LAT,LON,METRES")
    if radius < 0:
        raise UsageError(f"--near {text}: the radius in metres cannot be negative")
    return GeoCircle(center=_point("--near", text, latitude, longitude), radius=radius)


def read_within(text: str) -> GeoRectangle:
    """Read `LAT,LON,LAT,LON`: two opposite corners.

    Raises:
        UsageError: If it is not of the form, or a corner is no place on the globe.
    """
    from pixano_cli.inference_store.models import GeoRectangle

    numbers = _numbers("--within", text, "LAT,LON,LAT,LON")
    return GeoRectangle(
        p1=_point("--within", text, *numbers[:2]), p2=_point("--within", text, *numbers[2:])
    )


def read_time(option: str, text: str, at: datetime, *, end: bool = False) -> str:
    """Read a date, a time with its zone, or an age, as the store's time windows are written.

    Args:
        option: What it is given as, for the message.
        text: What was written.
        at: What ages are counted from.
        end: Whether a date means its end, and not its start.

    Raises:
        UsageError: If it is none of these, or before the year 1 or after the year 9999.
    """
    try:
        moment = _moment(text.strip(), at, end)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{option} {text!r} is no time, or has no zone: {_TIME_FORMS}") from error
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _moment(text: str, at: datetime, end: bool) -> datetime:
    if age := _AGE.fullmatch(text):
        return at.astimezone(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
    moment = datetime.fromisoformat(text)
    if _DATE.fullmatch(text):
        return datetime.combine(moment, time.max if end else time.min, UTC)
    if moment.tzinfo is None:
        raise ValueError("it has no zone")
    return moment.astimezone(UTC)


def _window(filters: Filters, at: datetime) -> TimeWindowFilter | None:
    from pixano_cli.inference_store.models import TimeWindowFilter

    if filters.since is None and filters.until is None:
        return None
    start = None if filters.since is None else read_time("--since", filters.since, at)
    end = None if filters.until is None else read_time("--until", filters.until, at, end=True)
    return TimeWindowFilter(start=start, end=end)


def _metadata_filter(text: str, filters: Filters, store: Store | None) -> MetadataFilter:
    from pixano_cli.inference_store import values
    from pixano_cli.inference_store.metadata_types import stored_types
    from pixano_cli.inference_store.models import (
        MetadataFilter,
        MetadataFilterOperator,
        MetadataFilterType,
    )

    meta = read_meta(text)
    value = meta.value
    kind: MetadataFilterType
    if meta.type is not None:
        kind = MetadataFilterType(meta.type)
    elif store is None:
        kind = MetadataFilterType(looks_like(meta.operator, meta.value))
    else:
        with store.read() as connection:
            stored = stored_types(connection, meta.key, filters.model_id)
        kind = type_meant(looks_like(meta.operator, value), stored)
        if kind not in stored and MetadataFilterType.INT in stored:
            # Only a fraction is left without a type of numbers that the key has.
            whole = whole_operand(meta.operator, value)
            if whole is not None:
                kind, value = MetadataFilterType.INT, whole
    try:
        values.check_name("its key", meta.key)
        values.read_operand(kind.value.removeprefix("json."), meta.operator, value)
    except StoreError as error:
        raise UsageError(f"--meta {text!r}: {error}") from error
    operator = MetadataFilterOperator(meta.operator)
    return MetadataFilter(key=meta.key, operator=operator, type=kind, value=value)


def _unquoted(value: str) -> str | None:
    """Return what stands in double quotes; None where none do."""
    import orjson

    if not value.startswith('"'):
        return None
    try:
        read: Any = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return read if isinstance(read, str) else None


def _numbers(option: str, text: str, form: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != form.count(",") + 1 or not all(map(math.isfinite, numbers)):
        raise UsageError(f"{option} {text!r}: numbers are wanted, as {form}")
    return numbers


def _point(option: str, text: str, latitude: float, longitude: float) -> GeoPoint:
    from pixano_cli.inference_store.models import GeoPoint
    from pixano_cli.inference_store.places import check_point

    point = GeoPoint(latitude=latitude, longitude=longitude)
    try:
        check_point(point)
    except StoreError as error:
        raise UsageError(f"{option} {text!r}: {error}") from error
    return point


def _check_texts(filters: Filters) -> None:
    """Refuse what no database can hold: arguments that are not UTF-8, and NUL characters."""
    from pixano_cli.inference_store import values

    texts = [("--model-id", each) for each in filters.model_id]
    texts += [("--label", each) for each in filters.label]
    texts += [("--meta", each) for each in filters.meta]
    single = {"--source": filters.source, "--hash": filters.hash, "--action": filters.action}
    texts += [(option, each) for option, each in single.items() if each is not None]
    for option, text in texts:
        try:
            values.check_text(option, text)
        except StoreError as error:
            raise UsageError(str(error)) from error
