"""The store, open: transactions on its database, whose schema is brought up to date.

Whatever the database, one writes at a time: what is read inside a `Store.write()` cannot
change under it. A reader sees one consistent state, and waits for nobody.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from time import time_ns
from typing import Any, Protocol
from weakref import WeakSet

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.sqlite import SQLite

DEFAULT_FOLDER = ".pixano-annotate"
VERSION_TABLE = "pixano_store_version"
SCHEMA_VERSION = "0004"
LOCK_TIMEOUT_S = 30.0
POSTGRESQL = ("postgresql://", "postgres://", "postgresql+psycopg://")

STREAMED: Mapping[str, Any] = {"yield_per": 500}
"""Options to execute a query whose rows are many: only a few of them are in memory at once."""

# Alembic keeps the migration under way in module globals.
_migrating = Lock()


class Database(Protocol):
    """Where a store is kept, and how that kind of database differs from others.

    Attributes:
        name: What messages call it: as the user wrote it, without a password.
        location: The same, understood in any working directory.
        folder: Where to keep files that go with it; it need not exist.
        error: What its driver raises.
        reads: Execution options of a transaction that sees one state and writes nothing.
        writes: Execution options of a transaction that writes alone.
        strangers: What to say where it holds the tables of another program.
    """

    name: str
    location: str
    folder: Path
    error: type[Exception]
    reads: Mapping[str, Any]
    writes: Mapping[str, Any]
    strangers: str

    def may_exist(self) -> bool:
        """Return whether there is something to look into, without making it."""

    def prepare(self) -> None:
        """Make what has to be there before a connection."""

    def engine(self) -> Engine:
        """Return an engine, which connects when it is first used."""

    def before_making(self) -> None:
        """Do what has to be done before tables are made or changed, outside a transaction."""

    def size(self, connection: Connection) -> int:
        """Return how many bytes the store takes where the database is kept."""

    def vacuum(self) -> None:
        """Give unused room back, and count anew what the database plans its queries by."""

    def explain(self, error: BaseException) -> StoreError:
        """Tell in one line what an error of the driver means, and what to do."""


def now() -> int:
    """Return the time in microseconds since 1970, UTC."""
    return time_ns() // 1000


class Store:
    """An open inference store. Safe to use from several threads; close it when done.

    A forked process goes on with connections of its own.

    Attributes:
        name: What messages call it: a folder, or a URL without its password.
        location: The same, understood in any working directory.
        folder: Where to keep files that go with it; it need not exist.
    """

    def __init__(self, database: Database) -> None:
        """Wrap a database whose schema is current; use `open_store` to get one."""
        self.name = database.name
        self.location = database.location
        self.folder = database.folder
        self._database = database
        self._engine = database.engine()
        self._reading = self._engine.execution_options(**database.reads)
        self._writing = self._engine.execution_options(**database.writes)
        _open.add(self)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one consistent state.

        Raises:
            StoreError: If the database fails.
        """
        with _errors_told(self._database), self._reading.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection in a transaction that is committed at the end, or not at all.

        No other one writes meanwhile.

        Raises:
            StoreError: If the database fails: locked for too long, disk full, damaged, gone.
        """
        with _errors_told(self._database), self._writing.begin() as connection:
            yield connection

    def size(self) -> int:
        """Return how many bytes the database takes on disk, its blobs and vectors not counted.

        Raises:
            StoreError: If the database fails.
        """
        with self.read() as connection:
            return self._database.size(connection)

    def vacuum(self) -> None:
        """Give the room of what was deleted back to the disk; others wait meanwhile.

        Raises:
            StoreError: If the database fails: locked for too long, or no room for a copy.
        """
        with _errors_told(self._database):
            self._database.vacuum()

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def leave_connections(self) -> None:
        """Use none of the connections there are, which belong to the process this one left."""
        # Kept for ever: closing them would end what the other process does with them.
        _left.append(self._engine.pool)
        self._engine.dispose(close=False)

    def __enter__(self) -> Store:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()


_open: WeakSet[Store] = WeakSet()
_left: list[object] = []


def _leave_connections() -> None:
    for store in list(_open):
        store.leave_connections()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_connections)


def store_folder(where: str | os.PathLike[str] | None = None) -> str:
    """Return the store that is meant: the one given, else PIXANO_STORE, else the default folder."""
    return os.fspath(where or os.environ.get("PIXANO_STORE") or DEFAULT_FOLDER)


def store_exists(where: str | os.PathLike[str] | None = None) -> bool:
    """Return whether `open_store` would find a store instead of making one.

    Raises:
        StoreError: If there is something else, or it cannot be looked into.
    """
    database = _database(store_folder(where))
    if not database.may_exist():
        return False
    with Store(database) as store:
        return _version(store) is not None


def open_store(where: str | os.PathLike[str] | None = None, *, create: bool = True) -> Store:
    """Open a store, making or upgrading it as needed.

    Args:
        where: The store's folder, or the URL of a PostgreSQL database; None means PIXANO_STORE,
            else `.pixano-annotate`.
        create: Whether to make a store where there is none.

    Raises:
        StoreError: If it is no store, is of a newer version, or cannot be opened.
    """
    database = _database(store_folder(where))
    if create or database.may_exist():
        database.prepare()
    else:
        raise _none_here(database)
    store = Store(database)
    try:
        _bring_up_to_date(store, database, create=create)
    except BaseException:
        store.close()
        raise
    return store


def _database(where: str) -> Database:
    if where.startswith(POSTGRESQL):
        try:
            from pixano_cli.inference_store.postgresql import PostgreSQL
        except ImportError as error:
            raise StoreError(
                "a store in PostgreSQL needs psycopg, which is not installed: "
                "pip install 'pixano-annotate[postgres]'"
            ) from error
        return PostgreSQL(where, beside=Path(DEFAULT_FOLDER), lock_timeout_s=LOCK_TIMEOUT_S)
    # A Path makes one slash of two.
    if "://" in where or where.startswith(("postgresql:/", "postgres:/")):
        # What follows the scheme may hold a password.
        raise StoreError(
            f"store {where.partition(':')[0]}://...: a store is a folder, or a PostgreSQL database "
            "named by text such as postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        )
    return SQLite(where, lock_timeout_s=LOCK_TIMEOUT_S)


def _none_here(database: Database) -> StoreError:
    return StoreError(f"store {database.name}: there is none here: name another with --store")


def _bring_up_to_date(store: Store, database: Database, *, create: bool) -> None:
    version = _version(store)
    if version == SCHEMA_VERSION:
        return
    if version is None and not create:
        raise _none_here(database)
    with _errors_told(database):
        database.before_making()
    with store.write() as connection:
        # Another process may have made it meanwhile.
        version = _read_version(connection, database)
        if version is None:
            _make(connection)
        elif version != SCHEMA_VERSION:
            _migrate(connection, database)


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
        return _read_version(connection, store._database)


def _read_version(connection: Connection, database: Database) -> str | None:
    """Return the schema's version; empty if it was never set, None if there is no table at all."""
    names = inspect(connection).get_table_names()
    if VERSION_TABLE not in names:
        if names:
            raise StoreError(f"store {database.name}: {database.strangers}")
        return None
    version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar() or ""
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"store {database.name} was made by a newer pixano-annotate (schema {version}, this "
            f"one knows {SCHEMA_VERSION}): upgrade pixano-annotate, or name another store with "
            "--store"
        )
    return version


def _migrate(connection: Connection, database: Database) -> None:
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
            f"store {database.name} cannot be brought to schema {SCHEMA_VERSION}: {error}: "
            "name another with --store"
        ) from error


@contextmanager
def _errors_told(database: Database) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise database.explain(error.orig or error) from error
    except database.error as error:
        raise database.explain(error) from error
