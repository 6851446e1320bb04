"""The table of blobs: what is begun, settled, doomed, discarded and collected."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import blob_ledger, process, schema
from pixano_cli.inference_store.blob_ledger import (
    GRACE_US,
    UPLOAD,
    abandon,
    begin,
    collect,
    discard,
    doom,
    is_held,
    named,
    settle,
)
from pixano_cli.inference_store.blobs import BlobStorage, FolderBlobs
from pixano_cli.inference_store.connection import blobs_of
from pixano_cli.inference_store.database import now

from .inputs import check_blobs, create_with_data, ledger, stored
from .requests import MODEL_ID, create

DEAD = f"{process.host()} {2**22 + 1} then 0123"
ELSEWHERE = "another host 1 then 0123"


@pytest.fixture(autouse=True)
def _own_blobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIXANO_BLOBS", str(tmp_path / "blobs"))


@pytest.fixture
def blobs(store: istore.Store) -> BlobStorage:
    return blobs_of(store)


def made(store: istore.Store, key: str, owner: str | None = None, *, age_us: int = 0) -> str:
    """Begin a blob and put its bytes, some time ago."""
    with store.write() as connection:
        owner = begin(connection, key, MODEL_ID, 1, owner)
        connection.execute(
            update(schema.blobs)
            .where(schema.blobs.c.storage_key == key)
            .values(pending_since=now() - age_us)
        )
    blobs_of(store).put(key, b"1")
    return owner


def remove_records(store: istore.Store) -> list[str]:
    """Remove all records, and doom their blobs; nothing is discarded yet."""
    with store.write() as connection:
        keys = connection.execute(select(schema.inferences.c.data_storage_key)).scalars().all()
        connection.execute(delete(schema.inferences))
        return doom(connection, keys)


class TestBeginning:
    def test_row_says_what_is_begun(self, store: istore.Store) -> None:
        with store.write() as connection:
            owner = begin(connection, "a/b", MODEL_ID, 7)
            row = connection.execute(select(schema.blobs)).one()
            assert row.storage_key == "a/b"
            assert row.model_id == MODEL_ID
            assert row.size == 7
            assert row.owner == owner
            assert row.pending_since == row.created_at
            assert abs(now() - row.created_at) < 60_000_000
            assert is_held(connection, "a/b", owner)
            assert not is_held(connection, "a/c", owner)
            assert not is_held(connection, "a/b", "other")

    def test_the_last_to_begin_holds_it(self, store: istore.Store) -> None:
        with store.write() as connection:
            first = begin(connection, "a/b", MODEL_ID, 7)
            second = begin(connection, "a/b", "other model", 7)
            assert first != second
            assert not is_held(connection, "a/b", first)
            assert is_held(connection, "a/b", second)
            settle(connection, ["a/b", "never begun"])
            assert not is_held(connection, "a/b", second)
        assert ledger(store) == {"a/b": "settled"}


class TestDooming:
    def test_only_what_no_record_names_any_more(
        self, store: istore.Store, blobs: BlobStorage
    ) -> None:
        for name, data in (("one", "x"), ("two", "x"), ("three", "y")):
            create_with_data(name, data)
        create("four", data_storage_key="theirs/1")
        table = schema.inferences
        with store.write() as connection:
            keys = connection.execute(select(table.c.data_storage_key)).scalars().all()
            connection.execute(delete(table).where(table.c.inference_id != "two"))
            doomed = doom(connection, [*keys, None, "never/heard"])
        gone = f"data/a1/{istore.get_data_hash(b'y')}"
        assert doomed == [gone]
        assert blobs.exists(gone)
        assert discard(store, blobs, doomed) == 1
        assert not blobs.exists(gone)
        check_blobs(store)

    def test_hidden_record_that_names_it_still_keeps_it(self, store: istore.Store) -> None:
        create_with_data("one", "x")
        with store.write() as connection:
            connection.execute(update(schema.inferences).values(deleted_at=1))
            assert doom(connection, list(stored(store)[1])) == []
        assert list(ledger(store).values()) == ["settled"]

    def test_more_keys_than_a_statement_takes(
        self, store: istore.Store, blobs: BlobStorage
    ) -> None:
        keys = [f"a/{number}" for number in range(blob_ledger.KEYS_A_STATEMENT * 2 + 3)]
        with store.write() as connection:
            for key in keys:
                begin(connection, key, MODEL_ID, 1)
            settle(connection, keys)
            assert sorted(doom(connection, keys)) == sorted(keys)
        assert set(ledger(store).values()) == {"doomed"}
        assert discard(store, blobs, keys) == len(keys)
        assert ledger(store) == {}

    def test_what_is_being_made_is_its_maker_s(
        self, store: istore.Store, blobs: BlobStorage
    ) -> None:
        created = create_with_data("one", "x")
        key = str(created.data_storage_key)
        with store.write() as connection:
            owner = begin(connection, key, MODEL_ID, 1)
        assert remove_records(store) == []
        assert discard(store, blobs, [key]) == 0
        assert blobs.exists(key)
        abandon(store, blobs, key, owner)
        check_blobs(store)
        assert ledger(store) == {}


class TestDiscarding:
    def test_what_is_begun_or_named_again_stays(
        self, store: istore.Store, blobs: BlobStorage
    ) -> None:
        create_with_data("one", "x")
        create_with_data("two", "y")
        first, second = sorted(remove_records(store))
        owner = made(store, first)
        create("again", data_storage_key=second)
        assert discard(store, blobs, [first, second]) == 0
        assert ledger(store) == {first: "made", second: "settled"}
        assert blobs.exists(first)
        assert blobs.exists(second)
        abandon(store, blobs, first, owner)
        check_blobs(store)

    def test_settled_and_unknown_keys_stay(self, store: istore.Store, blobs: BlobStorage) -> None:
        create_with_data("one", "x")
        blobs.put("theirs/1", b"theirs")
        (key,) = ledger(store)
        assert discard(store, blobs, [key, "theirs/1"]) == 0
        assert blobs.get("theirs/1") == b"theirs"
        blobs.delete("theirs/1")
        check_blobs(store)

    def test_storage_that_fails_keeps_the_row(
        self, store: istore.Store, blobs: BlobStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in "abcd":
            create_with_data(name, name)
        doomed = remove_records(store)
        fails = sorted(doomed)[1]
        original = FolderBlobs.delete

        def delete_blob(self: FolderBlobs, key: str) -> None:
            if key == fails:
                raise StoreError("the disk is on fire")
            original(self, key)

        with monkeypatch.context() as patch:
            patch.setattr(FolderBlobs, "delete", delete_blob)
            for _ in range(2):
                with pytest.raises(StoreError, match="on fire"):
                    discard(store, blobs, doomed)
        # What was removed before it failed is noted.
        assert set(ledger(store)) == stored(store)[1]
        assert ledger(store)[fails] == "doomed"
        assert len(ledger(store)) < 4
        collect(store, blobs)
        check_blobs(store)
        assert ledger(store) == {}

    def test_others_write_meanwhile(
        self, store: istore.Store, blobs: BlobStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(6):
            create_with_data(str(number), str(number))
        doomed = remove_records(store)
        monkeypatch.setattr(blob_ledger, "LONGEST_WRITE_S", 0.0001)
        original = FolderBlobs.delete
        transactions: set[int] = set()
        write = store.write

        def counted() -> object:
            transactions.add(len(transactions))
            return write()

        def slow(self: FolderBlobs, key: str) -> None:
            threading.Event().wait(0.001)
            original(self, key)

        monkeypatch.setattr(store, "write", counted)
        monkeypatch.setattr(FolderBlobs, "delete", slow)
        assert discard(store, blobs, doomed) == 6
        assert len(transactions) >= 6
        check_blobs(store)


class TestAbandoning:
    def test_nothing_is_left(self, store: istore.Store, blobs: BlobStorage) -> None:
        owner = made(store, "a/b")
        abandon(store, blobs, "a/b", owner)
        check_blobs(store)
        assert ledger(store) == {}

    def test_what_a_record_names_is_settled(self, store: istore.Store, blobs: BlobStorage) -> None:
        created = create_with_data("one", "x")
        key = str(created.data_storage_key)
        owner = made(store, key)
        blobs.put(key, b"x")
        abandon(store, blobs, key, owner)
        check_blobs(store)
        assert ledger(store) == {key: "settled"}

    def test_what_others_do_with_it_is_theirs(
        self, store: istore.Store, blobs: BlobStorage
    ) -> None:
        first = made(store, "a/b")
        second = made(store, "a/b")
        abandon(store, blobs, "a/b", first)
        assert ledger(store) == {"a/b": "made"}
        abandon(store, blobs, "a/b", second)
        assert ledger(store) == {}
        check_blobs(store)


class TestCollecting:
    def test_what_goes_and_what_stays(self, store: istore.Store, blobs: BlobStorage) -> None:
        young, old = GRACE_US - 3600 * 1_000_000, GRACE_US + 1_000_000
        stays = {
            "mine": made(store, "mine"),
            "upload/young": made(store, "upload/young", UPLOAD, age_us=young),
            "elsewhere/young": made(store, "elsewhere/young", ELSEWHERE, age_us=young),
        }
        made(store, "old", age_us=old)
        made(store, "dead", DEAD)
        made(store, "upload/old", UPLOAD, age_us=old)
        made(store, "elsewhere/old", ELSEWHERE, age_us=old)
        create_with_data("one", "x")
        create_with_data("two", "y")
        remove_records(store)
        assert collect(store, blobs) == 6
        assert set(ledger(store)) == stored(store)[1] == set(stays)
        assert collect(store, blobs) == 0
        assert set(ledger(store)) == stored(store)[1] == set(stays)

    @pytest.mark.parametrize("owner", [DEAD, ELSEWHERE, UPLOAD, None])
    def test_what_a_record_names_is_settled(
        self, store: istore.Store, blobs: BlobStorage, owner: str | None
    ) -> None:
        made(store, "a/b", owner)
        with store.write() as connection:
            create_row = update(schema.blobs).values(owner=owner)
            connection.execute(create_row)
        # As when the process died between two transactions of another version.
        request_key = create("one").inference_id
        with store.write() as connection:
            connection.execute(
                update(schema.inferences)
                .where(schema.inferences.c.inference_id == request_key)
                .values(data_storage_key="a/b")
            )
            connection.execute(
                update(schema.blobs).values(pending_since=now() - GRACE_US - 1_000_000)
            )
        assert collect(store, blobs) == 0
        assert ledger(store) == {"a/b": "settled"}
        assert blobs.exists("a/b")

    def test_process_of_the_same_number_that_was_started_later(
        self, store: istore.Store, blobs: BlobStorage
    ) -> None:
        owner = made(store, "a/b")
        host, pid, since, token = owner.rsplit(" ", 3)
        with store.write() as connection:
            before = f"{host} {pid} {since}9 {token}"
            connection.execute(update(schema.blobs).values(owner=before))
        assert collect(store, blobs) == (1 if since else 0)

    def test_nothing_to_do_asks_nothing_of_the_storage(self, store: istore.Store) -> None:
        create_with_data("one", "x")

        class Untouched:
            def __getattr__(self, name: str) -> object:
                raise AssertionError(f"asked for {name}")

        assert collect(store, Untouched()) == 0  # type: ignore[arg-type]

    def test_more_than_a_page(self, store: istore.Store, blobs: BlobStorage) -> None:
        count = blob_ledger.KEYS_A_STATEMENT * 2 + 3
        with store.write() as connection:
            for number in range(count):
                # Many at one time, and some that stay among them.
                owner = UPLOAD if number % 7 == 0 else DEAD
                begin(connection, f"a/{number}", MODEL_ID, 1, owner)
            connection.execute(update(schema.blobs).values(pending_since=now()))
        stays = {f"a/{number}" for number in range(0, count, 7)}
        assert collect(store, blobs) == count - len(stays)
        assert set(ledger(store)) == stays

    def test_two_at_once(self, store: istore.Store, blobs: BlobStorage) -> None:
        for number in range(60):
            made(store, f"a/{number}", DEAD)
        removed: list[int] = []
        threads = [
            threading.Thread(target=lambda: removed.append(collect(store, blobs))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(removed) == 60
        assert ledger(store) == {}
        check_blobs(store)


def test_a_dead_process_is_known_by_its_owner(store: istore.Store, blobs: BlobStorage) -> None:
    script = (
        "from pixano_cli.inference_store import blob_ledger\nprint(blob_ledger._owner(), end='')\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    made(store, "a/b", ended.stdout)
    assert collect(store, blobs) == 1


def test_named_keys(store: istore.Store) -> None:
    create("one", data_storage_key="a/b")
    create("two", data_storage_key="a/b")
    create("three")
    with store.read() as connection:
        assert named(connection, ["a/b", "a/c"]) == {"a/b"}
        assert named(connection, []) == set()
