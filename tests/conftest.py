"""What every test shares: settings, and a PostgreSQL server where a test asks for one."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import settings

# The machines that run the tests are shared: how long one example takes says nothing.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")

REQUIRED = os.environ.get("PIXANO_TEST_POSTGRESQL") == "required"
PATIENCE_S = 60.0
USER = "tester"
PASSWORD = "p@ss:w/rd %41"
NO_SERVER = pytest.StashKey[str]()

# Stops the server and removes its files when its input ends, as it does at any death of the tests.
GUARDED = """
exec 3<&0
{ read -r _ <&3; kill -QUIT $$; sleep 1; rm -rf "$0"; } &
exec "$@" </dev/null 3<&-
"""


class NoServerError(Exception):
    """There is no PostgreSQL here."""


class PostgreSQLServer:
    """A PostgreSQL server of the tests' own: on a free port, with a password, gone at the end.

    Its texts sort as people sort them, so that whoever relies on code points has to say so. A
    standby takes no changes.
    """

    def __init__(self, *, is_standby: bool = False) -> None:
        self._programs = _find_programs()
        # Not in pytest's folder, which no other user may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="pixano-postgresql-"))
        self._owner: dict[str, Any] = {}
        if os.geteuid() == 0:
            # The server refuses to run as root.
            owner = _somebody_else()
            self._owner = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        self._numbers = count()
        try:
            self._make()
            if is_standby:
                (self.folder / "data" / "standby.signal").touch()
            self._start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def url(self, database: str = "postgres", *, user: str = USER, password: str = PASSWORD) -> str:
        """Return the URL of a database."""
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run a statement in a session of its own, past all code of the tool."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def new_database(self, options: str = "") -> str:
        """Make an empty database; return its URL."""
        name = f"new_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} {options}")
        return self.url(name)

    def stop(self) -> None:
        """Stop the server and remove all it had."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        command = [self._programs / "initdb", "-D", self.folder / "data", "-U", USER]
        command += ["--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync"]
        command += ["--encoding=UTF8", "--locale=C"]
        linguistic = ["--locale-provider=icu", "--icu-locale=en-US"]
        made = None
        for choice in (linguistic, []):
            made = subprocess.run(
                [*command, *choice],
                cwd=self.folder,
                capture_output=True,
                text=True,
                env=os.environ | {"LC_ALL": "C"},
                **self._owner,
            )
            if made.returncode == 0:
                return
        raise NoServerError(f"initdb failed: {' '.join((made.stderr if made else '').split())}")

    def _start(self) -> None:
        import psycopg

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "max_connections": 100,
        }
        command = [str(self._programs / "postgres"), "-D", str(self.folder / "data")]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", GUARDED, str(self.folder), *command],
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._owner,
            )
        deadline = monotonic() + PATIENCE_S
        while True:
            try:
                psycopg.connect(self.url()).close()
                return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or monotonic() > deadline:
                    said = " ".join((self.folder / "log").read_text(errors="replace").split())
                    raise NoServerError(f"the server does not start: {said}") from error
            sleep(0.02)


def _find_programs() -> Path:
    """Return the folder of the newest server's programs; Debian keeps them off the path."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    folders.sort(key=lambda each: int("".join(re.findall("[0-9]+", str(each))) or 0), reverse=True)
    if found := shutil.which("initdb"):
        folders.append(Path(found).resolve().parent)
    for folder in folders:
        if all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
            return folder
    raise NoServerError("it is not installed: apt-get install postgresql")


def _somebody_else() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoServerError("it does not run as root, and there is no user postgres or nobody")


@pytest.fixture(scope="session")
def postgresql_server(pytestconfig: pytest.Config) -> Iterator[PostgreSQLServer]:
    """A server that runs until the tests end."""
    try:
        import psycopg  # noqa: F401

        server = PostgreSQLServer()
    except (NoServerError, ImportError, OSError) as error:
        reason = f"no PostgreSQL: {error}"
        if REQUIRED:
            pytest.fail(reason)
        pytestconfig.stash[NO_SERVER] = reason
        pytest.skip(reason)
    yield server
    server.stop()


@pytest.fixture
def new_database(postgresql_server: PostgreSQLServer) -> str:
    """The URL of an empty PostgreSQL database."""
    return postgresql_server.new_database()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reason = terminalreporter.config.stash.get(NO_SERVER, None)
    if reason:
        terminalreporter.write_line(
            f"WARNING: nothing was tested on PostgreSQL: {reason}", yellow=True, bold=True
        )
