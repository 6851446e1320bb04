"""The time until `--help` is there: what is imported before anything is done."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from figure import Figure, Required
from process import run, tool
from sizes import Sizes


def start(_: Path, sizes: Sizes) -> Iterator[Figure]:
    """Compare `pixano-annotate --help` with a Python that does nothing."""
    ours, bare = [], []
    for _round in range(sizes.help_rounds):
        ours.append(tool("--help").seconds)
        bare.append(run(sys.executable, "-c", "pass").seconds)
    yield Figure(
        "help",
        "pixano-annotate --help",
        median(ours),
        median(bare),
        "python -c pass",
        "s",
        Required("value", 0.4),
        {"seconds": ours},
    )
