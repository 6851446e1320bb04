"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from pixano_cli.errors import OutputError, UsageError
from pixano_cli.formats.text import shown

if sys.platform != "win32":
    import fcntl

DescriptorT = TypeVar("DescriptorT", int, int | None)

_PREFIX = ".pixano-annotate-"
_SUFFIX = ".tmp"
_EARLIER = ".earlier"
_LEFT_BY_DESKTOPS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})


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
        temporary, descriptor = _claim(path.parent, _make_file)
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


@contextmanager
def replacing_folder(path: Path, entries: Sequence[str]) -> Iterator[Path]:
    """Give the path of an empty folder beside `path`, which replaces it on success.

    As `replacing`, for a folder as a whole. The earlier folder is put aside in one step and the new
    one in its place in the next; a process that is killed between the two leaves the earlier one
    under a hidden name, and the next one that writes the same folder puts it back first. Files in
    the folder are not waited for until they are on the disk: they outlive a kill, not a power cut.

    Args:
        path: The folder.
        entries: Names of the files and folders that the body makes. Of these the first is always
            made: by it a folder is known as one that may be replaced.

    Raises:
        OutputError: If the folder cannot be written, or holds what was not made here; an earlier
            version of it is left as it was.
    """
    aside = _earlier(path)
    try:
        _put_back(aside, path)
        _refuse_irreplaceable(path, entries)
        mode = _mode(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, descriptor = _claim(path.parent, _make_folder)
    except OSError as error:
        raise _output_error(path, error) from error
    try:
        _remove_abandoned(path.parent)
        yield temporary
        if mode is not None:
            temporary.chmod(stat.S_IMODE(mode) & 0o777)
        # Writing may have taken long enough for somebody to put something into the folder.
        _refuse_irreplaceable(path, entries)
        if os.path.lexists(path):
            path.rename(aside)
        temporary.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            _put_back(aside, path)
        if descriptor is not None:
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
    _check_parents(path)


def check_folder_writable(path: Path, entries: Sequence[str]) -> None:
    """Try whether `replacing_folder(path, entries)` can work, and leave nothing behind.

    Raises:
        UsageError: If something stands at `path` that may not be replaced, or if nothing can be
            made in the nearest folder above it that exists.
    """
    try:
        reason = _irreplaceable(path, entries)
    except (OSError, ValueError) as error:
        reason = _reason(error)
    if reason is not None:
        raise UsageError(f"cannot write {shown(path)}: {reason}")
    _check_parents(path)


def _check_parents(path: Path) -> None:
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


def _refuse_irreplaceable(path: Path, entries: Sequence[str]) -> None:
    reason = _irreplaceable(path, entries)
    if reason is not None:
        raise OutputError(f"cannot write {shown(path)}: {reason}")


def _irreplaceable(path: Path, entries: Sequence[str]) -> str | None:
    """Return why no folder may be put in the place of `path`; None if one may."""
    mode = _mode(path)
    advice = f"name a folder that is not there yet, like {shown(path / 'masks')}"
    if path.name in ("", "..") or os.path.ismount(path):
        return f"it cannot be replaced as a whole, {advice}"
    if mode is None:
        return None
    if not stat.S_ISDIR(mode):
        kind = "a file" if stat.S_ISREG(mode) else _kind(mode)
        return f"{kind} is in the place of the folder"
    found = {each.name for each in path.iterdir()} - _LEFT_BY_DESKTOPS
    others = sorted(found.difference(entries))
    if not others and (not found or entries[0] in found):
        return None
    other = others[0] if others else min(found)
    return f"the folder holds {shown(Path(other))}, which was not written by this tool, {advice}"


def _mode(path: Path) -> int | None:
    """Return the mode of what `path` leads to; None where there is nothing."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _kind(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"


def _claim(folder: Path, make: Callable[[Path], DescriptorT]) -> tuple[Path, DescriptorT]:
    """Make a file or a folder with the umask's permissions; lock it for as long as it is open."""
    while True:
        temporary = folder / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        descriptor = make(temporary)
        # Between the two calls another process may take it for an abandoned one.
        if descriptor is None or (_lock(descriptor) is not False and temporary.exists()):
            return temporary, descriptor
        os.close(descriptor)


def _make_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)


def _make_folder(path: Path) -> int | None:
    path.mkdir()
    return _open_folder(path)


def _open_folder(path: Path) -> int | None:
    """Open a folder where the system can, to lock it or to send it to the disk."""
    return None if sys.platform == "win32" else os.open(path, os.O_RDONLY | os.O_DIRECTORY)


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
    """Remove what killed processes left: the files and folders that nobody has locked."""
    with contextlib.suppress(OSError):
        for left in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
            with contextlib.suppress(OSError):
                is_folder = left.is_dir()
                descriptor = _open_folder(left) if is_folder else os.open(left, os.O_RDWR)
                if descriptor is None:
                    continue
                try:
                    if _lock(descriptor):
                        shutil.rmtree(left) if is_folder else left.unlink()
                finally:
                    os.close(descriptor)


def _earlier(path: Path) -> Path:
    """Return where the earlier folder of `path` is put, whatever the length of its name."""
    digest = sha256(os.fsencode(path.name)).hexdigest()[:16]
    return path.parent / f"{_PREFIX}{digest}{_EARLIER}"


def _put_back(aside: Path, path: Path) -> None:
    """Put the earlier folder back where none has taken its place, else remove it."""
    if not os.path.lexists(aside):
        return
    if os.path.lexists(path):
        _remove_folder(aside)
    else:
        aside.rename(path)


def _remove_folder(path: Path) -> None:
    """Remove a folder; of a link to one, only the link."""
    with contextlib.suppress(OSError):
        path.unlink() if path.is_symlink() else shutil.rmtree(path)


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = _open_folder(folder)
        if descriptor is not None:
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
