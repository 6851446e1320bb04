"""What the outputs hold, judged by the readers that they are made for."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import orjson
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from .coco_files import by_photograph, masks_of, read
from .tool import PHOTOGRAPHS, SAMPLES, Done

Command = Callable[..., Done]

# Points of chelsea.png by eye, (x, y): its eyes, nose, forehead, ears, cheek and breast, and the
# blurred wall and blanket behind it.
ON_THE_CAT = [
    *((170, 115), (318, 137), (265, 243), (240, 40), (65, 10), (368, 20), (100, 220), (60, 270)),
]
BESIDE_THE_CAT = [(410, 100), (440, 40), (400, 210), (430, 270), (8, 50)]


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample photographs, detected and segmented by the models that come with the tool."""
    from pixano_cli.cli.app import run

    folder = tmp_path_factory.mktemp("demonstration")
    for task, name in (("detect", "boxes"), ("segment", "masks")):
        outputs = [
            part for kind in ("json", "parquet") for part in ("-o", str(folder / f"{name}.{kind}"))
        ]
        arguments = [task, str(SAMPLES), *outputs, "--store", str(folder / "store"), "-q"]
        assert run(arguments) == 0
    return folder


@pytest.mark.parametrize("output", ["boxes.json", "masks.json"])
def test_what_is_in_the_photographs(demonstration: Path, output: str) -> None:
    assert by_photograph(demonstration / output) == {
        "astronaut.png": ["person"],
        "chelsea.png": ["cat"],
        "coffee.png": ["dining table", "cup"],
        "rocket.jpg": [],
    }


def test_the_mask_of_the_cat_covers_the_cat(demonstration: Path) -> None:
    mask = masks_of(demonstration / "masks.json", "chelsea.png")["cat"]
    assert mask.shape == (300, 451)
    assert [mask[y, x] for x, y in ON_THE_CAT] == [1] * len(ON_THE_CAT)
    assert [mask[y, x] for x, y in BESIDE_THE_CAT] == [0] * len(BESIDE_THE_CAT)


def test_coco_is_as_its_readers_want_it(demonstration: Path) -> None:
    for output in ("boxes.json", "masks.json"):
        coco = read(demonstration / output)
        images, annotations = coco.dataset["images"], coco.dataset["annotations"]
        assert [image["id"] for image in images] == [1, 2, 3, 4]
        assert [image["file_name"] for image in images] == sorted(PHOTOGRAPHS)
        assert [each["id"] for each in annotations] == list(range(1, len(annotations) + 1))
        assert len(coco.dataset["categories"]) == 80
        assert {each["iscrowd"] for each in annotations} == {0}
        for annotation in annotations:
            image = coco.imgs[annotation["image_id"]]
            with Image.open(SAMPLES / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"])
            x, y, width, height = annotation["bbox"]
            assert 0 <= x < x + width <= image["width"]
            assert 0 <= y < y + height <= image["height"]
            assert 0.5 <= annotation["score"] <= 1
            if output == "boxes.json":
                assert annotation["area"] == pytest.approx(width * height, abs=0.01)
                assert "segmentation" not in annotation
                continue
            rle = annotation["segmentation"]
            assert rle["size"] == [image["height"], image["width"]]
            mask = coco.annToMask(annotation)
            assert mask.shape == (image["height"], image["width"])
            assert annotation["area"] == mask.sum() == coco_mask.area(rle)
            assert annotation["bbox"] == coco_mask.toBbox(rle).tolist()


@pytest.mark.parametrize(("output", "kind"), [("boxes.json", "bbox"), ("masks.json", "segm")])
def test_cocoeval_runs_on_it_as_it_is(demonstration: Path, output: str, kind: str) -> None:
    truth = read(demonstration / output)
    found = demonstration / f"{output}.results"
    found.write_bytes(orjson.dumps(truth.dataset["annotations"]))
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(str(found)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["boxes", "masks"])
def test_both_formats_hold_the_same(demonstration: Path, name: str) -> None:
    coco = read(demonstration / f"{name}.json")
    path = demonstration / f"{name}.parquet"
    rows = pq.read_table(path).to_pylist()
    assert [row["file_name"] for row in rows] == sorted(PHOTOGRAPHS)
    for image, row in zip(coco.dataset["images"], rows, strict=True):
        assert {key: row[key] for key in ("file_name", "width", "height")} == {
            key: image[key] for key in ("file_name", "width", "height")
        }
        annotations = coco.imgToAnns[image["id"]]
        for annotation, other in zip(annotations, row["annotations"], strict=True):
            box = other["bbox"]
            assert annotation["bbox"] == [
                box["xmin"],
                box["ymin"],
                round(box["xmax"] - box["xmin"], 2),
                round(box["ymax"] - box["ymin"], 2),
            ]
            for key in ("id", "category_id", "score", "area"):
                assert annotation[key] == other[key]
            assert annotation.get("segmentation") == other["mask"]
            assert coco.cats[annotation["category_id"]]["name"] == other["label"]
    metadata = json.loads(pq.read_schema(path).metadata[b"pixano"])
    assert metadata["categories"] == coco.dataset["categories"]
    assert {key: metadata[key] for key in coco.dataset["info"]} == coco.dataset["info"]
    counted = duckdb.sql(
        f"""
        SELECT label, count(*) FROM
        (SELECT unnest(annotations).label AS label FROM read_parquet('{path}'))
        GROUP BY label ORDER BY label
        """
    ).fetchall()
    assert counted == [("cat", 1), ("cup", 1), ("dining table", 1), ("person", 1)]
    empty = duckdb.sql(
        f"SELECT file_name FROM read_parquet('{path}') WHERE len(annotations) = 0"
    ).fetchall()
    assert empty == [("rocket.jpg",)]


def test_outputs_tell_where_they_come_from_and_nothing_of_this_machine(
    demonstration: Path,
) -> None:
    for name in ("boxes", "masks"):
        for suffix in ("json", "parquet"):
            content = (demonstration / f"{name}.{suffix}").read_bytes()
            assert b"picodet-s-416" in content
            assert str(demonstration).encode() not in content
            assert str(SAMPLES.parent).encode() not in content
            run = json.loads((demonstration / f"{name}.{suffix}.run.json").read_bytes())
            assert run["output"] == str(demonstration / f"{name}.{suffix}")
    info = read(demonstration / "masks.json").dataset["info"]
    assert [request["model"] for request in info["requests"]] == ["picodet-s-416", "mobile-sam"]
    assert all(len(request["model_digest"]) == 64 for request in info["requests"])


def test_an_export_is_the_run_again(command: Command, demonstration: Path, work: Path) -> None:
    store = ("--store", demonstration / "store")
    for task, name in (("detect", "boxes"), ("segment", "masks")):
        run = json.loads((demonstration / f"{name}.json.run.json").read_bytes())["run_id"]
        for which in (("--task", task), ("--run", run)):
            done = command("export", "-o", "a.json", "-o", "a.parquet", *store, *which, "--json")
            assert done.code == 0, done.err
            assert done.counts == {"total": 4, "processed": 0, "cached": 4, "failed": 0}
            for suffix in ("json", "parquet"):
                expected = (demonstration / f"{name}.{suffix}").read_bytes()
                assert (work / f"a.{suffix}").read_bytes() == expected
    command("export", "-o", "latest.json", *store)
    assert (work / "latest.json").read_bytes() == (demonstration / "masks.json").read_bytes()


OPTIONS = [
    (),
    ("--threshold", 0.3),
    ("--classes", "cat,cup"),
    ("--threshold", 0.7, "--classes", "person"),
    ("--categories", "labels.json"),
    ("--categories", "labels.json", "--classes", "cat"),
]


@pytest.mark.parametrize("recorded", OPTIONS, ids=str)
def test_an_export_with_options_is_a_run_with_these_options(
    command: Command, work: Path, recorded: tuple[object, ...]
) -> None:
    (work / "labels.json").write_text('[{"id": 7, "name": "cup"}, {"id": 3, "name": "cat"}]')
    # Two stores, so that an export cannot find the run that it is compared with.
    detect = ("detect", SAMPLES, "-q")
    assert command(*detect, "-o", "recorded.json", *recorded, "--store", "one").code == 0
    assert command("export", "-o", "same.json", "--store", "one").code == 0
    assert (work / "same.json").read_bytes() == (work / "recorded.json").read_bytes()
    wide = "--categories" not in recorded
    for options in OPTIONS[1:]:
        if not wide and "--categories" not in options and "--classes" in options:
            continue
        wanted = dict(zip(recorded[::2], recorded[1::2], strict=True))
        wanted |= dict(zip(options[::2], options[1::2], strict=True))
        if "--categories" in options and "--classes" not in options and "--classes" in recorded:
            # The run's classes that are in the file; a run refuses those that are not.
            names = {"cup", "cat"} & set(str(wanted["--classes"]).split(","))
            if not names:
                continue
            wanted["--classes"] = ",".join(sorted(names))
        given = [part for pair in wanted.items() for part in pair]
        assert command(*detect, "-o", "run.json", *given, "--store", "two").code == 0
        done = command("export", "-o", "export.json", *options, "--store", "one")
        assert done.code == 0, done.err
        assert (work / "export.json").read_bytes() == (work / "run.json").read_bytes(), options


def test_an_export_lists_the_failures_of_its_run(command: Command, work: Path) -> None:
    (work / "photos").mkdir()
    shutil.copy(SAMPLES / "rocket.jpg", work / "photos")
    (work / "photos" / "empty.jpg").write_bytes(b"")
    assert command("detect", "photos", "-o", "run.json").code == 3
    done = command("export", "-o", "export.json", "--json")
    assert done.code == 0
    assert done.counts == {"total": 2, "processed": 0, "cached": 1, "failed": 1}
    failed = (work / "export.json.failed.jsonl").read_bytes()
    assert failed == (work / "run.json.failed.jsonl").read_bytes()
    (work / "photos" / "empty.jpg").unlink()
    assert command("detect", "photos", "-o", "run.json").code == 0
    assert command("export", "-o", "export.json").code == 0
    assert not (work / "export.json.failed.jsonl").exists()


TRANSPOSITIONS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How an upright picture is stored so that the EXIF orientation turns it upright again."""


def test_a_picture_and_its_seven_exif_variants_give_the_same_boxes(
    command: Command, work: Path
) -> None:
    (work / "photos").mkdir()
    for photograph in ("chelsea.png", "coffee.png", "astronaut.png"):
        upright = Image.open(SAMPLES / photograph).convert("RGB")
        for orientation, transposition in TRANSPOSITIONS.items():
            stored = upright if transposition is None else upright.transpose(transposition)
            exif = Image.Exif()
            exif[274] = orientation
            path = work / "photos" / f"{photograph[:-4]}-{orientation}.jpg"
            stored.save(path, quality=97, subsampling=0, exif=exif)
    done = command("detect", "photos", "-o", "out.json", "-o", "out.parquet")
    assert done.code == 0, done.err
    rows = {row["file_name"]: row for row in pq.read_table(work / "out.parquet").to_pylist()}
    assert len(rows) == 24
    for photograph, labels in (
        ("chelsea", ["cat"]),
        ("coffee", ["dining table", "cup"]),
        ("astronaut", ["person"]),
    ):
        first = rows[f"{photograph}-1.jpg"]
        for orientation in TRANSPOSITIONS:
            row = rows[f"{photograph}-{orientation}.jpg"]
            assert row["orientation"] == orientation
            assert (row["width"], row["height"]) == (first["width"], first["height"])
            assert [each["label"] for each in row["annotations"]] == labels
            for annotation, expected in zip(row["annotations"], first["annotations"], strict=True):
                assert annotation["bbox"] == pytest.approx(expected["bbox"], abs=2)
