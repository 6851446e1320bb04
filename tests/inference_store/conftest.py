"""Stores to test on: each test of the documented functions runs on every kind of database."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pixano_cli import inference_store as istore
from pixano_cli.inference_store.database import open_store
from pixano_cli.inference_store.register import put_model

from .requests import fresh, registration

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a closed SQLite store with a detection model registered, to copy."""
    folder = tmp_path_factory.mktemp("new") / "store"
    with istore.connect(folder):
        istore.register_model_for_inference_storage(registration())
    return folder


@pytest.fixture(scope="session")
def used_database(postgresql_server: Any) -> Iterator[tuple[str, istore.Store]]:
    """A PostgreSQL database that many tests use one after the other, and its store."""
    url = postgresql_server.new_database()
    with open_store(url) as store:
        yield url, store


@pytest.fixture
def sqlite_place(new_store: Path, tmp_path: Path) -> Path:
    """The folder of a SQLite store with a detection model registered."""
    return shutil.copytree(new_store, tmp_path / "store")


@pytest.fixture
def postgresql_place(
    used_database: tuple[str, istore.Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The URL of a PostgreSQL store with a detection model registered, and nothing else."""
    url, store = used_database
    # What goes with the database is kept in the working directory; no other test's is there.
    monkeypatch.chdir(tmp_path)
    with store.read() as connection:
        # What an earlier test left open would hold locks.
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    fresh(store)
    with store.write() as connection:
        put_model(connection, registration())
    return url


@pytest.fixture(params=DATABASES)
def place(request: pytest.FixtureRequest) -> str:
    """The folder or URL of a store with a detection model registered, on each kind of database."""
    return str(request.getfixturevalue(f"{request.param}_place"))


@pytest.fixture(params=DATABASES)
def new_places(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], list[str]]:
    """Make folders or URLs where there is no store yet, on each kind of database."""
    monkeypatch.chdir(tmp_path)
    if request.param == "sqlite":
        return lambda number: [str(tmp_path / f"new {index}") for index in range(number)]
    server = request.getfixturevalue("postgresql_server")
    return lambda number: [server.new_database() for _ in range(number)]


@pytest.fixture
def empty_place(new_places: Callable[[int], list[str]]) -> str:
    """A folder or URL where there is no store yet, on each kind of database."""
    return new_places(1)[0]


@pytest.fixture
def store(place: str) -> Iterator[istore.Store]:
    """A store that the documented functions work on, with a detection model registered."""
    with istore.connect(place) as opened:
        yield opened


@pytest.fixture
def sqlite_store(sqlite_place: Path) -> Iterator[istore.Store]:
    """The same in SQLite only."""
    with istore.connect(sqlite_place) as opened:
        yield opened


@pytest.fixture
def postgresql_store(postgresql_place: str) -> Iterator[istore.Store]:
    """The same in PostgreSQL only."""
    with istore.connect(postgresql_place) as opened:
        yield opened
