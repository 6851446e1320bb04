"""From the sources that a user names to the files in them, each with the name it has in outputs.

A source is a file, a folder, a pattern, or `-` for a list on stdin. What a source finds is named
by its path below a root:

- a folder is the root of what is in it: `photos/` gives `a/b.jpg`;
- a pattern's root is the folder in front of its first wildcard: so does `photos/*/*.jpg`;
- files named one by one share the deepest folder that holds them all: `photos/1.jpg` gives
  `1.jpg` when alone or beside `photos/2.jpg`, and `photos/1.jpg` beside `other/2.jpg`;
- what a list on stdin names shares one in the same way; a folder in the list counts as itself.

Where the sources have several roots, a name begins with the name of its root's folder:
`photos/a.jpg`, `other/a.jpg`. Of folders of one name, the second becomes `photos-2`, and so on, in
the order given. Sources with the same root count as one. Names are POSIX paths and valid
Unicode: bytes of a name that are no UTF-8 appear as `\\xe9`.
"""

# Strings and os.path, as Path changes what the user wrote, and is slow.
# ruff: noqa: PTH100, PTH112, PTH116, PTH117, PTH118, PTH119, PTH120
from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TextIO

from pixano_cli.errors import UsageError
from pixano_cli.media.walk import IMAGES, Sought, as_text, is_pattern, walk

STDIN = "-"
"""The source that stands for a list on stdin."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that a source named.

    Attributes:
        file_name: POSIX path below the source's root, prefixed where there are several roots;
            unique among what is found together, and valid Unicode.
        path: Absolute path to read it by, its links not resolved.
        root: The root as the user wrote it; `-` for a list on stdin.
        size: Size in bytes; -1 if the file cannot be looked at.
        mtime_ns: Time of the last modification in nanoseconds; -1 if it cannot be looked at.
    """

    file_name: str
    path: Path
    root: str
    size: int
    mtime_ns: int


def discover(
    sources: Sequence[str | os.PathLike[str]],
    *,
    recursive: bool = True,
    stdin: TextIO | None = None,
) -> Iterator[SourceFile]:
    """Find the files that `sources` name, lazily, in an order that depends on names alone.

    Sources come in the order given, what a folder or a pattern finds in the order of the paths'
    bytes. In folders, hidden names are passed over, links do not lead out, and a file counts
    as an image by its suffix or by its first bytes. A file that is named by itself always
    counts. So does a folder that cannot be listed, inside of one given: reading it fails, and so
    it is reported. Where sources overlap, a file comes once, where it is found first; two names
    of the same bytes, be it a copy or a link, are two files.

    What is in memory are the names in one folder a level, and with several sources or a list
    the names of all that was found.

    Args:
        sources: Files, folders, patterns (`*`, `?`, `[...]`, and `**` for any number of folders;
            no pattern if it exists by that very name), or `-`.
        recursive: Whether folders in a folder are looked into.
        stdin: Text that `-` reads, sys.stdin by default: paths relative to the current folder,
            one a line, or between NUL characters if there are any. A path that does not exist is
            found all the same, so that reading it reports it.

    Raises:
        UsageError: At the first step, if a source does not exist, a folder given cannot be
            listed, or a pattern selects no image.
    """
    return find(sources, IMAGES, recursive=recursive, stdin=stdin)


def find(
    sources: Sequence[str | os.PathLike[str]],
    sought: Sought,
    *,
    recursive: bool = True,
    stdin: TextIO | None = None,
) -> Iterator[SourceFile]:
    """Find what is sought in `sources`; see `discover`, which does so for images."""
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    parts = _parts([os.fspath(each) for each in sources], sought, recursive, stdin)
    prefixes = _prefixes(part.base for part in parts)
    overlap = len(parts) > 1 or parts[0].root == STDIN
    entries: set[str] = set()
    real = lru_cache(maxsize=256)(os.path.realpath)
    for part in parts:
        for found in part.found:
            if overlap:
                folder, name = os.path.split(found.path)
                entry = os.path.join(real(folder), name)
                if entry in entries:
                    continue
                entries.add(entry)
            yield SourceFile(
                file_name=_name(found, prefixes[part.base]),
                path=Path(found.path),
                root=as_text(part.root),
                size=found.size,
                mtime_ns=found.mtime_ns,
            )


class _Found(NamedTuple):
    path: str
    relative: str
    size: int = -1
    mtime_ns: int = -1


class _Part(NamedTuple):
    """What a source finds, the absolute root it is named from, and that as the user wrote it."""

    base: str
    root: str
    found: Iterator[_Found]


class _Kind(Enum):
    FILE = auto()
    FOLDER = auto()
    PATTERN = auto()
    LIST = auto()


def _parts(
    sources: Sequence[str], sought: Sought, recursive: bool, stdin: TextIO | None
) -> list[_Part]:
    """Look at every source, so that a mistake in the last one shows before any work is done."""
    if not sources:
        raise UsageError("no source given: name a file, a folder, a pattern, or - for a list")
    if sources.count(STDIN) > 1:
        raise UsageError("the source - is given twice, but stdin can be read only once")
    kinds = [_kind(source) for source in sources]
    files = [source for source, kind in zip(sources, kinds, strict=True) if kind is _Kind.FILE]
    base, root = _shared_folder(files)
    parts = []
    for source, kind in zip(sources, kinds, strict=True):
        match kind:
            case _Kind.FILE:
                parts.append(_Part(base, root, iter([_named(source, base)])))
            case _Kind.FOLDER:
                folder = _absolute(source)
                parts.append(_Part(folder, source, _walked(folder, (), sought, recursive)))
            case _Kind.PATTERN:
                parts.append(_pattern(source, sought, recursive))
            case _Kind.LIST:
                parts.append(_list(stdin or sys.stdin, sought, recursive))
    return parts


def _kind(source: str) -> _Kind:
    if source == STDIN:
        return _Kind.LIST
    try:
        os.lstat(source)
        if not os.path.isdir(source):
            return _Kind.FILE
    except (OSError, ValueError) as error:
        if is_pattern(source):
            return _Kind.PATTERN
        if isinstance(error, PermissionError):
            raise UsageError(f"cannot look at {source!r}: permission denied") from error
        raise UsageError(f"no such file or folder: {source!r}") from error
    _require_listable(source)
    return _Kind.FOLDER


def _require_listable(folder: str) -> None:
    try:
        os.scandir(folder).close()
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO).lower()
        raise UsageError(f"cannot list the folder {folder!r}: {reason}") from error


def _shared_folder(files: Sequence[str]) -> tuple[str, str]:
    """Return the deepest folder that holds all files, absolute and as the user wrote it."""
    if not files:
        return "", ""
    base = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files])
    if len({os.path.isabs(file) for file in files}) == 1:
        written = os.path.commonpath([os.path.dirname(file) for file in files]) or os.curdir
        if os.path.abspath(written) == base:
            return base, written
    return base, base


def _named(source: str, base: str) -> _Found:
    path = os.path.abspath(source)
    relative = path[len(base) :].lstrip(os.sep)
    try:
        status = os.stat(source)
    except (OSError, ValueError):
        return _Found(_absolute(source), relative)
    return _Found(_absolute(source), relative, status.st_size, status.st_mtime_ns)


def _walked(
    folder: str, segments: Sequence[str], sought: Sought, recursive: bool
) -> Iterator[_Found]:
    for seen in walk(folder, segments, recursive=recursive, sought=sought):
        path = os.path.join(folder, seen.relative) if seen.relative else folder
        yield _Found(path, *seen)


def _pattern(source: str, sought: Sought, recursive: bool) -> _Part:
    folder = os.sep if source.startswith(("/", os.sep)) else ""
    segments = [part for part in source.replace(os.sep, "/").split("/") if part not in ("", ".")]
    # A folder may be named like a pattern: `photos [2023]/*.jpg`.
    while len(segments) > 1 and (
        not is_pattern(segments[0]) or os.path.lexists(os.path.join(folder, segments[0]))
    ):
        folder = os.path.join(folder, segments.pop(0))
    folder = folder or os.curdir
    base = _absolute(folder)
    if os.path.isdir(base):
        _require_listable(folder)
        found = _walked(base, segments, sought, recursive)
        first = next(found, None)
        if first is not None:
            return _Part(base, folder, chain([first], found))
    raise UsageError(f"no {sought.name} matches {source!r}")


def _list(stdin: TextIO, sought: Sought, recursive: bool) -> _Part:
    # Read whole: whether NUL separates the paths, and which folder they share, only its end tells.
    try:
        binary = getattr(stdin, "buffer", None)
        text = binary.read() if binary is not None else os.fsencode(stdin.read())
    except (AttributeError, OSError, ValueError) as error:
        raise UsageError(f"the list on stdin cannot be read: {error}") from error
    folders = (
        path if os.path.isdir(path) else os.path.dirname(path)
        for path in map(os.path.abspath, _lines(text))
    )
    base = next(folders, "")
    for folder in folders:
        base = os.path.commonpath([base, folder])
    return _Part(base, STDIN, _listed(text, base, sought, recursive))


def _listed(text: bytes, base: str, sought: Sought, recursive: bool) -> Iterator[_Found]:
    for source in _lines(text):
        if not os.path.isdir(source):
            yield _named(source, base)
            continue
        below = os.path.abspath(source)[len(base) :].lstrip(os.sep)
        for found in _walked(_absolute(source), (), sought, recursive):
            relative = os.path.join(below, found.relative).rstrip(os.sep)
            yield found._replace(relative=relative)


def _lines(text: bytes) -> Iterator[str]:
    separator = b"\0" if b"\0" in text else b"\n"
    start = 0
    while start < len(text):
        end = text.find(separator, start)
        end = len(text) if end < 0 else end
        line = text[start:end]
        start = end + 1
        if separator == b"\n":
            line = b"" if line.isspace() else line.removesuffix(b"\r")
        if line:
            yield os.fsdecode(line)


def _name(found: _Found, prefix: str) -> str:
    if found.relative:
        return prefix + as_text(found.relative)
    name = as_text(os.path.basename(found.path))
    if found.size < 0:
        return prefix + name
    # A root that is sought itself: its label, or its own name, which nothing in it may have.
    own, count = name, 1
    while not prefix and os.path.lexists(os.path.join(found.path, own)):
        count += 1
        own = f"{name}-{count}"
    return prefix.removesuffix("/") or own


def _prefixes(bases: Iterable[str]) -> dict[str, str]:
    """Return by root what its files' names begin with: nothing if all roots are one folder."""
    folders = {base: os.path.realpath(base) for base in bases}
    if len(set(folders.values())) == 1:
        return dict.fromkeys(folders, "")
    labels: dict[str, str] = {}
    taken: set[str] = set()
    count: dict[str, int] = {}
    for base, folder in folders.items():
        if folder in labels:
            continue
        name = label = as_text(os.path.basename(os.path.abspath(base))) or "root"
        while label in taken:
            count[name] = count.get(name, 1) + 1
            label = f"{name}-{count[name]}"
        taken.add(label)
        labels[folder] = label
    return {base: labels[folder] + "/" for base, folder in folders.items()}


def _absolute(path: str) -> str:
    # Not normalised: `link/..` is not where abspath takes it to be.
    return str(Path(path).absolute())
