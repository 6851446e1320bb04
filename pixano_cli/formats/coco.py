"""COCO instances JSON, as the COCO API reads it (https://cocodataset.org/#format-data).

One object a line, so that diff and grep work on the file. Boxes are [x, y, width, height] in
pixels of the displayed image; masks are compressed RLE.

Frames of videos are images that say more, so that tools of both kinds read the file:

- `videos` has `{id, name, width, height}` of each, in order of appearance, with the size of its
  first frame.
- An image has `video_id`, `frame_index` (its place in the source, from 0; as TAO names it),
  `frame_id` (its place among the frames of its video in this file, from 0 and without gaps; as
  mmtracking's CocoVID needs it) and `timestamp_s`.
- An annotation has `video_id`, `track_id` (unique in its video, as everywhere else) and
  `instance_id` (the track's number in the whole file, from 1; as CocoVID names it). A tool that
  wants track ids to be unique across videos, as TAO's results do, takes `instance_id`.
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
    videos = _Videos()
    with (
        replacing(path) as temporary,
        temporary.open("wb", buffering=_BUFFER) as out,
        tempfile.TemporaryFile(dir=temporary.parent, buffering=_BUFFER) as waiting,
    ):
        out.write(
            b'{"info": ' + orjson.dumps(dict(provenance)) + b',\n"licenses": [],\n"categories": ['
        )
        out.write(json_lines(map(category_row, categories)))
        out.write(b'],\n"images": [')
        image_separator = annotation_separator = b"\n"
        for image in images:
            out.write(image_separator + orjson.dumps(_image(image) | videos.of_image(image)))
            image_separator = b",\n"
            if image.annotations:
                objects = [
                    orjson.dumps(_annotation(each, image.id) | videos.of_annotation(each))
                    for each in image.annotations
                ]
                waiting.write(annotation_separator + b",\n".join(objects))
                annotation_separator = b",\n"
        if videos.rows:
            out.write(b'\n],\n"videos": [')
            out.write(json_lines(videos.rows))
        out.write(b'\n],\n"annotations": [')
        waiting.seek(0)
        shutil.copyfileobj(waiting, out, _BUFFER)
        out.write(b"\n]}\n")


def json_lines(objects: Iterable[Mapping[str, Any]]) -> bytes:
    """Return objects as the inside of a JSON list, each on a line of its own."""
    return b"\n" + b",\n".join(map(orjson.dumps, objects))


def bbox_of(annotation: Annotation) -> list[float]:
    """Return an annotation's box as COCO has it: [x, y, width, height] in pixels."""
    xmin, ymin, xmax, ymax = annotation.box
    return [
        float(xmin),
        float(ymin),
        round(float(xmax - xmin), LENGTH_DECIMALS),
        round(float(ymax - ymin), LENGTH_DECIMALS),
    ]


def area_of(annotation: Annotation) -> float:
    """Return an annotation's area in square pixels, without the noise of arithmetic."""
    return round(float(annotation.area), AREA_DECIMALS)


class _Videos:
    """What rows say about videos: those met so far, and the tracks of the current one."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._ids: dict[str, int] = {}
        self._lengths: list[int] = []
        self._current: int | None = None
        self._instances: dict[int, int] = {}
        self._next_instance = 1

    def of_image(self, image: AnnotatedImage) -> dict[str, Any]:
        """Return what the row of an image adds, for a frame; its annotations come next."""
        if image.video is None:
            self._current = None
            return {}
        video_id = self._ids.get(image.video)
        if video_id is None:
            video_id = self._ids[image.video] = len(self._ids) + 1
            name = portable(image.video)
            self.rows.append(
                {"id": video_id, "name": name, "width": image.width, "height": image.height}
            )
            self._lengths.append(0)
        if video_id != self._current:
            self._current = video_id
            self._instances = {}
        added: dict[str, Any] = {
            "video_id": video_id,
            "frame_index": image.frame_index,
            "frame_id": self._lengths[video_id - 1],
        }
        self._lengths[video_id - 1] += 1
        if image.timestamp_s is not None:
            added["timestamp_s"] = image.timestamp_s
        return added

    def of_annotation(self, annotation: Annotation) -> dict[str, Any]:
        """Return what the row of an annotation of the current image adds."""
        track_id = annotation.track_id
        if self._current is None:
            return {} if track_id is None else {"track_id": track_id}
        if track_id is None:
            return {"video_id": self._current}
        instance = self._instances.get(track_id)
        if instance is None:
            instance = self._instances[track_id] = self._next_instance
            self._next_instance += 1
        return {"video_id": self._current, "track_id": track_id, "instance_id": instance}


def _image(image: AnnotatedImage) -> dict[str, Any]:
    return {
        "id": image.id,
        "file_name": portable(image.file_name),
        "width": image.width,
        "height": image.height,
    }


def _annotation(annotation: Annotation, image_id: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": annotation.id,
        "image_id": image_id,
        "category_id": annotation.category_id,
        "bbox": bbox_of(annotation),
        "area": area_of(annotation),
        "iscrowd": 0,
    }
    if annotation.score is not None:
        row["score"] = float(annotation.score)
    if annotation.mask is not None:
        row["segmentation"] = annotation.mask.to_dict()
    return row
