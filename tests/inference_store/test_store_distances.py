"""Distances are what exact arithmetic says, and no bound is wrong."""

from __future__ import annotations

import math
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.errors import StoreError
from pixano_cli.inference_store.distances import Query, directions

METRICS = ["cosine", "l2", "negative_dot_product"]

plain = st.floats(-2, 2, width=32)
any_number = st.floats(allow_nan=False, allow_infinity=False)
exponents = st.sampled_from([-1070, -500, -30, 0, 0, 0, 30, 500, 1023])


@st.composite
def vectors(draw: st.DrawFn, dimension: int) -> list[float]:
    """Vectors of numbers of the same size, of any size, or of all sizes."""
    if draw(st.booleans()):
        return draw(st.lists(any_number, min_size=dimension, max_size=dimension))
    scale = 2.0 ** draw(exponents)
    numbers = draw(st.lists(plain, min_size=dimension, max_size=dimension))
    return [number / 2 * scale for number in numbers]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    """A query, and a vector that may be nearly the same."""
    dimension = draw(st.integers(1, 12))
    query = draw(vectors(dimension))
    kind = draw(st.sampled_from(["other", "same", "near", "scaled"]))
    if kind == "other":
        return query, draw(vectors(dimension))
    factor = {"same": 1.0, "near": 1 - 1e-9, "scaled": -0.375}[kind]
    return query, [number * factor for number in query]


def exactly(metric: str, query: list[float], vector: list[float]) -> tuple[Decimal, Decimal]:
    """The distance to 60 digits, and what its error is relative to."""
    with localcontext(Context(prec=60, Emin=-99999, Emax=99999)):
        product = decimal(
            sum(Fraction(a) * Fraction(b) for a, b in zip(query, vector, strict=True))
        )
        lengths = [
            decimal(sum(Fraction(each) ** 2 for each in one)).sqrt() for one in (query, vector)
        ]
        scale = lengths[0] * lengths[1]
        if metric == "cosine":
            return 1 - product / scale if scale else Decimal(1), Decimal(1)
        if metric == "negative_dot_product":
            return -product, scale
        squares = sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(query, vector, strict=True))
        return decimal(squares).sqrt(), decimal(squares).sqrt()


def decimal(number: Fraction | int) -> Decimal:
    return Decimal(number.numerator) / Decimal(number.denominator)


@pytest.mark.parametrize("metric", METRICS)
@given(pair=pairs())
def test_distances_are_exact_and_within_their_bounds(
    metric: str, pair: tuple[list[float], list[float]]
) -> None:
    query = Query(pair[0], metric)
    vector = np.array([pair[1]])
    (distance,) = query.distances(vector).tolist()
    expected, scale = exactly(metric, *pair)
    with localcontext(Context(prec=60, Emin=-99999, Emax=99999)):
        if math.isinf(distance):
            assert abs(expected) > Decimal("1.797e308")
        else:
            assert abs(Decimal(distance) - expected) <= scale * Decimal("1e-14") + Decimal("1e-322")
    if query.has_bounds:
        unit, norm = directions(vector)
        low, high = query.bounds(unit @ query.direction, norm)
        assert low[0] <= distance <= high[0]


@pytest.mark.parametrize("metric", METRICS)
@given(
    random=st.randoms(use_true_random=False),
    dimension=st.sampled_from([1, 3, 16, 511, 1280]),
    nearness=st.sampled_from([0, 1e-7, 1e-4, 1]),
)
def test_bounds_are_narrow(metric: str, random: Random, dimension: int, nearness: float) -> None:
    generator = np.random.default_rng(random.randrange(2**32))
    query = Query(generator.standard_normal(dimension).tolist(), metric)
    others = generator.standard_normal((50, dimension)) * nearness + query.vector
    unit, norms = directions(others)
    low, high = query.bounds(np.einsum("ij,j->i", unit, query.direction), norms)
    distances = query.distances(others)
    assert (low <= distances).all()
    assert (distances <= high).all()
    if metric != "l2":
        scale = 1 if metric == "cosine" else norms * np.linalg.norm(query.vector)
        assert (high - low <= 3 * (dimension + 5) * 2.0**-24 * scale).all()


def test_a_vector_is_at_no_distance_from_itself() -> None:
    generator = np.random.default_rng(0)
    for dimension in (1, 2, 7, 8, 100, 1280):
        vectors = generator.standard_normal((20, dimension))
        for vector in vectors:
            assert Query(vector.tolist(), "cosine").distances(vector[np.newaxis]) == [0]
            assert Query(vector.tolist(), "l2").distances(vector[np.newaxis]) == [0]


def test_a_distance_does_not_depend_on_what_else_is_measured() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((40, 300)) * 10.0 ** generator.integers(-200, 300, (40, 1))
    for metric in METRICS:
        query = Query(vectors[3].tolist(), metric)
        together = query.distances(vectors)
        alone = [query.distances(vectors[row : row + 1])[0] for row in range(40)]
        assert together.tolist() == alone


def test_vectors_of_zeros_are_at_right_angles_to_all() -> None:
    zeros, other = [0.0, 0.0], [3.0, 4.0]
    assert Query(zeros).distances(np.array([zeros, other])).tolist() == [1, 1]
    assert Query(other).distances(np.array([zeros, other])).tolist() == [1, 0]
    assert Query(zeros, "l2").distances(np.array([zeros, other])).tolist() == [0, 5]
    (product, *_) = Query(zeros, "negative_dot_product").distances(np.array([other])).tolist()
    assert math.copysign(1, product) == 1


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_no_number_is_infinitely_far(metric: str) -> None:
    broken = np.array([[math.nan, 1.0], [math.inf, 1.0], [-math.inf, 0.0]])
    query = Query([1.0, 2.0], metric)
    assert query.distances(broken).tolist() == [math.inf] * 3
    unit, norms = directions(broken)
    low, high = query.bounds(unit @ query.direction, norms)
    assert (low.tolist(), high.tolist()) == ([-math.inf] * 3, [math.inf] * 3)


@pytest.mark.parametrize(
    ("vector", "metric", "message"),
    [
        ([], None, "empty"),
        ([1.0, math.nan], None, "NaN or infinite"),
        ([-math.inf], None, "NaN or infinite"),
        ([1.0], "euclidean", "no distance 'euclidean'.*cosine, l2, negative_dot_product"),
    ],
)
def test_what_is_no_query_is_refused(vector: list[float], metric: str | None, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        Query(vector, metric)
