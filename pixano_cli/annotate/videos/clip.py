"""A clip that a model takes at once: what is asked about it, and where the objects are.

The published request has one prompt an object, and prompts of one kind: all boxes, all points, or
all both. So what is asked about a clip may take several requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from pixano_cli import rle
from pixano_cli.annotate.identity import Request
from pixano_cli.annotate.videos.at_hand import FrameAtHand
from pixano_cli.inference.errors import InferenceError
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference.types import VideoMaskGenerationInput, VideoMaskGenerationOutput
from pixano_cli.models.tracking import ObjectPrompt
from pixano_cli.rle import CompressedRLEData

Box = tuple[float, float, float, float]


class Placed(NamedTuple):
    """A prompt, and the place of its frame in the clip, from 0."""

    place: int
    prompt: ObjectPrompt


class _Asked(NamedTuple):
    """What is asked about one object, in the form that the published request has for it."""

    place: int
    object_id: int
    box: Box | None
    points: Sequence[tuple[float, float]]
    labels: Sequence[int]


class Clip:
    """Frames one after the other, of which all pixels are in memory while it is asked about.

    Attributes:
        frames: The frames.
        masks: For each frame the masks of the objects that are to be seen there, by object.
    """

    def __init__(
        self,
        provider: InferenceProvider,
        tracking: Request,
        frames: Sequence[FrameAtHand],
        known: Mapping[int, CompressedRLEData],
        timeout: float,
    ) -> None:
        """Begin a clip.

        Args:
            provider: Who is asked.
            tracking: What is asked of the model.
            frames: The frames.
            known: What is known of the first frame: masks by object, none of them empty.
            timeout: Seconds for the answer to one request.
        """
        self.frames = frames
        self.masks: list[dict[int, CompressedRLEData]] = [{**known}, *({} for _ in frames[1:])]
        self._provider = provider
        self._tracking = tracking
        self._timeout = timeout

    async def follow(self, prompts: Iterable[Placed], known: Iterable[int] = ()) -> None:
        """Follow objects forward, each from where it is prompted; what was known of it goes.

        Args:
            prompts: Prompts, one an object.
            known: Objects to follow from what is known of them in the first frame, which stays.

        Raises:
            InferenceError: If the provider fails or answers nonsense.
        """
        asked = [
            _Asked(0, number, rle.bounding_box(self.masks[0][number]), (), ()) for number in known
        ]
        given: list[Placed] = []
        for place, prompt in prompts:
            form = self._form(place, prompt)
            if form is not None:
                asked.append(form)
            elif prompt.mask is None:
                continue
            self._forget(prompt.object_id, place)
            if prompt.mask is not None:
                given.append(Placed(place, prompt))
        kinds: dict[tuple[bool, bool], list[_Asked]] = {}
        for each in asked:
            kinds.setdefault((each.box is not None, bool(each.points)), []).append(each)
        for (has_box, has_points), group in kinds.items():
            await self._ask(group, has_box=has_box, has_points=has_points)
        for place, prompt in given:
            # Nobody knows better what it looks like there.
            if prompt.mask is not None and rle.area(prompt.mask):
                self.masks[place][prompt.object_id] = prompt.mask

    def _form(self, place: int, prompt: ObjectPrompt) -> _Asked | None:
        """Return what to ask for a prompt; None if it only says where the object is not."""
        box = prompt.box
        if prompt.mask is not None:
            if not rle.area(prompt.mask):
                return None
            box = rle.bounding_box(prompt.mask)
        elif box is None and 1 not in prompt.labels:
            # What is beside the object says nothing without it.
            seen = self.masks[place].get(prompt.object_id)
            if seen is None:
                return None
            box = rle.bounding_box(seen)
        return _Asked(place, prompt.object_id, box, prompt.points, prompt.labels)

    def _forget(self, number: int, place: int) -> None:
        for masks in self.masks[place:]:
            masks.pop(number, None)

    async def _ask(self, asked: Sequence[_Asked], *, has_box: bool, has_points: bool) -> None:
        first = min(each.place for each in asked)
        frames = self.frames[first:]
        with ExitStack() as until_answered:
            urls = [until_answered.enter_context(at.in_flight(await at.image())) for at in frames]
            result = await self._provider.video_mask_generation(
                VideoMaskGenerationInput(
                    video=urls,
                    model=self._tracking.model,
                    objects_ids=[each.object_id for each in asked],
                    frame_indexes=[each.place - first for each in asked],
                    boxes=[list(each.box) for each in asked if each.box] if has_box else None,
                    points=[[list(xy) for xy in each.points] for each in asked]
                    if has_points
                    else None,
                    labels=[list(each.labels) for each in asked] if has_points else None,
                ),
                timeout=self._timeout,
            )
        places = {each.object_id: each.place for each in asked}
        await asyncio.to_thread(self._take, result.data, first, places)

    def _take(
        self, output: VideoMaskGenerationOutput, first: int, places: Mapping[int, int]
    ) -> None:
        """Check an answer and take it over.

        Raises:
            InferenceError: If it is malformed.
        """
        numbers, frames, found = output.objects_ids, output.frame_indexes, output.masks
        if not len(numbers) == len(frames) == len(found):
            raise _malformed("objects, frames and masks differ")
        picture = self.frames[0].video.picture
        for number, frame, mask in zip(numbers, frames, found, strict=True):
            if number not in places:
                raise _malformed(f"object {number}, which was not asked for")
            if not 0 <= frame < len(self.frames) - first:
                raise _malformed(f"frame {frame} of {len(self.frames) - first}")
            try:
                rle.check(mask, (picture.height, picture.width))
            except ValueError as error:
                raise _malformed(str(error)) from error
            # What is known of the first frame stays.
            if first + frame >= places[number] and rle.area(mask):
                self.masks[first + frame].setdefault(number, mask)


def _malformed(what: str) -> InferenceError:
    return InferenceError(f"the model's answer is malformed: {what}")
