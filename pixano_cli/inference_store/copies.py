"""The files that hold a content, as far as the store knows them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote

from sqlalchemy import Connection, Row, select

from pixano_cli.inference_store import schema
from pixano_cli.inference_store.by_file import NAMES_FILE, file_urls

T = TypeVar("T")

CONTENTS_A_STATEMENT = 20_000
"""Of so many what is known of the files is in memory at once."""

_table, _metadata, _files = schema.inferences, schema.metadata, schema.files


@dataclass(frozen=True, slots=True)
class Copy:
    """A file with a content.

    Attributes:
        url: Where it was last read; None if no file is known, but only a record of one.
        file_name: Its name as it was recorded; None where only the URL is known.
        data_source: Where it was recorded to be from, likewise.
        data_hash: sha256 of the content.
        inference_id: Id of an inference about the content.
    """

    url: str | None
    file_name: str | None
    data_source: str | None
    data_hash: str
    inference_id: str


def read_copies(
    connection: Connection, rows: Sequence[int], is_gone: Callable[[str], bool]
) -> dict[int, list[Copy]]:
    """Return the files with the contents that inferences are about, by the inference's row.

    Those that inferences name come first, in the order of the inferences, then all others that
    have been read. A file that has another content since is not among them.

    Args:
        connection: A connection to the database in a transaction.
        rows: Rows of the inferences; of those about one content, all that are of interest.
        is_gone: Tells of a URL whether its file is to be left out.
    """
    query = (
        select(_table.c.id, _table.c.inference_id, _table.c.data_hash, _table.c.data_source)
        .add_columns(_table.c.request_key, _metadata.c.value.label("file_name"))
        .select_from(_table.outerjoin(_metadata, NAMES_FILE))
    )
    about: dict[str, list[Row[Any]]] = {}
    for some in _parts(sorted(rows)):
        wanted = query.where(_table.c.id.in_(some)).order_by(_table.c.id)
        for record in connection.execute(wanted):
            about.setdefault(record.data_hash, []).append(record)
    copies: dict[int, list[Copy]] = {}
    for digests in _parts(list(about)):
        urls = file_urls(connection, digests)
        for digest in digests:
            records = about[digest]
            found = _copies(records, urls.get(digest, []))
            there = [each for each in found if each.url is None or not is_gone(each.url)]
            copies |= {record.id: there for record in records}
    return copies


def _copies(records: Sequence[Row[Any]], urls: Sequence[str]) -> list[Copy]:
    """Return the files with a content, given the inferences about it and what files have it."""
    left = dict.fromkeys(urls)
    copies: dict[object, Copy] = {}
    for each in records:
        place = each.file_name, each.data_source
        if place in copies:
            continue
        url = _named(*place, left)
        # What the tool asked for is of a file that it read: one of another content by now.
        if url is not None or each.request_key is None:
            copies[place] = Copy(url, *place, each.data_hash, each.inference_id)
        if url is not None:
            del left[url]
    first = records[0]
    others = (Copy(url, None, None, first.data_hash, first.inference_id) for url in left)
    return [*copies.values(), *others]


def _named(file_name: str | None, data_source: str | None, urls: Iterable[str]) -> str | None:
    """Return the URL that a name in a data source stands for, if it is one of these.

    A data source is as it was written, and may be relative to a folder that nobody knows.
    """
    if not file_name:
        return None
    named = [url for url in urls if _path(url).endswith(f"/{file_name}")]
    whole = os.path.normpath(f"{data_source or '.'}/{file_name}").lstrip("./")
    return next((url for url in named if _path(url).endswith(f"/{whole}")), None) or next(
        iter(named), None
    )


def _path(url: str) -> str:
    return unquote(url, errors="surrogateescape")


def _parts(those: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(those), CONTENTS_A_STATEMENT):
        yield those[start : start + CONTENTS_A_STATEMENT]
