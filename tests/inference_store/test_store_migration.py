"""A store of an earlier version with records in it: migrated they are what new ones would be."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, MetaData, insert, select, update

from pixano_cli import inference_store as istore
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.database import open_store
from pixano_cli.inference_store.records import Record, insert_records
from pixano_cli.inference_store.register import put_model
from pixano_cli.inference_store.verify import verify

from .requests import CAT, registration
from .test_store_filters_agree import TYPED
from .test_store_retention import Clock
from .test_store_retention import clock as clock
from .test_store_schema import check_schema, connected, migrate, statements

pytestmark = pytest.mark.filterwarnings("ignore:.*expression-based index")

MODELS = {
    "picodet": registration(),
    "embedder": registration("embedder", istore.TaskType.IMAGE_EMBEDDING, 2, "another"),
}
SECOND_US = 1_000_000
NEVER = 10**9

DIE_AT = """
import os, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
from pixano_cli.inference_store.database import open_store

left = int(sys.argv[2])

@event.listens_for(Engine, "before_cursor_execute")
def count(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

open_store(sys.argv[1]).close()
print(int(sys.argv[2]) - left)
"""


def detection(name: str, **given: Any) -> Record:
    return Record("picodet", name, "Object Detection", "detect", f"hash of {name}", 7, **given)


def embedding(name: str, vector: Sequence[float] | None) -> Record:
    return Record("embedder", name, "Image Embedding", "embed", name, 1, embedding=vector)


def records() -> list[Record]:
    """Records with all that the first version could hold, in the order of their making."""
    found = [
        detection("none", request_key="asked", metadata={"": ("string", "first")}),
        detection("empty", elements=[]),
        detection("é\U0001f600'", elements=[CAT, {"label": "dog"}], is_protected=True),
        detection("hidden", elements=[CAT], metadata={"k": ("int", "1")}),
        detection("placed", latitude=-90.0, longitude=180.0, data_source="c" * 300),
        detection("input", data_storage_key="elsewhere/../1"),
        embedding("nothing", None),
        embedding("vector", [0.1, -2.0]),
        embedding("again", [1e300, 5e-324]),
    ]
    # More than a page of metadata of each type, and some inferences with several keys.
    for number in range(600):
        kind, value = TYPED[number % len(TYPED)]
        keys = ["k", "k.x", ""][: number % 3 + 1]
        metadata = dict.fromkeys(keys, (kind, value))
        found.append(detection(f"{number}", elements=[CAT], metadata=metadata))
    return found


def times(number: int) -> list[int]:
    """When they were made: a second apart, but for a clock that went back twice."""
    base = 1_700_000_000_000_000
    back = {5: 40 * SECOND_US, 9: 90 * SECOND_US}
    made = []
    for index in range(number):
        base += SECOND_US - back.get(index, 0)
        made.append(base)
    return made


def make_first_version(place: str) -> None:
    """Make a store of the first version, past all code of the store, with the records in it."""
    migrate(place, "0001")
    with connected(place) as connection, connection.begin():
        old = MetaData()
        old.reflect(connection)
        made = times(len(records()))
        connection.execute(
            insert(old.tables["models"]),
            [
                {
                    "model_id": each.model_id,
                    "project_id": each.project_id,
                    "task_type": each.task_type,
                    "embedding_size": each.embedding_size,
                    "created_at": made[0] + index,
                    "updated_at": made[0] + index,
                }
                for index, each in enumerate(MODELS.values())
            ],
        )
        kept = [
            (index + 1, time, each)
            for index, (time, each) in enumerate(zip(made, records(), strict=True))
        ]
        add = {
            "inferences": [inference_row(*each) for each in kept],
            "elements": [
                {
                    "inference": row,
                    "position": position,
                    "label": element["label"],
                    "score": element.get("score"),
                }
                for row, _, each in kept
                for position, element in enumerate(each.elements or ())
            ],
            "metadata": [
                {"inference": row, "key": key, "type": kind, "value": value}
                for row, _, each in kept
                for key, (kind, value) in each.metadata.items()
            ],
            "runs": [{"run_id": "r", "job_key": "j", "job": "{}", "started_at": 1, "host": "h"}],
            "items": [{"run_id": "r", "file_name": "a.jpg", "root": "", "url": "file:///a.jpg"}],
        }
        add["runs"][0] |= {"pid": 1}
        add["items"][0] |= {"size": 7, "mtime_ns": 1, "status": "done", "sha256": "hash of none"}
        for name, rows in add.items():
            connection.execute(insert(old.tables[name]), rows)
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(
                "SELECT setval('inferences_id_seq', max(id)) FROM inferences"
            )


def inference_row(row: int, time: int, record: Record) -> dict[str, Any]:
    """As the first version wrote it: an embedding was its text."""
    answer = record.elements if record.elements is not None else record.embedding
    names = (
        "model_id inference_id task_type inference_action version data_hash data_size data_source "
        "latitude longitude data_storage_key is_protected request_key"
    )
    return {name: getattr(record, name) for name in names.split()} | {
        "id": row,
        "created_at": time,
        "updated_at": time,
        "deleted_at": 9 if record.inference_id == "hidden" else None,
        "data": None if answer is None else orjson.dumps(answer).decode(),
    }


def make_anew(place: str, clock: Clock) -> None:
    """Make what the migrated store should be, by the code that writes records now."""
    with open_store(place) as store:
        made = times(len(records()))
        for index, model in enumerate(MODELS.values()):
            clock.ns = (made[0] + index) * 1000
            with store.write() as connection:
                put_model(connection, model)
        with store.write() as connection:
            for time, record in zip(made, records(), strict=True):
                clock.ns = time * 1000
                insert_records(connection, [record])
            table = schema.inferences
            hide = update(table).where(table.c.inference_id == "hidden")
            connection.execute(hide.values(deleted_at=9))


def contents(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, as the database has them."""
    known = MetaData()
    known.reflect(connection)
    found = {}
    for name, table in known.tables.items():
        rows = connection.execute(select(table).order_by(*table.primary_key.columns))
        found[name] = [tuple(row) for row in rows]
    return found


@pytest.fixture
def places(new_places: Callable[[int], list[str]], clock: Clock) -> tuple[str, str]:
    """A store of the first version, and what it should become."""
    old, new = new_places(2)
    make_first_version(old)
    make_anew(new, clock)
    return old, new


def check_migrated(old: str, new: str) -> None:
    with open_store(old):
        pass
    with connected(old) as migrated, connected(new) as made:
        check_schema(migrated)
        after, expected = contents(migrated), contents(made)
    for name in ("runs", "items"):
        assert len(after.pop(name)) == 1
        del expected[name]
    assert len(expected["metadata_leaves"]) > 100
    for name, rows in expected.items():
        assert after[name] == rows, name


def test_records_become_what_new_ones_are(places: tuple[str, str]) -> None:
    """Numbers and leaves to compare among them; and all of it can be asked for."""
    old, new = places
    check_migrated(old, new)
    with istore.connect(old) as store:
        for source, ids in (("c" * 300, ["placed"]), ("c" * 299, [])):
            request = istore.NewGetInferencesRequest(
                filters=istore.BaseInferenceFilter(data_source_filter=source)
            )
            found = istore.filter_inferences("picodet", request)
            assert [each.inference_id for each in found] == ids
        vector = istore.get_inference("embedder", "vector")
        assert vector is not None
        assert vector.structured_embedding == [0.1, -2.0]
        near = istore.NewGetInferencesRequest(
            embedding_filters=istore.EmbeddingFilter(query_embedding=[0.0, -1.0]),
            pagination=istore.Pagination(sort=istore.PaginationEmbeddingSortField.CREATED_AT),
        )
        found = istore.filter_inferences("embedder", near)
        assert [each.inference_id for each in found] == ["vector", "again"]
        assert istore.get_inference("picodet", "hidden") is None
        # Ids go on after the old ones.
        with store.write() as connection:
            insert_records(connection, [detection("new", metadata={"k": ("int", "1")})])
        assert verify(store).is_sound


def test_kill_at_any_statement_leaves_one_version_or_the_other(
    new_places: Callable[[int], list[str]], clock: Clock
) -> None:
    """Migration is one transaction: whoever opens the store next begins anew."""
    counted, old, new = new_places(3)
    make_first_version(counted)
    make_first_version(old)
    make_anew(new, clock)
    whole = subprocess.run(
        [sys.executable, "-c", DIE_AT, counted, str(NEVER)], check=True, capture_output=True
    )
    number = int(whole.stdout)
    assert number > 50
    with connected(old) as connection:
        before = statements(connection), contents(connection)
    for point in (1, number // 3, number * 2 // 3, number):
        child = subprocess.run([sys.executable, "-c", DIE_AT, old, str(point)], check=False)
        assert child.returncode == -signal.SIGKILL, point
        with connected(old) as connection:
            assert (statements(connection), contents(connection)) == before, point
    check_migrated(old, new)


def test_two_processes_migrate_it_once(places: tuple[str, str]) -> None:
    old, new = places
    command = [sys.executable, "-c", DIE_AT, old, str(NEVER)]
    children = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [child.wait(100) for child in children] == [0, 0]
    check_migrated(old, new)
