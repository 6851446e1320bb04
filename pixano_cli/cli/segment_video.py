"""`pixano-annotate segment-video`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixano_cli.cli import options
from pixano_cli.cli.run_options import Run, running_but

_FRAMES = "Which frames"
_FOLLOW = "What to follow"


@running_but("box_format", "max_cost", "prices", "batch_size")
def segment_video(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Video, folder of frames, folder of either, glob, or - for a list of paths on "
            "standard input.",
            show_default=False,
        ),
    ],
    output: Annotated[
        list[Path],
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write: .json is COCO, .parquet is Parquet; with --format davis a folder. "
            "Repeat for more.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="A segmenter of images, or a model that follows objects, as sam2.1-tiny.",
            show_default="mobile-sam; a server's only one",
        ),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector",
            metavar="NAME",
            help="The model that finds what to follow.",
            show_default="picodet-s-416; a server's only one",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help='Follow what this file says instead: JSON {"clip.mp4": [{"object_id", "label"?, '
            '"frame_index", "box"? | "points"?+"labels"? | "mask"?}]}.',
            show_default=False,
            rich_help_panel=_FOLLOW,
        ),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Follow the boxes of this COCO or Parquet file instead.",
            show_default=False,
            rich_help_panel=_FOLLOW,
        ),
    ] = None,
    detect_every: Annotated[
        int | None,
        typer.Option(
            "--detect-every",
            metavar="N",
            help="Look for objects in one frame of N. Between two, boxes are interpolated, unless "
            "the model follows the objects.",
            show_default="1; 15 with a model that follows",
            rich_help_panel=_FOLLOW,
        ),
    ] = None,
    mask_every: Annotated[
        int | None,
        typer.Option(
            "--mask-every",
            metavar="N",
            help="Make masks in one frame of N; the others have boxes. For a segmenter of images.",
            show_default="1",
            rich_help_panel=_FOLLOW,
        ),
    ] = None,
    every: Annotated[
        int,
        typer.Option(
            "--every",
            metavar="N",
            help="Look at one frame of N.",
            rich_help_panel=_FRAMES,
        ),
    ] = 1,
    fps: Annotated[
        float | None,
        typer.Option(
            "--fps",
            metavar="F",
            help="Look at F frames a second at most.",
            show_default="all",
            rich_help_panel=_FRAMES,
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--start",
            metavar="TIME",
            help='Leave out what is before: seconds, or "1:02:03.5".',
            show_default="the beginning",
            rich_help_panel=_FRAMES,
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(
            "--end",
            metavar="TIME",
            help="Leave out what is at this time or after.",
            show_default="the end",
            rich_help_panel=_FRAMES,
        ),
    ] = None,
    checkpoint_every: Annotated[
        int,
        typer.Option(
            "--checkpoint-every",
            metavar="N",
            help="Commit after N frames at the latest: a run that is killed repeats no more.",
        ),
    ] = 30,
    checkpoint: options.Checkpoint = None,
    model_config: options.ModelConfig = None,
    compiled: options.Compile = False,
    format: Annotated[  # noqa: A002 - the option's name
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="coco, parquet, youtube-vis or davis, whatever the suffix.",
            show_default="by suffix",
        ),
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(
            "--preview",
            metavar="FOLDER",
            help="Write an mp4 of each video with its masks, boxes and labels drawn.",
            show_default=False,
        ),
    ] = None,
    classes: options.Classes = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="SCORE",
            help="Score from which on a detection becomes an object, 0 to 1.",
            show_default="0.5; 0 with --from",
            rich_help_panel=_FOLLOW,
        ),
    ] = None,
    categories: options.Categories = None,
    *,
    run: Run,
) -> int:
    """Follow objects through videos and write a mask for each in each frame."""
    from pixano_cli.annotate.settings import Settings
    from pixano_cli.annotate.videos.command import VideoOptions, video_segmentation
    from pixano_cli.annotate.videos.sampling import Sampling, parse_time
    from pixano_cli.annotate.weights import with_weights

    settings = Settings(
        classes=options.split_classes(classes),
        threshold=threshold,
        categories=categories,
        format=format,
        **run.settings,
    )
    settings = with_weights(settings, model, checkpoint, model_config, compiled=compiled)
    chosen = VideoOptions(
        model=model,
        detector=detector,
        prompts=prompts,
        boxes=boxes,
        sampling=Sampling(
            every,
            fps,
            None if start is None else parse_time(start, "--start"),
            None if end is None else parse_time(end, "--end"),
        ),
        detect_every=detect_every,
        mask_every=mask_every,
        checkpoint_every=checkpoint_every,
        preview=preview,
    )
    return run.job(sources, output, settings, video_segmentation(settings, chosen))
