"""What a run will use, estimated before anything is asked: from what was used, or from a sample."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import TypeVar

import orjson
from sqlalchemy import select

from pixano_cli.annotate.identity import Request
from pixano_cli.errors import MediaError
from pixano_cli.inference.providers.outgoing import within
from pixano_cli.inference.types import InferenceTask
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.ledger import Item
from pixano_cli.media import flight, identity

T = TypeVar("T")

SAMPLE = 32

# Tokens of a text in English are some four letters each.
_LETTERS_A_TOKEN = 4
# What a request for boxes says beside the classes, and what a usual answer has.
_BOXES_ASKED, _BOXES_ANSWERED = 150, 300


def sample(items: Iterable[T], size: int = SAMPLE) -> list[T]:
    """Draw some of the items, each with the same chance, the same ones each time."""
    chance = random.Random(0)
    drawn: list[T] = []
    for count, item in enumerate(items):
        if count < size:
            drawn.append(item)
        elif (place := chance.randrange(count + 1)) < size:
            drawn[place] = item
    return drawn


def estimate(
    request: Request, items: Sequence[Item], store: Store | None
) -> dict[str, float] | None:
    """Return the tokens that an answer to the request will use, as a server will report them.

    Args:
        request: What is asked.
        items: Some of the images, of which a sample is looked at.
        store: Where the usage of earlier answers may be recorded.

    Returns:
        Mean numbers by name, as in `UsageInfo`; None if the model uses no tokens.
    """
    recorded = _recorded(request, store) if store else []
    if recorded:
        names = ("prompt_tokens", "completion_tokens")
        return {name: fmean(each.get(name, 0) for each in recorded) for name in names}
    parameters = request.parameters
    if request.task == InferenceTask.TEXT_GENERATION.value:
        text = len(parameters["prompt"]) / _LETTERS_A_TOKEN
        answered = float(parameters["max_new_tokens"])
    elif request.task == InferenceTask.OBJECT_DETECTION.value and "boxes" in parameters:
        text = _BOXES_ASKED + len(", ".join(parameters["classes"])) / _LETTERS_A_TOKEN
        answered = float(_BOXES_ANSWERED)
    else:
        return None
    sizes = [size for item in items if (size := _size(item)) is not None]
    shown = [within(*size, parameters.get("max_side")) for size in sizes or [(1, 1)]]
    images = fmean(image_tokens(request.model, *size) for size in shown)
    return {"prompt_tokens": text + images, "completion_tokens": answered}


def _recorded(request: Request, store: Store) -> list[Mapping[str, int]]:
    table, metadata = schema.inferences, schema.metadata
    query = (
        select(metadata.c.value)
        .join(table, table.c.id == metadata.c.inference)
        .where(table.c.request_key == request.key, metadata.c.key == "usage")
        .limit(1000)
    )
    with store.read() as connection:
        return [orjson.loads(value) for value in connection.execute(query).scalars()]


def _size(item: Item) -> tuple[int, int] | None:
    try:
        facts = identity.probe(identity.read_file(flight.path_of(item.url)))
    except MediaError:
        return None
    return facts.width, facts.height


def image_tokens(model: str, width: int, height: int) -> float:
    """Return the tokens that a model counts for an image of so many pixels.

    Other models than OpenAI's and Google's are taken to count as GPT-4o does.

    Sources: OpenAI, "Images and vision", calculating costs; Google, "Image understanding", token
    calculation of Gemini 2.
    """
    name = model.rpartition("/")[2]
    if name.startswith("gemini"):
        return _gemini_tokens(width, height)
    for patched, factor in _PATCHES.items():
        if name.startswith(patched):
            return _patches(width, height) * factor
    known = max((each for each in _TILES if name.startswith(each)), key=len)
    whole, tile = _TILES[known]
    return whole + tile * _tiles(width, height)


# Tokens of an image in high detail, and of each tile of it, by how the model's name begins.
_TILES = {
    "": (85.0, 170.0),
    "gpt-4o-mini": (2833.0, 5667.0),
    "gpt-5": (70.0, 140.0),
    "o1": (75.0, 150.0),
    "o3": (75.0, 150.0),
}
# Tokens of each patch, for models that count those.
_PATCHES = {
    "gpt-4.1-mini": 1.62,
    "gpt-4.1-nano": 2.46,
    "gpt-5-mini": 1.62,
    "gpt-5-nano": 2.46,
    "o4-mini": 1.72,
}
_PATCH, _MOST_PATCHES = 32, 1536


def _tiles(width: int, height: int) -> int:
    """Return the tiles of 512 pixels of an image, after it is scaled to 2048 and then 768."""
    scale = min(1.0, 2048 / max(width, height))
    scale *= min(1.0, 768 / (min(width, height) * scale))
    return math.ceil(width * scale / 512) * math.ceil(height * scale / 512)


def _patches(width: int, height: int) -> int:
    """Return the patches of 32 pixels of an image, scaled so that they are no more than allowed."""
    columns, rows = width / _PATCH, height / _PATCH
    if math.ceil(columns) * math.ceil(rows) > _MOST_PATCHES:
        scale = math.sqrt(_MOST_PATCHES / (columns * rows))
        columns, rows = columns * scale, rows * scale
        # One side is made of whole patches.
        shrunk = min(max(1, math.floor(side)) / side for side in (columns, rows))
        columns, rows = columns * shrunk, rows * shrunk
    return min(_MOST_PATCHES, math.ceil(columns - 1e-9) * math.ceil(rows - 1e-9))


def _gemini_tokens(width: int, height: int) -> float:
    """Return 258 tokens for a small image, and for each tile of 768 pixels of another."""
    if max(width, height) <= 384:
        return 258.0
    return 258.0 * math.ceil(width / 768) * math.ceil(height / 768)
