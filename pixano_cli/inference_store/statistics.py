"""Metadata counted and measured by the database: types by key, and how values are distributed.

Numbers are compared as doubles. An int beyond all of them counts, and is the infinite least or
greatest value, but lies in no bin.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Integer,
    and_,
    column,
    func,
    select,
)
from sqlalchemy import values as rows_of

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import pages, schema, values
from pixano_cli.inference_store.filters import of_type, search
from pixano_cli.inference_store.models import (
    BaseInferenceFilter,
    MetadataKeyTypeCounts,
    MetadataStatistics,
    MetadataStatisticsType,
    NewGetMetadataStatisticsRequest,
)

BINS = 10
MOST_BINS = 10_000
MOST_VALUES = 100_000
"""Most different strings that are counted one by one."""

LONGEST_VALUES = 50_000_000
"""Most characters of them all together."""

_BINS_A_STATEMENT = 1_000
_table = schema.metadata
_inferences = schema.inferences
_models = schema.models
_count = func.count()


def key_type_counts(connection: Connection, model_id: str) -> MetadataKeyTypeCounts | None:
    """Return how many of a model's inferences have each key, by type; None if there is no model."""
    model = _model(connection, model_id)
    if model is None:
        return None
    query = (
        select(_table.c.key, _table.c.type, _count)
        .where(_table.c.model == model, _not_hidden(model_id))
        .group_by(_table.c.key, _table.c.type)
        .order_by(_table.c.key, _table.c.type)
    )
    counts: dict[str, dict[str, int]] = {}
    for key, kind, number in connection.execute(query):
        counts.setdefault(key, {})[kind] = number
    return MetadataKeyTypeCounts(counts=counts)


def measure(
    connection: Connection, model_id: str, request: NewGetMetadataStatisticsRequest
) -> MetadataStatistics | None:
    """Return how a key's values are distributed; None if there is no such model.

    Raises:
        StoreError: If the request contradicts itself, or a filter in it is not valid.
    """
    kind = MetadataStatisticsType(request.type).value
    _check(request, kind)
    model = _model(connection, model_id)
    if model is None:
        return None
    observed = and_(
        _table.c.model == model,
        _table.c.key == values.check_text("metadata key", request.key),
        of_type(_table, kind),
        _passing(connection, model_id, request.filters),
    )
    if kind == MetadataStatisticsType.STRING:
        found = _strings(connection, observed)
        return MetadataStatistics(count=sum(found.values()), distribution=found)
    number = _table.c.number
    query = select(_count, func.min(number), func.max(number)).where(observed)
    count, least, greatest = connection.execute(query).one()
    if not count:
        return MetadataStatistics(count=0, distribution={})
    edges = _edges(request, _finite(connection, observed, least, greatest))
    distribution = _distribution(connection, observed, edges)
    return MetadataStatistics(count=count, distribution=distribution, min=least, max=greatest)


def _check(request: NewGetMetadataStatisticsRequest, kind: str) -> None:
    count, width = request.distribution_bin_count, request.distribution_bin_width
    start, end = request.distribution_minimum_value, request.distribution_maximum_value
    if kind == MetadataStatisticsType.STRING and {count, width, start, end} != {None}:
        raise StoreError("strings are counted one by one: ask for bins, a minimum or a maximum")
    if count is not None and width is not None:
        raise StoreError("give distribution_bin_count or distribution_bin_width, not both")
    if count is not None and not 0 < count <= MOST_BINS:
        raise StoreError(f"distribution_bin_count {count} is not in 1..{MOST_BINS}")
    if width is not None and not 0 < width < math.inf:
        raise StoreError(f"distribution_bin_width {width} is no width of a bin")
    for name, value in (("minimum", start), ("maximum", end)):
        if value is not None and not math.isfinite(value):
            raise StoreError(f"distribution_{name}_value {value} is no number to bin from or to")
    if start is not None and end is not None and start > end:
        raise StoreError(
            f"distribution_minimum_value {start} is greater than "
            f"distribution_maximum_value {end}: exchange them"
        )


def _model(connection: Connection, model_id: str) -> int | None:
    name = values.check_text("model_id", model_id)
    query = select(_models.c.id).where(_models.c.model_id == name)
    return connection.execute(query).scalar_one_or_none()


def _not_hidden(model_id: str) -> ColumnElement[bool]:
    hidden = select(_inferences.c.id).where(
        _inferences.c.model_id == model_id, _inferences.c.deleted_at.is_not(None)
    )
    return _table.c.inference.not_in(hidden)


def _passing(
    connection: Connection, model_id: str, filters: BaseInferenceFilter | None
) -> ColumnElement[bool]:
    """Return the condition for metadata of the inferences that pass."""
    if filters is None or filters == BaseInferenceFilter():
        return _not_hidden(model_id)
    condition = pages.passing(connection, search(model_id, filters))
    return _table.c.inference.in_(select(_inferences.c.id).where(condition))


def _strings(connection: Connection, observed: ColumnElement[bool]) -> dict[str, int]:
    """Count each string: short ones in an index, which has all of them, and long ones apart."""
    start = _table.c.start
    is_short = func.length(start) < values.START
    found: dict[str, int] = {}
    length = 0
    for shown, condition in ((start, is_short), (_table.c.value, ~is_short)):
        query = select(shown, _count).where(observed, condition).group_by(shown)
        result = connection.execution_options(stream_results=True).execute(query)
        with result:
            for value, number in result.yield_per(1_000):
                found[value] = number
                length += len(value)
                if len(found) > MOST_VALUES or length > LONGEST_VALUES:
                    raise StoreError(
                        f"there are too many different strings to count each: more than "
                        f"{MOST_VALUES}, or very long ones: ask with filters for a part of them"
                    )
    return dict(sorted(found.items(), key=lambda each: (-each[1], each[0])))


def _finite(
    connection: Connection, observed: ColumnElement[bool], least: float, greatest: float
) -> tuple[float, float] | None:
    """Return the least and the greatest value that doubles hold; None if there is none."""
    if math.isfinite(least) and math.isfinite(greatest):
        return least, greatest
    number = _table.c.number
    finite = number.between(-sys.float_info.max, sys.float_info.max)
    query = select(func.min(number), func.max(number)).where(observed, finite)
    low, high = connection.execute(query).one()
    return None if low is None else (low, high)


def _edges(
    request: NewGetMetadataStatisticsRequest, observed: tuple[float, float] | None
) -> list[float]:
    """Return where bins begin and the last one ends, without rounding before the end.

    Raises:
        StoreError: If they are too many.
    """
    low, high = request.distribution_minimum_value, request.distribution_maximum_value
    if observed is not None:
        low = observed[0] if low is None else low
        high = observed[1] if high is None else high
    if low is None or high is None or low > high:
        return []
    if low == high:
        return [low, high]
    start, length = Fraction(low), Fraction(high) - Fraction(low)
    if request.distribution_bin_width is not None:
        width = Fraction(request.distribution_bin_width)
        count = math.ceil(length / width)
    else:
        count = BINS if request.distribution_bin_count is None else request.distribution_bin_count
        width = length / count
    if count > MOST_BINS:
        raise StoreError(
            f"distribution_bin_width {request.distribution_bin_width} makes more than {MOST_BINS} "
            f"bins from {_shown(low)} to {_shown(high)}: give a greater one"
        )
    between = [float(start + index * width) for index in range(1, count)]
    # Where doubles are further apart than bins, some of these are the same.
    return sorted({low, *between, high})


def _distribution(
    connection: Connection, observed: ColumnElement[bool], edges: Sequence[float]
) -> dict[str, int]:
    """Count the observations in each bin, given the edges between bins and at both ends."""
    bins = list(pairwise(edges))
    found: dict[str, int] = {}
    for start in range(0, len(bins), _BINS_A_STATEMENT):
        some = bins[start : start + _BINS_A_STATEMENT]
        rows = [
            # What is at the end of the last bin is in it.
            (index, low, math.nextafter(high, math.inf) if high == edges[-1] else high)
            for index, (low, high) in enumerate(some)
        ]
        table = (
            rows_of(
                column("bin", Integer), column("low", Float), column("high", Float), name="bins"
            )
            .data(rows)
            .cte("bins")
        )
        inside = and_(observed, _table.c.number >= table.c.low, _table.c.number < table.c.high)
        # The other way round SQLite would try every bin for every observation.
        query = (
            select(table.c.bin, func.count(_table.c.inference))
            .select_from(table.outerjoin(_table, inside))
            .group_by(table.c.bin)
            .order_by(table.c.bin)
        )
        for index, count in connection.execute(query):
            low, high = some[index]
            end = "]" if high == edges[-1] else ")"
            found[f"[{_shown(low)}, {_shown(high)}{end}"] = count
    return found


def _shown(number: float) -> str:
    # The sum has no -0, which is equal to 0.
    return repr(number + 0.0).removesuffix(".0")
