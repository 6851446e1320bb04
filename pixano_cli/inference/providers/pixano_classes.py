"""Class names on the way to a detector and back.

A model with a class set of its own ignores what is asked for; Grounding DINO wants one text, and
answers with the pieces of it that it found, which may be several names, half of one, or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_GROUNDING = re.compile(r"grounding[-_ ]?dino", re.IGNORECASE)


def is_grounding(*told: str | None) -> bool:
    """Return whether a model's name, class or path tells that it is a Grounding DINO."""
    return any(_GROUNDING.search(each) for each in told if each)


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


def _key(name: str) -> str:
    # The tokenizer puts spaces around hyphens and drops nothing else that matters here.
    return " ".join(re.sub(r"[\s.\-]+", " ", name.casefold()).split())
