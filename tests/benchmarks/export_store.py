"""Memory and time of an export of all records of a store, against that of a tenth of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from figure import Figure, Required
from process import program, tool
from sizes import Sizes

SUFFIXES = {"COCO": ".json", "Parquet": ".parquet", "an archive": ".zip"}


def export_store(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Measure `export --all` to each format; stores that are there already serve again."""
    counts = (sizes.export_few, sizes.export_many)
    folder = work / "export-store"
    stores = {count: folder / f"store-{count}" for count in counts}
    for count, store in stores.items():
        done = folder / f"store-{count}.done"
        if not done.exists():
            shutil.rmtree(store, ignore_errors=True)
            program("fill_export_store.py", store, str(count))
            done.touch()
    for name, suffix in SUFFIXES.items():
        few, many = (
            tool(
                *("export", "--all", "-o", folder / f"out{suffix}"),
                *("--store", stores[count], "--quiet"),
            )
            for count in counts
        )
        (folder / f"out{suffix}").unlink()
        what = f"{sizes.export_many} records to {name}"
        against = f"{sizes.export_few}"
        # The whole of it, and not only what grows, has to fit beside a model.
        bound = Required("value", 300.0)
        yield Figure(
            "export-store", f"{what}, peak", many.peak_mb, few.peak_mb, against, "MB", bound
        )
        yield Figure("export-store", f"{what}, time", many.seconds, few.seconds, against, "s")
