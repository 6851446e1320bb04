"""A folder appears whole or not at all, and nothing is left behind or taken away."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pixano_cli.errors import OutputError, UsageError
from pixano_cli.formats.atomic import check_folder_writable, replacing, replacing_folder

ENTRIES = ("mark.json", "data")


def fill(folder: Path, content: str, files: int = 3) -> None:
    (folder / "mark.json").write_text(content)
    (folder / "data").mkdir()
    for at in range(files):
        (folder / "data" / f"{at}.txt").write_text(content)


def write(target: Path, content: str, files: int = 3) -> None:
    with replacing_folder(target, ENTRIES) as temporary:
        fill(temporary, content, files)


def content_of(target: Path) -> str:
    """The content of a folder, which must be that of one writing."""
    found = {path.read_text() for path in target.rglob("*") if path.is_file()}
    assert sorted(path.name for path in target.iterdir()) == ["data", "mark.json"]
    assert len(found) == 1
    return found.pop()


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_the_folder_appears_when_the_body_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "out"
    with replacing_folder(target, ENTRIES) as temporary:
        fill(temporary, "whole")
        assert temporary.parent == target.parent
        assert temporary.name.startswith(".")
        assert not target.exists()
    assert content_of(target) == "whole"
    assert names(target.parent) == ["out"]


def test_an_earlier_one_and_an_empty_one_are_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir(mode=0o750)
    write(target, "first", files=5)
    write(target, "second", files=2)
    assert content_of(target) == "second"
    assert len(names(target / "data")) == 2
    assert stat.S_IMODE(target.stat().st_mode) == 0o750
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(143)])
def test_a_body_that_raises_leaves_the_earlier_folder(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "out"
    write(target, "earlier")

    def fail() -> None:
        with replacing_folder(target, ENTRIES) as temporary:
            fill(temporary, "half")
            raise error

    with pytest.raises(type(error)) as caught:
        fail()
    assert caught.value is error
    assert content_of(target) == "earlier"
    assert names(tmp_path) == ["out"]


def test_what_others_put_there_is_never_taken_away(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write(target, "earlier")
    (target / "JPEGImages").mkdir()
    refused = r"out: the folder holds JPEGImages, which was not written by this tool, name a folder"
    with pytest.raises(UsageError, match=refused):
        check_folder_writable(target, ENTRIES)
    with pytest.raises(OutputError, match=refused):
        write(target, "new")
    (target / "JPEGImages").rmdir()
    (target / ".DS_Store").write_text("")
    write(target, "new")
    assert content_of(target) == "new"


def test_a_folder_without_the_mark_is_somebody_elses(tmp_path: Path) -> None:
    target = tmp_path / "out"
    (target / "data").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"the folder holds data, which was not written by this"):
        check_folder_writable(target, ENTRIES)


def test_what_comes_into_the_folder_meanwhile_is_not_taken_away(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write(target, "earlier")

    def meanwhile() -> None:
        with replacing_folder(target, ENTRIES) as temporary:
            fill(temporary, "new")
            (target / "notes.txt").write_text("mine")

    with pytest.raises(OutputError, match=r"notes\.txt"):
        meanwhile()
    assert (target / "notes.txt").read_text() == "mine"
    assert names(tmp_path) == ["out"]


def test_what_cannot_be_replaced_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path, reason in [
        (tmp_path / "file", "a file is in the place of the folder"),
        (tmp_path / "file" / "out", "file is not a folder"),
        (Path(), "cannot be replaced as a whole"),
        (tmp_path / "..", "cannot be replaced as a whole"),
        (Path("/"), "cannot be replaced as a whole"),
        (tmp_path / ("x" * 300), "name too long"),
        (tmp_path / "\0", "null byte"),
    ]:
        with pytest.raises(UsageError) as caught:
            check_folder_writable(path, ENTRIES)
        assert reason.lower() in str(caught.value).lower()
    with pytest.raises(OutputError, match="a file is in the place"):
        write(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "mine"
    assert names(tmp_path) == ["file"]


def test_checking_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "out", "earlier")
    check_folder_writable(tmp_path / "out", ENTRIES)
    check_folder_writable(tmp_path / "new" / "masks", ENTRIES)
    assert names(tmp_path) == ["out"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_is_replaced_and_what_it_points_to_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "kept")
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    write(tmp_path / "out", "new")
    assert content_of(tmp_path / "out") == "new"
    assert content_of(tmp_path / "elsewhere") == "kept"
    assert names(tmp_path) == ["elsewhere", "out"]


def test_a_swap_that_fails_half_way_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    write(target, "earlier")
    rename = Path.rename

    def fail(self: Path, to: Path) -> Path:
        if to == target and self.name.endswith(".tmp"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        write(target, "new")
    assert content_of(target) == "earlier"
    assert names(tmp_path) == ["out"]


def test_writers_of_one_folder_leave_one_of_theirs(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write(target, "earlier")
    together = threading.Barrier(6)

    def one(content: str) -> None:
        together.wait()
        try:
            write(target, content)
        except OutputError:
            # Another one was there first.
            return

    threads = [threading.Thread(target=one, args=(str(at),)) for at in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content_of(target) in {"earlier", *map(str, range(6))}
    assert names(tmp_path) == ["out"]


KILLED = """
import pathlib, sys
from pixano_cli.formats import atomic
at = sys.argv[2]
with atomic.replacing_folder(pathlib.Path(sys.argv[1]), ("mark.json", "data")) as temporary:
    (temporary / "mark.json").write_text("new")
    (temporary / "data").mkdir()
    (temporary / "data" / "0.txt").write_text("new")
    if at == "writing":
        print("here", flush=True)
        sys.stdin.read()
    rename = pathlib.Path.rename
    def stop(self, to):
        rename(self, to)
        if at == ("swapping" if to.name.endswith(".earlier") else "swapped"):
            print("here", flush=True)
            sys.stdin.read()
    pathlib.Path.rename = stop
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("moment", ["writing", "swapping", "swapped"])
def test_a_kill_leaves_the_old_or_the_new(tmp_path: Path, moment: str) -> None:
    target = tmp_path / "out"
    write(target, "old")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(target), moment],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        # What another process makes beside it takes nothing away that is in use.
        with replacing(tmp_path / "other.json") as temporary:
            temporary.write_text("other")
        process.send_signal(signal.SIGKILL)
    assert len(names(tmp_path)) == 3, "something is left, to be removed"
    if moment != "swapping":
        assert content_of(target) == ("old" if moment == "writing" else "new")

    with pytest.raises(ValueError, match="no"), replacing_folder(target, ENTRIES):
        raise ValueError("no")
    assert content_of(target) == ("new" if moment == "swapped" else "old")
    assert names(tmp_path) == ["other.json", "out"]


LOOP = """
import pathlib, sys
from pixano_cli.formats.atomic import replacing_folder
for at in range(100_000):
    with replacing_folder(pathlib.Path(sys.argv[1]), ("mark.json", "data")) as temporary:
        (temporary / "mark.json").write_text(str(at))
        (temporary / "data").mkdir()
        for file in range(5):
            (temporary / "data" / f"{file}.txt").write_text(str(at))
    if at == 0:
        print("here", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_kills_at_any_moment_leave_no_mixture(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for at in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", LOOP, str(target)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.003 * at)
            process.send_signal(signal.SIGKILL)
        with pytest.raises(ValueError, match="no"), replacing_folder(target, ENTRIES):
            raise ValueError("no")
        assert int(content_of(target)) >= 0
        assert len(names(target / "data")) == 5
        assert names(tmp_path) == ["out"]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_a_read_only_place_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(UsageError, match="Permission denied"):
            check_folder_writable(tmp_path / "out", ENTRIES)
        with pytest.raises(OutputError, match="Permission denied"):
            write(tmp_path / "out", "new")
    finally:
        tmp_path.chmod(0o755)
