"""The commands as functions: what the command line does, Python does with the same words."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from pixano_cli.annotate.captions import Captioning, Captions
from pixano_cli.annotate.choosing import check_classes, describe, detection_task, label_set
from pixano_cli.annotate.embedding import Embedding, Embeddings
from pixano_cli.annotate.everything import Wanted, everything_of
from pixano_cli.annotate.identity import Request
from pixano_cli.annotate.job import Assignment, Command, execute
from pixano_cli.annotate.prompts import Prompt, dump_prompts, read_prompts
from pixano_cli.annotate.run import Progress
from pixano_cli.annotate.settings import Options, RunOptions, Settings
from pixano_cli.annotate.summary import Summary
from pixano_cli.annotate.task import Segmentation
from pixano_cli.annotate.template import Template
from pixano_cli.annotate.view import Annotations, View
from pixano_cli.annotate.weights import with_weights
from pixano_cli.errors import UsageError
from pixano_cli.formats import embedding_format_of
from pixano_cli.formats.boxes import read_box_categories, read_boxes
from pixano_cli.inference.embedding import EmbeddingTask
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.types import InferenceTask

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
    everything: bool = False,
    points_per_side: int | None = None,
    min_stability: float | None = None,
    min_area: int | None = None,
    checkpoint: str | Path | None = None,
    model_config: str | Path | None = None,
    compiled: bool = False,
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
        everything: Write all masks of an image instead, with their predicted IoU as their score.
        points_per_side: With `everything`, how many points a side the model is asked about; 16.
        min_stability: With `everything`, lowest stability of a mask, in hundredths; 0.95.
        min_area: With `everything`, least pixels of a mask; 0.
        checkpoint: The segmenter's weights, in place of those that it has.
        model_config: The network that they are of; None for the segmenter's own.
        compiled: Whether the segmenter's image encoder is compiled; for a sam2 model.
        progress: Told of every file.
        stop: Once set, the run ends as soon as what is in flight is recorded.
        **options: See `Settings`.

    Raises:
        PixanoAnnotateError: If the job cannot be begun or ended.
    """
    wanted = Wanted.given(everything, points_per_side, min_stability, min_area)
    settings = with_weights(Settings(**options), model, checkpoint, model_config, compiled=compiled)
    return execute(
        sources,
        outputs,
        settings,
        segmentation(settings, model, detector, prompts, boxes, wanted),
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
        task, categories = await detection_task(provider, settings, model)
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
        chosen, described = await describe(provider, model, InferenceTask.TEXT_GENERATION)
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
        chosen, described = await describe(provider, model, EmbeddingTask.IMAGE_EMBEDDING)
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
    wanted: Wanted | None = None,
) -> Command:
    """Return the command `segment`, with what is wanted of all masks if it is `--everything`."""
    if wanted is not None:
        given = {"--detector": detector, "--prompts": prompts, "--from": boxes}
        if named := [option for option, value in given.items() if value is not None]:
            raise UsageError(
                f"{named[0]}: --everything segments all there is: leave one of them out"
            )
        return everything_of(settings, model, wanted)
    if prompts is not None and boxes is not None:
        raise UsageError("--prompts and --from: only one of them can say what to segment")

    async def assign(provider: InferenceProvider) -> Assignment:
        chosen, described = await describe(provider, model, InferenceTask.MASK_GENERATION)
        request = Request(
            task=InferenceTask.MASK_GENERATION.value,
            provider=provider.name,
            model=chosen,
            model_digest=described.digest,
            parameters=described.parameters,
        )
        at_once = asyncio.Semaphore(settings.workers)
        if prompts is None and boxes is None:
            found, categories = await detection_task(provider, settings, detector)
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
        categories, labels = label_set(settings, own)
        if own is not None and settings.categories is None:
            check_classes(sorted(labels or ()), own, str(boxes))
        view = View(None, request.key, settings.threshold, labels)
        task = Segmentation(provider, request, view, None, at_once, settings.timeout)
        texts = {name: dump_prompts(each) for name, each in given.items()}
        return Assignment(task, Annotations(view, categories), texts)

    return Command(assign)


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
