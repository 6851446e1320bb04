"""Objects followed by a model of video that takes one frame after the other.

What is followed is named by a file, or found by a detector, which goes on looking for new objects
every so many frames.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import orjson

from pixano_cli import rle
from pixano_cli.annotate.videos.at_hand import (
    FrameAtHand,
    VideoAtHand,
    chosen_frames,
    skipping,
)
from pixano_cli.annotate.videos.finding import FindInFrame
from pixano_cli.annotate.videos.following import Following, Object, Objects, not_looked_at
from pixano_cli.annotate.videos.objects import Detected, FramePrompt, load_objects
from pixano_cli.annotate.videos.records import frame_record
from pixano_cli.annotate.videos.sampling import Sampling
from pixano_cli.annotate.videos.task import Followed, Work
from pixano_cli.errors import ModelError
from pixano_cli.inference.video import VideoSession
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.frames import Checkpoint
from pixano_cli.inference_store.records import Record
from pixano_cli.models.tracking import ObjectMask, ObjectPrompt

# sam2 reads fewer pointers of a video that has fewer frames than it reads, which are 16.
_FEW = 64
# An object that was found, and is not to be seen in so many looks of the detector, is let go.
_LOOKS_UNSEEN = 3


class Streamed(Following):
    """Masks by a model that follows objects; see `VideoTask`."""

    __slots__ = ()

    async def follow(
        self, video: VideoAtHand, work: Work, store: Store, checkpoint: Checkpoint | None
    ) -> AsyncGenerator[Followed, None]:
        """Yield the frames in order, from where the checkpoint is; see `VideoTask`."""
        objects, state = _unpacked(checkpoint.state if checkpoint else None)
        picture = video.picture
        session = await self.provider.open_video(
            self.tracking.model,
            picture.width,
            picture.height,
            state,
            length=await _short_length(video, self.sampling),
        )
        assert session is not None
        try:
            following = _Following(self, work, video, store, session, objects)
            if video.item.prompts is not None:
                await following.take_prompts(
                    load_objects(video.item.prompts), is_begun=state is not None
                )
            frames = chosen_frames(video, self.sampling)
            if checkpoint is not None:
                frames = skipping(frames, checkpoint.next_frame)
            async with aclosing(frames):
                async for at in frames:
                    yield await following.take(at)
        finally:
            await session.aclose()


async def _short_length(video: VideoAtHand, sampling: Sampling) -> int | None:
    """Return how many frames are looked at, if they are few: a model may want to know."""
    count = 0
    async with aclosing(chosen_frames(video, sampling)) as frames:
        async for _ in frames:
            count += 1
            if count > _FEW:
                return None
    return count


class _Following:
    """The frames of one video, one after the other."""

    def __init__(
        self,
        task: Streamed,
        work: Work,
        video: VideoAtHand,
        store: Store,
        session: VideoSession,
        objects: Objects,
    ) -> None:
        self._task = task
        self._work = work
        self._video = video
        self._session = session
        self._objects = objects
        self._find: FindInFrame = task.finder.in_video(video, store)
        self._first_prompted: int | None = None

    async def take_prompts(self, prompts: Sequence[FramePrompt], *, is_begun: bool) -> None:
        """Condition on all frames in which objects are named, also those ahead.

        Raises:
            PromptError: If a prompt does not fit the frames.
            InvalidRequestError: If one is of a frame that is not looked at.
        """
        picture = self._video.picture
        by_frame: dict[int, list[ObjectPrompt]] = {}
        for each in prompts:
            fitted = each.fit(picture.width, picture.height)
            by_frame.setdefault(each.frame_index, []).append(fitted.prompt)
            self._objects.by_id.setdefault(each.object_id, Object(each.label))
        self._first_prompted = min(by_frame, default=None)
        if is_begun or not by_frame:
            return
        last = max(by_frame)
        async with aclosing(chosen_frames(self._video, self._task.sampling)) as frames:
            async for at in frames:
                if at.index > last:
                    break
                given = by_frame.pop(at.index, None)
                if given:
                    await self._session.condition(at.ordinal, await at.image(), given)
        if by_frame:
            frame = min(by_frame)
            raise not_looked_at(by_frame[frame][0].object_id, frame)

    async def take(self, at: FrameAtHand) -> Followed:
        """Follow the objects to a frame, and look for new ones in it."""
        masks: Mapping[int, ObjectMask] = {}
        records: list[Record] = []
        is_named = self._video.item.prompts is not None
        has_begun = self._first_prompted is not None and at.index >= self._first_prompted
        if self._objects.by_id and (has_begun or not is_named):
            masks = await self._session.step(at.ordinal, await at.image())
        if not is_named and at.ordinal % self._task.detect_every == 0:
            found = await self._find(at)
            records += found.records
            masks = {**masks, **await self._begin(at, found.detections, masks)}
        elements = list(self._elements(masks))
        key = self._work.request_keys[-1]
        records.append(frame_record(at, self._task.tracking, key, elements))
        if not is_named:
            await self._let_go(masks)
        at.let_go()
        return Followed(at, tuple(records), state=self._state)

    async def _begin(
        self, at: FrameAtHand, found: Iterable[Detected], masks: Mapping[int, ObjectMask]
    ) -> Mapping[int, ObjectMask]:
        """Begin to follow what is new among the detections."""
        seen = {each: mask.mask for each, mask in masks.items()}
        prompts = self._objects.begin(self._task.likely(found), seen, self._video.picture)
        if not prompts:
            return {}
        return await self._session.condition(at.ordinal, await at.image(), prompts)

    def _elements(self, masks: Mapping[int, ObjectMask]) -> Iterable[dict[str, Any]]:
        for number in sorted(masks):
            seen, known = masks[number], self._objects.by_id[number]
            if not rle.area(seen.mask):
                known.unseen += 1
                continue
            known.unseen = 0
            yield {
                "label": known.label,
                "score": known.score if seen.score is None else seen.score,
                "track_id": number,
                "rle": seen.mask.to_dict(),
            }

    async def _let_go(self, masks: Mapping[int, ObjectMask]) -> None:
        """Follow no more what has not been seen for long: each object costs time."""
        limit = _LOOKS_UNSEEN * self._task.detect_every
        gone = [each for each in masks if self._objects.by_id[each].unseen >= limit]
        if gone:
            await self._session.forget(gone)
            for each in gone:
                del self._objects.by_id[each]

    async def _state(self) -> bytes:
        return _packed(self._objects, await self._session.state())


def _packed(objects: Objects, state: bytes) -> bytes:
    header = orjson.dumps(objects.dump())
    return hashlib.sha256(state).digest() + len(header).to_bytes(8, "little") + header + state


def _unpacked(kept: bytes | None) -> tuple[Objects, bytes | None]:
    """Return what `_packed` was given; nothing of nothing.

    Raises:
        ModelError: If it is damaged.
    """
    if kept is None:
        return Objects(), None
    length = int.from_bytes(kept[32:40], "little")
    header, state = kept[40 : 40 + length], kept[40 + length :]
    if hashlib.sha256(state).digest() != kept[:32]:
        raise ModelError("the checkpoint of a video is damaged: run again with --overwrite")
    return Objects.load(orjson.loads(header)), state
