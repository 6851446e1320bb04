"""`fill_export_store.py STORE INFERENCES`: records of files, as an export of them finds them.

Nine in ten are of a detector, with five boxes, the others of a segmenter, with five contours;
each is about a file of its own, whose size the store knows. Names do not come in their order.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from fill_large_store import NAMES

from pixano_cli.inference_store import ledger, schema
from pixano_cli.inference_store.database import open_store
from pixano_cli.inference_store.models import InferenceAction, NewRegisterModelRequest, TaskType
from pixano_cli.inference_store.records import Record, insert_records
from pixano_cli.inference_store.register import put_model

PAGE = 2_000
ELEMENTS = 5
WIDTH, HEIGHT = 1152, 864
DETECTOR = ("detector", TaskType.OBJECT_DETECTION, InferenceAction.DETECT)
SEGMENTER = ("segmenter", TaskType.IMAGE_SEGMENTATION, InferenceAction.PREDICT)


def record(index: int) -> Record:
    """Return a record; what varies is spread by multiplying with primes."""
    model, task, action = SEGMENTER if index % 10 == 0 else DETECTOR
    spread = index * 2654435761 % 2**32
    return Record(
        model_id=model,
        inference_id=f"{spread:08x}-{index}",
        task_type=task.value,
        inference_action=action.value,
        data_hash=f"{index:064x}",
        data_size=100_000,
        elements=[element(index, position, model) for position in range(ELEMENTS)],
        data_source="/data",
        metadata={
            "run_id": ("string", "made up"),
            "file_name": ("string", f"{spread % 1000:03}/{spread:08x}-{index:07}.jpg"),
            "width": ("int", str(WIDTH)),
            "height": ("int", str(HEIGHT)),
        },
    )


def element(index: int, position: int, model: str) -> dict[str, object]:
    """Return a box, or the contour of a hexagon."""
    part = ((index * 7 + position * 31) * 2_147_483_647 % 1_000_003) / 1_000_003
    labelled = {"label": NAMES[(index * 31 + position * 17) % len(NAMES)], "score": round(part, 6)}
    x, y = round(900 * part, 2), round(700 * part, 2)
    if model == DETECTOR[0]:
        return labelled | {"xmin": x, "ymin": y, "xmax": x + 100, "ymax": y + 80}
    corners = ((0, 40), (30, 0), (70, 0), (100, 40), (70, 80), (30, 80))
    return labelled | {"contour": [[{"x": x + dx, "y": y + dy} for dx, dy in corners]]}


def pages(count: int) -> Iterator[list[Record]]:
    """Yield the records, a page a transaction."""
    for start in range(0, count, PAGE):
        yield [record(index) for index in range(start, min(start + PAGE, count))]


def main(folder: str, count: str) -> None:
    """Fill the store."""
    with open_store(folder) as store:
        with store.write() as connection:
            for model, task, _ in (DETECTOR, SEGMENTER):
                put_model(
                    connection,
                    NewRegisterModelRequest(model_id=model, project_id="made up", task_type=task),
                )
        for page in pages(int(count)):
            pictures = [
                {
                    "sha256": each.data_hash,
                    "size": each.data_size,
                    "width": WIDTH,
                    "height": HEIGHT,
                    "orientation": 1,
                    "format": "JPEG",
                }
                for each in page
            ]
            with store.write() as connection:
                insert_records(connection, page)
                ledger.insert_new(connection, schema.images, pictures, ["sha256"])


if __name__ == "__main__":
    main(*sys.argv[1:])
