"""Registering models, and the store that the functions work on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import connection, schema

from .requests import MODEL_ID, found, registration


def test_registered_model_is_known(store: istore.Store) -> None:
    request = registration("embedder", istore.TaskType.IMAGE_EMBEDDING, 512)
    assert istore.register_model_for_inference_storage(request) == "embedder"
    model = istore.get_registered_model("embedder")
    assert model is not None
    assert (model.model_id, model.embedding_size) == ("embedder", 512)
    assert model.created_at == model.updated_at
    assert abs(datetime.now(UTC) - model.created_at) < timedelta(minutes=1)


def test_unknown_model_is_none(store: istore.Store) -> None:
    assert istore.get_registered_model("other") is None


def test_same_registration_again_changes_nothing(store: istore.Store) -> None:
    before = istore.get_registered_model(MODEL_ID)
    assert istore.register_model_for_inference_storage(registration()) == MODEL_ID
    assert istore.get_registered_model(MODEL_ID) == before


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (registration(task=istore.TaskType.IMAGE_SEGMENTATION), "not for Image Segmentation"),
        (registration(embedding_size=3), "with 3"),
        (registration("other", embedding_size=-1), "embedding size -1"),
        (registration("other", embedding_size=2**31), "embedding size 2147483648"),
    ],
)
def test_registration_that_contradicts_is_refused(
    store: istore.Store, request_: istore.NewRegisterModelRequest, said: str
) -> None:
    before = istore.get_registered_model(MODEL_ID)
    with pytest.raises(StoreError, match=said) as caught:
        istore.register_model_for_inference_storage(request_)
    assert "\n" not in str(caught.value)
    assert istore.get_registered_model(MODEL_ID) == before
    assert istore.get_registered_model("other") is None


def test_a_model_may_move_to_another_project(store: istore.Store) -> None:
    istore.register_model_for_inference_storage(registration(project_id="moved"))
    with store.read() as reading:
        assert reading.execute(select(schema.models.c.project_id)).scalars().all() == ["moved"]


def test_functions_use_the_store_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_current", None)
    monkeypatch.setenv("PIXANO_STORE", str(tmp_path / "shared"))
    istore.register_model_for_inference_storage(registration())
    assert (tmp_path / "shared" / "store.sqlite3").is_file()
    assert found() == []
    connection.current_store().close()


def test_functions_use_the_default_folder_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_current", None)
    monkeypatch.delenv("PIXANO_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert istore.get_registered_model(MODEL_ID) is None
    assert (tmp_path / ".pixano-annotate" / "store.sqlite3").is_file()
    connection.current_store().close()


def test_connect_changes_the_store(store: istore.Store, place: str, empty_place: str) -> None:
    with istore.connect(empty_place) as second:
        assert istore.get_registered_model(MODEL_ID) is None
        assert second.name != store.name
    istore.connect(place).close()
    assert istore.get_registered_model(MODEL_ID) is not None


def test_failing_to_connect_keeps_the_store(store: istore.Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file"):
        istore.connect(tmp_path / "file")
    assert istore.get_registered_model(MODEL_ID) is not None
