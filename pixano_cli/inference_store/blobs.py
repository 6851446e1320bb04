"""Storage of bytes by key: the inputs of inferences, in a folder or in S3-compatible storage.

A key is a relative path with `/` between its parts, the same in every storage.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from time import time
from typing import Protocol
from uuid import uuid4

from pixano_cli.errors import StoreError
from pixano_cli.media.flight import url_of

UPLOADS = "uploads/"
"""What the keys of uploads begin with."""

LONGEST_KEY = 1000
"""Bytes of a key's UTF-8; S3 takes 1,024, a prefix among them."""

LONGEST_PART = 255
"""Bytes of what stands between two slashes: what file systems take as a name."""

STALE_AFTER_S = 24 * 3600

# Where bytes wait for their name: nothing in it is a blob.
_INCOMING = ".incoming"
# Characters that are not in a key: control characters and what Windows takes for a slash.
_REFUSED = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_DRIVE = re.compile(r"[A-Za-z]:")
_NO_FOLLOWING = getattr(os, "O_NOFOLLOW", 0)
_READING = os.O_RDONLY | _NO_FOLLOWING | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOWING | getattr(os, "O_BINARY", 0)


class BlobStorage(Protocol):
    """Bytes by key. Safe to use from several threads and processes at once.

    All of it raises StoreError for a key that is not well-formed, and when the storage fails.
    """

    @property
    def name(self) -> str:
        """Where this is, as messages show it; without credentials."""

    def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`, in place of what was there: all of it, or nothing."""

    def get(self, key: str) -> bytes:
        """Return what is under `key`.

        Raises:
            StoreError: If there is nothing, too.
        """

    def exists(self, key: str) -> bool:
        """Return whether there is anything under `key`."""

    def size(self, key: str) -> int | None:
        """Return the bytes under `key`, counted; None if there is nothing."""

    def delete(self, key: str) -> None:
        """Remove what is under `key`, if there is anything."""

    def keys(self) -> Iterator[str]:
        """Go through all keys, in any order."""

    def sweep(self) -> int:
        """Remove what was left unfinished more than a day ago; return how much it was."""

    def put_url(self, key: str) -> str:
        """Return a URL that bytes can be PUT to, or for `file://` written to, under `key`."""

    def get_url(self, key: str) -> str:
        """Return a URL that the bytes under `key` can be had from; nothing need be there yet."""


def data_key(digest: str) -> str:
    """Return the key of content with this sha256."""
    return f"data/{digest[:2]}/{digest}"


def upload_key() -> str:
    """Return a new key for an upload."""
    return f"{UPLOADS}{uuid4().hex}"


def check_key(key: str) -> str:
    """Return `key`, which is well-formed: it leads to a place inside of any storage.

    Raises:
        StoreError: If it is empty, absolute, too long, has an empty part or one of dots, a
            backslash, a drive letter or a control character, or is no text.
    """
    wrong = _what_is_wrong(key)
    if wrong is not None:
        raise StoreError(f"storage key {_shown(key)} is refused: {wrong}")
    return key


def is_key(key: str) -> bool:
    """Return whether `key` is well-formed."""
    return _what_is_wrong(key) is None


def blobs_location(folder: Path, given: str | os.PathLike[str] | None = None) -> str:
    """Return which storage is meant: the one given, else PIXANO_BLOBS, else one in `folder`."""
    return os.fspath(given or os.environ.get("PIXANO_BLOBS") or folder / "blobs")


def open_blobs(where: str | os.PathLike[str]) -> BlobStorage:
    """Return the storage in a folder, or at `s3://bucket/prefix`. Nothing is asked of it yet.

    Raises:
        StoreError: If `where` is a URL of another kind, or S3 needs packages that are not there.
    """
    named = os.fspath(where)
    scheme, separator, _ = named.partition("://")
    if not separator:
        return FolderBlobs(Path(named))
    if scheme.lower() != "s3":
        raise StoreError(
            f"blobs at a {scheme}:// URL cannot be kept: name a folder or s3://bucket/prefix"
        )
    from pixano_cli.inference_store.s3_blobs import S3Blobs

    return S3Blobs(named)


class FolderBlobs:
    """Blobs as files in a folder, which is made when the first one is put.

    No symbolic link below the folder is followed, so no key leads out of it.
    """

    def __init__(self, folder: Path) -> None:
        """Name the folder, which need not be there."""
        self.folder = folder
        self.name = str(folder)

    def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`; it is on the disk when this returns."""
        path = self._path(key)
        with self._told("written", key):
            self._make_folder(path.parent)
            incoming = self.folder / _INCOMING
            self._make_folder(incoming)
            temporary = incoming / f"{os.getpid()}-{secrets.token_hex(8)}"
            try:
                _write(temporary, data)
                temporary.replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
            _sync_folder(path.parent)

    def get(self, key: str) -> bytes:
        """Return what is under `key`."""
        path = self._path(key)
        with self._told("read", key), _nothing_there():
            if stat.S_ISREG(self._status(path).st_mode):
                with os.fdopen(os.open(path, _READING), "rb") as file:
                    return file.read()
        raise StoreError(f"there is no blob {_shown(key)} in {self.name}")

    def exists(self, key: str) -> bool:
        """Return whether there is a blob under `key`."""
        return self.size(key) is not None

    def size(self, key: str) -> int | None:
        """Return the size of the blob in bytes; None if there is none."""
        path = self._path(key)
        with self._told("read", key), _nothing_there():
            status = self._status(path)
            return status.st_size if stat.S_ISREG(status.st_mode) else None
        return None

    def delete(self, key: str) -> None:
        """Remove the blob; folders stay, since another may be on its way into them."""
        path = self._path(key)
        with self._told("deleted", key), _nothing_there():
            if stat.S_ISREG(self._status(path).st_mode):
                path.unlink()

    def keys(self) -> Iterator[str]:
        """Go through the keys of all blobs; files that are under no well-formed key are not."""
        with self._told("listed"):
            yield from _files_below(self.folder, "")

    def sweep(self) -> int:
        """Remove the unfinished files of processes that were killed more than a day ago."""
        removed = 0
        oldest = time() - STALE_AFTER_S
        incoming = self.folder / _INCOMING
        with self._told("swept"), _nothing_there():
            self._status(incoming)
            for file in incoming.iterdir():
                # Another process may be sweeping too.
                with contextlib.suppress(FileNotFoundError):
                    if file.lstat().st_mtime < oldest:
                        file.unlink()
                        removed += 1
        return removed

    def put_url(self, key: str) -> str:
        """Return the `file://` URL to write to, in a folder that is there."""
        path = self._path(key)
        with self._told("written", key):
            self._make_folder(path.parent)
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISDIR(_no_link(path).st_mode):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            return url_of(path)

    def get_url(self, key: str) -> str:
        """Return the `file://` URL of the blob, whether it is there or not."""
        path = self._path(key)
        with self._told("read", key), _nothing_there():
            self._status(path)
        return url_of(path)

    def _path(self, key: str) -> Path:
        check_key(key)
        return self.folder.joinpath(*key.split("/"))

    def _status(self, path: Path) -> os.stat_result:
        """Return what is known of a file or folder below this one, on no way through a link."""
        at = self.folder
        for part in path.relative_to(self.folder).parts:
            at = at / part
            status = _no_link(at)
        return status

    def _make_folder(self, folder: Path) -> None:
        """Make a folder in this one, one below the other, so that each lasts a power cut."""
        if not self.folder.is_dir():
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except FileExistsError as error:
                raise NotADirectoryError(
                    errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(self.folder)
                ) from error
            _sync_folder(self.folder.parent)
        at = self.folder
        for part in folder.relative_to(self.folder).parts:
            above, at = at, at / part
            try:
                at.mkdir()
            except FileExistsError:
                if not stat.S_ISDIR(_no_link(at).st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
            else:
                _sync_folder(above)

    @contextlib.contextmanager
    def _told(self, done: str, key: str | None = None) -> Iterator[None]:
        what = f"blob {_shown(key)} in {self.name}" if key else f"blobs in {self.name}"
        try:
            yield
        except (IsADirectoryError, NotADirectoryError) as error:
            if error.filename == os.fspath(self.folder):
                raise StoreError(f"{self.name} is a file, no folder to keep blobs in") from error
            raise StoreError(
                f"{what} cannot be {done}: one key's folder would be another key's blob"
            ) from error
        except (OSError, ValueError) as error:
            raise StoreError(f"{what} cannot be {done}: {_reason(error)}") from error


def _write(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, _NEW_FILE, 0o666), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _nothing_there() -> contextlib.AbstractContextManager[None]:
    """Leave the block where a file or folder is not there."""
    return contextlib.suppress(FileNotFoundError, NotADirectoryError)


def _no_link(path: Path) -> os.stat_result:
    """Return the status of what is there, which is no symbolic link."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise StoreError(f"{path} is a symbolic link: none is followed, it may lead elsewhere")
    return status


def _files_below(folder: Path, prefix: str) -> Iterator[str]:
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            key = prefix + entry.name
            if not is_key(key):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files_below(folder / entry.name, f"{key}/")
            elif entry.is_file(follow_symlinks=False):
                yield key


def _sync_folder(folder: Path) -> None:
    """Make new names last through a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _what_is_wrong(key: str) -> str | None:
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "it is no valid text"
    if not 0 < size <= LONGEST_KEY:
        return f"it has {size} bytes, not 1 to {LONGEST_KEY}"
    if _REFUSED.search(key):
        return "it holds a backslash or a control character"
    parts = key.split("/")
    for part in parts:
        if not part.strip(". "):
            return "one of its parts is empty or made of dots"
        if len(part.encode()) > LONGEST_PART:
            return f"one of its parts has more than {LONGEST_PART} bytes"
        if _DRIVE.match(part):
            return "one of its parts begins with a drive letter"
    if parts[0].casefold() == _INCOMING:
        return f"{_INCOMING} is where unfinished blobs are"
    return None


def _shown(key: str) -> str:
    return repr(key) if len(key) <= 100 else f"{key[:100]!r}..."


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return "the disk is full: free some space and run the same command again"
        if error.strerror:
            return error.strerror
    return " ".join(str(error).split())
