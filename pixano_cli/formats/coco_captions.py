"""COCO captions JSON, as the COCO API reads it (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from pixano_cli.annotations import AnnotatedImage
from pixano_cli.formats.atomic import replacing
from pixano_cli.formats.text import portable

_BUFFER = 1 << 20


def write_coco_captions(
    images: Iterable[AnnotatedImage], path: Path, provenance: Mapping[str, Any]
) -> None:
    """Write images and their captions as a COCO file; equal input gives equal bytes.

    One object a line. An image without a caption is among the images all the same. Memory does not
    grow with the images: the captions, which stand behind them, wait in a nameless file on the
    same disk.

    Args:
        images: Numbered images, in the order of the output; read once.
        path: The file, replaced at once when it is complete.
        provenance: Becomes `info`; of values that JSON has, in the order to be written.

    Raises:
        OutputError: If the file cannot be written; an earlier version of it is left as it was.
    """
    with (
        replacing(path) as temporary,
        temporary.open("wb", buffering=_BUFFER) as out,
        tempfile.TemporaryFile(dir=temporary.parent, buffering=_BUFFER) as waiting,
    ):
        out.write(
            b'{"info": ' + orjson.dumps(dict(provenance)) + b',\n"licenses": [],\n"images": ['
        )
        separator = b"\n"
        captions = 0
        for image in images:
            out.write(separator + orjson.dumps(_image(image)))
            separator = b",\n"
            if image.caption:
                row = {"id": captions + 1, "image_id": image.id, "caption": portable(image.caption)}
                waiting.write((b",\n" if captions else b"\n") + orjson.dumps(row))
                captions += 1
        out.write(b'\n],\n"annotations": [')
        waiting.seek(0)
        shutil.copyfileobj(waiting, out, _BUFFER)
        out.write(b"\n]}\n")


def _image(image: AnnotatedImage) -> dict[str, Any]:
    return {
        "id": image.id,
        "file_name": portable(image.file_name),
        "width": image.width,
        "height": image.height,
    }
