"""Opening the store: one SQLite file in a folder, its schema brought up to date, its errors told.

Write-ahead logging lets several processes read while one writes; a write waits its turn.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import disk_usage
from threading import Lock
from time import monotonic, sleep, time_ns
from typing import Any

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema, values

DEFAULT_FOLDER = ".pixano-annotate"
FILE_NAME = "store.sqlite3"
VERSION_TABLE = "pixano_store_version"
SCHEMA_VERSION = "0002"
LOCK_TIMEOUT_S = 30.0
SHARED_MEMORY_BYTES = 32_768

# Alembic keeps the migration under way in module globals.
_migrating = Lock()


def now() -> int:
    """Return the time in microseconds since 1970, UTC."""
    return time_ns() // 1000


class Store:
    """An open inference store. Safe to use from several threads; close it when done."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        """Wrap an engine whose schema is current; use `open_store` to get one."""
        self.folder = folder
        self.name = str(folder)
        self.location = str(folder.absolute())
        self._engine = engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one consistent state.

        Raises:
            StoreError: If the database fails.
        """
        with _errors_told(self.folder), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection in a transaction that is committed at the end, or not at all.

        Raises:
            StoreError: If the database fails: locked for too long, disk full, damaged.
        """
        with _errors_told(self.folder), self._engine.connect() as connection:
            writing = connection.execution_options(pixano_writes=True)
            with writing.begin():
                yield writing

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()


def store_folder(folder: str | os.PathLike[str] | None = None) -> str:
    """Return the folder that is meant: the one given, else PIXANO_STORE, else the default."""
    return os.fspath(folder or os.environ.get("PIXANO_STORE") or DEFAULT_FOLDER)


def store_exists(folder: str | os.PathLike[str] | None = None) -> bool:
    """Return whether `open_store` would find a store instead of making one."""
    return Path(store_folder(folder), FILE_NAME).exists()


def open_store(folder: str | os.PathLike[str] | None = None, *, create: bool = True) -> Store:
    """Open the store in `folder`, making or upgrading it as needed.

    Args:
        folder: The store's folder; None means PIXANO_STORE, else `.pixano-annotate`.
        create: Whether to make a store where there is none.

    Raises:
        StoreError: If it is no store, is of a newer version, or cannot be opened.
    """
    named = store_folder(folder)
    if "://" in named:
        raise StoreError(f"store {named}: only a folder can be a store in this version")
    path = Path(named)
    file = path / FILE_NAME
    try:
        if path.exists() and not path.is_dir():
            raise StoreError(
                f"store {path} is a file, not a store's folder: name another with --store"
            )
        if not create and not file.exists():
            raise StoreError(f"store {path}: there is none here: name another with --store")
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"store {named!r} cannot be made: {reason}") from error
    store = Store(path, _engine(file))
    try:
        _bring_up_to_date(store)
    except BaseException:
        store.close()
        raise
    return store


def _engine(file: Path) -> Engine:
    engine = create_engine(
        "sqlite+pysqlite://",
        creator=lambda: sqlite3.connect(
            file, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
        ),
        # Without a file name in its URL SQLAlchemy takes it for a database in memory, and its
        # pool for those closes connections that other threads still use.
        poolclass=QueuePool,
        max_overflow=-1,
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: object) -> None:
        connection.execute("PRAGMA foreign_keys=ON")
        # With write-ahead logging a kill loses nothing; a power cut loses at most the last commits.
        connection.execute("PRAGMA synchronous=NORMAL")
        values.install(connection)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("pixano_writes")
        # Taking the write lock at once makes a second writer wait instead of failing half-way.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _bring_up_to_date(store: Store) -> None:
    if _version(store) == SCHEMA_VERSION:
        return
    with _errors_told(store.folder):
        _use_write_ahead_log(store.folder / FILE_NAME)
    with store.write() as connection:
        # Another process may have made it meanwhile.
        version = _read_version(connection, store.folder)
        if version is None:
            _make(connection)
        elif version != SCHEMA_VERSION:
            _migrate(connection, store.folder)


def _make(connection: Connection) -> None:
    """Make the tables of a new store, as all migrations together do.

    Alembic, which runs those, takes longer to import than a store to make.
    """
    schema.tables.create_all(connection, checkfirst=False)
    connection.execute(
        text(f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    )
    connection.execute(
        text(f"INSERT INTO {VERSION_TABLE} VALUES (:version)"), {"version": SCHEMA_VERSION}
    )


def _version(store: Store) -> str | None:
    with store.read() as connection:
        return _read_version(connection, store.folder)


def _read_version(connection: Connection, folder: Path) -> str | None:
    """Return the schema's version; empty if it was never set, None if there is no table at all."""
    names = inspect(connection).get_table_names()
    if VERSION_TABLE not in names:
        if names:
            raise StoreError(
                f"store {folder}: {FILE_NAME} is another program's database: "
                "name another folder with --store"
            )
        return None
    version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar() or ""
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"store {folder} was made by a newer pixano-annotate (schema {version}, this one "
            f"knows {SCHEMA_VERSION}): upgrade pixano-annotate, or name another store with --store"
        )
    return version


def _use_write_ahead_log(file: Path) -> None:
    """Switch the file to write-ahead logging, which SQLite does not wait for by itself."""
    deadline = monotonic() + LOCK_TIMEOUT_S
    while True:
        # Each try ends at once, so that all of them together take no longer than one wait.
        connection = sqlite3.connect(file, timeout=0, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if monotonic() > deadline or not error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise
        finally:
            connection.close()
        sleep(0.05)


def _migrate(connection: Connection, folder: Path) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "pixano_cli:inference_store/migrations")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = VERSION_TABLE
    try:
        with _migrating:
            command.upgrade(config, SCHEMA_VERSION)
    except CommandError as error:
        raise StoreError(
            f"store {folder} cannot be brought to schema {SCHEMA_VERSION}: {error}: "
            "name another folder with --store"
        ) from error


@contextmanager
def _errors_told(folder: Path) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        cause = error.orig if isinstance(error.orig, sqlite3.Error) else error
        raise StoreError(_explain(folder, cause)) from error
    except sqlite3.Error as error:
        raise StoreError(_explain(folder, error)) from error


def _explain(folder: Path, error: BaseException) -> str:
    name = getattr(error, "sqlite_errorname", "")
    file = folder / FILE_NAME
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return (
            f"store {folder} is locked by another process for more than {LOCK_TIMEOUT_S:g} s: "
            "run the same command again when it is done; what was recorded is kept"
        )
    if name == "SQLITE_FULL" or (name.startswith("SQLITE_IOERR") and _is_full(folder)):
        return (
            f"store {folder}: the disk is full: free some space and run the same command again; "
            "what was recorded is kept"
        )
    if name in {"SQLITE_NOTADB", "SQLITE_CORRUPT"}:
        return (
            f"store {folder}: {FILE_NAME} is damaged or no store at all ({error}): "
            "name another folder with --store"
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return f"store {folder}: {file} cannot be opened for writing: check its permissions"
    if name.startswith("SQLITE_IOERR"):
        return (
            f"store {folder}: reading or writing {FILE_NAME} failed ({error}): check the disk "
            "and run the same command again; what was recorded is kept"
        )
    return f"store {folder}: {error}"


def _is_full(folder: Path) -> bool:
    """Whether there is no room for SQLite's shared memory, whose failure has a name of its own."""
    try:
        return disk_usage(folder).free < SHARED_MEMORY_BYTES
    except OSError:
        return False
