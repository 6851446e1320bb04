"""The commands as functions: what the command line does, Python does with the same words."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Unpack

from pixano_cli.annotate.captions import Captioning, Captions
from pixano_cli.annotate.embedding import Embedding, Embeddings
from pixano_cli.annotate.identity import Request
from pixano_cli.annotate.job import Assignment, Command, execute
from pixano_cli.annotate.prompts import Prompt, dump_prompts, read_prompts
from pixano_cli.annotate.providers import gives
from pixano_cli.annotate.run import Progress
from pixano_cli.annotate.settings import LOCAL, Options, RunOptions, Settings
from pixano_cli.annotate.summary import Summary
from pixano_cli.annotate.task import Detection, Segmentation, score_floor
from pixano_cli.annotate.template import Template
from pixano_cli.annotate.view import Annotations, View
from pixano_cli.annotations import Category
from pixano_cli.errors import UsageError
from pixano_cli.formats import embedding_format_of
from pixano_cli.formats.boxes import read_box_categories, read_boxes
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
DEFAULT_PROMPT = "Describe this image in one or two sentences."


def detect(
    sources: str | Path | Sequence[str | Path],
    outputs: str | Path | Sequence[str | Path] = (),
    *,
    model: str | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    **options: Unpack[Options],
) -> Summary:
    """Find objects in images and write their boxes.

    Args:
        sources: Files, folders, globs, or `-` for a list on standard input; one or several.
        outputs: The files to write; their suffixes choose the formats.
        model: The detector; None for the provider's own, or the only one it has.
        progress: Told of every file.
        stop: Once set, the run ends as soon as what is in flight is recorded.
        **options: See `Settings`.

    Raises:
        PixanoAnnotateError: If the job cannot be begun or ended.
    """
    settings = Settings(**options)
    return execute(
        sources,
        outputs,
        settings,
        detection(settings, model),
        progress=progress,
        stop=stop,
    )


def segment(
    sources: str | Path | Sequence[str | Path],
    outputs: str | Path | Sequence[str | Path] = (),
    *,
    model: str | None = None,
    detector: str | None = None,
    prompts: str | Path | None = None,
    boxes: str | Path | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    **options: Unpack[Options],
) -> Summary:
    """Find or take objects in images and write their masks and boxes.

    Args:
        sources: Files, folders, globs, or `-` for a list on standard input; one or several.
        outputs: The files to write; their suffixes choose the formats.
        model: The segmenter; None as for `detect`.
        detector: The detector that finds what to segment, unless `prompts` or `boxes` says it;
            None as for `detect`.
        prompts: JSON file of boxes and points by file name.
        boxes: COCO or Parquet file of boxes.
        progress: Told of every file.
        stop: Once set, the run ends as soon as what is in flight is recorded.
        **options: See `Settings`.

    Raises:
        PixanoAnnotateError: If the job cannot be begun or ended.
    """
    settings = Settings(**options)
    return execute(
        sources,
        outputs,
        settings,
        segmentation(settings, model, detector, prompts, boxes),
        progress=progress,
        stop=stop,
    )


def embed(
    sources: str | Path | Sequence[str | Path],
    outputs: str | Path | Sequence[str | Path] = (),
    *,
    model: str | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    **options: Unpack[RunOptions],
) -> Summary:
    """Write a vector an image, by which like images are found.

    Args:
        sources: Files, folders, globs, or `-` for a list on standard input; one or several.
        outputs: The files to write, which are Parquet.
        model: The embedding model; None as for `detect`.
        progress: Told of every file.
        stop: Once set, the run ends as soon as what is in flight is recorded.
        **options: See `Settings`.

    Returns:
        The summary; its annotations are the vectors.

    Raises:
        PixanoAnnotateError: If the job cannot be begun or ended.
    """
    settings = Settings(**options)
    return execute(
        sources,
        outputs,
        settings,
        embedding(settings, model),
        progress=progress,
        stop=stop,
    )


def caption(
    sources: str | Path | Sequence[str | Path],
    outputs: str | Path | Sequence[str | Path] = (),
    *,
    model: str | None = None,
    prompt: str = DEFAULT_PROMPT,
    max_new_tokens: int = 100,
    temperature: float = 1.0,
    seed: int | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    **options: Unpack[RunOptions],
) -> Summary:
    """Write a text an image.

    Args:
        sources: Files, folders, globs, or `-` for a list on standard input; one or several.
        outputs: The files to write: COCO captions or Parquet.
        model: The model; None for the only one that the provider has.
        prompt: What to ask; see `template.Template`.
        max_new_tokens: Most tokens of an answer.
        temperature: Sampling temperature.
        seed: Number to draw by, for servers that take one.
        progress: Told of every file.
        stop: Once set, the run ends as soon as what is in flight is recorded.
        **options: See `Settings`.

    Returns:
        The summary; its annotations are the texts.

    Raises:
        PixanoAnnotateError: If the job cannot be begun or ended.
    """
    settings = Settings(**options)
    return execute(
        sources,
        outputs,
        settings,
        captioning(settings, model, prompt, max_new_tokens, temperature, seed),
        progress=progress,
        stop=stop,
    )


def detection(settings: Settings, model: str | None) -> Command:
    """Return the command `detect`."""

    async def assign(provider: InferenceProvider) -> Assignment:
        task, categories = await _detection(provider, settings, model)
        return Assignment(task, Annotations(task.view, categories))

    return Command(assign)


def captioning(
    settings: Settings,
    model: str | None,
    prompt: str = DEFAULT_PROMPT,
    max_new_tokens: int = 100,
    temperature: float = 1.0,
    seed: int | None = None,
) -> Command:
    """Return the command `caption`."""
    template = Template.parse(prompt)
    if max_new_tokens < 1:
        raise UsageError(f"--max-new-tokens {max_new_tokens}: at least 1 is wanted")
    if not 0 <= temperature < math.inf:
        raise UsageError(f"--temperature {temperature}: 0 or more is wanted")

    async def assign(provider: InferenceProvider) -> Assignment:
        chosen, described = await _describe(provider, model, InferenceTask.TEXT_GENERATION)
        request = Request(
            task=InferenceTask.TEXT_GENERATION.value,
            provider=provider.name,
            model=chosen,
            model_digest=described.digest,
            parameters={
                **described.parameters,
                "prompt": prompt,
                "max_new_tokens": max_new_tokens,
                "temperature": temperature,
                **({} if seed is None else {"seed": seed}),
            },
        )
        task = Captioning(provider, request, template, settings.timeout)
        return Assignment(task, Captions(request.key, template))

    return Command(assign)


def embedding(settings: Settings, model: str | None) -> Command:
    """Return the command `embed`."""
    for option in ("classes", "threshold", "categories"):
        if getattr(settings, option) is not None:
            raise UsageError(f"{option}: vectors have none: leave it out")

    async def assign(provider: InferenceProvider) -> Assignment:
        chosen, described = await _describe(provider, model, EmbeddingTask.IMAGE_EMBEDDING)
        request = Request(
            task=EmbeddingTask.IMAGE_EMBEDDING.value,
            provider=provider.name,
            model=chosen,
            model_digest=described.digest,
            parameters=described.parameters,
        )
        size = described.embedding_size
        task = Embedding(provider, request, size, settings.timeout)
        return Assignment(task, Embeddings(request.key, size))

    return Command(assign, embedding_format_of)


def segmentation(
    settings: Settings,
    model: str | None,
    detector: str | None,
    prompts: str | Path | None,
    boxes: str | Path | None,
) -> Command:
    """Return the command `segment`."""
    if prompts is not None and boxes is not None:
        raise UsageError("--prompts and --from: only one of them can say what to segment")

    async def assign(provider: InferenceProvider) -> Assignment:
        chosen, described = await _describe(provider, model, InferenceTask.MASK_GENERATION)
        request = Request(
            task=InferenceTask.MASK_GENERATION.value,
            provider=provider.name,
            model=chosen,
            model_digest=described.digest,
            parameters=described.parameters,
        )
        at_once = asyncio.Semaphore(settings.workers)
        if prompts is None and boxes is None:
            found, categories = await _detection(provider, settings, detector)
            view = replace(found.view, segmenter=request.key)
            task = Segmentation(provider, request, view, found, at_once, settings.timeout)
            return Assignment(task, Annotations(view, categories))
        if prompts is not None:
            given = read_prompts(Path(prompts))
            own = None
        else:
            assert boxes is not None
            given = _prompts_from(Path(boxes))
            own = read_box_categories(Path(boxes))
        categories, labels = _label_set(settings, own)
        if own is not None and settings.categories is None:
            _check_classes(sorted(labels or ()), own, str(boxes))
        view = View(None, request.key, settings.threshold, labels)
        task = Segmentation(provider, request, view, None, at_once, settings.timeout)
        texts = {name: dump_prompts(each) for name, each in given.items()}
        return Assignment(task, Annotations(view, categories), texts)

    return Command(assign)


async def _detection(
    provider: InferenceProvider, settings: Settings, model: str | None
) -> tuple[Detection, tuple[Category, ...] | None]:
    chosen, described = await _describe(provider, model, InferenceTask.OBJECT_DETECTION)
    own = described.categories
    asked = tuple(dict.fromkeys(name.strip() for name in settings.classes or ()))
    if own is not None:
        _check_classes(asked, own, chosen)
    if "boxes" in described.parameters and not asked:
        raise UsageError(
            f"--classes: model {chosen!r} has no classes of its own: say what to look for, as "
            "--classes cat,dog"
        )
    threshold = DEFAULT_THRESHOLD if settings.threshold is None else settings.threshold
    floor = score_floor(threshold)
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
    categories, labels = _label_set(settings, own)
    view = View(request.key, None, threshold, labels)
    vocabulary = None if own is None else frozenset(category.name for category in own)
    return Detection(provider, request, view, vocabulary, settings.timeout), categories


async def _describe(
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


def _label_set(
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


def _check_classes(asked: Sequence[str], known: Sequence[Category], whose: str) -> None:
    names = [category.name for category in known]
    for name in asked:
        if name not in names:
            close = get_close_matches(name, names, 1)
            few = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
            hint = f"did you mean {close[0]!r}?" if close else f"it has {few}"
            raise UsageError(f"--classes: {whose} has no {name!r}: {hint}")


def _prompts_from(path: Path) -> dict[str, tuple[Prompt, ...]]:
    found = {}
    for name, boxes in read_boxes(path).items():
        for each in boxes:
            if each.score is not None and not 0 <= each.score <= 1:
                raise UsageError(
                    f"{path}: a box of {name!r} has the score {each.score}: "
                    "scores from 0 to 1 are wanted"
                )
        found[name] = tuple(Prompt(each.label, each.score, each.box) for each in boxes)
    return found
