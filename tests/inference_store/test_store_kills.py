"""A store whose users are killed, and one that many use at once: nothing is lost, nothing left."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from pixano_cli import inference_store as istore
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.connection import blobs_of
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
from .conftest import fresh
from .requests import MODEL_ID, registration

KILLED = -9
OLD_US = 100 * 3_600_000_000

Nursery = Callable[..., tuple[list[int], float]]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """Gives work to processes of its own; returns how they ended, and after how many seconds."""
    with subprocess.Popen(
        [sys.executable, killed_work.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout

        def ask(*orders: dict[str, Any]) -> tuple[list[int], float]:
            assert process.stdin
            assert process.stdout
            print(json.dumps(orders), file=process.stdin, flush=True)
            statuses, seconds = json.loads(process.stdout.readline())
            return statuses, seconds

        yield ask
        process.stdin.close()


class Seed:
    """A store with records that share inputs, and a retention policy, to be had again and again."""

    def __init__(self, place: str, folder: Path, records: int, action: DeleteAction) -> None:
        self.place, self.blobs = place, folder / "inputs"
        self.records = records
        self._kept: Path | None = None
        self._action = action
        self._make()
        if "://" not in place:
            self._kept = folder / "kept"
            shutil.copytree(place, self._kept / "store")
            shutil.copytree(self.blobs, self._kept / "inputs")

    def renew(self) -> None:
        """Have the store as it was at first."""
        shutil.rmtree(self.blobs)
        if self._kept is None:
            self._make()
        else:
            shutil.rmtree(self.place)
            shutil.copytree(self._kept / "store", self.place)
            shutil.copytree(self._kept / "inputs", self.blobs)

    def order(self, work: str, **more: Any) -> dict[str, Any]:
        return {"work": work, "place": self.place, "blobs": str(self.blobs), **more}

    def _make(self) -> None:
        with istore.connect(self.place, blobs=self.blobs) as store:
            fresh(store)
            self.blobs.mkdir(exist_ok=True)
            istore.register_model_for_inference_storage(registration())
            for number in range(self.records):
                killed_work.create(f"seed {number}", number)
            request = NewRetentionPolicyRequest(
                automated_interval=0,
                maximum_record_age=80,
                maximum_blob_age=20,
                delete_action=self._action,
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


def whole(place: str, blobs: Path) -> dict[str, str | None]:
    """Open a store and see that nothing is wrong; return each record's input."""
    with istore.connect(place, blobs=blobs) as store:
        report = verify(store, deep=True)
        assert [str(each) for each in report.problems] == []
        table = schema.inferences
        with store.read() as connection:
            query = select(table.c.inference_id, table.c.data_storage_key)
            visible = query.where(table.c.deleted_at.is_(None)).order_by(table.c.created_at)
            records = {
                row.inference_id: row.data_storage_key for row in connection.execute(visible)
            }
        assert set(blobs_of(store).keys()) == {key for key in records.values() if key}
        return records


def tasks(place: str, blobs: Path) -> list[RetentionTask]:
    with istore.connect(place, blobs=blobs):
        return filter_retention_tasks(MODEL_ID, NewGetRetentionTasksRequest())


class TestKilledAtAnyMoment:
    """Twenty times each, at moments spread over the time that the work takes."""

    def moments(self, seconds: float, count: int) -> list[float]:
        chance = random.Random(5)
        return [seconds * (index + chance.random()) / count for index in range(count)]

    def count(self, place: str) -> int:
        return 6 if "://" in place else 20

    def test_create(self, place: str, tmp_path: Path, nursery: Nursery) -> None:
        """One store that is killed at again and again; every record that was told is there."""
        seed = Seed(place, tmp_path, 3, DeleteAction.SOFT)
        told: set[str] = set()
        for index, moment in enumerate(self.moments(0.3, self.count(place))):
            log = tmp_path / f"{index}.log"
            order = seed.order("creating", log=str(log), after=moment)
            assert nursery(order)[0] == [KILLED]
            if log.exists():
                told |= set(log.read_text().split())
            records = whole(place, seed.blobs)
            names = {name for name in records if not name.startswith("seed")}
            # At most the one that was about to be told besides.
            assert told <= names
            assert len(names - told) <= index + 1
        assert len(told) > 3

    @pytest.mark.parametrize(
        ("work", "action"),
        [
            ("deleting", DeleteAction.HARD),
            ("retaining", DeleteAction.HARD),
            ("retaining", DeleteAction.SOFT),
        ],
    )
    def test_delete_and_retention(
        self, place: str, tmp_path: Path, nursery: Nursery, work: str, action: DeleteAction
    ) -> None:
        seed = Seed(place, tmp_path, 40, action)
        ordered = seed.order(work, batch=4)
        (status,), seconds = nursery(ordered)
        assert status == 0
        left = whole(place, seed.blobs)
        assert len(left) == (0 if work == "deleting" else 20)
        ends = []
        for moment in self.moments(seconds, self.count(place)):
            seed.renew()
            ended = nursery({**ordered, "after": moment})[0]
            records = whole(place, seed.blobs)
            assert left.keys() <= records.keys()
            if work == "retaining":
                done = tasks(place, seed.blobs)
                assert [each.state for each in done] in ([], ["failed"], ["complete"])
                for each in done:
                    assert each.deleted_record_count == 40 - len(records)
            ends.append((ended, len(records)))
            # What was begun can be finished.
            assert nursery(ordered)[0] == [0]
            assert whole(place, seed.blobs).keys() == left.keys()
        assert any(ended == [KILLED] for ended, _ in ends)
        assert len({count for _, count in ends}) > 2


class TestKilledAtEachStep:
    """Before and after every change to the tables and to the files, one after the other."""

    @pytest.mark.parametrize(
        ("work", "records", "action", "steps"),
        [
            ("creating_one", 1, DeleteAction.SOFT, 4),
            ("creating_one", 0, DeleteAction.SOFT, 8),
            ("deleting", 3, DeleteAction.HARD, 14),
            ("retaining", 4, DeleteAction.HARD, 20),
            ("retaining", 4, DeleteAction.SOFT, 20),
        ],
    )
    def test_leaves_a_sound_store(
        self,
        place: str,
        tmp_path: Path,
        nursery: Nursery,
        work: str,
        records: int,
        action: DeleteAction,
        steps: int,
    ) -> None:
        """The new record's input is that of another one, or there is no other."""
        seed = Seed(place, tmp_path, records, action)
        order = seed.order(work, batch=2)
        assert nursery(order)[0] == [0]
        ended = whole(place, seed.blobs).keys()
        seen = set()
        # A server's store takes longer to make anew: of its steps it is every third.
        for step in range(0, 100, 3 if "://" in place else 1):
            seed.renew()
            status = nursery({**order, "step": step})[0]
            left = whole(place, seed.blobs)
            seen.add(len(left))
            if status == [0]:
                break
            assert status == [KILLED]
            if work == "retaining":
                assert [each.state for each in tasks(place, seed.blobs)] in (
                    [],
                    ["failed"],
                    ["complete"],
                )
            assert nursery(order)[0] == [0]
            assert whole(place, seed.blobs).keys() == ended
        assert step >= steps
        assert len(seen) > 1


class TestManyAtOnce:
    """Eight processes store, tag and delete, four others count and page through it."""

    @pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.long)])
    def test_no_error_and_no_lost_record(
        self, place: str, tmp_path: Path, nursery: Nursery, seconds: int
    ) -> None:
        seed = Seed(place, tmp_path, 0, DeleteAction.SOFT)
        logs = [tmp_path / f"{me}.log" for me in range(12)]
        orders = [
            seed.order("writing" if me < 8 else "asking", log=str(log), seconds=seconds, me=me)
            for me, log in enumerate(logs)
        ]
        assert nursery(*orders)[0] == [0] * 12
        stored = [json.loads(log.read_text()) for log in logs[:8]]
        expected = {name for _, mine in stored for name in mine}
        assert whole(place, seed.blobs).keys() == expected
        assert all(made for made, _ in stored)
        assert all(json.loads(log.read_text()) > 0 for log in logs[8:])
