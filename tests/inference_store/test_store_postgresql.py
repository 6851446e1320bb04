"""A store in PostgreSQL: its URL, its one writer, and what it says when something is wrong."""

from __future__ import annotations

import hashlib
import re
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import database, postgresql
from pixano_cli.inference_store.database import STREAMED, open_store, store_exists, store_folder
from pixano_cli.inference_store.errors import LockedError, UnstorableError

from .requests import create, found

SECRET = "s3cr3t"


@contextmanager
def refused(said: str, kind: type[StoreError] = StoreError) -> Iterator[None]:
    """Expect one line that says this, and nowhere the password."""
    with pytest.raises(kind, match=said) as caught:
        yield
    assert "\n" not in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    # The tests' own lines, which a traceback repeats, do not hold it.
    assert SECRET not in shown
    assert "p@ss" not in shown
    assert "p%40ss" not in shown


def escaped(part: str) -> str:
    return quote(part, safe="")


# A URL cannot hold a NUL, nor half a surrogate pair.
parts = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12
)
hosts = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,10}", fullmatch=True) | st.just("::1")


class TestUrl:
    @given(user=parts, password=parts, host=hosts, port=st.integers(1, 65535), name=parts)
    def test_any_part_is_read_and_shown_but_the_password(
        self, user: str, password: str, host: str, port: int, name: str
    ) -> None:
        secret = f"{SECRET}{password}"
        place = f"[{host}]" if ":" in host else host
        url = (
            f"postgresql://{escaped(user)}:{escaped(secret)}@{place}:{port}/{escaped(name)}"
            f"?sslmode=prefer&sslpassword={escaped(secret)}"
        )
        read = postgresql.read_url(url)
        expected = {"user": user, "host": host, "port": str(port), "dbname": name}
        assert read.items() >= (expected | {"password": secret, "sslmode": "prefer"}).items()
        shown = postgresql.show(read)
        assert SECRET not in shown
        assert shown.isprintable()
        assert postgresql.read_url(shown).items() >= (expected | {"sslmode": "prefer"}).items()

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("postgresql://host/db", "postgresql://host/db"),
            ("postgres://user@host", "postgresql://user@host/"),
            ("postgresql+psycopg://user:x@host:1/db", "postgresql://user:***@host:1/db"),
            ("postgresql:///db", "postgresql:///db"),
            ("postgresql:///db?password=x", "postgresql://:***@/db"),
            ("postgresql://%2Frun%2Fpg/db", "postgresql://%2Frun%2Fpg/db"),
            ("postgresql://a:1,b:2/db", "postgresql://a:1,b:2/db"),
            ("postgresql://a,b/db", "postgresql://a,b/db"),
        ],
    )
    def test_what_messages_show(self, url: str, shown: str) -> None:
        assert postgresql.show(postgresql.read_url(url)) == shown
        again = postgresql.show(postgresql.read_url(shown))
        assert again == shown

    @pytest.mark.parametrize(
        "url",
        [
            f"postgresql://user:{SECRET}@x@host/db",
            f"postgresql://user:{SECRET}/x@host/db",
            f"postgresql://user:{SECRET}",
            f"postgresql://user:{SECRET}%zz@host/db",
            f"postgresql://user:{SECRET}@host:port/db",
            f"postgresql://user:{SECRET}@[host/db",
            f"postgresql://user:x@host/db?key={SECRET}",
            f"mysql://user:{SECRET}@host/db",
            f"sqlite:///{SECRET}",
            Path(f"postgresql://user:{SECRET}@host/db"),
        ],
        ids=lambda url: re.sub(SECRET, "SECRET", str(url)),
    )
    def test_another_one_is_refused_without_showing_it(
        self, url: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for attempt in (open_store, store_exists, istore.connect):
            with refused("postgresql://USER:PASSWORD@HOST:PORT/DATABASE"):
                attempt(url)
        monkeypatch.setenv("PIXANO_STORE", str(url))
        with refused("postgresql://USER:PASSWORD@HOST:PORT/DATABASE"):
            open_store()
        assert list(tmp_path.iterdir()) == []

    def test_is_taken_from_the_environment(
        self, new_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PIXANO_STORE", new_database)
        assert store_folder() == new_database
        with open_store():
            assert store_exists(new_database)

    def test_psycopg_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "psycopg", None)
        monkeypatch.delitem(sys.modules, "pixano_cli.inference_store.postgresql")
        with refused(r"pip install 'pixano-annotate\[postgres\]'"):
            open_store(f"postgresql://user:{SECRET}@host/db")

    def test_folder_is_the_database_s_and_not_made(
        self, new_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        port, name = new_database.rpartition(":")[2].split("/")
        named = hashlib.sha256(f"127.0.0.1,{port},{name}".encode()).hexdigest()[:16]
        for options in ("", "?sslmode=prefer", "?application_name=other"):
            with open_store(new_database + options) as store:
                assert store.folder == Path(".pixano-annotate", named)
        with istore.connect(f"{new_database}?options=-cgeqo%3Don") as store:
            assert store.folder != Path(".pixano-annotate", named)
        assert list(tmp_path.iterdir()) == []


class TestConnecting:
    def test_wrong_password(self, postgresql_server: Any) -> None:
        with refused(
            r"^store postgresql://tester:\*\*\*@127.0.0.1:\d+/postgres: no connection: .*"
        ):
            open_store(postgresql_server.url(password=SECRET))

    def test_no_such_database(self, postgresql_server: Any) -> None:
        with refused('database "nowhere" does not exist: make it with createdb'):
            open_store(postgresql_server.url("nowhere"))

    def test_no_server(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            with refused("check the URL's host and port, and that the server runs"):
                open_store(f"postgresql://user:{SECRET}@127.0.0.1:{port}/db")

    def test_no_encryption(self, new_database: str) -> None:
        with refused("check the URL's sslmode"):
            open_store(f"{new_database}?sslmode=require")

    def test_unknown_value_of_an_option(self, new_database: str) -> None:
        with refused("correct it in the URL"):
            open_store(f"{new_database}?sslmode=perhaps")

    def test_server_that_accepts_and_is_silent(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            started = monotonic()
            with refused("no connection: .*time"):
                open_store(f"postgresql://user:{SECRET}@127.0.0.1:{port}/db?connect_timeout=2")
            assert monotonic() - started < 30

    def test_another_encoding(self, postgresql_server: Any) -> None:
        options = "ENCODING LATIN1 TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        with refused("the database's encoding is LATIN1.*--encoding UTF8"):
            open_store(postgresql_server.new_database(options))

    def test_encoding_of_the_environment_is_overruled(
        self, postgresql_place: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
        with istore.connect(postgresql_place):
            create("\U0001f600 é")
            assert found() == ["\U0001f600 é"]

    def test_schema_of_a_shared_database(self, new_database: str, postgresql_server: Any) -> None:
        name = new_database.rpartition("/")[2]
        postgresql_server.execute("CREATE TABLE theirs (a INTEGER)", name)
        with refused("another program's tables: .*add .options=-csearch_path%3DSCHEMA"):
            open_store(new_database)
        url = f"{new_database}?options=-csearch_path%3Down"
        with refused("make the schema that the URL's search_path names"):
            open_store(url)
        postgresql_server.execute("CREATE SCHEMA own", name)
        with open_store(url):
            pass
        with open_store(url, create=False) as store:
            assert store.name.endswith(f"/{name}?options=-csearch_path%3Down")

    def test_user_without_rights(self, new_database: str, postgresql_server: Any) -> None:
        name = new_database.rpartition("/")[2]
        postgresql_server.execute(f"CREATE ROLE guest LOGIN PASSWORD '{SECRET}'")
        guest = postgresql_server.url(name, user="guest", password=SECRET)
        try:
            with refused("permission denied.*: grant the user the right to make and use tables"):
                open_store(guest)
            with open_store(new_database):
                pass
            with refused("permission denied.*: grant the user the right to make and use tables"):
                open_store(guest)
        finally:
            postgresql_server.execute("DROP ROLE guest")

    def test_server_that_takes_no_changes(self, postgresql_server: Any) -> None:
        standby = type(postgresql_server)(is_standby=True)
        try:
            assert not store_exists(standby.url())
            with refused("nothing can be written .*: name the server that takes changes"):
                open_store(standby.url())
        finally:
            standby.stop()

    def test_a_vanished_server_is_noticed(self, postgresql_store: istore.Store) -> None:
        with postgresql_store.read() as connection:
            driver: Any = connection.connection.driver_connection
            with socket.socket(fileno=driver.fileno()) as own:
                alive = own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                idle = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
                own.detach()
        assert alive
        assert idle == 30


class TestOneWriter:
    def test_others_wait_and_see_what_it_wrote(
        self, postgresql_place: str, postgresql_store: istore.Store
    ) -> None:
        entered = threading.Event()
        seen: list[int] = []

        def write_second() -> None:
            with open_store(postgresql_place) as other, other.write() as connection:
                entered.set()
                seen.append(connection.exec_driver_sql("SELECT count(*) FROM images").scalar_one())

        thread = threading.Thread(target=write_second)
        with postgresql_store.write() as connection:
            thread.start()
            assert not entered.wait(0.3)
            connection.exec_driver_sql("INSERT INTO images VALUES ('a', 1, 1, 1, 1, 'PNG')")
            # Who only reads waits for nobody.
            assert found() == []
        thread.join(30)
        assert seen == [1]

    def test_waiting_too_long_is_said(
        self, postgresql_place: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with open_store(postgresql_place) as store:
            monkeypatch.setattr(database, "LOCK_TIMEOUT_S", 0.3)
            with istore.connect(postgresql_place):
                create("one")
                with store.write():
                    started = monotonic()
                    with refused("is locked by another process for more than 0.3 s", LockedError):
                        create("two")
                    assert 0.25 < monotonic() - started < 5
                    assert found() == ["one"]
                create("two")
                assert found() == ["one", "two"]

    def test_a_new_store_is_waited_for(
        self, new_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(database, "LOCK_TIMEOUT_S", 0.3)
        with psycopg.connect(new_database) as other:
            other.execute("SELECT pg_advisory_xact_lock(%s)", [postgresql.WRITER])
            with refused("is locked by another process", LockedError):
                open_store(new_database)
        with open_store(new_database):
            pass

    def test_reading_cannot_write(self, postgresql_store: istore.Store) -> None:
        with refused("nothing can be written"), postgresql_store.read() as connection:
            connection.exec_driver_sql("DELETE FROM inferences")
        create("one")
        assert found() == ["one"]


class TestLost:
    @pytest.fixture
    def end_connections(
        self, postgresql_place: str, postgresql_server: Any
    ) -> Callable[[], list[Any]]:
        """End all sessions in the database, as a server does that is stopped."""
        name = postgresql_place.rpartition("/")[2]
        return lambda: postgresql_server.execute(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
        )

    def test_amid_a_transaction(
        self, postgresql_store: istore.Store, end_connections: Callable[[], list[Any]]
    ) -> None:
        create("one")
        insert = "INSERT INTO images VALUES ('a', 1, 1, 1, 1, 'PNG')"
        lost = "connection to the server was lost .*: run the same command again"
        with refused(lost), postgresql_store.write() as connection:
            connection.exec_driver_sql(insert)
            end_connections()
            connection.exec_driver_sql(insert.replace("'a'", "'b'"))
        with refused(lost), postgresql_store.write() as connection:
            connection.exec_driver_sql(insert)
            end_connections()
        with refused(lost), postgresql_store.read() as connection:
            end_connections()
            connection.exec_driver_sql("SELECT 1")
        with postgresql_store.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM images").scalar() == 0
        assert found() == ["one"]

    def test_between_two_it_is_made_again(
        self, postgresql_store: istore.Store, end_connections: Callable[[], list[Any]]
    ) -> None:
        create("one")
        assert end_connections()
        assert found() == ["one"]
        assert end_connections()
        create("two")
        assert found() == ["one", "two"]


class TestValues:
    def insert(self, store: istore.Store, statement: str, value: object) -> None:
        with store.write() as connection:
            connection.execute(text(f"INSERT INTO images VALUES {statement}"), {"value": value})

    @pytest.mark.parametrize(
        ("statement", "value"),
        [
            ("(:value, 1, 1, 1, 1, 'PNG')", "a\0b"),
            ("('a', :value, 1, 1, 1, 'PNG')", 2**63),
            ("('a', 1, :value, 1, 1, 'PNG')", 2**31),
        ],
    )
    def test_that_it_cannot_hold_are_told_from_failures(
        self, postgresql_store: istore.Store, statement: str, value: object
    ) -> None:
        with refused("cannot hold a value", UnstorableError):
            self.insert(postgresql_store, statement, value)

    def test_too_long_for_an_index(self, postgresql_store: istore.Store) -> None:
        # Digests, since what can be compressed may be longer.
        value = "".join(hashlib.sha256(bytes([index])).hexdigest() for index in range(200))
        with refused("cannot hold a value", UnstorableError):
            self.insert(postgresql_store, "(:value, 1, 1, 1, 1, 'PNG')", value)


def test_many_rows_are_not_in_memory_at_once(postgresql_store: istore.Store) -> None:
    rows = "SELECT repeat('x', 1000) FROM generate_series(1, 300000)"
    process = psutil.Process()
    with postgresql_store.read() as connection:
        before = process.memory_info().rss
        length = 0
        for (value,) in connection.execute(text(rows), execution_options=STREAMED):
            length += len(value)
        assert length == 300_000_000
        assert process.memory_info().rss - before < 50_000_000
