"""Objects followed by a model of video that takes whole clips: a video is cut into windows.

Neighbouring windows share one frame, the seam. What is to be seen there when the earlier window is
answered is all that the later one begins with: each object is prompted in it by the box of its
mask, under the same id. The seam itself counts as a frame of the later window, so that it has the
objects that begin there; of the others it has the masks that the earlier window gave.

Windows are cut at the same frames whenever a run was stopped, and each is committed as a whole.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import orjson

from pixano_cli.annotate.videos.at_hand import (
    FrameAtHand,
    VideoAtHand,
    chosen_frames,
    skipping,
)
from pixano_cli.annotate.videos.clip import Clip, Placed
from pixano_cli.annotate.videos.finding import FindInFrame
from pixano_cli.annotate.videos.following import Following, Object, Objects, not_looked_at
from pixano_cli.annotate.videos.objects import load_objects
from pixano_cli.annotate.videos.records import frame_record
from pixano_cli.annotate.videos.task import Commit, Followed, Work
from pixano_cli.annotate.videos.windows import WINDOW, WINDOW_BYTES, Window, windows
from pixano_cli.errors import ModelError
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.frames import Checkpoint
from pixano_cli.inference_store.records import Record
from pixano_cli.models.tracking import ObjectPrompt
from pixano_cli.rle import CompressedRLEData

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Windowed(Following):
    """Masks by a model that takes whole clips; see `VideoTask`.

    Attributes:
        timeout: Seconds for the answer to one request.
        window: Most frames of a window, from 2. No more are asked about again after a kill.
    """

    timeout: float
    window: int = WINDOW

    @property
    def portions(self) -> dict[str, Any]:
        """How the windows are cut."""
        return {"window": self.window, "window_bytes": WINDOW_BYTES}

    async def follow(
        self, video: VideoAtHand, work: Work, store: Store, checkpoint: Checkpoint | None
    ) -> AsyncGenerator[Followed, None]:
        """Yield the frames in order, from where the checkpoint is; see `VideoTask`.

        What is read of a damaged video after its last whole window is not asked about.
        """
        carried = _Carried.load(checkpoint.state if checkpoint else None)
        first = checkpoint.next_frame if checkpoint else 0
        following = _Following(self, work, video, store, carried, first)
        frames = skipping(chosen_frames(video, self.sampling), first)
        async with aclosing(windows(frames, video.picture, self.window)) as cut:
            async for window in cut:
                for followed in await following.take(window):
                    yield followed
        following.check_all_seen()


@dataclass(slots=True)
class _Carried:
    """What goes from window to window: what is followed, and its masks in the seam, by object."""

    objects: Objects = field(default_factory=Objects)
    masks: dict[int, CompressedRLEData] = field(default_factory=dict)

    def dump(self) -> bytes:
        """Write it as JSON."""
        masks = [[each, mask.to_dict()] for each, mask in self.masks.items()]
        return orjson.dumps({**self.objects.dump(), "masks": masks})

    @classmethod
    def load(cls, state: bytes | None) -> _Carried:
        """Read what `dump` wrote; nothing of nothing.

        Raises:
            ModelError: If it is damaged.
        """
        if state is None:
            return cls()
        try:
            kept = orjson.loads(state)
            masks = {each: CompressedRLEData.from_dict(mask) for each, mask in kept["masks"]}
            return cls(Objects.load(kept), masks)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(
                "the checkpoint of a video is damaged: run again with --overwrite"
            ) from error


class _Following:
    """The windows of one video, one after the other."""

    def __init__(
        self,
        task: Windowed,
        work: Work,
        video: VideoAtHand,
        store: Store,
        carried: _Carried,
        first: int,
    ) -> None:
        """Begin a video, or go on with one.

        Raises:
            PromptError: If a prompt does not fit the frames.
        """
        self._task = task
        self._work = work
        self._video = video
        self._carried = carried
        self._find: FindInFrame = task.finder.in_video(video, store)
        self._is_named = video.item.prompts is not None
        self._prompts: dict[int, list[ObjectPrompt]] = {}
        for each in load_objects(video.item.prompts) if video.item.prompts is not None else ():
            fitted = each.fit(video.picture.width, video.picture.height)
            carried.objects.by_id.setdefault(each.object_id, Object(each.label))
            if each.frame_index >= first:
                self._prompts.setdefault(each.frame_index, []).append(fitted.prompt)

    async def take(self, window: Window) -> list[Followed]:
        """Follow the objects through a window, and look for new ones in it."""
        task = self._task
        clip = Clip(task.provider, task.tracking, window.frames, self._carried.masks, task.timeout)
        found: dict[int, tuple[Record, ...]] = {}
        if self._is_named:
            await self._follow_named(clip, window)
        else:
            found = await self._follow_found(clip, window)
        followed = [
            self._followed(at, masks, found.get(at.index, ()))
            for at, masks in zip(window.own, clip.masks, strict=False)
        ]
        if not window.is_last:
            self._carry(clip)
            followed[-1] = self._with_state(followed[-1])
        return followed

    def check_all_seen(self) -> None:
        """Raise if an object is named after the last frame.

        Raises:
            InvalidRequestError: If one is.
        """
        if self._prompts:
            frame = min(self._prompts)
            raise not_looked_at(self._prompts[frame][0].object_id, frame)

    async def _follow_named(self, clip: Clip, window: Window) -> None:
        by_object: dict[int, list[Placed]] = {}
        for place, at in enumerate(window.own):
            for prompt in self._prompts.pop(at.index, ()):
                by_object.setdefault(prompt.object_id, []).append(Placed(place, prompt))
        if self._prompts and min(self._prompts) < window.own[-1].index:
            self.check_all_seen()
        known = [each for each in self._carried.masks if _is_carried(by_object.get(each))]
        # One prompt an object at a time: its second one corrects what came of the first.
        turns: list[list[Placed]] = [[]]
        for number, prompts in by_object.items():
            for turn, placed in enumerate(prompts, start=int(number in known)):
                turns += ([] for _ in range(len(turns), turn + 1))
                turns[turn].append(placed)
        for turn, together in enumerate(turns):
            await clip.follow(together, () if turn else known)

    async def _follow_found(self, clip: Clip, window: Window) -> dict[int, tuple[Record, ...]]:
        """Return what is to be recorded of the detector's answers, by frame."""
        task, objects = self._task, self._carried.objects
        records: dict[int, tuple[Record, ...]] = {}
        for place, at in enumerate(window.own):
            prompts: list[Placed] = []
            if at.ordinal % task.detect_every == 0:
                found = await self._find(at)
                records[at.index] = found.records
                likely = task.likely(found.detections)
                new = objects.begin(likely, clip.masks[place], self._video.picture)
                prompts = [Placed(place, each) for each in new]
            await clip.follow(prompts, () if place else self._carried.masks)
        return records

    def _followed(
        self, at: FrameAtHand, masks: Mapping[int, CompressedRLEData], found: tuple[Record, ...]
    ) -> Followed:
        by_id = self._carried.objects.by_id
        elements = [
            {
                "label": by_id[number].label,
                "score": by_id[number].score,
                "track_id": number,
                "rle": masks[number].to_dict(),
            }
            for number in sorted(masks)
        ]
        key = self._work.request_keys[-1]
        record = frame_record(at, self._task.tracking, key, elements)
        return Followed(at, (*found, record), commit=Commit.NOT_YET)

    def _carry(self, clip: Clip) -> None:
        """Keep what the next window begins with."""
        seam = clip.frames[-1].index
        named_again = {each.object_id for each in self._prompts.get(seam, ())}
        masks, by_id = clip.masks[-1], self._carried.objects.by_id
        for number in sorted({each for frame in clip.masks for each in frame} - {*masks}):
            if number not in named_again:
                logger.info(
                    "%s: object %d is not to be seen in frame %d, where a window ends, and is "
                    "followed no more",
                    self._video.item.file_name,
                    number,
                    seam,
                )
        self._carried.masks = {**masks}
        if not self._is_named:
            self._carried.objects.by_id = {each: by_id[each] for each in by_id if each in masks}

    def _with_state(self, last: Followed) -> Followed:
        kept = self._carried.dump()

        async def state() -> bytes:
            return kept

        return Followed(last.at, last.records, state=state, commit=Commit.AT_ONCE)


def _is_carried(prompts: Sequence[Placed] | None) -> bool:
    """Whether an object goes on from its mask in the seam: it is not prompted anew there."""
    return not prompts or prompts[0].place > 0
