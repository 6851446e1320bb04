"""Labelled boxes from a file, as prompts: a COCO file, or a Parquet file that this tool wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from pixano_cli.annotations import Box, Category
from pixano_cli.errors import UsageError
from pixano_cli.formats.categories import METADATA_KEY, parse_categories, read_categories
from pixano_cli.formats.text import parse_json, shown

_PARQUET_MAGIC = b"PAR1"
_BATCH_IMAGES = 1024
_PARQUET_COLUMNS = {"label", "score", "bbox"}
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


def read_boxes(path: Path) -> Mapping[str, tuple[LabelledBox, ...]]:
    """Read the boxes of each image, by the image's `file_name` as it stands in the file.

    The content tells the format, whatever the suffix. An image without boxes has an empty tuple.
    The boxes are in the order of the file. Crowd annotations (`iscrowd`) and boxes without an
    inside are left out. A COCO file is held in memory while it is read, a Parquet file is read
    in batches and without its masks.

    Raises:
        UsageError: If the file cannot be read, or is neither format, or a box of it is wrong.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_PARQUET_MAGIC))
            content = b"" if head == _PARQUET_MAGIC else head + file.read()
    except OSError as error:
        raise UsageError(f"cannot read boxes {shown(path)}: {error.strerror}") from error
    if head == _PARQUET_MAGIC:
        return _by_image(_from_parquet(path))
    return _from_coco(parse_json(content, path), path)


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


def _from_coco(document: Any, path: Path) -> Mapping[str, tuple[LabelledBox, ...]]:
    if isinstance(document, list):
        raise UsageError(
            f"{shown(path)} is a bare list of results, which has no file names: give a whole COCO "
            'file, with "images", "annotations" and "categories"'
        )
    images, annotations, categories = (
        _rows(document, name, path) for name in ("images", "annotations", "categories")
    )
    file_names = _by_id(images, "file_name", "image", path)
    labels = _by_id(categories, "name", "category", path)
    found: dict[str, list[LabelledBox]] = {name: [] for name in file_names.values()}
    for row in annotations:
        if row.get("iscrowd"):
            continue
        where = f"{shown(path)}: annotation {row.get('id')!r:.60}"
        file_name = _named(file_names, row.get("image_id"), "image_id", where)
        label = _named(labels, row.get("category_id"), "category_id", where)
        x, y, width, height = _numbers(row.get("bbox"), where)
        box = Box(x, y, x + width, y + height)
        if not box.is_empty:
            found[file_name].append(LabelledBox(label, box, _score(row.get("score"), where)))
    return {file_name: tuple(boxes) for file_name, boxes in found.items()}


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


def _named(names: dict[Any, str], number: Any, key: str, where: str) -> str:
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


def _is_number(value: Any) -> bool:
    try:
        return type(value) in (int, float) and isfinite(value)
    except OverflowError:  # an int that no float can hold
        return False


def _by_image(
    rows: Iterable[tuple[str, list[LabelledBox]]],
) -> Mapping[str, tuple[LabelledBox, ...]]:
    found: dict[str, tuple[LabelledBox, ...]] = {}
    for file_name, boxes in rows:
        found[file_name] = (*found.get(file_name, ()), *boxes)
    return found


def _from_parquet(path: Path) -> Iterator[tuple[str, list[LabelledBox]]]:
    with _parquet(path) as file:
        columns = _parquet_columns(file, path)
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


def _parquet_columns(file: Any, path: Path) -> list[str]:
    """Return the columns to read, which are those without the masks."""
    import pyarrow as pa

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
    ):
        raise UsageError(
            f"{shown(path)} is not a Parquet file of annotations that pixano-annotate wrote"
        )
    leaves = (file.schema.column(at).path for at in range(len(file.schema)))
    return [
        leaf
        for leaf in leaves
        if leaf == "file_name"
        or (leaf.startswith("annotations.") and not _PARQUET_COLUMNS.isdisjoint(leaf.split(".")))
    ]


def _batch(batch: Any, path: Path) -> Iterator[tuple[str, list[LabelledBox]]]:
    file_names = batch.column("file_name").to_pylist()
    lists = batch.column("annotations")
    values = lists.flatten()
    labels = values.field("label").to_pylist()
    has_score = any(field.name == "score" for field in values.type)
    scores = values.field("score").to_pylist() if has_score else [None] * len(values)
    boxes = zip(*(values.field("bbox").field(side).to_pylist() for side in _SIDES), strict=True)
    rows = zip(labels, boxes, scores, strict=True)
    for file_name, length in zip(file_names, lists.value_lengths().to_pylist(), strict=True):
        if file_name is None:
            raise UsageError(f"{shown(path)} has a row without a file_name")
        where = f"{shown(path)}: an annotation of {file_name!r}"
        found = []
        for _ in range(length or 0):
            label, corners, score = next(rows)
            if not isinstance(label, str):
                raise UsageError(f"{where} has no label")
            if not all(map(_is_number, corners)):
                raise UsageError(f"{where} has a bbox that is not 4 finite numbers")
            box = Box(*corners)
            if not box.is_empty:
                found.append(LabelledBox(label, box, _score(score, where)))
        yield file_name, found
