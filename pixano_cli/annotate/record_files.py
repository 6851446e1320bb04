"""The files that records are about, each with a name of its own and what is known of its size.

A file's size is that which the store knows of its content, else that in the records' metadata
(`width`, `height` and `orientation`, all int), else that of the input itself, which the store
then knows from there on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256

from sqlalchemy import ColumnElement, Connection, select

from pixano_cli.errors import MediaError, StoreError
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.blobs import BlobStorage
from pixano_cli.inference_store.by_file import FileRecords, file_urls, is_named, pages_by_file
from pixano_cli.inference_store.connection import blobs_of
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.inputs import InputError, read_input
from pixano_cli.inference_store.ledger import Picture, insert_new, pictures
from pixano_cli.media import identity

_metadata = schema.metadata
_SIZE_KEYS = ("width", "height", "orientation")
# Parquet files hold sizes in 32 bits.
_LARGEST_SIDE = 2**31 - 1
# A statement takes some 30,000 values, and a file may have more records.
_ASKED_A_FILE = 100
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Failed:
    """A file that cannot be exported, and why."""

    name: str
    error_class: str
    message: str


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file with its records, under a name that no other file has, and its size."""

    name: str
    file: FileRecords
    picture: Picture


@dataclass(frozen=True, slots=True)
class RecordFiles:
    """The files that records are about, sorted by name.

    Several files of one name are told apart by their sha256, which each of them gets before the
    suffix, as in `cat~SHA256.jpg`: which of them has the name now is not known.

    Attributes:
        store: The store.
        connection: A connection to it that sees one state.
        condition: On the table of inferences: which records.
    """

    store: Store
    connection: Connection
    condition: ColumnElement[bool]

    def __iter__(self) -> Iterator[NamedFile | Failed]:
        """Yield the files; those of unknown size have failed. Memory stays bounded.

        Raises:
            StoreError: If the database fails, or the storage of inputs where they are needed.
        """
        last: str | None = None
        waiting: tuple[FileRecords, Picture | Failed] | None = None
        # One file behind, for whether a name is another file's too is told by its neighbours.
        for file, picture in self._sized():
            if waiting is not None:
                name = waiting[0].name
                yield self._named(*waiting, is_shared=name in (last, file.name))
                last = name
            waiting = file, picture
        if waiting is not None:
            yield self._named(*waiting, is_shared=waiting[0].name == last)

    def _sized(self) -> Iterator[tuple[FileRecords, Picture | Failed]]:
        blobs = blobs_of(self.store)
        for page in pages_by_file(self.connection, self.condition):
            known = pictures(self.store, [file.data_hash for file in page])
            unknown = [file for file in page if file.data_hash not in known]
            said = _said(self.connection, unknown) if unknown else {}
            unsaid = [file.data_hash for file in unknown if file.records[0].id not in said]
            urls = file_urls(self.connection, unsaid) if unsaid else {}
            learnt: dict[str, Picture] = {}
            for file in page:
                picture = known.get(file.data_hash) or said.get(file.records[0].id)
                if picture is not None:
                    yield file, picture
                    continue
                try:
                    yield file, _look(blobs, file, urls.get(file.data_hash, ()), learnt)
                except (InputError, MediaError) as error:
                    message = f"its size is recorded nowhere, and cannot be found: {error}"
                    yield file, Failed(file.name, type(error).__name__, message)
            if learnt:
                # Without it the next export is slower, and no more.
                with suppress(StoreError), self.store.write() as connection:
                    rows = [asdict(picture) for picture in learnt.values()]
                    insert_new(connection, schema.images, rows, ["sha256"])

    def _named(
        self, file: FileRecords, picture: Picture | Failed, *, is_shared: bool
    ) -> NamedFile | Failed:
        name = self._name(file) if is_shared else file.name
        if isinstance(picture, Failed):
            return Failed(name, picture.error_class, picture.message)
        return NamedFile(name, file, picture)

    def _name(self, file: FileRecords) -> str:
        """Return a name with the file's digest before its suffix, which no other file has."""
        digest = file.data_hash
        if not _DIGEST.fullmatch(digest):
            digest = sha256(digest.encode()).hexdigest()
        folder, slash, base = file.name.rpartition("/")
        stem, dot, suffix = base.rpartition(".")
        if not stem:
            stem, dot, suffix = base, "", ""
        mark = f"~{digest}"
        while is_named(
            self.connection, self.condition, f"{folder}{slash}{stem}{mark}{dot}{suffix}"
        ):
            mark += "~"
        return f"{folder}{slash}{stem}{mark}{dot}{suffix}"


def _look(
    blobs: BlobStorage, file: FileRecords, urls: Sequence[str], learnt: dict[str, Picture]
) -> Picture:
    """Return what the input itself says, and learn it if it is what the records say it is."""
    data = read_input(blobs, file.records, urls)
    facts = identity.probe(data)
    picture = Picture(
        file.data_hash, len(data), facts.width, facts.height, facts.orientation, facts.format
    )
    if identity.sha256(data) == file.data_hash:
        learnt[file.data_hash] = picture
    return picture


def _said(connection: Connection, files: Sequence[FileRecords]) -> dict[int, Picture]:
    """Return the sizes that metadata says, by the id of a file's first record."""
    asked = [record.id for file in files for record in file.records[:_ASKED_A_FILE]]
    query = select(_metadata.c.inference, _metadata.c.key, _metadata.c.value).where(
        _metadata.c.inference.in_(asked),
        _metadata.c.key.in_(_SIZE_KEYS),
        _metadata.c.type == "int",
    )
    values: dict[int, dict[str, int]] = {}
    for row, key, value in connection.execute(query):
        # A number of more than ten digits is no side, and may be more than Python reads.
        if re.fullmatch(r"\+?[0-9]{1,10}", value):
            values.setdefault(row, {})[key] = int(value)
    said: dict[int, Picture] = {}
    for file in files:
        for record in file.records[:_ASKED_A_FILE]:
            size = values.get(record.id, {})
            width, height = size.get("width", 0), size.get("height", 0)
            orientation = size.get("orientation", 1)
            if 0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE:
                said[file.records[0].id] = Picture(
                    file.data_hash,
                    record.data_size,
                    width,
                    height,
                    orientation if 1 <= orientation <= 8 else 1,
                    "",
                )
                break
    return said
