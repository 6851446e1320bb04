"""Boxes from COCO and Parquet files, ours and others'."""

from __future__ import annotations

import json
from math import inf, nan
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from pyarrow import parquet as pq

from pixano_cli.annotations import AnnotatedImage, Box
from pixano_cli.errors import UsageError
from pixano_cli.formats.boxes import LabelledBox, read_box_categories, read_boxes
from pixano_cli.formats.coco import write_coco
from pixano_cli.formats.parquet import write_parquet

from .samples import CATEGORIES, EXAMPLE, PROVENANCE, images, numbered, writes_files

EXPECTED = {
    "a b/1.jpg": (
        LabelledBox("cat", Box(0.1, 0.2, 10.1, 20.3), 0.5),
        LabelledBox("cup", Box(3.0, 4.0, 50.0, 40.0), None),
    ),
    "empty.png": (),
    'naïve "q"\n.jpg': (LabelledBox("père Noël", Box(10.0, 5.0, 30.0, 20.0), 0.25),),
}


def test_our_outputs_are_read_by_content_whatever_their_suffix(tmp_path: Path) -> None:
    write_coco(numbered(*EXAMPLE), tmp_path / "a.parquet", CATEGORIES, PROVENANCE)
    write_parquet(numbered(*EXAMPLE), tmp_path / "b.json", CATEGORIES, PROVENANCE)
    assert read_boxes(tmp_path / "a.parquet") == EXPECTED
    assert read_boxes(tmp_path / "b.json") == EXPECTED


@writes_files
@given(made=images())
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, made: list[AnnotatedImage]
) -> None:
    folder = tmp_path_factory.mktemp("boxes")
    write_coco(made, folder / "out.json", CATEGORIES, PROVENANCE)
    write_parquet(made, folder / "out.parquet", CATEGORIES, PROVENANCE)
    expected = {
        image.file_name: tuple(
            LabelledBox(each.label, each.box, each.score) for each in image.annotations
        )
        for image in made
    }
    assert read_boxes(folder / "out.parquet") == expected
    # x + width is xmax but for the last bits.
    from_coco = read_boxes(folder / "out.json")
    assert [*from_coco] == [*expected]
    for name, boxes in expected.items():
        for found, box in zip(from_coco[name], boxes, strict=True):
            assert (found.label, found.score) == (box.label, box.score)
            assert found.box == pytest.approx(box.box, abs=1e-6)


def document(**changes: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
        "categories": [{"id": 0, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 0, "bbox": [1, 2, 3, 4]}],
        **changes,
    }


def annotation(**changes: Any) -> dict[str, Any]:
    return {"id": 5, "image_id": 7, "category_id": 0, "bbox": [1, 2, 3, 4], **changes}


def test_a_coco_file_of_others(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    found = [
        annotation(),
        annotation(id=6, iscrowd=1, bbox=[0, 0, 9, 9], segmentation={"counts": [81]}),
        annotation(id=7, bbox=[5, 5, 0, 9]),
        annotation(id=8, bbox=[5.5, 5, 1, 9.25], area=nan, score=1),
    ]
    path.write_text("\ufeff" + json.dumps(document(annotations=found)), encoding="utf-8")
    assert read_boxes(path) == {
        "a.jpg": (
            LabelledBox("cat", Box(1.0, 2.0, 4.0, 6.0)),
            LabelledBox("cat", Box(5.5, 5.0, 6.5, 14.25), 1.0),
        ),
        "b.jpg": (),
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON"),
        (b"cat", "is not JSON"),
        (b"\xff\xfe\xfd", "is not JSON"),
        (json.dumps([annotation(score=0.5)]), "bare list of results, which has no file names"),
        (b"7", 'no "images" list'),
        (b"{}", 'no "images" list'),
        (document(images=None), 'no "images" list'),
        (document(annotations={}), 'no "annotations" list'),
        (document(categories=None), 'no "categories" list'),
        (document(images=["a.jpg"]), '"images" is not a list of objects'),
        (document(images=[{"file_name": "a.jpg"}]), "image 'a.jpg' has no \"id\""),
        (document(images=[{"id": [], "file_name": "a.jpg"}]), 'has no "id"'),
        (document(images=[{"id": 7}]), 'image 7 has no "file_name"'),
        (document(images=[{"id": 7, "file_name": "a"}] * 2), "two of image 7"),
        (document(categories=[{"id": 0}]), 'category 0 has no "name"'),
        (document(annotations=[annotation(image_id=8)]), 'annotation 5 has an unknown "image_id"'),
        (document(annotations=[annotation(image_id=[])]), 'unknown "image_id": []'),
        (document(annotations=[{"id": 5}]), 'unknown "image_id": None'),
        (document(annotations=[annotation(category_id=1)]), 'unknown "category_id": 1'),
        (document(annotations=[annotation(bbox=None)]), 'no "bbox" of 4 finite numbers: None'),
        (document(annotations=[annotation(bbox=[1, 2, 3])]), 'no "bbox" of 4'),
        (document(annotations=[annotation(bbox=[1, 2, 3, "4"])]), 'no "bbox" of 4'),
        (document(annotations=[annotation(bbox=[1, 2, 3, True])]), 'no "bbox" of 4'),
        (document(annotations=[annotation(bbox=[1, 2, 3, nan])]), 'no "bbox" of 4'),
        (document(annotations=[annotation(bbox=[1, 2, 3, 10**400])]), 'no "bbox" of 4'),
        (document(annotations=[annotation(score="high")]), '"score" that is no finite number'),
        (document(annotations=[annotation(id="\n" * 500, image_id=8)]), 'unknown "image_id"'),
    ],
)  # fmt: skip
def test_what_is_wrong_in_json_is_said_in_one_line(
    tmp_path: Path, content: bytes | str | dict[str, Any], reason: str
) -> None:
    path = tmp_path / "boxes.json"
    text = json.dumps(content) if isinstance(content, dict) else content
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UsageError) as caught:
        read_boxes(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match="cannot read boxes"):
            read_boxes(path)


def test_a_parquet_file_that_duckdb_made_of_ours(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.parquet", tmp_path / "theirs.parquet"
    write_parquet(numbered(*EXAMPLE), ours, CATEGORIES, PROVENANCE)
    with duckdb.connect() as database:
        database.execute(f"copy (select * from '{ours}' order by file_name) to '{theirs}'")
    assert read_boxes(theirs) == EXPECTED


def test_a_parquet_file_with_large_types_and_without_scores(tmp_path: Path) -> None:
    box = pa.struct([(side, pa.float32()) for side in ("xmin", "ymin", "xmax", "ymax")])
    inner = pa.struct([("label", pa.large_string()), ("bbox", box)])
    schema = pa.schema([("file_name", pa.large_string()), ("annotations", pa.large_list(inner))])
    corners = {"xmin": 1.0, "ymin": 2.0, "xmax": 3.0, "ymax": 4.5}
    rows = [
        {"file_name": "a.jpg", "annotations": [{"label": "cat", "bbox": corners}]},
        {"file_name": "b.jpg", "annotations": None},
        {"file_name": "a.jpg", "annotations": [{"label": "cup", "bbox": corners | {"xmin": 3.0}}]},
        {"file_name": "a.jpg", "annotations": [{"label": "cup", "bbox": corners}]},
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "a.parquet")
    assert read_boxes(tmp_path / "a.parquet") == {
        "a.jpg": (
            LabelledBox("cat", Box(1.0, 2.0, 3.0, 4.5)),
            LabelledBox("cup", Box(1.0, 2.0, 3.0, 4.5)),
        ),
        "b.jpg": (),
    }


BOX = {"xmin": 1.0, "ymin": 2.0, "xmax": 3.0, "ymax": 4.0}


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"path": "a.jpg"}], "is not a Parquet file of annotations"),
        ([{"file_name": "a.jpg"}], "is not a Parquet file of annotations"),
        ([{"file_name": "a.jpg", "annotations": [1]}], "is not a Parquet file of annotations"),
        ([{"file_name": "a.jpg", "annotations": [{"label": "cat", "bbox": [1.0, 2.0, 3.0, 4.0]}]}],
         "is not a Parquet file of annotations"),
        ([{"file_name": "a.jpg", "annotations": [{"label": 1, "bbox": BOX}]}],
         "is not a Parquet file of annotations"),
        ([{"file_name": None, "annotations": []},
          {"file_name": "a", "annotations": [{"label": "cat", "bbox": BOX}]}],
         "a row without a file_name"),
        ([{"file_name": "a", "annotations": [{"label": None, "bbox": BOX},
                                             {"label": "cat", "bbox": BOX}]}],
         "an annotation of 'a' has no label"),
        ([{"file_name": "a", "annotations": [{"label": "cat", "bbox": BOX},
                                             {"label": "cat", "bbox": None}]}],
         "bbox that is not 4 finite numbers"),
        ([{"file_name": "a", "annotations": [{"label": "cat", "bbox": BOX | {"ymax": inf}}]}],
         "bbox that is not 4 finite numbers"),
        ([{"file_name": "a", "annotations": [{"label": "cat", "bbox": BOX, "score": nan}]}],
         "no finite number"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_parquet_is_said_in_one_line(
    tmp_path: Path, rows: list[dict[str, Any]], reason: str
) -> None:
    path = tmp_path / "boxes.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(UsageError) as caught:
        read_boxes(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [4, 100, -3])
def test_a_broken_parquet_file_is_said(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "boxes.parquet"
    write_parquet(numbered(*EXAMPLE), path, CATEGORIES, PROVENANCE)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UsageError, match="cannot read Parquet") as caught:
        read_boxes(path)
    assert "\n" not in str(caught.value)


def labelled(path: Path, metadata: object) -> Path:
    schema = pa.schema([("file_name", pa.string())])
    schema = schema.with_metadata({"pixano": json.dumps(metadata)})
    pq.write_table(schema.empty_table(), path)
    return path


def test_label_set_of_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "boxes.parquet"
    write_parquet([], path, CATEGORIES, PROVENANCE)
    assert read_box_categories(path) == tuple(CATEGORIES)
    for none in ({}, [], "text", {"categories": []}):
        assert read_box_categories(labelled(path, none)) is None


@pytest.mark.parametrize("rows", [[{"x": 1}], ["cat"], {"cat": 1}, [{"id": 1, "name": ""}]])
def test_a_label_set_of_another_form_is_refused(tmp_path: Path, rows: object) -> None:
    path = labelled(tmp_path / "boxes.parquet", {"categories": rows})
    with pytest.raises(UsageError, match=r"boxes\.parquet"):
        read_box_categories(path)


def test_a_damaged_parquet_file_has_no_label_set(tmp_path: Path) -> None:
    path = tmp_path / "boxes.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(UsageError, match="cannot read Parquet"):
        read_box_categories(path)
