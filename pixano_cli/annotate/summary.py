"""What a run came to, and how many failures it may have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pixano_cli.errors import UsageError
from pixano_cli.formats.text import portable


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of a run; total = processed + cached + failed.

    Attributes:
        task: Name of the command.
        model: Name of the model.
        provider: Name of the provider.
        total: Number of files.
        processed: Files that a model was asked about.
        cached: Files that the record answered already.
        failed: Files that could not be done; they are tried again by the next run.
        empty: Images, or frames of videos, without any annotation in the outputs.
        annotations: Annotations in each output.
        seconds: How long it took.
        outputs: The files written.
        allowed: Whether there were no more failures than allowed.
        tokens: Tokens sent and answered, as a server reported them; None if none did.
        cost: What they cost in US dollars; None if no price is known.
        frames: Frames in each output, where the files are videos.
    """

    task: str
    model: str
    provider: str
    total: int
    processed: int
    cached: int
    failed: int
    empty: int
    annotations: int
    seconds: float
    outputs: tuple[str, ...]
    allowed: bool = True
    tokens: tuple[int, int] | None = None
    cost: float | None = None
    frames: int | None = None

    @property
    def thing(self) -> str:
        """What the files are."""
        return "image" if self.frames is None else "video"

    def to_dict(self) -> dict[str, Any]:
        """Convert to the summary object that `--json` prints; what tokens cost only if any did."""
        used: dict[str, Any] = {}
        if self.tokens is not None:
            used["tokens"] = {"prompt": self.tokens[0], "completion": self.tokens[1]}
            used["cost"] = None if self.cost is None else round(self.cost, 6)
        frames = {} if self.frames is None else {"frames": self.frames}
        return {
            "task": self.task,
            "model": self.model,
            "provider": self.provider,
            "total": self.total,
            "processed": self.processed,
            "cached": self.cached,
            "failed": self.failed,
            **frames,
            "empty": self.empty,
            "annotations": self.annotations,
            "seconds": round(self.seconds, 3),
            "outputs": [portable(output) for output in self.outputs],
            **used,
        }


@dataclass(frozen=True, slots=True)
class MaxFailures:
    """How many files may fail: a number of them, or a percentage of all."""

    value: float
    is_percentage: bool

    @classmethod
    def parse(cls, text: str | int) -> MaxFailures:
        """Read `N` or `P%`.

        Raises:
            UsageError: If it is neither.
        """
        match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)\s*%", str(text).strip())
        if match is None or float(match[2] or 0) > 100:
            raise UsageError(f"--max-failures {text}: a number or a percentage is wanted (5, 10%)")
        return cls(float(match[1] or match[2]), is_percentage=match[1] is None)

    def allows(self, failed: int, total: int) -> bool:
        """Return whether `failed` of `total` files may have failed."""
        return failed * 100 <= self.value * total if self.is_percentage else failed <= self.value
