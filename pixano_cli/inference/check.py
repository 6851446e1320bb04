"""In what convention a model gives boxes, found out by showing it a picture with known shapes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol, runtime_checkable

from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.providers.conventions import (
    Box,
    Convention,
    Size,
    best_match,
    conventions,
)
from pixano_cli.inference.providers.grounding import Finding, Grounding, asked_label

SIZE: Size = (714, 406)
"""Of the picture: neither square nor of whole patches, so that no two conventions look alike."""

SHAPES: Mapping[str, Box] = {
    "red rectangle": (42.0, 300.0, 224.0, 374.0),
    "blue circle": (518.0, 30.0, 680.0, 192.0),
    "green triangle": (298.0, 60.0, 402.0, 246.0),
}
"""What is in it: boxes in pixels. No shape lies on the diagonal, where x and y are the same."""

GOOD = 0.5
"""Least mean intersection over union of a convention that fits."""

_TIE = 0.02


@runtime_checkable
class Grounds(Protocol):
    """A provider that can tell how a model itself gives boxes."""

    async def ground(
        self, image: str, model: str, classes: Sequence[str], timeout: float = 60.0
    ) -> Grounding:
        """Ask for the boxes of objects and return them as the model gives them."""

    def convention(self, model: str) -> Convention | None:
        """Return the convention that a model's boxes are read in; None if it is to be found."""

    def remember(self, model: str, convention: str) -> None:
        """Read a model's boxes in the convention that was once found, by its name."""

    def assume(self) -> None:
        """Take the boxes of an unknown model to be as asked for, without a check that may cost."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check has found.

    Attributes:
        provider: Name of the provider.
        model: Name of the model.
        used: The convention in which the model's boxes are read, by its name; None if none is set
            and the model's family is not known.
        found: The convention of the answer; None if none fits, or boxes need none.
        is_good: Whether boxes of this model can be relied on as they are read now.
        explanation: What it comes to, in one line, with what to do.
        scores: Mean intersection over union with the shapes, by convention, best first.
        usage: Tokens that the check has taken; empty where the server does not tell.
    """

    provider: str
    model: str
    used: str | None
    found: str | None
    is_good: bool
    explanation: str
    scores: Mapping[str, float] = field(default_factory=dict)
    usage: Mapping[str, int] = field(default_factory=dict)


async def check_provider(
    provider: InferenceProvider, model: str, timeout: float = 120.0
) -> CheckReport:
    """Show a model a picture with known shapes and find the convention of its boxes.

    This is one request, which a server may charge for.

    Args:
        provider: Who is asked.
        model: Name of the model.
        timeout: Seconds for the answer.

    Raises:
        InferenceError: If there is no answer.
    """
    if not isinstance(provider, Grounds):
        return CheckReport(
            provider.name,
            model,
            None,
            None,
            is_good=True,
            explanation=f"provider {provider.name!r} gives boxes in pixels: nothing to find out",
        )
    used = provider.convention(model)
    answer = await provider.ground(picture(), model, tuple(SHAPES), timeout)
    scores = score(answer.found, answer.sent)
    best = max(scores.values())
    # What cannot be told apart by one answer is taken to be what it is known to be.
    alike = [name for name, each in scores.items() if each >= best - _TIE]
    found = None if best < GOOD else (used.name if used and used.name in alike else alike[0])
    return CheckReport(
        provider=provider.name,
        model=model,
        used=None if used is None else used.name,
        found=found,
        is_good=found is not None and (used is None or used.name == found),
        explanation=_explained(provider.name, model, used, found, answer.found, best),
        scores=scores,
        usage=answer.said.usage,
    )


def score(found: Sequence[Finding], sent: Size) -> dict[str, float]:
    """Return how well boxes fit the shapes in each convention, best first.

    Args:
        found: What the model has found.
        sent: Size of the picture that it was shown.

    Returns:
        By name the mean over the shapes of the best intersection over union that a box with the
        shape's label has with it.
    """
    scores = {}
    for each in conventions():
        placed = [
            (asked_label(one.label, SHAPES), each.to_pixels(one.numbers, sent, SIZE))
            for one in found
        ]
        matches = [
            best_match(truth, [box for label, box in placed if label == name])
            for name, truth in SHAPES.items()
        ]
        scores[each.name] = sum(matches) / len(matches)
    return dict(sorted(scores.items(), key=lambda pair: -pair[1]))


@cache
def picture() -> str:
    """Return the picture, as a data URL of a PNG."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", SIZE, (236, 232, 222))
    draw = ImageDraw.Draw(image)

    def inside(name: str) -> tuple[float, float, float, float]:
        # Pillow counts the last pixel in, a box ends after it.
        x1, y1, x2, y2 = SHAPES[name]
        return x1, y1, x2 - 1, y2 - 1

    draw.rectangle(inside("red rectangle"), fill=(214, 39, 40))
    draw.ellipse(inside("blue circle"), fill=(31, 80, 200))
    x1, y1, x2, y2 = inside("green triangle")
    draw.polygon([((x1 + x2) / 2, y1), (x2, y2), (x1, y2)], fill=(34, 150, 60))
    written = io.BytesIO()
    image.save(written, "PNG")
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode('ascii')}"


def _explained(
    provider: str,
    model: str,
    used: Convention | None,
    found: str | None,
    answered: Sequence[Finding],
    best: float,
) -> str:
    whose = f"model {model!r} of provider {provider!r}"
    if not answered:
        return (
            f"{whose} finds none of {len(SHAPES)} plain shapes: it does not see the image, or "
            "cannot give boxes: choose another model"
        )
    if found is None:
        return (
            f"the boxes of {whose} fit known shapes in no convention (at best {best:.2f} of 1): it "
            "cannot give boxes that can be relied on: choose another model"
        )
    if used is None or used.name == found:
        return f"{whose} gives boxes as {found}"
    return f"{whose} gives boxes as {found}, not as {used.name}: use --box-format {found}"
