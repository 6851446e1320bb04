"""A long video in windows: a server puts all frames of a request on its GPU, so no more go at once.

Neighbouring windows share one frame. In it, an object of the earlier window is prompted for the
later one by its own mask, or by the box around the mask where a server takes no masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pixano_cli import rle
from pixano_cli.inference.errors import InvalidRequestError
from pixano_cli.inference.providers.outgoing import Outgoing
from pixano_cli.inference.providers.pixano_answers import Tracked
from pixano_cli.inference.providers.pixano_bodies import TrackPrompt, box_of, point_of
from pixano_cli.inference.types import VideoMaskGenerationInput

WINDOW = 64
"""Frames of a video that are sent at once."""

WINDOW_BYTES = 48 * 1024 * 1024
"""Bytes of a window after which no frame is added; a server takes 100 MB unless told otherwise."""


def check_request(request: VideoMaskGenerationInput) -> None:
    """Check what is asked about a video.

    Raises:
        InvalidRequestError: If there is nothing to follow, or prompts and objects do not fit
            together.
    """
    problem = _problem(request)
    if problem:
        raise InvalidRequestError(f"model {request.model!r} cannot be asked: {problem}")


def frames_of(start: int, count: int, window: int) -> range:
    """Return the frames of the window that begins at `start`, of a video of `count` frames."""
    return range(start, min(start + window, count))


def first_window(request: VideoMaskGenerationInput, start: int, window: int) -> int:
    """Return where the first window from `start` on begins in which anything is prompted.

    Windows are cut where they would be cut if every one of them were asked for.
    """
    later = [frame for frame in request.frame_indexes if frame >= start]
    count = len(request.video)
    while start + window < count and all(frame >= start + window - 1 for frame in later):
        start += window - 1
    return start


def given_prompts(
    request: VideoMaskGenerationInput, frames: range, pictures: Sequence[Outgoing]
) -> list[TrackPrompt]:
    """Return the prompts of a request that are for a window, with frames counted from its first.

    A prompt in the frame that two windows share is for the later one.

    Args:
        request: The request.
        frames: The frames of the window.
        pictures: What is sent of each.
    """
    is_last = frames.stop == len(request.video)
    own = frames if is_last else frames[:-1]
    prompts = []
    for place, (object_id, frame) in enumerate(
        zip(request.objects_ids, request.frame_indexes, strict=True)
    ):
        if frame not in own:
            continue
        picture = pictures[frame - frames.start]
        prompts.append(
            TrackPrompt(
                object_id,
                frame - frames.start,
                box_of(request.boxes[place], picture) if request.boxes else None,
                tuple(point_of(each, picture) for each in request.points[place])
                if request.points
                else (),
                tuple(request.labels[place]) if request.labels else (),
            )
        )
    return prompts


def carried_prompts(
    found: Iterable[Tracked], last: int, *, as_masks: bool
) -> tuple[list[TrackPrompt], list[int]]:
    """Return the prompts for a later window, of objects of the earlier one.

    Args:
        found: What was found in the earlier window.
        last: Its last frame, which is the first of the later one.
        as_masks: Whether the server takes masks.

    Returns:
        The prompts, and the objects that are lost: they are not in that frame.
    """
    prompts: dict[int, TrackPrompt] = {}
    lost: dict[int, None] = {}
    for each in found:
        lost.setdefault(each.object_id)
        if each.frame != last or not rle.area(each.mask):
            continue
        if as_masks:
            prompts[each.object_id] = TrackPrompt(each.object_id, 0, mask=each.mask)
        else:
            x1, y1, x2, y2 = map(int, rle.bounding_box(each.mask))
            prompts[each.object_id] = TrackPrompt(each.object_id, 0, (x1, y1, x2, y2))
    return list(prompts.values()), [each for each in lost if each not in prompts]


def joined(
    known: Mapping[tuple[int, int], Tracked], found: Iterable[Tracked], start: int
) -> dict[tuple[int, int], Tracked]:
    """Return what is known of (frame, object), with what a window that begins at `start` adds.

    In the frame that two windows share, what the earlier one said of an object stays.
    """
    together = dict(known)
    for each in found:
        whole = each._replace(frame=each.frame + start)
        together.setdefault((whole.frame, whole.object_id), whole)
    return together


def _problem(request: VideoMaskGenerationInput) -> str:
    objects = len(request.objects_ids)
    if not request.video:
        return "no frames"
    if not objects:
        return "no objects to follow"
    if len({*request.objects_ids}) != objects:
        return "two objects with one id"
    if len(request.frame_indexes) != objects:
        return f"{objects} objects and {len(request.frame_indexes)} frame indexes"
    for frame in request.frame_indexes:
        if not 0 <= frame < len(request.video):
            return f"frame {frame} of {len(request.video)}"
    for name in ("points", "labels", "boxes"):
        given = getattr(request, name)
        if given and len(given) != objects:
            return f"{objects} objects and {len(given)} {name}"
    if bool(request.points) != bool(request.labels):
        return "points without labels, or labels without points"
    if not request.points and not request.boxes:
        return "no points and no boxes"
    for points, labels in zip(request.points or (), request.labels or (), strict=True):
        if len(points) != len(labels) or not points:
            return "not one label a point"
    return ""
