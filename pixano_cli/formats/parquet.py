"""Parquet: one row an image or a video's frame, of plain Arrow types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from pyarrow import parquet as pq

from pixano_cli.annotations import AnnotatedImage, Annotation, Category
from pixano_cli.formats.atomic import replacing
from pixano_cli.formats.categories import METADATA_KEY, category_row
from pixano_cli.formats.coco import AREA_DECIMALS
from pixano_cli.formats.text import portable

BOX = pa.struct([(side, pa.float64()) for side in ("xmin", "ymin", "xmax", "ymax")])
MASK = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
ANNOTATION = pa.struct(
    [
        ("id", pa.int64()),
        ("label", pa.string()),
        ("category_id", pa.int64()),
        ("score", pa.float64()),
        ("bbox", BOX),
        ("area", pa.float64()),
        ("mask", MASK),
        ("track_id", pa.int64()),
    ]
)
SCHEMA = pa.schema(
    [
        ("file_name", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("orientation", pa.int32()),
        ("video", pa.string()),
        ("frame_index", pa.int64()),
        ("timestamp_s", pa.float64()),
        ("caption", pa.string()),
        ("annotations", pa.list_(ANNOTATION)),
    ]
)


_GROUP_IMAGES = 16_384
_GROUP_ANNOTATIONS = 16_384
_GROUP_MASK_BYTES = 8 << 20
_REPEATING = [
    "width",
    "height",
    "orientation",
    "video",
    "annotations.list.element.label",
    "annotations.list.element.category_id",
]


def write_parquet(
    images: Iterable[AnnotatedImage],
    path: Path,
    categories: Sequence[Category],
    provenance: Mapping[str, Any],
) -> None:
    """Write images as a Parquet file; equal input gives equal bytes.

    Memory is that of one row group, which is bounded by images, annotations and bytes of masks.
    The file's metadata holds, under `pixano`, a JSON object: `provenance` and `categories`.

    Args:
        images: Numbered images, in the order of the output; read once.
        path: The file, replaced at once when it is complete.
        categories: The whole label set.
        provenance: What made the annotations, of values that JSON has.

    Raises:
        OutputError: If the file cannot be written; an earlier version of it is left as it was.
    """
    schema = SCHEMA.with_metadata({METADATA_KEY: _metadata(categories, provenance)})
    with (
        replacing(path) as temporary,
        temporary.open("wb") as out,
        pq.ParquetWriter(out, schema, compression="zstd", use_dictionary=_REPEATING) as writer,
    ):
        for group in _groups(images):
            writer.write_table(_table(group, schema), row_group_size=len(group))


def _metadata(categories: Sequence[Category], provenance: Mapping[str, Any]) -> bytes:
    return orjson.dumps({**provenance, "categories": [category_row(each) for each in categories]})


def _groups(images: Iterable[AnnotatedImage]) -> Iterable[list[AnnotatedImage]]:
    """Cut the images into row groups, by what they hold and not by how they arrive."""
    group: list[AnnotatedImage] = []
    annotations = mask_bytes = 0
    for image in images:
        group.append(image)
        annotations += len(image.annotations)
        mask_bytes += sum(
            len(each.mask.counts) for each in image.annotations if each.mask is not None
        )
        if (
            len(group) >= _GROUP_IMAGES
            or annotations >= _GROUP_ANNOTATIONS
            or mask_bytes >= _GROUP_MASK_BYTES
        ):
            yield group
            group = []
            annotations = mask_bytes = 0
    if group:
        yield group


def _table(images: list[AnnotatedImage], schema: pa.Schema) -> pa.Table:
    found = [each for image in images for each in image.annotations]
    offsets = accumulate((len(image.annotations) for image in images), initial=0)
    columns = [
        _strings([image.file_name for image in images]),
        _strings([image.sha256 for image in images]),
        pa.array([image.width for image in images], pa.int32()),
        pa.array([image.height for image in images], pa.int32()),
        pa.array([image.orientation for image in images], pa.int32()),
        _strings([image.video for image in images]),
        pa.array([image.frame_index for image in images], pa.int64()),
        pa.array([image.timestamp_s for image in images], pa.float64()),
        _strings([image.caption for image in images]),
        pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), _annotations(found)),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _annotations(found: list[Annotation]) -> pa.StructArray:
    corners = np.fromiter(
        chain.from_iterable(each.box for each in found), dtype=np.float64, count=4 * len(found)
    ).reshape(-1, 4)
    columns = [
        pa.array([each.id for each in found], pa.int64()),
        _strings([each.label for each in found]),
        pa.array([each.category_id for each in found], pa.int64()),
        pa.array([each.score for each in found], pa.float64()),
        pa.StructArray.from_arrays([pa.array(side) for side in corners.T], fields=[*BOX]),
        pa.array([round(float(each.area), AREA_DECIMALS) for each in found], pa.float64()),
        _masks(found),
        pa.array([each.track_id for each in found], pa.int64()),
    ]
    return pa.StructArray.from_arrays(columns, fields=[*ANNOTATION])


def _masks(found: list[Annotation]) -> pa.StructArray:
    masks = [each.mask for each in found]
    columns = [
        pa.array([None if mask is None else mask.size for mask in masks], MASK[0].type),
        pa.array([None if mask is None else mask.counts for mask in masks], MASK[1].type),
    ]
    missing = pa.array([mask is None for mask in masks], pa.bool_())
    return pa.StructArray.from_arrays(columns, fields=[*MASK], mask=missing)


def _strings(values: Sequence[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array(
            [None if value is None else portable(value) for value in values], pa.string()
        )
