"""Deleting inferences, one and many, with their inputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Table, func, select

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import removal, schema
from pixano_cli.inference_store.blobs import FolderBlobs, data_key
from pixano_cli.inference_store.connection import blobs_of
from pixano_cli.inference_store.inference import (
    bulk_delete_inferences,
    create_inference_storage_request,
)
from pixano_cli.inference_store.ledger import answered_digests
from pixano_cli.inference_store.models import BaseInferenceFilter
from pixano_cli.inference_store.records import Record, insert_records

from .conftest import fresh
from .requests import CAT, MODEL_ID, create, found, inference, registration

ALL = BaseInferenceFilter()


@pytest.fixture
def store(place: str, tmp_path: Path) -> Iterator[istore.Store]:
    """A store with a detection model registered, its blobs in a folder that is gone afterwards."""
    with istore.connect(place, blobs=tmp_path / "inputs") as opened:
        yield opened


def rows(store: istore.Store, table: Table) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def keep(
    inference_id: str, data: bytes, *, model_id: str = MODEL_ID, protected: bool = False
) -> str:
    """Store an inference with its input; return the input's key."""
    request = inference(
        inference_id,
        model_id=model_id,
        data_hash=istore.get_data_hash(data),
        data_size=len(data),
        metadata={"a": ("int", "1"), "b": ("json", '{"c": 2}')},
    )
    created = create_inference_storage_request(
        model_id, inference_id, data, request.data, is_protected=protected
    )
    assert created is not None
    assert created.data_storage_key == data_key(istore.get_data_hash(data))
    return created.data_storage_key


def blobs(store: istore.Store) -> set[str]:
    """Keys of the blobs that are kept; each has its row, which is settled."""
    kept = set(blobs_of(store).keys())
    table = schema.blobs
    with store.read() as connection:
        known = connection.execute(select(table.c.storage_key, table.c.pending_since)).all()
    assert {(key, None) for key in kept} == {tuple(each) for each in known}
    return kept


def put_away(store: istore.Store, *inference_ids: str) -> None:
    """Hide inferences as retention does."""
    table = schema.inferences
    with store.write() as connection:
        query = select(table.c.id).where(table.c.inference_id.in_(inference_ids))
        doomed = removal.hide(connection, connection.execute(query).scalars().all())
    removal.discard(store, blobs_of(store), doomed)


class TestDeleteOne:
    def test_takes_its_input_along(self, store: istore.Store) -> None:
        one, two = keep("one", b"1"), keep("two", b"2")
        assert blobs(store) == {one, two}
        assert istore.delete_inference(MODEL_ID, "one") == "one"
        assert found() == ["two"]
        assert blobs(store) == {two}
        assert rows(store, schema.elements) == 1
        assert rows(store, schema.metadata) == 2
        assert rows(store, schema.metadata_leaves) == 1

    def test_input_of_others_stays_until_the_last(self, store: istore.Store) -> None:
        istore.register_model_for_inference_storage(registration("second"))
        key = keep("one", b"same")
        assert keep("two", b"same") == keep("one", b"same", model_id="second") == key
        assert istore.delete_inference(MODEL_ID, "one") == "one"
        assert istore.delete_inference(MODEL_ID, "two") == "two"
        assert blobs(store) == {key}
        assert blobs_of(store).get(key) == b"same"
        assert istore.delete_inference("second", "one") == "one"
        assert blobs(store) == set()

    def test_protected_one_goes_too(self, store: istore.Store) -> None:
        keep("one", b"1", protected=True)
        assert istore.delete_inference(MODEL_ID, "one") == "one"
        assert blobs(store) == set()

    def test_hidden_one_is_none_and_goes_for_good(self, store: istore.Store) -> None:
        keep("one", b"1")
        put_away(store, "one")
        assert rows(store, schema.inferences) == rows(store, schema.elements) == 1
        assert istore.delete_inference(MODEL_ID, "one") is None
        for table in (schema.inferences, schema.elements, schema.metadata):
            assert rows(store, table) == 0

    def test_one_that_is_not_there_is_none(self, store: istore.Store) -> None:
        keep("one", b"1")
        assert istore.delete_inference(MODEL_ID, "two") is None
        assert istore.delete_inference("other", "one") is None
        assert len(blobs(store)) == 1

    def test_its_embedding_goes(self, store: istore.Store) -> None:
        task, action = istore.TaskType.IMAGE_EMBEDDING, istore.InferenceAction.EMBED
        istore.register_model_for_inference_storage(registration("embedder", task, 2))
        create("one", None, model_id="embedder", task=task, action=action, embedding=[1.0, 2.0])
        assert istore.delete_inference("embedder", "one") == "one"
        assert rows(store, schema.embeddings) == 0

    def test_input_that_cannot_be_removed_is_told_and_removed_later(
        self, store: istore.Store, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = keep("one", b"1")

        def fail(*_: object) -> None:
            raise StoreError("the disk is on fire")

        with monkeypatch.context() as patched:
            patched.setattr(FolderBlobs, "delete", fail)
            with pytest.raises(StoreError, match="on fire"):
                istore.delete_inference(MODEL_ID, "one")
        assert found() == []
        assert blobs_of(store).exists(key)
        with istore.connect(place, blobs=tmp_path / "inputs") as again:
            assert blobs(again) == set()


class TestDeleteMany:
    def test_no_filter_deletes_all_of_the_model_in_order(self, store: istore.Store) -> None:
        istore.register_model_for_inference_storage(registration("second"))
        shared = keep("other", b"b", model_id="second")
        for name in "cab":
            keep(name, name.encode(), protected=name == "a")
        assert bulk_delete_inferences(MODEL_ID, ALL) == ["c", "a", "b"]
        assert found() == []
        assert blobs(store) == {shared}
        assert istore.get_inference("second", "other") is not None
        assert bulk_delete_inferences(MODEL_ID, ALL) == []

    def test_ties_are_in_order_of_id(
        self, store: istore.Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pixano_cli.inference_store.database.time_ns", lambda: 10**18)
        for name in ("c", "\U0001f600", "a", "B", "\uffff"):
            create(name)
        assert bulk_delete_inferences(MODEL_ID, ALL) == ["B", "a", "c", "\uffff", "\U0001f600"]

    def test_only_what_passes_the_filter(self, store: istore.Store) -> None:
        """The documented example: all of a snapshot's split."""
        for name, split in (("1", "train"), ("2", "test"), ("3", "train")):
            create(name, metadata={"split": ("string", split), "snapshot": ("string", "s")})
        wanted = BaseInferenceFilter(
            metadata_filter=[
                istore.MetadataFilter(
                    key=key,
                    type=istore.MetadataFilterType.STRING,
                    operator=istore.MetadataFilterOperator.EQUAL,
                    value=value,
                )
                for key, value in (("split", "train"), ("snapshot", "s"))
            ]
        )
        assert bulk_delete_inferences(MODEL_ID, wanted) == ["1", "3"]
        assert found() == ["2"]

    def test_hidden_ones_are_not_seen(self, store: istore.Store) -> None:
        create("one")
        create("two")
        put_away(store, "one")
        assert bulk_delete_inferences(MODEL_ID, ALL) == ["two"]

    def test_wrong_filter_deletes_nothing(self, store: istore.Store) -> None:
        create("one")
        with pytest.raises(StoreError, match="not YYYY"):
            bulk_delete_inferences(
                MODEL_ID, BaseInferenceFilter(time_window_filter={"start": "yesterday"})
            )
        with pytest.raises(StoreError):
            bulk_delete_inferences("\ud800", ALL)
        assert found() == ["one"]

    def test_more_than_a_batch(self, store: istore.Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """In several transactions, none of which holds more than a batch."""
        monkeypatch.setattr(removal, "BATCH", 10)
        monkeypatch.setattr(removal, "LONGEST_WRITE_S", 0)
        sizes = []
        whole = removal.remove

        def watched(connection: object, chosen: list[int]) -> list[str]:
            sizes.append(len(chosen))
            return whole(connection, chosen)

        monkeypatch.setattr(removal, "remove", watched)
        names = [f"{number:03}" for number in range(35)]
        for name in names:
            create(name)
        assert bulk_delete_inferences(MODEL_ID, ALL) == names
        assert sizes == [10, 10, 10, 5]
        assert rows(store, schema.elements) == 0

    def test_what_is_stored_meanwhile_stays(
        self, store: istore.Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Under the very ids that were chosen, too, and on rows of the same number."""
        monkeypatch.setattr(removal, "BATCH", 2)
        monkeypatch.setattr(removal, "LONGEST_WRITE_S", 0)
        for name in "abcd":
            create(name)
        whole = removal.discard
        calls = []

        def meanwhile(*args: object) -> int:
            if not calls:
                istore.delete_inference(MODEL_ID, "d")
                create("d", [CAT, CAT])
                create("e")
            calls.append(args)
            return whole(*args)

        monkeypatch.setattr(removal, "discard", meanwhile)
        assert bulk_delete_inferences(MODEL_ID, ALL) == ["a", "b", "c"]
        assert found() == ["d", "e"]


def test_what_was_deleted_is_asked_again(store: istore.Store) -> None:
    """By the next run of a job, and stored under the same id."""
    record = Record(MODEL_ID, "i", "Object Detection", "detect", "digest", 3, request_key="request")
    image = {"sha256": "digest", "size": 3, "width": 1, "height": 1, "orientation": 1, "format": ""}
    with store.write() as connection:
        connection.execute(schema.images.insert(), image)
        insert_records(connection, [record])
    for forget in (
        lambda: istore.delete_inference(MODEL_ID, "i"),
        lambda: bulk_delete_inferences(MODEL_ID, ALL),
        lambda: put_away(store, "i"),
    ):
        assert answered_digests(store, "request", ["digest"]) == {"digest"}
        forget()
        assert answered_digests(store, "request", ["digest"]) == set()
        with store.write() as connection:
            assert insert_records(connection, [record]) == {(MODEL_ID, "i")}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    records=st.lists(
        st.tuples(st.booleans(), st.sampled_from([None, b"x", b"y", b"z"])), max_size=8
    ),
    deleted=st.lists(st.integers(0, 7), max_size=8),
    hidden=st.lists(st.integers(0, 7), max_size=3),
)
def test_an_input_is_kept_exactly_as_long_as_it_is_named(
    store: istore.Store,
    records: list[tuple[bool, bytes | None]],
    deleted: list[int],
    hidden: list[int],
) -> None:
    for key in list(blobs_of(store).keys()):
        blobs_of(store).delete(key)
    fresh(store)
    for model_id in (MODEL_ID, "second"):
        istore.register_model_for_inference_storage(registration(model_id))
    left = {}
    for number, (is_second, data) in enumerate(records):
        model_id = "second" if is_second else MODEL_ID
        if data is None:
            create(str(number), model_id=model_id)
        else:
            keep(str(number), data, model_id=model_id)
        left[number] = (model_id, data)
    for number in hidden:
        put_away(store, str(number))
        left.pop(number, None)
    for number in deleted:
        model_id, _ = left.pop(number, (MODEL_ID, None))
        istore.delete_inference(model_id, str(number))
        wanted = {data for _, data in left.values() if data is not None}
        assert blobs(store) == {data_key(istore.get_data_hash(data)) for data in wanted}
    rest = [str(number) for number, (model_id, _) in left.items() if model_id == MODEL_ID]
    assert bulk_delete_inferences(MODEL_ID, ALL) == rest
    assert bulk_delete_inferences("second", ALL) == [
        str(number) for number, (model_id, _) in left.items() if model_id == "second"
    ]
    assert blobs(store) == set()
