"""Storing inferences one by one, and getting, counting and deleting them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Table, func, select, update

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema

from .requests import CAT, MODEL_ID, create, found, inference, registration, search, texts

NAN = float("nan")


def rows(store: istore.Store, table: Table) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_created_inference_is_returned_and_found(store: istore.Store) -> None:
    created = create(
        "one",
        [CAT, {"label": "dog", "score": 0.2, "note": {"nested": [1, None]}}],
        metadata={"b": ("int", "1"), "a": ("string", "x")},
        data_source="camera",
        latitude=48.85,
        longitude=2.35,
        data_storage_key="blobs/1",
        is_protected=True,
    )
    assert created.model_id == MODEL_ID
    assert created.inference_id == "one"
    assert created.inference_action == "detect"
    assert orjson.loads(created.data or "") == [
        CAT,
        {"label": "dog", "score": 0.2, "note": {"nested": [1, None]}},
    ]
    assert created.structured_embedding is None
    assert created.embedding_distance is None
    assert created.metadata == [
        istore.Metadata(key="a", type="string", value="x"),
        istore.Metadata(key="b", type="int", value="1"),
    ]
    assert created.data_hash == "a" * 64
    assert created.data_source == "camera"
    assert created.data_coordinates == istore.GeoPoint(latitude=48.85, longitude=2.35)
    assert created.data_storage_key == "blobs/1"
    assert created.presigned_url is None
    assert created.is_protected is True
    assert created.version == "v2"
    assert created.created_at == created.updated_at
    assert abs(datetime.now(UTC) - created.created_at) < timedelta(minutes=1)
    assert istore.get_inference(MODEL_ID, "one") == created
    assert istore.filter_inferences(MODEL_ID, search()) == [created]
    assert istore.count_inferences(MODEL_ID, search()) == 1


def test_answers_without_a_list_are_version_1(store: istore.Store) -> None:
    nothing = create("nothing", None)
    assert (nothing.data, nothing.version) == (None, "v1")
    empty = create("empty", [])
    assert (empty.data, empty.version) == ("[]", "v2")


def test_embedding_is_kept(store: istore.Store) -> None:
    task, action = istore.TaskType.TEXT_EMBEDDING, istore.InferenceAction.EMBED
    istore.register_model_for_inference_storage(registration("embedder", task, 3))
    created = create(
        "one", None, model_id="embedder", task=task, action=action, embedding=[1, -2.5, 1e-300]
    )
    assert created.version == "v1"
    assert created.structured_embedding == [1, -2.5, 1e-300]
    assert istore.get_inference("embedder", "one") == created


PAIRS = {
    "Image Classification": {"predict", "predict_proba", "embed"},
    "Object Detection": {"detect"},
    "Oriented Object Detection": {"detect"},
    "Image Segmentation": {"predict", "predict_proba"},
    "Image Embedding": {"embed"},
    "Text Embedding": {"embed"},
}


@pytest.mark.parametrize("action", list(istore.InferenceAction))
@pytest.mark.parametrize("task", list(istore.TaskType))
def test_pairs_of_task_and_action(
    store: istore.Store, task: istore.TaskType, action: istore.InferenceAction
) -> None:
    istore.register_model_for_inference_storage(registration("m", task))
    request = inference("one", None, model_id="m", task=task, action=action)
    if action.value in PAIRS[task.value]:
        created = istore.create_inference("m", request)
        assert created is not None
        assert created.inference_action == action.value
    else:
        with pytest.raises(StoreError, match=f"{action.value} is no action for {task.value}: use"):
            istore.create_inference("m", request)
        assert istore.get_inference("m", "one") is None


@pytest.mark.parametrize(
    ("task", "action", "answer", "element"),
    [
        ("Image Classification", "predict", "image_classification", {"label": "a", "score": 1}),
        (
            "Oriented Object Detection",
            "detect",
            "oriented_object_detection",
            {"label": "a", "score": 0.5, "cx": 1, "cy": 2, "w": 3, "h": 4, "r": 0.1},
        ),
        (
            "Image Segmentation",
            "predict",
            "image_segmentation",
            {"label": "a", "score": 0.5, "rle": {"size": [4, 5], "counts": "0>"}},
        ),
        (
            "Image Segmentation",
            "predict_proba",
            "image_segmentation",
            {"label": "a", "contour": [[{"x": 1, "y": 2}, {"x": 3, "y": 4}, {"x": 1, "y": 4}]]},
        ),
    ],
)
def test_each_task_has_its_list(
    store: istore.Store, task: str, action: str, answer: str, element: dict[str, Any]
) -> None:
    kind = istore.TaskType(task)
    istore.register_model_for_inference_storage(registration("m", kind))
    created = create(
        "one",
        [element],
        model_id="m",
        task=kind,
        action=istore.InferenceAction(action),
        answer=answer,
    )
    assert orjson.loads(created.data or "") == [element]
    labelled = search(
        deconstructed_inference_filter=istore.DeconstructedInferenceFilter(labels=["a"])
    )
    assert istore.filter_inferences("m", labelled) == [created]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (inference(elements=[{"score": 1}]), "element 0 has no label"),
        (inference(elements=[CAT, {"label": 3}]), "element 1 has no label"),
        (inference(elements=[{"label": "a", "score": NAN}]), "score nan"),
        (inference(elements=[{"label": "a", "score": float("inf")}]), "score inf"),
        (inference(elements=[{"label": "a", "score": "0.5"}]), "score '0.5'"),
        (inference(elements=[{"label": "a", "score": True}]), "score True"),
        (inference(elements=[{"label": "a", "score": 10**400}]), "too large"),
        (inference(elements=[{"label": "a", "area": [NAN]}]), "cannot be written as JSON"),
        (inference(elements=[{"label": "a", "area": 10**30}]), "cannot be written as JSON"),
        (inference(elements=[{"label": "a", "area": {1}}]), "cannot be written as JSON"),
        (inference(elements=[{"label": "a\ud800"}]), "element 0: label .* half a surrogate pair"),
        (inference(elements=[{"label": "a\0"}]), "element 0: label .* a NUL character"),
        (inference(elements=[{"label": "a" * 501}]), "label .* has 501 characters"),
        (inference(elements=[{"label": "a", "area": "\ud800"}]), "cannot be written as JSON"),
        (inference(answer="image_classification"), "image_classification is not an answer"),
        (inference(elements=None, embedding=[1.0]), "registered for 0"),
        (inference(embedding=[1.0]), "not both"),
        (inference(task=istore.TaskType.IMAGE_SEGMENTATION), "detect is no action"),
        (
            inference(task=istore.TaskType.ORIENTED_OBJECT_DETECTION),
            "the model is registered for Object Detection",
        ),
        (inference(data_size=-1), "data_size -1"),
        (inference(data_size=2**63), "data_size 9223372036854775808"),
        (inference(latitude=1.0), "latitude and longitude, or neither"),
        (inference(latitude=90.5, longitude=0.0), "no point on the globe"),
        (inference(latitude=NAN, longitude=0.0), "no point on the globe"),
        (inference("\ud800"), "inference_id .* half a surrogate pair"),
        (inference("a\0"), "inference_id .* a NUL character"),
        (inference("a" * 501), "inference_id .* has 501 characters: 500 is the most"),
        (inference("é" * 401), "inference_id .* takes 802 bytes in UTF-8: 800 is the most"),
        (inference(data_hash="a" * 501), "data_hash .* has 501 characters"),
        (inference(data_source="\udfff"), "data_source .* half a surrogate pair"),
        (inference(data_source="\0"), "data_source .* a NUL character"),
        (inference(metadata={"a": ("string", "\ud800")}), "metadata 'a': its value .* half a"),
        (inference(metadata={"a": ("json", "\0")}), "metadata 'a': its value .* a NUL"),
        (inference(metadata={"\0": ("string", "a")}), "metadata key .* a NUL"),
        (inference(metadata={"a" * 501: ("string", "a")}), "metadata key .* has 501 characters"),
    ],
)
def test_what_cannot_be_stored_whole_is_refused(
    store: istore.Store, request_: istore.NewInferenceStorageRequest, said: str
) -> None:
    with pytest.raises(StoreError, match=said) as caught:
        istore.create_inference(MODEL_ID, request_)
    assert "\n" not in str(caught.value)
    assert rows(store, schema.inferences) == rows(store, schema.metadata) == 0


def test_embedding_of_another_size_is_refused(store: istore.Store) -> None:
    task, action = istore.TaskType.IMAGE_EMBEDDING, istore.InferenceAction.EMBED
    istore.register_model_for_inference_storage(registration("embedder", task, 3))
    for embedding, said in (([1.0, 2.0], "has 2 numbers"), ([1.0, NAN, 2.0], "JSON")):
        request = inference(
            "one", None, model_id="embedder", task=task, action=action, embedding=embedding
        )
        with pytest.raises(StoreError, match=said):
            istore.create_inference("embedder", request)
    assert istore.get_inference("embedder", "one") is None


def test_model_must_be_the_request_s_and_registered(store: istore.Store) -> None:
    with pytest.raises(StoreError, match="must repeat it"):
        istore.create_inference("other", inference())
    with pytest.raises(StoreError, match="'other' is not registered"):
        istore.create_inference("other", inference(model_id="other"))
    assert rows(store, schema.inferences) == 0


def test_same_content_again_is_a_no_op(store: istore.Store) -> None:
    first = create(metadata={"run": ("string", "1")}, latitude=1.0, longitude=2.0)
    reordered = dict(reversed(list(CAT.items())))
    again = create(
        elements=[reordered], metadata={"run": ("string", "1")}, latitude=1.0, longitude=2.0
    )
    assert again == first
    assert rows(store, schema.elements) == rows(store, schema.metadata) == 1


def test_metadata_added_since_is_no_other_content(store: istore.Store) -> None:
    create(metadata={"run": ("string", "1")})
    tag = istore.NewExtendedMetadataRequest(
        key="tag", type=istore.MetadataType.STRING, value="good"
    )
    istore.create_metadata(MODEL_ID, "one", tag)
    again = create(metadata={"run": ("string", "1")})
    assert [each.key for each in again.metadata or []] == ["run", "tag"]


@pytest.mark.parametrize(
    "other",
    [
        {"elements": []},
        {"elements": None},
        {"elements": [{**CAT, "score": 0.8}]},
        {"elements": [CAT, CAT]},
        {"data_hash": "b" * 64},
        {"data_size": 1},
        {"data_source": "other"},
        {"latitude": 1.0, "longitude": 2.0},
        {"data_storage_key": "k"},
        {"is_protected": True},
        {"metadata": {"run": ("string", "2")}},
        {"metadata": {"run": ("int", "1")}},
        {"metadata": {"new": ("string", "1")}},
    ],
)
def test_other_content_under_one_id_is_refused(store: istore.Store, other: dict[str, Any]) -> None:
    first = create(metadata={"run": ("string", "1")})
    with pytest.raises(StoreError, match="'one' of model 'picodet' is stored already"):
        create(**other)
    assert istore.get_inference(MODEL_ID, "one") == first
    assert rows(store, schema.elements) == 1


def test_an_id_belongs_to_its_model(store: istore.Store) -> None:
    istore.register_model_for_inference_storage(registration("second"))
    create()
    other = create(elements=[], model_id="second")
    assert istore.get_inference("second", "one") == other
    assert istore.get_inference(MODEL_ID, "one") != other
    assert istore.delete_inference("second", "one") == "one"
    assert found() == ["one"]


def test_delete_removes_elements_and_metadata(store: istore.Store) -> None:
    create("one", metadata={"a": ("int", "1")})
    kept = create("two", metadata={"a": ("int", "1")})
    assert istore.delete_inference(MODEL_ID, "one") == "one"
    assert istore.get_inference(MODEL_ID, "one") is None
    assert istore.get_inference(MODEL_ID, "two") == kept
    for table in (schema.inferences, schema.elements, schema.metadata):
        assert rows(store, table) == 1
    assert istore.delete_inference(MODEL_ID, "one") is None
    assert istore.delete_inference("other", "two") is None


def test_what_was_deleted_softly_is_invisible(store: istore.Store) -> None:
    create("one", metadata={"a": ("int", "1")})
    create("two")
    with store.write() as connection:
        connection.execute(
            update(schema.inferences)
            .where(schema.inferences.c.inference_id == "one")
            .values(deleted_at=1)
        )
    assert found() == ["two"]
    assert istore.get_inference(MODEL_ID, "one") is None
    assert istore.get_metadata(MODEL_ID, "one") == []
    assert istore.delete_metadata(MODEL_ID, "one", "a") is None
    assert istore.delete_inference(MODEL_ID, "one") is None
    again = create("one", [])
    assert istore.get_inference(MODEL_ID, "one") == again
    assert (again.data, again.metadata) == ("[]", [])
    assert rows(store, schema.metadata) == 0


def test_nothing_is_found_for_an_unknown_model(store: istore.Store) -> None:
    assert istore.get_inference("other", "one") is None
    assert istore.filter_inferences("other", search()) == []
    assert istore.count_inferences("other", search()) == 0


@pytest.mark.parametrize("text", ["a\0", "\ud800"])
def test_text_that_no_database_holds_is_one_error(store: istore.Store, text: str) -> None:
    create()
    functions = (istore.get_inference, istore.delete_inference, istore.get_metadata)
    for function in functions:
        for ids in ((MODEL_ID, text), (text, "one")):
            with pytest.raises(StoreError, match="which databases cannot store"):
                function(*ids)
    with pytest.raises(StoreError, match="which databases cannot store"):
        istore.delete_metadata(MODEL_ID, "one", text)
    with pytest.raises(StoreError, match="which databases cannot store"):
        istore.get_registered_model(text)


def test_longest_names_are_kept(store: istore.Store) -> None:
    """Also where nothing about them can be shortened, which PostgreSQL tries in its indexes."""
    random = Random(0)

    def longest(size: int = 200) -> str:
        return "".join(chr(random.randrange(0x10000, 0x110000)) for _ in range(size))

    model_id, name, key, label, source = (longest() for _ in range(5))
    value, path = longest(2000), longest(98)
    istore.register_model_for_inference_storage(registration(model_id))
    created = create(
        name,
        [{"label": label, "score": 0.5}],
        model_id=model_id,
        data_hash=longest(),
        data_source=source + "x" * 10_000,
        metadata={
            key: ("string", value),
            path: ("json", f'{{"{path}": "{value}"}}'),
            longest(): ("int", "9" * 4000),
        },
    )
    assert istore.get_inference(model_id, name) == created
    asked = search(
        data_source_filter=source + "x" * 10_000,
        metadata_filter=[
            {"key": key, "operator": "=", "type": "string", "value": value},
            {
                "key": f"{path}.{path}",
                "operator": "in",
                "type": "json.string",
                "value": f"[{value}]",
            },
        ],
        deconstructed_inference_filter={"labels": [label]},
    )
    assert istore.filter_inferences(model_id, asked) == [created]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
).filter(lambda value: value not in (float("inf"), float("-inf")))
element = st.builds(
    lambda extra, label, score: {**extra, "label": label, **score},
    st.dictionaries(st.text(), json_values, max_size=3),
    texts(),
    st.fixed_dictionaries({}, optional={"score": st.none() | st.floats(0, 1)}),
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    inference_id=texts(),
    elements=st.lists(element, max_size=4),
    metadata=st.dictionaries(
        texts(), st.tuples(st.sampled_from(["string", "int", "float", "json"]), texts())
    ),
)
def test_any_content_comes_back_as_it_went_in(
    store: istore.Store,
    inference_id: str,
    elements: list[dict[str, Any]],
    metadata: dict[str, tuple[str, str]],
) -> None:
    request = inference(inference_id, elements, metadata=metadata)
    try:
        created = istore.create_inference(MODEL_ID, request)
    except StoreError as error:
        # Infinity deep inside an element is not JSON.
        assert "JSON" in str(error)  # noqa: PT017
        return
    assert created is not None
    assert orjson.loads(created.data or "") == elements
    kept = {each.key: (each.type, each.value) for each in created.metadata or []}
    assert kept == metadata
    assert [each.key for each in created.metadata or []] == sorted(metadata)
    assert istore.get_inference(MODEL_ID, inference_id) == created
    assert istore.delete_inference(MODEL_ID, inference_id) == inference_id
    assert rows(store, schema.elements) == rows(store, schema.metadata) == 0
