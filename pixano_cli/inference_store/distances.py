"""Distances between embeddings: in doubles, and bounds of them from products of float32.

Vectors of very large or small numbers are scaled by a power of two before they are multiplied, so
that nothing that a double holds is too much on the way; the distance itself may be infinite. Sums
are numpy's pairwise ones over each vector by itself, so a distance does not depend on what else
is measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixano_cli.errors import StoreError
from pixano_cli.inference_store.models import EmbeddingDistanceMetric

Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]
Exponents = NDArray[np.integer[Any]]

SMALLEST_NORM, LARGEST_NORM = 2.0**-400, 2.0**400
"""Norms whose products and squares are as exact as any; others are not bounded."""

_UNIT = 2.0**-24
"""The largest relative error of a number rounded to float32."""

_SLACK = 1e-12
"""More than the arithmetic in doubles can be wrong, relative to the norms."""


class Query:
    """A vector to measure distances from.

    `cosine` is 1 - cos; the angle to or from a vector of zeros counts as a right one, so that
    its distance is 1. `l2` is Euclidean. `negative_dot_product` is just that.
    """

    def __init__(self, vector: Sequence[float], metric: str | None = None) -> None:
        """Take the vector.

        Args:
            vector: Its numbers.
            metric: An EmbeddingDistanceMetric's value; None means cosine.

        Raises:
            StoreError: If it is empty or holds NaN or an infinity, or there is no such metric.
        """
        try:
            self.metric = EmbeddingDistanceMetric(metric or EmbeddingDistanceMetric.COSINE)
        except ValueError:
            known = ", ".join(each.value for each in EmbeddingDistanceMetric)
            raise StoreError(f"there is no distance {metric!r}: use {known}") from None
        self.vector = np.array(vector, dtype=np.float64)
        if self.vector.ndim != 1 or not self.vector.size:
            raise StoreError("query_embedding is empty")
        if not np.isfinite(self.vector).all():
            raise StoreError("query_embedding holds a number that is NaN or infinite")
        self._scaled, self._exponent = _scaled(self.vector[np.newaxis])
        unit, norm = directions(self.vector[np.newaxis])
        self.direction: Singles = unit[0]
        self._norm = float(norm[0])
        self._error = product_error(self.vector.size)

    @property
    def has_bounds(self) -> bool:
        """Whether `bounds` can tell anything."""
        return math.isfinite(self._norm) and math.isfinite(self._error)

    def distances(self, vectors: Doubles) -> Doubles:
        """Return the distances [n] of vectors [n, dim]; infinite for those that are not finite."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            if self.metric is EmbeddingDistanceMetric.L2:
                found = self._euclidean(vectors)
            else:
                found = self._by_product(vectors)
        found[~np.isfinite(vectors).all(axis=1)] = np.inf
        return found

    def bounds(self, products: Singles, norms: Doubles) -> tuple[Doubles, Doubles]:
        """Return limits [n], [n] that distances cannot be under or over.

        Args:
            products: Of `direction` with what `directions` returned, added up in float32 in
                whatever order.
            norms: What `directions` returned besides.
        """
        cosines = products.astype(np.float64)
        if self.metric is EmbeddingDistanceMetric.COSINE:
            low, high = 1 - cosines - self._error, 1 - cosines + self._error
        elif self.metric is EmbeddingDistanceMetric.NEGATIVE_DOT_PRODUCT:
            scale = norms * self._norm
            low, high = -scale * (cosines + self._error), -scale * (cosines - self._error)
        else:
            # |x - q|^2 = |x|^2 + |q|^2 - 2 |x| |q| cos
            squares = norms * norms + self._norm * self._norm
            twice = 2 * self._norm * norms
            slack = squares * _SLACK
            low = np.sqrt(np.maximum(squares - twice * (cosines + self._error) - slack, 0))
            high = np.sqrt(np.maximum(squares - twice * (cosines - self._error) + slack, 0))
            low *= 1 - _SLACK
            high *= 1 + _SLACK
        unknown = np.isnan(norms)
        low[unknown], high[unknown] = -np.inf, np.inf
        return low, high

    def _by_product(self, vectors: Doubles) -> Doubles:
        scaled, exponents = _scaled(vectors)
        products = (scaled * self._scaled).sum(axis=1)
        if self.metric is EmbeddingDistanceMetric.NEGATIVE_DOT_PRODUCT:
            # Without a negative zero.
            return 0.0 - _times_two_to(products, exponents + self._exponent)
        squares = (scaled * scaled).sum(axis=1) * (self._scaled * self._scaled).sum(axis=1)
        # The root of a square is exact, so that a vector is at distance 0 from itself.
        cosines = np.divide(
            products, np.sqrt(squares), out=np.zeros_like(products), where=squares > 0
        )
        found: Doubles = np.clip(1 - cosines, 0, 2)
        return found

    def _euclidean(self, vectors: Doubles) -> Doubles:
        differences = vectors - self.vector
        # Only the very largest numbers have a difference that is too large.
        too_large = ~np.isfinite(differences).all(axis=1)
        differences[too_large] = vectors[too_large] / 4 - self.vector / 4
        scaled, exponents = _scaled(differences)
        lengths: Doubles = np.sqrt((scaled * scaled).sum(axis=1))
        return _times_two_to(lengths, exponents + 2 * too_large)


def directions(vectors: Doubles) -> tuple[Singles, Doubles]:
    """Return vectors [n, dim] scaled to length 1 as float32, and their lengths [n].

    The length is NaN where `Query.bounds` can tell nothing: where a number is not finite, or the
    length too large or too small; the direction is then 0, as that of a vector of zeros is.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scaled, exponents = _scaled(vectors)
        lengths = np.sqrt((scaled * scaled).sum(axis=1))
        norms = _times_two_to(lengths, exponents)
        regular = (norms >= SMALLEST_NORM) & (norms <= LARGEST_NORM)
        unit = np.divide(
            scaled,
            lengths[:, np.newaxis],
            out=np.zeros_like(scaled),
            where=regular[:, np.newaxis],
        )
    norms[~regular & (lengths != 0)] = np.nan
    return unit.astype(np.float32), norms


def _scaled(vectors: Doubles) -> tuple[Doubles, Exponents]:
    """Return vectors [n, dim] times two to the power of minus the exponents [n], most often 0.

    Their products and squares are then of a size that doubles hold.
    """
    peaks = np.maximum(vectors.max(axis=1), -vectors.min(axis=1))
    ordinary = (peaks >= 2.0**-200) & (peaks <= 2.0**200) | (peaks == 0)
    exponents = np.where(ordinary, np.int32(0), np.frexp(peaks)[1])
    if ordinary.all():
        return vectors, exponents
    return _times_two_to(vectors, -exponents[:, np.newaxis]), exponents


def _times_two_to(numbers: Doubles, exponents: Exponents) -> Doubles:
    found: Doubles = np.ldexp(numbers, exponents)
    return found


def product_error(dimension: int) -> float:
    """Return how wrong a product of two directions of `dimension` float32 can be.

    N. J. Higham, "Accuracy and Stability of Numerical Algorithms", second edition (2002), section
    3.1: n u / (1 - n u) times the product of the lengths, whatever the order of the sum. Four
    more for the rounding of both directions. Numbers that float32 holds only as subnormal add
    less than the last term.
    """
    relative = (dimension + 4) * _UNIT
    if relative > 0.25:
        return math.inf
    return relative / (1 - relative) + dimension * 2.0**-125 + _SLACK
