"""Following objects through a video, window by window; see `pixano_windows`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from pixano_cli.inference.errors import InferenceTimeoutError
from pixano_cli.inference.providers import pixano_answers, pixano_bodies
from pixano_cli.inference.providers.outgoing import Outgoing
from pixano_cli.inference.providers.pixano_answers import Envelope, Tracked, displayed
from pixano_cli.inference.providers.pixano_bodies import TrackPrompt
from pixano_cli.inference.providers.pixano_server import PixanoServer
from pixano_cli.inference.providers.pixano_windows import (
    WINDOW_BYTES,
    carried_prompts,
    check_request,
    first_window,
    frames_of,
    given_prompts,
    joined,
)
from pixano_cli.inference.types import InferenceTask, VideoMaskGenerationInput


@dataclass(slots=True)
class Followed:
    """Where the objects are.

    Attributes:
        found: Masks in pixels of the frames as displayed, by frames of the whole video.
        answers: What the server answered, in order, of which there is at least one.
        windows: How many windows were asked about.
        lost: By object the frame in which it could not be carried on into the next window.
    """

    found: list[Tracked] = field(default_factory=list)
    answers: list[Envelope] = field(default_factory=list)
    windows: int = 0
    lost: dict[int, int] = field(default_factory=dict)


async def follow(
    server: PixanoServer,
    request: VideoMaskGenerationInput,
    window: int,
    outgoing: Callable[[str], Awaitable[Outgoing]],
    timeout: float,
) -> Followed:
    """Follow the objects of a request.

    Args:
        server: Who is asked.
        request: The frames and the prompts.
        window: Most frames that are sent at once, from 2.
        outgoing: Makes a frame ready to be sent.
        timeout: Seconds for the whole video.

    Raises:
        InvalidRequestError: If prompts and objects do not fit together.
        InferenceTimeoutError: If the time is over.
        PixanoAnnotateError: Whatever `outgoing` raises, and asking does.
    """
    check_request(request)
    dialect = await server.dialect()
    model = await server.known(request.model)
    as_masks = dialect.generation.takes_keyframes and model.takes_masks
    end = asyncio.get_running_loop().time() + timeout
    followed = Followed()
    known: dict[tuple[int, int], Tracked] = {}
    carried: list[TrackPrompt] = []
    shared: dict[int, Outgoing] = {}
    start = 0
    while True:
        if not carried:
            start = first_window(request, start, window)
        frames, pictures = await _pictures(request.video, start, window, shared, outgoing)
        prompts = [*carried, *given_prompts(request, frames, pictures)]
        found: list[Tracked] = []
        # A window that was cut short for its bytes may have none.
        if prompts:
            bodies = pixano_bodies.tracking(dialect.generation, request.model, pictures, prompts)
            for body in bodies:
                left = end - asyncio.get_running_loop().time()
                if left <= 0:
                    raise InferenceTimeoutError(
                        f"{server.url} did not follow the objects through all frames in "
                        f"{timeout:g} s: allow more time"
                    )
                told = await server.ask(
                    InferenceTask.VIDEO_MASK_GENERATION, request.model, body, left
                )
                followed.answers.append(told.envelope)
                tracked = pixano_answers.tracking(told.envelope.data, pictures, told.fail)
                unknown = {each.object_id for each in tracked} - {*body["objects_ids"]}
                if unknown:
                    raise told.fail(f"object {min(unknown)}, which was not asked for")
                found += tracked
            followed.windows += 1
        carried, gone = carried_prompts(found, len(frames) - 1, as_masks=as_masks)
        known = joined(
            known,
            (each._replace(mask=displayed(each.mask, pictures[each.frame])) for each in found),
            start,
        )
        start = frames.stop - 1
        is_over = not carried and all(frame < start for frame in request.frame_indexes)
        if frames.stop < len(request.video):
            followed.lost |= dict.fromkeys(gone, start)
        if frames.stop == len(request.video) or is_over:
            followed.found = list(known.values())
            return followed
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
