"""The commands as functions: what the command line does, Python does with the same words."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Unpack

from pixano_cli.annotate.embedding import Embedding, Embeddings
from pixano_cli.annotate.identity import Request
from pixano_cli.annotate.job import Assignment, Command, execute
from pixano_cli.annotate.prompts import Prompt, read_prompts
from pixano_cli.annotate.run import Progress
from pixano_cli.annotate.settings import Options, RunOptions, Settings
from pixano_cli.annotate.summary import Summary
from pixano_cli.annotate.task import Detection, Segmentation, score_floor
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

DEFAULT_DETECTOR = "picodet-s-416"
DEFAULT_SEGMENTER = "mobile-sam"
DEFAULT_EMBEDDER = "pplcnetv2"
DEFAULT_THRESHOLD = 0.5


def detect(
    sources: Sequence[str | Path],
    outputs: Sequence[str | Path] = (),
    *,
    model: str = DEFAULT_DETECTOR,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    **options: Unpack[Options],
) -> Summary:
    """Find objects in images and write their boxes.

    Args:
        sources: Files, folders, globs, or `-` for a list on standard input.
        outputs: The files to write; their suffixes choose the formats.
        model: The detector.
        progress: Told of every file.
        stop: Once set, the run ends as soon as what is in flight is recorded.
        **options: See `Settings`.

    Raises:
        PixanoAnnotateError: If the job cannot be begun or ended.
    """
    settings = Settings(**options)
    return execute(
        [str(source) for source in sources],
        outputs,
        settings,
        detection(settings, model),
        progress=progress,
        stop=stop,
    )


def segment(
    sources: Sequence[str | Path],
    outputs: Sequence[str | Path] = (),
    *,
    model: str = DEFAULT_SEGMENTER,
    detector: str = DEFAULT_DETECTOR,
    prompts: str | Path | None = None,
    boxes: str | Path | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    **options: Unpack[Options],
) -> Summary:
    """Find or take objects in images and write their masks and boxes.

    Args:
        sources: Files, folders, globs, or `-` for a list on standard input.
        outputs: The files to write; their suffixes choose the formats.
        model: The segmenter.
        detector: The detector that finds what to segment, unless `prompts` or `boxes` says it.
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
        [str(source) for source in sources],
        outputs,
        settings,
        segmentation(settings, model, detector, prompts, boxes),
        progress=progress,
        stop=stop,
    )


def embed(
    sources: Sequence[str | Path],
    outputs: Sequence[str | Path] = (),
    *,
    model: str = DEFAULT_EMBEDDER,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    **options: Unpack[RunOptions],
) -> Summary:
    """Write a vector an image, by which like images are found.

    Args:
        sources: Files, folders, globs, or `-` for a list on standard input.
        outputs: The files to write, which are Parquet.
        model: The embedding model.
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
        [str(source) for source in sources],
        outputs,
        settings,
        embedding(settings, model),
        progress=progress,
        stop=stop,
    )


def detection(settings: Settings, model: str) -> Command:
    """Return the command `detect`."""

    async def assign(provider: InferenceProvider) -> Assignment:
        task, categories = await _detection(provider, settings, model)
        return Assignment(task, Annotations(task.view, categories))

    return Command(assign)


def embedding(settings: Settings, model: str) -> Command:
    """Return the command `embed`."""
    for option in ("classes", "threshold", "categories"):
        if getattr(settings, option) is not None:
            raise UsageError(f"{option}: vectors have none: leave it out")

    async def assign(provider: InferenceProvider) -> Assignment:
        described = await _describe(provider, model, EmbeddingTask.IMAGE_EMBEDDING)
        request = Request(
            task=EmbeddingTask.IMAGE_EMBEDDING.value,
            provider=provider.name,
            model=model,
            model_digest=described.digest,
            parameters={},
        )
        size = described.embedding_size
        return Assignment(Embedding(provider, request, size), Embeddings(request.key, size))

    return Command(assign, embedding_format_of)


def segmentation(
    settings: Settings,
    model: str,
    detector: str,
    prompts: str | Path | None,
    boxes: str | Path | None,
) -> Command:
    """Return the command `segment`."""
    if prompts is not None and boxes is not None:
        raise UsageError("--prompts and --from: only one of them can say what to segment")

    async def assign(provider: InferenceProvider) -> Assignment:
        described = await _describe(provider, model, InferenceTask.MASK_GENERATION)
        request = Request(
            task=InferenceTask.MASK_GENERATION.value,
            provider=provider.name,
            model=model,
            model_digest=described.digest,
            parameters={},
        )
        at_once = asyncio.Semaphore(settings.workers)
        if prompts is None and boxes is None:
            found, categories = await _detection(provider, settings, detector)
            view = replace(found.view, segmenter=request.key)
            task = Segmentation(provider, request, view, found, at_once)
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
        task = Segmentation(provider, request, view, None, at_once)
        return Assignment(task, Annotations(view, categories), given)

    return Command(assign)


async def _detection(
    provider: InferenceProvider, settings: Settings, model: str
) -> tuple[Detection, tuple[Category, ...] | None]:
    described = await _describe(provider, model, InferenceTask.OBJECT_DETECTION)
    own = described.categories
    asked = tuple(dict.fromkeys(name.strip() for name in settings.classes or ()))
    if own is not None:
        _check_classes(asked, own, model)
    threshold = DEFAULT_THRESHOLD if settings.threshold is None else settings.threshold
    floor = score_floor(threshold)
    request = Request(
        task=InferenceTask.OBJECT_DETECTION.value,
        provider=provider.name,
        model=model,
        model_digest=described.digest,
        parameters={
            "box_threshold": floor,
            "text_threshold": floor,
            # A model with a class set of its own answers all of it; which to write is chosen later.
            "classes": [] if own is not None else list(asked),
        },
    )
    categories, labels = _label_set(settings, own)
    view = View(request.key, None, threshold, labels)
    vocabulary = None if own is None else frozenset(category.name for category in own)
    return Detection(provider, request, view, vocabulary), categories


async def _describe(provider: InferenceProvider, model: str, task: AnyTask) -> ModelDescription:
    described = await provider.describe_model(model)
    if described.task != task:
        raise TaskNotSupportedError(
            f"model {model!r} does {described.task.value}, not {task.value}: "
            "`pixano-annotate models list` shows what there is"
        )
    return described


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
