"""Reading takes regular files only, never waits, and says why it fails."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pixano_cli.errors import MediaReadError
from pixano_cli.media.identity import MAX_FILE_BYTES, read_file, sha256


def refused(path: Path) -> str:
    with pytest.raises(MediaReadError) as caught:
        read_file(path)
    text = str(caught.value)
    assert text.startswith(f"cannot read {str(path)!r}: ")
    assert "\n" not in text
    return text.partition(f"{str(path)!r}: ")[2]


def test_a_file_comes_whole(tmp_path: Path) -> None:
    path = tmp_path / "photo\nof 'the' \"cat\" é.jpg"
    content = os.urandom(300_000)
    path.write_bytes(content)
    assert read_file(path) == content
    assert sha256(content) == hashlib.sha256(content).hexdigest()
    path.write_bytes(b"")
    assert read_file(path) == b""


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    path.write_bytes(b"here")
    assert read_file(path) == b"here"
    assert refused(path.with_suffix(".png")) == "no such file"


def test_what_is_not_there(tmp_path: Path) -> None:
    link = tmp_path / "link.jpg"
    link.symlink_to("nowhere")
    circle = tmp_path / "circle.jpg"
    circle.symlink_to("circle.jpg")
    assert refused(tmp_path / "line\nbreak.jpg") == "no such file"
    assert refused(link) == "no such file"
    assert refused(circle) == "its symbolic links lead in a circle"
    assert refused(Path("nul\0.jpg")) == "no possible file name"
    assert refused(link / "below.jpg") == "no such file"


def test_what_is_no_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    assert refused(pipe) == "it is a named pipe, not a file"
    assert refused(tmp_path) == "it is a folder"
    assert refused(Path("/dev/zero")) == "it is a device, not a file"
    path = tmp_path / "socket.jpg"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        assert refused(path) == "it is a socket, not a file"


def test_a_file_too_large_to_hold(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert "2,147,483,649 bytes are more than" in refused(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="needs a user whom permissions bind: root reads all")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "secret.jpg"
    path.write_bytes(b"secret")
    path.chmod(0)
    assert refused(path) == "permission denied"
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    assert refused(folder) == "permission denied"


def test_nothing_heavy_is_imported() -> None:
    """The command line imports these at start, so they load neither Pillow nor numpy."""
    script = (
        "import sys, pixano_cli.media.discover, pixano_cli.media.identity, pixano_cli.media.flight;"
        "print([name for name in sys.modules if name in ('PIL', 'numpy', 'torch', 'onnxruntime')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "[]"
