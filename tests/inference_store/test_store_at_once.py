"""Several processes and threads at one store, and many records in one transaction."""

from __future__ import annotations

import subprocess
import sys
import threading
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

folder, me, other, tries = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
request = NewRegisterModelRequest(model_id="m", project_id="p", task_type="Object Detection")
for attempt in range(tries):
    (folder / f"{attempt}{me}").touch()
    while not (folder / f"{attempt}{other}").exists():
        time.sleep(0)
    with open_store(folder / str(attempt)) as store:
        for name in ("both", *(f"{me}{index}" for index in range(5))):
            with store.write() as connection:
                put_model(connection, request)
                record = Record("m", name, "Object Detection", "detect", "h", 1)
                insert_records(connection, [record])
"""


class TestSeveralAtOnce:
    def test_processes_make_one_new_store(self, tmp_path: Path) -> None:
        tries = 8
        processes = [
            subprocess.Popen([sys.executable, "-c", MAKE_STORES, tmp_path, me, other, str(tries)])
            for me, other in ("ab", "ba")
        ]
        assert [process.wait(100) for process in processes] == [0, 0]
        expected = {"both", *(f"{me}{index}" for me in "ab" for index in range(5))}
        names = schema.inferences.c.inference_id
        for attempt in range(tries):
            with open_store(tmp_path / str(attempt)) as store, store.read() as connection:
                stored = connection.execute(select(names)).scalars().all()
                assert sorted(stored) == sorted(expected)

    def test_threads_make_stores(self, tmp_path: Path) -> None:
        """Two threads a store: migrations in one process share Alembic's globals."""
        opened: list[Path] = []
        together = threading.Barrier(8)

        def open_one(index: int) -> None:
            together.wait(30)
            with open_store(tmp_path / str(index % 4)) as store:
                opened.append(store.folder)

        threads = [threading.Thread(target=open_one, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(opened) == sorted(tmp_path / str(index % 4) for index in range(8))

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
        with pytest.raises(StoreError, match="FOREIGN KEY"), store.write() as connection:
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
