"""What an output shows of the record."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli import rle
from pixano_cli.annotate.prompts import Prompt, PromptError, dump_prompts, geometry_to_dict
from pixano_cli.annotate.view import Answered, View, is_answered
from pixano_cli.annotations import Box
from pixano_cli.inference_store.ledger import Item, Picture

PICTURE = Picture("digest", 1, 40, 30, 1, "PNG")
ITEM = Item("a.png", "root", "file:///a.png", 1, 1, "digest")

scores = st.floats(0, 1).map(lambda value: round(value, 2))
found_elements = st.lists(
    st.fixed_dictionaries(
        {
            "label": st.sampled_from(["cat", "cup", "dog"]),
            "score": scores,
            "xmin": st.integers(-20, 50),
            "ymin": st.integers(-20, 50),
            "xmax": st.integers(-20, 50),
            "ymax": st.integers(-20, 50),
        }
    ),
    max_size=8,
)
views = st.builds(
    View,
    detector=st.just("detector"),
    threshold=st.none() | scores,
    labels=st.none() | st.frozensets(st.sampled_from(["cat", "cup", "dog"])),
)


def visible(view: View, element: dict[str, Any]) -> bool:
    """Say it again, plainly: right class, score high enough, some of it inside the image."""
    right_class = view.labels is None or element["label"] in view.labels
    high_enough = view.threshold is None or element["score"] >= view.threshold
    columns = [x for x in range(40) if element["xmin"] <= x < element["xmax"]]
    rows = [y for y in range(30) if element["ymin"] <= y < element["ymax"]]
    return bool(right_class and high_enough and columns and rows)


def square(box: Box) -> rle.CompressedRLEData:
    mask = np.zeros((30, 40), bool)
    mask[int(box.ymin) : int(box.ymax), int(box.xmin) : int(box.xmax)] = True
    return rle.encode(mask)


def segmented(prompts: list[Prompt], iou: float = 0.8) -> list[dict[str, Any]]:
    return [
        {
            "label": "whatever it was asked as",
            "score": 0.1,
            "iou": iou,
            "rle": square(prompt.box or Box(0, 0, 5, 5)).to_dict(),
            "prompt": geometry_to_dict(prompt.geometry),
        }
        for prompt in prompts
    ]


@given(views, found_elements)
def test_boxes_are_those_of_the_visible_elements(view: View, found: list[dict[str, Any]]) -> None:
    image = view.annotate(ITEM, Answered(PICTURE, found))
    wanted = sorted((each["label"], each["score"]) for each in found if visible(view, each))
    assert sorted((each.label, each.score) for each in image.annotations) == wanted
    for annotation in image.annotations:
        assert 0 <= annotation.box.xmin < annotation.box.xmax <= 40
        assert 0 <= annotation.box.ymin < annotation.box.ymax <= 30


@given(views, found_elements)
def test_masks_are_those_of_the_same_elements(view: View, found: list[dict[str, Any]]) -> None:
    boxes = view.annotate(ITEM, Answered(PICTURE, found))
    masks_view = View("detector", "segmenter", view.threshold, view.labels)
    prompts = masks_view.prompts(ITEM, PICTURE, found)
    masks = masks_view.annotate(ITEM, Answered(PICTURE, found, segmented(prompts)))
    assert [(each.label, each.score, each.box) for each in masks.annotations] == [
        (each.label, each.score, each.box) for each in boxes.annotations
    ]
    for annotation in masks.annotations:
        assert annotation.mask is not None
        assert annotation.area == rle.area(annotation.mask)


@given(views, found_elements)
def test_it_is_answered_once_every_prompt_is(view: View, found: list[dict[str, Any]]) -> None:
    view = View("detector", "segmenter", view.threshold, view.labels)
    prompts = view.prompts(ITEM, PICTURE, found)
    assert not is_answered(view, ITEM, Answered(PICTURE, None, segmented(prompts)))
    assert is_answered(view, ITEM, Answered(PICTURE, found, segmented(prompts)))
    if prompts:
        fewer = [each for each in prompts if each.geometry != prompts[0].geometry]
        assert not is_answered(view, ITEM, Answered(PICTURE, found, segmented(fewer)))


@given(views, found_elements, scores)
def test_a_higher_threshold_needs_no_more_answers(
    view: View, found: list[dict[str, Any]], more: float
) -> None:
    lower = View("detector", "segmenter", view.threshold or 0.0, view.labels)
    higher = View("detector", "segmenter", max(view.threshold or 0.0, more), view.labels)
    answered = segmented(lower.prompts(ITEM, PICTURE, found))
    assert is_answered(higher, ITEM, Answered(PICTURE, found, answered))


def test_prompts_of_a_file_keep_their_label_and_take_the_iou_as_score() -> None:
    given_prompts = [Prompt("mug", None, Box(1, 1, 9, 9)), Prompt("lid", 0.3, Box(2, 2, 8, 8))]
    item = Item("a.png", "root", "file:///a.png", 1, 1, "digest", dump_prompts(given_prompts))
    answered = Answered(PICTURE, None, segmented(given_prompts, 0.7))
    shown = View(None, "segmenter").annotate(item, answered)
    assert [(each.label, each.score) for each in shown.annotations] == [("mug", 0.7), ("lid", 0.3)]
    strict = View(None, "segmenter", threshold=0.5)
    shown = strict.annotate(item, answered)
    assert [each.label for each in shown.annotations] == ["mug"]


def test_an_empty_mask_is_no_annotation() -> None:
    prompt = Prompt("mug", 0.9, Box(1, 1, 9, 9))
    item = Item("a.png", "root", "file:///a.png", 1, 1, "digest", dump_prompts([prompt]))
    element = segmented([prompt])[0]
    element["rle"] = rle.encode(np.zeros((30, 40), bool)).to_dict()
    assert (
        View(None, "segmenter").annotate(item, Answered(PICTURE, None, [element])).annotations == ()
    )


def test_a_prompt_beside_its_image_is_not_answered_but_fails() -> None:
    item = Item(
        "a.png", "r", "file:///a.png", 1, 1, "digest", dump_prompts([Prompt(box=Box(50, 0, 60, 5))])
    )
    view = View(None, "segmenter")
    assert not is_answered(view, item, Answered(PICTURE, None, []))
    with pytest.raises(PromptError, match="outside the 40x30 image"):
        view.prompts(item, PICTURE, [])
