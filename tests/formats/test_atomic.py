"""A file appears whole or not at all, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pixano_cli.errors import OutputError, UsageError
from pixano_cli.formats.atomic import check_writable, replacing

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and /dev/full")


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    return text


def test_the_file_appears_when_the_body_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folders" / "out.json"
    with replacing(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.name.startswith(".")
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert names(target.parent) == ["out.json"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(143)])
def test_a_body_that_raises_leaves_the_earlier_file(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "out.json"
    target.write_text("earlier")

    def write() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)) as caught:
        write()
    assert caught.value is error
    assert target.read_text() == "earlier"
    assert names(tmp_path) == ["out.json"]


@LINUX
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    target.write_text("earlier")
    with (
        pytest.raises(OutputError, match=r"out\.json: the disk is full") as caught,
        replacing(target),
        Path("/dev/full").open("wb") as full,
    ):
        full.write(b"x")
    one_line(caught.value)
    assert target.read_text() == "earlier"
    assert names(tmp_path) == ["out.json"]


def test_a_file_in_the_place_of_a_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught, replacing(tmp_path / "file" / "out.json"):
        pass
    assert "out.json" in one_line(caught.value)


def test_a_folder_that_comes_in_the_way_is_an_output_error(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    with pytest.raises(OutputError, match=r"out\.json"), replacing(target):
        target.mkdir()
    assert names(tmp_path) == ["out.json"]


@LINUX
def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    link = tmp_path / "out.json"
    link.symlink_to("/dev/null")
    with pytest.raises(OutputError, match="device"), replacing(link):
        pass
    assert link.is_symlink()
    assert names(tmp_path) == ["out.json"]


def test_a_link_is_replaced_and_what_it_points_to_is_kept(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.write_text("cached")
    link = tmp_path / "out.json"
    link.symlink_to(cache)
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert not link.is_symlink()
    assert (cache.read_text(), link.read_text()) == ("cached", "new")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_umasks_permissions(tmp_path: Path, umask: int, mode: int) -> None:
    target = tmp_path / "out.json"
    before = os.umask(umask)
    try:
        with replacing(target) as temporary:
            temporary.write_text("")
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == mode


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    target.write_text("earlier")
    target.chmod(0o440)
    with replacing(target) as temporary:
        temporary.write_text("new")
    assert stat.S_IMODE(target.stat().st_mode) == 0o440
    assert target.read_text() == "new"


def test_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    contents = [str(at) * 10_000 for at in range(8)]
    together = threading.Barrier(len(contents))

    def write(content: str) -> None:
        together.wait()
        with replacing(target) as temporary:
            temporary.write_text(content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_text() in contents
    assert names(tmp_path) == ["out.json"]


KILLED = """
import pathlib, sys
from pixano_cli.formats.atomic import replacing
with replacing(pathlib.Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print(temporary.name, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        left = process.stdout.readline().strip()
        with replacing(tmp_path / "other.json") as temporary:
            temporary.write_text("other")
        assert names(tmp_path) == sorted([left, "other.json"]), "one in use was removed"
        process.send_signal(signal.SIGKILL)
    assert left in names(tmp_path)
    with replacing(target) as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == ["other.json", "out.json"]
    assert target.read_text() == "whole"


def test_check_writable_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("earlier")
    check_writable(tmp_path / "out.json")
    check_writable(tmp_path / "new" / "folders" / "out.parquet")
    assert names(tmp_path) == ["out.json"]
    assert (tmp_path / "out.json").read_text() == "earlier"


def test_check_writable_takes_a_bare_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_writable(Path("out.json"))
    with pytest.raises(UsageError, match="folder"):
        check_writable(Path())
    assert names(tmp_path) == []


def test_check_writable_refuses_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for path, reason in [
        (tmp_path, "it is a folder"),
        (tmp_path / "file" / "out.json", "file is not a folder"),
        (tmp_path / "file" / "more" / "out.json", "file is not a folder"),
        (tmp_path / "dangling" / "out.json", "dangling is not a folder"),
        (tmp_path / ("x" * 300), "name too long"),
        (tmp_path / "line\nbreak" / "\0", "null byte"),
    ]:
        with pytest.raises(UsageError) as caught:
            check_writable(path)
        assert reason.lower() in one_line(caught.value).lower()


@LINUX
def test_check_writable_refuses_devices_and_folders_that_take_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="device"):
        check_writable(Path("/dev/null"))
    with pytest.raises(UsageError, match="no file can be made in /proc"):
        check_writable(Path("/proc/new/out.json"))


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_check_writable_refuses_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(UsageError, match="Permission denied"):
            check_writable(tmp_path / "out.json")
        with (
            pytest.raises(OutputError, match="Permission denied"),
            replacing(tmp_path / "out.json"),
        ):
            pass
    finally:
        tmp_path.chmod(0o755)
