"""What verifying a store finds, in words that somebody can act on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

EXAMPLES = 5
"""Most examples of a problem: a store may have a million of it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem.

    Attributes:
        what: What there is that should not be, in the plural.
        advice: What to do about it.
    """

    what: str
    advice: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a store.

    Attributes:
        what: What there is that should not be, in the plural.
        count: How many.
        examples: Some of them.
        advice: What to do about them; none once they are repaired.
        is_repaired: Whether all of them were put right.
    """

    what: str
    count: int
    examples: tuple[str, ...]
    advice: str
    is_repaired: bool

    def __str__(self) -> str:
        """Return the problem as a line."""
        more = ", ..." if self.count > len(self.examples) else ""
        said = f"{self.what}: {self.count} ({', '.join(self.examples)}{more})"
        return f"{said}: {'repaired' if self.is_repaired else self.advice}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at and what was found.

    Attributes:
        problems: All problems, those that were repaired too.
        records: How many records were looked at, hidden ones too.
        blobs: How many inputs were looked at.
        elsewhere: How many records name an input that others keep, which was not looked for.
        cleared: How much was cleared away that dead processes had left.
    """

    problems: tuple[Problem, ...]
    records: int
    blobs: int
    elsewhere: int
    cleared: int

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong, or nothing any more."""
        return all(each.is_repaired for each in self.problems)


@dataclass(slots=True)
class _Count:
    count: int = 0
    repaired: int = 0
    examples: list[str] = field(default_factory=list)


class Findings:
    """Problems as they are found: counted, and some of them named."""

    def __init__(self) -> None:
        """Start without any."""
        self._found: dict[Kind, _Count] = {}

    def add(self, kind: Kind, example: str | Callable[[], str], *, repaired: bool = False) -> None:
        """Note a problem.

        Args:
            kind: Which.
            example: Its name, or what finds it if it is one of the few that are told.
            repaired: Whether it was put right.
        """
        found = self._found.setdefault(kind, _Count())
        found.count += 1
        found.repaired += repaired
        if len(found.examples) < EXAMPLES:
            found.examples.append(example if isinstance(example, str) else example())

    def problems(self) -> tuple[Problem, ...]:
        """Return what was found, in the order in which it was found first."""
        return tuple(
            Problem(
                kind.what,
                found.count,
                tuple(found.examples),
                kind.advice,
                found.repaired == found.count,
            )
            for kind, found in self._found.items()
        )
