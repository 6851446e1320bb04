"""An archive of records: a zip file with their inputs, annotations and metadata.

It holds, for records sorted by the name of their file:

- `inputs/...`: the inputs, each under its file's name made safe: see `safe_paths`. A video is
  there once for all of its frames.
- `annotations.jsonl`: an object a file: `path`, its input's in the archive; `annotations`, if
  they are wanted: those of all records about the file that have a list of elements. An
  annotation has `class_label`, and by its model's task `bbox` {xmin, ymin, xmax, ymax},
  `oriented_bbox` {cx, cy, w, h, r} or `contour` [[{x, y}, ...], ...]; whatever else its element
  has (`score`, `rle`, ...) is kept as it is. A file whose input is gone has `missing`, true, and
  there is nothing under its path. A frame of a video has `frame_index`, the source's, and
  `timestamp_s`; its path is the video's, or its own file's where the video is a folder.
- `inferences.jsonl`: an object a record: `path`, then what an Inference has: its id, times,
  hash, source and so on, `data`, the answer itself, as JSON, and `metadata`, if it is wanted.

The same records give the same bytes, wherever and whenever it is written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson
from sqlalchemy import ColumnElement, Connection, Row

from pixano_cli.errors import MediaError
from pixano_cli.inference_store.blobs import BlobStorage
from pixano_cli.inference_store.by_file import FileRecords, file_urls, pages_by_file
from pixano_cli.inference_store.inputs import InputError, find_input, read_input
from pixano_cli.inference_store.metadata import metadata_of
from pixano_cli.inference_store.models import Metadata, TaskType
from pixano_cli.inference_store.records import from_bytes
from pixano_cli.inference_store.safe_paths import Paths
from pixano_cli.inference_store.times import from_microseconds
from pixano_cli.inference_store.zip_writer import ZipWriter
from pixano_cli.media.identity import SIGNATURE_BYTES, open_file, read_file, sniff

INPUTS = "inputs"
ANNOTATIONS = "annotations.jsonl"
INFERENCES = "inferences.jsonl"

SHAPES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    TaskType.OBJECT_DETECTION.value: ("bbox", ("xmin", "ymin", "xmax", "ymax")),
    TaskType.ORIENTED_OBJECT_DETECTION.value: ("oriented_bbox", ("cx", "cy", "w", "h", "r")),
}
"""How an annotation names the shape that elements of a task have, and what it consists of."""

_COMPRESSED = {"JPEG", "PNG", "WEBP", "GIF", "AVIF"}
_BUFFER = 1 << 20


@dataclass(slots=True)
class Archived:
    """What is in an archive.

    Attributes:
        records: How many records.
        files: How many files they are about.
        empty: How many of those have no annotation.
        annotations: How many annotations there are.
        missing: How many of those are without their input.
        first_missing: The name of the first of these, and why.
    """

    records: int = 0
    files: int = 0
    empty: int = 0
    annotations: int = 0
    missing: int = 0
    first_missing: str = ""


def write_archive(
    path: Path,
    connection: Connection,
    condition: ColumnElement[bool],
    blobs: BlobStorage,
    *,
    annotations: bool,
    metadata: bool,
    advance: Callable[[int], None] = lambda records: None,
) -> Archived:
    """Write records as an archive; memory does not grow with them, except by one input's size.

    Args:
        path: The file, which is overwritten; beside it is room for nameless files.
        connection: A connection that reads one state.
        condition: On the table of inferences: which records.
        blobs: The storage of their inputs.
        annotations: Whether their elements go along as annotations.
        metadata: Whether their metadata goes along.
        advance: Told how many records are in it, now and then.

    Raises:
        StoreError: If the database fails.
        OSError: If it cannot be written.
    """
    archived = Archived()
    with ExitStack() as opened:
        out = opened.enter_context(ZipWriter(path))
        inputs = _Inputs(out, opened.enter_context(Paths(INPUTS)), blobs)
        lines, records = (
            opened.enter_context(tempfile.TemporaryFile(dir=path.parent, buffering=_BUFFER))
            for _ in range(2)
        )
        for page in pages_by_file(connection, condition):
            known = _metadata(connection, page) if metadata else {}
            urls = file_urls(connection, [file.data_hash for file in page])
            for file in page:
                within, missing = inputs.add(file, urls.get(file.data_hash, ()))
                first = file.records[0]
                frame: dict[str, Any] = {}
                if file.video is not None:
                    frame = {"frame_index": first.frame_index, "timestamp_s": first.timestamp_s}
                line: dict[str, Any] = {"path": within, **frame}
                if annotations:
                    line["annotations"] = [*_annotations(file)]
                    archived.annotations += len(line["annotations"])
                    archived.empty += not line["annotations"]
                if missing is not None:
                    line["missing"] = True
                    archived.missing += 1
                    archived.first_missing = archived.first_missing or f"{file.name}: {missing}"
                lines.write(_line(line))
                for record in file.records:
                    records.write(_line(_inference(record, line["path"], known.get(record.id))))
                archived.files += 1
                archived.records += len(file.records)
                advance(archived.records)
        for name, spool in ((ANNOTATIONS, lines), (INFERENCES, records)):
            _add_spool(out, name, spool)
    return archived


def archived_annotation(task_type: str, element: Mapping[str, Any]) -> dict[str, Any]:
    """Return an element as an annotation: its label and shape, then whatever else it has.

    A shape that is not whole stays as it is, under the element's own keys.
    """
    rest = dict(element)
    annotation: dict[str, Any] = {"class_label": rest.pop("label")}
    name, parts = SHAPES.get(task_type, ("", ()))
    if parts and all(part in rest for part in parts):
        annotation[name] = {part: rest.pop(part) for part in parts}
    if task_type == TaskType.IMAGE_SEGMENTATION.value and "contour" in rest:
        annotation["contour"] = rest.pop("contour")
    return annotation | {key: value for key, value in rest.items() if key not in annotation}


def _annotations(file: FileRecords) -> Iterator[dict[str, Any]]:
    for record in file.records:
        if record.version == "v2" and record.data is not None:
            for element in orjson.loads(record.data):
                yield archived_annotation(record.task_type, element)


def _inference(record: Row[Any], path: str, metadata: list[Metadata] | None) -> dict[str, Any]:
    line: dict[str, Any] = {
        "path": path,
        "model_id": record.model_id,
        "inference_id": record.inference_id,
        "created_at": from_microseconds(record.created_at).isoformat(),
        "updated_at": from_microseconds(record.updated_at).isoformat(),
        "inference_action": record.inference_action,
        "version": record.version,
        "data_hash": record.data_hash,
        "data_size": record.data_size,
        "data_source": record.data_source,
        "data_coordinates": None
        if record.latitude is None
        else {"latitude": record.latitude, "longitude": record.longitude},
        "data_storage_key": record.data_storage_key,
        "is_protected": record.is_protected,
    }
    if record.vector is not None:
        line["data"] = from_bytes(record.vector)
    else:
        # The text as it was stored, which may hold numbers that parsing would change.
        line["data"] = None if record.data is None else orjson.Fragment(record.data)
    if metadata is not None:
        line["metadata"] = [each.model_dump() for each in metadata]
    return line


class _Inputs:
    """The inputs in an archive."""

    def __init__(self, out: ZipWriter, paths: Paths, blobs: BlobStorage) -> None:
        self._out = out
        self._paths = paths
        self._blobs = blobs
        # By name and digest: the path of a video in the archive, or the folder of its frames.
        self._videos: dict[tuple[str, str], tuple[str | Path, str | None]] = {}

    def add(self, file: FileRecords, urls: Sequence[str]) -> tuple[str, str | None]:
        """Add a file's input; return its path, and where it is gone the reason.

        Raises:
            StoreError: If the storage fails.
        """
        if file.video is None or any(each.data_storage_key for each in file.records):
            path = self._paths.give(file.name)
            return path, self._add(path, lambda: read_input(self._blobs, file.records, urls))
        key = (file.video, file.data_hash)
        if key not in self._videos:
            self._videos[key] = self._add_video(file, urls)
        found, missing = self._videos[key]
        if isinstance(found, str):
            return found, missing
        path = self._paths.give(file.name)
        frame = found / file.records[0].frame_file
        return path, self._add(path, lambda: read_file(frame))

    def _add(self, path: str, read: Callable[[], bytes]) -> str | None:
        try:
            data = read()
        except (InputError, MediaError) as error:
            return str(error)
        self._out.add(path, data, compress=sniff(data[:SIGNATURE_BYTES]) not in _COMPRESSED)
        return None

    def _add_video(self, file: FileRecords, urls: Sequence[str]) -> tuple[str | Path, str | None]:
        """Add a video's file, or find the folder of its frames."""
        assert file.video is not None
        try:
            source = find_input(file.data_hash, urls)
        except InputError as error:
            return self._paths.give(file.video), str(error)
        if source.is_dir():
            return source, None
        path = self._paths.give(file.video)
        with open_file(source) as stream:
            self._out.add_stream(path, stream, source.stat().st_size, compress=False)
        return path, None


def _add_spool(out: ZipWriter, name: str, spool: IO[bytes]) -> None:
    size = spool.tell()
    spool.seek(0)
    out.add_stream(name, spool, size, compress=True)


def _metadata(connection: Connection, page: list[FileRecords]) -> dict[int, list[Metadata]]:
    return metadata_of(connection, [record.id for file in page for record in file.records])


def _line(content: Mapping[str, Any]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
