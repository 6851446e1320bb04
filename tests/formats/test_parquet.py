"""Parquet files, as pyarrow and DuckDB read them, and that they hold what COCO files hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from pyarrow import parquet as pq

from pixano_cli.annotations import AnnotatedImage, Annotation, Box, number
from pixano_cli.errors import MediaReadError
from pixano_cli.formats import parquet
from pixano_cli.formats.coco import write_coco
from pixano_cli.formats.parquet import write_parquet

from .samples import (
    CATEGORIES,
    EXAMPLE,
    PROVENANCE,
    boxed,
    image,
    images,
    masked,
    numbered,
    writes_files,
)


def written(path: Path, made: list[AnnotatedImage]) -> list[dict[str, Any]]:
    write_parquet(iter(made), path, CATEGORIES, PROVENANCE)
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_the_whole_of_a_small_file(tmp_path: Path) -> None:
    frame = image(
        "v.mp4#3", boxed("cat", 1, 2, 3, 4), video="v.mp4", frame_index=3, timestamp_s=0.12
    )
    frame = replace(
        frame, caption="a cat", annotations=(replace(frame.annotations[0], track_id=9),)
    )
    mask = EXAMPLE[2].annotations[0].mask
    assert mask is not None
    base = {
        "sha256": "ab" * 32,
        "width": 64,
        "height": 48,
        "orientation": 1,
        "video": None,
        "frame_index": None,
        "timestamp_s": None,
        "caption": None,
    }
    plain = {"mask": None, "track_id": None}
    assert written(tmp_path / "out.parquet", numbered(*EXAMPLE, frame)) == [
        base
        | {
            "file_name": "a b/1.jpg",
            "annotations": [
                plain
                | {
                    "id": 1,
                    "label": "cat",
                    "category_id": 17,
                    "score": 0.5,
                    "bbox": {"xmin": 0.1, "ymin": 0.2, "xmax": 10.1, "ymax": 20.3},
                    "area": 201.0,
                },
                plain
                | {
                    "id": 2,
                    "label": "cup",
                    "category_id": 47,
                    "score": None,
                    "bbox": {"xmin": 3.0, "ymin": 4.0, "xmax": 50.0, "ymax": 40.0},
                    "area": 1692.0,
                },
            ],
        },
        base | {"file_name": "empty.png", "orientation": 6, "annotations": []},
        base
        | {
            "file_name": 'naïve "q"\n.jpg',
            "annotations": [
                plain
                | {
                    "id": 3,
                    "label": "père Noël",
                    "category_id": 1,
                    "score": 0.25,
                    "bbox": {"xmin": 10.0, "ymin": 5.0, "xmax": 30.0, "ymax": 20.0},
                    "area": 299.0,
                    "mask": {"size": [48, 64], "counts": mask.counts.decode()},
                }
            ],
        },
        base
        | {
            "file_name": "v.mp4#3",
            "video": "v.mp4",
            "frame_index": 3,
            "timestamp_s": 0.12,
            "caption": "a cat",
            "annotations": [
                plain
                | {
                    "id": 4,
                    "label": "cat",
                    "category_id": 17,
                    "score": 0.5,
                    "bbox": {"xmin": 1.0, "ymin": 2.0, "xmax": 3.0, "ymax": 4.0},
                    "area": 4.0,
                    "track_id": 9,
                }
            ],
        },
    ]


def test_the_schema_is_the_designs(tmp_path: Path) -> None:
    for made in ([], numbered(*EXAMPLE)):
        written(tmp_path / "out.parquet", made)
        schema = pq.read_schema(tmp_path / "out.parquet")
        box = pa.struct([(side, pa.float64()) for side in ("xmin", "ymin", "xmax", "ymax")])
        mask = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
        annotation = [
            ("id", pa.int64()),
            ("label", pa.string()),
            ("category_id", pa.int64()),
            ("score", pa.float64()),
            ("bbox", box),
            ("area", pa.float64()),
            ("mask", mask),
            ("track_id", pa.int64()),
        ]
        assert [(field.name, field.type) for field in schema] == [
            ("file_name", pa.string()),
            ("sha256", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("orientation", pa.int32()),
            ("video", pa.string()),
            ("frame_index", pa.int64()),
            ("timestamp_s", pa.float64()),
            ("caption", pa.string()),
            ("annotations", pa.list_(pa.struct(annotation))),
        ]
        metadata = json.loads(schema.metadata[b"pixano"])
        assert metadata == {
            **PROVENANCE,
            "categories": [
                {"id": 17, "name": "cat", "supercategory": "animal"},
                {"id": 47, "name": "cup"},
                {"id": 1, "name": "père Noël"},
            ],
        }


def test_every_column_is_zstd(tmp_path: Path) -> None:
    written(tmp_path / "out.parquet", numbered(*EXAMPLE))
    metadata = pq.read_metadata(tmp_path / "out.parquet")
    columns = [metadata.row_group(0).column(at) for at in range(metadata.num_columns)]
    assert {each.compression for each in columns} == {"ZSTD"}


@writes_files
@given(made=images())
def test_it_holds_what_the_coco_file_holds(
    tmp_path_factory: pytest.TempPathFactory, made: list[AnnotatedImage]
) -> None:
    folder = tmp_path_factory.mktemp("both")
    rows = written(folder / "out.parquet", made)
    write_coco(made, folder / "out.json", CATEGORIES, PROVENANCE)
    document = json.loads((folder / "out.json").read_bytes())
    names = {each["id"]: each["name"] for each in document["categories"]}
    assert [(row["file_name"], row["width"], row["height"]) for row in rows] == [
        (each["file_name"], each["width"], each["height"]) for each in document["images"]
    ]
    flat = []
    for image_id, row in enumerate(rows, start=1):
        for each in row["annotations"]:
            box = each["bbox"]
            assert each["label"] == names[each["category_id"]]
            flat.append(
                {
                    "id": each["id"],
                    "image_id": image_id,
                    "category_id": each["category_id"],
                    "bbox": [
                        box["xmin"],
                        box["ymin"],
                        round(box["xmax"] - box["xmin"], 6),
                        round(box["ymax"] - box["ymin"], 6),
                    ],
                    "area": each["area"],
                    "iscrowd": 0,
                    **({} if each["score"] is None else {"score": each["score"]}),
                    **({} if each["mask"] is None else {"segmentation": each["mask"]}),
                }
            )
    assert flat == document["annotations"]
    assert json.loads(pq.read_schema(folder / "out.parquet").metadata[b"pixano"]) == {
        **document["info"],
        "categories": document["categories"],
    }


@writes_files
@given(made=images())
def test_equal_input_gives_equal_bytes_however_it_arrives(
    tmp_path_factory: pytest.TempPathFactory, made: list[AnnotatedImage]
) -> None:
    folder = tmp_path_factory.mktemp("parquet")

    def in_batches() -> Iterator[AnnotatedImage]:
        for start in range(0, len(made), 2):
            yield from tuple(made[start : start + 2])

    write_parquet(made, folder / "a.parquet", CATEGORIES, PROVENANCE)
    write_parquet(in_batches(), folder / "b.parquet", CATEGORIES, PROVENANCE)
    assert (folder / "a.parquet").read_bytes() == (folder / "b.parquet").read_bytes()


@pytest.mark.parametrize(
    ("name", "limit", "expected"),
    [
        ("_GROUP_IMAGES", 4, [4, 4, 2]),
        ("_GROUP_ANNOTATIONS", 5, [3, 3, 3, 1]),
        ("_GROUP_MASK_BYTES", 1, [1] * 10),
    ],
)
def test_row_groups_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, limit: int, expected: list[int]
) -> None:
    pair = (boxed("cat", 1, 2, 3, 4), masked("cup", slice(3, 9), slice(4, 9)))
    made = numbered(*(image(f"{at}.jpg", *pair) for at in range(10)))
    rows = written(tmp_path / "whole.parquet", made)
    monkeypatch.setattr(parquet, name, limit)
    assert written(tmp_path / "cut.parquet", made) == rows
    metadata = pq.read_metadata(tmp_path / "cut.parquet")
    groups = [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)]
    assert groups == expected


def test_duckdb_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    written(path, numbered(*EXAMPLE))
    with duckdb.connect() as database:
        counts = database.execute(
            "select file_name, len(annotations) from read_parquet(?) order by 1", [str(path)]
        ).fetchall()
        found = database.execute(
            "select a.label, a.score, a.bbox.xmax, a.area, a.mask.size, a.mask is null "
            "from (select unnest(annotations) as a from read_parquet(?)) order by a.id",
            [str(path)],
        ).fetchall()
        metadata = database.execute(
            "select decode(value) from parquet_kv_metadata(?) where decode(key) = 'pixano'",
            [str(path)],
        ).fetchone()
    assert counts == [("a b/1.jpg", 2), ("empty.png", 0), ('naïve "q"\n.jpg', 1)]
    assert found == [
        ("cat", 0.5, 10.1, 201.0, None, True),
        ("cup", None, 50.0, 1692.0, None, True),
        ("père Noël", 0.25, 30.0, 299.0, [48, 64], False),
    ]
    assert metadata is not None
    assert json.loads(metadata[0])["version"] == "1.2"


def test_a_name_that_is_not_utf8_leaves_the_file_readable(tmp_path: Path) -> None:
    rows = written(tmp_path / "out.parquet", numbered(image("caf\udce9.jpg"), image("é.jpg")))
    assert [row["file_name"] for row in rows] == ["caf\\udce9.jpg", "é.jpg"]


def test_whole_numbers_are_written_as_floats(tmp_path: Path) -> None:
    odd = image("1.jpg", Annotation("cat", 1, Box(1, 2, 3, 5), 6))
    (row,) = written(tmp_path / "out.parquet", numbered(odd))
    assert row["annotations"][0]["bbox"] == {"xmin": 1.0, "ymin": 2.0, "xmax": 3.0, "ymax": 5.0}
    assert (row["annotations"][0]["score"], row["annotations"][0]["area"]) == (1.0, 6.0)


def test_a_failure_while_reading_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    path.write_text("earlier")

    def stream() -> Iterator[AnnotatedImage]:
        yield from EXAMPLE
        raise MediaReadError("gone")

    with pytest.raises(MediaReadError, match="gone"):
        write_parquet(number(stream(), CATEGORIES), path, CATEGORIES, PROVENANCE)
    assert path.read_text() == "earlier"
    assert [*tmp_path.iterdir()] == [path]
