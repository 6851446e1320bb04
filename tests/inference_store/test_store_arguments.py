"""Every documented function tells of a wrong argument in one line, the same on every database."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import connection
from pixano_cli.inference_store.errors import UnstorableError, WrongArgumentError

from .requests import MODEL_ID, create, inference, registration
from .test_store_models import entries

FUNCTIONS = sorted(
    path.partition(".")[2]
    for path in (text.partition("(")[0] for text, _ in entries("function"))
    if not path.startswith("models.")
)
MODELS: dict[type, BaseModel] = {
    type(each): each
    for each in (
        inference("two"),
        inference("two").data,
        registration(),
        istore.BaseInferenceFilter(),
        istore.NewGetInferencesRequest(),
        istore.NewExportTaskRequest(),
        istore.NewExtendedMetadataRequest(key="k", type=istore.MetadataType.INT, value="1"),
        istore.NewGetMetadataStatisticsRequest(key="k", type=istore.MetadataStatisticsType.INT),
        istore.NewGetRetentionTasksRequest(),
        istore.NewRetentionPolicyRequest(
            automated_interval=0, maximum_record_age=5, maximum_blob_age=1
        ),
        istore.NewRetentionTaskRequest(dry_run=True, retention_policy_id="p"),
    )
}
TEXTS = [
    (name, each.name)
    for name in FUNCTIONS
    for each in inspect.signature(getattr(istore, name), eval_str=True).parameters.values()
    if each.annotation is str
]


def right(name: str) -> dict[str, Any]:
    """Arguments of the types that a function takes."""
    found: dict[str, Any] = {}
    for each in inspect.signature(getattr(istore, name), eval_str=True).parameters.values():
        kind = each.annotation
        if each.name == "data":
            found["data"] = {} if name.startswith("map") else b""
        elif each.name == "model_id":
            found["model_id"] = MODEL_ID
        else:
            found[each.name] = "one" if kind is str else kind() if kind is bool else MODELS[kind]
    return found


def refused(name: str, arguments: Mapping[str, Any], error: type[StoreError], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        getattr(istore, name)(**arguments)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 or len(str(arguments)) > 10_000


@pytest.mark.parametrize("name", FUNCTIONS)
def test_another_type_is_refused_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any store is asked."""
    monkeypatch.setattr(connection, "_current", None)
    monkeypatch.setattr(connection, "open_store", None)
    wrong: Any
    for parameter in inspect.signature(getattr(istore, name), eval_str=True).parameters.values():
        taken: tuple[type, ...] = (parameter.annotation,)
        if parameter.name == "data":
            taken = (dict,) if name.startswith("map") else (bytes,)
            taken += (str, type(None)) * name.startswith("create")
        for wrong in (None, 5, "x", b"x", {}, [], istore.Pagination(), types):
            if not isinstance(wrong, taken):
                arguments = {**right(name), parameter.name: wrong}
                shown = "None" if wrong is None else type(wrong).__name__
                said = f"^{name}: {parameter.name} has to be .*, not {shown}(: make one|$)"
                refused(name, arguments, WrongArgumentError, said)


def test_how_to_make_a_request_is_said() -> None:
    refused(
        "filter_inferences",
        {"model_id": "m", "request_body": {"filters": {}}},
        WrongArgumentError,
        r"request_body has to be NewGetInferencesRequest, not dict: make one with "
        r"inference_store\.NewGetInferencesRequest\(",
    )


def test_too_few_and_too_many_are_as_python_tells_it() -> None:
    with pytest.raises(TypeError, match=r"get_inference\(\) missing 1 required .* 'inference_id'"):
        istore.get_inference("m")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"get_inference\(\) got an unexpected keyword .* 'model'"):
        istore.get_inference("m", model="n")  # type: ignore[call-arg]


def test_text_that_no_database_holds_is_refused(store: istore.Store) -> None:
    create("one")
    for name, parameter in TEXTS:
        for text in ("a\0", "\ud800"):
            arguments = {**right(name), parameter: text}
            refused(name, arguments, UnstorableError, f"^{parameter} .* holds ")


def test_of_what_is_not_there_functions_say_none_or_what_is_missing(store: istore.Store) -> None:
    """The longest and the emptiest ids are ids like others."""
    for name, parameter in TEXTS:
        if (name, parameter) == ("create_inference_storage_request", "inference_id"):
            continue
        for missing in ("", "x" * 100_000, "'; DROP TABLE inferences; --"):
            arguments = {**right(name), parameter: missing}
            if name.startswith("create") or name.startswith("upload"):
                refused(name, arguments, StoreError, re.escape(missing[:50]) or "''")
            else:
                assert getattr(istore, name)(**arguments) in (None, [], 0)
    assert istore.get_registered_model(MODEL_ID) is not None
