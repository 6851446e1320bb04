"""COCO instances JSON, as the COCO API reads it (https://cocodataset.org/#format-data).

One object a line, so that diff and grep work on the file. Boxes are [x, y, width, height] in
pixels of the displayed image; masks are compressed RLE.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from pixano_cli.annotations import AnnotatedImage, Annotation, Category
from pixano_cli.formats.atomic import replacing
from pixano_cli.formats.categories import category_row
from pixano_cli.formats.text import portable

LENGTH_DECIMALS = 6
AREA_DECIMALS = 4
"""Decimals kept of a difference and of a product of coordinates: more than any model resolves,
fewer than the noise of float arithmetic reaches (10.1 - 0.1 is 10.0)."""

_BUFFER = 1 << 20


def write_coco(
    images: Iterable[AnnotatedImage],
    path: Path,
    categories: Sequence[Category],
    provenance: Mapping[str, Any],
) -> None:
    """Write images as a COCO file; equal input gives equal bytes.

    Memory does not grow with the images or their annotations, only with the number of videos: the
    annotations, which stand behind the images, wait in a nameless file on the same disk.

    Args:
        images: Numbered images, in the order of the output; read once.
        path: The file, replaced at once when it is complete.
        categories: The whole label set.
        provenance: Becomes `info`; of values that JSON has, in the order to be written.

    Raises:
        OutputError: If the file cannot be written; an earlier version of it is left as it was.
    """
    videos: dict[str, int] = {}
    with (
        replacing(path) as temporary,
        temporary.open("wb", buffering=_BUFFER) as out,
        tempfile.TemporaryFile(dir=temporary.parent, buffering=_BUFFER) as waiting,
    ):
        out.write(
            b'{"info": ' + orjson.dumps(dict(provenance)) + b',\n"licenses": [],\n"categories": ['
        )
        out.write(_lines(map(category_row, categories)))
        out.write(b'],\n"images": [')
        image_separator = annotation_separator = b"\n"
        for image in images:
            out.write(image_separator + orjson.dumps(_image(image, videos)))
            image_separator = b",\n"
            if image.annotations:
                objects = [orjson.dumps(_annotation(each, image.id)) for each in image.annotations]
                waiting.write(annotation_separator + b",\n".join(objects))
                annotation_separator = b",\n"
        if videos:
            out.write(b'\n],\n"videos": [')
            out.write(_lines({"id": number, "name": name} for name, number in videos.items()))
        out.write(b'\n],\n"annotations": [')
        waiting.seek(0)
        shutil.copyfileobj(waiting, out, _BUFFER)
        out.write(b"\n]}\n")


def _lines(objects: Iterable[dict[str, Any]]) -> bytes:
    return b"\n" + b",\n".join(map(orjson.dumps, objects))


def _image(image: AnnotatedImage, videos: dict[str, int]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": image.id,
        "file_name": portable(image.file_name),
        "width": image.width,
        "height": image.height,
    }
    if image.video is not None:
        row["video_id"] = videos.setdefault(portable(image.video), len(videos) + 1)
        row["frame_index"] = image.frame_index
    return row


def _annotation(annotation: Annotation, image_id: int) -> dict[str, Any]:
    xmin, ymin, xmax, ymax = annotation.box
    row: dict[str, Any] = {
        "id": annotation.id,
        "image_id": image_id,
        "category_id": annotation.category_id,
        "bbox": [
            float(xmin),
            float(ymin),
            round(float(xmax - xmin), LENGTH_DECIMALS),
            round(float(ymax - ymin), LENGTH_DECIMALS),
        ],
        "area": round(float(annotation.area), AREA_DECIMALS),
        "iscrowd": 0,
    }
    if annotation.score is not None:
        row["score"] = float(annotation.score)
    if annotation.mask is not None:
        row["segmentation"] = annotation.mask.to_dict()
    if annotation.track_id is not None:
        row["track_id"] = annotation.track_id
    return row
