"""Export tasks: which inferences, what is in the archive, what becomes of those that fail."""

from __future__ import annotations

import hashlib
import io
import json
import random
import subprocess
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, update

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import archive, export_task, schema
from pixano_cli.inference_store.archive import archived_annotation
from pixano_cli.inference_store.connection import blobs_of
from pixano_cli.inference_store.export_task import create_export_task, get_export_task, sweep
from pixano_cli.inference_store.task_owner import this_process
from pixano_cli.media.flight import path_of, url_of

from . import s3_server
from .requests import CAT, MODEL_ID, create, inference, registration

SAMPLES = Path(__file__).parents[2] / "sample_data"
JPEG = (SAMPLES / "rocket.jpg").read_bytes()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes with a PostgreSQL store is in the working directory."""
    monkeypatch.chdir(tmp_path)


def put(
    inference_id: str,
    data: bytes,
    elements: Any = (CAT,),
    *,
    file_name: str | None = None,
    **given: Any,
) -> istore.Inference:
    """Store an inference with its input."""
    metadata = dict(given.pop("metadata", {}))
    if file_name is not None:
        metadata["file_name"] = ("string", file_name)
    request = inference(
        inference_id,
        elements,
        metadata=metadata,
        data_hash=hashlib.sha256(data).hexdigest(),
        data_size=len(data),
        **given,
    )
    created = istore.create_inference_storage_request(
        request.model_id, inference_id, data, request.data
    )
    assert created is not None
    return created


def export(**request: Any) -> istore.ExportTask:
    """Export the detection model's inferences."""
    task = create_export_task(MODEL_ID, istore.NewExportTaskRequest(**request))
    assert task is not None
    assert task.state == "complete"
    assert task.progress_count == task.expected_count
    assert get_export_task(MODEL_ID, task.id) == task
    return task


def path_to(task: istore.ExportTask) -> Path:
    assert task.presigned_url is not None
    return path_of(task.presigned_url)


class Archive:
    """What an archive holds, read by Python's zipfile."""

    def __init__(self, content: bytes) -> None:
        self.bytes = content
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            assert opened.testzip() is None
            names = opened.namelist()
            assert len(names) == len(set(names))
            entries = {name: opened.read(name) for name in names}
        assert list(entries)[-2:] == ["annotations.jsonl", "inferences.jsonl"]
        self.files = [json.loads(line) for line in entries.pop("annotations.jsonl").splitlines()]
        self.records = [json.loads(line) for line in entries.pop("inferences.jsonl").splitlines()]
        self.inputs = entries
        assert all(next(iter(file)) == "path" for file in self.files)
        assert {file["path"] for file in self.files if "missing" not in file} == set(entries)

    @property
    def ids(self) -> list[str]:
        return [record["inference_id"] for record in self.records]


def exported(**request: Any) -> Archive:
    return Archive(path_to(export(**request)).read_bytes())


def test_an_archive_holds_inputs_annotations_and_metadata(store: istore.Store) -> None:
    element = {**CAT, "track": 7, "class_label": "lion"}
    created = put(
        "one",
        JPEG,
        [element, {"label": "no box", "score": 0.5}],
        file_name="space/rocket.jpg",
        metadata={"lens": ("string", "50mm"), "iso": ("int", "100")},
        data_source="camera",
        latitude=1.5,
        longitude=-2.5,
    )
    task = export(include_inferences_as_annotations=True, include_custom_metadata=True)
    assert (task.expected_count, task.progress_count) == (1, 1)
    assert path_to(task) == (store.folder / "exports" / f"{task.id}.zip").absolute()
    read = Archive(path_to(task).read_bytes())
    assert read.inputs == {"inputs/space/rocket.jpg": JPEG}
    assert read.files == [
        {
            "path": "inputs/space/rocket.jpg",
            "annotations": [
                {
                    "class_label": "cat",
                    "bbox": {"xmin": 1.0, "ymin": 2.0, "xmax": 30.0, "ymax": 40.0},
                    "score": 0.9,
                    "track": 7,
                },
                {"class_label": "no box", "score": 0.5},
            ],
        }
    ]
    [record] = read.records
    assert record.pop("data") == [element, {"label": "no box", "score": 0.5}]
    assert record == {
        "path": "inputs/space/rocket.jpg",
        "model_id": MODEL_ID,
        "inference_id": "one",
        "created_at": created.created_at.isoformat(),
        "updated_at": created.updated_at.isoformat(),
        "inference_action": "detect",
        "version": "v2",
        "data_hash": hashlib.sha256(JPEG).hexdigest(),
        "data_size": len(JPEG),
        "data_source": "camera",
        "data_coordinates": {"latitude": 1.5, "longitude": -2.5},
        "data_storage_key": created.data_storage_key,
        "is_protected": False,
        "metadata": [
            {"key": "file_name", "type": "string", "value": "space/rocket.jpg"},
            {"key": "iso", "type": "int", "value": "100"},
            {"key": "lens", "type": "string", "value": "50mm"},
        ],
    }


def test_annotations_and_metadata_only_where_they_are_wanted(store: istore.Store) -> None:
    put("one", b"1", file_name="one.txt")
    read = exported()
    assert read.files == [{"path": "inputs/one.txt"}]
    assert "metadata" not in read.records[0]
    assert [*exported(include_inferences_as_annotations=True).files[0]] == ["path", "annotations"]
    assert "metadata" in exported(include_custom_metadata=True).records[0]


@pytest.mark.parametrize(
    ("task_type", "element", "annotation"),
    [
        (
            "Object Detection",
            {"label": "a", "score": 1, "xmin": 0, "ymin": 1, "xmax": 2, "ymax": 3},
            {"class_label": "a", "bbox": {"xmin": 0, "ymin": 1, "xmax": 2, "ymax": 3}, "score": 1},
        ),
        (
            "Oriented Object Detection",
            {"label": "a", "cx": 0, "cy": 1, "w": 2, "h": 3, "r": 0.5},
            {"class_label": "a", "oriented_bbox": {"cx": 0, "cy": 1, "w": 2, "h": 3, "r": 0.5}},
        ),
        (
            "Image Segmentation",
            {"label": "a", "score": 1, "contour": [[{"x": 1, "y": 2}]]},
            {"class_label": "a", "contour": [[{"x": 1, "y": 2}]], "score": 1},
        ),
        (
            "Image Segmentation",
            {"label": "a", "rle": {"size": [1, 2], "counts": "2"}, "iou": 0.5},
            {"class_label": "a", "rle": {"size": [1, 2], "counts": "2"}, "iou": 0.5},
        ),
        ("Image Classification", {"label": "a", "score": 1}, {"class_label": "a", "score": 1}),
        ("Object Detection", {"label": "a", "xmin": 1}, {"class_label": "a", "xmin": 1}),
        ("Object Detection", {"label": "a", "contour": []}, {"class_label": "a", "contour": []}),
    ],
)
def test_annotations_by_task(
    task_type: str, element: dict[str, Any], annotation: dict[str, Any]
) -> None:
    archived = archived_annotation(task_type, element)
    assert archived == annotation
    assert next(iter(archived)) == "class_label"


def test_answers_that_are_no_list_are_no_annotations(store: istore.Store) -> None:
    embedder = registration("embedder", istore.TaskType.IMAGE_EMBEDDING, 2)
    istore.register_model_for_inference_storage(embedder)
    given = {"task": istore.TaskType.IMAGE_EMBEDDING, "action": istore.InferenceAction.EMBED}
    put("vector", b"1", None, model_id="embedder", embedding=[0.1, -2], **given)
    put("nothing", b"2", None, model_id="embedder", **given)
    task = create_export_task(
        "embedder", istore.NewExportTaskRequest(include_inferences_as_annotations=True)
    )
    assert task is not None
    read = Archive(path_to(task).read_bytes())
    assert read.files == [
        {"path": "inputs/nothing", "annotations": []},
        {"path": "inputs/vector", "annotations": []},
    ]
    assert [record["data"] for record in read.records] == [None, [0.1, -2]]
    assert [record["version"] for record in read.records] == ["v1", "v1"]


def test_one_line_a_file_with_the_annotations_of_all_its_records(store: istore.Store) -> None:
    dog = {**CAT, "label": "dog"}
    put("b", b"1", [CAT], file_name="one.jpg")
    put("a", b"1", [dog], file_name="one.jpg")
    put("c", b"2", [CAT], file_name="one.jpg")
    put("d", b"1", [CAT], file_name="two.jpg")
    read = exported(include_inferences_as_annotations=True)
    labels = {
        file["path"]: [each["class_label"] for each in file["annotations"]] for file in read.files
    }
    one, other = sorted([b"1", b"2"], key=lambda data: hashlib.sha256(data).hexdigest())
    first = {b"1": ["dog", "cat"], b"2": ["cat"]}
    assert labels == {
        "inputs/one.jpg": first[one],
        "inputs/one~2.jpg": first[other],
        "inputs/two.jpg": ["cat"],
    }
    assert read.inputs == {
        "inputs/one.jpg": one,
        "inputs/one~2.jpg": other,
        "inputs/two.jpg": b"1",
    }
    paths = {record["inference_id"]: record["path"] for record in read.records}
    assert paths["a"] == paths["b"] != paths["c"]


def test_selected_are_filtered_or_included_less_excluded(store: istore.Store) -> None:
    for name in "abcdef":
        source = "camera" if name in "abc" else None
        put(name, name.encode(), data_source=source)
    hidden = put("hidden", b"hidden", data_source="camera")
    with store.write() as connection:
        connection.execute(
            update(schema.inferences)
            .where(schema.inferences.c.inference_id == hidden.inference_id)
            .values(deleted_at=1)
        )
    camera = istore.BaseInferenceFilter(data_source_filter="camera")
    assert exported(filters=camera).ids == ["a", "b", "c"]
    assert exported(
        filters=camera,
        include_inference_ids=["e", "hidden", "unknown"],
        exclude_inference_ids=["a", "f", "no\0such", "\udce9"],
    ).ids == ["b", "c", "e"]
    assert exported().ids == [*"abcdef"]
    assert exported(include_inference_ids=["a"]).ids == [*"abcdef"]
    assert exported(exclude_inference_ids=[*"abcdef"]).ids == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.data())
def test_selection_agrees_with_its_second_definition(store: istore.Store, data: Any) -> None:
    every = {f"i{index}": ["x", "y", None][index % 3] for index in range(9)}
    for name, source in every.items():
        create(name, data_source=source)
    names = st.lists(st.sampled_from([*every, "other", ""]))
    source = data.draw(st.sampled_from([None, "x", "z"]))
    include, exclude = data.draw(names), data.draw(names)
    wanted = {
        name
        for name, its in every.items()
        if (source is None or its == source or name in include) and name not in exclude
    }
    assert (
        set(
            exported(
                filters=istore.BaseInferenceFilter(data_source_filter=source),
                include_inference_ids=include,
                exclude_inference_ids=exclude,
            ).ids
        )
        == wanted
    )


def test_more_ids_than_a_statement_takes_values(store: istore.Store) -> None:
    for name in "abc":
        create(name)
    nothing = istore.BaseInferenceFilter(data_source_filter="none")
    many = [f"none-{index}" for index in range(100_000)]
    assert exported(
        filters=nothing, include_inference_ids=[*many, "a", "b"], exclude_inference_ids=[*many, "b"]
    ).ids == ["a"]


def test_unknown_included_ids_are_said(
    store: istore.Store, caplog: pytest.LogCaptureFixture
) -> None:
    create("a")
    exported(include_inference_ids=["a", "b", "c"])
    assert "2 of the 3 included ids are no inference's" in caplog.text


def test_a_model_that_is_not_registered(store: istore.Store) -> None:
    with pytest.raises(StoreError, match="model 'nobody' is not registered"):
        create_export_task("nobody", istore.NewExportTaskRequest())
    with store.read() as connection:
        assert connection.execute(select(schema.export_tasks)).first() is None


def test_a_filter_that_is_not_valid(store: istore.Store) -> None:
    window = istore.TimeWindowFilter(start="yesterday")
    request = istore.NewExportTaskRequest(
        filters=istore.BaseInferenceFilter(time_window_filter=window)
    )
    with pytest.raises(StoreError, match="yesterday"):
        create_export_task(MODEL_ID, request)
    with store.read() as connection:
        assert connection.execute(select(schema.export_tasks)).first() is None


def test_tasks_are_a_models_own(store: istore.Store) -> None:
    task = export()
    istore.register_model_for_inference_storage(registration("other"))
    assert get_export_task("other", task.id) is None
    assert get_export_task(MODEL_ID, "none") is None


def test_an_input_that_is_gone_is_said(
    store: istore.Store, caplog: pytest.LogCaptureFixture
) -> None:
    kept = put("kept", b"kept")
    gone = put("gone", b"gone")
    create("never", data_hash="b" * 64)
    assert gone.data_storage_key
    blobs_of(store).delete(gone.data_storage_key)
    read = exported(include_inferences_as_annotations=True)
    assert read.inputs == {f"inputs/{kept.inference_id}": b"kept"}
    missing = {file["path"]: file.get("missing", False) for file in read.files}
    assert missing == {"inputs/gone": True, "inputs/kept": False, "inputs/never": True}
    assert all(len(file["annotations"]) == 1 for file in read.files)
    assert "2 of 3 files are exported without their inputs" in caplog.text
    assert "the first is gone: there is no blob" in caplog.text


def test_a_storage_that_fails_is_no_missing_input(
    store: istore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("one", b"one")

    def fail(*_: object) -> bytes:
        raise StoreError("the network is down")

    monkeypatch.setattr(type(blobs_of(store)), "get", fail)
    with pytest.raises(StoreError, match="the network is down"):
        create_export_task(MODEL_ID, istore.NewExportTaskRequest())
    assert _states(store) == ["failed"]
    assert _left(store) == []


def _states(store: istore.Store) -> list[str]:
    with store.read() as connection:
        return list(connection.execute(select(schema.export_tasks.c.state)).scalars())


def _left(store: istore.Store) -> list[str]:
    return sorted(path.name for path in (store.folder / "exports").iterdir())


def test_files_on_disk_stand_in_while_they_have_not_changed(
    store: istore.Store, tmp_path: Path
) -> None:
    """What `annotate` records: no blob, but where the file was."""
    contents = {"same.jpg": b"same", "changed.jpg": b"changed", "removed.jpg": b"removed"}
    rows = []
    for name, content in contents.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        rows += [
            {"url": url_of(each), "size": 1, "mtime_ns": 1, "sha256": digest}
            for each in (path, path.with_name(f"0-{name}"))
        ]
        create(name, data_hash=digest, metadata={"file_name": ("string", name)})
    with store.write() as connection:
        connection.execute(insert(schema.files), rows)
    (tmp_path / "photos" / "changed.jpg").write_bytes(b"other")
    (tmp_path / "photos" / "removed.jpg").unlink()
    read = exported()
    assert read.inputs == {"inputs/same.jpg": b"same"}
    assert [file.get("missing", False) for file in read.files] == [True, True, False]


HOSTILE = [
    "../../x",
    "/etc/passwd",
    "C:\\x",
    "..\\..\\x",
    "a//b/../../../c",
    "x" * 5000,
    "/".join("x" * 2500),
    "CON",
    "a",
    "A",
    "a/b",
    "annotations.jsonl",
    "",
    "é",
    "e\u0301",
    "line\nbreak",
]


def test_hostile_names_stay_inside(store: istore.Store, tmp_path: Path) -> None:
    for index, name in enumerate(HOSTILE):
        put(f"i{index}", str(index).encode(), file_name=name)
    read = exported()
    assert sorted(read.inputs.values()) == sorted(str(i).encode() for i in range(len(HOSTILE)))
    assert len({name.casefold() for name in read.inputs}) == len(HOSTILE)
    target = tmp_path / "unpacked" / "here"
    with zipfile.ZipFile(io.BytesIO(read.bytes)) as opened:
        opened.extractall(target)
    files = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert files == {*read.inputs, "annotations.jsonl", "inferences.jsonl"}
    assert list((tmp_path / "unpacked").iterdir()) == [target]


def test_equal_stores_give_equal_bytes(store: istore.Store) -> None:
    for index in range(30):
        put(f"i{index}", b"x" * index, file_name=f"{index % 7}/{index}.txt")
    put("photo", JPEG)
    first = exported(include_custom_metadata=True).bytes
    assert exported(include_custom_metadata=True).bytes == first


def test_photographs_are_stored_and_texts_compressed(store: istore.Store) -> None:
    put("photo", JPEG)
    put("text", b"text " * 100)
    with zipfile.ZipFile(path_to(export())) as opened:
        methods = {each.filename: each.compress_type for each in opened.infolist()}
    assert methods["inputs/photo"] == zipfile.ZIP_STORED
    assert methods["inputs/text"] == zipfile.ZIP_DEFLATED


def test_what_is_stored_meanwhile_is_not_exported(
    store: istore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(150):
        create(f"i{index:03}")
    seen: list[tuple[str, int, int]] = []
    read_input = archive.read_input

    def slowly(*arguments: Any) -> bytes:
        if len(seen) == 120:
            create("i0000")
            create("i999")
            istore.delete_inference(MODEL_ID, "i149")
        with store.read() as connection:
            row = connection.execute(select(schema.export_tasks)).one()
        task = get_export_task(MODEL_ID, row.id)
        assert task is not None
        assert task.presigned_url is None
        seen.append((task.state, task.progress_count, task.expected_count))
        return read_input(*arguments)

    monkeypatch.setattr(archive, "read_input", slowly)
    monkeypatch.setattr(export_task, "PROGRESS_EVERY_S", 0.0)
    task = create_export_task(MODEL_ID, istore.NewExportTaskRequest())
    assert task is not None
    # Every record with a page's first file: none of these has one of its own.
    assert seen == [("running", index, 150) for index in range(150)]
    assert Archive(path_to(task).read_bytes()).ids == [f"i{index:03}" for index in range(150)]


def test_a_full_disk_fails_the_task(store: istore.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put("one", b"one")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pixano_cli.inference_store.zip_writer.ZipWriter.add", full)
    with pytest.raises(StoreError, match="the disk is full"):
        create_export_task(MODEL_ID, istore.NewExportTaskRequest())
    assert _states(store) == ["failed"]
    assert _left(store) == []


def test_an_interrupt_fails_the_task(store: istore.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put("one", b"one")

    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(archive, "read_input", interrupted)
    with pytest.raises(KeyboardInterrupt):
        create_export_task(MODEL_ID, istore.NewExportTaskRequest())
    assert _states(store) == ["failed"]
    assert _left(store) == []


def test_a_removed_archive_has_no_url(store: istore.Store) -> None:
    task = export()
    path_to(task).unlink()
    again = get_export_task(MODEL_ID, task.id)
    assert again is not None
    assert (again.state, again.presigned_url) == ("complete", None)


def test_archives_in_s3(
    store: istore.Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import httpx

    from pixano_cli.inference_store import connection
    from pixano_cli.inference_store.blobs import open_blobs

    with s3_server.serve() as endpoint:
        for name, value in s3_server.environment(endpoint).items():
            monkeypatch.setenv(name, value)
        bucket = f"exports-{store.folder.name[:10]}-{random.randrange(10**9)}"
        s3_server.make_bucket(endpoint, bucket)
        blobs = open_blobs(f"s3://{bucket}/prefix")
        monkeypatch.setitem(connection._storages, store, blobs)
        put("one", b"one")
        task = create_export_task(MODEL_ID, istore.NewExportTaskRequest())
        assert task is not None
        assert task.presigned_url is not None
        assert task.presigned_url.startswith(endpoint)
        read = Archive(httpx.get(task.presigned_url).content)
        assert read.inputs == {"inputs/one": b"one"}
        assert _left(store) == []
        assert f"exports/{task.id}.zip" in set(blobs.keys())
        # Found without its end: it has failed, and goes.
        _abandon(store, task.id)
        assert sweep(store, blobs) == 1
        assert f"exports/{task.id}.zip" not in set(blobs.keys())


def _abandon(store: istore.Store, task_id: str) -> None:
    """Let a task look as its process's death leaves it."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    owner = this_process().rsplit(" ", 2)[0] + f" {gone.pid} 0"
    with store.write() as connection:
        connection.execute(
            update(schema.export_tasks)
            .where(schema.export_tasks.c.id == task_id)
            .values(state="running", owner=owner)
        )


def test_a_task_whose_process_is_gone_has_failed(store: istore.Store) -> None:
    put("one", b"one")
    task = export()
    _abandon(store, task.id)
    found = get_export_task(MODEL_ID, task.id)
    assert found is not None
    assert (found.state, found.presigned_url) == ("failed", None)
    assert _left(store) == []
    assert sweep(store, blobs_of(store)) == 0


@pytest.fixture
def filled(sqlite_store: istore.Store) -> istore.Store:
    for index in range(60):
        put(f"i{index}", JPEG + bytes([index]), file_name=f"{index}.jpg")
    return sqlite_store


def test_two_exports_at_once(filled: istore.Store) -> None:
    tasks: list[istore.ExportTask] = []
    threads = [threading.Thread(target=lambda: tasks.append(export())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({path_to(task).read_bytes() for task in tasks}) == 1
    assert len(_left(filled)) == 4


def test_files_of_a_content_are_listed_by_an_index(store: istore.Store) -> None:
    # An archive asks for them page by page.
    with store.read() as connection:
        if connection.dialect.name == "postgresql":
            pytest.skip("it plans by how many there are")
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT sha256, url FROM files WHERE sha256 IN ('a', 'b')"
        )
        assert "ix_files_content" in "".join(row[-1] for row in plan)
