"""All of the documented interface in one session, by its names at the top of the package.

What is asked and answered is noted, so that nothing of the document is left out, and what one
database answers is what the other does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel

from pixano_cli import inference_store as istore
from pixano_cli.media.flight import path_of

from .test_store_models import entries
from .test_store_retention import NOON, Clock
from .test_store_retention import clock as clock

TASKS_AND_ACTIONS = {
    "Image Classification": ("image_classification", ["predict", "predict_proba", "embed"]),
    "Object Detection": ("object_detection", ["detect"]),
    "Oriented Object Detection": ("oriented_object_detection", ["detect"]),
    "Image Segmentation": ("image_segmentation", ["predict", "predict_proba"]),
    "Image Embedding": ("embedding", ["embed"]),
    "Text Embedding": ("embedding", ["embed"]),
}
ELEMENTS: dict[str, Any] = {
    "image_classification": [{"label": "cat", "score": 0.75}],
    "object_detection": [
        {"label": "cat", "score": 0.75, "xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4},
        {"label": "dog", "score": 0.25, "xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4},
    ],
    "oriented_object_detection": [
        {"label": "ship", "score": 0.5, "cx": 5, "cy": 6, "w": 4, "h": 2, "r": 0.5}
    ],
    "image_segmentation": [
        {"label": "sky", "score": 0.5, "contour": [[{"x": 0, "y": 0}, {"x": 2, "y": 0}]]}
    ],
    "embedding": [3.0, 4.0],
}
# What numbers of the five detections a filter finds; they have n = 0..4 under each type.
COMPARED = {
    "=": ("2", [2]),
    "!=": ("2", [0, 1, 3, 4]),
    ">": ("2", [3, 4]),
    ">=": ("2", [2, 3, 4]),
    "<": ("2", [0, 1]),
    "<=": ("2", [0, 1, 2]),
    "in": ("[4, 0, 7]", [0, 4]),
}
AN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
E = TypeVar("E", bound=Enum)


class Session:
    """Calls of the documented functions, with all that was asked and answered."""

    def __init__(self, folder: Path) -> None:
        self.used: set[str] = set()
        self.answers: list[str] = []
        self._folder = folder
        self._ids: dict[str, str] = {}

    def each(self, enum: type[E]) -> Iterator[E]:
        """Go through the values of an enum; each is of use to what follows."""
        for value in enum:
            self.used.add(f"{enum.__name__}.{value.name}")
            yield value

    def __getattr__(self, name: str) -> Any:
        """The documented function of this name."""
        function = getattr(istore, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.used.add(f"{function.__module__.rpartition('.')[2]}.{name}")
            for asked in (*args, *kwargs.values()):
                self.note(asked)
            answer = function(*args, **kwargs)
            self.note(answer, answered=True)
            self.answers.append(f"{name}: {self.plain(answer)}")
            return answer

        return call

    def note(self, value: Any, *, answered: bool = False) -> None:
        """Note the fields that a request sets, or that are something in an answer."""
        if isinstance(value, (list, tuple)):
            for each in value:
                self.note(each, answered=answered)
        if not isinstance(value, BaseModel):
            return
        for name in type(value).model_fields:
            inner = getattr(value, name)
            if inner is not None if answered else name in value.model_fields_set:
                self.used.add(f"{type(value).__name__}.{name}")
            self.note(inner, answered=answered)

    def plain(self, answer: Any) -> str:
        """What an answer says, but for ids made up on the way and where the store is."""
        text = repr(answer).replace(str(self._folder), "FOLDER")
        return AN_ID.sub(lambda id_: self._ids.setdefault(id_[0], f"id {len(self._ids)}"), text)


def collection(
    task: str, action: str, data: bytes, answer: str | None = None, **more: Any
) -> istore.NewInferenceAndMetadataCollection:
    mapped = istore.map_to_inference_store_metadata(more)
    extended = mapped.pop("extended_metadata")
    return istore.NewInferenceAndMetadataCollection(
        **({} if answer is None else {answer: ELEMENTS[answer]}),
        metadata=istore.NewMetadataCollectionRequest(
            standard_metadata=istore.NewStandardMetadataRequest(
                data_hash=istore.get_data_hash(data),
                data_size=len(data),
                task_type=istore.TaskType(task),
                inference_action=istore.InferenceAction(action),
                **mapped,
            ),
            extended_metadata=[istore.NewExtendedMetadataRequest(**each) for each in extended],
        ),
    )


def store_some(session: Session, clock: Clock) -> None:
    """Register a model of each task and store what it answers to each action, a second apart."""
    actions = set(session.each(istore.InferenceAction))
    for task in session.each(istore.TaskType):
        name, known = TASKS_AND_ACTIONS[task.value]
        model = istore.NewRegisterModelRequest(
            model_id=task.value,
            project_id="a project",
            task_type=task,
            embedding_size=2 if "embed" in known else 0,
        )
        assert session.register_model_for_inference_storage(model) == task.value
        assert session.get_registered_model(task.value).created_at == clock.time
        for action in known:
            answer = "embedding" if action == "embed" else name
            clock.pass_hours(1 / 3600)
            request = istore.NewInferenceStorageRequest(
                model_id=task.value,
                inference_id=action,
                data=collection(task.value, action, b"", answer),
            )
            stored = session.create_inference(task.value, request)
            assert stored.structured_embedding == ([3.0, 4.0] if action == "embed" else None)
            assert stored.version == ("v1" if action == "embed" else "v2")
            actions.discard(istore.InferenceAction(action))
    assert not actions


def store_detections(session: Session, clock: Clock) -> None:
    """Store five detections with their inputs, and metadata of each type."""
    assert session.delete_inference("Object Detection", "detect") == "detect"
    for number in range(5):
        clock.pass_hours(1 / 3600)
        data = b"input %d" % number
        session.create_inference_storage_request(
            "Object Detection",
            f"{number}",
            data,
            collection(
                "Object Detection",
                "detect",
                data,
                "object_detection" if number else None,
                n=number,
                x=float(number),
                s=str(number),
                j={"n": number, "x": float(number), "s": str(number)},
                data_source=f"camera {number}",
                latitude=float(10 * number),
                longitude=0.0,
            ),
            is_protected=number == 4,
        )


def found(session: Session, **filters: Any) -> list[int]:
    request = istore.NewGetInferencesRequest(filters=istore.BaseInferenceFilter(**filters))
    ids = [each.inference_id for each in session.filter_inferences("Object Detection", request)]
    assert session.count_inferences("Object Detection", request) == len(ids)
    return [int(each) for each in ids]


def filter_all(session: Session, clock: Clock) -> None:
    assert found(session) == [0, 1, 2, 3, 4]
    assert found(session, inference_action_filter="detect") == [0, 1, 2, 3, 4]
    assert found(session, inference_action_filter="predict") == []
    assert found(session, data_hash_filter=istore.get_data_hash(b"input 3")) == [3]
    assert found(session, data_source_filter="camera 1") == [1]
    first = clock.time - timedelta(seconds=4)
    shown = [(first + timedelta(seconds=each)).strftime("%Y-%m-%dT%H:%M:%SZ") for each in (1, 3)]
    window = istore.TimeWindowFilter(start=shown[0], end=shown[1])
    assert found(session, time_window_filter=window) == [1, 2, 3]
    keys = {"int": "n", "float": "x", "string": "s"}
    for kind in session.each(istore.MetadataFilterType):
        for operator in session.each(istore.MetadataFilterOperator):
            value, numbers = COMPARED[operator.value]
            inside, _, scalar = kind.value.rpartition(".")
            key = f"j.{keys[scalar]}" if inside else keys[scalar]
            asked = istore.MetadataFilter(key=key, operator=operator, type=kind, value=value)
            assert found(session, metadata_filter=[asked]) == numbers, asked
    point = istore.GeoPoint(latitude=10.0, longitude=0.001)
    circle = istore.GeoCircle(center=point, radius=1_200_000.0)
    assert found(
        session, location_filter=istore.GeolocationFilter(gps_coordinates_circle=circle)
    ) == [0, 1, 2]
    rectangle = istore.GeoRectangle(p1=point, p2=istore.GeoPoint(latitude=30.0, longitude=-1.0))
    assert found(
        session, location_filter=istore.GeolocationFilter(gps_coordinates_rectangle=rectangle)
    ) == [1, 2, 3]
    some: dict[str, Any]
    for some, numbers in (
        ({"labels": ["dog", "bird"]}, [1, 2, 3, 4]),
        ({"labels": ["dog"], "minimum_score": 0.5}, []),
        ({"minimum_score": 0.25, "maximum_score": 0.25}, [1, 2, 3, 4]),
    ):
        elements = istore.DeconstructedInferenceFilter(**some)
        assert found(session, deconstructed_inference_filter=elements) == numbers


def page_all(session: Session) -> None:
    def page(model_id: str = "Object Detection", **pagination: Any) -> list[str]:
        request = istore.NewGetInferencesRequest(
            pagination=istore.Pagination(limit=2, offset=1, **pagination), presign=True
        )
        if model_id == "Image Classification":
            request.embedding_filters = istore.EmbeddingFilter(query_embedding=[4.0, 3.0])
        return [each.inference_id for each in session.filter_inferences(model_id, request)]

    orders = {"asc": ["1", "2"], "desc": ["3", "2"]}
    for direction in session.each(istore.PaginationSortDirection):
        for fields in (
            istore.PaginationSortField,
            istore.PaginationEmbeddingSortField,
            istore.PaginationGranularInferenceSortField,
        ):
            for field in session.each(fields):
                by_distance = field.value == "embedding_distance"
                model_id = "Image Classification" if by_distance else "Object Detection"
                ids = page(model_id, direction=direction, sort=field)
                if by_distance:
                    assert ids == []
                elif field.value == "created_at":
                    assert ids == orders[direction.value]
                else:  # All are the same; the one without elements is last.
                    assert ids == ["2", "3"]
    distances = {"cosine": 0.04, "l2": 2**0.5, "negative_dot_product": -24.0}
    for metric in session.each(istore.EmbeddingDistanceMetric):
        asked = istore.EmbeddingFilter(query_embedding=[4.0, 3.0], distance_metric=metric)
        request = istore.NewGetInferencesRequest(embedding_filters=asked)
        (nearest,) = session.filter_inferences("Image Embedding", request)
        assert nearest.embedding_distance == pytest.approx(distances[metric.value])
        assert session.count_inferences("Image Embedding", request) == 1


def measure_all(session: Session) -> None:
    for kind in session.each(istore.MetadataStatisticsType):
        request = istore.NewGetMetadataStatisticsRequest(
            filters=istore.BaseInferenceFilter(inference_action_filter="detect"),
            key={"int": "n", "float": "x", "string": "s"}[kind.value],
            type=kind,
        )
        found = session.get_metadata_statistics("Object Detection", request)
        assert found.count == sum(found.distribution.values()) == 5
        assert len(found.distribution) == (5 if kind.value == "string" else 10)
    for bins, expected in (
        ({"distribution_bin_count": 2}, {"[1, 2)": 1, "[2, 3]": 2}),
        ({"distribution_bin_width": 1.5}, {"[1, 2.5)": 2, "[2.5, 3]": 1}),
    ):
        request = istore.NewGetMetadataStatisticsRequest(
            key="n",
            type=istore.MetadataStatisticsType.INT,
            distribution_minimum_value=1,
            distribution_maximum_value=3,
            **bins,
        )
        found = session.get_metadata_statistics("Object Detection", request)
        assert (found.distribution, found.min, found.max) == (expected, 0, 4)


def change_metadata(session: Session) -> None:
    model_id = "Object Detection"
    values = {"string": "a", "int": "1", "float": "0.5", "json": '{"a": 1}'}
    for kind in session.each(istore.MetadataType):
        request = istore.NewExtendedMetadataRequest(key="new", type=kind, value=values[kind.value])
        created = session.create_metadata(model_id, "0", request)
        assert created == istore.Metadata(key="new", type=kind.value, value=values[kind.value])
        assert created in session.get_metadata(model_id, "0")
    counts = session.get_metadata_key_type_counts(model_id).counts
    assert counts["new"] == {"string": 1}
    assert counts["n"] == {"int": 5}
    assert session.delete_metadata(model_id, "0", "new") == "new"
    assert session.delete_metadata(model_id, "0", "new") is None
    assert session.get_data_hash(b"abc")[:8] == "ba7816bf"
    assert session.map_to_inference_store_metadata({"a": 1}) == {
        "extended_metadata": [{"key": "a", "type": "int", "value": "1"}]
    }


def upload(session: Session) -> None:
    model_id = "Object Detection"
    place = session.upload_data(model_id)
    path_of(place.data_presigned_url).write_bytes(b"uploaded")
    request = istore.NewInferenceStorageRequest(
        model_id=model_id,
        inference_id="uploaded",
        data=collection("Object Detection", "detect", b"uploaded"),
        data_storage_key=place.data_storage_key,
        is_protected=False,
    )
    session.create_inference(model_id, request)
    stored = session.get_inference(model_id, "uploaded")
    assert stored.data_storage_key == place.data_storage_key
    answer = session.upload_inference_and_metadata(model_id)
    path_of(answer.metadata_presigned_url).write_bytes(request.data.encode())
    assert answer.metadata_storage_key != place.data_storage_key
    assert session.delete_inference(model_id, "uploaded") == "uploaded"


def export(session: Session) -> None:
    request = istore.NewExportTaskRequest(
        filters=istore.BaseInferenceFilter(data_source_filter="camera 1"),
        include_inference_ids=["2", "3"],
        exclude_inference_ids=["3"],
        include_inferences_as_annotations=True,
        include_custom_metadata=True,
    )
    task = session.create_export_task("Object Detection", request)
    assert (task.state, task.progress_count, task.expected_count) == ("complete", 2, 2)
    assert path_of(task.presigned_url).stat().st_size > 0
    assert session.get_export_task("Object Detection", task.id) == task


def expire(session: Session, clock: Clock) -> None:
    model_id = "Object Detection"
    for action in session.each(istore.DeleteAction):
        rule = istore.NewRetentionPolicyRequest(
            automated_interval=24, maximum_record_age=2, maximum_blob_age=1, delete_action=action
        )
        policy = session.create_retention_policy(model_id, rule)
        assert session.get_retention_policy(model_id) == policy
    clock.pass_hours(1)
    counts = []
    for dry_run in (True, False):
        clock.pass_hours(1 / 3600)
        request = istore.NewRetentionTaskRequest(dry_run=dry_run, retention_policy_id=policy.id)
        task = session.create_retention_task(model_id, request)
        counts.append((task.total_blob_count, task.deleted_blob_count, task.deleted_record_count))
        assert session.get_retention_task(model_id, task.id) == task
    # One of the five is protected.
    assert counts == [(4, 0, 0), (4, 4, 0)]
    assert session.get_retention_policy(model_id).last_scheduled_at == clock.time
    for state in session.each(istore.RetentionTaskState):
        asked = istore.NewGetRetentionTasksRequest(
            retention_policy_id=policy.id,
            state_filter=state,
            time_window_filter=istore.TimeWindowFilter(start="2030-01-01T00:00:00Z"),
            pagination=istore.Pagination(limit=1, offset=1),
        )
        found = session.filter_retention_tasks(model_id, asked)
        assert found == ([task] if state == "complete" else [])
    assert session.delete_retention_policy(model_id, policy.id) == policy.id


def delete_many(session: Session) -> None:
    """As the document's own example does it, but for the key."""
    deleted = session.bulk_delete_inferences(
        "Object Detection",
        istore.BaseInferenceFilter(
            metadata_filter=[
                istore.MetadataFilter(
                    key="s",
                    type=istore.MetadataFilterType.STRING,
                    operator=istore.MetadataFilterOperator.IN,
                    value=istore.MetadataFilter.form_values_for_in_operator(
                        istore.MetadataFilterType.STRING, ["2", "4"]
                    )
                    or "",
                ),
                istore.MetadataFilter(
                    key="n",
                    type=istore.MetadataFilterType.INT,
                    operator=istore.MetadataFilterOperator.EQUAL,
                    value="4",
                ),
            ]
        ),
    )
    assert deleted == ["4"]
    assert session.get_inference("Object Detection", "4") is None


def hold(place: str, folder: Path, clock: Clock) -> Session:
    """Go through the whole interface on a store."""
    clock.ns = int(NOON.timestamp()) * 1_000_000_000
    session = Session(folder)
    with istore.connect(place, blobs=folder / "blobs") as store:
        store.folder = folder
        store_some(session, clock)
        store_detections(session, clock)
        filter_all(session, clock)
        page_all(session)
        measure_all(session)
        change_metadata(session)
        upload(session)
        export(session)
        expire(session, clock)
        delete_many(session)
    return session


def documented() -> set[str]:
    """Every function, field and enum value of the document."""
    names = {text.partition("(")[0] for text, _ in entries("function")}
    names -= {"models.MetadataFilter.form_values_for_in_operator"}
    for text, _ in entries("model"):
        model, _, fields = text.partition("(")
        inside = re.sub(r"BaseInferenceFilter\([^()]*\)", "", fields)
        names |= {f"{model}.{field}" for field in re.findall(r"(\w+): ", inside)}
    for enum, values in entries("enum"):
        names |= {f"{enum}.{value.partition(' ')[0]}" for value in values}
    return names


def test_everything_documented_is_asked_or_answered(
    place: str, tmp_path: Path, clock: Clock
) -> None:
    session = hold(place, tmp_path / "kept", clock)
    assert len(documented()) > 200
    assert documented() - session.used == set()


def test_answers_are_the_same_on_every_database(
    sqlite_place: Path, postgresql_place: str, tmp_path: Path, clock: Clock
) -> None:
    first = hold(str(sqlite_place), tmp_path / "one", clock)
    second = hold(postgresql_place, tmp_path / "other", clock)
    assert len(first.answers) > 150
    assert first.answers == second.answers
