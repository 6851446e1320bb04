"""Opening the store, and what it says and keeps when it cannot be opened, read or written."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import database, schema
from pixano_cli.inference_store.database import FILE_NAME, VERSION_TABLE, open_store

from .requests import MODEL_ID, create, found, registration


@contextmanager
def refused(said: str) -> Iterator[None]:
    """Expect one line that says this."""
    with pytest.raises(StoreError, match=said) as caught:
        yield
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def raw(folder: Path, *statements: str) -> None:
    """Run statements on the store's file past all of its code."""
    with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def can_mount() -> bool:
    return os.geteuid() == 0 and shutil.which("mount") is not None


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if not can_mount() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs a root that may mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def migrated() -> Iterator[Connection]:
    """A database on which every migration was run, one after the other."""
    engine = create_engine("sqlite://")
    config = Config()
    config.set_main_option("script_location", "pixano_cli:inference_store/migrations")
    with engine.connect() as connection:
        config.attributes.update(connection=connection, version_table=VERSION_TABLE)
        command.upgrade(config, "head")
        yield connection
    engine.dispose()


class TestSchema:
    def test_is_what_the_migrations_make(self, migrated: Connection) -> None:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(migrated, opts=options)
        assert compare_metadata(context, schema.tables) == []

    def test_new_store_is_made_by_the_very_same_statements(
        self, store: istore.Store, migrated: Connection
    ) -> None:
        """Also in what Alembic does not compare: WITHOUT ROWID, cascades, collations."""

        def statements(connection: Connection) -> dict[str, list[str]]:
            rows = connection.exec_driver_sql(
                "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
            )
            # One part a line, in any order: Alembic puts constraints elsewhere.
            return {
                name: sorted(filter(None, (part.strip(" ,") for part in re.split(r"\n|(?<=\)), ?", sql))))
                for name, sql in rows
                if name != VERSION_TABLE
            }

        with store.read() as made:
            assert statements(migrated) == statements(made)

    def test_alembic_knows_the_version_of_a_new_store(self, store: istore.Store) -> None:
        with store.read() as made:
            context = MigrationContext.configure(made, opts={"version_table": VERSION_TABLE})
            assert context.get_current_revision() == database.SCHEMA_VERSION

    def test_older_store_is_migrated(self, tmp_path: Path) -> None:
        raw(tmp_path, f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL)")
        with open_store(tmp_path) as store, store.read() as connection:
            context = MigrationContext.configure(
                connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
            )
            assert compare_metadata(context, schema.tables) == []
            assert context.get_current_revision() == database.SCHEMA_VERSION

    def test_version_is_that_of_the_last_migration(self) -> None:
        config = Config()
        config.set_main_option("script_location", "pixano_cli:inference_store/migrations")
        head = ScriptDirectory.from_config(config).get_current_head()
        assert head == database.SCHEMA_VERSION

    def test_opening_again_changes_nothing(self, store: istore.Store) -> None:
        create("one")
        with open_store(store.folder):
            pass
        assert found() == ["one"]

    def test_has_a_write_ahead_log_and_foreign_keys(self, store: istore.Store) -> None:
        with store.read() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


class TestWhatIsNoStore:
    def test_file_that_is_not_sqlite(self, tmp_path: Path) -> None:
        file = tmp_path / FILE_NAME
        file.write_bytes(b"not a database, whatever its name" * 100)
        with refused("is damaged or no store at all"):
            open_store(tmp_path)
        assert file.read_bytes() == b"not a database, whatever its name" * 100

    def test_another_program_s_database(self, tmp_path: Path) -> None:
        raw(tmp_path, "CREATE TABLE theirs (a)", "INSERT INTO theirs VALUES (1)")
        before = (tmp_path / FILE_NAME).read_bytes()
        with refused("is another program's database"):
            open_store(tmp_path)
        assert (tmp_path / FILE_NAME).read_bytes() == before
        assert [each.name for each in tmp_path.iterdir()] == [FILE_NAME]

    def test_newer_version(self, store: istore.Store) -> None:
        create("one")
        raw(store.folder, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
        with refused("newer pixano-annotate .schema 9999.*upgrade pixano-annotate"):
            open_store(store.folder)
        raw(store.folder, f"UPDATE {VERSION_TABLE} SET version_num = '{database.SCHEMA_VERSION}'")
        with istore.connect(store.folder):
            assert found() == ["one"]

    def test_unknown_older_version(self, store: istore.Store) -> None:
        raw(store.folder, f"UPDATE {VERSION_TABLE} SET version_num = '0000'")
        with refused("cannot be brought to schema"):
            open_store(store.folder)

    def test_damaged_file(self, store: istore.Store) -> None:
        for index in range(50):
            create(str(index))
        store.close()
        file = store.folder / FILE_NAME
        whole = file.read_bytes()
        file.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
        with refused("is damaged or no store at all"), istore.connect(store.folder):
            found()
        for path in store.folder.iterdir():
            path.unlink()
        file.write_bytes(whole)
        with istore.connect(store.folder):
            assert len(found()) == 50

    @pytest.mark.parametrize("path", ["file", "file/below"])
    def test_path_that_is_a_file(self, tmp_path: Path, path: str) -> None:
        (tmp_path / "file").write_text("mine")
        with refused("is a file|cannot be made"):
            open_store(tmp_path / path)
        assert (tmp_path / "file").read_text() == "mine"

    def test_path_with_a_null(self) -> None:
        with refused("cannot be made"):
            open_store("a\0b")

    def test_folder_where_the_file_should_be(self, tmp_path: Path) -> None:
        (tmp_path / FILE_NAME).mkdir()
        with refused("cannot be opened for writing"):
            open_store(tmp_path)

    def test_url(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with refused("only a folder"):
            open_store("postgresql://host/db")
        monkeypatch.setenv("PIXANO_STORE", "postgresql://host/db")
        with refused("only a folder"):
            open_store()
        assert list(tmp_path.iterdir()) == []

    def test_none_where_none_may_be_made(self, tmp_path: Path) -> None:
        with refused("there is none here"):
            open_store(tmp_path / "new", create=False)
        assert not (tmp_path / "new").exists()


class TestLocked:
    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(database, "LOCK_TIMEOUT_S", 0.3)

    @contextmanager
    def locked(self, folder: Path) -> Iterator[None]:
        folder.mkdir(parents=True, exist_ok=True)
        other = sqlite3.connect(folder / FILE_NAME, isolation_level=None)
        with closing(other):
            other.execute("BEGIN EXCLUSIVE")
            yield
            other.execute("ROLLBACK")

    def test_writing_waits_then_says_so(self, new_store: Path, tmp_path: Path) -> None:
        folder = tmp_path / "store"
        shutil.copytree(new_store, folder)
        with istore.connect(folder):
            create("one")
            with self.locked(folder):
                started = monotonic()
                with refused("is locked by another process for more than 0.3 s"):
                    create("two")
                assert 0.25 < monotonic() - started < 5
                assert found() == ["one"]
            create("two")
            assert found() == ["one", "two"]

    def test_making_a_new_store_waits_then_says_so(self, tmp_path: Path) -> None:
        with self.locked(tmp_path):
            started = monotonic()
            with refused("is locked by another process"):
                open_store(tmp_path)
            assert monotonic() - started < 5
        with istore.connect(tmp_path):
            assert istore.get_registered_model(MODEL_ID) is None

    def test_lock_that_is_let_go_in_time_is_waited_for(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(database, "LOCK_TIMEOUT_S", 20.0)
        stores: list[istore.Store] = []
        with self.locked(tmp_path):
            opening = threading.Thread(target=lambda: stores.append(open_store(tmp_path)))
            opening.start()
            opening.join(0.3)
            assert opening.is_alive()
        opening.join()
        assert len(stores) == 1
        stores[0].close()


class TestFullDisk:
    """What was recorded before stays, and work goes on once there is space."""

    def fill(self) -> int:
        """Store large inferences until one fails; return how many were stored."""
        big = [{"label": "x" * 20_000}]
        for index in range(1000):
            try:
                create(f"{index:04d}", big)
            except StoreError as error:
                assert re.search("the disk is full: free some space", str(error))  # noqa: PT017
                assert "\n" not in str(error)  # noqa: PT017
                return index
        raise AssertionError("the disk never got full")

    def test_database_that_may_not_grow(self, store: istore.Store) -> None:
        create("first")
        with store.read() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 60}")
        stored = self.fill()
        assert stored > 0
        names = ["first", *(f"{index:04d}" for index in range(stored))]
        assert found() == names
        with store.read() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        create("last")
        assert found() == [*names, "last"]
        raw(store.folder, "PRAGMA integrity_check")

    def test_disk_that_is_full(self, disk: Path, new_store: Path) -> None:
        shutil.copytree(new_store, disk / "store")
        (disk / "ballast").write_bytes(bytes(200_000))
        with istore.connect(disk / "store"):
            stored = self.fill()
            assert stored > 0
            names = [f"{index:04d}" for index in range(stored)]
            assert found() == names
            (disk / "ballast").unlink()
            create("last")
            assert found() == [*names, "last"]

    def test_disk_without_room_for_a_new_store(self, disk: Path) -> None:
        (disk / "ballast").write_bytes(bytes(1024 * 1024 - 3 * 4096))
        with refused("the disk is full"):
            open_store(disk / "store")
        (disk / "ballast").unlink()
        with istore.connect(disk / "store"):
            istore.register_model_for_inference_storage(registration())
            create("one")
            assert found() == ["one"]


class TestReadOnly:
    @pytest.fixture
    def lock_up(self, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
        """A folder, and functions that make it read-only and writable again."""
        folder = tmp_path / "folder"
        if os.geteuid() != 0:
            folder.mkdir()
            return folder, lambda: folder.chmod(0o555), lambda: folder.chmod(0o755)
        folder = request.getfixturevalue("disk")

        def remount(mode: str) -> None:
            subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)

        return folder, lambda: remount("ro"), lambda: remount("rw")

    def test_folder_without_a_store(self, lock_up: Any) -> None:
        folder, lock, unlock = lock_up
        lock()
        try:
            with refused("cannot be opened for writing: check its permissions"):
                open_store(folder)
            with refused("cannot be made: (Read-only|Permission)"):
                open_store(folder / "new")
        finally:
            unlock()
        assert list(folder.iterdir()) == []

    def test_folder_with_a_store(self, lock_up: Any, new_store: Path) -> None:
        folder, lock, unlock = lock_up
        shutil.copy(new_store / FILE_NAME, folder)
        with istore.connect(folder):
            create("one")
        lock()
        try:
            with refused("cannot be opened for writing: check its permissions"):
                istore.connect(folder)
        finally:
            unlock()
        with istore.connect(folder):
            assert found() == ["one"]
