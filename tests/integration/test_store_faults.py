"""Stores and disks that fail: one line, nothing lost, and the same command goes on afterwards."""

import errno
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pixano_cli.formats import atomic
from pixano_cli.inference_store import database

from .tool import Commands, Done, Log, check_store, query, tree

Command = Callable[..., Done]

DETECT = ("detect", "photos", "-m", "counting-detector", "-o", "out.json", "-q")


@pytest.fixture
def earlier(work: Path, photos: Callable[..., Path]) -> bytes:
    """Some images, and an output that is there already."""
    photos(10)
    (work / "out.json").write_bytes(b"an earlier output")
    return b"an earlier output"


def check_fails(done: Done, *says: str) -> None:
    assert done.code == 1, done.err
    assert done.line.startswith("pixano-annotate: ")
    assert all(each in done.line for each in says), done.line
    assert "unexpected" not in done.line


@pytest.mark.parametrize("recorded", [False, True], ids=["new", "recorded"])
def test_a_locked_store(
    command: Command,
    work: Path,
    earlier: bytes,
    recorded: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if recorded:
        assert command(*DETECT, "-o", "other.json").code == 0
        (work / "out.json").write_bytes(earlier)
    store = work / ".pixano-annotate"
    store.mkdir(exist_ok=True)
    monkeypatch.setattr(database, "LOCK_TIMEOUT_S", 0.2)
    with closing(sqlite3.connect(store / "store.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE" if not recorded else "BEGIN IMMEDIATE")
        check_fails(command(*DETECT), "locked by another process")
        assert (work / "out.json").read_bytes() == earlier
    done = command(*DETECT, "--json")
    assert done.code == 0, done.err
    assert done.summary["cached"] == 10 * recorded
    check_store(store)


def test_a_store_that_is_locked_amid_the_run(
    command: Command,
    work: Path,
    earlier: bytes,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another process takes the store when half of the images are recorded."""
    from pixano_cli.annotate import record

    store = work / ".pixano-annotate"
    write = record.record_outcomes
    other: list[sqlite3.Connection] = []

    def meanwhile(connection: object, *arguments: object, **keywords: object) -> None:
        write(connection, *arguments, **keywords)  # type: ignore[arg-type]
        if len(log) >= 5 and not other:
            other.append(
                sqlite3.connect(
                    store / "store.sqlite3", isolation_level=None, check_same_thread=False
                )
            )

    read = database.Store.write

    def locking(self: database.Store) -> object:
        if other and not other[0].in_transaction:
            other[0].execute("BEGIN IMMEDIATE")
        return read(self)

    monkeypatch.setattr(record, "record_outcomes", meanwhile)
    monkeypatch.setattr(database.Store, "write", locking)
    monkeypatch.setattr(database, "LOCK_TIMEOUT_S", 0.2)
    check_fails(command(*DETECT, "--concurrency", 1), "locked by another process")
    assert (work / "out.json").read_bytes() == earlier
    monkeypatch.undo()
    monkeypatch.chdir(work)
    monkeypatch.setenv("COUNTING_LOG", str(log.path))
    other[0].close()
    kept = query(store, "SELECT count(*) FROM inferences")[0][0]
    assert kept >= 1
    check_store(store)


def test_a_store_from_a_newer_version(command: Command, work: Path, earlier: bytes) -> None:
    assert command(*DETECT).code == 0
    (work / "out.json").write_bytes(earlier)
    with closing(sqlite3.connect(work / ".pixano-annotate" / "store.sqlite3")) as connection:
        connection.execute("UPDATE pixano_store_version SET version_num = '9999'")
        connection.commit()
    before = tree(work)
    for arguments in (DETECT, ("export", "-o", "out.json", "-q"), (*DETECT, "--dry-run")):
        check_fails(command(*arguments), "newer pixano-annotate", "9999")
    assert tree(work) == before


@pytest.mark.parametrize(
    "content", [b"no database at all, but rather long" * 100, b"SQLite format 3\0" + bytes(4000)]
)
def test_a_file_that_is_no_store(
    command: Command, work: Path, earlier: bytes, content: bytes
) -> None:
    store = work / ".pixano-annotate"
    store.mkdir()
    (store / "store.sqlite3").write_bytes(content)
    before = tree(work)
    check_fails(command(*DETECT), "--store")
    assert tree(work) == before


def test_the_database_of_another_program(command: Command, work: Path, earlier: bytes) -> None:
    store = work / ".pixano-annotate"
    store.mkdir()
    with closing(sqlite3.connect(store / "store.sqlite3")) as connection:
        connection.execute("CREATE TABLE photos (name TEXT)")
        connection.commit()
    before = tree(work)
    check_fails(command(*DETECT), "another program's database", "--store")
    assert tree(work) == before


def test_a_store_that_is_damaged_amid(command: Command, work: Path, earlier: bytes) -> None:
    assert command(*DETECT).code == 0
    (work / "out.json").write_bytes(earlier)
    file = work / ".pixano-annotate" / "store.sqlite3"
    content = bytearray(file.read_bytes())
    content[4096 * 3 :] = b"\xa5" * (len(content) - 4096 * 3)
    file.write_bytes(content)
    check_fails(command(*DETECT, "--overwrite"), ".pixano-annotate")
    assert (work / "out.json").read_bytes() == earlier


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs: run as root outside a container")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path, but: int) -> Path:
    """Fill a disk but for some bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - but)
    return ballast


def test_the_disk_is_full_while_answers_are_recorded(
    commands: Commands, work: Path, earlier: bytes, photos: Callable[..., Path], small_disk: Path
) -> None:
    photos(120)
    command = (*DETECT, "--store", small_disk / "store")
    ballast = fill(small_disk, but=2_000_000)
    done = commands.run(*command)
    check_fails(done, "disk is full", "what was recorded is kept")
    assert (work / "out.json").read_bytes() == earlier
    kept = query(small_disk / "store", "SELECT count(*) FROM inferences")[0][0]
    print(f"{kept} of 120 answers were kept")
    assert 0 < kept < 120
    check_store(small_disk / "store")
    ballast.unlink()
    done = commands.run(*command, "--json")
    assert done.code == 0, done.err
    assert done.counts == {"total": 120, "processed": 120 - kept, "cached": kept, "failed": 0}
    check_store(small_disk / "store")


def test_the_disk_is_full_while_the_store_is_made(
    commands: Commands, work: Path, earlier: bytes, small_disk: Path
) -> None:
    command = (*DETECT, "--store", small_disk / "store")
    ballast = fill(small_disk, but=40_000)
    check_fails(commands.run(*command), "disk is full")
    assert (work / "out.json").read_bytes() == earlier
    ballast.unlink()
    done = commands.run(*command, "--json")
    assert done.summary["processed"] == 10


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_the_disk_is_full_while_an_output_is_written(
    commands: Commands, work: Path, photos: Callable[..., Path], small_disk: Path, suffix: str
) -> None:
    photos(60)
    output = small_disk / f"out.{suffix}"
    output.write_bytes(b"an earlier output")
    command = ("detect", "photos", "-o", output, "-q")
    ballast = fill(small_disk, but=8192)
    check_fails(commands.run(*command), str(output), "disk is full")
    assert output.read_bytes() == b"an earlier output"
    assert sorted(path.name for path in small_disk.iterdir()) == ["ballast", output.name]
    ballast.unlink()
    done = commands.run(*command, "--json")
    assert done.code == 0, done.err
    assert done.counts == {"total": 60, "processed": 0, "cached": 60, "failed": 0}
    assert commands.run("export", "-o", f"again.{suffix}").code == 0
    assert (work / f"again.{suffix}").read_bytes() == output.read_bytes()


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_an_output_that_cannot_be_completed(
    command: Command,
    work: Path,
    earlier: bytes,
    failing: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same without a disk of one's own."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if failing == "fsync":
            patch.setattr(atomic.os, "fsync", full)
        else:
            patch.setattr(Path, "replace", full)
        check_fails(command(*DETECT), "out.json", "disk is full")
    assert (work / "out.json").read_bytes() == earlier
    assert sorted(path.name for path in work.iterdir()) == [
        ".pixano-annotate",
        "out.json",
        "photos",
    ]
    done = command(*DETECT, "--json")
    assert done.counts == {"total": 10, "processed": 0, "cached": 10, "failed": 0}


@pytest.mark.parametrize(
    ("statement", "cached"),
    [
        ("DELETE FROM inferences WHERE id IN (1, 2)", 8),
        ("DELETE FROM items WHERE file_name IN ('000.jpg', '001.jpg')", 10),
    ],
)
def test_what_vanishes_before_the_output_is_written(
    command: Command,
    work: Path,
    earlier: bytes,
    statement: str,
    cached: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An output that lacks images which the summary counts would be worse than none."""
    from pixano_cli.annotate import job

    write = job.write_outputs

    def meanwhile(*arguments: object) -> object:
        with closing(sqlite3.connect(work / ".pixano-annotate" / "store.sqlite3")) as connection:
            connection.execute(statement)
            connection.commit()
        return write(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(job, "write_outputs", meanwhile)
        check_fails(command(*DETECT), "2 of 10", "again")
    done = command(*DETECT, "--json")
    assert done.counts == {
        "total": 10,
        "processed": 10 - cached,
        "cached": cached,
        "failed": 0,
    }
