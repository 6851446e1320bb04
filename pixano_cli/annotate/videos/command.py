"""The command `segment-video` as a function: what its options mean for one provider."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from pixano_cli.annotate.choosing import (
    DEFAULT_THRESHOLD,
    check_classes,
    describe,
    detection_task,
    label_set,
)
from pixano_cli.annotate.identity import Request
from pixano_cli.annotate.job import VIDEO, Assignment, Command, execute
from pixano_cli.annotate.run import Progress
from pixano_cli.annotate.settings import LOCAL, Options, Settings
from pixano_cli.annotate.summary import Summary
from pixano_cli.annotate.videos.at_hand import VideoAtHand
from pixano_cli.annotate.videos.finding import (
    VIDEO_FLOOR,
    DetectorFinder,
    FileFinder,
    Finder,
    Nothing,
)
from pixano_cli.annotate.videos.objects import dump_objects, read_detections, read_objects
from pixano_cli.annotate.videos.per_frame import PerFrame
from pixano_cli.annotate.videos.preview import write_previews
from pixano_cli.annotate.videos.run import run_videos
from pixano_cli.annotate.videos.sampling import Sampling
from pixano_cli.annotate.videos.streamed import Streamed
from pixano_cli.annotate.videos.task import VideoTask
from pixano_cli.annotate.videos.tracks import (
    SAME_THING_IOU,
    GivenTracks,
    Identities,
    Linker,
)
from pixano_cli.annotate.videos.view import Tracks
from pixano_cli.annotate.videos.windowed import Windowed
from pixano_cli.annotate.videos.windows import WINDOW
from pixano_cli.annotate.weights import with_weights
from pixano_cli.annotations import Category
from pixano_cli.errors import UsageError
from pixano_cli.formats import video_format_of
from pixano_cli.formats.boxes import read_box_categories
from pixano_cli.inference.errors import ModelNotFoundError, TaskNotSupportedError
from pixano_cli.inference.provider import InferenceProvider, ModelDescription
from pixano_cli.inference.types import InferenceTask
from pixano_cli.inference_store.database import Store
from pixano_cli.media.discover_videos import discover_videos

CHECKPOINT_EVERY = 30
DETECT_EVERY = 15
"""How often a detector looks for new objects, where a model of video follows those it found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoOptions:
    """The options that only videos have.

    Attributes:
        model: A segmenter of images, or a model that follows objects; None for the provider's own.
        detector: The detector that finds what to follow; None as for `detect`.
        prompts: JSON file of objects to follow, in place of what a detector finds.
        boxes: COCO or Parquet file of boxes, in place of what a detector finds.
        sampling: Which frames are looked at.
        detect_every: The detector looks at one frame in so many of these; None for all, or for one
            in 15 where a model follows the objects.
        mask_every: One frame in so many has masks; the others have boxes.
        checkpoint_every: After how many frames what was answered is committed, at the latest.
        preview: Folder for an mp4 of each video with what was found drawn.

    Raises:
        UsageError: If a value is out of range, or options exclude each other.
    """

    model: str | None = None
    detector: str | None = None
    prompts: str | Path | None = None
    boxes: str | Path | None = None
    sampling: Sampling = Sampling()  # noqa: RUF009 - frozen
    detect_every: int | None = None
    mask_every: int | None = None
    checkpoint_every: int = CHECKPOINT_EVERY
    preview: str | Path | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        for option in ("detect_every", "mask_every", "checkpoint_every"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise UsageError(f"--{option.replace('_', '-')} {value}: at least 1 is wanted")
        given = {
            "--prompts": self.prompts,
            "--from": self.boxes,
            "--detector": self.detector,
        }
        named = [option for option, value in given.items() if value is not None]
        if len(named) > 1 and named != ["--prompts", "--detector"]:
            raise UsageError(f"{' and '.join(named)}: only one of them can say what to follow")


def segment_video(
    sources: str | Path | Sequence[str | Path],
    outputs: str | Path | Sequence[str | Path] = (),
    *,
    model: str | None = None,
    detector: str | None = None,
    prompts: str | Path | None = None,
    boxes: str | Path | None = None,
    every: int = 1,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
    detect_every: int | None = None,
    mask_every: int | None = None,
    checkpoint_every: int = CHECKPOINT_EVERY,
    preview: str | Path | None = None,
    checkpoint: str | Path | None = None,
    model_config: str | Path | None = None,
    compiled: bool = False,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    **options: Unpack[Options],
) -> Summary:
    """Follow objects through videos and write a mask for each in each frame.

    Args:
        sources: Videos, folders of frames, folders of either, globs, or `-` for a list on standard
            input; one or several.
        outputs: The files to write; their suffixes choose the formats.
        model: A segmenter of images, or a model that follows objects; None for the provider's own.
        detector: The detector that finds what to follow; None as for `detect`.
        prompts: JSON file of objects to follow, in place of what a detector finds.
        boxes: COCO or Parquet file of boxes, in place of what a detector finds.
        every: Look at the frames whose index is a multiple of this.
        fps: Look at so many frames a second at most.
        start: Leave out what is before this time, in seconds.
        end: Leave out what is at or after this time, in seconds.
        detect_every: See `VideoOptions`.
        mask_every: See `VideoOptions`.
        checkpoint_every: See `VideoOptions`.
        preview: See `VideoOptions`.
        checkpoint: The model's weights, in place of those that it has.
        model_config: The network that they are of; None for the model's own.
        compiled: Whether the model's image encoder is compiled; for a sam2 model.
        progress: Told of every video.
        stop: Once set, the run ends as soon as what is in flight is recorded.
        **options: See `Settings`.

    Returns:
        The summary; its files are the videos.

    Raises:
        PixanoAnnotateError: If the job cannot be begun or ended.
    """
    settings = with_weights(Settings(**options), model, checkpoint, model_config, compiled=compiled)
    command = video_segmentation(
        settings,
        VideoOptions(
            model=model,
            detector=detector,
            prompts=prompts,
            boxes=boxes,
            sampling=Sampling(every, fps, start, end),
            detect_every=detect_every,
            mask_every=mask_every,
            checkpoint_every=checkpoint_every,
            preview=preview,
        ),
    )
    return execute(sources, outputs, settings, command, progress=progress, stop=stop)


def video_segmentation(settings: Settings, options: VideoOptions) -> Command:
    """Return the command `segment-video`."""

    async def assign(provider: InferenceProvider) -> Assignment:
        chosen, described = await _follower(provider, options.model)
        request = Request(
            task=str(described.task.value),
            provider=provider.name,
            model=chosen,
            model_digest=described.digest,
            parameters=described.parameters,
        )
        objects = await _objects(provider, settings, options, request)
        if described.task == InferenceTask.MASK_GENERATION:
            task: VideoTask = _per_frame(provider, settings, options, request, objects)
        else:
            if options.mask_every is not None:
                raise UsageError(f"--mask-every: {chosen} makes a mask in every frame")
            task = _following(provider, settings, options, described, request, objects)
        # A model that follows gives scores of its own, and whoever names objects none.
        is_scored = isinstance(task, PerFrame) and objects.prompts is None
        shown = objects.threshold if is_scored else None
        product = Tracks(task.plan, shown, objects.labels, objects.categories)
        return Assignment(task, product, objects.prompts)

    def preview(store: Store, run_id: str, tracks: Tracks) -> list[Path]:
        return write_previews(Path(options.preview or "."), tracks, store, run_id)

    return Command(
        assign,
        video_format_of,
        discover_videos,
        run_videos,
        VIDEO,
        beside=None if options.preview is None else preview,
    )


@dataclass(frozen=True, slots=True)
class _Objects:
    """What is followed: what a finder finds, or what prompts name, as text by file name."""

    finder: Finder
    threshold: float
    categories: tuple[Category, ...] | None
    labels: frozenset[str] | None
    prompts: dict[str, str] | None = None
    are_tracked: Any = None
    parameters: tuple[tuple[str, Any], ...] = ()


async def _follower(provider: InferenceProvider, model: str | None) -> tuple[str, ModelDescription]:
    """Return the model: one that follows objects, or else a segmenter of images."""
    video, image = InferenceTask.VIDEO_MASK_GENERATION, InferenceTask.MASK_GENERATION
    if model is None and provider.name == LOCAL:
        return await describe(provider, None, image)
    if model is None:
        try:
            return await describe(provider, None, video)
        except TaskNotSupportedError:
            return await describe(provider, None, image)
    try:
        described = await provider.describe_model(model, video)
    except ModelNotFoundError:
        raise
    except TaskNotSupportedError:
        return await describe(provider, model, image)
    if described.task == video:
        return model, described
    return await describe(provider, model, image)


async def _objects(
    provider: InferenceProvider, settings: Settings, options: VideoOptions, request: Request
) -> _Objects:
    threshold = settings.threshold
    if options.prompts is not None:
        given = read_objects(Path(options.prompts))
        categories, labels = label_set(settings, None)
        texts = {name: dump_objects(each) for name, each in given.items()}
        finder: Finder = Nothing()
        if request.task == InferenceTask.MASK_GENERATION.value:
            found, _ = await detection_task(provider, settings, options.detector, VIDEO_FLOOR)
            finder = DetectorFinder(
                provider, found.request, found.vocabulary, None, settings.timeout
            )
        return _Objects(finder, threshold or DEFAULT_THRESHOLD, categories, labels, texts)
    if options.boxes is not None:
        path = Path(options.boxes)
        own = read_box_categories(path)
        categories, labels = label_set(settings, own)
        if own is not None and settings.categories is None:
            check_classes(sorted(labels or ()), own, str(path))
        file = read_detections(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return _Objects(
            FileFinder(file, labels),
            threshold or 0.0,
            categories,
            labels,
            are_tracked=file.are_tracked,
            parameters=(("boxes", digest),),
        )
    found, categories = await detection_task(provider, settings, options.detector, VIDEO_FLOOR)
    labels = found.view.labels
    finder = DetectorFinder(provider, found.request, found.vocabulary, labels, settings.timeout)
    assert found.view.threshold is not None
    return _Objects(
        finder,
        found.view.threshold,
        categories,
        labels,
        parameters=(("same_thing_iou", SAME_THING_IOU),),
    )


def _per_frame(
    provider: InferenceProvider,
    settings: Settings,
    options: VideoOptions,
    request: Request,
    objects: _Objects,
) -> PerFrame:
    def linker(video: VideoAtHand, frame_rate: float) -> Identities:
        if objects.are_tracked and objects.are_tracked(video.item.file_name):
            return GivenTracks()
        return Linker(objects.threshold, frame_rate)

    return PerFrame(
        provider=provider,
        segmentation=request,
        finder=objects.finder,
        linker=linker,
        parameters={
            **dict(objects.parameters),
            "threshold": objects.threshold,
            "labels": None if objects.labels is None else sorted(objects.labels),
        },
        sampling=options.sampling,
        detect_every=_look_every(options, objects, 1),
        mask_every=options.mask_every or 1,
        checkpoint_every=options.checkpoint_every,
        at_once=settings.workers,
        timeout=settings.timeout,
    )


def _following(
    provider: InferenceProvider,
    settings: Settings,
    options: VideoOptions,
    described: ModelDescription,
    request: Request,
    objects: _Objects,
) -> Streamed | Windowed:
    common: dict[str, Any] = {
        "provider": provider,
        "tracking": request,
        "finder": objects.finder,
        "threshold": objects.threshold,
        "parameters": {
            **dict(objects.parameters),
            "labels": None if objects.labels is None else sorted(objects.labels),
        },
        "sampling": options.sampling,
        "detect_every": _look_every(options, objects, DETECT_EVERY),
        "checkpoint_every": options.checkpoint_every,
    }
    if described.streams:
        return Streamed(**common)
    if options.checkpoint_every < 2:
        raise UsageError(
            f"--checkpoint-every {options.checkpoint_every}: {described.name} takes clips of 2 "
            "frames or more"
        )
    window = min(WINDOW, options.checkpoint_every)
    return Windowed(**common, timeout=settings.timeout, window=window)


def _look_every(options: VideoOptions, objects: _Objects, by_default: int) -> int:
    """Return how often to look for objects; into a file every time, as it costs nothing."""
    if options.detect_every is not None:
        return options.detect_every
    return 1 if isinstance(objects.finder, FileFinder) else by_default
