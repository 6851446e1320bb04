"""Marking records by filter, also when the mark changes what the filter finds."""

from __future__ import annotations

from typing import Any

import pytest

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import marking
from pixano_cli.inference_store.marking import protect, tag
from pixano_cli.inference_store.models import Metadata

from .requests import MODEL_ID, create

ALL = istore.BaseInferenceFilter()


@pytest.fixture(params=[500, 2], ids=["one-page", "pages"], autouse=True)
def page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marking, "PAGE", request.param)


@pytest.fixture
def five(store: istore.Store) -> istore.Store:
    for index in range(5):
        source = "zoo" if index < 3 else "farm"
        create(f"{index}", metadata={"split": ("string", "train")}, data_source=source)
    return store


def kept(**filters: object) -> list[str]:
    request = istore.NewGetInferencesRequest(filters=istore.BaseInferenceFilter(**filters))  # type: ignore[arg-type]
    return [each.inference_id for each in istore.filter_inferences(MODEL_ID, request)]


def has(key: str, value: str) -> istore.BaseInferenceFilter:
    return istore.BaseInferenceFilter(
        metadata_filter=[
            istore.MetadataFilter(
                key=key,
                operator=istore.MetadataFilterOperator.EQUAL,
                type=istore.MetadataFilterType.STRING,
                value=value,
            )
        ]
    )


def test_records_are_protected_and_released(five: istore.Store) -> None:
    zoo = istore.BaseInferenceFilter(data_source_filter="zoo")

    def protected() -> list[bool]:
        found = (istore.get_inference(MODEL_ID, f"{index}") for index in range(5))
        return [each.is_protected for each in found if each]

    assert protect(five, MODEL_ID, zoo, protected=True) == 3
    assert protected() == [True, True, True, False, False]
    assert protect(five, MODEL_ID, ALL, protected=False) == 5
    assert protected() == [False] * 5


def test_records_are_tagged(five: istore.Store) -> None:
    zoo = istore.BaseInferenceFilter(data_source_filter="zoo")
    added = [
        Metadata(key="size", type="int", value="5"),
        Metadata(key="split", type="json", value='{"fold": 3}'),
    ]
    assert tag(five, MODEL_ID, zoo, added) == 3
    tagged = [{each.key: each.value for each in istore.get_metadata(MODEL_ID, "0")}]
    assert tagged == [{"size": "5", "split": '{"fold": 3}'}]
    fold = istore.MetadataFilter(
        key="split.fold",
        operator=istore.MetadataFilterOperator.GREATER,
        type=istore.MetadataFilterType.JSON_INT,
        value="2",
    )
    assert kept(metadata_filter=[fold]) == ["0", "1", "2"]
    assert kept(metadata_filter=has("split", "train").metadata_filter) == ["3", "4"]


def test_mark_that_changes_what_the_filter_finds_reaches_all_once(five: istore.Store) -> None:
    added = [Metadata(key="split", type="string", value="test")]
    assert tag(five, MODEL_ID, has("split", "train"), added) == 5
    assert tag(five, MODEL_ID, has("split", "train"), added) == 0
    assert tag(five, MODEL_ID, ALL, [], ["split", "absent"]) == 5
    assert istore.get_metadata(MODEL_ID, "4") == []


def test_what_databases_cannot_hold_is_refused(five: istore.Store) -> None:
    with pytest.raises(StoreError, match="NUL"):
        tag(five, MODEL_ID, ALL, [Metadata(key="a\0", type="string", value="")])
    assert len(istore.get_metadata(MODEL_ID, "0")) == 1


def test_a_filter_is_asked_once_for_all(
    five: istore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Asked for each page, it takes the square of the time.
    asked = []
    kept_selected = marking.selected

    def selected(*args: Any) -> Any:
        asked.append(args)
        return kept_selected(*args)

    monkeypatch.setattr(marking, "selected", selected)
    assert protect(five, MODEL_ID, ALL, protected=True) == 5
    assert len(asked) == 1


def test_what_is_deleted_or_changed_meanwhile_is_not_marked(
    five: istore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_search = marking.search

    def search(*args: Any) -> Any:
        # What is chosen first is looked at again when its turn comes.
        istore.delete_inference(MODEL_ID, "1")
        istore.delete_metadata(MODEL_ID, "3", "split")
        return kept_search(*args)

    monkeypatch.setattr(marking, "search", search)
    added = [Metadata(key="seen", type="int", value="1")]
    assert tag(five, MODEL_ID, has("split", "train"), added) == 3
    assert [each.key for each in istore.get_metadata(MODEL_ID, "3")] == []
