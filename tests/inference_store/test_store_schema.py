"""A store's tables: migrations and the schema make the same ones, on every kind of database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import database, schema
from pixano_cli.inference_store.database import VERSION_TABLE, open_store, store_exists
from pixano_cli.inference_store.sqlite import FILE_NAME

from .requests import MODEL_ID, create, found, registration

# Alembic says of some SQLite indexes that it cannot compare them; their statements are, below.
pytestmark = pytest.mark.filterwarnings("ignore:.*expression-based index")

CATALOGUE = f"""
SELECT 'column', table_name || '.' || column_name, concat_ws(
    ' ', ordinal_position, data_type, collation_name, is_nullable, column_default)
FROM information_schema.columns
WHERE table_schema = 'public' AND table_name <> '{VERSION_TABLE}'
UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes
WHERE schemaname = 'public' AND tablename <> '{VERSION_TABLE}'
UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND conrelid <> '{VERSION_TABLE}'::regclass
"""
"""What PostgreSQL knows of its tables."""


def script() -> Config:
    config = Config()
    config.set_main_option("script_location", "pixano_cli:inference_store/migrations")
    return config


def revisions() -> list[str]:
    """All versions of the schema, the oldest first."""
    known = ScriptDirectory.from_config(script()).walk_revisions()
    return [each.revision for each in known][::-1]


@contextmanager
def connected(place: str) -> Iterator[Connection]:
    """Connect past all code of the store."""
    if "://" in place:
        engine = create_engine(place.replace("postgresql://", "postgresql+psycopg://"))
    else:
        Path(place).mkdir(exist_ok=True)
        engine = create_engine(f"sqlite:///{Path(place, FILE_NAME)}")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def migrate(place: str, revision: str) -> None:
    """Run migrations one after the other."""
    with connected(place) as connection, connection.begin():
        config = script()
        config.attributes.update(connection=connection, version_table=VERSION_TABLE)
        command.upgrade(config, revision)


def statements(connection: Connection) -> dict[Any, Any]:
    """Describe every table and index, with all that Alembic does not compare."""
    if connection.dialect.name == "postgresql":
        rows = connection.exec_driver_sql(CATALOGUE).all()
        return {(kind, name): text for kind, name, text in rows}
    found = connection.exec_driver_sql("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    # One part a line, in any order: Alembic puts constraints elsewhere.
    parts = {name: re.split(r"\n|(?<=\)), ?", sql) for name, sql in found if name != VERSION_TABLE}
    return {
        name: sorted(stripped for part in split if (stripped := part.strip(" ,")))
        for name, split in parts.items()
    }


def check_schema(connection: Connection) -> None:
    options = {"version_table": VERSION_TABLE, "compare_type": True}
    context = MigrationContext.configure(connection, opts=options)
    assert compare_metadata(context, schema.tables) == []
    assert context.get_current_revision() == database.SCHEMA_VERSION


def test_migrations_make_the_schema(empty_place: str) -> None:
    migrate(empty_place, "head")
    with connected(empty_place) as connection:
        check_schema(connection)


def test_new_store_is_made_by_the_very_same_statements(
    new_places: Callable[[int], list[str]],
) -> None:
    """Also in what Alembic does not compare: WITHOUT ROWID, cascades, collations."""
    old, new = new_places(2)
    migrate(old, "head")
    with open_store(new), connected(old) as migrated, connected(new) as made:
        assert statements(migrated) == statements(made)
        assert len(statements(made)) > len(schema.tables.tables)


def test_alembic_knows_the_version_of_a_new_store(store: istore.Store) -> None:
    with store.read() as connection:
        check_schema(connection)


@pytest.mark.parametrize("revision", revisions()[:-1])
def test_older_store_is_migrated(empty_place: str, revision: str) -> None:
    migrate(empty_place, revision)
    with open_store(empty_place) as store, store.read() as connection:
        check_schema(connection)
        made = statements(connection)
    with connected(empty_place) as connection:
        assert statements(connection) == made


def test_store_without_a_version_is_migrated_from_the_start(empty_place: str) -> None:
    with connected(empty_place) as connection, connection.begin():
        connection.exec_driver_sql(f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32))")
    with open_store(empty_place) as store, store.read() as connection:
        check_schema(connection)


def test_version_is_that_of_the_last_migration() -> None:
    assert revisions()[-1] == database.SCHEMA_VERSION


def test_opening_again_changes_nothing(store: istore.Store, place: str) -> None:
    create("one")
    with open_store(place):
        pass
    assert found() == ["one"]


def test_failing_migration_changes_nothing(
    empty_place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(empty_place, revisions()[0])
    with connected(empty_place) as connection:
        before = statements(connection)

    def fails(*_: object) -> None:
        raise KeyError("in the middle")

    def fail_at_the_end(self: MigrationContext, *_: object, **__: object) -> None:
        run(self)
        fails()

    run: Callable[..., None] = MigrationContext.run_migrations
    monkeypatch.setattr(MigrationContext, "run_migrations", fail_at_the_end)
    with pytest.raises(KeyError):
        open_store(empty_place)
    monkeypatch.undo()
    with connected(empty_place) as connection:
        assert statements(connection) == before
    with open_store(empty_place) as store, store.read() as connection:
        check_schema(connection)


class TestWhatIsNoStore:
    def set_version(self, place: str, version: str) -> None:
        with connected(place) as connection, connection.begin():
            connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '{version}'")

    def test_another_program_s_database(self, empty_place: str) -> None:
        with connected(empty_place) as connection, connection.begin():
            connection.exec_driver_sql("CREATE TABLE theirs (a INTEGER)")
        for attempt in (open_store, store_exists):
            with pytest.raises(StoreError, match=r"another program's .*: name another"):
                attempt(empty_place)
        with connected(empty_place) as connection:
            assert inspect(connection).get_table_names() == ["theirs"]

    def test_newer_version(self, store: istore.Store, place: str) -> None:
        create("one")
        self.set_version(place, "9999")
        with pytest.raises(
            StoreError, match=r"newer pixano-annotate .schema 9999.*upgrade pixano-annotate"
        ):
            open_store(place)
        self.set_version(place, database.SCHEMA_VERSION)
        with istore.connect(place):
            assert found() == ["one"]

    def test_unknown_older_version(self, empty_place: str) -> None:
        with open_store(empty_place):
            self.set_version(empty_place, "0000")
        with pytest.raises(StoreError, match="cannot be brought to schema"):
            open_store(empty_place)

    def test_none_where_none_may_be_made(self, empty_place: str) -> None:
        assert not store_exists(empty_place)
        with pytest.raises(StoreError, match="there is none here"):
            open_store(empty_place, create=False)
        assert not store_exists(empty_place)
        assert "://" in empty_place or not Path(empty_place).exists()
        with istore.connect(empty_place):
            istore.register_model_for_inference_storage(registration())
        assert store_exists(empty_place)
        with open_store(empty_place, create=False), istore.connect(empty_place):
            assert istore.get_registered_model(MODEL_ID) is not None
