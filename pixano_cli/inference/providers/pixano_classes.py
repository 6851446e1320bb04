"""Class names on the way to a detector and back.

A model with a class set of its own ignores what is asked for; Grounding DINO wants one text, and
answers with the pieces of it that it found, which may be several names, half of one, or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pixano_cli.annotations import Category
from pixano_cli.inference.errors import InvalidRequestError
from pixano_cli.inference.providers.dialects import Generation, ListedModel
from pixano_cli.models.coco_classes import COCO_CATEGORIES

_GROUNDING = re.compile(r"grounding[-_ ]?dino", re.IGNORECASE)


def asked_of(
    model: ListedModel, names: Sequence[str], generation: Generation, url: str
) -> list[str] | str | None:
    """Return the classes as a model is to be asked for them.

    Args:
        model: The model.
        names: Names of the classes; none for all that it has.
        generation: Its server's generation.
        url: Its server's address, for errors.

    Raises:
        InvalidRequestError: If it has no classes of its own and none are named.
    """
    if not names and (is_grounding(model) or model.is_open):
        raise InvalidRequestError(
            f"model {model.name!r} at {url} has no classes of its own: "
            "name those to look for with --classes"
        )
    if is_grounding(model):
        return grounding_text(names)
    if model.is_closed or (not names and generation >= Generation.G3):
        return None
    return list(names)


def meant_by(model: ListedModel, found: Sequence[str], names: Sequence[str]) -> list[str | None]:
    """Return the classes that a model's labels stand for, None for what was not asked for.

    Args:
        model: The model.
        found: Its labels.
        names: Names of the classes that were asked for; with none, labels stand for themselves.
    """
    if not names:
        return list(found)
    meaning = nearest_name if is_grounding(model) else same_name
    return [meaning(label, names) for label in found]


def is_grounding(model: ListedModel) -> bool:
    """Return whether a model's name, class or path tells that it is a Grounding DINO."""
    told = (model.name, model.model_class, model.model_path)
    return not model.is_closed and any(_GROUNDING.search(each) for each in told if each)


def names_of(classes: Sequence[str] | str) -> tuple[str, ...]:
    """Return the class names of a request, each once; of a text, its parts between full stops."""
    parts = classes.split(".") if isinstance(classes, str) else classes
    return tuple(dict.fromkeys(name for each in parts if (name := " ".join(each.split()))))


def grounding_text(names: Sequence[str]) -> str:
    """Return the text for a Grounding DINO: small letters, a full stop after each name.

    Source: the model's own documentation ("text queries need to be lowercased + end with a dot").
    """
    return " ".join(f"{name.lower().rstrip('.')}." for name in names)


def same_name(found: str, names: Sequence[str]) -> str | None:
    """Return the name that was asked for and found, as it was asked for; None if none was."""
    key = _key(found)
    return next((name for name in names if _key(name) == key), None)


def nearest_name(phrase: str, names: Sequence[str]) -> str | None:
    """Return the name that a phrase of a Grounding DINO stands for.

    That is the same name, or else the one with the largest part of its words in the phrase, the
    first of several. An empty phrase stands for the only name, if there is only one.

    Returns:
        The name as it was asked for; None if no word of any is in the phrase.
    """
    if exact := same_name(phrase, names):
        return exact
    words = set(_key(phrase).split())
    if not words:
        return names[0] if len(names) == 1 else None
    shares = []
    for name in names:
        own = _key(name).split()
        shares.append(sum(word in words for word in own) / len(own) if own else 0.0)
    best = max(shares, default=0.0)
    return names[shares.index(best)] if best else None


def categories_of(names: Sequence[str] | None) -> tuple[Category, ...] | None:
    """Return the categories of a class set: those of COCO by COCO's ids, others by their place."""
    if names is None:
        return None
    known = {category.name: category for category in COCO_CATEGORIES}
    if all(name in known for name in names):
        return tuple(known[name] for name in names)
    return tuple(Category(number, name) for number, name in enumerate(names, 1))


def _key(name: str) -> str:
    # The tokenizer puts spaces around hyphens and drops nothing else that matters here.
    return " ".join(re.sub(r"[\s.\-]+", " ", name.casefold()).split())
