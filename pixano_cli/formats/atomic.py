"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixano_cli.errors import OutputError, UsageError
from pixano_cli.formats.text import shown

if sys.platform != "win32":
    import fcntl

_PREFIX = ".pixano-annotate-"
_SUFFIX = ".tmp"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the path of an empty file in the folder of `path`, which replaces it on success.

    The body opens the file by its path, writes it and closes it. It then goes to the disk and takes
    the place of `path` in one step, with the permissions of the file that was there, else with
    those that the umask gives. When the body raises, it is removed. A process that is killed leaves
    it behind, hidden; the next one that writes into the folder removes it. Missing folders are
    made. A symbolic link is replaced and not followed: what it points to may be a cache's.

    Raises:
        OutputError: If the file cannot be written; an earlier version of it is left as it was.
    """
    try:
        mode = _mode(path)
        if mode is not None and not stat.S_ISREG(mode):
            raise OutputError(f"cannot write {shown(path)}: {_kind(mode)} is in its place")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, descriptor = _claim(path.parent)
    except OSError as error:
        raise _output_error(path, error) from error
    try:
        _remove_abandoned(path.parent)
        yield temporary
        if mode is not None:
            temporary.chmod(stat.S_IMODE(mode) & 0o777)
        os.fsync(descriptor)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        OutputError: If it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot remove {shown(path)}: {_reason(error)}") from error


def check_writable(path: Path) -> None:
    """Try whether `replacing(path)` can work, and leave nothing behind.

    Raises:
        UsageError: If `path` is a folder or a device, or if a file cannot be made in the nearest
            folder above it that exists.
    """
    try:
        mode = _mode(path)
        if mode is not None and not stat.S_ISREG(mode):
            advice = f", name a file in it, like {shown(path / 'annotations.json')}"
            raise UsageError(
                f"cannot write {shown(path)}: it is {_kind(mode)}"
                f"{advice if stat.S_ISDIR(mode) else ''}"
            )
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {shown(path)}: {_reason(error)}") from error
    folder = next(each for each in path.parents if os.path.lexists(each))
    if not folder.is_dir():
        raise UsageError(f"cannot write {shown(path)}: {shown(folder)} is not a folder")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"cannot write {shown(path)}: no file can be made in {shown(folder)}: {_reason(error)}"
        ) from error


def _mode(path: Path) -> int | None:
    """Return the mode of what `path` leads to; None where there is nothing."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _kind(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"


def _claim(folder: Path) -> tuple[Path, int]:
    """Make a file, with the umask's permissions, and lock it for as long as it is open."""
    while True:
        temporary = folder / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        # Between the two calls another process may take the file for an abandoned one.
        if _lock(descriptor) is not False and temporary.exists():
            return temporary, descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock without waiting; False if another process holds the lock, None where locks are not."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove_abandoned(folder: Path) -> None:
    """Remove the files of processes that were killed: those that nobody has locked."""
    with contextlib.suppress(OSError):
        for file in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
            with contextlib.suppress(OSError):
                descriptor = os.open(file, os.O_RDWR)
                try:
                    if _lock(descriptor):
                        file.unlink()
                finally:
                    os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _output_error(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {shown(path)}: {_reason(error)}")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full, make room and run the same command again"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())
