"""Work on a store in processes of its own, to be killed: a program that forks them.

It reads a line of JSON for each piece of work and answers with one when that has ended. Forking a
process that has imported everything takes milliseconds, starting one most of a second.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

from sqlalchemy import Engine, event

from pixano_cli import inference_store as istore
from pixano_cli.inference_store import blob_ledger, export_task, removal, retention
from pixano_cli.inference_store.blobs import FolderBlobs
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.inference import (
    bulk_delete_inferences,
    create_inference_storage_request,
)
from pixano_cli.inference_store.metadata import create_metadata
from pixano_cli.inference_store.models import (
    BaseInferenceFilter,
    NewExtendedMetadataRequest,
    NewInferenceAndMetadataCollection,
    NewRetentionTaskRequest,
)
from pixano_cli.inference_store.retention_policy import get_retention_policy
from pixano_cli.inference_store.retention_task import create_retention_task

MODEL_ID = "picodet"
CONTENTS = 20


def content(number: int) -> bytes:
    """One of a few inputs, which many records share."""
    return b"%d" % (number % CONTENTS) * 100


def answer(data: bytes) -> NewInferenceAndMetadataCollection:
    return NewInferenceAndMetadataCollection.model_validate(
        {
            "object_detection": [{"label": "cat", "score": 0.5}, {"label": "dog", "score": 0.25}],
            "metadata": {
                "standard_metadata": {
                    "data_hash": hashlib.sha256(data).hexdigest(),
                    "data_size": len(data),
                    "task_type": "Object Detection",
                    "inference_action": "detect",
                },
                "extended_metadata": [{"key": "j", "type": "json", "value": '{"x": {"y": 1}}'}],
            },
        }
    )


def create(name: str, number: int) -> None:
    data = content(number)
    made = create_inference_storage_request(MODEL_ID, name, data, answer(data))
    assert made is not None


def creating(log: str, **_: Any) -> None:
    """Store some records, with inputs of their own and shared; each is told once it is stored."""
    with Path(log).open("a") as told:
        for number in (0, 1, 15, 16, 16 + CONTENTS):
            create(f"{number}", number)
            told.write(f"{number}\n")
            told.flush()


def deleting(**_: Any) -> None:
    bulk_delete_inferences(MODEL_ID, BaseInferenceFilter())


def retaining(**_: Any) -> None:
    policy = get_retention_policy(MODEL_ID)
    assert policy is not None
    request = NewRetentionTaskRequest(dry_run=False, retention_policy_id=policy.id)
    task = create_retention_task(MODEL_ID, request)
    assert task is not None
    assert task.state == "complete", task


def exporting(**_: Any) -> None:
    task = istore.create_export_task(MODEL_ID, istore.NewExportTaskRequest())
    assert task is not None
    assert task.state == "complete", task


def writing(log: str, seconds: float, me: int, **_: Any) -> None:
    """Store, tag and delete records for some time; what is left is told."""
    end = time.monotonic() + seconds
    chance = random.Random(me)
    mine: list[str] = []
    made = 0
    while time.monotonic() < end:
        name = f"{me}-{made}"
        create(name, chance.randrange(100))
        mine.append(name)
        made += 1
        if chance.random() < 0.3:
            request = NewExtendedMetadataRequest(key="n", type="int", value=str(made))
            assert create_metadata(MODEL_ID, chance.choice(mine), request) is not None
        if chance.random() < 0.3:
            gone = mine.pop(chance.randrange(len(mine)))
            assert istore.delete_inference(MODEL_ID, gone) == gone
    Path(log).write_text(json.dumps([made, mine]))


def asking(log: str, seconds: float, **_: Any) -> None:
    """Count and page through the records for some time; each that is found is whole."""
    end = time.monotonic() + seconds
    asked = 0
    by_label = istore.NewGetInferencesRequest(
        filters=BaseInferenceFilter(deconstructed_inference_filter={"labels": ["cat"]}),
        pagination=istore.Pagination(limit=20, direction="desc"),
    )
    while time.monotonic() < end:
        for request in (by_label, istore.NewGetInferencesRequest()):
            for each in istore.filter_inferences(MODEL_ID, request):
                assert [item.key for item in each.metadata or []][:1] == ["j"]
                assert len(json.loads(each.data or "")) == 2
                assert each.data_storage_key is not None
            assert istore.count_inferences(MODEL_ID, request) >= 0
            asked += 1
    Path(log).write_text(json.dumps(asked))


WORKS = {
    work.__name__: work for work in (creating, deleting, retaining, exporting, writing, asking)
}


def at_each_step(pass_by: Callable[[], None]) -> None:
    """Have a function called before each statement and commit, and around changes to files."""

    def stepping(whole: Any) -> Any:
        def stepped(*args: Any, **kwargs: Any) -> Any:
            pass_by()
            result = whole(*args, **kwargs)
            pass_by()
            return result

        return stepped

    write = Store.write

    @contextmanager
    def writing_stepwise(self: Store) -> Iterator[Any]:
        with write(self) as connection:
            yield connection
            pass_by()
        pass_by()

    Store.write = writing_stepwise  # type: ignore[method-assign,assignment]
    event.listen(Engine, "before_cursor_execute", lambda *_: pass_by())
    for name in ("put", "get", "delete"):
        setattr(FolderBlobs, name, stepping(getattr(FolderBlobs, name)))
    for name in ("replace", "unlink"):
        setattr(Path, name, stepping(getattr(Path, name)))
    os.fsync = stepping(os.fsync)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def work_in_child(order: dict[str, Any]) -> None:
    if "folder" in order:
        os.chdir(order["folder"])
    if "batch" in order:
        removal.BATCH = retention.BATCH = order["batch"]
        retention.PAGE = 2 * order["batch"]
        # So that a slow machine takes the same steps as a fast one.
        removal.LONGEST_WRITE_S = retention.LONGEST_WRITE_S = blob_ledger.LONGEST_WRITE_S = 0
        export_task.PROGRESS_EVERY_S = 0
    passed = 0

    def pass_by() -> None:
        nonlocal passed
        if passed == order.get("step"):
            if order["after"]:
                # While it goes on, in the middle of whatever it does by then.
                Timer(order["after"], kill).start()
            else:
                kill()
        passed += 1

    with istore.connect(order["place"], blobs=order["blobs"]):
        if "batch" in order:
            at_each_step(pass_by)
        WORKS[order["work"]](**order)
    if "step" in order:
        # It was faster than the one that was to kill it.
        assert passed > order["step"], passed
        kill()
    if "count" in order:
        Path(order["count"]).write_text(f"{passed}")


def fork(order: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work_in_child(order)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    for line in sys.stdin:
        children = [fork(order) for order in json.loads(line)]
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(statuses), flush=True)


if __name__ == "__main__":
    main()
