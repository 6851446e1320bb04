"""Label sets: from a file that says which categories and ids to use, and into the outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pixano_cli.annotations import Category
from pixano_cli.errors import UsageError
from pixano_cli.formats.text import parse_json, portable, shown

METADATA_KEY = "pixano"
"""Where a Parquet file's metadata holds, as JSON, its provenance and its categories."""

_MAX_ID = 2**63 - 1


def read_categories(path: Path) -> tuple[Category, ...]:
    """Read a label set, in the order of the file.

    A file that starts with `[` or `{` is JSON: a list of `{"id", "name", "supercategory"?}`, or a
    COCO file, of which the `categories` are read. Any other file is UTF-8 text with one label a
    line, which get the ids 1, 2, ...; empty lines and blanks around a label do not count.

    Raises:
        UsageError: If the file cannot be read, holds no label, or an id or a name twice, or an
            id that is not a whole number from 0.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read categories {shown(path)}: {error.strerror}") from error
    if content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"[", b"{"):
        return parse_categories(parse_json(content, path), path)
    return _checked(_from_text(content, path), path)


def parse_categories(document: Any, path: Path) -> tuple[Category, ...]:
    """Read a label set from the JSON of a file: a list, or an object with `categories`.

    Raises:
        UsageError: As `read_categories`.
    """
    return _checked(_from_json(document, path), path)


def category_row(category: Category) -> dict[str, Any]:
    """Return a category as COCO writes it, and the Parquet file's metadata."""
    row: dict[str, Any] = {"id": category.id, "name": portable(category.name)}
    if category.supercategory is not None:
        row["supercategory"] = portable(category.supercategory)
    return row


def _from_text(content: bytes, path: Path) -> tuple[Category, ...]:
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{shown(path)} is neither JSON nor UTF-8 text with one label a line"
        ) from error
    names = [line.strip() for line in lines if line.strip()]
    for name in names:
        if "\t" in name:
            raise UsageError(
                f"{shown(path)}: {name!r:.60} is not a label: a text file has one label a line, "
                "to give ids use JSON"
            )
    return tuple(Category(number, name) for number, name in enumerate(names, start=1))


def _from_json(document: Any, path: Path) -> tuple[Category, ...]:
    rows = document.get("categories") if isinstance(document, dict) else document
    if not isinstance(rows, list):
        raise UsageError(
            f'{shown(path)} has no "categories" list: give a COCO file, a JSON list of '
            '{"id", "name"}, or a text file with one label a line'
        )
    return tuple(_category(row, f"{shown(path)}: category {at}") for at, row in enumerate(rows, 1))


def _category(row: Any, where: str) -> Category:
    if not isinstance(row, dict):
        raise UsageError(f'{where} is not an object with "id" and "name"')
    number, name, supercategory = row.get("id"), row.get("name"), row.get("supercategory")
    if type(number) is not int or not 0 <= number <= _MAX_ID:
        raise UsageError(f'{where} has no "id" that is a whole number from 0: {number!r:.60}')
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f'{where} has no "name": {name!r:.60}')
    if supercategory is not None and not isinstance(supercategory, str):
        raise UsageError(f'{where} has a "supercategory" that is not text: {supercategory!r:.60}')
    return Category(number, name, supercategory)


def _checked(categories: tuple[Category, ...], path: Path) -> tuple[Category, ...]:
    if not categories:
        raise UsageError(f"{shown(path)} holds no categories")
    numbers: set[int] = set()
    names: set[str] = set()
    for category in categories:
        if category.id in numbers:
            raise UsageError(f"{shown(path)} has two categories with the id {category.id}")
        if category.name in names:
            raise UsageError(f"{shown(path)} has two categories named {category.name!r}")
        numbers.add(category.id)
        names.add(category.name)
    return categories
