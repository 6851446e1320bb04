"""The nearest of many embeddings, against a bare product of the same file by numpy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from figure import Figure, Required
from process import program
from sizes import Sizes

NUMBERS = 512


def similarity(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Measure searches of a warm store; one that is there already serves again."""
    count = sizes.similarity_vectors
    folder = work / "similarity"
    store, done = folder / f"store-{count}", folder / f"store-{count}.done"
    folder.mkdir(parents=True, exist_ok=True)
    if not done.exists():
        shutil.rmtree(store, ignore_errors=True)
        program("fill_embeddings.py", store, str(count), str(NUMBERS))
        done.touch()
    rounds = str(sizes.similarity_rounds)
    # Once before, so that the file of vectors is there, and in memory if it fits.
    made = json.loads(program("search_embeddings.py", store, str(NUMBERS), "0").output)
    searched = program("search_embeddings.py", store, str(NUMBERS), rounds)
    search = json.loads(searched.output)
    detail = {
        "seconds": search["again"],
        "cpu_seconds": search["cpu_seconds"],
        "first_s": made["first"],
    }
    what = f"nearest of {count} vectors of {NUMBERS} numbers"
    if not search["files"]:
        # So few are read from the database: there is no file to compare with.
        raise RuntimeError(f"{store} has no file of vectors")
    multiplied = program("multiply_embeddings.py", *search["files"], str(NUMBERS), rounds)
    bare = json.loads(multiplied.output)
    if bare["found"] != search["found"]:
        raise RuntimeError(f"the search found {search['found']}, numpy {bare['found']}")
    yield Figure(
        "similarity",
        what,
        median(search["again"]),
        median(bare["again"]),
        "numpy's product alone",
        "s",
        Required("value", 1.0),
        detail,
    )
    yield Figure(
        "similarity",
        f"{what}, peak",
        searched.peak_mb,
        multiplied.peak_mb,
        "numpy's with the mapped file",
        "MB",
        Required("value", 300.0),
    )
