from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

from pixano_cli.annotate.estimate import image_tokens
from pixano_cli.annotate.prices import Price, find_price
from pixano_cli.errors import UsageError


def test_price_of_an_answer() -> None:
    assert Price(2.0, 8.0).of({"prompt_tokens": 500_000, "completion_tokens": 250_000}) == 3.0
    assert Price(2.0, 8.0).of({"total_tokens": 7}) == 0.0


def test_the_longest_name_that_fits() -> None:
    assert find_price("openai", "gpt-4o-mini") == Price(0.15, 0.6)
    assert find_price("openai", "gpt-4o-mini-2024-07-18") == Price(0.15, 0.6)
    assert find_price("openai", "gpt-4o") == Price(2.5, 10.0)
    assert find_price("litellm", "openai/gpt-4o") == Price(2.5, 10.0)
    assert find_price("openai", "gpt-4o-audio-preview") is None
    assert find_price("gemini", "gemini-2.5-flash-lite") == Price(0.1, 0.4)


def test_a_server_of_ones_own_costs_nothing_known() -> None:
    assert find_price("vllm", "gpt-4o") is None


def test_own_prices_come_first(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"gpt-4o": {"input": 1, "output": 2}, "qwen*": _price(0, 0)}))
    assert find_price("openai", "gpt-4o", path) == Price(1.0, 2.0)
    assert find_price("vllm", "Qwen/qwen2-vl", path) == Price(0.0, 0.0)
    assert find_price("openai", "gpt-4o-mini", path) == Price(0.15, 0.6)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "not json",
        '{"a": 1}',
        '{"a": {"input": 1}}',
        '{"a": {"input": -1, "output": 1}}',
        '{"a": {"input": NaN, "output": 1}}',
        '{"a": {"input": "1", "output": 1}}',
    ],
)
def test_what_is_no_table(tmp_path: Path, content: str) -> None:
    path = tmp_path / "prices.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"prices\.json"):
        find_price("openai", "a", path)


def test_the_tools_own_table_is_one() -> None:
    content = files("pixano_cli.annotate").joinpath("prices.json").read_bytes()
    for name, price in json.loads(content).items():
        assert find_price("openai", name.replace("*", "")) == Price(**price), name


def _price(sent: float, answered: float) -> dict[str, float]:
    return {"input": sent, "output": answered}


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        # Examples of OpenAI's documentation.
        ("gpt-4o", (1024, 1024), 765),
        ("gpt-4o", (2048, 4096), 1105),
        ("gpt-4.1-mini", (1024, 1024), 1024 * 1.62),
        ("gpt-4.1-nano", (1800, 2400), 1452 * 2.46),
        # What its API has reported, less the tokens of the text.
        ("gpt-4.1-2025-04-14", (128, 64), 255),
        ("openai/gpt-4o-mini", (128, 64), 8500),
        ("gpt-4o-mini-2024-07-18", (128, 64), 8500),
        ("gpt-5", (1024, 1024), 70 + 4 * 140),
        ("gpt-5-mini", (64, 64), 4 * 1.62),
        ("o4-mini", (100_000, 1), 1536 * 1.72),
        # An example of Google's.
        ("gemini-2.5-flash", (384, 384), 258),
        ("gemini/gemini-2.5-flash", (385, 384), 258),
        ("gemini-2.5-flash", (769, 768), 516),
        # Others as GPT-4o.
        ("Qwen/Qwen3-VL-8B-Instruct", (600, 400), 85 + 2 * 170),
    ],
)
def test_tokens_of_an_image(model: str, size: tuple[int, int], tokens: float) -> None:
    assert image_tokens(model, *size) == pytest.approx(tokens)
