"""Which vectors are connected by small distances: exactly, in blocks, in bounded memory.

Every pair counts, but few are looked at in full. Vectors of length 1 are projected on the few axes
that most of their length lies along, and the length of what is left is kept with the projection.
For u = a + b and v = c + d, with a and c along the axes and b and d at right angles to them, u.v is
at most a.c + |b| |d| (Cauchy and Schwarz): what these short vectors say is too far is too far.
"""

from __future__ import annotations

import numpy as np

from pixano_cli.inference_store.distances import Doubles, Singles, product_error
from pixano_cli.inference_store.vector_file import Integers

ROUNDING = 1e-6
"""Directions are in float32: distances that differ by less are taken as the same."""

BLOCK = 1_024

SHARE = 8
"""There is one axis for so many numbers of a vector: so much less there is to multiply."""

SAMPLE = 4_096
"""How many vectors the axes are made from; of fewer, all pairs are looked at in full."""

FEWEST = 8
"""Fewest axes that are worth it."""

LARGEST = 4_096
"""Most numbers of vectors that are projected: finding the axes takes the cube of it."""

PAIR_BYTES = 2**24
"""How much of the vectors of pairs is measured at once."""

_MANY = 0.02
"""Where a block leaves more of its pairs in question, a product of whole vectors is quicker."""


class DisjointSets:
    """Sets of the numbers from 0 to a size, each at first by itself.

    Attributes:
        size: How many numbers there are.

    R. E. Tarjan, "Efficiency of a Good But Not Linear Set Union Algorithm", Journal of the ACM
    22 (1975), with the lowest number as the root of its set.
    """

    def __init__(self, size: int) -> None:
        """Make the sets."""
        self.size = size
        self._above = np.arange(size)

    def roots(self, numbers: Integers) -> Integers:
        """Return the lowest number [n] of the set of each of the numbers [n]."""
        found = self._above[numbers]
        while not np.array_equal(above := self._above[found], found):
            found = above
        self._above[numbers] = found
        return found

    def join(self, ones: Integers, others: Integers) -> None:
        """Make one set of those of `ones` [n] and of `others` [n], pair by pair."""
        pairs = np.unique(np.stack([self.roots(ones), self.roots(others)], axis=1), axis=0)
        above = self._above
        for one, other in pairs.tolist():
            while above[one] != one:
                one = above[one]
            while above[other] != other:
                other = above[other]
            above[max(one, other)] = min(one, other)


def join_near(
    directions: Singles, rows: Integers, numbers: Integers, sets: DisjointSets, threshold: float
) -> None:
    """Join the sets of those whose vectors have a cosine distance of no more than a threshold.

    Args:
        directions: Vectors [m, dim] of length 1, or 0 for those without a direction.
        rows: Which of them to compare [n].
        numbers: Whose those are [n]: numbers of the sets.
        sets: The sets.
        threshold: The distance, at least 0; see `ROUNDING`.
    """
    dimension = directions.shape[1]
    whole_error = product_error(dimension)
    axes = dimension // SHARE
    is_projected = len(rows) > SAMPLE and axes >= FEWEST and dimension <= LARGEST
    short = _short(directions, rows, axes) if is_projected else None
    error = whole_error if short is None else product_error(axes + 1) + ROUNDING
    limit = 1 - threshold - ROUNDING

    def block(start: int) -> Singles:
        wanted = slice(start, start + BLOCK)
        return directions[rows[wanted]] if short is None else short[wanted]

    for first in range(0, len(rows), BLOCK):
        ours = block(first)
        for second in range(first, len(rows), BLOCK):
            close = ours @ block(second).T >= limit - error
            if first == second:
                close = np.triu(close, 1)
            if not close.any():
                continue
            these, those = slice(first, first + BLOCK), slice(second, second + BLOCK)
            close &= sets.roots(numbers[these])[:, np.newaxis] != sets.roots(numbers[those])
            count = np.count_nonzero(close)
            if short is not None and count > close.size * _MANY:
                products = directions[rows[these]] @ directions[rows[those]].T
                close &= products >= limit - whole_error
            if count:
                ones, others = np.nonzero(close)
                _join_close(directions, rows, numbers, sets, limit, ones + first, others + second)


def cosine_distances(ones: Singles, others: Singles) -> Doubles:
    """Return 1 - cosine [n] of the pairs of two arrays of vectors [n, dim]; see `Query`."""
    one, other = ones.astype(np.float64), others.astype(np.float64)
    squares = (one * one).sum(axis=1) * (other * other).sum(axis=1)
    products = (one * other).sum(axis=1)
    # The root of a square is exact, so that a vector is at distance 0 from itself.
    cosines = np.divide(products, np.sqrt(squares), out=np.zeros_like(products), where=squares > 0)
    found: Doubles = np.clip(1 - cosines, 0, 2)
    return found


def _join_close(
    directions: Singles,
    rows: Integers,
    numbers: Integers,
    sets: DisjointSets,
    limit: float,
    ones: Integers,
    others: Integers,
) -> None:
    """Measure pairs [n], [n] of indices into `rows`, but for those that are joined already."""
    size = max(1, PAIR_BYTES // (16 * directions.shape[1]))
    while len(ones):
        apart = sets.roots(numbers[ones]) != sets.roots(numbers[others])
        ones, others = ones[apart], others[apart]
        one, other = ones[:size], others[:size]
        distances = cosine_distances(directions[rows[one]], directions[rows[other]])
        near = 1 - distances >= limit
        sets.join(numbers[one[near]], numbers[other[near]])
        ones, others = ones[size:], others[size:]


def _short(directions: Singles, rows: Integers, count: int) -> Singles:
    """Return short vectors [n, count + 1] whose products those of the rows [n] are not over.

    What is left over is the root of a difference of squares, so it is exact to 1e-7 or so.
    """
    sample = directions[rows[:: len(rows) // SAMPLE]].astype(np.float64)
    _, vectors = np.linalg.eigh(sample.T @ sample)
    axes = vectors[:, -count:]
    short = np.empty((len(rows), count + 1), np.float32)
    for start in range(0, len(rows), BLOCK):
        some = directions[rows[start : start + BLOCK]].astype(np.float64)
        along = some @ axes
        left = (some * some).sum(axis=1) - (along * along).sum(axis=1)
        short[start : start + BLOCK, :count] = along
        short[start : start + BLOCK, count] = np.sqrt(np.maximum(left, 0))
    return short
