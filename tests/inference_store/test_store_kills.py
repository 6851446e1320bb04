"""A store whose users are killed, and one that many use at once: nothing is lost, nothing left."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from pixano_cli import inference_store as istore
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.connection import blobs_of
from pixano_cli.inference_store.database import open_store
from pixano_cli.inference_store.models import (
    DeleteAction,
    NewGetRetentionTasksRequest,
    NewRetentionPolicyRequest,
    RetentionTask,
)
from pixano_cli.inference_store.retention_policy import create_retention_policy
from pixano_cli.inference_store.retention_task import filter_retention_tasks
from pixano_cli.inference_store.verify import verify

from . import killed_work
from .requests import MODEL_ID, registration

KILLED = -9

Nursery = Callable[..., list[int]]
State = frozenset[tuple[str, str | None]]


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's folder, as the working directory: a server's store keeps its exports there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """Gives work to processes of its own; returns how they ended."""
    with subprocess.Popen(
        [sys.executable, killed_work.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout

        def ask(*orders: dict[str, Any]) -> list[int]:
            assert process.stdin
            assert process.stdout
            print(json.dumps(orders), file=process.stdin, flush=True)
            statuses: list[int] = json.loads(process.stdout.readline())
            return statuses

        yield ask
        process.stdin.close()


class Seed:
    """A store with records that share inputs, and a retention policy, to be had again and again."""

    def __init__(
        self, place: str, folder: Path, records: int, action: DeleteAction = DeleteAction.SOFT
    ) -> None:
        self.place, self.blobs, self.folder = place, folder / "inputs", folder
        self._kept = folder / "kept"
        with istore.connect(place, blobs=self.blobs) as store:
            self.exports = store.folder / "exports"
            self._fill(store, records, action)
            with store.read() as connection:
                self._rows = [
                    (table, [row._asdict() for row in connection.execute(select(table))])
                    for table in schema.tables.sorted_tables
                ]
        self.blobs.mkdir(exist_ok=True)
        shutil.copytree(self.blobs, self._kept)

    def renew(self) -> None:
        """Have the store as it was at first."""
        for folder in (self.blobs, self.exports):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._kept, self.blobs)
        with open_store(self.place) as store, store.write() as connection:
            for table, _ in reversed(self._rows):
                connection.execute(delete(table))
            for table, rows in self._rows:
                if rows:
                    connection.execute(insert(table), rows)

    def order(self, work: str, **more: Any) -> dict[str, Any]:
        return {
            "work": work,
            "place": self.place,
            "blobs": str(self.blobs),
            "folder": str(self.folder),
            **more,
        }

    def steps(self, nursery: Nursery, order: dict[str, Any]) -> int:
        """Have the work done; return how many steps it takes."""
        count = self.folder / "count"
        assert nursery({**order, "count": str(count)}) == [0]
        return int(count.read_text())

    def _fill(self, store: istore.Store, records: int, action: DeleteAction) -> None:
        istore.register_model_for_inference_storage(registration())
        for number in range(records):
            killed_work.create(f"seed {number}", number)
        request = NewRetentionPolicyRequest(
            automated_interval=0, maximum_record_age=80, maximum_blob_age=20, delete_action=action
        )
        create_retention_policy(MODEL_ID, request)
        table = schema.inferences
        with store.write() as connection:
            # The first half is old enough to go, of the others only the inputs.
            rows = connection.execute(select(table.c.id).order_by(table.c.id)).scalars().all()
            for some, back in ((rows[: len(rows) // 2], 100), (rows[len(rows) // 2 :], 50)):
                connection.execute(
                    update(table)
                    .where(table.c.id.in_(some))
                    .values(created_at=table.c.created_at - back * 3_600_000_000)
                )


def whole(seed: Seed) -> dict[str, str | None]:
    """Open a store and see that nothing is wrong; return each record's input."""
    with open_store(seed.place) as store, store.write():
        # A server may be about to commit what was sent to it before the kill.
        pass
    with istore.connect(seed.place, blobs=seed.blobs) as store:
        report = verify(store, deep=True)
        assert [str(each) for each in report.problems] == []
        table = schema.inferences
        with store.read() as connection:
            query = select(table.c.inference_id, table.c.data_storage_key)
            visible = query.where(table.c.deleted_at.is_(None)).order_by(table.c.created_at)
            records = {
                row.inference_id: row.data_storage_key for row in connection.execute(visible)
            }
            noted = connection.execute(select(schema.blobs)).all()
        named = {key for key in records.values() if key}
        assert set(blobs_of(store).keys()) == named
        assert {row.storage_key for row in noted} == named
        assert {row.pending_since for row in noted} <= {None}
        return records


def retention_tasks(seed: Seed) -> list[RetentionTask]:
    with istore.connect(seed.place, blobs=seed.blobs):
        return filter_retention_tasks(MODEL_ID, NewGetRetentionTasksRequest())


def archives(seed: Seed) -> list[set[str]]:
    """The ids in each archive; each is whole, and of a task that is complete."""
    with istore.connect(seed.place, blobs=seed.blobs) as store, store.read() as connection:
        tasks = connection.execute(select(schema.export_tasks)).all()
    assert {row.state for row in tasks} <= {"complete", "failed"}
    keys = {row.storage_key.removeprefix("exports/") for row in tasks if row.storage_key}
    files = list(seed.exports.iterdir()) if seed.exports.exists() else []
    assert {each.name for each in files} == keys
    ids = []
    for each in files:
        with zipfile.ZipFile(each) as archive:
            assert archive.testzip() is None
            lines = [json.loads(line) for line in archive.read("inferences.jsonl").splitlines()]
            inputs = {line["path"]: line["data_hash"] for line in lines}
            for path, digest in inputs.items():
                assert hashlib.sha256(archive.read(path)).hexdigest() == digest
            ids.append({line["inference_id"] for line in lines})
    return ids


def spread(total: int, count: int) -> list[int]:
    """Return steps from the first to the last, all different."""
    return [(total - 1) * index // (count - 1) for index in range(count)]


EACH_STEP = 10_000

# A server's store takes longer to make anew.
many_times = pytest.mark.parametrize(
    ("place", "kills"),
    [
        ("sqlite", 20),
        ("postgresql", 5),
        pytest.param("sqlite", EACH_STEP, marks=pytest.mark.long),
        pytest.param("postgresql", 20, marks=pytest.mark.long),
    ],
    indirect=["place"],
)


class TestKilledAtAnyMoment:
    """At steps spread over the work, counted and not timed; of each two kills one a bit later.

    A step is a statement, a commit, or a change to a file. The later one comes from another thread
    and finds the work in the middle of a step.
    """

    def kills(self, total: int, count: int) -> list[dict[str, Any]]:
        chance = random.Random(5)
        assert total >= 100
        count = min(count, total)
        after = [chance.uniform(0.0001, 0.003) * (index % 2) for index in range(count)]
        return [
            {"step": step, "after": each}
            for step, each in zip(spread(total, count), after, strict=True)
        ]

    @many_times
    def test_create(self, place: str, in_folder: Path, nursery: Nursery, kills: int) -> None:
        """Every record that was told is there, and one besides that was about to be told."""
        seed = Seed(place, in_folder, 3)
        log = in_folder / "log"
        order = seed.order("creating", log=str(log), batch=4)
        total = seed.steps(nursery, order)
        ended = whole(seed)
        assert len(ended) == 3 + 5
        states = set()
        for kill in self.kills(total, kills):
            seed.renew()
            log.unlink()
            assert nursery({**order, **kill}) == [KILLED]
            told = set(log.read_text().split()) if log.exists() else set()
            names = {name for name in whole(seed) if not name.startswith("seed")}
            assert told <= names
            assert len(names - told) <= 1
            states.add(frozenset(names))
            # What was begun can be finished.
            assert nursery(order) == [0]
            assert whole(seed) == ended
        assert len(states) > 2

    @many_times
    @pytest.mark.parametrize(
        ("work", "action"),
        [
            ("deleting", DeleteAction.HARD),
            ("retaining", DeleteAction.HARD),
            ("retaining", DeleteAction.SOFT),
        ],
    )
    def test_delete_and_retention(
        self,
        place: str,
        in_folder: Path,
        nursery: Nursery,
        work: str,
        action: DeleteAction,
        kills: int,
    ) -> None:
        seed = Seed(place, in_folder, 40, action)
        order = seed.order(work, batch=4)
        total = seed.steps(nursery, order)
        left = whole(seed)
        assert len(left) == (0 if work == "deleting" else 20)
        states: set[State] = set()
        for kill in self.kills(total, kills):
            seed.renew()
            assert nursery({**order, **kill}) == [KILLED]
            records = whole(seed)
            assert left.keys() <= records.keys()
            if work == "retaining":
                done = retention_tasks(seed)
                assert [each.state for each in done] in ([], ["failed"], ["complete"])
                for each in done:
                    assert each.deleted_record_count == 40 - len(records)
            states.add(frozenset(records.items()))
            assert nursery(order) == [0]
            assert whole(seed) == left
        assert len(states) > 2

    @many_times
    def test_export(self, place: str, in_folder: Path, nursery: Nursery, kills: int) -> None:
        """There is a whole archive or none, and of the others nothing is left."""
        seed = Seed(place, in_folder, 30)
        order = seed.order("exporting", batch=4)
        total = seed.steps(nursery, order)
        records = whole(seed)
        assert archives(seed) == [records.keys()]
        made = set()
        for kill in self.kills(total, kills):
            seed.renew()
            assert nursery({**order, **kill}) == [KILLED]
            assert whole(seed) == records
            found = archives(seed)
            assert found in ([], [records.keys()])
            made.add(len(found))
            assert nursery(order) == [0]
            assert archives(seed) == [records.keys()] * (len(found) + 1)
            assert whole(seed) == records
        assert made == {0, 1}


class TestManyAtOnce:
    """Eight processes store, tag and delete, four others count and page through it."""

    @pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.long)])
    def test_no_error_and_no_lost_record(
        self, place: str, in_folder: Path, nursery: Nursery, seconds: int
    ) -> None:
        seed = Seed(place, in_folder, 0)
        logs = [in_folder / f"{me}.log" for me in range(12)]
        orders = [
            seed.order("writing" if me < 8 else "asking", log=str(log), seconds=seconds, me=me)
            for me, log in enumerate(logs)
        ]
        assert nursery(*orders) == [0] * 12
        stored = [json.loads(log.read_text()) for log in logs[:8]]
        expected = {name for _, mine in stored for name in mine}
        assert whole(seed).keys() == expected
        assert all(made for made, _ in stored)
        assert all(json.loads(log.read_text()) > 0 for log in logs[8:])
