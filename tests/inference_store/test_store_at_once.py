"""Several processes and threads at one store, and many records in one transaction."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import QueuePool, select

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.database import open_store
from pixano_cli.inference_store.records import Record, insert_records

from .requests import MODEL_ID, create, found

MAKE_STORES = """
import sys, time
from pathlib import Path
from pixano_cli.inference_store.database import open_store
from pixano_cli.inference_store.models import NewRegisterModelRequest
from pixano_cli.inference_store.records import Record, insert_records
from pixano_cli.inference_store.register import put_model

folder, me, other, *places = Path(sys.argv[1]), *sys.argv[2:]
request = NewRegisterModelRequest(model_id="m", project_id="p", task_type="Object Detection")
for attempt, place in enumerate(places):
    (folder / f"{attempt}{me}").touch()
    while not (folder / f"{attempt}{other}").exists():
        time.sleep(0)
    with open_store(place) as store:
        for name in ("both", *(f"{me}{index}" for index in range(5))):
            with store.write() as connection:
                put_model(connection, request)
                record = Record("m", name, "Object Detection", "detect", "h", 1)
                insert_records(connection, [record])
"""

FORK = """
import os, sys
from sqlalchemy import text
from pixano_cli.inference_store.database import open_store

insert = text("INSERT INTO images VALUES (:name, 1, 1, 1, 1, 'PNG')")
count = text("SELECT count(*) FROM images WHERE sha256 LIKE :name")

def work(store, name):
    for number in range(20):
        with store.write() as connection:
            connection.execute(insert, {"name": f"{name}{number}"})
        with store.read() as connection:
            assert connection.execute(count, {"name": f"{name}%"}).scalar() == number + 1

with open_store(sys.argv[1]) as store:
    with store.read() as left_open:
        assert left_open.execute(count, {"name": "%"}).scalar() == 0
        # Another one waits in the pool to be used again.
        with store.read() as connection:
            assert connection.execute(count, {"name": "%"}).scalar() == 0
        if child := os.fork():
            work(store, "parent")
            assert left_open.execute(count, {"name": "%"}).scalar() == 0
            _, status = os.waitpid(child, 0)
            assert status == 0, status
        else:
            code = 1
            try:
                work(store, "child")
                code = 0
            finally:
                os._exit(code)
    with store.read() as connection:
        assert connection.execute(count, {"name": "%"}).scalar() == 40
"""


class TestSeveralAtOnce:
    def test_processes_make_one_new_store(
        self, tmp_path: Path, new_places: Callable[[int], list[str]]
    ) -> None:
        places = new_places(8)
        processes = [
            subprocess.Popen([sys.executable, "-c", MAKE_STORES, tmp_path, me, other, *places])
            for me, other in ("ab", "ba")
        ]
        assert [process.wait(100) for process in processes] == [0, 0]
        expected = {"both", *(f"{me}{index}" for me in "ab" for index in range(5))}
        names = schema.inferences.c.inference_id
        for place in places:
            with open_store(place) as store, store.read() as connection:
                stored = connection.execute(select(names)).scalars().all()
                assert sorted(stored) == sorted(expected)

    def test_threads_make_stores(self, new_places: Callable[[int], list[str]]) -> None:
        """Two threads a store: migrations in one process share Alembic's globals."""
        places = new_places(4)
        opened: list[str] = []
        together = threading.Barrier(8)

        def open_one(index: int) -> None:
            together.wait(30)
            with open_store(places[index % 4]) as store:
                opened.append(store.name)

        threads = [threading.Thread(target=open_one, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(Counter(opened).values()) == [2] * 4

    def test_forked_process_has_connections_of_its_own(self, place: str) -> None:
        done = subprocess.run([sys.executable, "-W", "error", "-c", FORK, place], timeout=100)
        assert done.returncode == 0

    def test_more_threads_than_a_small_pool_read_and_write(self, store: istore.Store) -> None:
        create("first")
        errors: list[BaseException] = []
        together = threading.Barrier(16)

        def work(index: int) -> None:
            try:
                with store.read() as connection:
                    query = schema.inferences.select()
                    before = len(connection.execute(query).all())
                    together.wait(30)
                    # All have a connection open here, and still see what they saw.
                    assert len(connection.execute(query).all()) == before
                    together.wait(30)
                for number in range(3):
                    create(f"{index}-{number}")
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(index,)) for index in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(found(istore.Pagination(limit=100))) == 1 + 16 * 3
        with store.read() as connection:
            assert isinstance(connection.engine.pool, QueuePool)

    def test_reader_sees_one_state_while_another_writes(self, store: istore.Store) -> None:
        create("one")
        with store.read() as connection:
            query = schema.inferences.select()
            assert len(connection.execute(query).all()) == 1
            create("two")
            assert len(connection.execute(query).all()) == 1
        assert found() == ["one", "two"]


class TestTransactions:
    def test_failing_in_the_middle_keeps_nothing(self, store: istore.Store) -> None:
        record = Record(MODEL_ID, "one", "Object Detection", "detect", "h", 1)

        def fail_after_writing() -> None:
            with store.write() as connection:
                assert insert_records(connection, [record]) == {(MODEL_ID, "one")}
                raise KeyError

        with pytest.raises(KeyError):
            fail_after_writing()
        assert found() == []

    def test_unregistered_model_is_refused_by_the_database_itself(
        self, store: istore.Store
    ) -> None:
        record = Record("other", "one", "Object Detection", "detect", "h", 1)
        with pytest.raises(StoreError, match=r"(?i)foreign key"), store.write() as connection:
            insert_records(connection, [record])

    def test_many_records_at_once(self, store: istore.Store) -> None:
        """More than one statement takes, some of them twice and some there already."""
        create("0", data_hash="before")
        records = [
            Record(
                MODEL_ID,
                str(number),
                "Object Detection",
                "detect",
                f"hash {number}",
                1,
                elements=[{"label": str(number), "score": 0.5}] * 2,
                metadata={"n": ("int", str(number))},
            )
            for number in range(1200)
        ]
        with store.write() as connection:
            inserted = insert_records(connection, [*records, *records[:600]])
        assert inserted == {(MODEL_ID, str(number)) for number in range(1, 1200)}
        assert found(istore.Pagination(limit=2), data_hash_filter="hash 0") == []
        assert found(deconstructed_inference_filter={"labels": ["777"]}) == ["777"]
        kept = istore.get_inference(MODEL_ID, "0")
        assert kept is not None
        assert kept.data_hash == "before"
