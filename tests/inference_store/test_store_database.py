"""A store in SQLite: what it says and keeps when it cannot be opened, read or written."""

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

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import database
from pixano_cli.inference_store.database import open_store
from pixano_cli.inference_store.sqlite import FILE_NAME

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


def test_has_a_write_ahead_log_and_foreign_keys(sqlite_store: istore.Store) -> None:
    with sqlite_store.read() as connection:
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

    def test_damaged_file(self, sqlite_store: istore.Store) -> None:
        for index in range(50):
            create(str(index))
        sqlite_store.close()
        file = sqlite_store.folder / FILE_NAME
        whole = file.read_bytes()
        file.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
        with refused("is damaged or no store at all"), istore.connect(sqlite_store.folder):
            found()
        for path in sqlite_store.folder.iterdir():
            path.unlink()
        file.write_bytes(whole)
        with istore.connect(sqlite_store.folder):
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
        big = [{"label": "x", "extra": "x" * 20_000}]
        for index in range(1000):
            try:
                create(f"{index:04d}", big)
            except StoreError as error:
                assert re.search("the disk is full: free some space", str(error))  # noqa: PT017
                assert "\n" not in str(error)  # noqa: PT017
                return index
        raise AssertionError("the disk never got full")

    def test_database_that_may_not_grow(self, sqlite_store: istore.Store) -> None:
        create("first")
        with sqlite_store.read() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 60}")
        stored = self.fill()
        assert stored > 0
        names = ["first", *(f"{index:04d}" for index in range(stored))]
        assert found() == names
        with sqlite_store.read() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        create("last")
        assert found() == [*names, "last"]
        raw(sqlite_store.folder, "PRAGMA integrity_check")

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
