r"""Names of files, whoever gave them, made into paths that are safe to unpack anywhere.

A safe path is relative, with `/` between its parts, and leads nowhere but down: no part is
empty or made of dots, none holds a character that some file system refuses or reads as a
separator or a drive (`\`, `:`), ends in a blank or a dot, or has the name of a device of Windows.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import unicodedata
from types import TracebackType

LONGEST_PART = 200
LONGEST_PATH = 800
"""Bytes in UTF-8. File systems take 255 a part, and some programs 1,024 in all."""

UNNAMED = "unnamed"

# Control characters, what Windows refuses, what is no character at all, and marks that make a
# name look like another one.
_REFUSED = re.compile(
    r'[\x00-\x1f\x7f-\x9f<>:"|?*\\\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]'
)
_DEVICES = re.compile(r"(?:CON|PRN|AUX|NUL|COM[0-9¹²³]|LPT[0-9¹²³])(?:\..*)?", re.IGNORECASE)
_FILE, _FOLDER = 0, 1


def safe_path(name: str) -> str:
    """Return the safe path for a name; a safe and short name is returned as it is.

    What is refused becomes `_`. What is too long is cut, and gets a part of its digest. Different
    names may have the same path: see `Paths`.
    """
    parts = [_safe_part(part) for part in name.split("/") if part not in ("", ".")]
    path = "/".join(parts)
    if len(path.encode()) <= LONGEST_PATH:
        return path or UNNAMED
    return f"{_digest(name)}/{parts[-1]}"


def _safe_part(part: str) -> str:
    safe = _REFUSED.sub("_", part)
    if safe.endswith((".", " ")):
        safe = f"{safe[:-1]}_"
    if safe.startswith(" "):
        safe = f"_{safe[1:]}"
    if _DEVICES.fullmatch(safe):
        safe = f"_{safe}"
    if len(safe.encode()) > LONGEST_PART:
        stem, suffix = _split(safe)
        mark = f"~{_digest(part)}{suffix}"
        safe = _cut(stem, LONGEST_PART - len(mark.encode())) + mark
    return safe


class Paths:
    """Gives each file a path that none has, whatever a file system takes for the same.

    Two paths are the same where only case or the composition of characters differs; and no file
    stands where a folder is wanted. What has been given is in a nameless file on the disk, so
    memory does not grow with it.
    """

    def __init__(self, folder: str) -> None:
        """Begin; all paths are in `folder`, which may be empty for none."""
        self._folder = f"{folder}/" if folder else ""
        # SQLite's name for a database in a file of its own that is gone when it is closed.
        self._given = sqlite3.connect("", isolation_level=None)
        self._given.execute("PRAGMA journal_mode=OFF")
        self._given.execute("PRAGMA synchronous=OFF")
        self._given.execute(
            "CREATE TABLE given (path TEXT PRIMARY KEY, kind INT, last INT) WITHOUT ROWID"
        )
        self._last_folder = ""

    def __enter__(self) -> Paths:
        """Return it itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Forget what was given."""
        self._given.close()

    def give(self, name: str) -> str:
        """Return the safe path for a file of this name; the same calls give the same paths."""
        parts = safe_path(name).split("/")
        folder = self._make(parts[:-1])
        path = f"{folder}{parts[-1]}"
        number = self._claim(path, _FILE)
        return self._folder + (path if number == 1 else f"{folder}{_numbered(parts[-1], number)}")

    def _make(self, parts: list[str]) -> str:
        """Claim folders, one in the other; return their path, another one where files stand."""
        wanted = "".join(f"{part}/" for part in parts)
        if wanted == self._last_folder:
            return wanted
        made = ""
        for part in parts:
            number = self._claim(f"{made}{part}", _FOLDER)
            made += f"{part if number == 1 else _numbered(part, number)}/"
        if made == wanted:
            self._last_folder = made
        return made

    def _claim(self, path: str, kind: int) -> int:
        """Claim a path, or the first numbered one that can be had; return its number, from 1."""
        if self._is_new(path, kind):
            return 1
        key = (_same(path),)
        taken: int
        number: int
        taken, number = self._given.execute(
            "SELECT kind, last FROM given WHERE path = ?", key
        ).fetchone()
        # A folder is there once, however many files are in it.
        if taken == kind == _FOLDER:
            return 1
        if kind == _FOLDER:
            number = 1
        folder, slash, part = path.rpartition("/")
        while True:
            number += 1
            numbered = f"{folder}{slash}{_numbered(part, number)}"
            if self._is_new(numbered, kind) or (kind == _FOLDER and self._is_folder(numbered)):
                break
        if kind == _FILE:
            # So that the next one of this name need not try all numbers again.
            self._given.execute("UPDATE given SET last = ? WHERE path = ?", (number, *key))
        return number

    def _is_new(self, path: str, kind: int) -> bool:
        row = (_same(path), kind)
        return bool(
            self._given.execute("INSERT OR IGNORE INTO given VALUES (?, ?, 1)", row).rowcount
        )

    def _is_folder(self, path: str) -> bool:
        query = "SELECT kind FROM given WHERE path = ?"
        return bool(self._given.execute(query, (_same(path),)).fetchone()[0] == _FOLDER)


def _same(path: str) -> str:
    """Return what is equal for paths that some file system takes for the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def _numbered(part: str, number: int) -> str:
    stem, suffix = _split(part)
    return f"{stem}~{number}{suffix}"


def _split(part: str) -> tuple[str, str]:
    """Split off a suffix that is short enough to be one."""
    stem, dot, suffix = part.rpartition(".")
    if not stem or len(suffix.encode()) > 16:
        return part, ""
    return stem, dot + suffix


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
