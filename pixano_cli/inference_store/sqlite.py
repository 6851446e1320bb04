"""A store in a SQLite file: its folder, its write-ahead log, its errors told.

Write-ahead logging lets several processes read while one writes; a write waits its turn.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shutil import disk_usage
from time import monotonic, sleep
from typing import Any

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import values
from pixano_cli.inference_store.errors import LockedError

FILE_NAME = "store.sqlite3"
SHARED_MEMORY_BYTES = 32_768


class SQLite:
    """A `database.Database` that is one file in a folder."""

    error: type[Exception] = sqlite3.Error
    reads: Mapping[str, Any] = {}
    writes: Mapping[str, Any] = {"pixano_writes": True}
    strangers = f"{FILE_NAME} is another program's database: name another folder with --store"

    def __init__(self, folder: str, *, lock_timeout_s: float) -> None:
        """Name the folder; nothing is opened or made.

        Args:
            folder: The folder, which need not exist.
            lock_timeout_s: How long a writer waits for another.
        """
        self.folder = Path(folder)
        self.name = str(self.folder)
        self.location = str(self.folder.absolute())
        self._file = self.folder / FILE_NAME
        self._lock_timeout_s = lock_timeout_s

    def may_exist(self) -> bool:
        """Return whether there is a file, whatever it is."""
        return self._file.exists()

    def prepare(self) -> None:
        """Make the folder where there is none.

        Raises:
            StoreError: If it cannot be made.
        """
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise StoreError(
                    f"store {self.name} is a file, not a store's folder: name another with --store"
                )
            self.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise StoreError(f"store {self.name!r} cannot be made: {reason}") from error

    def engine(self) -> Engine:
        """Return an engine that opens the file when it is first used."""
        engine = create_engine(
            "sqlite+pysqlite://",
            creator=lambda: sqlite3.connect(
                self._file,
                timeout=self._lock_timeout_s,
                isolation_level=None,
                check_same_thread=False,
            ),
            # Without a file name in its URL SQLAlchemy takes it for a database in memory, and its
            # pool for those closes connections that other threads still use.
            poolclass=QueuePool,
            max_overflow=-1,
        )

        @event.listens_for(engine, "connect")
        def _set_up(connection: Any, _: object) -> None:
            connection.execute("PRAGMA foreign_keys=ON")
            # With write-ahead logging a kill loses nothing; a power cut loses at most the last
            # commits.
            connection.execute("PRAGMA synchronous=NORMAL")
            values.install(connection)

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            writes = connection.get_execution_options().get("pixano_writes")
            # Taking the write lock at once makes a second writer wait instead of failing half-way.
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

        return engine

    def before_making(self) -> None:
        """Switch the file to write-ahead logging, which SQLite does not wait for by itself.

        Raises:
            sqlite3.Error: If it cannot be done.
        """
        deadline = monotonic() + self._lock_timeout_s
        while True:
            # Each try ends at once, so that all of them together take no longer than one wait.
            connection = sqlite3.connect(self._file, timeout=0, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if monotonic() > deadline or not error.sqlite_errorname.startswith("SQLITE_BUSY"):
                    raise
            finally:
                connection.close()
            sleep(0.05)

    def size(self, _: Connection) -> int:
        """Return the bytes of the file and of its write-ahead log."""
        files = (self._file, self._file.with_name(f"{FILE_NAME}-wal"))
        sizes = []
        for file in files:
            # The log goes when the last connection of whatever process is closed.
            with suppress(OSError):
                sizes.append(file.stat().st_size)
        return sum(sizes)

    def vacuum(self) -> None:
        """Write the file anew; that takes as much room as the file again for a while.

        Raises:
            sqlite3.Error: If it cannot be done.
        """
        connection = sqlite3.connect(self._file, timeout=self._lock_timeout_s, isolation_level=None)
        try:
            connection.execute("VACUUM")
            connection.execute("ANALYZE")
            # The new file is in the log until then. Where somebody still reads the old one, this
            # is left to whoever writes next.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()

    def explain(self, error: BaseException) -> StoreError:
        """Tell what an error of SQLite means, and what to do."""
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return LockedError(self.name, self._lock_timeout_s)
        if name == "SQLITE_FULL" or (name.startswith("SQLITE_IOERR") and self._is_full()):
            advice = (
                "the disk is full: free some space and run the same command again; "
                "what was recorded is kept"
            )
        elif name in {"SQLITE_NOTADB", "SQLITE_CORRUPT"}:
            advice = (
                f"{FILE_NAME} is damaged or no store at all ({error}): "
                "name another folder with --store"
            )
        elif name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            advice = f"{self._file} cannot be opened for writing: check its permissions"
        elif name.startswith("SQLITE_IOERR"):
            advice = (
                f"reading or writing {FILE_NAME} failed ({error}): check the disk "
                "and run the same command again; what was recorded is kept"
            )
        else:
            advice = str(error)
        return StoreError(f"store {self.name}: {advice}")

    def _is_full(self) -> bool:
        """Whether there is no room for SQLite's shared memory, whose failure has its own name."""
        try:
            return disk_usage(self.folder).free < SHARED_MEMORY_BYTES
        except OSError:
            return False
