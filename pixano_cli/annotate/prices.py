"""What tokens cost: the table that comes with the tool, and the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson

from pixano_cli.errors import UsageError
from pixano_cli.formats.text import parse_json, shown

# Who sells what the table names; a model of the same name on a server of one's own costs nothing.
_SELLERS = frozenset({"gemini", "litellm", "openai"})
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens, of what is sent and of what is answered."""

    input: float
    output: float

    def of(self, usage: Mapping[str, int]) -> float:
        """Return what an answer costs, in US dollars, by the usage reported with it."""
        sent, answered = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        return (sent * self.input + answered * self.output) / _MILLION


def find_price(provider: str, model: str, file: str | Path | None = None) -> Price | None:
    """Find what a model's tokens cost.

    Args:
        provider: Name of the provider.
        model: Name of the model; what stands before its last slash does not count.
        file: JSON file of prices by model, `{"NAME": {"input": USD, "output": USD}}` for a million
            tokens; a name may have `*` in it. What it does not name costs what the tool knows.

    Returns:
        The price by the longest name that fits; None if there is none.

    Raises:
        UsageError: If the file cannot be read, or is no such table.
    """
    if file is not None:
        own = _find(_read(Path(file)), model)
        if own is not None:
            return own
    if provider not in _SELLERS:
        return None
    table = orjson.loads(files(__package__).joinpath("prices.json").read_bytes())
    return _find({name: Price(**price) for name, price in table.items()}, model)


def _find(table: Mapping[str, Price], model: str) -> Price | None:
    named = [
        name
        for name in table
        if fnmatchcase(model, name) or fnmatchcase(model.rpartition("/")[2], name)
    ]
    return table[max(named, key=len)] if named else None


def _read(path: Path) -> dict[str, Price]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {shown(path)}: {(error.strerror or '').lower()}") from None
    table = parse_json(content, path)
    if not isinstance(table, dict):
        raise UsageError(f"{shown(path)} is no table of prices: {_FORM}")
    return {name: _price(name, price, path) for name, price in table.items()}


_FORM = '{"MODEL": {"input": 0.15, "output": 0.6}} is wanted, in US dollars for a million tokens'


def _price(name: str, price: Any, path: Path) -> Price:
    if isinstance(price, dict) and price.keys() == {"input", "output"}:
        sums = [price["input"], price["output"]]
        if all(isinstance(each, (int, float)) and 0 <= each < float("inf") for each in sums):
            return Price(float(sums[0]), float(sums[1]))
    raise UsageError(f"{shown(path)}: {name!r} has no price: {_FORM}")
