"""A video to look at of each that was annotated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pixano_cli.annotate.videos.view import Tracks
from pixano_cli.annotations import AnnotatedImage
from pixano_cli.inference_store.database import Store
from pixano_cli.media.decode import RGBImage
from pixano_cli.media.flight import path_of
from pixano_cli.media.video import Frame

_USUAL_RATE = 30.0


def write_previews(folder: Path, tracks: Tracks, store: Store, run_id: str) -> list[Path]:
    """Draw what was found in a run's videos, and write each as an mp4.

    Args:
        folder: Where to; a video's file has the video's name, and `.preview.mp4`.
        tracks: What is shown.
        store: The record.
        run_id: The run.

    Returns:
        The files.

    Raises:
        OutputError: If one cannot be written.
        MediaError: If a video cannot be read any more.
    """
    from pixano_cli.formats.preview import write_preview
    from pixano_cli.media.videos import open_video

    written = []
    for item, frames in tracks.videos(store, run_id):
        path = folder / f"{item.file_name}.preview.mp4"
        with open_video(path_of(item.url)) as video:
            rate = video.facts.frame_rate or _USUAL_RATE
            write_preview(_with_pixels(video.frames(), frames), path, rate)
        written.append(path)
    return written


def _with_pixels(
    frames: Iterable[Frame], annotated: Iterator[AnnotatedImage]
) -> Iterator[tuple[RGBImage, AnnotatedImage]]:
    """Yield the frames that were looked at, with their pixels."""
    wanted = next(annotated, None)
    for frame in frames:
        if wanted is None:
            return
        if frame.index == wanted.frame_index:
            yield frame.image(), wanted
            wanted = next(annotated, None)
