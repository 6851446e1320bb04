"""A store in a PostgreSQL database: its URL, its connections, its one writer, its errors told.

Only imported where a store is named by a URL; it needs psycopg 3.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, create_engine, event

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.errors import LockedError, UnstorableError

WRITER = 0x706978616E6F
"""Key of the advisory lock that a database's one writer holds: "pixano" in ASCII."""

DEFAULT_PORT = "5432"
HIDDEN = "***"

# What the URL may say otherwise. A server that is gone without a word, as after a power cut, is
# noticed within a minute instead of the hours that systems take by themselves.
_CONNECTING: Mapping[str, Any] = {
    "fallback_application_name": "pixano-annotate",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}

# By what the server's refusal says; in another language it is shown with the last advice.
_REFUSALS = (
    (
        "password|authentication|pg_hba",
        "check the URL's user and password (%40, %3A and %2F stand for @, : and / in them)",
    ),
    ('database ".*" does not exist', "make it with createdb, or name another with --store"),
    ("too many|remaining connection", "wait until others have finished, then run it again"),
    ("invalid|unrecognized|unsupported", "correct it in the URL"),
    ("SSL|certificate", "check the URL's sslmode and its certificates"),
    ("", "check the URL's host and port, and that the server runs"),
)


# What a standby says depends on the statement.
_READ_ONLY = (
    errors.ReadOnlySqlTransaction,
    errors.FeatureNotSupported,
    errors.ObjectNotInPrerequisiteState,
)


class PostgreSQL:
    """A `database.Database` on a server."""

    error: type[Exception] = psycopg.Error
    reads: Mapping[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    writes: Mapping[str, Any] = {"pixano_writes": True}
    strangers = (
        "the database holds another program's tables: name another database, or an empty schema "
        "of this one: add ?options=-csearch_path%3DSCHEMA to the URL"
    )

    def __init__(self, url: str, *, beside: Path, lock_timeout_s: float) -> None:
        """Read the URL; nothing is connected.

        Args:
            url: As libpq reads it: what it does not say comes from PGHOST and the like.
            beside: The folder in which the store has a folder of its own.
            lock_timeout_s: How long a writer waits for another.

        Raises:
            StoreError: If it is no such URL.
        """
        self._parameters = read_url(url)
        self.name = self.location = show(self._parameters)
        self.folder = beside / _digest(self._parameters)
        self._lock_timeout_s = lock_timeout_s

    def may_exist(self) -> bool:
        """Return True: only the server knows."""
        return True

    def prepare(self) -> None:
        """Do nothing: making the database is its owner's business."""

    def before_making(self) -> None:
        """Do nothing."""

    def engine(self) -> Engine:
        """Return an engine that connects to the server when it is first used."""
        engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            max_overflow=-1,
            # Runs are long, and a server may be restarted meanwhile.
            pool_pre_ping=True,
            use_native_hstore=False,
        )
        take_lock = (
            f"SET LOCAL lock_timeout = {round(self._lock_timeout_s * 1000)}; "
            f"SELECT pg_advisory_xact_lock({WRITER})"
        )

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            # A statement that begins after this sees all that earlier writers have committed.
            if connection.get_execution_options().get("pixano_writes"):
                connection.exec_driver_sql(take_lock)

        return engine

    def size(self, connection: Connection) -> int:
        """Return the bytes of the store's tables with their indexes."""
        query = (
            "SELECT coalesce(sum(pg_total_relation_size(to_regclass(name))), 0) "
            "FROM unnest(%s::text[]) AS name"
        )
        return int(connection.exec_driver_sql(query, ([*schema.tables.tables],)).scalar_one())

    def vacuum(self) -> None:
        """Write every table anew; that takes as much room as the largest one again for a while.

        Raises:
            psycopg.Error: If it cannot be done.
        """
        timeout = f"SET lock_timeout = {round(self._lock_timeout_s * 1000)}"
        names = ", ".join(schema.tables.tables)
        with closing(self._connect()) as connection:
            connection.autocommit = True
            connection.execute(timeout.encode())
            # As a writer, so that none waits in the middle of its work.
            connection.execute("SELECT pg_advisory_lock(%s)", (WRITER,))
            connection.execute(f"VACUUM (FULL, ANALYZE) {names}".encode())

    def explain(self, error: BaseException) -> StoreError:
        """Tell what an error of psycopg means, and what to do."""
        reason = _reason(error)
        if isinstance(error, errors.LockNotAvailable):
            return LockedError(self.name, self._lock_timeout_s)
        if isinstance(error, psycopg.DataError | errors.ProgramLimitExceeded):
            return UnstorableError(f"store {self.name} cannot hold a value: {reason}")
        if isinstance(error, errors.InsufficientPrivilege):
            advice = f"{reason}: grant the user the right to make and use tables there"
        elif isinstance(error, errors.DiskFull):
            advice = (
                "the server's disk is full: free some space and run the same command again; "
                "what was recorded is kept"
            )
        elif isinstance(error, _READ_ONLY):
            advice = f"nothing can be written ({reason}): name the server that takes changes"
        elif isinstance(error, errors.InvalidSchemaName):
            advice = f"{reason}: make the schema that the URL's search_path names"
        elif _is_lost(error):
            advice = (
                f"the connection to the server was lost ({reason}): run the same command again; "
                "what was recorded is kept"
            )
        else:
            advice = reason
        return StoreError(f"store {self.name}: {advice}")

    def _connect(self) -> psycopg.Connection[Any]:
        try:
            connection = psycopg.connect(
                **{**_CONNECTING, **self._parameters, "client_encoding": "utf8"}
            )
        except psycopg.Error as error:
            reason = _reason(error)
            advice = next(said for pattern, said in _REFUSALS if re.search(pattern, reason))
            raise StoreError(f"store {self.name}: no connection: {reason}: {advice}") from error
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            connection.close()
            raise StoreError(
                f"store {self.name}: the database's encoding is {encoding}, which cannot hold all "
                "texts: make one with createdb --encoding UTF8 --template template0"
            )
        return connection


def read_url(url: str) -> dict[str, Any]:
    """Return the connection parameters that a URL gives, as libpq names them.

    Raises:
        StoreError: If it is no such URL; it is not repeated, for it may hold a password.
    """
    refusal = (
        "store postgresql://...: the URL cannot be read: write "
        "postgresql://USER:PASSWORD@HOST:PORT/DATABASE with %40, %3A and %2F for @, : and / in "
        "USER and PASSWORD"
    )
    rest = url.partition("://")[2]
    credentials = re.match("[^@/]*@", rest)
    place = rest[credentials.end() :] if credentials else rest
    if "@" in place.partition("?")[0]:
        raise StoreError(refusal)
    try:
        parameters = conninfo_to_dict(f"postgresql://{rest}")
    except psycopg.Error as error:
        # The only part that is certain to be none of the user's secrets.
        unknown = re.match("invalid URI query parameter", str(error))
        more = ": it has an option that PostgreSQL does not know" if unknown else ""
        raise StoreError(refusal + more) from None
    if not re.fullmatch("[0-9,]*", str(parameters.get("port", ""))):
        raise StoreError(refusal)
    return dict(parameters)


def show(parameters: Mapping[str, Any]) -> str:
    """Return a URL with the parameters, its passwords hidden."""
    rest = {key: HIDDEN if _is_secret(key) else str(each) for key, each in parameters.items()}
    user, password = rest.pop("user", ""), rest.pop("password", "")
    hosts = rest.pop("host", "").split(",")
    ports = rest.pop("port", "").split(",")
    # One port may stand for several hosts.
    ports = ports if len(ports) == len(hosts) else [*ports, *[""] * len(hosts)]
    places = ",".join(
        (f"[{host}]" if ":" in host else quote(host, safe="")) + (port and f":{port}")
        for host, port in zip(hosts, ports, strict=False)
    )
    credentials = quote(user, safe="") + (password and f":{HIDDEN}")
    database = rest.pop("dbname", "")
    query = "&".join(
        f"{key}={each if each == HIDDEN else quote(each)}" for key, each in rest.items()
    )
    return (
        f"postgresql://{credentials}{credentials and '@'}{places}/{quote(database, safe='')}"
        f"{query and '?'}{query}"
    )


def _is_secret(key: str) -> bool:
    return "password" in key or "secret" in key


def _digest(parameters: Mapping[str, Any]) -> str:
    """Return the name of the folder that goes with a database, and with a schema chosen in it."""
    host = parameters.get("host") or parameters.get("hostaddr") or os.environ.get("PGHOST", "")
    port = parameters.get("port") or os.environ.get("PGPORT", DEFAULT_PORT)
    database = parameters.get("dbname") or os.environ.get("PGDATABASE") or parameters.get("user")
    named = [str(host).lower(), str(port), str(database or "")]
    if "options" in parameters:
        named.append(str(parameters["options"]))
    return hashlib.sha256(",".join(named).encode()).hexdigest()[:16]


def _is_lost(error: BaseException) -> bool:
    """Whether the server ended the connection (08, 57P), or vanished, which has no code."""
    if isinstance(error, psycopg.InterfaceError):
        return True
    state = getattr(error, "sqlstate", None) or ""
    return state.startswith(("08", "57P")) or (
        not state and isinstance(error, psycopg.OperationalError)
    )


def _reason(error: BaseException) -> str:
    """Return what an error says, in one line without what goes round it."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    said = primary or str(error).partition("\n")[0]
    said = re.sub(r"^connection (failed|is bad): (connection to server .* failed: )?", "", said)
    return " ".join(re.sub(r"^FATAL: +", "", said).split())
