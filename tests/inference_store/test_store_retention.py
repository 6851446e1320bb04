"""Retention: what goes at which age, and what stays, at a clock that the tests set."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import Table, func, select, update

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import process, retention, schema
from pixano_cli.inference_store.blob_ledger import collect
from pixano_cli.inference_store.blobs import FolderBlobs, data_key
from pixano_cli.inference_store.connection import blobs_of
from pixano_cli.inference_store.inference import create_inference_storage_request
from pixano_cli.inference_store.models import (
    DeleteAction,
    NewGetRetentionTasksRequest,
    NewRetentionPolicyRequest,
    NewRetentionTaskRequest,
    Pagination,
    PaginationEmbeddingSortField,
    PaginationSortDirection,
    PaginationSortField,
    RetentionPolicy,
    RetentionTask,
    RetentionTaskState,
    TimeWindowFilter,
)
from pixano_cli.inference_store.retention_policy import (
    create_retention_policy,
    delete_retention_policy,
    get_retention_policy,
)
from pixano_cli.inference_store.retention_task import (
    create_retention_task,
    filter_retention_tasks,
    get_retention_task,
)

from .conftest import fresh
from .requests import MODEL_ID, create, found, inference, registration

HOUR_NS = 3_600_000_000_000
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Clock:
    """The store's clock, which stands until it is moved."""

    def __init__(self) -> None:
        self.ns = int(NOON.timestamp()) * 1_000_000_000

    def __call__(self) -> int:
        return self.ns

    @property
    def time(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.ns // 1000)

    def pass_hours(self, hours: float, microseconds: int = 0) -> None:
        self.ns += round(hours * HOUR_NS) + microseconds * 1000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock at noon of 2030's first day."""
    made = Clock()
    monkeypatch.setattr("pixano_cli.inference_store.database.time_ns", made)
    return made


@pytest.fixture
def store(place: str, tmp_path: Path) -> Iterator[istore.Store]:
    """A store with a detection model registered, its blobs in a folder that is gone afterwards."""
    with istore.connect(place, blobs=tmp_path / "inputs") as opened:
        yield opened


def policy(
    record: int = 10,
    blob: int = 5,
    action: DeleteAction = DeleteAction.SOFT,
    interval: int = 0,
    model_id: str = MODEL_ID,
) -> RetentionPolicy:
    request = NewRetentionPolicyRequest(
        automated_interval=interval,
        maximum_record_age=record,
        maximum_blob_age=blob,
        delete_action=action,
    )
    made = create_retention_policy(model_id, request)
    assert made is not None
    return made


def run(which: RetentionPolicy, *, dry_run: bool = False) -> RetentionTask:
    request = NewRetentionTaskRequest(dry_run=dry_run, retention_policy_id=which.id)
    task = create_retention_task(which.model_id, request)
    assert task is not None
    assert get_retention_task(which.model_id, task.id) == task
    return task


def counts(task: RetentionTask) -> tuple[int, int, int, int]:
    """Records removed and to be removed, inputs removed and to be removed."""
    return (
        task.deleted_record_count,
        task.total_record_count,
        task.deleted_blob_count,
        task.total_blob_count,
    )


def keep(
    inference_id: str,
    data: bytes | None = None,
    *,
    model_id: str = MODEL_ID,
    protected: bool = False,
) -> None:
    """Store an inference, with its input if one is given."""
    content = data or b""
    request = inference(
        inference_id,
        model_id=model_id,
        data_hash=istore.get_data_hash(content),
        data_size=len(content),
        metadata={"a": ("int", "1")},
    )
    create_inference_storage_request(
        model_id, inference_id, data, request.data, is_protected=protected
    )


def blobs(store: istore.Store) -> set[bytes]:
    """The inputs that are kept; each has its row, which is settled."""
    storage, table = blobs_of(store), schema.blobs
    keys = set(storage.keys())
    with store.read() as connection:
        known = connection.execute(select(table.c.storage_key, table.c.pending_since)).all()
    assert {(key, None) for key in keys} == {tuple(each) for each in known}
    return {storage.get(key) for key in keys}


def rows(store: istore.Store, table: Table) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def tasks(**asked: Any) -> list[RetentionTask]:
    return filter_retention_tasks(MODEL_ID, NewGetRetentionTasksRequest(**asked))


def small_batches(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Remove so many records in a transaction, and look for three times as many at once."""
    monkeypatch.setattr(retention, "BATCH", size)
    monkeypatch.setattr(retention, "PAGE", 3 * size)
    monkeypatch.setattr(retention, "LONGEST_WRITE_S", 0)


class TestPolicy:
    def test_is_returned_and_found(self, store: istore.Store) -> None:
        made = policy(24, 12, DeleteAction.HARD, 6)
        assert made == RetentionPolicy(
            id=made.id,
            model_id=MODEL_ID,
            delete_action="hard",
            maximum_record_age=24,
            maximum_blob_age=12,
            automated_interval=6,
            last_scheduled_at=None,
        )
        assert get_retention_policy(MODEL_ID) == made

    def test_is_soft_where_nothing_is_said(self, store: istore.Store) -> None:
        request = NewRetentionPolicyRequest(
            automated_interval=0, maximum_record_age=-1, maximum_blob_age=0
        )
        made = create_retention_policy(MODEL_ID, request)
        assert made is not None
        assert made.delete_action == "soft"

    def test_another_takes_its_place(self, store: istore.Store) -> None:
        first, second = policy(10), policy(20)
        assert first.id != second.id
        assert get_retention_policy(MODEL_ID) == second
        with pytest.raises(StoreError, match="no retention policy"):
            run(first)

    def test_the_same_again_changes_nothing(self, store: istore.Store, clock: Clock) -> None:
        first = policy(interval=3)
        run(first)
        clock.pass_hours(1)
        again = policy(interval=3)
        assert again.id == first.id
        assert again.last_scheduled_at == NOON

    def test_each_model_has_its_own(self, store: istore.Store) -> None:
        istore.register_model_for_inference_storage(registration("second"))
        mine, other = policy(), policy(model_id="second")
        assert get_retention_policy(MODEL_ID) == mine
        assert get_retention_policy("second") == other
        assert delete_retention_policy(MODEL_ID, other.id) is None
        assert delete_retention_policy("second", other.id) == other.id
        assert get_retention_policy("second") is None
        assert get_retention_policy(MODEL_ID) == mine

    def test_deleted_once(self, store: istore.Store) -> None:
        made = policy()
        task = run(made)
        assert delete_retention_policy(MODEL_ID, made.id) == made.id
        assert delete_retention_policy(MODEL_ID, made.id) is None
        assert get_retention_policy(MODEL_ID) is None
        assert get_retention_task(MODEL_ID, task.id) == task

    def test_model_must_be_registered(self, store: istore.Store) -> None:
        with pytest.raises(StoreError, match="'other' is not registered"):
            policy(model_id="other")
        assert get_retention_policy("other") is None

    @pytest.mark.parametrize(
        ("record", "blob", "interval", "said"),
        [
            (-2, 0, 0, "maximum_record_age -2 is no age"),
            (5, -1, 0, "maximum_blob_age -1 is no age"),
            (-1, -1, 0, "maximum_blob_age -1 is no age"),
            (5, 6, 0, "maximum_blob_age 6 is more than maximum_record_age 5"),
            (5, 5, -1, "automated_interval -1 is none"),
            (2**31, 5, 0, "maximum_record_age 2147483648 is no age"),
            (-1, 2**31, 0, "maximum_blob_age 2147483648 is no age"),
            (10**400, 5, 0, "is no age"),
            (5, 5, 2**31, "automated_interval 2147483648 is none"),
        ],
    )
    def test_ages_that_contradict_are_refused(
        self, store: istore.Store, record: int, blob: int, interval: int, said: str
    ) -> None:
        kept = policy()
        with pytest.raises(StoreError, match=said) as caught:
            policy(record, blob, interval=interval)
        assert "\n" not in str(caught.value)
        assert get_retention_policy(MODEL_ID) == kept

    @pytest.mark.parametrize("age", [float("nan"), float("inf"), 1.5, None, "many"])
    def test_what_is_no_number_of_hours_is_refused(self, age: Any) -> None:
        with pytest.raises(ValidationError):
            NewRetentionPolicyRequest(
                automated_interval=0, maximum_record_age=age, maximum_blob_age=0
            )

    @pytest.mark.parametrize(
        ("record", "blob"), [(0, 0), (-1, 2**31 - 1), (2**31 - 1, 2**31 - 1), (5, 5)]
    )
    def test_ages_at_the_bounds_are_taken(
        self, store: istore.Store, record: int, blob: int
    ) -> None:
        made = policy(record, blob, interval=2**31 - 1)
        assert (made.maximum_record_age, made.maximum_blob_age) == (record, blob)
        assert retention.run_due(store, blobs_of(store)) == []


class TestAges:
    def test_what_is_strictly_older_goes(self, store: istore.Store, clock: Clock) -> None:
        keep("old")
        clock.pass_hours(0, microseconds=1)
        keep("just old enough to stay")
        clock.pass_hours(10)
        task = run(policy(record=10))
        assert counts(task) == (1, 1, 0, 0)
        assert task.state == "complete"
        assert task.maximum_record_age_limit == clock.time - timedelta(hours=10)
        assert task.maximum_blob_age_limit == clock.time - timedelta(hours=5)
        assert found() == ["just old enough to stay"]

    def test_inputs_go_before_their_records(self, store: istore.Store, clock: Clock) -> None:
        keep("old", b"old")
        clock.pass_hours(6)
        keep("new", b"new")
        clock.pass_hours(1)
        before = istore.get_inference(MODEL_ID, "old")
        assert before is not None
        task = run(policy(record=10, blob=5))
        assert counts(task) == (0, 0, 1, 1)
        assert blobs(store) == {b"new"}
        after = istore.get_inference(MODEL_ID, "old")
        assert after == before.model_copy(
            update={"data_storage_key": None, "updated_at": clock.time}
        )
        assert counts(run(policy(record=10, blob=5))) == (0, 0, 0, 0)

    def test_record_age_of_minus_one_is_never(self, store: istore.Store, clock: Clock) -> None:
        keep("old", b"old")
        clock.pass_hours(24 * 365 * 50)
        task = run(policy(record=-1, blob=0, action=DeleteAction.HARD))
        assert counts(task) == (0, 0, 1, 1)
        assert task.maximum_record_age_limit == datetime(1970, 1, 1, tzinfo=UTC)
        assert found() == ["old"]
        assert blobs(store) == set()

    def test_ages_beyond_1970_keep_everything(self, store: istore.Store, clock: Clock) -> None:
        keep("old", b"old")
        clock.pass_hours(1)
        task = run(policy(record=2**31 - 1, blob=2**31 - 1))
        assert counts(task) == (0, 0, 0, 0)
        assert task.maximum_blob_age_limit == datetime(1970, 1, 1, tzinfo=UTC)

    def test_age_zero_takes_all_that_is_past(self, store: istore.Store, clock: Clock) -> None:
        keep("past", b"past")
        clock.pass_hours(0, microseconds=1)
        keep("present", b"present")
        assert counts(run(policy(record=0, blob=0))) == (1, 1, 1, 1)
        assert found() == ["present"]
        assert blobs(store) == {b"present"}

    def test_protected_records_keep_their_inputs(self, store: istore.Store, clock: Clock) -> None:
        keep("one", b"one", protected=True)
        keep("two", b"two")
        clock.pass_hours(100)
        assert counts(run(policy())) == (1, 1, 1, 1)
        assert found() == ["one"]
        assert blobs(store) == {b"one"}

    def test_input_that_another_record_names_stays(self, store: istore.Store, clock: Clock) -> None:
        """A protected one, a younger one, one of another model; it goes with the last of them."""
        istore.register_model_for_inference_storage(registration("second"))
        keep("old", b"same")
        keep("other", b"same", model_id="second")
        clock.pass_hours(8)
        keep("young", b"same")
        clock.pass_hours(4)
        assert counts(run(policy(10, 5))) == (1, 1, 0, 0)
        assert blobs(store) == {b"same"}
        clock.pass_hours(4)
        assert counts(run(policy(10, 5))) == (0, 0, 0, 0)
        young = istore.get_inference(MODEL_ID, "young")
        assert young is not None
        assert young.data_storage_key is None
        assert blobs(store) == {b"same"}
        assert counts(run(policy(10, 5, model_id="second"))) == (1, 1, 1, 1)
        assert blobs(store) == set()

    def test_key_that_others_keep_is_forgotten_and_not_counted(
        self, store: istore.Store, clock: Clock
    ) -> None:
        create("one", data_storage_key="elsewhere/1")
        clock.pass_hours(6)
        assert counts(run(policy())) == (0, 0, 0, 0)
        one = istore.get_inference(MODEL_ID, "one")
        assert one is not None
        assert one.data_storage_key is None


class TestActions:
    def test_soft_hides_everywhere(self, store: istore.Store, clock: Clock) -> None:
        keep("old", b"old")
        clock.pass_hours(11)
        keep("new")
        assert counts(run(policy())) == (1, 1, 1, 1)
        assert found() == ["new"]
        assert found(deconstructed_inference_filter={"labels": ["cat"]}) == ["new"]
        assert istore.get_inference(MODEL_ID, "old") is None
        assert istore.get_metadata(MODEL_ID, "old") == []
        assert rows(store, schema.inferences) == rows(store, schema.elements) == 2
        with store.read() as connection:
            hidden = connection.execute(
                select(schema.inferences).where(schema.inferences.c.inference_id == "old")
            ).one()
        assert hidden.deleted_at == clock.ns // 1000
        assert hidden.data_storage_key is None
        assert blobs(store) == set()
        assert counts(run(policy())) == (0, 0, 0, 0)

    def test_soft_hides_from_every_function(self, store: istore.Store, clock: Clock) -> None:
        size, action = 2, istore.InferenceAction.EMBED
        task = istore.TaskType.IMAGE_EMBEDDING
        istore.register_model_for_inference_storage(registration("embedder", task, size))
        for name in ("old", "new"):
            request = inference(
                name,
                None,
                model_id="embedder",
                task=task,
                action=action,
                embedding=[1.0, 0.0],
                metadata={"n": ("int", "1"), "s": ("string", name)},
            )
            istore.create_inference("embedder", request)
            clock.pass_hours(11 if name == "old" else 0)
        assert counts(run(policy(model_id="embedder")))[0] == 1
        near = istore.NewGetInferencesRequest(
            embedding_filters=istore.EmbeddingFilter(query_embedding=[1.0, 0.0])
        )
        for asked in (istore.NewGetInferencesRequest(), near):
            found = istore.filter_inferences("embedder", asked)
            assert [each.inference_id for each in found] == ["new"]
            assert istore.count_inferences("embedder", asked) == 1
        assert istore.get_inference("embedder", "old") is None
        assert istore.get_metadata("embedder", "old") == []
        new = istore.NewExtendedMetadataRequest(key="n", type=istore.MetadataType.INT, value="2")
        with pytest.raises(StoreError, match="there is no inference 'old'"):
            istore.create_metadata("embedder", "old", new)
        assert istore.delete_metadata("embedder", "old", "n") is None
        by_type = istore.get_metadata_key_type_counts("embedder")
        assert by_type is not None
        assert by_type.counts == {"n": {"int": 1}, "s": {"string": 1}}
        for kind, key, distribution in (
            (istore.MetadataStatisticsType.INT, "n", {"[1, 1]": 1}),
            (istore.MetadataStatisticsType.STRING, "s", {"new": 1}),
        ):
            measured = istore.get_metadata_statistics(
                "embedder", istore.NewGetMetadataStatisticsRequest(key=key, type=kind)
            )
            assert measured is not None
            assert measured.distribution == distribution
        export = istore.create_export_task(
            "embedder", istore.NewExportTaskRequest(include_inference_ids=["old", "new"])
        )
        assert export is not None
        assert export.expected_count == 1
        assert istore.bulk_delete_inferences("embedder", istore.BaseInferenceFilter()) == ["new"]
        assert istore.delete_inference("embedder", "old") is None
        assert rows(store, schema.inferences) == 0

    def test_hidden_gives_way_to_the_same_id(self, store: istore.Store, clock: Clock) -> None:
        keep("one", b"one")
        clock.pass_hours(11)
        run(policy())
        keep("one", b"one")
        assert found() == ["one"]
        assert blobs(store) == {b"one"}

    def test_hard_removes_rows_and_metadata(self, store: istore.Store, clock: Clock) -> None:
        keep("old", b"old")
        clock.pass_hours(11)
        keep("new")
        assert counts(run(policy(action=DeleteAction.HARD))) == (1, 1, 1, 1)
        for table in (schema.inferences, schema.elements, schema.metadata):
            assert rows(store, table) == 1
        assert blobs(store) == set()

    def test_change_to_hard_takes_what_was_hidden(self, store: istore.Store, clock: Clock) -> None:
        """Which was counted when it was hidden."""
        keep("one")
        clock.pass_hours(2)
        keep("two")
        clock.pass_hours(9)
        assert counts(run(policy())) == (1, 1, 0, 0)
        assert rows(store, schema.inferences) == 2
        assert counts(run(policy(action=DeleteAction.HARD))) == (0, 0, 0, 0)
        assert rows(store, schema.inferences) == rows(store, schema.metadata) == 1
        assert found() == ["two"]

    def test_dry_run_removes_nothing(self, store: istore.Store, clock: Clock) -> None:
        keep("one", b"one")
        clock.pass_hours(8)
        keep("two", b"two")
        clock.pass_hours(6)
        made = policy()
        before = istore.filter_inferences(MODEL_ID, istore.NewGetInferencesRequest())
        task = run(made, dry_run=True)
        assert counts(task) == (0, 1, 0, 2)
        assert task.state == "complete"
        assert istore.filter_inferences(MODEL_ID, istore.NewGetInferencesRequest()) == before
        assert blobs(store) == {b"one", b"two"}
        now = get_retention_policy(MODEL_ID)
        assert now == made
        assert counts(run(made)) == (1, 1, 2, 2)

    def test_another_model_s_records_stay(self, store: istore.Store, clock: Clock) -> None:
        istore.register_model_for_inference_storage(registration("second"))
        keep("one", b"one", model_id="second")
        clock.pass_hours(100)
        assert counts(run(policy())) == (0, 0, 0, 0)
        assert istore.get_inference("second", "one") is not None
        assert blobs(store) == {b"one"}


@dataclass(frozen=True)
class Kept:
    """What is known of a record, in the second definition of the rules."""

    model_id: str
    age: int
    data: bytes | None
    is_protected: bool


def second_definition(
    records: Mapping[str, Kept], model_id: str, record_age: int, blob_age: int
) -> tuple[dict[str, Kept], set[bytes]]:
    """Return the records that are left, and the inputs, by the rules read one after the other."""
    left = {}
    for name, each in records.items():
        if each.model_id == model_id and not each.is_protected:
            if record_age != -1 and each.age > record_age:
                continue
            if each.age > blob_age:
                each = replace(each, data=None)
        left[name] = each
    return left, {each.data for each in left.values() if each.data is not None}


ages = st.integers(0, 6)
kept = st.builds(
    Kept,
    st.sampled_from([MODEL_ID, "second"]),
    ages,
    st.sampled_from([None, b"x", b"y", b"z"]),
    st.booleans(),
)
# Ages of records and of inputs, what is done, and how many records to a transaction.
Run = tuple[int, int, DeleteAction, int]
rules = st.tuples(
    st.integers(-1, 6), ages, st.sampled_from(list(DeleteAction)), st.integers(1, 4)
).filter(lambda rule: rule[0] == -1 or rule[1] <= rule[0])


def agree_on_rules(
    store: istore.Store, clock: Clock, given_records: list[Kept], runs: list[Run]
) -> None:
    for key in list(blobs_of(store).keys()):
        blobs_of(store).delete(key)
    fresh(store)
    for model_id in (MODEL_ID, "second"):
        istore.register_model_for_inference_storage(registration(model_id))
    records = {str(number): each for number, each in enumerate(given_records)}
    hidden: dict[str, Kept] = {}
    present = clock.ns
    for name, each in sorted(records.items(), key=lambda item: -item[1].age):
        clock.ns = present - each.age * HOUR_NS
        keep(name, each.data, model_id=each.model_id, protected=each.is_protected)
    clock.ns = present
    inputs = {each.data for each in records.values() if each.data is not None}
    for record_age, blob_age, action, batch in runs:
        left, left_inputs = second_definition(records, MODEL_ID, record_age, blob_age)
        expected = (len(records) - len(left), len(inputs) - len(left_inputs))
        made = policy(record_age, blob_age, action)
        with pytest.MonkeyPatch.context() as patched:
            small_batches(patched, batch)
            assert counts(run(made, dry_run=True)) == (0, expected[0], 0, expected[1])
            assert counts(run(made)) == (expected[0], expected[0], expected[1], expected[1])
        stored = {
            each.inference_id: each
            for model_id in (MODEL_ID, "second")
            for each in istore.filter_inferences(model_id, istore.NewGetInferencesRequest())
        }
        assert stored.keys() == left.keys()
        for name, each in left.items():
            stored_key = data_key(istore.get_data_hash(each.data)) if each.data else None
            assert stored[name].data_storage_key == stored_key
            assert [item.key for item in stored[name].metadata or []] == ["a"]
        assert blobs(store) == left_inputs
        if action is DeleteAction.SOFT:
            hidden |= {name: each for name, each in records.items() if name not in left}
        else:
            hidden, _ = second_definition(hidden, MODEL_ID, record_age, 0)
        for table in (schema.inferences, schema.elements, schema.metadata):
            assert rows(store, table) == len(left) + len(hidden)
        records, inputs = left, left_inputs


rules_of_agreement = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
some_records = st.lists(kept, max_size=8)
some_runs = st.lists(rules, min_size=1, max_size=3)


@rules_of_agreement
@example(
    given_records=[Kept(MODEL_ID, 6, b"x", is_protected=False)],
    runs=[(5, 5, DeleteAction.SOFT, 1), (5, 5, DeleteAction.HARD, 1)],
)
@example(
    given_records=[Kept(each, 6, b"x", is_protected=False) for each in (MODEL_ID, "second")],
    runs=[(-1, 5, DeleteAction.SOFT, 1)],
)
@given(given_records=some_records, runs=some_runs)
def test_agrees_with_the_rules_in_plain_python(
    store: istore.Store, clock: Clock, given_records: list[Kept], runs: list[Run]
) -> None:
    agree_on_rules(store, clock, given_records, runs)


@pytest.mark.long
@settings(rules_of_agreement, max_examples=200)
@given(given_records=some_records, runs=some_runs)
def test_agrees_with_the_rules_in_plain_python_at_length(
    store: istore.Store, clock: Clock, given_records: list[Kept], runs: list[Run]
) -> None:
    agree_on_rules(store, clock, given_records, runs)


class TestTasks:
    def test_unknown_policy_is_refused(self, store: istore.Store) -> None:
        istore.register_model_for_inference_storage(registration("second"))
        other = policy(model_id="second")
        for policy_id in ("nothing", other.id, "\ud800"):
            with pytest.raises(StoreError):
                create_retention_task(
                    MODEL_ID, NewRetentionTaskRequest(dry_run=False, retention_policy_id=policy_id)
                )
        assert tasks() == []

    def test_belongs_to_its_model(self, store: istore.Store) -> None:
        task = run(policy())
        assert get_retention_task("other", task.id) is None
        assert get_retention_task(MODEL_ID, "nothing") is None
        assert filter_retention_tasks("other", NewGetRetentionTasksRequest()) == []

    def test_last_run_is_the_policy_s(self, store: istore.Store, clock: Clock) -> None:
        run(policy())
        now = get_retention_policy(MODEL_ID)
        assert now is not None
        assert now.last_scheduled_at == clock.time

    def test_filters(self, store: istore.Store, clock: Clock) -> None:
        first = policy(10)
        one = run(first)
        clock.pass_hours(1)
        two = run(first, dry_run=True)
        clock.pass_hours(1)
        second = policy(20)
        three = run(second)
        with store.write() as connection:
            connection.execute(
                update(schema.retention_tasks)
                .where(schema.retention_tasks.c.id == two.id)
                .values(state="failed")
            )
        two = two.model_copy(update={"state": "failed"})
        assert tasks() == [one, two, three]
        assert tasks(retention_policy_id=first.id) == [one, two]
        assert tasks(retention_policy_id="nothing") == []
        assert tasks(state_filter=RetentionTaskState.FAILED) == [two]
        assert tasks(state_filter=RetentionTaskState.COMPLETE) == [one, three]
        for state in set(RetentionTaskState) - {"failed", "complete"}:
            assert tasks(state_filter=state) == []
        # Inclusive at both ends.
        window = TimeWindowFilter(start="2030-01-01T13:00:00Z", end="2030-01-01T14:00:00Z")
        assert tasks(time_window_filter=window) == [two, three]
        assert tasks(time_window_filter=TimeWindowFilter(end="2030-01-01T13:59:59.999999Z")) == [
            one,
            two,
        ]
        clock.pass_hours(-1)
        assert tasks(time_window_filter=TimeWindowFilter()) == [one, two]
        clock.pass_hours(1)
        assert (
            tasks(
                retention_policy_id=first.id,
                state_filter=RetentionTaskState.COMPLETE,
                time_window_filter=TimeWindowFilter(start="2030-01-01T13:00:00Z"),
            )
            == []
        )

    def test_pages(self, store: istore.Store, clock: Clock) -> None:
        made = policy()
        ran = []
        for _ in range(4):
            ran.append(run(made, dry_run=True))
            clock.pass_hours(1)
        descending = PaginationSortDirection.DESCENDING
        assert tasks(pagination=Pagination()) == ran
        assert tasks(pagination=Pagination(limit=2, offset=1)) == ran[1:3]
        assert tasks(pagination=Pagination(direction=descending, limit=2)) == ran[:1:-1]
        assert tasks(pagination=Pagination(sort=PaginationSortField.CREATED_AT)) == ran
        assert tasks(pagination=Pagination(limit=0)) == []
        assert tasks(pagination=Pagination(limit=10**30, offset=10**30)) == []
        for page in (Pagination(limit=-1), Pagination(offset=-1)):
            with pytest.raises(StoreError, match="negative"):
                tasks(pagination=page)
        distance = Pagination(sort=PaginationEmbeddingSortField.EMBEDDING_DISTANCE)
        with pytest.raises(StoreError, match="embedding_distance: use created_at"):
            tasks(pagination=distance)

    def test_fifty_a_page_where_nothing_is_said(self, store: istore.Store) -> None:
        run(policy(), dry_run=True)
        table = schema.retention_tasks
        with store.write() as connection:
            one = dict(connection.execute(select(table)).one()._mapping)
            connection.execute(table.insert(), [{**one, "id": str(each)} for each in range(50)])
        assert len(tasks()) == 50
        assert len(tasks(pagination=Pagination(limit=60))) == 51

    def test_is_seen_as_it_goes_on(
        self, store: istore.Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By others, while batches are removed; its totals stand from the start."""
        small_batches(monkeypatch, 2)
        for number in range(5):
            keep(str(number), str(number).encode())
        clock.pass_hours(6)
        for number in range(5, 8):
            keep(str(number), str(number).encode())
        clock.pass_hours(6)
        seen = []
        whole = retention.discard

        def watched(*args: Any) -> int:
            seen.append(tasks()[0])
            return whole(*args)

        monkeypatch.setattr(retention, "discard", watched)
        task = run(policy(10, 5))
        assert counts(task) == (5, 5, 8, 8)
        assert [counts(each) for each in seen] == [
            (2, 5, 0, 8),
            (4, 5, 2, 8),
            (5, 5, 4, 8),
            (5, 5, 5, 8),
            (5, 5, 7, 8),
        ]
        assert {each.state for each in seen} == {"running"}

    def test_failing_one_keeps_what_is_done(
        self, store: istore.Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small_batches(monkeypatch, 2)
        for number in range(5):
            keep(str(number), str(number).encode())
        clock.pass_hours(11)
        made = policy()
        whole = FolderBlobs.delete
        left = [3]

        def fail(self: FolderBlobs, key: str) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise StoreError("the disk is on fire")
            whole(self, key)

        with monkeypatch.context() as patched:
            patched.setattr(FolderBlobs, "delete", fail)
            with pytest.raises(StoreError, match="on fire"):
                run(made)
        (task,) = tasks()
        assert task.state == "failed"
        assert counts(task)[:3] == (4, 5, 2)
        assert found() == ["4"]
        retention.upkeep(store)
        assert blobs(store) == {b"4"}

    def test_counts_what_another_process_removes_for_it(
        self, store: istore.Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(3):
            keep(str(number), str(number).encode())
        clock.pass_hours(11)
        discard = retention.discard

        def late(opened: istore.Store, storage: Any, doomed: Any) -> int:
            # Whoever opens the store removes what is given up.
            assert collect(opened, storage) == 3
            return discard(opened, storage, doomed)

        monkeypatch.setattr(retention, "discard", late)
        run(policy())
        (task,) = tasks()
        assert (task.state, *counts(task)) == ("complete", 3, 3, 3, 3)

    @pytest.mark.parametrize("end", ["deleted", "replaced"])
    def test_stops_when_its_policy_is_the_model_s_no_more(
        self, store: istore.Store, clock: Clock, monkeypatch: pytest.MonkeyPatch, end: str
    ) -> None:
        small_batches(monkeypatch, 2)
        for number in range(5):
            keep(str(number), str(number).encode())
        clock.pass_hours(11)
        made = policy()
        whole = retention.discard

        def meanwhile(*args: Any) -> int:
            if end == "deleted":
                delete_retention_policy(MODEL_ID, made.id)
            else:
                policy(record=-1)
            return whole(*args)

        monkeypatch.setattr(retention, "discard", meanwhile)
        task = run(made)
        assert task.state == "stopped"
        assert counts(task) == (2, 5, 2, 5)
        assert found() == ["2", "3", "4"]
        assert blobs(store) == {b"2", b"3", b"4"}

    def test_interrupted_one_has_stopped(
        self, store: istore.Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keep("one", b"one")
        clock.pass_hours(11)

        def interrupt(*_: Any) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr(retention, "discard", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(policy())
        assert [(each.state, *counts(each)) for each in tasks()] == [("stopped", 1, 1, 0, 1)]

    def test_what_becomes_protected_meanwhile_stays(
        self, store: istore.Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between being chosen and being removed."""
        keep("one")
        keep("two")
        clock.pass_hours(11)
        write = istore.Store.write
        protected = schema.inferences.update().where(schema.inferences.c.inference_id == "one")

        def writing(self: istore.Store) -> Any:
            with write(self) as connection:
                state = connection.execute(select(schema.retention_tasks.c.state)).scalar()
                if state == "running":
                    connection.execute(protected.values(is_protected=True))
            return write(self)

        monkeypatch.setattr(istore.Store, "write", writing)
        assert counts(run(policy())) == (1, 2, 0, 0)
        assert found() == ["one"]


def dead_owner() -> str:
    """A process of this host that is gone."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = f"{process.host()} {child.pid} {process.started(child.pid)}"
    child.communicate()
    return owner


def leave(store: istore.Store, **values: Any) -> RetentionTask:
    """Make a task that is left as it is; values are those of its row."""
    task = run(policy(), dry_run=True)
    table = schema.retention_tasks
    with store.write() as connection:
        connection.execute(update(table).where(table.c.id == task.id).values(**values))
    return task


class TestAbandoned:
    @pytest.mark.parametrize("state", ["pending", "scheduled", "running"])
    def test_task_of_a_dead_process_has_failed(self, store: istore.Store, state: str) -> None:
        task = leave(store, state=state, owner=dead_owner(), deleted_record_count=7)
        expected = task.model_copy(update={"state": "failed", "deleted_record_count": 7})
        assert get_retention_task(MODEL_ID, task.id) == expected

    def test_is_found_by_its_new_state(self, store: istore.Store) -> None:
        task = leave(store, state="running", owner=dead_owner())
        assert tasks(state_filter=RetentionTaskState.RUNNING) == []
        assert [each.id for each in tasks(state_filter=RetentionTaskState.FAILED)] == [task.id]

    def test_is_noted_when_the_store_is_opened(self, store: istore.Store, place: str) -> None:
        leave(store, state="running", owner=dead_owner())
        with istore.connect(place) as again, again.read() as connection:
            states = connection.execute(select(schema.retention_tasks.c.state)).scalars().all()
        assert states == ["failed"]

    def test_number_given_to_another_process_is_not_it(self, store: istore.Store) -> None:
        owner = f"{process.host()} {os.getpid()} another-boot:1"
        task = leave(store, state="running", owner=owner)
        assert [each.state for each in tasks()] == ["failed"]
        del task

    def test_living_one_goes_on(self, store: istore.Store) -> None:
        owner = f"{process.host()} {os.getpid()} {process.started(os.getpid())}"
        leave(store, state="running", owner=owner)
        assert [each.state for each in tasks()] == ["running"]

    def test_another_host_s_has_a_day(self, store: istore.Store, clock: Clock) -> None:
        leave(store, state="running", owner="elsewhere pid:[1] 1 boot:1")
        clock.pass_hours(24)
        assert [each.state for each in tasks()] == ["running"]
        clock.pass_hours(0, microseconds=1)
        assert [each.state for each in tasks()] == ["failed"]

    @pytest.mark.parametrize("state", ["complete", "failed", "stopped"])
    def test_ended_ones_stay_as_they_are(self, store: istore.Store, state: str) -> None:
        leave(store, state=state, owner=dead_owner())
        assert [each.state for each in tasks()] == [state]


class TestDue:
    def due(self, store: istore.Store) -> list[str]:
        return retention.run_due(store, blobs_of(store))

    def test_after_its_interval(self, store: istore.Store, clock: Clock) -> None:
        keep("one", b"one")
        clock.pass_hours(20)
        policy(interval=6)
        assert self.due(store) == []
        clock.pass_hours(6, microseconds=-1)
        assert self.due(store) == []
        assert found() == ["one"]
        clock.pass_hours(0, microseconds=1)
        ran = self.due(store)
        assert [each.id for each in tasks()] == ran
        assert [(each.state, *counts(each)) for each in tasks()] == [("complete", 1, 1, 1, 1)]
        assert found() == []
        now = get_retention_policy(MODEL_ID)
        assert now is not None
        assert now.last_scheduled_at == clock.time
        assert self.due(store) == []
        clock.pass_hours(6)
        assert len(self.due(store)) == 1

    def test_by_hand_never(self, store: istore.Store, clock: Clock) -> None:
        policy(interval=0)
        clock.pass_hours(10**6)
        assert self.due(store) == []

    def test_run_by_hand_counts(self, store: istore.Store, clock: Clock) -> None:
        made = policy(interval=6)
        clock.pass_hours(5)
        run(made)
        run(made, dry_run=True)
        clock.pass_hours(5)
        assert self.due(store) == []
        clock.pass_hours(1)
        assert len(self.due(store)) == 1

    def test_when_the_store_is_opened(
        self, store: istore.Store, place: str, tmp_path: Path, clock: Clock
    ) -> None:
        keep("one", b"one")
        policy(interval=6)
        clock.pass_hours(11)
        with istore.connect(place, blobs=tmp_path / "inputs") as again:
            assert found() == []
            assert blobs(again) == set()
            assert [each.state for each in tasks()] == ["complete"]

    def test_failing_one_is_logged_and_the_others_run(
        self,
        store: istore.Store,
        place: str,
        tmp_path: Path,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        istore.register_model_for_inference_storage(registration("second"))
        policy(interval=6)
        policy(interval=6, model_id="second")
        keep("one", b"one")
        keep("two", model_id="second")
        clock.pass_hours(11)

        def fail(*_: Any) -> None:
            raise StoreError("the disk is on fire")

        monkeypatch.setattr(FolderBlobs, "delete", fail)
        with caplog.at_level(logging.WARNING):
            istore.connect(place, blobs=tmp_path / "inputs")
        assert "retention policy of model 'picodet' failed, and runs again in 6 h" in caplog.text
        assert "the disk is on fire" in caplog.text
        assert [each.state for each in tasks()] == ["failed"]
        assert istore.get_inference("second", "two") is None
        assert self.due(store) == []

    def test_upkeep_that_fails_is_logged_and_the_store_opens(
        self,
        store: istore.Store,
        place: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def fail(*_: Any) -> None:
            raise StoreError("the disk is on fire")

        for name in ("end_abandoned", "collect", "run_due"):
            monkeypatch.setattr(retention, name, fail)
        with caplog.at_level(logging.WARNING), istore.connect(place):
            assert found() == []
        assert caplog.text.count("the disk is on fire") == 3

    def test_not_while_it_runs(self, store: istore.Store, clock: Clock) -> None:
        made = policy(interval=6)
        clock.pass_hours(100)
        owner = f"{process.host()} {os.getpid()} {process.started(os.getpid())}"
        task = run(made, dry_run=True)
        table = schema.retention_tasks
        running = update(table).where(table.c.id == task.id).values(state="running", owner=owner)
        with store.write() as connection:
            connection.execute(running.values(dry_run=False))
        assert self.due(store) == []
        with store.write() as connection:
            connection.execute(running.values(dry_run=True))
        assert len(self.due(store)) == 1

    def test_nothing_due_takes_a_query_or_two(self, store: istore.Store, place: str) -> None:
        """And no turn to write, for which it might have to wait."""
        written = []
        with pytest.MonkeyPatch.context() as patched:
            whole = istore.Store.write

            def write(self: istore.Store) -> Any:
                written.append(self)
                return whole(self)

            patched.setattr(istore.Store, "write", write)
            policy(interval=6)
            made = len(written)
            retention.upkeep(store)
            assert len(written) == made

    def test_threads_run_it_once(self, store: istore.Store, clock: Clock) -> None:
        policy(interval=6)
        clock.pass_hours(6)
        together = threading.Barrier(4)
        ran: list[str] = []

        def work() -> None:
            together.wait(30)
            ran.extend(self.due(store))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [each.id for each in tasks()] == ran
        assert len(ran) == 1


CONNECT = """
import sys, time
from pathlib import Path
from pixano_cli import inference_store as istore
import pixano_cli.inference_store.retention

place, blobs, folder, me, others = sys.argv[1], sys.argv[2], Path(sys.argv[3]), *sys.argv[4:6]
(folder / me).touch()
while not all((folder / other).exists() for other in others):
    time.sleep(0)
istore.connect(place, blobs=blobs)
"""


def test_processes_that_open_a_store_run_what_is_due_once(
    store: istore.Store, place: str, tmp_path: Path
) -> None:
    """Each of six policies is run by one of two processes."""
    models = [f"model {number}" for number in range(6)]
    table = schema.inferences
    for model_id in models:
        istore.register_model_for_inference_storage(registration(model_id))
        for number in range(3):
            keep(f"{number}", f"{number} {model_id}".encode(), model_id=model_id)
        policy(1, 1, interval=1, model_id=model_id)
    with store.write() as connection:
        for each in (table, schema.retention_policies):
            connection.execute(
                update(each).values(created_at=each.c.created_at - 2 * HOUR_NS // 1000)
            )
    names = "ab"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CONNECT, place, tmp_path / "inputs", tmp_path, me, names]
        )
        for me in names
    ]
    assert [each.wait(100) for each in processes] == [0] * len(names)
    for model_id in models:
        (task,) = filter_retention_tasks(model_id, NewGetRetentionTasksRequest())
        assert (task.state, *counts(task)) == ("complete", 3, 3, 3, 3)
        made = get_retention_policy(model_id)
        assert made is not None
        assert made.last_scheduled_at is not None
    assert blobs(store) == set()
