"""Commands of the tool, run and judged from outside."""

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import monotonic, sleep
from typing import Any

SAMPLES = Path(__file__).parents[2] / "sample_data"
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @cached_property
    def summary(self) -> dict[str, Any]:
        return json.loads(self.out)

    @property
    def counts(self) -> dict[str, int]:
        """What of the summary says how many files there were, and what became of them."""
        return {key: self.summary[key] for key in ("total", "processed", "cached", "failed")}

    @property
    def line(self) -> str:
        """The one line of an error."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


@dataclass(frozen=True)
class Started:
    """A command that runs in a process of its own."""

    process: "subprocess.Popen[str]"

    def until(self, event: Callable[[], bool]) -> bool:
        """Wait for an event; False if the command ended before."""
        deadline = monotonic() + PATIENCE_S
        while not event():
            if self.process.poll() is not None:
                return False
            assert monotonic() < deadline, "waited too long"
            sleep(0.001)
        return True

    def end(self, *signals: int) -> Done:
        """Send signals, one after the other, and wait for the end."""
        for each in signals:
            self.process.send_signal(each)
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return Done(self.process.returncode, out, err or "")


class Commands:
    """Runs `pixano-annotate` in a folder."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    def start(
        self,
        *arguments: object,
        program: Sequence[str] = ("-m", "pixano_cli"),
        stderr: int = subprocess.PIPE,
    ) -> Started:
        """Start a process."""
        process = subprocess.Popen(
            [sys.executable, *program, *map(os.fsdecode, map(as_text, arguments))],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            errors="surrogateescape",
        )
        return Started(process)

    def run(self, *arguments: object, **how: Any) -> Done:
        """Run a process to its end."""
        return self.start(*arguments, **how).end()


def as_text(argument: object) -> str | bytes:
    return argument if isinstance(argument, str | bytes) else str(argument)


class Log:
    """What the counting models noted."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, kind: str) -> list[tuple[int, str]]:
        """Return (process, digest of the input) of every call."""
        if not self.path.exists():
            return []
        fields = [line.split() for line in self.path.read_text().splitlines()]
        return [(int(process), digest) for process, noted, digest in fields if noted == kind]

    def times(self, kind: str = "detect") -> Counter[str]:
        """Return how many times each input was given to a network."""
        return Counter(digest for _, digest in self.lines(kind))

    def count(self, kind: str = "detect") -> int:
        """Return how many calls there were."""
        return len(self.lines(kind))

    def __len__(self) -> int:
        """Return the number of calls of whatever kind; cheap enough to ask all the time."""
        return self.path.read_bytes().count(b"\n") if self.path.exists() else 0

    def clear(self) -> None:
        """Forget all."""
        self.path.unlink(missing_ok=True)


def counting_commands(folder: Path, counting_distribution: Path, log: Log) -> Commands:
    """Return commands in a folder that know the counting models."""
    environment = {key: value for key, value in os.environ.items() if key != "PIXANO_STORE"}
    environment["PYTHONPATH"] = str(counting_distribution)
    environment["COUNTING_LOG"] = str(log.path)
    return Commands(folder, environment)


def copy_images(gallery: Path, folder: Path, number: int, first: int = 0) -> None:
    """Put some images of the gallery into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(gallery.rglob("*.jpg"), key=lambda path: path.name)[first:][:number]:
        (folder / path.name).write_bytes(path.read_bytes())


def query(store: Path, statement: str) -> list[tuple[Any, ...]]:
    """Ask a store's database, past all code of the tool."""
    file = store / "store.sqlite3"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as connection:
        return connection.execute(statement).fetchall()


def check_store(store: Path) -> None:
    """Check that a database is whole and holds no answer twice."""
    assert query(store, "PRAGMA integrity_check") == [("ok",)]
    assert query(store, "PRAGMA foreign_key_check") == []
    doubled = """
        SELECT inferences.data_hash, inferences.request_key, frame_index, count(*)
        FROM inferences LEFT JOIN frames ON inference = inferences.id
        GROUP BY inferences.data_hash, inferences.request_key, frame_index, data
        HAVING count(*) > 1
    """
    assert query(store, doubled) == []
    assert query(store, "SELECT count(*), count(DISTINCT inference_id) FROM inferences") in (
        [(each, each) for each in query(store, "SELECT count(*) FROM inferences")[0]],
    )


def tree(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder, by name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


SIGNALLED = {
    signal.SIGINT: {130, -signal.SIGINT},
    signal.SIGTERM: {143, -signal.SIGTERM},
}
"""What a shell shows as 130 and 143: an exit code, or death by the signal before Python is up."""
