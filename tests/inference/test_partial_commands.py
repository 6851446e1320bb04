"""`segment` asks several times about an image: what is answered is kept when the rest fails."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from .annotating import Done, Work
from .pixano_colours import RefusedError
from .pixano_generations import PixanoServer, pixano_server
from .squares import painted

COUNT = 3
DETECTION = "POST /v1/inference/detection"
SEGMENTATION = "POST /v1/inference/segmentation"

Command = Callable[..., Done]


@pytest.fixture
def server(work: Work) -> Iterator[PixanoServer]:
    photos = work.folder / "photos"
    photos.mkdir()
    for index in range(COUNT):
        boxes = {"red": (3 + index, 4, 20, 16), "blue": (30, 5, 50 + index, 30)}
        Image.fromarray(painted(boxes)).save(photos / f"{index}.png")
    with pixano_server(5) as running:
        yield running


def asked(server: PixanoServer) -> Counter[str]:
    return Counter(each for each in server.asked if each.startswith("POST"))


def segment(server: PixanoServer, out: str, *options: str) -> list[str]:
    told = ["segment", "photos", "-o", out, "--store", f"store of {out}", "--json"]
    told += ["--provider", "pixano-inference", "--url", server.url, "-m", "boxes"]
    return [*told, *options]


def poor(body: dict[str, Any]) -> Any:
    raise RefusedError(500, "out of memory")


def test_boxes_that_were_found_are_not_asked_for_again(
    work: Work, command: Command, server: PixanoServer
) -> None:
    options = ("--detector", "colours", "--classes", "red,blue")
    assert command(*segment(server, "expected.json", *options)).code == 0
    assert asked(server) == {DETECTION: COUNT, SEGMENTATION: COUNT}
    server.asked.clear()
    server.segment = poor  # type: ignore[method-assign]
    done = command(*segment(server, "m.json", *options))
    assert done.code == 3, done.err
    assert done.counts == (COUNT, 0, 0, COUNT)
    assert (
        "failed (500: out of memory): its own log may say why"
        in work.failed("m.json")[0]["message"]
    )
    assert asked(server) == {DETECTION: COUNT, SEGMENTATION: COUNT}
    del server.segment
    server.asked.clear()
    done = command(*segment(server, "m.json", *options))
    assert done.code == 0, done.err
    assert done.counts == (COUNT, COUNT, 0, 0)
    assert asked(server) == {SEGMENTATION: COUNT}
    assert work.output("m.json") == work.output("expected.json")


def test_masks_that_were_made_are_not_asked_for_again(
    work: Work, command: Command, server: PixanoServer
) -> None:
    """Prompts of several kinds go in several calls."""
    prompts = [
        {"box": [3, 4, 20, 16], "label": "red"},
        {"box": [30, 5, 50, 30], "points": [[35, 10]], "labels": [1], "label": "blue"},
    ]
    given = {f"{index}.png": prompts for index in range(COUNT)}
    (work.folder / "prompts.json").write_text(json.dumps(given))
    options = ("--prompts", "prompts.json")
    done = command(*segment(server, "expected.json", *options))
    assert done.code == 0, done.err
    assert asked(server) == {SEGMENTATION: 2 * COUNT}
    server.asked.clear()
    sound = server.segment

    def only_boxes(body: dict[str, Any]) -> Any:
        return poor(body) if body.get("points") else sound(body)

    server.segment = only_boxes  # type: ignore[method-assign]
    done = command(*segment(server, "m.json", *options))
    assert done.counts == (COUNT, 0, 0, COUNT)
    before = asked(server)[SEGMENTATION]
    del server.segment
    server.asked.clear()
    done = command(*segment(server, "m.json", *options))
    assert done.code == 0, done.err
    assert asked(server)[SEGMENTATION] == COUNT
    assert before == 2 * COUNT
    assert work.output("m.json") == work.output("expected.json")
