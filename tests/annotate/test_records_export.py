"""Exports of records, however they came into the store."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sqlalchemy import delete, insert, select

from pixano_cli import inference_store as istore
from pixano_cli import rle
from pixano_cli.annotate.identity import Request
from pixano_cli.annotate.job import StoppedError
from pixano_cli.annotate.records_export import export_records
from pixano_cli.annotate.selection import Filters
from pixano_cli.annotate.summary import Summary
from pixano_cli.errors import StoreError, UsageError
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.connection import blobs_of
from pixano_cli.inference_store.database import open_store
from pixano_cli.inference_store.records import Record, insert_records
from pixano_cli.inference_store.register import put_model
from pixano_cli.media.flight import url_of

DETECTION, ORIENTED, SEGMENTATION, CLASSIFICATION, EMBEDDING = (
    istore.TaskType.OBJECT_DETECTION,
    istore.TaskType.ORIENTED_OBJECT_DETECTION,
    istore.TaskType.IMAGE_SEGMENTATION,
    istore.TaskType.IMAGE_CLASSIFICATION,
    istore.TaskType.IMAGE_EMBEDDING,
)
WIDTH, HEIGHT = 40, 30
SIZE = {"width": ("int", str(WIDTH)), "height": ("int", str(HEIGHT))}


def box(label: str = "cat", score: float | None = 0.5, at: float = 1) -> dict[str, Any]:
    element = {"label": label, "xmin": at, "ymin": at, "xmax": at + 10, "ymax": at + 5}
    return element if score is None else {**element, "score": score}


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder or URL without a store, on each kind of database."""
    monkeypatch.chdir(tmp_path)
    if request.param == "sqlite":
        return str(tmp_path / "store")
    return str(request.getfixturevalue("new_database"))


@pytest.fixture
def store(place: str) -> Iterator[istore.Store]:
    with istore.connect(place) as opened:
        yield opened


@pytest.fixture
def sqlite_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[istore.Store]:
    monkeypatch.chdir(tmp_path)
    with istore.connect(tmp_path / "store") as opened:
        yield opened


class Records:
    """Puts records into a store."""

    def __init__(self, store: istore.Store) -> None:
        self.store = store
        self.number = 0

    def put(
        self,
        file_name: str | None,
        elements: Sequence[Mapping[str, Any]] | None,
        task: istore.TaskType = DETECTION,
        *,
        model_id: str | None = None,
        content: bytes | None = None,
        inference_id: str | None = None,
        metadata: Mapping[str, tuple[str, str]] = SIZE,
        embedding: Sequence[float] | None = None,
        **given: Any,
    ) -> str:
        """Store a record of a model that is named as its task is, if it is not named."""
        self.number += 1
        model_id = model_id or task.value
        inference_id = inference_id or f"r{self.number:05}"
        content = content if content is not None else (file_name or inference_id).encode()
        named = {} if file_name is None else {"file_name": ("string", file_name)}
        record = Record(
            model_id=model_id,
            inference_id=inference_id,
            task_type=task.value,
            inference_action="embed" if task is EMBEDDING else "detect",
            data_hash=given.pop("data_hash", hashlib.sha256(content).hexdigest()),
            data_size=len(content),
            elements=None if elements is None else [*elements],
            embedding=embedding,
            metadata={**metadata, **named},
            **given,
        )
        with self.store.write() as connection:
            put_model(
                connection,
                istore.NewRegisterModelRequest(
                    model_id=model_id,
                    project_id="p",
                    task_type=task,
                    embedding_size=len(embedding or ()),
                ),
            )
            assert insert_records(connection, [record])
        return inference_id


@pytest.fixture
def records(store: istore.Store) -> Records:
    return Records(store)


@pytest.fixture
def sqlite_records(sqlite_store: istore.Store) -> Records:
    return Records(sqlite_store)


class Coco:
    """A COCO file, by file name."""

    def __init__(self, path: Path) -> None:
        document = json.loads(path.read_bytes())
        self.info = document["info"]
        self.categories = {each["id"]: each["name"] for each in document["categories"]}
        self.images = document["images"]
        self.names = [image["file_name"] for image in document["images"]]
        self.annotations: dict[str, list[dict[str, Any]]] = {name: [] for name in self.names}
        assert len(self.annotations) == len(self.names)
        for each in document["annotations"]:
            name = self.names[each["image_id"] - 1]
            self.annotations[name].append({**each, "label": self.categories[each["category_id"]]})

    def labels(self) -> dict[str, list[str]]:
        return {name: [each["label"] for each in found] for name, found in self.annotations.items()}


def coco(place: Any, **how: Any) -> tuple[Coco, Summary]:
    """Export to COCO."""
    summary = export_records(["out.json"], store=_where(place), **how)
    assert summary.task == "export"
    assert summary.total == summary.processed + summary.cached + summary.failed
    found = Coco(Path("out.json"))
    assert summary.cached == len(found.names)
    assert summary.annotations == sum(map(len, found.annotations.values()))
    assert summary.empty == sum(not each for each in found.annotations.values())
    return found, summary


def _where(place: Any) -> str:
    return str(place.location if isinstance(place, istore.Store) else place)


def failures() -> dict[str, str]:
    lines = Path("out.json.failed.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert all(row.keys() == {"path", "stage", "error_class", "message"} for row in rows)
    assert {row["stage"] for row in rows} == {"export"}
    return {row["path"]: row["message"] for row in rows}


def test_records_of_all_models_and_tasks(records: Records, place: str) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3:7, 5:20] = 1
    triangle = [{"x": 10, "y": 10}, {"x": 20, "y": 10}, {"x": 10, "y": 20}]
    records.put("b.jpg", [box("dog", 0.9), box("cat", 0.25)])
    records.put(
        "b.jpg", [{"label": "sky", "score": 0.5, "rle": rle.encode(mask).to_dict()}], SEGMENTATION
    )
    records.put("c.jpg", [{"label": "sea", "contour": [triangle]}], SEGMENTATION)
    records.put(
        "a.jpg", [{"label": "ship", "cx": 20, "cy": 15, "w": 10, "h": 4, "r": 0.0}], ORIENTED
    )
    records.put("empty.jpg", [])
    found, summary = coco(place)
    assert found.names == ["a.jpg", "b.jpg", "c.jpg", "empty.jpg"]
    assert found.labels() == {
        "a.jpg": ["ship"],
        "b.jpg": ["dog", "sky", "cat"],
        "c.jpg": ["sea"],
        "empty.jpg": [],
    }
    assert found.categories == {1: "cat", 2: "dog", 3: "sea", 4: "ship", 5: "sky"}
    assert {(image["width"], image["height"]) for image in found.images} == {(WIDTH, HEIGHT)}
    ship = found.annotations["a.jpg"][0]
    assert (ship["bbox"], ship["area"]) == ([15, 13, 10, 4], 40)
    assert rle.area(rle.CompressedRLEData.from_dict(ship["segmentation"])) == 40
    dog, sky, _ = found.annotations["b.jpg"]
    assert dog["bbox"] == [1, 1, 10, 5]
    assert "segmentation" not in dog
    assert (sky["bbox"], sky["area"]) == ([5, 3, 15, 4], 60)
    sea = found.annotations["c.jpg"][0]
    assert sea["bbox"] == [10, 10, 9, 9]
    assert "score" not in sea
    assert (summary.total, summary.failed, summary.allowed) == (4, 0, True)
    assert summary.model == "Image Segmentation, Object Detection, Oriented Object Detection"
    assert found.info["models"] == summary.model.split(", ")
    assert not Path("out.json.failed.jsonl").exists()
    run = json.loads(Path("out.json.run.json").read_bytes())
    assert run["summary"] == summary.to_dict()
    assert run["filters"] == {}


def test_models_and_filters_choose_records(records: Records, place: str) -> None:
    records.put("a.jpg", [box("cat", 0.9), box("dog", 0.1)], model_id="one", data_source="x")
    records.put("a.jpg", [box("cow", 0.9)], model_id="two")
    records.put("b.jpg", [box("dog", 0.2)], model_id="two", latitude=1.0, longitude=1.0)
    hidden = records.put("c.jpg", [box()], model_id="two")
    with records.store.write() as connection:
        table = schema.inferences
        connection.execute(
            table.update().where(table.c.inference_id == hidden).values(deleted_at=1)
        )
    found, _ = coco(place)
    assert found.labels() == {"a.jpg": ["cat", "cow", "dog"], "b.jpg": ["dog"]}
    assert coco(place, model_id="two")[0].labels() == {"a.jpg": ["cow"], "b.jpg": ["dog"]}
    assert coco(place, model_id=["one", "two"])[0].labels() == found.labels()
    filters = istore.BaseInferenceFilter(data_source_filter="x")
    assert coco(place, filters=filters)[0].labels() == {"a.jpg": ["cat", "dog"]}
    written = Filters(model_id=("two",), label=("dog",))
    assert coco(place, filters=written)[0].labels() == {"b.jpg": ["dog"]}
    # Filters choose records with all that is in them, classes and threshold what is written.
    assert coco(place, filters=Filters(label=("dog",), max_score=0.15))[0].labels() == {
        "a.jpg": ["cat", "dog"]
    }
    assert coco(place, classes=["dog", "cow"], threshold=0.15)[0].labels() == {
        "a.jpg": ["cow"],
        "b.jpg": ["dog"],
    }
    assert coco(place, filters=Filters(near="1,1,5"))[0].names == ["b.jpg"]
    assert coco(place, filters=Filters(since="2999-01-01"))[0].names == []
    with pytest.raises(UsageError, match=r"--model-id: store .* has no model 'tow': did you mean"):
        coco(place, model_id="tow")


def test_a_file_without_a_name_is_named_by_its_record(records: Records, place: str) -> None:
    records.put(None, [box()], inference_id="x")
    records.put(None, [box()], inference_id="y", metadata={**SIZE, "file_name": ("int", "5")})
    assert coco(place)[0].names == ["x", "y"]


def test_several_files_of_one_name_are_told_apart(records: Records, place: str) -> None:
    digests = {each: hashlib.sha256(each).hexdigest() for each in (b"1", b"2", b"3")}
    records.put("d/a.jpg", [box("one")], content=b"1")
    records.put("d/a.jpg", [box("two")], content=b"2", model_id="other")
    records.put("d/a.jpg", [box("too")], content=b"2")
    # One has the very name that the second would be given.
    records.put(f"d/a~{digests[b'2']}.jpg", [box("three")], content=b"3")
    records.put("none", [box("four")], data_hash="no digest")
    records.put("none", [box("five")], data_hash="nor this")
    found, _ = coco(place)
    four, five = (hashlib.sha256(each).hexdigest() for each in (b"no digest", b"nor this"))
    assert found.labels() == {
        f"d/a~{digests[b'1']}.jpg": ["one"],
        f"d/a~{digests[b'2']}~.jpg": ["too", "two"],
        f"d/a~{digests[b'2']}.jpg": ["three"],
        f"none~{four}": ["four"],
        f"none~{five}": ["five"],
    }
    # A name is shared only by what is written.
    assert coco(place, model_id="other")[0].labels() == {"d/a.jpg": ["two"]}


def _image(orientation: int = 1, size: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", size, (orientation, 0, 0)).save(out, "JPEG", exif=exif)
    return out.getvalue()


def test_sizes_come_from_where_they_are_known(
    records: Records, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned, on_disk, unlike = _image(6), _image(8, (20, 10)), _image(3, (7, 9))
    store = records.store
    records.put("metadata.jpg", [], metadata={**SIZE, "orientation": ("int", "5")})
    records.put("no-metadata.jpg", [], metadata={"width": ("string", "5"), "height": ("int", "0")})
    known = records.put("known.jpg", [])
    blobs_of(store).put("some/key", turned)
    records.put("blob.jpg", [], content=turned, metadata={}, data_storage_key="some/key")
    blobs_of(store).put("other/key", unlike)
    records.put("unlike.jpg", [], metadata={}, data_storage_key="other/key")
    (tmp_path / "disk.jpg").write_bytes(on_disk)
    records.put("disk.jpg", [], content=on_disk, metadata={})
    with store.write() as connection:
        table = schema.inferences
        digest = connection.execute(
            select(table.c.data_hash).where(table.c.inference_id == known)
        ).scalar_one()
        picture = {"sha256": digest, "size": 1, "format": "PNG", "orientation": 2}
        connection.execute(insert(schema.images), {**picture, "width": 3, "height": 4})
        url = {"url": url_of(tmp_path / "disk.jpg"), "size": 1, "mtime_ns": 1}
        digest = hashlib.sha256(on_disk).hexdigest()
        connection.execute(insert(schema.files), {**url, "sha256": digest})
    summary = export_records(["out.parquet"], store=place, max_failures=1)
    assert (summary.cached, summary.failed, summary.allowed) == (5, 1, True)
    sizes = {
        row["file_name"]: (row["width"], row["height"], row["orientation"])
        for row in pq.read_table("out.parquet").to_pylist()
    }
    assert sizes == {
        "blob.jpg": (HEIGHT, WIDTH, 6),
        "disk.jpg": (10, 20, 8),
        "known.jpg": (3, 4, 2),
        "metadata.jpg": (WIDTH, HEIGHT, 5),
        "unlike.jpg": (7, 9, 3),
    }
    [failed] = map(json.loads, Path("out.parquet.failed.jsonl").read_text().splitlines())
    assert failed == {
        "path": "no-metadata.jpg",
        "stage": "export",
        "error_class": "InputError",
        "message": "its size is recorded nowhere, and cannot be found: the store has no input of "
        "it and knows no file",
    }
    # What was found out is known from now on, unless the input is not what its record says.
    (tmp_path / "disk.jpg").unlink()
    blobs_of(store).delete("some/key")
    blobs_of(store).delete("other/key")
    again, summary = coco(place, max_failures="100%")
    assert again.names == ["blob.jpg", "disk.jpg", "known.jpg", "metadata.jpg"]
    assert "unlike.jpg" in failures()


def test_what_is_no_image_has_failed(records: Records, place: str) -> None:
    blobs_of(records.store).put("key", b"no image at all")
    records.put("a.jpg", [], metadata={}, data_storage_key="key")
    found, summary = coco(place)
    assert found.names == []
    assert (summary.failed, summary.allowed) == (1, False)
    assert "its size is recorded nowhere" in failures()["a.jpg"]
    export_records(["out.json"], store=place, filters=Filters(source="none"))
    assert not Path("out.json.failed.jsonl").exists()


def test_a_storage_that_fails_fails_the_export(
    sqlite_records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs_of(sqlite_records.store).put("key", _image())
    sqlite_records.put("a.jpg", [], metadata={}, data_storage_key="key")

    def fail(*_: object) -> bytes:
        raise StoreError("the network is down")

    monkeypatch.setattr("pixano_cli.inference_store.blobs.FolderBlobs.get", fail)
    with pytest.raises(StoreError, match="the network is down"):
        coco(sqlite_records.store)
    assert not Path("out.json").exists()


def test_a_bad_element_fails_its_file_alone(records: Records, place: str) -> None:
    records.put("a.jpg", [box(), {"label": "cat", "xmin": "1"}], inference_id="bad")
    records.put("a.jpg", [box()], model_id="good")
    records.put("b.jpg", [box()])
    found, summary = coco(place)
    assert found.names == ["b.jpg"]
    assert (summary.total, summary.failed) == (2, 1)
    assert failures() == {
        "a.jpg": "element 1 of record 'bad' of model 'Object Detection': "
        "its xmin is '1', which is no number"
    }


def test_what_is_never_drawn_is_left_out_and_said(
    records: Records, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    records.put("a.jpg", [box()])
    records.put("b.jpg", [{"label": "cat", "score": 1}], CLASSIFICATION)
    records.put("c.jpg", [{"label": "cat", "score": 1}], CLASSIFICATION)
    records.put("d.jpg", None)
    records.put("e.jpg", None, EMBEDDING, embedding=[1, 2])
    with caplog.at_level(logging.WARNING):
        found, summary = coco(place)
    assert found.names == ["a.jpg"]
    assert summary.total == 1
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(" are left out")[0] for line in said] == [
        "2 records of Image Classification",
        "1 records of Image Embedding",
        "1 records of Object Detection",
    ]


def test_vectors_where_only_those_are_selected(records: Records, place: str) -> None:
    records.put("b.jpg", None, EMBEDDING, embedding=[1, 2.5, -3])
    records.put("a.jpg", None, EMBEDDING, embedding=[0, 0.1, 0])
    records.put("a.jpg", [box()])
    summary = export_records(["v.parquet"], store=place, model_id=EMBEDDING.value)
    assert (summary.total, summary.cached, summary.annotations) == (2, 2, 2)
    rows = pq.read_table("v.parquet").to_pylist()
    assert [row["file_name"] for row in rows] == ["a.jpg", "b.jpg"]
    assert [row["embedding"] for row in rows] == [[0, np.float32(0.1), 0], [1, 2.5, -3]]
    assert rows[0]["sha256"] == hashlib.sha256(b"a.jpg").hexdigest()
    assert (rows[0]["width"], rows[0]["height"]) == (WIDTH, HEIGHT)
    with pytest.raises(UsageError, match="embeddings are written as"):
        coco(place, model_id=EMBEDDING.value)
    with pytest.raises(UsageError, match="--threshold: only vectors are selected"):
        export_records(["v.parquet"], store=place, model_id=EMBEDDING.value, threshold=0.5)
    records.put("b.jpg", None, EMBEDDING, embedding=[1], model_id="other")
    with pytest.raises(UsageError, match="vectors of Image Embedding and other are selected"):
        export_records(
            ["v.parquet"], store=place, filters=Filters(model_id=("other", EMBEDDING.value))
        )


def _run(store: istore.Store, request: Request, labels: Sequence[str] | None, at: int = 1) -> None:
    """Note a run that had a label set."""
    categories = labels and [
        {"id": 10 * index, "name": name, "supercategory": None}
        for index, name in enumerate(labels, 1)
    ]
    job = {"task": "detect", "requests": [request.to_dict()], "categories": categories}
    with store.write() as connection:
        connection.execute(
            delete(schema.runs).where(schema.runs.c.run_id == f"{request.model}{at}")
        )
        row = {"run_id": f"{request.model}{at}", "job_key": "j", "started_at": at, "host": "h"}
        connection.execute(insert(schema.runs), {**row, "pid": 1, "job": json.dumps(job)})


def test_label_sets(records: Records, place: str, tmp_path: Path) -> None:
    one, two = (Request("t", "p", name, "", {}) for name in ("one", "two"))
    store = records.store
    records.put("a.jpg", [box("cat"), box("dog", 0.1)], model_id="one", request_key=one.key)
    assert coco(place)[0].categories == {1: "cat", 2: "dog"}
    assert coco(place, threshold=0.5)[0].categories == {1: "cat"}
    _run(store, one, ["dog", "bird", "cat"])
    official = {10: "dog", 20: "bird", 30: "cat"}
    found, _ = coco(place)
    assert found.categories == official
    assert found.labels() == {"a.jpg": ["cat", "dog"]}
    assert coco(place, classes=["cat", "cow"])[0].categories == {30: "cat"}
    # Not all that is written has the same label set.
    records.put("b.jpg", [box("cat")], model_id="two", request_key=two.key)
    assert coco(place)[0].categories == {1: "cat", 2: "dog"}
    _run(store, two, ["dog", "bird", "cat"])
    assert coco(place)[0].categories == official
    _run(store, two, ["cat"], at=2)
    assert coco(place)[0].categories == {1: "cat", 2: "dog"}
    _run(store, two, ["dog", "bird", "cat"], at=3)
    assert coco(place)[0].categories == official
    records.put("c.jpg", [box("cow")], model_id="two", request_key=two.key)
    assert coco(place)[0].categories == {1: "cat", 2: "cow", 3: "dog"}
    (tmp_path / "labels.txt").write_text("cow\ncat\n")
    found, _ = coco(place, categories=tmp_path / "labels.txt", classes=["cat"])
    assert found.categories == {2: "cat"}
    assert found.labels() == {"a.jpg": ["cat"], "b.jpg": ["cat"], "c.jpg": []}


def test_outputs_say_what_was_asked(records: Records, place: str) -> None:
    one = Request("t", "p", "one", "digest", {"x": 1})
    with records.store.write() as connection:
        row = {"request_key": one.key, "request": json.dumps(one.to_dict())}
        connection.execute(insert(schema.requests), row)
    records.put("a.jpg", [box()], model_id="one", request_key=one.key)
    records.put("a.jpg", [box()], model_id="by hand")
    found, _ = coco(place)
    assert found.info["models"] == ["by hand", "one"]
    assert found.info["requests"] == [one.to_dict()]


def test_every_format_and_an_archive_at_once(records: Records, place: str) -> None:
    records.put("a.jpg", [box()])
    records.put("b.jpg", [{"label": "cat", "score": 1}], CLASSIFICATION)
    blobs_of(records.store).put("key", b"bytes")
    records.put("c.txt", None, EMBEDDING, embedding=[1], metadata={}, data_storage_key="key")
    summary = export_records(["o.json", "o.parquet", "o.zip"], store=place)
    assert summary.outputs == ("o.json", "o.parquet", "o.zip")
    assert Coco(Path("o.json")).names == ["a.jpg"]
    assert [row["file_name"] for row in pq.read_table("o.parquet").to_pylist()] == ["a.jpg"]
    with zipfile.ZipFile("o.zip") as archive:
        assert archive.read("inputs/c.txt") == b"bytes"
        lines = [json.loads(line) for line in archive.read("annotations.jsonl").splitlines()]
        assert [line["path"] for line in lines] == [
            f"inputs/{name}" for name in ("a.jpg", "b.jpg", "c.txt")
        ]
        assert lines[1]["annotations"] == [{"class_label": "cat", "score": 1}]
        assert b'"metadata"' in archive.read("inferences.jsonl")
    alone = export_records(["alone"], store=place, format="archive")
    assert (alone.total, alone.annotations, alone.empty) == (3, 2, 1)
    assert Path("alone").read_bytes() == Path("o.zip").read_bytes()
    with pytest.raises(UsageError, match=r"unknown output format 'o.txt'.*\.zip \(archive\)"):
        export_records(["o.txt"], store=place)


def test_a_stop_leaves_earlier_outputs(sqlite_records: Records) -> None:
    sqlite_records.put("a.jpg", [box()])
    stop = threading.Event()
    stop.set()
    for name in ("o.json", "o.zip"):
        Path(name).write_text("earlier")
        with pytest.raises(StoppedError):
            export_records([name], store=_where(sqlite_records.store), stop=stop)
        assert Path(name).read_text() == "earlier"
        assert sorted(path.name for path in Path().iterdir() if path.name != "store") == [name]
        Path(name).unlink()


def test_what_is_stored_meanwhile_is_not_exported(
    records: Records, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(250):
        records.put(f"{index:03}.jpg", [box()])
    from pixano_cli.annotate import record_files

    pages = record_files.pages_by_file

    def disturbed(*arguments: Any) -> Iterator[Any]:
        for index, page in enumerate(pages(*arguments)):
            records.put(f"{200 + index:03}-new.jpg", [box("new")])
            istore.delete_inference(DETECTION.value, f"r{250 - index:05}")
            yield page

    monkeypatch.setattr(record_files, "pages_by_file", disturbed)
    summary = export_records(["o.json", "o.parquet"], store=place)
    assert Coco(Path("o.json")).names == [f"{index:03}.jpg" for index in range(250)]
    assert summary.cached == 250


def test_equal_records_give_equal_bytes(sqlite_records: Records, tmp_path: Path) -> None:
    put = [
        (f"{index % 20}.jpg", [box("cat", index / 50), box("dog", 0.5, index % 9)])
        for index in range(50)
    ]
    for index, (name, elements) in enumerate(put):
        sqlite_records.put(name, elements, inference_id=f"i{index}")
    with open_store(tmp_path / "other") as other:
        turned = Records(other)
        for index, (name, elements) in reversed([*enumerate(put)]):
            turned.put(name, elements, inference_id=f"i{index}")
    for suffix in ("json", "parquet"):
        export_records([f"one.{suffix}"], store=_where(sqlite_records.store))
        export_records([f"two.{suffix}"], store=tmp_path / "other")
        assert Path(f"one.{suffix}").read_bytes() == Path(f"two.{suffix}").read_bytes()


names = st.sampled_from(["a.jpg", "b/c.jpg", "B.jpg", "é.png", "", None])
elements = st.lists(
    st.builds(
        box,
        st.sampled_from(["cat", "dog"]),
        st.none() | st.sampled_from([0.25, 0.5, 0.75]),
        st.integers(-20, 50),
    ),
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    st.lists(st.tuples(names, st.sampled_from([b"1", b"2"]), elements), max_size=8),
    st.none() | st.just(0.5),
    st.none() | st.just(["dog"]),
)
def test_outputs_agree_with_their_second_definition(
    sqlite_records: Records,
    given_records: list[tuple[str | None, bytes, list[dict[str, Any]]]],
    threshold: float | None,
    classes: list[str] | None,
) -> None:
    with sqlite_records.store.write() as connection:
        connection.execute(delete(schema.inferences))
    wanted: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for name, content, found in given_records:
        inference_id = sqlite_records.put(name, found, content=content)
        key = (inference_id if name is None else name, hashlib.sha256(content).hexdigest())
        objects = wanted.setdefault(key, [])
        for each in found:
            x1, x2 = (min(max(each[side], 0), WIDTH) for side in ("xmin", "xmax"))
            y1, y2 = (min(max(each[side], 0), HEIGHT) for side in ("ymin", "ymax"))
            score = each.get("score")
            if threshold is not None and score is not None and score < threshold:
                continue
            if classes and each["label"] not in classes:
                continue
            if x1 < x2 and y1 < y2:
                objects.append((each["label"], score, [x1, y1, x2 - x1, y2 - y1]))
    result, _ = coco(sqlite_records.store, threshold=threshold, classes=classes)
    times = [name for name, _ in wanted]
    for (name, digest), objects in wanted.items():
        stem, dot, suffix = name.partition(".")
        shown = name if times.count(name) == 1 else f"{stem}~{digest}{dot}{suffix}"
        got = [
            (each["label"], each.get("score"), each["bbox"]) for each in result.annotations[shown]
        ]
        assert sorted(got, key=repr) == sorted(objects, key=repr)
    assert len(result.names) == len(wanted)
    assert result.names == sorted(result.names) or len(set(times)) < len(times)
