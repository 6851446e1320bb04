"""Verifying a store: nothing is found in a sound one, and each thing that can be wrong is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, insert, select, text, update

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema, verify_blobs, verify_records
from pixano_cli.inference_store import verify as verification
from pixano_cli.inference_store.blob_ledger import begin
from pixano_cli.inference_store.blobs import FolderBlobs, data_key
from pixano_cli.inference_store.connection import blobs_of
from pixano_cli.inference_store.database import now
from pixano_cli.inference_store.findings import Kind, Report
from pixano_cli.inference_store.inference import (
    bulk_delete_inferences,
    create_inference_storage_request,
)
from pixano_cli.inference_store.metadata import create_metadata, delete_metadata
from pixano_cli.inference_store.models import (
    BaseInferenceFilter,
    DeleteAction,
    NewRetentionPolicyRequest,
    NewRetentionTaskRequest,
)
from pixano_cli.inference_store.records import Record, insert_records
from pixano_cli.inference_store.retention_policy import create_retention_policy
from pixano_cli.inference_store.retention_task import create_retention_task
from pixano_cli.inference_store.upload import upload_data
from pixano_cli.inference_store.verify import verify

from .conftest import fresh
from .requests import CAT, MODEL_ID, create, found, inference, registration

JSON = ("json", '{"x": {"y": 1, "z": [1]}, "t": "text", "f": 0.5}')
KEY = data_key(istore.get_data_hash(b"one"))


@pytest.fixture
def store(place: str, tmp_path: Path) -> Iterator[istore.Store]:
    """A store with a detection model registered, its blobs in a folder that is gone afterwards."""
    with istore.connect(place, blobs=tmp_path / "inputs") as opened:
        yield opened


def keep(inference_id: str, data: bytes) -> None:
    request = inference(
        inference_id,
        [CAT, {"label": "dog", "score": 1}, {"label": "no score"}],
        data_hash=istore.get_data_hash(data),
        data_size=len(data),
        metadata={
            "a": ("int", "9007199254740993"),
            "b": JSON,
            "c": ("float", "1e3"),
            "d": ("string", "1"),
        },
    )
    create_inference_storage_request(MODEL_ID, inference_id, data, request.data)


@pytest.fixture
def filled(store: istore.Store) -> istore.Store:
    """A store with a record of every kind."""
    task, action = istore.TaskType.IMAGE_EMBEDDING, istore.InferenceAction.EMBED
    istore.register_model_for_inference_storage(registration("embedder", task, 2))
    create("vector", None, model_id="embedder", task=task, action=action, embedding=[1.0, 2.0])
    keep("one", b"one")
    keep("two", b"one")
    keep("three", b"three")
    create("bare", None, data_storage_key="elsewhere/1")
    upload = upload_data(MODEL_ID)
    assert upload is not None
    return store


def sound(store: istore.Store, **options: bool) -> Report:
    report = verify(store, **options)
    assert [str(each) for each in report.problems] == []
    assert report.is_sound
    return report


def told(store: istore.Store, **options: bool) -> list[tuple[str, int, tuple[str, ...]]]:
    """What is found: the kind, how many, examples."""
    report = verify(store, **options)
    assert report.is_sound == all(each.is_repaired for each in report.problems)
    for each in report.problems:
        assert "\n" not in str(each)
    return [(each.what, each.count, each.examples) for each in report.problems]


def change(store: istore.Store, *statements: Any) -> None:
    """Change the tables past all code of the tool."""
    with store.write() as connection:
        for each in statements:
            connection.execute(each)


def row_of(store: istore.Store, inference_id: str) -> int:
    table = schema.inferences
    with store.read() as connection:
        return connection.execute(
            select(table.c.id).where(table.c.inference_id == inference_id)
        ).scalar_one()


class TestSound:
    def test_empty(self, store: istore.Store) -> None:
        report = sound(store)
        assert (report.records, report.blobs) == (0, 0)

    def test_filled(self, filled: istore.Store) -> None:
        report = sound(filled, deep=True)
        assert (report.records, report.blobs, report.elsewhere) == (5, 2, 1)

    def test_repairing_changes_nothing(self, filled: istore.Store) -> None:
        def everything(connection: Connection) -> dict[str, list[Any]]:
            return {
                table.name: sorted(map(repr, connection.execute(select(table))))
                for table in schema.tables.sorted_tables
            }

        with filled.read() as connection:
            before = everything(connection)
        sound(filled, deep=True, repair=True)
        with filled.read() as connection:
            assert everything(connection) == before

    def test_several_pages(self, filled: istore.Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(verify_blobs, "PAGE", 1)
        monkeypatch.setattr(verify_records, "PAGE", 2)
        report = sound(filled, deep=True)
        assert (report.records, report.blobs, report.elsewhere) == (5, 2, 1)

    def test_answers_without_elements(self, filled: istore.Store) -> None:
        # As captions are recorded.
        text = Record(
            "picodet",
            "text",
            istore.TaskType.OBJECT_DETECTION.value,
            istore.InferenceAction.DETECT.value,
            "b" * 64,
            5,
            output=[{"generated_text": "a cat", "prompt": {"text": "What?"}}],
        )
        with filled.write() as connection:
            insert_records(connection, [text])
        assert sound(filled).records == 6


Change = Callable[[istore.Store], None]


def elements(*statements: Callable[[Any], Any]) -> Change:
    return lambda store: change(store, *(each(row_of(store, "one")) for each in statements))


_e, _m, _l = schema.elements, schema.metadata, schema.metadata_leaves
REPAIRABLE: dict[str, tuple[Change, Kind, str]] = {
    "element gone": (
        elements(lambda row: delete(_e).where(_e.c.inference == row, _e.c.position == 1)),
        verify_records.ELEMENTS,
        "picodet/one",
    ),
    "element too many": (
        elements(
            lambda row: insert(_e).values(inference=row, position=3, model=1, label="x", score=1)
        ),
        verify_records.ELEMENTS,
        "picodet/one",
    ),
    "other label": (
        elements(
            lambda row: (
                update(_e).where(_e.c.inference == row, _e.c.label == "cat").values(label="x")
            )
        ),
        verify_records.ELEMENTS,
        "picodet/one",
    ),
    "other score": (
        elements(lambda row: update(_e).where(_e.c.inference == row).values(score=0.25)),
        verify_records.ELEMENTS,
        "picodet/one",
    ),
    "element of another model": (
        elements(
            lambda row: update(_e).where(_e.c.inference == row, _e.c.position == 2).values(model=77)
        ),
        verify_records.ELEMENTS,
        "picodet/one",
    ),
    "number of metadata": (
        elements(
            lambda row: update(_m).where(_m.c.inference == row, _m.c.key == "c").values(number=1)
        ),
        verify_records.METADATA,
        "picodet/one",
    ),
    "digits of metadata": (
        elements(
            lambda row: update(_m).where(_m.c.inference == row, _m.c.key == "a").values(digits=None)
        ),
        verify_records.METADATA,
        "picodet/one",
    ),
    "number of a text": (
        elements(
            lambda row: update(_m).where(_m.c.inference == row, _m.c.key == "d").values(number=1)
        ),
        verify_records.METADATA,
        "picodet/one",
    ),
    "metadata of another model": (
        elements(
            lambda row: update(_m).where(_m.c.inference == row, _m.c.key == "d").values(model=77)
        ),
        verify_records.METADATA,
        "picodet/one",
    ),
    "leaf gone": (
        elements(lambda row: delete(_l).where(_l.c.inference == row, _l.c.name == "b.x.y")),
        verify_records.METADATA,
        "picodet/one",
    ),
    "leaf too many": (
        elements(
            lambda row: insert(_l).values(
                inference=row, key="d", name="d.x", model=1, type="string", value="x"
            )
        ),
        verify_records.METADATA,
        "picodet/one",
    ),
    "leaf of another type": (
        elements(
            lambda row: (
                update(_l).where(_l.c.inference == row, _l.c.name == "b.t").values(type="int")
            )
        ),
        verify_records.METADATA,
        "picodet/one",
    ),
    "deleted record with an input": (
        lambda store: change(
            store,
            update(schema.inferences)
            .where(schema.inferences.c.inference_id == "one")
            .values(deleted_at=1),
        ),
        verify_records.HIDDEN_INPUT,
        "picodet/one",
    ),
    "disorder": (
        lambda store: change(
            store,
            update(schema.inferences)
            .where(schema.inferences.c.inference_id == "one")
            .values(created_at=schema.inferences.c.created_at + 3_600_000_000),
        ),
        verify_records.DISORDER,
        MODEL_ID,
    ),
    "blob that no record names": (
        lambda store: change(
            store,
            update(schema.inferences)
            .where(schema.inferences.c.data_storage_key == KEY)
            .values(data_storage_key=None),
        ),
        verify_blobs.UNNAMED,
        KEY,
    ),
    "blob without a row": (
        lambda store: change(store, delete(schema.blobs).where(schema.blobs.c.storage_key == KEY)),
        verify_blobs.UNNOTED,
        KEY,
    ),
}


@pytest.mark.parametrize("which", REPAIRABLE)
def test_what_is_told_elsewhere_is_repaired(filled: istore.Store, which: str) -> None:
    damage, kind, example = REPAIRABLE[which]
    before = istore.get_inference(MODEL_ID, "one")
    damage(filled)
    assert told(filled) == [(kind.what, 1, (example,))]
    assert told(filled, deep=True, repair=True) == [(kind.what, 1, (example,))]
    sound(filled, deep=True)
    assert set(blobs_of(filled).keys()) - {KEY} == {data_key(istore.get_data_hash(b"three"))}
    after = istore.get_inference(MODEL_ID, "one")
    if kind in (verify_records.ELEMENTS, verify_records.METADATA, verify_blobs.UNNOTED):
        assert after == before
        assert found(deconstructed_inference_filter={"labels": ["dog"]}) == ["one", "two", "three"]


def record(store: istore.Store, **values: Any) -> None:
    table = schema.inferences
    change(store, update(table).where(table.c.inference_id == "one").values(**values))


def blob_file(store: istore.Store) -> Path:
    storage = blobs_of(store)
    assert isinstance(storage, FolderBlobs)
    return storage.folder / KEY


IRREPARABLE: dict[str, tuple[Change, list[tuple[Kind, str]]]] = {
    "answer that is no JSON": (
        lambda store: record(store, data="{"),
        [(verify_records.ANSWER, "picodet/one")],
    ),
    "answer that is no list": (
        lambda store: record(store, data="7"),
        [(verify_records.ANSWER, "picodet/one")],
    ),
    "answer without labels": (
        lambda store: record(store, data='[{"score": 1}]'),
        [(verify_records.ANSWER, "picodet/one")],
    ),
    "other version": (
        lambda store: record(store, version="v1"),
        [(verify_records.ANSWER, "picodet/one")],
    ),
    "embedding of another size": (
        lambda store: change(store, update(schema.embeddings).values(vector=b"12345678")),
        [(verify_records.EMBEDDING, "embedder/vector")],
    ),
    "embedding cut off": (
        lambda store: change(store, update(schema.embeddings).values(vector=b"123456789012345")),
        [(verify_records.EMBEDDING, "embedder/vector")],
    ),
    "other hash": (
        lambda store: record(store, data_hash="b" * 64),
        [(verify_records.OTHER_INPUT, "picodet/one")],
    ),
    "blob gone": (
        lambda store: blob_file(store).unlink(),
        [(verify_blobs.MISSING, KEY)],
    ),
    "blob and its row gone": (
        lambda store: (
            blob_file(store).unlink(),
            change(store, delete(schema.blobs).where(schema.blobs.c.storage_key == KEY)),
        )[-1],
        [(verify_blobs.MISSING, KEY)],
    ),
    "blob cut off": (
        lambda store: (blob_file(store).write_bytes(b"on"), None)[-1],
        [(verify_blobs.OTHER_SIZE, f"{KEY}: 2 bytes instead of 3")],
    ),
    "blob that came from elsewhere": (
        lambda store: blobs_of(store).put("what/is/this", b""),
        [(verify_blobs.UNKNOWN, "what/is/this")],
    ),
}


@pytest.mark.parametrize("which", IRREPARABLE)
def test_what_cannot_be_known_is_told_and_left(filled: istore.Store, which: str) -> None:
    damage, expected = IRREPARABLE[which]
    damage(filled)
    kinds = [(kind.what, 1, (example,)) for kind, example in expected]
    keys = set(blobs_of(filled).keys())
    assert told(filled) == kinds
    assert told(filled, repair=True) == kinds
    assert told(filled) == kinds
    assert set(blobs_of(filled).keys()) == keys
    assert len(found()) == 4
    assert not verify(filled).is_sound


def test_other_content_is_found_by_reading_it(filled: istore.Store) -> None:
    blob_file(filled).write_bytes(b"eno")
    sound(filled)
    assert told(filled, deep=True) == [(verify_blobs.OTHER_CONTENT.what, 1, (KEY,))]


def test_upload_in_use_is_sound(filled: istore.Store) -> None:
    """Of any size and content, as the user put it."""
    upload = upload_data(MODEL_ID)
    assert upload is not None
    blobs_of(filled).put(upload.data_storage_key, b"any bytes")
    create("uploaded", data_storage_key=upload.data_storage_key)
    report = sound(filled, deep=True)
    assert report.blobs == 3
    blobs_of(filled).delete(upload.data_storage_key)
    assert told(filled) == [(verify_blobs.MISSING.what, 1, (upload.data_storage_key,))]


def test_many_are_counted_and_some_are_named(filled: istore.Store) -> None:
    for number in range(7):
        keep(f"{number}", f"{number}".encode())
    change(filled, update(schema.elements).values(label="x"))
    (problem,) = verify(filled).problems
    assert (problem.count, len(problem.examples)) == (10, 5)
    assert str(problem) == (
        "records whose elements are not those of their answer: 10 (picodet/one, picodet/two, "
        "picodet/three, picodet/0, picodet/1, ...): verify --repair makes them anew from what the "
        "records say"
    )


def test_storage_that_cannot_be_asked_is_told(
    filled: istore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreError("the bucket is on fire")

    monkeypatch.setattr(FolderBlobs, "size", fail)
    kind = verification.NOT_LOOKED_AT
    assert told(filled) == [(kind.what, 1, ("the bucket is on fire",))]


class TestLeftOvers:
    def test_blobs_of_dead_processes_are_cleared_away(self, filled: istore.Store) -> None:
        with filled.write() as connection:
            begin(connection, "data/00/dead", MODEL_ID, 4, "nobody 1 x y")
            change = update(schema.blobs).where(schema.blobs.c.storage_key == "data/00/dead")
            connection.execute(change.values(owner=None))
        blobs_of(filled).put("data/00/dead", b"dead")
        assert sound(filled).cleared == 1
        assert not blobs_of(filled).exists("data/00/dead")
        assert sound(filled).cleared == 0

    def test_what_is_being_made_is_left(self, filled: istore.Store) -> None:
        """Its row is there before its bytes are, and the record comes after both."""
        with filled.write() as connection:
            begin(connection, "data/00/alive", MODEL_ID, 4)
        sound(filled)
        blobs_of(filled).put("data/00/alive", b"ali")
        report = sound(filled, deep=True, repair=True)
        assert (report.blobs, report.cleared) == (2, 0)
        assert blobs_of(filled).exists("data/00/alive")

    def test_unfinished_files_are_cleared_away_after_a_day(self, filled: istore.Store) -> None:
        storage = blobs_of(filled)
        assert isinstance(storage, FolderBlobs)
        incoming = storage.folder / ".incoming"
        for name, age in (("old", 25 * 3600), ("new", 23 * 3600)):
            (incoming / name).touch()
            time = now() / 1e6 - age
            os.utime(incoming / name, (time, time))
        assert sound(filled).cleared == 1
        assert [each.name for each in incoming.iterdir()] == ["new"]

    def test_what_cannot_be_cleared_away_is_told(
        self, filled: istore.Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise StoreError("the bucket is on fire")

        monkeypatch.setattr(FolderBlobs, "sweep", fail)
        kind = verification.NOT_CLEARED
        assert told(filled) == [(kind.what, 1, ("the bucket is on fire",))]


class TestDatabase:
    def test_damaged_file(self, sqlite_place: Path) -> None:
        with istore.connect(sqlite_place) as store:
            for number in range(300):
                create(f"{number}")
            with store.read() as connection:
                root = connection.exec_driver_sql(
                    "SELECT rootpage FROM sqlite_schema WHERE name = 'ix_elements_label'"
                ).scalar_one()
                size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
            sound(store)
        file = Path(sqlite_place) / "store.sqlite3"
        content = bytearray(file.read_bytes())
        # What a page holds is at its end.
        content[root * size - 300 : root * size] = bytes(300)
        file.write_bytes(content)
        with istore.connect(sqlite_place) as again:
            report = verify(again, repair=True)
        assert not report.is_sound
        (problem,) = report.problems
        assert problem.what == "damages to the database"
        assert problem.count >= 1
        assert "restore a copy" in str(problem)

    def test_orphans_are_removed(self, sqlite_store: istore.Store) -> None:
        create("one", metadata={"b": JSON})
        create("two", metadata={"b": JSON})
        with sqlite_store.read() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            connection.exec_driver_sql("DELETE FROM inferences WHERE inference_id = 'one'")
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
            connection.exec_driver_sql("BEGIN")
        kind = verification.ORPHANS.what
        assert told(sqlite_store) == [(kind, 2, ("elements", "metadata"))]
        assert told(sqlite_store, repair=True) == [(kind, 2, ("elements", "metadata"))]
        sound(sqlite_store)
        with sqlite_store.read() as connection:
            for table in (schema.elements, schema.metadata):
                assert len(connection.execute(select(table)).all()) == 1
            assert len(connection.execute(select(schema.metadata_leaves)).all()) == 3

    def test_model_that_is_gone(self, sqlite_store: istore.Store) -> None:
        create("one")
        with sqlite_store.read() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            connection.exec_driver_sql("DELETE FROM models")
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
            connection.exec_driver_sql("BEGIN")
        assert told(sqlite_store) == [(verification.NO_MODEL.what, 1, ("inferences",))]

    def test_index_left_half_made(self, postgresql_store: istore.Store) -> None:
        with postgresql_store.write() as connection:
            connection.execute(text("SET LOCAL allow_system_table_mods = on"))
            connection.execute(
                text(
                    "UPDATE pg_index SET indisvalid = false "
                    "WHERE indexrelid = 'ix_elements_label'::regclass"
                )
            )
        try:
            kind = verification.DAMAGED.what
            said = "index ix_elements_label is not valid"
            assert told(postgresql_store) == [(kind, 1, (said,))]
        finally:
            with postgresql_store.write() as connection:
                connection.execute(text("UPDATE pg_index SET indisvalid = true"))
        sound(postgresql_store)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("create"), st.integers(0, 5), st.sampled_from([b"x", b"y", b""])),
        st.tuples(st.just("bare"), st.integers(0, 5), st.none()),
        st.tuples(st.just("delete"), st.integers(0, 5), st.none()),
        st.tuples(st.just("tag"), st.integers(0, 5), st.sampled_from(["json", "int", "float"])),
        st.tuples(st.just("untag"), st.integers(0, 5), st.none()),
        st.tuples(st.just("expire"), st.integers(-1, 0), st.sampled_from(list(DeleteAction))),
        st.tuples(st.just("clear"), st.none(), st.none()),
    ),
    max_size=12,
)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=steps, texts=st.lists(st.text(), min_size=1, max_size=3))
def test_whatever_is_done_leaves_a_sound_store(
    store: istore.Store, steps: list[tuple[str, Any, Any]], texts: list[str]
) -> None:
    for key in list(blobs_of(store).keys()):
        blobs_of(store).delete(key)
    fresh(store)
    istore.register_model_for_inference_storage(registration())
    for what, which, how in steps:
        name = str(which)
        try:
            if what == "create":
                keep(name, how)
            elif what == "bare":
                create(name)
            elif what == "delete":
                istore.delete_inference(MODEL_ID, name)
            elif what == "tag":
                value = {"json": f'{{"x": {{"{texts[0]}": "{texts[-1]}"}}}}'}.get(how, texts[0])
                create_metadata(
                    MODEL_ID,
                    name,
                    istore.NewExtendedMetadataRequest(
                        key="tag", type=istore.MetadataType(how), value=value
                    ),
                )
            elif what == "untag":
                delete_metadata(MODEL_ID, name, "b")
            elif what == "expire":
                request = NewRetentionPolicyRequest(
                    automated_interval=0,
                    maximum_record_age=which,
                    maximum_blob_age=0,
                    delete_action=how,
                )
                made = create_retention_policy(MODEL_ID, request)
                assert made is not None
                create_retention_task(
                    MODEL_ID, NewRetentionTaskRequest(dry_run=False, retention_policy_id=made.id)
                )
            else:
                bulk_delete_inferences(MODEL_ID, BaseInferenceFilter())
        except StoreError:
            # Other content under one id, or a text that no database holds: refused, not half done.
            pass
    sound(store, deep=True)
    assert sound(store, repair=True).cleared == 0
