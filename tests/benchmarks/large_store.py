"""Loading, searching and counting a large store, against one of a tenth of it and bare SQLite."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from figure import Figure, Required
from process import program
from sizes import Sizes

NAME = "store"
FIRST_PAGE = Required("value", 100.0)
MEMORY = Required("value", 300.0)
SORTED = "sorted by"
"""Kinds that begin so have to sort all that passes, and no index answers that."""

_KIND = re.compile(rf"{SORTED} \w+|label and score|[a-z.]+")


def large_store(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Measure; stores that are there already serve again."""
    few, many = sizes.store_few, sizes.store_many
    folder = work / NAME
    loaded = {count: _loaded(folder, count) for count in (few, many)}
    bare = _bare(folder, few)
    against = f"{few} records"
    rates = {count: count / each["seconds"] for count, each in loaded.items()}
    bare = _bare(folder, few)
    yield Figure(NAME, f"load {few} records", rates[few], bare, "bare SQLite", "records/s")
    yield Figure(NAME, f"load {many} records", rates[many], rates[few], against, "records/s")
    sizes_each = {count: each["bytes"] / count for count, each in loaded.items()}
    yield Figure(
        NAME,
        f"size of {many} records",
        sizes_each[many],
        sizes_each[few],
        against,
        "bytes a record",
    )
    asked = {
        count: program("query_large_store.py", folder / f"store-{count}", str(count))
        for count in (few, many)
    }
    yield from _times(json.loads(asked[many].output), json.loads(asked[few].output), against)
    yield Figure(
        NAME,
        f"search {many} records, peak",
        asked[many].peak_mb,
        asked[few].peak_mb,
        against,
        "MB",
        MEMORY,
    )


def _loaded(folder: Path, count: int) -> dict[str, float]:
    """Return how long it took to load a store, and what it takes on disk."""
    report = folder / f"store-{count}.json"
    if not report.exists():
        store = folder / f"store-{count}"
        shutil.rmtree(store, ignore_errors=True)
        output = program("fill_large_store.py", store, str(count)).output
        # Last: only a store that is whole serves again.
        report.write_text(output)
    found: dict[str, float] = json.loads(report.read_bytes())
    return found


def _bare(folder: Path, count: int) -> float:
    """Return how many of the same records a second SQLite alone takes."""
    into = folder / "bare.sqlite3"
    into.unlink(missing_ok=True)
    ended = program("bare_large_store.py", into, str(count))
    into.unlink()
    return count / float(json.loads(ended.output)["seconds"])


def _times(many: Mapping[str, Any], few: Mapping[str, Any], against: str) -> Iterator[Figure]:
    """Give for each kind of search the slowest first page, and the slowest count."""
    kinds: dict[str, list[str]] = {}
    for name in many:
        kinds.setdefault(_kind(name), []).append(name)
    for kind, names in kinds.items():
        detail = {name: many[name] for name in names}
        for what, measured in (("first page", "again"), ("count", "count")):
            is_required = what == "first page" and not kind.startswith(SORTED)
            # What else the machine does only ever adds to a time.
            least = {name: 1e3 * min(many[name][measured]) for name in names}
            slowest = max(names, key=lambda name: least[name])
            yield Figure(
                NAME,
                f"{what}, {slowest}",
                least[slowest],
                1e3 * min(few[slowest][measured]),
                against,
                "ms",
                FIRST_PAGE if is_required else None,
                detail,
            )


def _kind(name: str) -> str:
    found = _KIND.match(name)
    return name if found is None else found[0]
