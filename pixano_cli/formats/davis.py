"""Index masks in the layout of DAVIS 2017 (https://davischallenge.org/davis2017/code.html).

    OUT/Annotations/<video>/<frame>.png   the number of a pixel's track in its video, 0 for none
    OUT/ImageSets/2017/val.txt            the videos, one a line
    OUT/tracks.json                       what the numbers mean: track ids, labels, scores

A PNG has a palette (mode P), the one that DAVIS and PASCAL VOC use, and is named by its frame's
index in the source, with five digits or more. Tracks are numbered by appearance, from 1 to 254:
DAVIS's readers take 255 for pixels that do not count. Where masks overlap, the object with the
better score is on top.

A frame without objects has a PNG of zeros. A frame with boxes only, whose masks nobody knows
(`--mask-every`), has none, which readers take as a frame that is not annotated; `tracks.json`
counts them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

from pixano_cli.annotations import AnnotatedImage, Category
from pixano_cli.errors import OutputError
from pixano_cli.formats import FOLDERS
from pixano_cli.formats.atomic import replacing_folder
from pixano_cli.formats.categories import category_row
from pixano_cli.formats.coco import json_lines
from pixano_cli.formats.mask_crop import decode_crop
from pixano_cli.formats.text import portable, shown
from pixano_cli.formats.tracks import Track, Tracks, by_video
from pixano_cli.media.discover_videos import VIDEO_SUFFIXES
from pixano_cli.rle import CompressedRLEData

MAX_TRACKS = 254

_DROPPED_SUFFIXES = VIDEO_SUFFIXES | {".gif", ".ts", ".webp"}


def write_davis(
    images: Iterable[AnnotatedImage],
    path: Path,
    categories: Sequence[Category],
    provenance: Mapping[str, Any],
) -> None:
    """Write frames as a folder in DAVIS's layout; equal input gives equal bytes.

    Memory grows with the number of videos and with the tracks of one video, not with its frames.

    Args:
        images: Numbered frames, those of a video together; read once.
        path: The folder, replaced as a whole when it is complete.
        categories: The whole label set.
        provenance: Becomes `info` of `tracks.json`; of values that JSON has.

    Raises:
        OutputError: If the folder cannot be written, or holds what was not written here; if an
            image is no frame of a video, or a video has too many tracks, or there are boxes and no
            mask at all. An earlier version of the folder is left as it was.
    """
    folders = _Folders()
    masks = boxes = 0
    with replacing_folder(path, FOLDERS["davis"]) as out:
        sets = out / "ImageSets" / "2017"
        sets.mkdir(parents=True)
        (out / "Annotations").mkdir()
        with (
            (out / "tracks.json").open("wb") as rows,
            (sets / "val.txt").open("w", encoding="utf-8", newline="\n") as names,
        ):
            rows.write(b'{"info": ' + orjson.dumps(dict(provenance)) + b',\n"categories": [')
            rows.write(json_lines(map(category_row, categories)) + b'],\n"videos": [')
            separator = b"\n"
            for video, frames in by_video(images, "DAVIS"):
                folder = folders.of(video)
                row = _write_video(frames, out / "Annotations" / folder)
                if row is None:
                    raise OutputError(
                        f"cannot write {shown(path)}: {video!r} has more than {MAX_TRACKS} tracks, "
                        "which is all that DAVIS can number: choose fewer with --classes or "
                        "--threshold, or name the output .json (COCO) or .parquet"
                    )
                masks += row["frames_with_objects"]
                boxes += row["frames_with_boxes_only"]
                rows.write(
                    separator + orjson.dumps({"name": portable(video), "folder": folder, **row})
                )
                names.write(f"{folder}\n")
                separator = b",\n"
            rows.write(b"\n]}\n")
        if boxes and not masks:
            raise OutputError(
                f"cannot write {shown(path)}: there are boxes and not one mask, and DAVIS holds "
                "masks only: name the output .json (COCO) or .parquet"
            )


def _write_video(frames: Iterator[AnnotatedImage], folder: Path) -> dict[str, Any] | None:
    """Write the frames of a video; return its row, or None if it has too many tracks."""
    tracks = Tracks(Track)
    row: dict[str, Any] = {}
    folder.mkdir(parents=True, exist_ok=True)
    written = with_objects = boxes_only = 0
    for at, frame in enumerate(frames):
        if not row:
            row = {"width": frame.width, "height": frame.height}
        found = [(track.number, each.mask) for track, each in tracks.add(frame.annotations)]
        if len(tracks.all) > MAX_TRACKS:
            return None
        masks = [(number, mask) for number, mask in found if mask is not None]
        if found and not masks:
            boxes_only += 1
            continue
        index = at if frame.frame_index is None else frame.frame_index
        _save(_painted(masks, frame.width, frame.height), folder / f"{index:05d}.png")
        written += 1
        with_objects += bool(masks)
    return row | {
        "frames": written,
        "frames_with_objects": with_objects,
        "frames_with_boxes_only": boxes_only,
        "tracks": [_track_row(track) for track in tracks.all],
    }


def _track_row(track: Track) -> dict[str, Any]:
    category_id, label = track.category
    row: dict[str, Any] = {"number": track.number}
    if track.track_id is not None:
        row["track_id"] = track.track_id
    row |= {"category_id": category_id, "label": portable(label)}
    if track.score is not None:
        row["score"] = track.score
    return row


def _painted(
    masks: Sequence[tuple[int, CompressedRLEData]], width: int, height: int
) -> NDArray[np.uint8]:
    """Paint numbered masks, given best first, onto an empty frame, the best last."""
    pixels = np.zeros((height, width), np.uint8)
    for number, mask in reversed(masks):
        crop = decode_crop(mask)
        pixels[crop.place][crop.inside] = number
    return pixels


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    picture = Image.fromarray(pixels)
    picture.putpalette(PALETTE)
    # Of zlib's ways the one for runs of equal pixels: the smallest files, and as quick as any.
    picture.save(path, "PNG", compress_level=1, compress_type=zlib.Z_RLE)


def _palette() -> bytes:
    """Return PASCAL VOC's colours, of which each takes its bits from its number's, in turn."""
    colours = np.zeros((256, 3), np.uint8)
    numbers = np.arange(256)
    for place in range(8):
        for channel in range(3):
            bit = numbers >> (3 * place + channel) & 1
            colours[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return colours.tobytes()


PALETTE = _palette()
"""256 colours of three bytes each, RGB."""


class _Folders:
    """Gives each video a folder of its own, named like it."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, video: str) -> str:
        """Return the folder of a video that has none yet, as a relative POSIX path.

        It is the video's name, without the suffix where no other has that; on a system that does
        not tell small letters from capitals too.
        """
        # Split here: as a path, `//` would be a root.
        parts = [each for each in portable(video).split("/") if each not in ("", ".")] or [""]
        name = PurePosixPath(*map(_safe, parts))
        choices = [str(name)]
        if name.suffix.lower() in _DROPPED_SUFFIXES:
            choices.insert(0, str(name.with_name(_safe(name.stem))))
        more = (f"{name}-{number}" for number in count(2))
        while (choice := choices.pop(0) if choices else next(more)).casefold() in self._taken:
            pass
        self._taken.add(choice.casefold())
        return choice


def _safe(part: str) -> str:
    """Return a part of a path that stays inside the folder and on its line."""
    text = "".join(each if each.isprintable() else "_" for each in part).strip()
    return text if text not in ("", ".", "..") else "_"
