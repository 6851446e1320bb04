"""`fill_large_store.py STORE INFERENCES`: an inference store of made-up records of every kind.

Three models' records lie between each other, five elements each, with metadata of every type.
Some of it is spread evenly, some grows from record to record, and some is only in the last tenth.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

from pixano_cli.inference_store.database import Store, open_store
from pixano_cli.inference_store.models import InferenceAction, NewRegisterModelRequest, TaskType
from pixano_cli.inference_store.records import Record, insert_records
from pixano_cli.inference_store.register import put_model
from pixano_cli.models.coco_classes import COCO_CATEGORIES

PAGE = 5_000
"""Records of a transaction."""

ELEMENTS = 5
MAIN = "detector"
TASKS = {
    MAIN: (TaskType.OBJECT_DETECTION, InferenceAction.DETECT),
    "classifier": (TaskType.IMAGE_CLASSIFICATION, InferenceAction.PREDICT),
    "segmenter": (TaskType.IMAGE_SEGMENTATION, InferenceAction.PREDICT),
}
MODELS = [*[MAIN] * 8, "classifier", "segmenter"]
RUNS = 10
SOURCES = 20
CAMERAS = 1_000
NAMES = [category.name for category in COCO_CATEGORIES]
COMMON, LATE, SELDOM = NAMES[0], "late", "seldom"
"""A label of most records, one of the last tenth only, and one of a record in ten thousand."""

FIRST_CAPTURE = datetime(2026, 1, 1, tzinfo=UTC)


def record(index: int, count: int) -> Record:
    """Return one of the records; what varies is spread by multiplying with primes."""
    model = MODELS[index * 7 % 10]
    task, action = TASKS[model]
    is_late = index >= count - count // 10
    place = spot(index) if index % 2 else (None, None)
    captured = FIRST_CAPTURE + timedelta(seconds=7 * index)
    camera = index * 7919 % CAMERAS
    exposure = (index * 31 % 997) / 1000
    return Record(
        model_id=model,
        inference_id=f"{index * 2654435761 % 2**32:08x}-{index}",
        task_type=task.value,
        inference_action=action.value,
        data_hash=f"{index * 2654435761 % 2**32:064x}",
        data_size=100_000,
        elements=[element(index, position, is_late) for position in range(ELEMENTS)],
        data_source=f"/data/site-{SOURCES if is_late else index * 104729 % (SOURCES - 1)}",
        latitude=place[0],
        longitude=place[1],
        metadata={
            "run_id": ("string", f"run-{index * RUNS // count}"),
            "captured_at": ("string", captured.isoformat()),
            "frame": ("int", str(index)),
            "brightness": ("float", repr((index * 15485863 % 1_000_003) / 1_000_003)),
            "camera": (
                "json",
                json.dumps({"id": camera, "lens": {"name": f"lens-{camera % 7}", "f": exposure}}),
            ),
        },
        request_key="made up",
    )


def element(index: int, position: int, is_late: bool) -> dict[str, object]:
    """Return an element: the first is mostly common, others of all classes, the last is special."""
    part = ((index * 7 + position * 31) * 2_147_483_647 % 1_000_003) / 1_000_003
    label = NAMES[(index * 31 + position * 17) % len(NAMES)]
    if position == 0 and index % 10 < 7:
        label = COMMON
    elif position == ELEMENTS - 1 and index * 7919 % 10_000 < 1:
        label = SELDOM
    elif position == ELEMENTS - 1 and is_late:
        label = LATE
    return {
        "label": label,
        "score": round(part, 6),
        "xmin": round(900 * part, 2),
        "ymin": round(700 * part, 2),
        "xmax": round(900 * part + 100, 2),
        "ymax": round(700 * part + 80, 2),
    }


def spot(index: int) -> tuple[float, float]:
    """Return latitude and longitude: over half of Europe, and a tenth of them in one town."""
    north, east = (index * 15485863 % 1_000_003) / 1_000_003, (index * 32452843 % 999_983) / 999_983
    if index % 20 == 1:
        return 48.80 + 0.1 * north, 2.25 + 0.15 * east
    return 40 + 15 * north, -5 + 20 * east


def fill(store: Store, count: int) -> float:
    """Register the models and store the records, a page a transaction; return the seconds."""
    seconds = 0.0
    with store.write() as connection:
        for model, (task, _) in TASKS.items():
            request = NewRegisterModelRequest(model_id=model, project_id="made up", task_type=task)
            put_model(connection, request)
    for start in range(0, count, PAGE):
        page = [record(index, count) for index in range(start, min(start + PAGE, count))]
        started = perf_counter()
        with store.write() as connection:
            insert_records(connection, page)
        seconds += perf_counter() - started
    return seconds


def main(folder: str, count: str) -> None:
    """Fill the store; print what it took as JSON."""
    with open_store(folder) as store:
        seconds = fill(store, int(count))
    size = sum(each.stat().st_size for each in Path(folder).iterdir() if each.is_file())
    print(json.dumps({"seconds": seconds, "bytes": size, "cpu_seconds": sum(os.times()[:2])}))


if __name__ == "__main__":
    main(*sys.argv[1:])
