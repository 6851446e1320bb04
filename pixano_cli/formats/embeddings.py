"""Embeddings as Parquet: one row an image, its vector a list of fixed size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from pixano_cli.errors import OutputError
from pixano_cli.formats.atomic import replacing
from pixano_cli.formats.categories import METADATA_KEY
from pixano_cli.formats.text import portable, shown

if TYPE_CHECKING:
    import pyarrow as pa

# Rows of a group, and numbers in its vectors: 8 MB of them.
_GROUP_IMAGES = 16_384
_GROUP_NUMBERS = 2 << 20


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedImage:
    """An image with its vector.

    Attributes:
        file_name: POSIX path relative to the source's root, unique in an output.
        sha256: Hex digest of the file's bytes.
        width: Pixels, as displayed.
        height: Pixels, as displayed.
        orientation: The EXIF orientation that is stored in the file, 1 to 8.
        embedding: The vector [size], as the model gives it.
    """

    file_name: str
    sha256: str
    width: int
    height: int
    orientation: int
    embedding: NDArray[np.float32]


def write_embeddings(
    images: Iterable[EmbeddedImage],
    path: Path,
    size: int | None,
    provenance: Mapping[str, Any],
) -> None:
    """Write images and their vectors as a Parquet file; equal input gives equal bytes.

    Memory is that of one row group, which is bounded by images and numbers. The file's metadata
    holds `provenance`, under `pixano`, as a JSON object.

    Args:
        images: Images in the order of the output, with vectors of one size; read once.
        path: The file, replaced at once when it is complete.
        size: Numbers in a vector, for a file without any; None for a list of any size.
        provenance: What made the vectors, of values that JSON has.

    Raises:
        OutputError: If the file cannot be written, or if two vectors differ in size; an earlier
            version of it is left as it was.
    """
    from pyarrow import parquet as pq

    waiting = iter(images)
    first = next(waiting, None)
    if first is not None:
        size = len(first.embedding)
        waiting = chain([first], waiting)
    schema = _schema(size).with_metadata({METADATA_KEY: orjson.dumps(dict(provenance))})
    with (
        replacing(path) as temporary,
        temporary.open("wb") as out,
        # No two numbers of a vector are alike enough for a dictionary.
        pq.ParquetWriter(
            out, schema, compression="zstd", use_dictionary=["width", "height", "orientation"]
        ) as writer,
    ):
        for group in _groups(waiting, size or 1):
            for image in group:
                if len(image.embedding) != size:
                    raise OutputError(
                        f"cannot write {shown(path)}: the vector of {image.file_name!r} has "
                        f"{len(image.embedding)} numbers and others have {size}"
                    )
            writer.write_table(_table(group, schema), row_group_size=len(group))


def _schema(size: int | None) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("file_name", pa.string()),
            ("sha256", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("orientation", pa.int32()),
            ("embedding", pa.list_(pa.float32(), -1 if size is None else size)),
        ]
    )


def _groups(images: Iterator[EmbeddedImage], size: int) -> Iterator[list[EmbeddedImage]]:
    """Cut the images into row groups, by what they hold and not by how they arrive."""
    rows = max(1, min(_GROUP_IMAGES, _GROUP_NUMBERS // size))
    while group := list(islice(images, rows)):
        yield group


def _table(group: list[EmbeddedImage], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    numbers = np.concatenate([image.embedding for image in group])
    columns = [
        pa.array([portable(image.file_name) for image in group], pa.string()),
        pa.array([image.sha256 for image in group], pa.string()),
        pa.array([image.width for image in group], pa.int32()),
        pa.array([image.height for image in group], pa.int32()),
        pa.array([image.orientation for image in group], pa.int32()),
        pa.FixedSizeListArray.from_arrays(
            pa.array(numbers, pa.float32()), type=schema.field("embedding").type
        ),
    ]
    return pa.Table.from_arrays(columns, schema=schema)
