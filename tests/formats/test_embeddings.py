"""Files of embeddings, as pyarrow and DuckDB read them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pyarrow import parquet as pq

from pixano_cli.errors import MediaReadError, OutputError, UsageError
from pixano_cli.formats import embedding_format_of, embeddings
from pixano_cli.formats.embeddings import EmbeddedImage, write_embeddings

from .samples import PROVENANCE, writes_files


def image(name: str, vector: Sequence[float], orientation: int = 1) -> EmbeddedImage:
    return EmbeddedImage(name, "ab" * 32, 64, 48, orientation, np.array(vector, np.float32))


EXAMPLE = (image("a b/1.jpg", [0.1, -2.5, 0.0]), image("é.png", [1, 2, 3], orientation=6))


def written(path: Path, made: Sequence[EmbeddedImage], size: int | None = 3) -> pa.Table:
    write_embeddings(iter(made), path, size, PROVENANCE)
    return pq.read_table(path)


def vectors(table: pa.Table) -> Any:
    column = table.column("embedding").combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), column.type.list_size)


def test_the_whole_of_a_small_file(tmp_path: Path) -> None:
    table = written(tmp_path / "out.parquet", EXAMPLE)
    facts = {"sha256": "ab" * 32, "width": 64, "height": 48}
    assert table.to_pylist() == [
        facts
        | {
            "file_name": "a b/1.jpg",
            "orientation": 1,
            "embedding": [float(np.float32(0.1)), -2.5, 0.0],
        },
        facts | {"file_name": "é.png", "orientation": 6, "embedding": [1.0, 2.0, 3.0]},
    ]


@pytest.mark.parametrize(
    ("made", "size", "expected"),
    [(EXAMPLE, 3, 3), (EXAMPLE, None, 3), ((), 1280, 1280), ((), None, -1)],
)
def test_the_schema(
    tmp_path: Path, made: Sequence[EmbeddedImage], size: int | None, expected: int
) -> None:
    schema = written(tmp_path / "out.parquet", made, size).schema
    assert [(field.name, field.type) for field in schema] == [
        ("file_name", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("orientation", pa.int32()),
        ("embedding", pa.list_(pa.float32(), expected)),
    ]
    assert json.loads(schema.metadata[b"pixano"]) == PROVENANCE


arrays = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 6), st.integers(1, 9)),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@writes_files
@given(numbers=arrays)
def test_every_float_comes_back_bit_by_bit(
    tmp_path_factory: pytest.TempPathFactory, numbers: Any
) -> None:
    path = tmp_path_factory.mktemp("bits") / "out.parquet"
    made = [image(f"{at}.jpg", vector) for at, vector in enumerate(numbers)]
    table = written(path, made, numbers.shape[1])
    assert vectors(table).tobytes() == numbers.tobytes()


@writes_files
@given(numbers=arrays)
def test_equal_input_gives_equal_bytes_however_it_arrives(
    tmp_path_factory: pytest.TempPathFactory, numbers: Any
) -> None:
    folder = tmp_path_factory.mktemp("equal")
    made = [image(f"{at}.jpg", vector) for at, vector in enumerate(numbers)]

    def in_batches() -> Iterator[EmbeddedImage]:
        for start in range(0, len(made), 2):
            yield from tuple(made[start : start + 2])

    size = numbers.shape[1]
    write_embeddings(made, folder / "a.parquet", size, PROVENANCE)
    write_embeddings(in_batches(), folder / "b.parquet", size, PROVENANCE)
    assert (folder / "a.parquet").read_bytes() == (folder / "b.parquet").read_bytes()


@pytest.mark.parametrize(
    ("name", "limit", "expected"),
    [
        ("_GROUP_IMAGES", 4, [4, 4, 2]),
        ("_GROUP_NUMBERS", 10, [3, 3, 3, 1]),
        ("_GROUP_NUMBERS", 1, [1] * 10),
    ],
)
def test_row_groups_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, limit: int, expected: list[int]
) -> None:
    made = [image(f"{at}.jpg", [at, 0.5, -at]) for at in range(10)]
    whole = written(tmp_path / "whole.parquet", made)
    monkeypatch.setattr(embeddings, name, limit)
    assert written(tmp_path / "cut.parquet", made).equals(whole)
    metadata = pq.read_metadata(tmp_path / "cut.parquet")
    groups = [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)]
    assert groups == expected
    columns = [metadata.row_group(0).column(at) for at in range(metadata.num_columns)]
    assert {each.compression for each in columns} == {"ZSTD"}


def test_it_is_read_a_row_group_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more images are taken than a row group has, before that is on its way."""
    monkeypatch.setattr(embeddings, "_GROUP_IMAGES", 4)
    held: list[int] = []
    table_of = embeddings._table
    taken = 0

    def stream() -> Iterator[EmbeddedImage]:
        nonlocal taken
        for at in range(50):
            taken += 1
            yield image(f"{at}.jpg", [at, 1, 2])

    def noted(group: Any, schema: Any) -> Any:
        nonlocal taken
        held.append(taken)
        taken = 0
        return table_of(group, schema)

    monkeypatch.setattr(embeddings, "_table", noted)
    write_embeddings(stream(), tmp_path / "out.parquet", 3, PROVENANCE)
    assert sum(held) == 50
    assert max(held) == 4


def test_duckdb_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    written(path, EXAMPLE)
    with duckdb.connect() as database:
        rows = database.execute(
            "select file_name, width, embedding[2], len(embedding) from read_parquet(?)",
            [str(path)],
        ).fetchall()
        ((distance,),) = database.execute(
            "select array_distance(a.embedding::float[3], b.embedding::float[3]) "
            "from read_parquet($path) a, read_parquet($path) b "
            "where a.file_name < b.file_name",
            {"path": str(path)},
        ).fetchall()
    assert rows == [("a b/1.jpg", 64, -2.5, 3), ("é.png", 64, 2.0, 3)]
    assert distance == pytest.approx(np.linalg.norm([0.9, 4.5, 3.0]))


def test_a_name_that_is_not_utf8_leaves_the_file_readable(tmp_path: Path) -> None:
    table = written(tmp_path / "out.parquet", [image("caf\udce9.jpg", [1, 2, 3])])
    assert table.column("file_name").to_pylist() == ["caf\\udce9.jpg"]


@pytest.mark.parametrize("limit", [1, 100])
def test_vectors_of_two_sizes_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(embeddings, "_GROUP_IMAGES", limit)
    path = tmp_path / "out.parquet"
    path.write_text("earlier")
    with pytest.raises(OutputError, match=r"'b.jpg' has 2 numbers and others have 3"):
        write_embeddings([EXAMPLE[0], image("b.jpg", [1, 2])], path, 3, PROVENANCE)
    assert path.read_text() == "earlier"


def test_a_failure_while_reading_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    path.write_text("earlier")

    def stream() -> Iterator[EmbeddedImage]:
        yield from EXAMPLE
        raise MediaReadError("gone")

    with pytest.raises(MediaReadError, match="gone"):
        write_embeddings(stream(), path, 3, PROVENANCE)
    assert path.read_text() == "earlier"
    assert [*tmp_path.iterdir()] == [path]


def test_pyarrow_is_not_imported_before_something_is_written() -> None:
    script = (
        "import sys, pixano_cli.formats.embeddings;"
        "print({'pyarrow', 'pycocotools', 'PIL'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("name", "override"),
    [("out/a.parquet", None), ("a.PARQUET", None), ("a.json", "parquet"), ("a", "parquet")],
)
def test_embeddings_are_parquet(name: str, override: str | None) -> None:
    assert embedding_format_of(Path(name), override) == "parquet"


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("a.json", None),
        ("a.csv", None),
        ("parquet", None),
        (".parquet", None),
        ("a.parquet", "coco"),
    ],
)
def test_other_formats_are_refused(name: str, override: str | None) -> None:
    with pytest.raises(UsageError, match=r"embeddings are written as \.parquet"):
        embedding_format_of(Path(name), override)
