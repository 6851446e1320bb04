"""Killed while inferences with inputs are stored and deleted: nothing is lost, nothing is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from pixano_cli import inference_store as istore
from pixano_cli.inference_store.blob_ledger import collect
from pixano_cli.inference_store.blobs import FolderBlobs
from pixano_cli.inference_store.connection import blobs_of
from pixano_cli.inference_store.process import is_alive

from . import s3_server
from .inputs import check_blobs
from .requests import MODEL_ID
from .s3_server import serving  # noqa: F401
from .test_store_database import disk  # noqa: F401

KILLS = 20
PATIENCE_S = 60

# Forks a worker for each line that it reads, which takes a hundredth of starting a Python.
NURSERY = """
import os, random, signal, sys, traceback
import psycopg
from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import blob_ledger, inference, models, retention, upload
from pixano_cli.inference_store.blobs import FolderBlobs

MODEL_ID = sys.argv[1]
chance = random.Random(0)
CONTENTS = [chance.randbytes(chance.choice([1, 1000, 300_000])) for _ in range(6)]

def answer(data):
    standard = models.NewStandardMetadataRequest(
        data_hash=istore.get_data_hash(data), data_size=len(data),
        task_type="Object Detection", inference_action="detect",
    )
    return models.NewInferenceAndMetadataCollection(
        object_detection=[{"label": "cat", "score": 0.5}],
        metadata=models.NewMetadataCollectionRequest(standard_metadata=standard),
    )

def die_at(point, after):
    # Die at some call of a function, before or after it did its work.
    owner, name = point.split(".")
    owner = {"FolderBlobs": FolderBlobs, "os": os, "ledger": blob_ledger, "upload": upload,
             "inference": inference}[owner]
    original = getattr(owner, name)
    left = random.randrange(4)
    def dying(*args, **options):
        nonlocal left
        left -= 1
        if left < 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        done = original(*args, **options)
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    setattr(owner, name, dying)

def work(who, log, place, blobs, point, after):
    random.seed(who)
    istore.connect(place, blobs=blobs)
    if point:
        die_at(point, after == "after")
    note = lambda text: os.write(log, f"{text}\\n".encode())
    note("ready")
    mine = []
    for number in range(10_000):
        name = f"{who}-{number}"
        data = random.choice(CONTENTS)
        try:
            istore.create_inference_storage_request(MODEL_ID, name, data, answer(data))
            note(f"+{name}")
            mine.append(name)
        except StoreError as error:
            if "disk is full" not in str(error):
                raise
        while len(mine) > 3 or (mine and random.random() < 0.4):
            name = mine.pop(random.randrange(len(mine)))
            note(f"-{name}")
            istore.delete_inference(MODEL_ID, name)

# Those that are killed are gone at once.
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    who, log, *rest = line.rstrip("\\n").split("\\t")
    pid = os.fork()
    if not pid:
        try:
            log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            work(who, log, *rest)
        except BaseException:
            os.write(log, b"! " + traceback.format_exc().encode())
        os._exit(1)
    print(pid, flush=True)
"""


class Worker:
    """A process that stores and deletes inferences with inputs until it is killed."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid = pid
        self._log = log

    def notes(self) -> list[str]:
        """What it has done so far; it must not have failed."""
        text = self._log.read_text() if self._log.exists() else ""
        assert "! " not in text, text
        # The last line may be on its way.
        return text.split("\n")[:-1]

    def wait_until(self, count: int) -> None:
        """Wait until it has so many notes, or is dead."""
        deadline = monotonic() + PATIENCE_S
        while len(self.notes()) < count and is_alive(self.pid):
            assert monotonic() < deadline
            sleep(0.001)

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        assert is_alive(self.pid), self.notes()
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        """Wait until it is gone."""
        deadline = monotonic() + PATIENCE_S
        while is_alive(self.pid):
            assert monotonic() < deadline
            sleep(0.001)

    def kept(self) -> set[str]:
        """Ids of the inferences it has stored, and did not begin to delete."""
        notes = self.notes()
        deleted = {note[1:] for note in notes if note.startswith("-")}
        return {note[1:] for note in notes if note.startswith("+")} - deleted


class Nursery:
    """Starts workers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started = 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY, MODEL_ID],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, place: str, blobs: str, *, point: str = "", after: bool = False) -> Worker:
        """Start a worker on a store, to be killed, or to die at a point of the code."""
        assert self._process.stdin
        assert self._process.stdout
        self._started += 1
        log = self._folder / f"{self._started}.log"
        asked = [f"w{self._started}", str(log), place, blobs, point, "after" if after else ""]
        self._process.stdin.write("\t".join(asked) + "\n")
        self._process.stdin.flush()
        return Worker(int(self._process.stdout.readline()), log)

    def close(self) -> None:
        """End, when all workers are dead."""
        assert self._process.stdin
        self._process.stdin.close()
        assert self._process.wait(PATIENCE_S) == 0
        assert self._process.stdout
        self._process.stdout.close()


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery(tmp_path_factory.mktemp("logs"))
    yield made
    made.close()


def check(place: str, blobs: str, kept: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Open the store as the next user does, and check all of it."""
    with istore.connect(place, blobs=blobs) as store:
        collect(store, blobs_of(store))
        check_blobs(store)
        everything = istore.NewGetInferencesRequest(pagination=istore.Pagination(limit=100_000))
        ids = {each.inference_id for each in istore.filter_inferences(MODEL_ID, everything)}
        assert kept <= ids


def test_killed_at_random_moments(place: str, tmp_path: Path, nursery: Nursery) -> None:
    blobs = str(tmp_path / "blobs")
    chance = random.Random()
    kept: set[str] = set()
    for _ in range(KILLS):
        worker = nursery.start(place, blobs)
        worker.wait_until(chance.randrange(1, 8))
        sleep(chance.random() * 0.02)
        worker.kill()
        kept |= worker.kept()
        check(place, blobs, kept)
    assert kept


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "point",
    [
        "inference.put_with_record",
        "ledger.begin",
        "FolderBlobs.size",
        "FolderBlobs.put",
        "os.fsync",
        "inference.insert_records",
        "ledger.settle",
        "ledger.is_held",
        "ledger.discard",
        "ledger.named",
        "FolderBlobs.delete",
    ],
)
def test_killed_at_each_step(
    sqlite_place: Path, tmp_path: Path, nursery: Nursery, point: str, after: bool
) -> None:
    blobs = str(tmp_path / "blobs")
    kept: set[str] = set()
    for _ in range(2):
        worker = nursery.start(str(sqlite_place), blobs, point=point, after=after)
        worker.wait()
        kept |= worker.kept()
        check(str(sqlite_place), blobs, kept)


def test_two_at_once_are_killed_together(place: str, tmp_path: Path, nursery: Nursery) -> None:
    """Both store and delete the same few inputs."""
    blobs = str(tmp_path / "blobs")
    chance = random.Random()
    kept: set[str] = set()
    for _ in range(8):
        workers = [nursery.start(place, blobs) for _ in range(2)]
        for worker in workers:
            worker.wait_until(chance.randrange(2, 20))
        for worker in workers:
            worker.kill()
            kept |= worker.kept()
        check(place, blobs, kept)
    assert kept


def test_what_a_living_process_makes_is_not_collected(
    place: str, tmp_path: Path, nursery: Nursery
) -> None:
    """While one works, others are killed beside it, and the store is opened again and again."""
    blobs = str(tmp_path / "blobs")
    living = nursery.start(place, blobs)
    for _ in range(8):
        dying = nursery.start(place, blobs)
        dying.wait_until(4)
        dying.kill()
        with istore.connect(place, blobs=blobs) as store:
            collect(store, blobs_of(store))
    before = len(living.notes())
    living.wait_until(before + 4)
    living.kill()
    check(place, blobs, living.kept())


def test_killed_on_a_disk_that_is_full(
    sqlite_place: Path,
    disk: Path,  # noqa: F811
    nursery: Nursery,
) -> None:
    """Two put more than there is room for, and are killed at it."""
    blobs = str(disk / "blobs")
    (disk / "ballast").write_bytes(bytes(500_000))
    for _ in range(4):
        workers = [nursery.start(str(sqlite_place), blobs) for _ in range(2)]
        for worker in workers:
            worker.wait_until(30)
        for worker in workers:
            worker.kill()
        check(str(sqlite_place), blobs, workers[0].kept() | workers[1].kept())
        # Half-written files of killed processes stay for a day, in nobody's way.
        for left in (disk / "blobs" / ".incoming").iterdir():
            os.utime(left, (0, 0))
        FolderBlobs(disk / "blobs").sweep()
        assert list((disk / "blobs" / ".incoming").iterdir()) == []


def wait_until_idle(endpoint: str) -> None:
    """Wait until the server, a thread a request, has ended all that it was asked before."""
    s3_server.client(endpoint).list_buckets()
    deadline = monotonic() + PATIENCE_S
    while any("process_request_thread" in each.name for each in threading.enumerate()):
        assert monotonic() < deadline
        sleep(0.001)


def test_killed_while_blobs_go_to_s3(
    sqlite_place: Path, tmp_path: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    nursery = Nursery(tmp_path)
    blobs = f"s3://{s3_server.BUCKET}/{tmp_path.name}"
    for _ in range(3):
        worker = nursery.start(str(sqlite_place), blobs)
        worker.wait_until(random.randrange(2, 12))
        worker.kill()
        wait_until_idle(s3_endpoint)
        check(str(sqlite_place), blobs, worker.kept())
    nursery.close()
