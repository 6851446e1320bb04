"""`fill_store.py STORE IMAGES`: a finished run of made-up answers in an inference store."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from made_up import HEIGHT, WIDTH, elements

from pixano_cli.annotate.identity import Request, inference_id
from pixano_cli.inference_store import ledger, runs
from pixano_cli.inference_store.database import open_store
from pixano_cli.inference_store.models import InferenceAction, NewRegisterModelRequest, TaskType
from pixano_cli.inference_store.records import Record
from pixano_cli.inference_store.register import put_model
from pixano_cli.models.coco_classes import COCO_CATEGORIES

MODEL = "made-up"
PAGE = 2_000
REQUEST = Request("object_detection", "nobody", MODEL, "0", {"box_threshold": 0.05})


def job() -> dict[str, Any]:
    """Return what a run keeps of its job, for `export`."""
    return {
        "task": "detect",
        "sources": ["/nowhere"],
        "outputs": [],
        "view": {
            "detector": REQUEST.key,
            "segmenter": None,
            "threshold": 0.5,
            "labels": None,
        },
        "categories": [asdict(category) for category in COCO_CATEGORIES],
        "requests": [REQUEST.to_dict()],
    }


def outcome(index: int, run_id: str) -> ledger.Outcome:
    """Return an image with its answer."""
    sha256 = f"{index:064x}"
    name = f"{index // 1000:03}/{index:06}.jpg"
    item = ledger.Item(name, "/nowhere", f"file:///nowhere/{name}", 1, 1, sha256)
    record = Record(
        model_id=MODEL,
        inference_id=inference_id(REQUEST.key, sha256),
        task_type=TaskType.OBJECT_DETECTION.value,
        inference_action=InferenceAction.DETECT.value,
        data_hash=sha256,
        data_size=1,
        elements=list(elements(index)),
        data_source=item.root,
        metadata={"run_id": ("string", run_id), "file_name": ("string", name)},
        request_key=REQUEST.key,
    )
    picture = ledger.Picture(sha256, 1, WIDTH, HEIGHT, 1, "JPEG")
    return ledger.Outcome(item, "processed", picture, (record,))


def main(folder: str, count: str) -> None:
    """Fill the store, a page a transaction."""
    run_id = uuid4().hex
    with open_store(folder) as store:
        with store.write() as connection:
            runs.begin_run(connection, run_id, run_id, job())
            put_model(
                connection,
                NewRegisterModelRequest(
                    model_id=MODEL, project_id=MODEL, task_type=TaskType.OBJECT_DETECTION
                ),
            )
            runs.keep_request(connection, REQUEST.key, REQUEST.to_dict())
        for start in range(0, int(count), PAGE):
            page = range(start, min(start + PAGE, int(count)))
            outcomes = [outcome(index, run_id) for index in page]
            with store.write() as connection:
                ledger.add_items(connection, run_id, [each.item for each in outcomes], ())
                ledger.record_outcomes(connection, run_id, outcomes, overwrite=False)
        with store.write() as connection:
            runs.finish_run(connection, run_id, {})


if __name__ == "__main__":
    main(*sys.argv[1:])
