"""Labelled boxes from a file, as prompts: a COCO file, or a Parquet file that this tool wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from pixano_cli.annotations import Box, Category
from pixano_cli.errors import UsageError
from pixano_cli.formats.categories import METADATA_KEY, parse_categories, read_categories
from pixano_cli.formats.text import parse_json, shown

T = TypeVar("T")

_MAX_ID = 2**63 - 1
_PARQUET_MAGIC = b"PAR1"
_BATCH_IMAGES = 1024
_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """A box with the name of what is in it.

    Attributes:
        label: Class name.
        box: Box in displayed pixels, not empty, as the file has it: not clipped to the image.
        score: Confidence in [0, 1]; None if the file has none.
    """

    label: str
    box: Box
    score: float | None = None


@dataclass(slots=True)
class BoxedFrame:
    """The boxes of an image that may be a video's frame, as the file has them.

    Attributes:
        file_name: The image's `file_name`.
        video: Name of the video the frame is of, if the file says so.
        frame_index: Index of the frame in its video, if the file says so.
        boxes: In the order of the file.
        track_ids: For each box the identity of its object through the video, if the file has one.
    """

    file_name: str
    video: str | None = None
    frame_index: int | None = None
    boxes: list[LabelledBox] = field(default_factory=list)
    track_ids: list[int | None] = field(default_factory=list)


def read_boxes(path: Path) -> Mapping[str, tuple[LabelledBox, ...]]:
    """Read the boxes of each image, by the image's `file_name` as it stands in the file.

    The content tells the format, whatever the suffix. An image without boxes has an empty tuple.
    The boxes are in the order of the file. Crowd annotations (`iscrowd`) and boxes without an
    inside are left out. A COCO file is held in memory while it is read, a Parquet file is read
    in batches and without its masks. What either says of videos is not looked at.

    Raises:
        UsageError: If the file cannot be read, or is neither format, or a box of it is wrong.
    """
    found: dict[str, tuple[LabelledBox, ...]] = {}
    for image in _read(path, of_videos=False):
        found[image.file_name] = (*found.get(image.file_name, ()), *image.boxes)
    return found


def read_boxed_frames(path: Path) -> Iterator[BoxedFrame]:
    """Read the boxes of each image as `read_boxes` does, with what the file says of videos.

    That is a COCO file's `videos`, each image's `video_id` and `frame_index` and each annotation's
    `track_id`, or a Parquet file's columns `video` and `frame_index` and each annotation's
    `track_id`, all of which may be missing.

    Raises:
        UsageError: As `read_boxes`, and if what it says of videos is wrong.
    """
    return _read(path, of_videos=True)


def _read(path: Path, *, of_videos: bool) -> Iterator[BoxedFrame]:
    try:
        with path.open("rb") as file:
            head = file.read(len(_PARQUET_MAGIC))
            content = b"" if head == _PARQUET_MAGIC else head + file.read()
    except OSError as error:
        raise UsageError(f"cannot read boxes {shown(path)}: {error.strerror}") from error
    if head == _PARQUET_MAGIC:
        return _from_parquet(path, of_videos)
    return _from_coco(parse_json(content, path), path, of_videos)


def read_box_categories(path: Path) -> tuple[Category, ...] | None:
    """Read the label set of a file of boxes; None if it is a Parquet file that names none.

    Raises:
        UsageError: If the file cannot be read, or its label set is wrong.
    """
    try:
        with path.open("rb") as file:
            is_parquet = file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
    except OSError as error:
        raise UsageError(f"cannot read boxes {shown(path)}: {error.strerror}") from error
    if not is_parquet:
        return read_categories(path)
    with _parquet(path) as file:
        metadata = file.schema_arrow.metadata or {}
    document = parse_json(metadata.get(METADATA_KEY.encode(), b"{}"), path)
    if not isinstance(document, dict) or not document.get("categories"):
        return None
    return parse_categories(document, path)


def _from_coco(document: Any, path: Path, of_videos: bool) -> Iterator[BoxedFrame]:
    if isinstance(document, list):
        raise UsageError(
            f"{shown(path)} is a bare list of results, which has no file names: give a whole COCO "
            'file, with "images", "annotations" and "categories"'
        )
    rows, annotations, categories = (
        _rows(document, name, path) for name in ("images", "annotations", "categories")
    )
    videos = _video_names(document, path) if of_videos else {}
    file_names = _by_id(rows, "file_name", "image", path)
    labels = _by_id(categories, "name", "category", path)
    images = {number: BoxedFrame(name) for number, name in file_names.items()}
    if of_videos:
        for row in rows:
            _place(images[row["id"]], row, videos, f"{shown(path)}: image {row['id']!r:.60}")
    for row in annotations:
        if row.get("iscrowd"):
            continue
        where = f"{shown(path)}: annotation {row.get('id')!r:.60}"
        image = _named(images, row.get("image_id"), "image_id", where)
        label = _named(labels, row.get("category_id"), "category_id", where)
        x, y, width, height = _numbers(row.get("bbox"), where)
        box = Box(x, y, x + width, y + height)
        if not box.is_empty:
            image.boxes.append(LabelledBox(label, box, _score(row.get("score"), where)))
            track_id = _whole(row.get("track_id"), "track_id", where) if of_videos else None
            image.track_ids.append(track_id)
    return iter(images.values())


def _video_names(document: dict[str, Any], path: Path) -> dict[Any, str]:
    if document.get("videos") is None:
        return {}
    rows = _rows(document, "videos", path)
    # Ours have a name, YouTube-VIS and others a file_name.
    key = "name" if all("name" in row for row in rows) else "file_name"
    return _by_id(rows, key, "video", path)


def _place(image: BoxedFrame, row: dict[str, Any], videos: dict[Any, str], where: str) -> None:
    if row.get("video_id") is not None:
        image.video = _named(videos, row["video_id"], "video_id", where)
    image.frame_index = _whole(row.get("frame_index"), "frame_index", where)


def _rows(document: Any, name: str, path: Path) -> list[dict[str, Any]]:
    rows = document.get(name) if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise UsageError(f'{shown(path)} is not a COCO file: it has no "{name}" list')
    if not all(isinstance(row, dict) for row in rows):
        raise UsageError(f'{shown(path)} is not a COCO file: "{name}" is not a list of objects')
    return rows


def _by_id(rows: list[dict[str, Any]], key: str, kind: str, path: Path) -> dict[Any, str]:
    names: dict[Any, str] = {}
    for row in rows:
        number, name = row.get("id"), row.get(key)
        if type(number) not in (int, str):
            raise UsageError(f'{shown(path)}: {kind} {name!r:.60} has no "id"')
        if number in names:
            raise UsageError(f"{shown(path)} has two of {kind} {number!r:.60}")
        if not isinstance(name, str) or not name:
            raise UsageError(f'{shown(path)}: {kind} {number!r:.60} has no "{key}"')
        names[number] = name
    return names


def _named(names: dict[Any, T], number: Any, key: str, where: str) -> T:
    if type(number) not in (int, str) or number not in names:
        raise UsageError(f'{where} has an unknown "{key}": {number!r:.60}')
    return names[number]


def _numbers(bbox: Any, where: str) -> tuple[float, float, float, float]:
    if isinstance(bbox, list) and len(bbox) == 4 and all(map(_is_number, bbox)):
        x, y, width, height = map(float, bbox)
        return x, y, width, height
    raise UsageError(f'{where} has no "bbox" of 4 finite numbers: {bbox!r:.60}')


def _score(score: Any, where: str) -> float | None:
    if score is None:
        return None
    if not _is_number(score):
        raise UsageError(f'{where} has a "score" that is no finite number: {score!r:.60}')
    return float(score)


def _whole(number: Any, key: str, where: str) -> int | None:
    if number is None:
        return None
    if type(number) is not int or not 0 <= number <= _MAX_ID:
        raise UsageError(f'{where} has a "{key}" that is no whole number from 0: {number!r:.60}')
    return number


def _is_number(value: Any) -> bool:
    try:
        return type(value) in (int, float) and isfinite(value)
    except OverflowError:  # an int that no float can hold
        return False


def _from_parquet(path: Path, of_videos: bool) -> Iterator[BoxedFrame]:
    with _parquet(path) as file:
        columns = _parquet_columns(file, path, of_videos)
        for batch in file.iter_batches(batch_size=_BATCH_IMAGES, columns=columns):
            yield from _batch(batch, path)


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import parquet as pq

    try:
        with path.open("rb") as source, pq.ParquetFile(source) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"cannot read Parquet {shown(path)}: {reason:.200}") from error


def _parquet_columns(file: Any, path: Path, of_videos: bool) -> list[str]:
    """Return the columns to read, which are those without the masks."""
    import pyarrow as pa

    def is_whole(kind: Any) -> bool:
        return bool(pa.types.is_integer(kind) or pa.types.is_null(kind))

    strings = (pa.string(), pa.large_string())
    schema = file.schema_arrow
    kinds = {name: schema.field(name).type for name in schema.names}
    annotations = kinds.get("annotations", pa.null())
    is_list = isinstance(annotations, pa.ListType | pa.LargeListType)
    inner = annotations.value_type if is_list else pa.null()
    fields = {field.name: field.type for field in inner} if pa.types.is_struct(inner) else {}
    box = fields.get("bbox", pa.null())
    if (
        kinds.get("file_name") not in strings
        or fields.get("label") not in strings
        or not pa.types.is_struct(box)
        or not all(pa.types.is_floating(field.type) for field in box)
        or not {*_SIDES} <= {field.name for field in box}
        or not pa.types.is_floating(fields.get("score", pa.float64()))
        or (of_videos and kinds.get("video", pa.null()) not in (*strings, pa.null()))
        or (of_videos and not is_whole(kinds.get("frame_index", pa.null())))
        or (of_videos and not is_whole(fields.get("track_id", pa.null())))
    ):
        raise UsageError(
            f"{shown(path)} is not a Parquet file of annotations that pixano-annotate wrote"
        )
    wanted = {"file_name", "video", "frame_index"} if of_videos else {"file_name"}
    inner_wanted = {"label", "score", "bbox"} | ({"track_id"} if of_videos else set())
    leaves = (file.schema.column(at).path for at in range(len(file.schema)))
    return [
        leaf
        for leaf in leaves
        if leaf in wanted
        or (leaf.startswith("annotations.") and not inner_wanted.isdisjoint(leaf.split(".")))
    ]


def _batch(batch: Any, path: Path) -> Iterator[BoxedFrame]:
    file_names, videos, frame_indexes = (
        batch.column(name).to_pylist() if name in batch.schema.names else [None] * len(batch)
        for name in ("file_name", "video", "frame_index")
    )
    lists = batch.column("annotations")
    values = lists.flatten()
    labels, scores, track_ids = (
        values.field(name).to_pylist() if values.type.get_field_index(name) >= 0 else repeat(None)
        for name in ("label", "score", "track_id")
    )
    boxes = zip(*(values.field("bbox").field(side).to_pylist() for side in _SIDES), strict=True)
    rows = zip(labels, boxes, scores, track_ids, strict=False)
    lengths = lists.value_lengths().to_pylist()
    for file_name, video, frame_index, length in zip(
        file_names, videos, frame_indexes, lengths, strict=True
    ):
        if file_name is None:
            raise UsageError(f"{shown(path)} has a row without a file_name")
        where = f"{shown(path)}: an annotation of {file_name!r}"
        frame_index = _whole(frame_index, "frame_index", f"{shown(path)}: {file_name!r}")
        image = BoxedFrame(file_name, video, frame_index)
        for _ in range(length or 0):
            label, corners, score, track_id = next(rows)
            if not isinstance(label, str):
                raise UsageError(f"{where} has no label")
            if not all(map(_is_number, corners)):
                raise UsageError(f"{where} has a bbox that is not 4 finite numbers")
            box = Box(*corners)
            if not box.is_empty:
                image.boxes.append(LabelledBox(label, box, _score(score, where)))
                image.track_ids.append(_whole(track_id, "track_id", where))
        yield image
