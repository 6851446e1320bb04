"""Following objects through a video, window by window; see `pixano_windows`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from pixano_cli.inference.providers.outgoing import Outgoing
from pixano_cli.inference.providers.pixano_answers import Tracked, displayed
from pixano_cli.inference.providers.pixano_bodies import TrackPrompt
from pixano_cli.inference.providers.pixano_windows import (
    WINDOW_BYTES,
    carried_prompts,
    check_request,
    first_window,
    frames_of,
    given_prompts,
    joined,
)
from pixano_cli.inference.types import VideoMaskGenerationInput

Ask = Callable[[Sequence[Outgoing], Sequence[TrackPrompt]], Awaitable[list[Tracked]]]
"""Asks about the frames of one window."""


class Followed(NamedTuple):
    """Where the objects are.

    Attributes:
        found: Masks in pixels of the frames as displayed, by frames of the whole video.
        windows: How many windows were asked about.
        lost: By object the frame in which it could not be carried on into the next window.
    """

    found: list[Tracked]
    windows: int
    lost: dict[int, int]


async def follow(
    request: VideoMaskGenerationInput,
    window: int,
    outgoing: Callable[[str], Awaitable[Outgoing]],
    ask: Ask,
    *,
    as_masks: bool,
) -> Followed:
    """Follow the objects of a request.

    Args:
        request: The frames and the prompts.
        window: Most frames that are sent at once, from 2.
        outgoing: Makes a frame ready to be sent.
        ask: Asks about a window.
        as_masks: Whether the server takes masks as prompts.

    Raises:
        InvalidRequestError: If prompts and objects do not fit together.
        PixanoAnnotateError: Whatever `outgoing` and `ask` raise.
    """
    check_request(request)
    count = len(request.video)
    known: dict[tuple[int, int], Tracked] = {}
    lost: dict[int, int] = {}
    carried: list[TrackPrompt] = []
    shared: dict[int, Outgoing] = {}
    windows = start = 0
    while True:
        if not carried:
            start = first_window(request, start, window)
        frames, pictures = await _pictures(request.video, start, window, shared, outgoing)
        prompts = [*carried, *given_prompts(request, frames, pictures)]
        found: list[Tracked] = []
        if prompts:
            found = await ask(pictures, prompts)
            windows += 1
        last = len(frames) - 1
        carried, gone = carried_prompts(found, last, as_masks=as_masks)
        known = joined(
            known,
            (each._replace(mask=displayed(each.mask, pictures[each.frame])) for each in found),
            start,
        )
        if frames.stop >= count:
            return Followed(list(known.values()), windows, lost)
        start = frames.stop - 1
        lost |= dict.fromkeys(gone, start)
        if not carried and all(frame < start for frame in request.frame_indexes):
            return Followed(list(known.values()), windows, lost)
        shared = {start: pictures[-1]}


async def _pictures(
    video: Sequence[str],
    start: int,
    window: int,
    shared: dict[int, Outgoing],
    outgoing: Callable[[str], Awaitable[Outgoing]],
) -> tuple[range, list[Outgoing]]:
    """Return the frames of a window and what is sent of them: as many as are not too much."""
    pictures: list[Outgoing] = []
    size = 0
    frames = frames_of(start, len(video), window)
    for frame in frames:
        picture = shared.get(frame) or await outgoing(video[frame])
        size += len(picture.url)
        if size > WINDOW_BYTES and len(pictures) >= 2:
            break
        pictures.append(picture)
    return range(start, start + len(pictures)), pictures
