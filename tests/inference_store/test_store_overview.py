"""What a store holds, counted, against records whose counts are known."""

from __future__ import annotations

from sqlalchemy import select, update

from pixano_cli import inference_store as istore
from pixano_cli.inference_store import overview, schema

from .requests import CAT, MODEL_ID, create, registration

DOG = CAT | {"label": "dog", "score": 0.5}


def hide(store: istore.Store, inference_id: str) -> None:
    table = schema.inferences
    with store.write() as connection:
        connection.execute(
            update(table).where(table.c.inference_id == inference_id).values(deleted_at=1)
        )


def test_models_are_counted(store: istore.Store) -> None:
    istore.register_model_for_inference_storage(
        registration("another", istore.TaskType.IMAGE_EMBEDDING, 4)
    )
    created = [create("a"), create("b", is_protected=True), create("c", is_protected=True)]
    hide(store, "c")
    with store.read() as connection:
        another, model = overview.models_overview(connection)
    assert another == overview.ModelOverview(
        "another", "Image Embedding", 4, 0, 0, 0, first=None, last=None
    )
    assert model == overview.ModelOverview(
        MODEL_ID,
        "Object Detection",
        0,
        inferences=2,
        hidden=1,
        protected=1,
        first=created[0].created_at,
        last=created[2].created_at,
    )


def test_labels_are_counted_of_what_passes(store: istore.Store) -> None:
    create("a", [CAT, CAT, DOG])
    create("b", [DOG, CAT | {"label": "emu"}], data_source="zoo")
    create("c", [CAT])
    hide(store, "c")
    with store.read() as connection:

        def counted(**filters: str) -> list[tuple[str, int, int]]:
            asked = istore.BaseInferenceFilter(**filters)
            found = overview.label_counts(connection, MODEL_ID, asked)
            return [(each.label, each.elements, each.inferences) for each in found]

        assert counted() == [("cat", 2, 1), ("dog", 2, 2), ("emu", 1, 1)]
        assert counted(data_source_filter="zoo") == [("dog", 1, 1), ("emu", 1, 1)]
        assert counted(data_source_filter="nowhere") == []


def test_blobs_and_runs_are_counted(store: istore.Store) -> None:
    rows = [
        {"storage_key": "a", "model_id": MODEL_ID, "size": 10, "created_at": 1},
        {"storage_key": "b", "model_id": MODEL_ID, "size": None, "created_at": 1},
    ]
    with store.write() as connection:
        connection.execute(schema.blobs.insert(), rows)
        connection.execute(
            update(schema.blobs).where(schema.blobs.c.storage_key == "b").values(pending_since=2)
        )
        assert overview.blobs_overview(connection) == overview.BlobOverview(2, 10, 1)
        assert overview.count_runs(connection) == 0
        assert connection.execute(select(schema.runs)).all() == []
