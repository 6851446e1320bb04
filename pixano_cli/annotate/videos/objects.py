"""Objects to follow through videos, from a prompts file, and what a file found in their frames."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from pixano_cli import rle
from pixano_cli.annotate.prompts import (
    DEFAULT_LABEL,
    PromptError,
    geometry_from_dict,
    geometry_to_dict,
)
from pixano_cli.annotations import Box
from pixano_cli.errors import UsageError
from pixano_cli.formats.boxes import BoxedFrame, read_boxed_frames
from pixano_cli.formats.text import shown
from pixano_cli.models.tracking import ObjectPrompt
from pixano_cli.rle import CompressedRLEData

_KEYS = ("object_id", "label", "frame_index", "box", "points", "labels", "mask")
# What every output can hold as a track_id.
_MAX_ID = 2**63 - 1
_MAX_PIXELS = 2**29
# How the outputs name a frame of a video that is one file.
_NUMBERED = re.compile(r"frame_([0-9]{6,18})\.\w+")


@dataclass(frozen=True, slots=True)
class FramePrompt:
    """Where one object is in one frame; coordinates are displayed pixels.

    Attributes:
        label: Class name of the object, the same in all its frames.
        frame_index: The source's frame, from 0.
        prompt: The object's id, which becomes its track's, with its box, points or mask.
    """

    label: str
    frame_index: int
    prompt: ObjectPrompt

    @property
    def object_id(self) -> int:
        """Which object."""
        return self.prompt.object_id

    def to_dict(self) -> dict[str, Any]:
        """Convert to dictionary, as prompts files have it."""
        prompt = self.prompt
        box = None if prompt.box is None else Box(*prompt.box)
        data: dict[str, Any] = {
            "object_id": prompt.object_id,
            "label": self.label,
            "frame_index": self.frame_index,
        } | geometry_to_dict((box, prompt.points, prompt.labels))
        return data if prompt.mask is None else data | {"mask": prompt.mask.to_dict()}

    def fit(self, width: int, height: int) -> FramePrompt:
        """Return the prompt with its box clipped to frames of `width` x `height` pixels.

        Raises:
            PromptError: If nothing of the box, or a point, is inside the frame, or the mask is of
                another size.
        """
        prompt = self.prompt
        what = f"of object {prompt.object_id} in frame {self.frame_index}"
        if any(not (0 <= x <= width and 0 <= y <= height) for x, y in prompt.points):
            raise PromptError(f"a point {what} is outside the {width}x{height} frame")
        if prompt.mask is not None and [*prompt.mask.size] != [height, width]:
            of_height, of_width = prompt.mask.size
            raise PromptError(
                f"the mask {what} is {of_width}x{of_height}, the frame is {width}x{height}"
            )
        if prompt.box is None:
            return self
        box = Box(*prompt.box).clip(width, height)
        if box.is_empty:
            raise PromptError(f"the box {what} is outside the {width}x{height} frame")
        return replace(self, prompt=replace(prompt, box=box))


def read_objects(path: Path) -> dict[str, tuple[FramePrompt, ...]]:
    """Read a prompts file: JSON `{"clip.mp4": [{"object_id", "label"?, "frame_index", ...}]}`.

    Each entry has a `box` [xmin, ymin, xmax, ymax], or `points` [[x, y]] with `labels` (1 on the
    object, which is the default, or 0 beside it), or both, or a `mask` {"size": [height, width],
    "counts"}, COCO's RLE, compressed or not. An object has one entry or more: later frames correct
    it, and entries of one frame add to each other. Its label is that of the entries that name one.

    Returns:
        By video, one prompt an object and frame, by frame and then by object.

    Raises:
        UsageError: If it cannot be read or is no prompts file.
    """
    try:
        content = orjson.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        raise UsageError(
            f"prompts {shown(path)} cannot be read: {error.strerror or error}"
        ) from error
    except orjson.JSONDecodeError as error:
        raise UsageError(f"prompts {shown(path)} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"prompts {shown(path)} is not an object of lists by video")
    if isinstance(content.get("annotations"), list) and "images" in content:
        raise UsageError(f"prompts {shown(path)} is a COCO file: give it with --from")
    prompts = {}
    for name, given in content.items():
        try:
            prompts[name] = _objects(given)
        except ValueError as error:
            raise UsageError(f"prompts {shown(path)}, {name!r}: {error}") from error
    return prompts


def dump_objects(prompts: Sequence[FramePrompt]) -> str:
    """Write a video's prompts as JSON text; the same objects give the same text in any order."""
    return orjson.dumps([prompt.to_dict() for prompt in sorted(prompts, key=_place)]).decode()


def load_objects(text: str) -> tuple[FramePrompt, ...]:
    """Read what `dump_objects` wrote."""
    return _objects(orjson.loads(text))


def _place(prompt: FramePrompt) -> tuple[int, int]:
    return prompt.frame_index, prompt.object_id


def _objects(given: Any) -> tuple[FramePrompt, ...]:
    """Read the entries of one video.

    Raises:
        ValueError: If they are none; the text says what is wrong with them.
    """
    if not isinstance(given, list):
        raise ValueError("a list of prompts is wanted")
    labels: dict[int, str] = {}
    prompts: dict[tuple[int, int], ObjectPrompt] = {}
    for entry in given:
        label, frame_index, prompt = _entry(entry)
        number = prompt.object_id
        if label is not None and labels.setdefault(number, label) != label:
            raise ValueError(
                f"object {number} has two labels, {labels[number]!r:.60} and {label!r:.60}"
            )
        place = (frame_index, number)
        known = prompts.get(place)
        prompts[place] = prompt if known is None else _together(known, prompt, frame_index)
    begun: set[int] = set()
    for (frame_index, number), prompt in sorted(prompts.items()):
        if number not in begun and not _can_begin(prompt):
            raise ValueError(
                f"object {number} begins in frame {frame_index}: a box, a mask with a pixel inside "
                "or a point on the object is wanted there"
            )
        begun.add(number)
    return tuple(
        FramePrompt(labels.get(number, DEFAULT_LABEL), frame_index, prompts[frame_index, number])
        for frame_index, number in sorted(prompts)
    )


def _entry(data: Any) -> tuple[str | None, int, ObjectPrompt]:
    if not isinstance(data, dict):
        raise ValueError("a prompt is an object with object_id, frame_index and where it is")
    if unknown := sorted(set(data) - set(_KEYS)):
        raise ValueError(f"unknown key {unknown[0]!r:.60}: {', '.join(_KEYS)} are known")
    for key in ("object_id", "frame_index"):
        if type(data.get(key)) is not int or not 0 <= data[key] <= _MAX_ID:
            raise ValueError(f"{key} is a whole number from 0, not {data.get(key)!r:.60}")
    object_id, frame_index = data["object_id"], data["frame_index"]
    where = f"object {object_id} in frame {frame_index}"
    label = data.get("label")
    if label is not None and (not isinstance(label, str) or not label):
        raise ValueError(f"{where}: label is a text")
    try:
        box, points, labels = geometry_from_dict(data)
        mask = None if data.get("mask") is None else _mask(data["mask"])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if mask is not None and (box is not None or points):
        raise ValueError(f"{where}: a mask stands alone, without box and points")
    if mask is None and box is None and not points:
        raise ValueError(f"{where}: a box, points or a mask is wanted")
    return label, frame_index, ObjectPrompt(object_id, box, points, labels, mask)


def _together(first: ObjectPrompt, second: ObjectPrompt, frame_index: int) -> ObjectPrompt:
    """Join two entries of one object in one frame."""
    where = f"object {first.object_id} in frame {frame_index}"
    if first.mask is not None or second.mask is not None:
        raise ValueError(f"{where}: a mask stands alone, without another entry")
    if first.box is not None and second.box is not None:
        raise ValueError(f"{where}: it has two boxes")
    return replace(
        first,
        box=second.box if first.box is None else first.box,
        points=first.points + second.points,
        labels=first.labels + second.labels,
    )


def _can_begin(prompt: ObjectPrompt) -> bool:
    if prompt.mask is not None:
        return rle.area(prompt.mask) > 0
    return prompt.box is not None or 1 in prompt.labels


def _mask(given: Any) -> CompressedRLEData:
    if not isinstance(given, dict) or given.keys() != {"size", "counts"}:
        raise ValueError('mask is {"size": [height, width], "counts": ...}')
    size, counts = given["size"], given["counts"]
    if isinstance(counts, str):
        try:
            mask = CompressedRLEData(size, counts.encode("ascii"))
        except UnicodeEncodeError as error:
            raise ValueError(
                "the mask's counts hold a character outside COCO's compressed form"
            ) from error
    elif isinstance(counts, list):
        mask = _compressed(size, counts)
    else:
        raise ValueError("the mask's counts are neither a text nor a list of runs")
    rle.check(mask)
    return mask


def _compressed(size: Any, counts: list[Any]) -> CompressedRLEData:
    """Read COCO's uncompressed form: the lengths of the runs, the first one of zeros."""
    from pycocotools import mask as coco_mask

    if not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("the mask's counts are not lengths of runs")
    covered = sum(counts)
    # What is wrong with the size itself is said where all masks are checked.
    if covered >= _MAX_PIXELS or not (
        isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)
    ):
        return CompressedRLEData(size, b"")
    if size[0] * size[1] != covered or min(size) < 1:
        raise ValueError(f"the mask's counts cover {covered} pixels, not those of its size {size}")
    drawn = coco_mask.frPyObjects({"size": size, "counts": counts}, *size)
    return CompressedRLEData(size, drawn["counts"])


@dataclass(frozen=True, slots=True)
class Detected:
    """One object that was found in one frame.

    Attributes:
        label: Class name.
        score: Confidence in [0, 1]; None if whoever found it does not say.
        box: Box in displayed pixels, not empty.
        track_id: Identity of the object through the video, if whoever found it says so.
    """

    label: str
    score: float | None
    box: Box
    track_id: int | None = None


class FileDetections:
    """What a file found in the frames of videos; boxes as it has them, not clipped.

    Attributes:
        videos: Names of the videos that the file has frames of.
    """

    def __init__(self, frames: Mapping[str, _VideoFrames]) -> None:
        """Take the frames of each video."""
        self._frames = frames
        self.videos = frozenset(frames)

    def at(
        self, video: str, frame_index: int, file_name: str | None = None
    ) -> tuple[Detected, ...]:
        """Return what was found in a frame, in the order of the file; nothing if it has it not.

        Args:
            video: The video's name.
            frame_index: The frame's index in the source, from 0.
            file_name: For a frame of a folder its own file's name, relative to the video. It
                counts for more than an index, and a number in it is not taken for one.
        """
        frames = self._frames.get(video)
        if frames is None:
            return ()
        if file_name is not None and file_name in frames.by_name:
            return tuple(frames.by_name[file_name])
        if frame_index in frames.by_index:
            return tuple(frames.by_index[frame_index])
        return () if file_name is not None else tuple(frames.by_number.get(frame_index, ()))

    def are_tracked(self, video: str) -> bool:
        """Whether something was found in the video, and all of it says whose track it is of."""
        frames = self._frames.get(video, _VideoFrames())
        found = [each for frame in frames.by_name.values() for each in frame]
        return bool(found) and all(each.track_id is not None for each in found)


@dataclass(frozen=True, slots=True)
class _VideoFrames:
    """A video's frames: by the names of their files, by what the file says, by those names."""

    by_name: dict[str, list[Detected]] = field(default_factory=dict)
    by_index: dict[int, list[Detected]] = field(default_factory=dict)
    by_number: dict[int, list[Detected]] = field(default_factory=dict)


def read_detections(path: Path) -> FileDetections:
    """Read what was found in the frames of videos, from a COCO file or a Parquet file of ours.

    A frame's video and index are those that the file names (COCO's `videos`, `video_id` and
    `frame_index`; the Parquet file's columns `video` and `frame_index`). Where it does not, its
    `file_name` does: "clip.mp4/frame_000012.png" is frame 12 of clip.mp4, "seq/0001.jpg" is that
    file of the folder seq. All is held in memory, without masks.

    Raises:
        UsageError: If the file cannot be read, is neither format, or is wrong: a score outside
            [0, 1], or one track twice in a frame.
    """
    videos: dict[str, _VideoFrames] = {}
    for image in read_boxed_frames(path):
        video, _, name = image.file_name.rpartition("/")
        if image.video is not None:
            video, name = image.video, image.file_name.removeprefix(f"{image.video}/")
        if not video:
            continue
        found = _detected(image, path)
        frames = videos.setdefault(video, _VideoFrames())
        frames.by_name.setdefault(name, []).extend(found)
        if image.frame_index is not None:
            frames.by_index.setdefault(image.frame_index, []).extend(found)
        elif (numbered := _NUMBERED.fullmatch(name)) is not None:
            frames.by_number.setdefault(int(numbered[1]), []).extend(found)
    for video, frames in videos.items():
        for place, found in (*frames.by_index.items(), *frames.by_name.items()):
            _check_tracks(found, f"{shown(path)}: frame {place!r} of {video!r}")
    return FileDetections(videos)


def _detected(image: BoxedFrame, path: Path) -> list[Detected]:
    for each in image.boxes:
        if each.score is not None and not 0 <= each.score <= 1:
            raise UsageError(
                f"{shown(path)}: a box of {image.file_name!r} has the score {each.score}: "
                "scores from 0 to 1 are wanted"
            )
    return [
        Detected(each.label, each.score, each.box, track_id)
        for each, track_id in zip(image.boxes, image.track_ids, strict=True)
    ]


def _check_tracks(found: Sequence[Detected], where: str) -> None:
    tracks: set[int] = set()
    for each in found:
        if each.track_id in tracks:
            raise UsageError(f"{where} has two boxes of the track {each.track_id}")
        if each.track_id is not None:
            tracks.add(each.track_id)
