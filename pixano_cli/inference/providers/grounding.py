"""Boxes from a model that talks: what it is asked, and how its answer is read.

An answer is read as tolerantly as models are different: JSON in a fence or among text, an array or
an object of arrays, boxes under any of the usual names. But it is read whole: an object without a
box, a box without four numbers, an end in the middle are errors, and only an honest empty list is
empty. A talking model gives no scores; where it states one from 0 to 1 that is taken, else the
score is 1.0, so that no threshold hides a box.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pixano_cli.inference.errors import InferenceError
from pixano_cli.inference.providers.chat import Asked, Picture, Utterance
from pixano_cli.inference.providers.chat_answers import (
    Said,
    UnreadableError,
    failure,
    find_json,
    one_line,
)
from pixano_cli.inference.providers.conventions import (
    Box,
    Convention,
    Profile,
    Size,
    are_fractions,
    clipped,
    fitting,
)

VERSION = 1
"""Of the words and the shape that are asked for: part of what an answer is known by."""

ANSWER_TOKENS = 4096
"""Most tokens of an answer: a box takes about 30."""

SCORE = 1.0
"""Score of a box for which a model states none."""

_OBJECTS = "objects"
_BOXES = ("bbox_2d", "box_2d", "bbox", "box", "bounding_box", "boundingBox", "coordinates")
_LABELS = ("label", "class", "name", "category", "class_name", "text", "object")
_SCORES = ("score", "confidence", "probability")


@dataclass(frozen=True, slots=True)
class Finding:
    """One object as a model gives it.

    Attributes:
        label: What it is.
        numbers: Its box, in whatever convention.
        score: How sure the model says it is.
    """

    label: str
    numbers: Box
    score: float = SCORE


@dataclass(frozen=True, slots=True)
class Grounding:
    """An answer to a question for boxes, not yet in pixels.

    Attributes:
        found: The objects, in the model's order.
        sent: Size of the picture that the model was shown.
        displayed: Size of the image as displayed.
        profile: How it was asked.
        said: The answer itself.
    """

    found: tuple[Finding, ...]
    sent: Size
    displayed: Size
    profile: Profile
    said: Said


@dataclass(frozen=True, slots=True)
class Placed:
    """Objects in pixels of the image as displayed.

    Attributes:
        found: The objects with their boxes, clipped to the image.
        clipped: How many boxes reached over the image's edge, by no more than a twentieth.
        dropped: How many had no area in the image, and are left out.
    """

    found: tuple[Finding, ...]
    clipped: int
    dropped: int


def named(classes: Sequence[str] | str) -> tuple[str, ...]:
    """Return the classes of a request, each once; a text is a list with commas or full stops."""
    names = re.split(r"[,.\n]", classes) if isinstance(classes, str) else classes
    return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))


def question(
    model: str, picture: str, classes: Sequence[str], profile: Profile, sent: Size
) -> Asked:
    """Return what a model is asked about one picture.

    Args:
        model: Its name.
        picture: URL of the picture.
        classes: What to look for.
        profile: What it is used to.
        sent: Size of the picture.
    """
    wanted = ", ".join(f'"{name}"' for name in classes)
    corners, unit = profile.convention.corners, profile.convention.unit(sent)
    example = f'{{"{_OBJECTS}": [{{"label": "<class>", "{profile.key}": {corners}}}]}}'
    text = (
        f"Find every object of these classes in the image: {wanted}.\n"
        f"Answer with JSON only: {example}.\n"
        f'"label" is the class exactly as written above. The four numbers are {unit}.\n'
        f'One entry for each single object. If there is none: {{"{_OBJECTS}": []}}.'
    )
    return Asked(
        model=model,
        talk=(Utterance("user", (Picture(picture), text)),),
        max_tokens=ANSWER_TOKENS,
        temperature=0.0,
        schema=_schema(classes, profile.key),
        is_firm=False,
    )


def read_boxes(text: str) -> tuple[Finding, ...]:
    """Return the objects of an answer.

    Raises:
        UnreadableError: If any part of it cannot be read, or there is no list at all.
    """
    values = find_json(text)
    lists = [found for value in values if (found := _objects(value)) is not None]
    if not lists:
        if values:
            raise UnreadableError("its JSON has no list of objects with boxes")
        raise UnreadableError("it has no JSON")
    return tuple(_finding(each) for found in lists for each in found)


def place(grounding: Grounding, convention: Convention) -> Placed:
    """Return the objects in pixels of the image as displayed.

    Raises:
        InferenceError: If a box can be none in the convention: outside of the image by more than
            a twentieth, its corners in the wrong order, or all of them smaller than a pixel.
    """
    sent, displayed = grounding.sent, grounding.displayed
    numbers = [each.numbers for each in grounding.found]
    for each in grounding.found:
        if not convention.fits(each.numbers, sent):
            raise _misfit(grounding, convention, each)
    if convention.scale != "unit" and are_fractions(numbers):
        raise _misfit(grounding, convention, grounding.found[0])
    found, cut, dropped = [], 0, 0
    for each in grounding.found:
        whole = convention.to_pixels(each.numbers, sent, displayed)
        inside = clipped(whole, displayed)
        if inside is None:
            dropped += 1
            continue
        cut += inside != whole
        found.append(Finding(each.label, inside, each.score))
    return Placed(tuple(found), cut, dropped)


def asked_label(label: str, classes: Collection[str]) -> str:
    """Return the class that a label means: the same in other spelling, or the one it contains.

    A label that means none of them, or several, stays as it is.
    """
    plain = _plain(label)
    by_name = {_plain(name): name for name in classes}
    for form in (
        plain,
        plain.removesuffix("s"),
        plain + "s",
        plain.removesuffix("es"),
        plain + "es",
    ):
        if form in by_name:
            return by_name[form]
    within = [name for name in by_name if name and f" {name} " in f" {plain} "]
    longest = [name for name in within if not any(name != each and name in each for each in within)]
    return by_name[longest[0]] if len(longest) == 1 else label


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[\W_]+", " ", name.casefold()).split())


def _schema(classes: Sequence[str], key: str) -> Mapping[str, Any]:
    found = {
        "type": "object",
        "properties": {
            "label": {"type": "string", "enum": list(classes)},
            key: {"type": "array", "items": {"type": "number"}},
        },
        "required": ["label", key],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {_OBJECTS: {"type": "array", "items": found}},
        "required": [_OBJECTS],
        "additionalProperties": False,
    }


def _objects(value: Any) -> list[Any] | None:
    """Return the list of objects that a value of JSON is or holds; None if it does neither."""
    if isinstance(value, dict):
        if _numbers_of(value) is not None:
            return [value]
        lists = [each for each in value.values() if isinstance(each, list)]
        return lists[0] if len(lists) == 1 and _is_list_of_objects(lists[0]) else None
    return value if _is_list_of_objects(value) else None


def _is_list_of_objects(value: list[Any]) -> bool:
    return all(isinstance(each, dict) for each in value)


def _numbers_of(entry: Mapping[str, Any]) -> Any:
    """Return what an object has for a box, read or not; None if it has nothing of the kind."""
    return next((entry[name] for name in _BOXES if name in entry), None)


def _finding(entry: Mapping[str, Any]) -> Finding:
    shown = one_line(str(dict(entry)), 60)
    numbers = _numbers_of(entry)
    if isinstance(numbers, list) and len(numbers) == 1 and isinstance(numbers[0], list):
        numbers = numbers[0]
    if not isinstance(numbers, list) or len(numbers) != 4 or not all(map(_is_number, numbers)):
        raise UnreadableError(f"{shown} has no box of four numbers")
    label = next((entry[name] for name in _LABELS if isinstance(entry.get(name), str)), "")
    if not label.strip() or not _is_whole(label):
        raise UnreadableError(f"{shown} has no label")
    stated = next((entry[name] for name in _SCORES if _is_number(entry.get(name))), SCORE)
    first, second, third, fourth = map(float, numbers)
    score = float(stated) if 0 <= stated <= 1 else SCORE
    return Finding(label.strip(), (first, second, third, fourth), score)


def _is_number(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an int that no float can hold
        return False


def _is_whole(text: str) -> bool:
    """Return whether a text has no half of a surrogate pair, which JSON can write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _misfit(grounding: Grounding, convention: Convention, found: Finding) -> InferenceError:
    numbers = ", ".join(f"{number:g}" for number in found.numbers)
    boxes = [each.numbers for each in grounding.found]
    others = [
        each
        for each in fitting(boxes, grounding.sent)
        if (each.scale == "unit") == are_fractions(boxes)
    ]
    guess = f", but could be as {' or '.join(each.name for each in others[:3])}" if others else ""
    return failure(
        grounding.said,
        f"gives a box [{numbers}] for {one_line(found.label, 40)!r}, which is none in a picture of "
        f"{grounding.sent[0]}x{grounding.sent[1]} as {convention.name}{guess}: "
        "`pixano-annotate providers check` finds out how it gives boxes, --box-format sets it",
    )
