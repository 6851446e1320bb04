"""Boxes from models that talk, and the check of their convention, on the tests' own server."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from pixano_cli.errors import UsageError
from pixano_cli.inference import get_provider
from pixano_cli.inference.check import SHAPES, SIZE, CheckReport, check_provider, picture
from pixano_cli.inference.errors import (
    InferenceError,
    InvalidRequestError,
    TaskNotSupportedError,
)
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.types import InferenceTask
from pixano_cli.media.decode import decode_image
from pixano_cli.media.flight import read_url

from .chats import CHAT, TWICE, USAGE, boxes, completion, convention, detect, refusal
from .own_server import OwnServer, Reply, answer, own_server
from .remote import ask, data_url, png
from .test_conventions import written


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_server() as own:
        yield own


def shapes(name: str) -> str:
    """What a model of a convention answers to the check."""
    return boxes(
        *((label, written(convention(name), box, SIZE, SIZE)) for label, box in SHAPES.items())
    )


def test_boxes(server: OwnServer) -> None:
    found = boxes(("Cat", (100, 250, 500, 750)), ("dog", (0, 0, 1010, 1000)), ("cow", (0, 0, 9, 9)))
    server.on(CHAT, completion(found))
    result = ask("openai", server.url, detect)
    assert result.data.boxes == [
        [6.0, 10.0, 30.0, 30.0],
        [0.0, 0.0, 60.0, 40.0],
        pytest.approx([0, 0, 0.54, 0.36]),
    ]
    assert result.data.classes == ["cat", "dog", "cow"]
    assert result.data.scores == [1.0, 1.0, 1.0]
    assert result.metadata == {
        "usage": USAGE,
        "model": "m-1",
        "finish_reason": "stop",
        "boxes": "xyxy-thousand",
        "clipped": 1,
    }
    [asked] = server.asked
    assert asked.body["temperature"] == 0.0
    assert asked.body["response_format"]["json_schema"]["strict"] is True


def test_boxes_of_a_smaller_picture_come_back_in_the_whole_one(server: OwnServer) -> None:
    server.on(CHAT, completion(boxes(("cat", (3, 2, 15, 10)))))
    result = ask("openai", server.url, detect, max_side=30, boxes="xyxy-pixels")
    assert result.data.boxes == [[6, 4, 30, 20]]
    text = server.asked[0].body["messages"][0]["content"][1]["text"]
    assert "30 wide and 20 high" in text


def test_stated_scores_and_the_threshold(server: OwnServer) -> None:
    found = [
        {"label": "cat", "box": [0, 0, 500, 500], "score": 0.4},
        {"label": "dog", "box": [0, 0, 500, 500], "confidence": 0.9},
    ]
    server.on(CHAT, completion(json.dumps(found)))
    result = ask("openai", server.url, detect)
    assert (result.data.classes, result.data.scores) == (["dog"], [0.9])
    low = ask("openai", server.url, lambda provider: detect(provider, threshold=0.05))
    assert low.data.scores == [0.4, 0.9]


def test_an_honest_empty_list(server: OwnServer) -> None:
    server.on(CHAT, completion('{"objects": []}'))
    assert ask("openai", server.url, detect).data.boxes == []


def test_no_structure_no_matter(server: OwnServer) -> None:
    fenced = f"```json\n{boxes(('cat', (0, 0, 500, 500)))}\n```"
    server.on(CHAT, refusal("unknown field response_format"), completion(fenced))

    async def question(provider: InferenceProvider) -> None:
        for _ in range(2):
            assert (await detect(provider)).data.boxes == [[0, 0, 30, 20]]

    ask("openai", server.url, question)
    assert ["response_format" in asked.body for asked in server.asked] == [True, False, False]


def test_a_server_with_little_room(server: OwnServer) -> None:
    full = "'max_tokens' is too large: 4096. This model's maximum context length is 4096 tokens"
    server.on(CHAT, refusal(full), refusal(full), completion('{"objects": []}'))
    ask("openai", server.url, detect)
    assert [asked.body["max_tokens"] for asked in server.asked] == [4096, 2048, 1024]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("I see a cat at the left.", "it has no JSON"),
        ('{"objects": [{"label": "cat"}]}', "has no box of four numbers"),
        ('{"objects": [{"label": "cat", "bbox_2d": [1, 2, 3, 4]}, {"lab', "breaks off"),
        ('{"cats": 1}', "no list of objects"),
    ],
)
def test_what_cannot_be_read_fails_after_one_repair(
    server: OwnServer, content: str, told: str
) -> None:
    server.on(CHAT, completion(content))
    with pytest.raises(InferenceError, match=f"also when asked again: .*{told}") as raised:
        ask("openai", server.url, detect)
    assert raised.value.usage == TWICE
    assert len(server.asked) == 2
    server.on(CHAT, completion(content), completion(boxes(("cat", (0, 0, 500, 500)))))
    result = ask("openai", server.url, detect)
    assert (result.data.boxes, result.metadata["usage"]) == ([[0, 0, 30, 20]], TWICE)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (completion('{"objects": [{"label": "cat"', "length"), "cut off after 4096 tokens"),
        (completion(""), "gives an empty answer"),
        (completion(None, refusal="No."), "refuses to answer: No."),
        # Outside of the image, axes swapped, corners swapped.
        (completion(boxes(("cat", (0, 0, 5000, 60)))), "is none in a picture of 60x40"),
        (completion(boxes(("cat", (0, 0, 38, 59)))), "could be as .*yxyx-pixels"),
        (completion(boxes(("cat", (40, 10, 5, 20)))), "could be as .*xywh-pixels"),
        # Fractions, which would be a speck in pixels.
        (completion(boxes(("cat", (0.1, 0.2, 0.5, 0.75)))), "could be as xyxy-unit"),
    ],
)
def test_what_is_an_error_at_once(server: OwnServer, reply: Reply, told: str) -> None:
    server.on(CHAT, reply)
    with pytest.raises(InferenceError, match=told) as raised:
        ask("openai", server.url, detect, boxes="xyxy-pixels")
    assert raised.value.usage == USAGE
    assert len(server.asked) == 1


def test_classes_are_wanted_before_anything_is_sent(server: OwnServer) -> None:
    with pytest.raises(InvalidRequestError, match="say with --classes what to look for"):
        ask("openai", server.url, lambda provider: detect(provider, classes=[" "]))
    assert server.asked == []


def test_a_convention_is_a_name() -> None:
    with pytest.raises(
        UsageError, match="--box-format 'yx': auto is wanted, or one of xyxy-pixels"
    ):
        get_provider("openai", boxes="yx")


# The check


def check(own: OwnServer, model: str = "qwen3-vl", **options: Any) -> CheckReport:
    return ask("openai", own.url, lambda provider: check_provider(provider, model), **options)


def test_the_picture_shows_the_shapes() -> None:
    pixels = decode_image(read_url(picture()))
    assert pixels.shape == (SIZE[1], SIZE[0], 3)
    for name, (x1, y1, x2, y2) in SHAPES.items():
        channel = ("red", "green", "blue").index(name.split()[0])
        others = [each for each in range(3) if each != channel]
        of_it = pixels[..., channel].astype(int) > pixels[..., others].astype(int).max(2) + 50
        rows, columns = of_it.any(1).nonzero()[0], of_it.any(0).nonzero()[0]
        assert (columns[0], columns[-1] + 1) == (x1, x2)
        assert (rows[0], rows[-1] + 1) == (y1, y2)


@pytest.mark.parametrize("name", ["xyxy-thousand", "yxyx-thousand", "xyxy-pixels", "xywh-unit"])
def test_the_convention_is_found(server: OwnServer, name: str) -> None:
    server.on(CHAT, completion(shapes(name)))
    report = check(server)
    assert (report.provider, report.model, report.used) == ("openai", "qwen3-vl", "xyxy-thousand")
    assert report.found == name == next(iter(report.scores))
    assert report.is_good is (name == "xyxy-thousand")
    assert report.usage == USAGE
    told = "" if report.is_good else f", not as xyxy-thousand: use --box-format {name}"
    assert report.explanation == (
        f"model 'qwen3-vl' of provider 'openai' gives boxes as {name}{told}"
    )
    [asked] = server.asked
    assert asked.body["messages"][0]["content"][0]["image_url"]["url"] == picture()


def test_what_is_asked_for_is_what_is_checked(server: OwnServer) -> None:
    server.on(CHAT, completion(shapes("yxyx-unit")))
    report = check(server, boxes="yxyx-unit")
    assert report.is_good
    assert "[y_min, x_min, y_max, x_max]" in json.dumps(server.asked[0].body)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"objects": []}', "finds none of 3 plain shapes: it does not see the image"),
        (
            boxes(*((name, (0, 0, 1000, 1000)) for name in SHAPES)),
            r"fit known shapes in no convention \(at best 0\.\d\d of 1\): it cannot give boxes",
        ),
    ],
)
def test_it_refuses_when_none_fits(server: OwnServer, content: str, told: str) -> None:
    server.on(CHAT, completion(content))
    report = check(server)
    assert (report.found, report.is_good) == (None, False)
    assert re.search(told, report.explanation)


def test_a_model_of_no_known_family_is_asked_first(server: OwnServer) -> None:
    server.on("/v1/models", answer({"data": [{"id": "house-model"}]}))
    image = data_url(png(60, 40))
    server.on(CHAT, completion(shapes("yxyx-pixels")), completion(boxes(("cat", (4, 6, 40, 60)))))

    async def question(provider: InferenceProvider) -> None:
        described = await provider.describe_model("house-model", InferenceTask.OBJECT_DETECTION)
        assert described.parameters == {
            "boxes": "yxyx-pixels",
            "grounding": 1,
            "boxes_asked": "xyxy-thousand",
        }
        for _ in range(2):
            result = await detect(provider, "house-model", image=image)
            assert result.data.boxes == [[6, 4, 60, 40]]

    ask("openai", server.url, question)
    # One for the check, whoever asks first.
    assert server.paths().count(CHAT) == 3


def test_a_model_of_no_convention_does_not_detect(server: OwnServer) -> None:
    server.on(CHAT, completion('{"objects": []}'))
    with pytest.raises(TaskNotSupportedError, match="finds none of 3 plain shapes") as raised:
        ask("openai", server.url, lambda provider: detect(provider, "house-model"))
    assert raised.value.usage == USAGE


def test_providers_with_boxes_in_pixels_need_no_check() -> None:
    report = ask(
        "pixano-inference",
        "http://127.0.0.1:1",
        lambda provider: check_provider(provider, "yolo"),
    )
    assert report.is_good
    assert "nothing to find out" in report.explanation
