"""Linear layers on a CPU, by oneDNN where it is faster than torch and gives the same bits.

torch leaves linear layers to MKL, and they are two thirds of the time of SAM 2. MKL leaves AVX-512
unused on a processor that is not Intel's, where oneDNN takes about half the time: on an AMD EPYC
0.73 ms against 1.44 for [256, 384] by [384, 1536]. There MKL sums the products of at most 192
columns and then adds the sums up; oneDNN, given so many columns at a time, makes the same sums.
None of this is taken for granted: each shape is tried when it is first met.
"""

from __future__ import annotations

from functools import cache
from math import ceil
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn import Linear
from torch.nn.functional import linear

_COLUMNS = 192
# Multiplications below which a layer takes some microseconds only, whoever computes it.
_FEW = 2**22
_TRIALS = 5


def share_with_onednn(model: torch.nn.Module) -> None:
    """Let the linear layers of a network in inference choose; not a bit of an answer changes."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    layers: list[Any] = [each for each in model.modules() if type(each) is Linear]
    for layer in layers:
        layer.forward = _Shared(layer).forward


class _Shared:
    """One layer."""

    def __init__(self, layer: Linear) -> None:
        self._weight, self._bias = layer.weight, layer.bias
        self._parts: dict[int, list[Tensor]] = {}

    def forward(self, given: Tensor) -> Tensor:
        """Return what `torch.nn.Linear` returns."""
        rows = given.numel() // self._weight.shape[1]
        columns = _columns(rows, *self._weight.shape, torch.get_num_threads())
        # What is not contiguous torch sums in yet another order.
        if not columns or not given.is_contiguous():
            return linear(given, self._weight, self._bias)
        if columns not in self._parts:
            self._parts[columns] = _split(self._weight, columns)
        return _by_onednn(given, self._parts[columns], self._bias)


@cache
def _columns(rows: int, out: int, width: int, _threads: int) -> int:
    """Return how many columns oneDNN is to sum at a time; 0 to leave it to torch.

    The two take turns at random numbers of the shape: [rows, width] by [width, out].
    """
    if rows * width * out < _FEW:
        return 0
    random = torch.Generator().manual_seed(0)
    given = torch.randn(rows, width, generator=random)
    weight = torch.randn(out, width, generator=random)
    bias = torch.randn(out, generator=random)
    columns = next(size for size in (width, ceil(width / 2), _COLUMNS) if size <= _COLUMNS)
    parts = _split(weight, columns)
    torchs_s, onednns_s = [], []
    for _ in range(_TRIALS):
        started = perf_counter()
        expected = linear(given, weight, bias)
        between = perf_counter()
        found = _by_onednn(given, parts, bias)
        onednns_s.append(perf_counter() - between)
        torchs_s.append(between - started)
        if not torch.equal(found, expected):
            return 0
    return columns if min(onednns_s) < min(torchs_s) else 0


def _split(weight: Tensor, columns: int) -> list[Tensor]:
    return [part.contiguous() for part in torch.split(weight, columns, dim=1)]


def _by_onednn(given: Tensor, parts: list[Tensor], bias: Tensor | None) -> Tensor:
    pieces = torch.split(given, parts[0].shape[1], dim=-1)
    # What torch's own compiler calls for a linear layer.
    multiply = torch.ops.mkldnn._linear_pointwise
    total: Tensor = multiply(pieces[0], parts[0], bias, "none", [], "")
    for piece, part in zip(pieces[1:], parts[1:], strict=True):
        total += multiply(piece, part, None, "none", [], "")
    return total
