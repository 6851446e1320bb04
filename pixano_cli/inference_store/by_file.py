"""Records in order of the files they are about, as exports read them.

A record's file is named by its metadata `file_name`, a string; one without it by its id. A file
is known by its name and the sha256 of its content. Everything is read on one connection, which
sees one state of the store however long it takes, and memory does not grow with the records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, func, literal_column, select

from pixano_cli.inference_store import schema
from pixano_cli.inference_store.database import STREAMED

FILE_NAME = "file_name"
"""The metadata that names a record's file."""

# Answers of a page are in memory at once, and some hold many masks.
FILES_A_PAGE = 100

_table, _metadata, _embeddings = schema.inferences, schema.metadata, schema.embeddings
_frames = schema.frames

NAMES_FILE = and_(
    _metadata.c.inference == _table.c.id,
    _metadata.c.key == literal_column(f"'{FILE_NAME}'"),
    _metadata.c.type == literal_column("'string'"),
)
"""Joins to an inference the row of metadata that names its file."""

_name = func.coalesce(_metadata.c.value, _table.c.inference_id)
_ROWS = (
    select(
        _table,
        _embeddings.c.vector,
        _frames.c.frame_index,
        _frames.c.timestamp_s,
        _frames.c.file_name.label("frame_file"),
    )
    .outerjoin(_embeddings, _embeddings.c.inference == _table.c.id)
    .outerjoin(_frames, _frames.c.inference == _table.c.id)
    .where(_table.c.id.in_(bindparam("rows", expanding=True)))
)


@dataclass(frozen=True, slots=True)
class FileRecords:
    """A file, and the records about it in order of model and id.

    Attributes:
        name: Its name, whatever that is: it may be of any form.
        data_hash: What the records give as the sha256 of its content.
        records: Rows of the table of inferences, each with its `vector` if it is an embedding, and
            its `frame_index` and `timestamp_s` if it is of a video's frame; with `frame_file`, the
            name of that frame's own file, where the video is a folder.
    """

    name: str
    data_hash: str
    records: Sequence[Row[Any]]

    @property
    def video(self) -> str | None:
        """The name of the video that this is a frame of; None for any other file."""
        is_frame = self.records[0].frame_index is not None
        # A frame is named by its video's name, and one of its own.
        return self.name.rpartition("/")[0] if is_frame else None


def pages_by_file(
    connection: Connection, condition: ColumnElement[bool]
) -> Iterator[list[FileRecords]]:
    """Yield the files that records are about, in order of name, then of sha256, in pages.

    Args:
        connection: A connection that reads one state, and is used for nothing else but reading.
        condition: On the table of inferences: which records.
    """
    query = (
        select(_table.c.id, _name, _table.c.data_hash)
        .select_from(_table.outerjoin(_metadata, NAMES_FILE))
        .where(condition)
        .order_by(_name, _table.c.data_hash)
        .execution_options(**STREAMED)
    )
    # The database sorts ids alone; what the records hold is read afterwards, a page at a time.
    found = connection.execute(query)
    files = (
        (name, data_hash, [row for row, *_ in rows])
        for (name, data_hash), rows in groupby(found, key=lambda row: (row[1], row[2]))
    )
    while page := list(islice(files, FILES_A_PAGE)):
        records = _records(connection, [row for *_, rows in page for row in rows])
        yield [
            FileRecords(name, data_hash, sorted((records[row] for row in rows), key=_by_id))
            for name, data_hash, rows in page
        ]


def is_named(connection: Connection, condition: ColumnElement[bool], name: str) -> bool:
    """Return whether a record for which the condition holds is about a file of this name."""
    query = select(_table.c.id).select_from(_table.outerjoin(_metadata, NAMES_FILE))
    query = query.where(condition, _name == name)
    return connection.execute(query.limit(1)).first() is not None


def file_urls(connection: Connection, digests: Sequence[str]) -> dict[str, list[str]]:
    """Return the URLs of files that had this content when they were last read, by sha256."""
    files = schema.files
    query = select(files.c.sha256, files.c.url).where(files.c.sha256.in_(digests))
    found: dict[str, list[str]] = {}
    for sha256, url in connection.execute(query.order_by(files.c.url)):
        found.setdefault(sha256, []).append(url)
    return found


def _by_id(record: Row[Any]) -> tuple[str, str]:
    # Not sorted by the database, whose order of model ids is that of its language.
    return record.model_id, record.inference_id


def _records(connection: Connection, rows: Sequence[int]) -> dict[int, Row[Any]]:
    records: dict[int, Row[Any]] = {}
    for start in range(0, len(rows), FILES_A_PAGE):
        some = {"rows": rows[start : start + FILES_A_PAGE]}
        records |= {record.id: record for record in connection.execute(_ROWS, some)}
    return records
