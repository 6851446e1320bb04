"""What identifies a video: the digest of its bytes, or of its frames' names and bytes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pixano_cli.media.frame_folder import list_frames
from pixano_cli.media.identity import open_file


def digest_of(path: Path) -> tuple[str, int]:
    """Return the SHA-256 digest in hex of a video, and its size in bytes.

    A file is read piece by piece. The digest of a folder of frames is that of, for each frame in
    order, its name, a NUL, the hex digest of its bytes and a newline: renaming a frame changes it
    as much as changing one does.

    Args:
        path: A file, or a folder of frames.

    Raises:
        MediaReadError: If something in it cannot be read; never waits for a pipe or a device.
    """
    if not os.path.isdir(path):  # noqa: PTH112
        return _digest_of_file(path)
    whole = hashlib.sha256()
    total = 0
    for seen in list_frames(path):
        digest, size = _digest_of_file(path / seen.relative)
        whole.update(os.fsencode(seen.relative) + b"\0" + digest.encode() + b"\n")
        total += size
    return whole.hexdigest(), total


def _digest_of_file(path: Path) -> tuple[str, int]:
    with open_file(path) as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()
