"""Walk a folder for images, or for what else is sought: all, or what a pattern selects, in order.

The order is that of the bytes of the POSIX paths below the root, so it does not depend on the
file system, the locale or the machine. One folder's names are in memory at a time, for each
folder on the way down to the current one.

Symbolic links never lead out of the root: such a link is left out, and one log line counts them.
A link to a file inside the root is a name of its own, like any second name of the same bytes. A
link to a folder inside the root is followed only where the walk would not see that folder
otherwise (below a hidden folder, or because a pattern selects the link's name), never upwards,
and no folder is walked whole twice.
"""

# Strings and os.path, as a walk may see millions of names, and Path is slow.
# ruff: noqa: PTH116, PTH118, PTH120, PTH122, PTH123, PTH206
from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Container, Iterator, Sequence
from fnmatch import translate
from typing import NamedTuple, Protocol

from pixano_cli.media.identity import SIGNATURE_BYTES, sniff

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff"}
    | {".bmp", ".dib", ".gif", ".avif"}
)
"""Suffixes, in lower case, that claim an image in a supported format."""

_log = logging.getLogger(__name__)

_ALL = -1
_FILES_ONLY = -2

States = frozenset[int]
"""How far a pattern is matched at a folder: indices of the segments that may come next.

_ALL: all below the folder is selected; _FILES_ONLY: so are the files in it, but no folder.
"""


class Seen(NamedTuple):
    """Something that an image is to be read from, or what else is sought.

    Attributes:
        relative: Path below the walked root.
        size: Size in bytes; -1 if it cannot be looked at: a link that leads nowhere, a folder that
            cannot be listed.
        mtime_ns: Time of the last modification in nanoseconds; -1 if it cannot be looked at.
    """

    relative: str
    size: int = -1
    mtime_ns: int = -1


class Sought(Protocol):
    """What a walk looks for.

    Attributes:
        name: What a single one is called.
        can_be_folder: Whether a folder can be one as a whole.
    """

    name: str
    can_be_folder: bool

    def claims(self, path: str) -> bool:
        """Whether a name says that it is one."""

    def is_one(self, path: str) -> bool:
        """Whether a regular file is one although its name does not say so."""

    def in_folder(self, folder: str) -> Seen | None:
        """Return a folder in which no file is one, if it is one as a whole."""


class Images:
    """Images: what has an image's suffix or begins like one."""

    name = "image"
    can_be_folder = False

    def claims(self, path: str) -> bool:
        """Whether a name has an image's suffix."""
        return has_suffix(path, IMAGE_SUFFIXES)

    def is_one(self, path: str) -> bool:
        """Whether a file begins like an image."""
        return sniff(read_head(path)) is not None

    def in_folder(self, folder: str) -> Seen | None:
        """Return None: a folder is no image."""


IMAGES = Images()


class _Entry(NamedTuple):
    # A folder's key ends in a slash, which puts it where its content's paths belong.
    key: bytes
    is_folder: bool
    target: str | None = None
    leads_out: bool = False

    @property
    def name(self) -> str:
        return os.fsdecode(self.key.rstrip(b"/"))


def is_pattern(source: str) -> bool:
    """Whether `source` has a wildcard in it: `*`, `?` or `[`."""
    return re.search(r"[*?[]", source) is not None


def walk(
    root: str, segments: Sequence[str] = (), *, recursive: bool = True, sought: Sought = IMAGES
) -> Iterator[Seen]:
    """Find the images below a folder, or what else is sought.

    What has the suffix and is no image after all (a pipe, a link that leads nowhere) is found too,
    and a folder that cannot be listed is, so that either is reported by whoever tries to read it.

    Args:
        root: The folder.
        segments: A pattern's parts between slashes: `*`, `?` and `[...]` stand for characters of
            one name, `**` for any number of folders. A folder that the pattern selects is taken
            with its content, as when a shell expands the pattern. None: everything is selected.
        recursive: Whether folders in a selected folder are walked too.
        sought: What is looked for.
    """
    return _Walk(root, segments, recursive, sought).found()


class _Walk:
    def __init__(self, root: str, segments: Sequence[str], recursive: bool, sought: Sought) -> None:
        self._root = root
        self._sought = sought
        self._real_root = os.path.realpath(root)
        if segments and segments[-1] == "**":
            segments = [*segments, "*"]
        self._segments = [_Segment(each) for each in segments]
        self._whole = _ALL if recursive else _FILES_ONLY
        self._walked: set[tuple[int, int]] = set()
        self._left_out = 0
        self._first_left_out = ""

    def found(self) -> Iterator[Seen]:
        start = self._closure({0}) if self._segments else frozenset({self._whole})
        listing = self._listing("")
        if listing is None:
            yield Seen("")
            return
        listing, whole = self._as_one("", start, listing)
        if whole:
            yield whole
        stack = [("", start, iter(listing))]
        while stack:
            folder, states, entries = stack[-1]
            entry = next(entries, None)
            if entry is None:
                stack.pop()
                continue
            below = self._step(states, entry)
            if not below:
                continue
            relative = folder + entry.name
            if entry.leads_out:
                self._leave_out(relative, entry)
            elif not entry.is_folder:
                if self._is_selected(below) and (seen := self._look_at(relative)):
                    yield seen
            elif self._enters(relative, entry, below):
                listing = self._listing(relative)
                if listing is None:
                    yield Seen(relative)
                    continue
                listing, whole = self._as_one(relative, below, listing)
                if whole:
                    yield whole
                stack.append((relative + os.sep, below, iter(listing)))
        if self._left_out:
            _log.warning(
                "%d symbolic links lead out of %r and are not followed (%r is one): "
                "name what they lead to as a source",
                self._left_out,
                self._root,
                self._first_left_out,
            )

    def _as_one(
        self, folder: str, states: States, listing: list[_Entry]
    ) -> tuple[list[_Entry], Seen | None]:
        """Return what is left to look at in a folder, and the folder if it is one as a whole."""
        if not self._sought.can_be_folder or states.isdisjoint({_ALL, _FILES_ONLY}):
            return listing, None
        for entry in listing:
            is_passed_over = entry.is_folder or entry.leads_out or entry.name.startswith(".")
            if not is_passed_over and self._look_at(os.path.join(folder, entry.name)):
                return listing, None
        seen = self._sought.in_folder(os.path.join(self._root, folder))
        folders = [entry for entry in listing if entry.is_folder or entry.leads_out]
        return folders, seen and seen._replace(relative=folder)

    def _closure(self, states: set[int]) -> States:
        reached = set(states)
        for state in sorted(states):
            while 0 <= state < len(self._segments) and self._segments[state].is_deep:
                state += 1
                reached.add(state)
        return frozenset(reached)

    def _is_selected(self, states: States) -> bool:
        return not states.isdisjoint({len(self._segments), _ALL, _FILES_ONLY})

    def _step(self, states: States, entry: _Entry) -> States:
        """Say what is selected at or below an entry of a folder; nothing if the set is empty."""
        name = entry.name
        after: set[int] = set()
        for state in states:
            if state < 0:
                if not name.startswith(".") and not (entry.is_folder and state == _FILES_ONLY):
                    after.add(state)
            elif state < len(self._segments):
                segment = self._segments[state]
                if not segment.is_deep:
                    if segment.matches(name):
                        after.add(state + 1)
                elif entry.is_folder and entry.target is None and not name.startswith("."):
                    after.add(state)
        if entry.is_folder and len(self._segments) in after and self._segments:
            after.add(self._whole)
        return self._closure(after)

    def _enters(self, relative: str, entry: _Entry, states: States) -> bool:
        path = os.path.join(self._root, relative)
        if entry.target is not None:
            parent = os.path.realpath(os.path.dirname(path))
            if _is_within(parent, entry.target):
                return False
            selected_by_name = self._segments and len(self._segments) in states
            inside = os.path.relpath(entry.target, self._real_root).split(os.sep)
            if (
                _ALL in states
                and not selected_by_name
                and not any(part.startswith(".") for part in inside)
            ):
                return False
        if states.isdisjoint({_ALL, _FILES_ONLY}):
            return True
        try:
            status = os.stat(path)
        except OSError:
            return True
        identity = (status.st_dev, status.st_ino)
        if identity in self._walked:
            return False
        self._walked.add(identity)
        return True

    def _listing(self, relative: str) -> list[_Entry] | None:
        """Return a folder's entries in order; None if it cannot be listed."""
        entries = []
        try:
            with os.scandir(os.path.join(self._root, relative)) as scan:
                for each in scan:
                    if each.is_symlink():
                        entries.append(self._resolved(each))
                    else:
                        entries.append(_entry(each.name, each.is_dir(follow_symlinks=False)))
        except OSError:
            return None
        entries.sort()
        return entries

    def _resolved(self, link: os.DirEntry[str]) -> _Entry:
        try:
            is_folder = stat.S_ISDIR(os.stat(link.path).st_mode)
        except OSError:
            return _entry(link.name, False)
        target = os.path.realpath(link.path)
        entry = _entry(link.name, is_folder)
        return entry._replace(target=target, leads_out=not _is_within(target, self._real_root))

    def _leave_out(self, relative: str, link: _Entry) -> None:
        if link.is_folder or self._sought.claims(relative):
            self._left_out += 1
            self._first_left_out = self._first_left_out or relative

    def _look_at(self, relative: str) -> Seen | None:
        path = os.path.join(self._root, relative)
        claims = self._sought.claims(relative)
        try:
            status = os.stat(path)
        except OSError:
            return Seen(relative) if claims else None
        if claims or (stat.S_ISREG(status.st_mode) and self._sought.is_one(path)):
            return Seen(relative, status.st_size, status.st_mtime_ns)
        return None


class _Segment:
    def __init__(self, text: str) -> None:
        self.is_deep = text == "**"
        self._text = text
        self._match = re.compile(translate(text)).match

    def matches(self, name: str) -> bool:
        if name.startswith(".") and not self._text.startswith("."):
            return False
        return self._match(name) is not None


def _entry(name: str, is_folder: bool) -> _Entry:
    return _Entry(os.fsencode(name) + (b"/" if is_folder else b""), is_folder)


def has_suffix(path: str, suffixes: Container[str]) -> bool:
    """Whether a path has one of the suffixes, which are in lower case."""
    return os.path.splitext(path)[1].lower() in suffixes


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def read_head(path: str, count: int = SIGNATURE_BYTES) -> bytes:
    """Return a file's first bytes; none if it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(count)
    except OSError:
        return b""


def as_text(path: str) -> str:
    """Return a path as a POSIX path in valid Unicode: bytes that are no UTF-8 as `\\xe9`."""
    path = path.replace(os.sep, "/")
    try:
        path.encode()
    except UnicodeEncodeError:
        return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return path
