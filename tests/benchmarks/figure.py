"""A figure: what was measured, against which baseline of the same run, and what is required."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Of = Literal["ratio", "value", "difference"]


@dataclass(frozen=True, slots=True)
class Required:
    """A limit on a figure's ratio, on its value, or on its value less its baseline."""

    of: Of
    limit: float
    at_least: bool = False

    def holds(self, value: float, baseline: float) -> bool:
        """Return whether a figure keeps to it."""
        got = {"ratio": value / baseline, "value": value, "difference": value - baseline}[self.of]
        return got >= self.limit if self.at_least else got <= self.limit

    def text(self, unit: str) -> str:
        """Say it in words."""
        bound = "at least" if self.at_least else "at most"
        return f"{self.of} {bound} {self.limit:g}{'' if self.of == 'ratio' else ' ' + unit}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report.

    Attributes:
        benchmark: Name of the benchmark.
        what: What was measured.
        value: How much of it.
        baseline: How much of it the thing has that it is compared with.
        against: What that is.
        unit: Unit of both.
        required: The requirement; None where there is none.
        detail: Whatever else is worth keeping, of values that JSON has.
    """

    benchmark: str
    what: str
    value: float
    baseline: float
    against: str
    unit: str
    required: Required | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """The value over the baseline."""
        return self.value / self.baseline

    @property
    def holds(self) -> bool | None:
        """Whether what is required holds; None if nothing is."""
        return None if self.required is None else self.required.holds(self.value, self.baseline)

    def line(self) -> str:
        """Return the figure as a line of text."""
        measured = (
            f"{self.benchmark}: {self.what}: {self.value:.4g} {self.unit}, "
            f"{self.against}: {self.baseline:.4g} {self.unit}, ratio {self.ratio:.3f}"
        )
        if self.required is None:
            return f"{measured} (nothing required)"
        verdict = "holds" if self.holds else "DOES NOT HOLD"
        return f"{measured}; required: {self.required.text(self.unit)}: {verdict}"

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON object."""
        return {
            "benchmark": self.benchmark,
            "what": self.what,
            "value": self.value,
            "baseline": self.baseline,
            "against": self.against,
            "unit": self.unit,
            "ratio": self.ratio,
            "required": None if self.required is None else self.required.text(self.unit),
            "holds": self.holds,
            "detail": dict(self.detail),
        }
