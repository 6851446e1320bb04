"""Linear layers that oneDNN may compute: torch's bits, whatever is chosen."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("sam2")

import torch

from pixano_cli.models.sam2 import onednn

pytestmark = pytest.mark.usefixtures("one_thread")


def twins(width: int, out: int, bias: bool) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Two of the same layer, the second of which chooses."""
    torch.manual_seed(3)
    plain = torch.nn.Sequential(torch.nn.Linear(width, out, bias=bias))
    other = torch.nn.Sequential(torch.nn.Linear(width, out, bias=bias))
    other.load_state_dict(plain.state_dict())
    onednn.share_with_onednn(other)
    return plain, other


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([(), (1,), (3,), (2, 2)]),
    st.sampled_from([0, 1, 8, 64, 300, 1000]),
    st.sampled_from([1, 31, 64, 192, 193, 256, 384, 500, 768, 1000]),
    st.sampled_from([1, 3, 96, 700]),
    st.booleans(),
)
def test_not_a_bit_changes(
    before: tuple[int, ...], rows: int, width: int, out: int, bias: bool
) -> None:
    plain, other = twins(width, out, bias)
    given_ = torch.randn(*before, rows, width)
    turned = given_.transpose(-2, -1).contiguous().transpose(-2, -1)
    with torch.inference_mode():
        for each in (given_, turned):
            assert torch.equal(other(each), plain(each))


@pytest.mark.parametrize("width", [96, 384, 500, 1536])
def test_what_is_faster_and_the_same_is_chosen(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, other = twins(width, 256, bias=True)
    given_ = torch.randn(200, width)
    asked: list[int] = []
    by_onednn = onednn._by_onednn

    def noted(each: torch.Tensor, parts: list[torch.Tensor], bias: torch.Tensor) -> torch.Tensor:
        asked.append(len(parts))
        return by_onednn(each, parts, bias)

    monkeypatch.setattr(onednn, "_by_onednn", noted)
    expected = plain(given_)
    for columns in (0, 100):
        monkeypatch.setattr(onednn, "_columns", lambda *_, columns=columns: columns)
        asked.clear()
        with torch.inference_mode():
            found = other(given_)
        assert asked == ([-(-width // columns)] if columns else [])
        assert torch.allclose(found, expected, atol=1e-5)


def test_other_sums_and_slower_ones_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (300, 700, 96)

    def chosen() -> int:
        onednn._columns.cache_clear()
        return onednn._columns(*shape, torch.get_num_threads())

    monkeypatch.setattr(onednn, "_by_onednn", lambda given, parts, bias: bias.expand(300, 700))
    assert chosen() == 0
    linear = torch.nn.functional.linear
    weights: list[torch.Tensor] = []

    def told(given: torch.Tensor, parts: list[torch.Tensor], bias: torch.Tensor) -> torch.Tensor:
        (weight,) = parts
        weights.append(weight)
        return known[0]

    random = torch.Generator().manual_seed(0)
    given_, weight, bias = (
        torch.randn(*size, generator=random) for size in ((300, 96), (700, 96), (700,))
    )
    known = [linear(given_, weight, bias)]
    monkeypatch.setattr(onednn, "_by_onednn", told)
    assert chosen() == 96
    assert len(weights) == onednn._TRIALS

    def slow(*arguments: object) -> torch.Tensor:
        torch.linalg.svd(torch.ones(200, 200))
        return known[0]

    monkeypatch.setattr(onednn, "_by_onednn", slow)
    assert chosen() == 0
    onednn._columns.cache_clear()


def test_the_layers_of_other_classes_are_left_alone() -> None:
    class Own(torch.nn.Linear):
        pass

    model = torch.nn.Sequential(Own(4, 4), torch.nn.Conv2d(3, 3, 1))
    onednn.share_with_onednn(model)
    assert all("forward" not in vars(each) for each in model)
