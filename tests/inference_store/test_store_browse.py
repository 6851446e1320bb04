"""Looking through the records of several models as if they were one's."""

from __future__ import annotations

import pytest

from pixano_cli import inference_store as istore
from pixano_cli.inference_store import browse as browsing
from pixano_cli.inference_store.browse import browse

from .requests import CAT, create, registration, search

MODELS = ("a", "b", "c")


@pytest.fixture
def made(store: istore.Store, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Records of three models in the order they were made, by model and id."""
    monkeypatch.setattr(browsing, "_PAGE", 4)
    for model in MODELS:
        istore.register_model_for_inference_storage(registration(model))
    order = []
    for place in range(30):
        model = MODELS[(place * place) % 3 if place < 20 else 1]
        element = CAT | {"score": place / 100}
        order.append((model, create(f"{place:02}", [element], model_id=model).inference_id))
    return order


@pytest.mark.parametrize("limit", [0, 1, 7, 10**30])
@pytest.mark.parametrize("offset", [0, 1, 13, 10**30])
@pytest.mark.parametrize("is_descending", [False, True])
def test_by_time_the_models_are_mixed(
    made: list[tuple[str, str]], limit: int, offset: int, is_descending: bool
) -> None:
    direction = istore.PaginationSortDirection.DESCENDING if is_descending else None
    request = search(istore.Pagination(direction=direction))
    found = browse(MODELS, request, limit=limit, offset=offset)
    expected = made[::-1] if is_descending else made
    assert [(each.model_id, each.inference_id) for each in found] == expected[offset:][:limit]


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (1, 0), (7, 5), (100, 13), (5, 100)])
def test_by_score_one_model_comes_after_the_other(
    made: list[tuple[str, str]], limit: int, offset: int
) -> None:
    sort = istore.PaginationGranularInferenceSortField.SCORE
    request = search(istore.Pagination(sort=sort))
    found = browse(MODELS, request, limit=limit, offset=offset)
    expected = sorted(made)[offset:][:limit]
    assert [(each.model_id, each.inference_id) for each in found] == expected
