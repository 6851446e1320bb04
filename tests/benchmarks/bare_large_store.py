"""`bare_large_store.py FILE INFERENCES`: the rows of `fill_large_store.py`, by SQLite alone.

The same tables, indexes and settings; the rows are made beforehand, and only their insertion and
the commits are timed.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

from fill_large_store import PAGE, TASKS, record
from sqlalchemy import create_engine
from sqlalchemy.schema import CreateIndex, CreateTable

from pixano_cli.inference_store import schema, values

NOW = 1_700_000_000_000_000
MODEL_NUMBERS = {model: number for number, model in enumerate(TASKS, 1)}
TABLES = ("inferences", "elements", "metadata", "metadata_leaves")

Rows = dict[str, list[tuple[Any, ...]]]


def rows(indexes: Iterable[int], count: int) -> Rows:
    """Return the rows of records, by table."""
    made: Rows = {table: [] for table in TABLES}
    for index in indexes:
        each, row = record(index, count), index + 1
        model = MODEL_NUMBERS[each.model_id]
        made["inferences"].append(
            (
                *(row, each.model_id, each.inference_id, NOW + row, NOW + row, each.task_type),
                *(each.inference_action, each.version, each.data_hash, each.data_size),
                *(each.data_source, each.latitude, each.longitude, None, False, None),
                *(each.request_key, each.data),
            )
        )
        made["elements"] += [
            (row, position, model, element["label"], element["score"])
            for position, element in enumerate(each.elements or ())
        ]
        for key, (kind, value) in each.metadata.items():
            compared = values.comparable(kind, value)
            made["metadata"].append((row, key, model, kind, value, *compared))
            if kind == "json":
                for leaf in values.leaves(key, value):
                    compared = values.comparable(leaf.type, leaf.value)
                    made["metadata_leaves"].append(
                        (row, key, leaf.name, model, *leaf[1:], *compared)
                    )
    return made


def main(file: str, count: str) -> None:
    """Insert the rows; print the seconds it took as JSON."""
    dialect = create_engine("sqlite://").dialect
    connection = sqlite3.connect(Path(file), isolation_level=None)
    for setting in ("foreign_keys=ON", "synchronous=NORMAL", "journal_mode=WAL"):
        connection.execute(f"PRAGMA {setting}")
    for each in schema.tables.sorted_tables:
        connection.execute(str(CreateTable(each).compile(dialect=dialect)))
        for index in each.indexes:
            connection.execute(str(CreateIndex(index).compile(dialect=dialect)))
    connection.executemany(
        "INSERT INTO models VALUES (?, ?, 'made up', ?, 0, 0, 0, 0)",
        [(number, model, TASKS[model][0].value) for model, number in MODEL_NUMBERS.items()],
    )
    seconds = 0.0
    for start in range(0, int(count), PAGE):
        made = rows(range(start, min(start + PAGE, int(count))), int(count))
        started = perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        for table, some in made.items():
            places = ", ".join("?" * len(some[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({places})", some)
        connection.execute("COMMIT")
        seconds += perf_counter() - started
    connection.close()
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
