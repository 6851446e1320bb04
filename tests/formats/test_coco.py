"""COCO files, as the COCO API reads them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pixano_cli.annotations import AnnotatedImage, Annotation, Box, Category, number
from pixano_cli.errors import MediaReadError, OutputError
from pixano_cli.formats.coco import write_coco

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


def written(path: Path, made: list[AnnotatedImage]) -> dict[str, Any]:
    write_coco(iter(made), path, CATEGORIES, PROVENANCE)
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


def test_the_whole_of_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    frame = image("v.mp4#3", boxed("cat", 1, 2, 3, 4), video="v.mp4", frame_index=3)
    frame = replace(frame, annotations=(replace(frame.annotations[0], track_id=9),))
    written(path, numbered(EXAMPLE[0], EXAMPLE[1], EXAMPLE[2], frame))
    counts = EXAMPLE[2].annotations[0].mask
    assert counts is not None
    assert path.read_text(encoding="utf-8") == (
        '{"info": {"description":"test","version":"1.2","parameters":{"threshold":0.5}},\n'
        '"licenses": [],\n'
        '"categories": [\n'
        '{"id":17,"name":"cat","supercategory":"animal"},\n'
        '{"id":47,"name":"cup"},\n'
        '{"id":1,"name":"père Noël"}],\n'
        '"images": [\n'
        '{"id":1,"file_name":"a b/1.jpg","width":64,"height":48},\n'
        '{"id":2,"file_name":"empty.png","width":64,"height":48},\n'
        '{"id":3,"file_name":"naïve \\"q\\"\\n.jpg","width":64,"height":48},\n'
        '{"id":4,"file_name":"v.mp4#3","width":64,"height":48,"video_id":1,"frame_index":3,'
        '"frame_id":0}\n'
        "],\n"
        '"videos": [\n'
        '{"id":1,"name":"v.mp4","width":64,"height":48}\n'
        "],\n"
        '"annotations": [\n'
        '{"id":1,"image_id":1,"category_id":17,"bbox":[0.1,0.2,10.0,20.1],"area":201.0,'
        '"iscrowd":0,"score":0.5},\n'
        '{"id":2,"image_id":1,"category_id":47,"bbox":[3.0,4.0,47.0,36.0],"area":1692.0,'
        '"iscrowd":0},\n'
        '{"id":3,"image_id":3,"category_id":1,"bbox":[10.0,5.0,20.0,15.0],"area":299.0,'
        '"iscrowd":0,"score":0.25,"segmentation":{"size":[48,64],'
        f'"counts":{json.dumps(counts.counts.decode())}}}}},\n'
        '{"id":4,"image_id":4,"category_id":17,"bbox":[1.0,2.0,2.0,2.0],"area":4.0,'
        '"iscrowd":0,"score":0.5,"video_id":1,"track_id":9,"instance_id":1}\n'
        "]}\n"
    )


def test_no_images_is_a_whole_file_too(tmp_path: Path) -> None:
    document = written(tmp_path / "out.json", [])
    assert document["images"] == document["annotations"] == document["licenses"] == []
    assert "videos" not in document
    assert COCO(str(tmp_path / "out.json")).getImgIds() == []


def test_frames_of_one_video_share_its_id(tmp_path: Path) -> None:
    made = [
        image(f"{video}/{at}", video=video, frame_index=at) for video in ("b", "a") for at in (0, 5)
    ]
    document = written(tmp_path / "out.json", numbered(image("photo.jpg"), *made))
    assert [(each["id"], each["name"]) for each in document["videos"]] == [(1, "b"), (2, "a")]
    assert [each.get("video_id") for each in document["images"]] == [None, 1, 1, 2, 2]
    assert [each.get("frame_index") for each in document["images"]] == [None, 0, 5, 0, 5]


@writes_files
@given(made=images())
def test_the_coco_api_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, made: list[AnnotatedImage]
) -> None:
    path = tmp_path_factory.mktemp("coco") / "out.json"
    document = written(path, made)
    coco = COCO(str(path))
    assert sorted(coco.getImgIds()) == [each.id for each in made]
    assert [each["file_name"] for each in document["images"]] == [each.file_name for each in made]
    found = [(each, picture) for picture in made for each in picture.annotations]
    assert len(coco.anns) == len(found) == len(document["annotations"])
    for each, picture in found:
        row = coco.anns[each.id]
        x, y, width, height = row["bbox"]
        assert all(type(value) is float for value in (*row["bbox"], row["area"]))
        assert Box(x, y, round(x + width, 6), round(y + height, 6)) == each.box
        assert coco.cats[row["category_id"]]["name"] == each.label
        assert (row["image_id"], row["iscrowd"]) == (picture.id, 0)
        assert row.get("score") == each.score
        assert ("segmentation" in row) == (each.mask is not None)
        if each.mask is None:
            assert row["area"] == pytest.approx(width * height, abs=1e-4)
            continue
        mask = coco.annToMask(row)
        rows, columns = np.nonzero(mask)
        assert mask.shape == (picture.height, picture.width)
        assert row["area"] == mask.sum() == coco_mask.area(row["segmentation"])
        assert [x, y, x + width, y + height] == [
            columns.min(),
            rows.min(),
            columns.max() + 1,
            rows.max() + 1,
        ]


@writes_files
@given(made=images())
def test_every_object_has_its_own_line_and_bytes_repeat(
    tmp_path_factory: pytest.TempPathFactory, made: list[AnnotatedImage]
) -> None:
    folder = tmp_path_factory.mktemp("coco")
    document = written(folder / "a.json", made)
    written(folder / "b.json", made)
    content = (folder / "a.json").read_bytes()
    assert (folder / "b.json").read_bytes() == content
    lines = content.split(b"\n")
    opening = lines.index(b'"annotations": [') + 1
    rows = [json.loads(line.removesuffix(b",")) for line in lines[opening:] if b"bbox" in line]
    assert rows == document["annotations"]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_cocoeval_scores_the_file_as_it_is(tmp_path: Path, kind: str) -> None:
    truth = [
        image("1.jpg", masked("cat", slice(2, 40), slice(3, 50))),
        image(
            "2.jpg",
            masked("cup", slice(5, 20), slice(1, 20)),
            masked("cat", slice(30, 47), slice(30, 60)),
        ),
        image("3.jpg"),
    ]
    wrong = masked("cup", slice(0, 12), slice(0, 12), score=0.9)
    found = [truth[0], truth[1], replace(truth[2], annotations=(wrong,))]
    write_coco(numbered(*truth), tmp_path / "truth.json", CATEGORIES, PROVENANCE)
    write_coco(numbered(*found), tmp_path / "found.json", CATEGORIES, PROVENANCE)

    def score(name: str) -> tuple[float, float]:
        judge = COCOeval(COCO(str(tmp_path / "truth.json")), COCO(str(tmp_path / name)), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        return float(judge.stats[0]), float(judge.stats[8])

    assert score("truth.json") == pytest.approx((1.0, 1.0))
    # The cup is found behind one that is not there: precision 1/2, recall 1. The cat stays at 1.
    assert score("found.json") == pytest.approx((0.75, 1.0))


def test_the_noise_of_float_arithmetic_is_not_written(tmp_path: Path) -> None:
    corners = Box(0.1, 0.7, 0.3, 100.8)
    noisy = image("1.jpg", Annotation("cat", 0.5, corners, corners.area), width=2000, height=2000)
    row = written(tmp_path / "out.json", numbered(noisy))["annotations"][0]
    assert corners.xmax - corners.xmin != 0.2
    assert corners.area != 20.02
    assert row["bbox"] == [0.1, 0.7, 0.2, 100.1]
    assert row["area"] == 20.02


def test_whole_numbers_and_numpys_are_written_as_floats(tmp_path: Path) -> None:
    numpys: list[Any] = [*np.array([1, 2, 3, 5, 1], dtype=np.float32)]
    for box, score in [(Box(1, 2, 3, 5), 1), (Box(*numpys[:4]), numpys[4])]:
        odd = image("1.jpg", Annotation("cat", score, box, box.area))
        written(tmp_path / "out.json", numbered(odd))
        assert (
            b'"bbox":[1.0,2.0,2.0,3.0],"area":6.0,"iscrowd":0,"score":1.0'
            in (tmp_path / "out.json").read_bytes()
        )


@pytest.mark.skipif(sys.platform == "win32", reason="names are text there")
def test_a_name_that_is_not_utf8_leaves_the_file_readable(tmp_path: Path) -> None:
    document = written(tmp_path / "out.json", numbered(image("caf\udce9.jpg")))
    assert document["images"][0]["file_name"] == "caf\\udce9.jpg"


def test_the_images_are_read_once_and_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    given_out = 0

    def stream() -> Iterator[AnnotatedImage]:
        nonlocal given_out
        for given_out in range(1, 4):
            assert not path.exists()
            yield image(f"{given_out}.jpg", boxed("cat", 1, 2, 3, 4))

    write_coco(number(stream(), CATEGORIES), path, CATEGORIES, PROVENANCE)
    assert given_out == 3
    assert len(json.loads(path.read_bytes())["annotations"]) == 3
    assert [*tmp_path.iterdir()] == [path]


def test_a_failure_while_reading_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("earlier")

    def stream() -> Iterator[AnnotatedImage]:
        yield from EXAMPLE
        raise MediaReadError("gone")

    with pytest.raises(MediaReadError, match="gone"):
        write_coco(number(stream(), CATEGORIES), path, CATEGORIES, PROVENANCE)
    assert path.read_text() == "earlier"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_a_disk_without_room_leaves_the_earlier_file(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "out.json"
    path.write_text("earlier")
    many = numbered(*(image(f"{at:0500}.jpg") for at in range(9000)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(OutputError, match=r"out\.json: File too large"):
            write_coco(many, path, [Category(1, "cat")], {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "earlier"
    assert [*tmp_path.iterdir()] == [path]
