"""Memory and time of outputs of a million annotations, against a tenth of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from figure import Figure, Required
from made_up import SHOWN
from process import Ended, program, tool
from sizes import Sizes

SUFFIXES = {"coco": ".json", "parquet": ".parquet"}
REQUIRED = Required("difference", 50.0)


def outputs(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Measure the formats' writers alone, and `export` from a store."""
    counts = (sizes.output_few, sizes.output_many)
    folder = work / "outputs"
    shutil.rmtree(folder, ignore_errors=True)
    for name, suffix in SUFFIXES.items():
        few, many = (
            program("write_made_up.py", name, folder / f"{count}{suffix}", str(count))
            for count in counts
        )
        yield from _figures(f"writing {name}", few, many, sizes)
    for count in counts:
        program("fill_store.py", folder / f"store-{count}", str(count // SHOWN))
    for name, suffix in SUFFIXES.items():
        few, many = (
            tool(
                *("export", "-o", folder / f"exported-{count}{suffix}"),
                *("--store", folder / f"store-{count}", "--quiet"),
            )
            for count in counts
        )
        yield from _figures(f"export to {name}", few, many, sizes)


def _figures(what: str, few: Ended, many: Ended, sizes: Sizes) -> Iterator[Figure]:
    against = f"{sizes.output_few}"
    what = f"{what}, {sizes.output_many} annotations"
    yield Figure("outputs", f"{what}, peak", many.peak_mb, few.peak_mb, against, "MB", REQUIRED)
    yield Figure("outputs", f"{what}, time", many.seconds, few.seconds, against, "s")
