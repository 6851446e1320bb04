"""Choosing models and label sets: what a command's options mean for one provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from pixano_cli.annotate.identity import Request
from pixano_cli.annotate.providers import gives
from pixano_cli.annotate.settings import LOCAL, Settings
from pixano_cli.annotate.task import Detection, score_floor
from pixano_cli.annotate.view import View
from pixano_cli.annotations import Category
from pixano_cli.errors import UsageError
from pixano_cli.formats.categories import read_categories
from pixano_cli.inference.embedding import AnyTask, EmbeddingTask
from pixano_cli.inference.errors import TaskNotSupportedError
from pixano_cli.inference.provider import InferenceProvider, ModelDescription
from pixano_cli.inference.types import InferenceTask

DEFAULT_MODELS: Mapping[AnyTask, str] = {
    InferenceTask.OBJECT_DETECTION: "picodet-s-416",
    InferenceTask.MASK_GENERATION: "mobile-sam",
    EmbeddingTask.IMAGE_EMBEDDING: "pplcnetv2",
}
"""The local models that are in the package."""

DEFAULT_THRESHOLD = 0.5


async def detection_task(
    provider: InferenceProvider,
    settings: Settings,
    model: str | None,
    floor: float | None = None,
) -> tuple[Detection, tuple[Category, ...] | None]:
    """Return what a detector is asked, and its label set; None for whatever occurs.

    Args:
        provider: Who is asked.
        settings: How.
        model: The detector; None for the provider's own, or the only one it has.
        floor: Lowest score to ask for; None for one that nearby thresholds share.

    Raises:
        UsageError: If a class is named that the detector does not have.
        TaskNotSupportedError: If the model, or the provider, does not detect.
    """
    chosen, described = await describe(provider, model, InferenceTask.OBJECT_DETECTION)
    own = described.categories
    asked = tuple(dict.fromkeys(name.strip() for name in settings.classes or ()))
    if own is not None:
        check_classes(asked, own, chosen)
    if "boxes" in described.parameters and not asked:
        raise UsageError(
            f"--classes: model {chosen!r} has no classes of its own: say what to look for, as "
            "--classes cat,dog"
        )
    threshold = DEFAULT_THRESHOLD if settings.threshold is None else settings.threshold
    floor = score_floor(threshold) if floor is None else min(floor, threshold)
    request = Request(
        task=InferenceTask.OBJECT_DETECTION.value,
        provider=provider.name,
        model=chosen,
        model_digest=described.digest,
        parameters={
            **described.parameters,
            "box_threshold": floor,
            "text_threshold": floor,
            # A model with a class set of its own answers all of it; which to write is chosen later.
            "classes": [] if own is not None else list(asked),
        },
    )
    categories, labels = label_set(settings, own)
    view = View(request.key, None, threshold, labels)
    vocabulary = None if own is None else frozenset(category.name for category in own)
    return Detection(provider, request, view, vocabulary, settings.timeout), categories


async def describe(
    provider: InferenceProvider, model: str | None, task: AnyTask
) -> tuple[str, ModelDescription]:
    """Return a model that does the task, the one that is named if one is, and what it is."""
    chosen = await _only_model(provider, task) if model is None else model
    described = await provider.describe_model(chosen, task)
    if described.task != task:
        place = "models" if provider.name == LOCAL else "providers"
        raise TaskNotSupportedError(
            f"model {chosen!r} gives {gives(described.task.value)}, not {gives(task.value)}: "
            f"`pixano-annotate {place} list` shows who does"
        )
    return chosen, described


async def _only_model(provider: InferenceProvider, task: AnyTask) -> str:
    if provider.name == LOCAL and task in DEFAULT_MODELS:
        return DEFAULT_MODELS[task]
    # Where a server does not tell what a model does, it may do anything.
    names = [
        listed.name for listed in await provider.list_models() if listed.task in ("", task.value)
    ]
    if not names:
        raise TaskNotSupportedError(
            f"provider {provider.name!r} has no model for {gives(task.value)}: name another "
            "with --provider, of those that `pixano-annotate providers list` shows"
        )
    if len(names) > 1:
        few = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise UsageError(f"--model: provider {provider.name!r} has several: name one of {few}")
    return names[0]


def label_set(
    settings: Settings, own: tuple[Category, ...] | None
) -> tuple[tuple[Category, ...] | None, frozenset[str] | None]:
    """Return the label set, None for whatever occurs, and the labels to show, None for all."""
    labels = frozenset(name.strip() for name in settings.classes) if settings.classes else None
    if settings.categories is None:
        return own, labels
    categories = read_categories(Path(settings.categories))
    names = frozenset(category.name for category in categories)
    if labels is None:
        return categories, names
    if missing := sorted(labels - names):
        raise UsageError(f"--classes: {missing[0]!r} is not in {settings.categories}")
    return categories, labels


def check_classes(asked: Sequence[str], known: Sequence[Category], whose: str) -> None:
    """Check that classes are of a label set.

    Raises:
        UsageError: If one is not.
    """
    names = [category.name for category in known]
    for name in asked:
        if name not in names:
            close = get_close_matches(name, names, 1)
            few = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
            hint = f"did you mean {close[0]!r}?" if close else f"it has {few}"
            raise UsageError(f"--classes: {whose} has no {name!r}: {hint}")
