"""Objects followed without a model of video: found in each frame, linked, and segmented there.

A detector finds objects in single frames, a tracker gives them identities, and a segmenter makes
the mask of each in its frame. Every answer is about one frame alone, so nothing has to be kept to
go on from: what is recorded is not asked for again, and the tracker is run again over all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from pixano_cli import rle
from pixano_cli.annotate.identity import Request
from pixano_cli.annotate.prompts import Geometry, Prompt, geometry_to_dict
from pixano_cli.annotate.task import ask_masks, registration
from pixano_cli.annotate.videos.answering import Answers
from pixano_cli.annotate.videos.at_hand import FrameAtHand, VideoAtHand, chosen_frames
from pixano_cli.annotate.videos.finding import Finder, FindInFrame, Found, RecordedFrames
from pixano_cli.annotate.videos.in_order import in_order
from pixano_cli.annotate.videos.linking import Linking, Named, Objects, without
from pixano_cli.annotate.videos.objects import Detected, FramePrompt, load_objects
from pixano_cli.annotate.videos.records import frame_record
from pixano_cli.annotate.videos.sampling import Sampling
from pixano_cli.annotate.videos.task import Followed, Plan, Work
from pixano_cli.annotate.videos.tracks import Identities
from pixano_cli.annotate.view import answered_geometries
from pixano_cli.annotations import Box
from pixano_cli.inference.errors import InvalidRequestError
from pixano_cli.inference.provider import InferenceProvider
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.frames import Checkpoint, RecordedFrame
from pixano_cli.inference_store.models import NewRegisterModelRequest
from pixano_cli.inference_store.records import Record

# Frames that are begun while those that the provider works on are under way.
_AHEAD = 1


@dataclass(slots=True)
class _Looked:
    """A frame, what was found in it, and which objects the user names there."""

    at: FrameAtHand
    found: Found | None
    named: tuple[Named, ...] = ()
    prompts: dict[int, FramePrompt] = field(default_factory=dict)
    is_asked: bool = False

    @property
    def detections(self) -> list[Detected] | None:
        """What was found, but for what the user names; None if nobody looked."""
        return None if self.found is None else without(self.found.detections, self.named)


@dataclass(frozen=True, slots=True)
class PerFrame:
    """Masks by a segmenter of images; see `VideoTask`.

    Attributes:
        provider: Who is asked.
        segmentation: What is asked of the segmenter.
        finder: What finds objects.
        linker: Makes what links them, given a video and the frames a second that are looked at.
        parameters: All that the linked objects depend on, but for what was found.
        sampling: Which frames are looked at.
        detect_every: The detector looks at one frame in so many of these.
        mask_every: One frame in so many has masks; the others have boxes.
        checkpoint_every: See `VideoTask`.
        at_once: How many frames the provider works on at once.
        timeout: Seconds for an answer.
    """

    provider: InferenceProvider
    segmentation: Request
    finder: Finder
    linker: Callable[[VideoAtHand, float], Identities]
    parameters: dict[str, Any]
    sampling: Sampling
    detect_every: int
    mask_every: int
    checkpoint_every: int
    at_once: int
    timeout: float
    name: str = "segment-video"

    @property
    def requests(self) -> tuple[Request, ...]:
        """The detector, where there is one, and the segmenter."""
        found = self.finder.request
        return (self.segmentation,) if found is None else (found, self.segmentation)

    @property
    def registrations(self) -> tuple[NewRegisterModelRequest, ...]:
        """The same as models."""
        return tuple(map(registration, self.requests))

    @property
    def plan(self) -> Plan:
        """What is wanted of every video."""
        found = self.finder.request
        parameters = {
            **self.segmentation.parameters,
            **self.parameters,
            "sampling": self.sampling.to_dict(),
            "detect_every": self.detect_every,
            "mask_every": self.mask_every,
            "detector": None if found is None else found.key,
        }
        request = replace(self.segmentation, parameters=parameters)
        return Plan(request, tuple(each.key for each in self.requests))

    async def follow(
        self, video: VideoAtHand, work: Work, store: Store, checkpoint: Checkpoint | None
    ) -> AsyncGenerator[Followed, None]:
        """Yield the frames in order, from the first; see `VideoTask`."""
        at_once = self.at_once + _AHEAD
        answers = Answers(store, self.checkpoint_every)
        finding = _Finding(self, video, store, answers)
        masks = RecordedFrames(store, self.segmentation.key, video.sha256)

        def segment(linked: tuple[_Looked, Objects]) -> Any:
            # Looked up as it is begun, which is in order.
            looked, objects = linked
            known = answered_geometries(masks.at(looked.at.index) or ())
            return self._segment(looked, objects, known, answers)

        frames = chosen_frames(video, self.sampling)
        looked = in_order(frames, finding.look, at_once)
        linked = self._linked(video, looked, finding)
        followed = in_order(linked, segment, at_once)
        begun = aclosing(frames), aclosing(looked), aclosing(linked), aclosing(followed)
        async with AsyncExitStack() as until_over:
            for each in (aclosing(answers), *begun):
                await until_over.enter_async_context(each)
            async for done in followed:
                yield done
        finding.check_all_seen()

    async def _linked(
        self, video: VideoAtHand, frames: AsyncGenerator[_Looked, None], finding: _Finding
    ) -> AsyncGenerator[tuple[_Looked, Objects], None]:
        rate = self.sampling.frame_rate(video.video.facts.frame_rate or 30.0) / self.detect_every
        linking: Linking[_Looked] = Linking(self.linker(video, rate), only_named=finding.only_named)
        latest: _Looked | None = None
        async for looked in frames:
            if latest is not None:
                for settled in linking.push(latest, latest.detections, latest.named):
                    yield settled
            latest = looked
        if latest is not None:
            # Nothing is known of what comes after a look, so there is one at the end.
            latest = latest if latest.found else await finding.look_again(latest)
            for settled in linking.push(latest, latest.detections, latest.named):
                yield settled
        for settled in linking.flush():
            yield settled

    async def _segment(
        self, looked: _Looked, objects: Objects, known: Any, answers: Answers
    ) -> Followed:
        """Ask for the masks of a frame that are not recorded."""
        at = looked.at
        is_masked = at.ordinal % self.mask_every == 0
        wanted: list[tuple[Detected, int, Prompt | None]] = []
        for detection, track_id in objects:
            own = looked.prompts.get(track_id)
            if own is not None and own.prompt.mask is not None:
                wanted.append((detection, track_id, None))
            elif own is not None:
                wanted.append((detection, track_id, _prompt(own)))
            elif is_masked:
                box = _rounded(detection.box, at.video)
                prompt = None if box.is_empty else Prompt(detection.label, None, box)
                wanted.append((detection, track_id, prompt))
            else:
                wanted.append((detection, track_id, None))
        missing = [each for *_, each in wanted if each and each.geometry not in known]
        if missing:
            await answers.ask(at.index, lambda: self.mask_record(at, missing))
        at.let_go()
        rows = [
            _row(detection, track_id, prompt, looked.prompts.get(track_id))
            for detection, track_id, prompt in wanted
        ]
        masks = len({prompt.geometry for *_, prompt in wanted if prompt is not None})
        frame = RecordedFrame(at.index, at.timestamp_s, at.frame.file_name, tuple(rows))
        return Followed(at, linked=(frame, masks), is_asked=looked.is_asked or bool(missing))

    async def mask_record(self, at: FrameAtHand, prompts: Sequence[Prompt]) -> Record:
        """Ask for masks, and return what is recorded of them."""
        answered: dict[Geometry, dict[str, Any]] = {}
        with at.in_flight(await at.image()) as url:
            await ask_masks(
                self.provider,
                self.segmentation,
                url,
                at.video.picture,
                prompts,
                answered,
                self.timeout,
            )
        elements = list(answered.values())
        asked = [element["prompt"] for element in elements]
        return frame_record(at, self.segmentation, self.segmentation.key, elements, asked)


class _Finding:
    """What is found in the frames of one video, with the objects that the user names."""

    def __init__(self, task: PerFrame, video: VideoAtHand, store: Store, answers: Answers) -> None:
        self._task = task
        self._answers = answers
        self._find: FindInFrame = task.finder.in_video(video, store, answers)
        self._masks = RecordedFrames(store, task.segmentation.key, video.sha256)
        self._prompts: dict[int, list[FramePrompt]] = {}
        self.only_named = video.item.prompts is not None
        if video.item.prompts is not None:
            size = video.picture.width, video.picture.height
            for prompt in load_objects(video.item.prompts):
                fitted = prompt.fit(*size)
                self._prompts.setdefault(prompt.frame_index, []).append(fitted)

    def look(self, at: FrameAtHand) -> asyncio.Future[_Looked]:
        """Begin to look at a frame; begun in order."""
        prompts = self._prompts.pop(at.index, [])
        known = answered_geometries(self._masks.at(at.index) or ()) if prompts else {}
        return asyncio.ensure_future(self._look(at, prompts, known))

    async def look_again(self, looked: _Looked) -> _Looked:
        """Look at the last frame, at which nobody looked, and which names no objects."""
        found = _inside(looked.at, await self._find(looked.at))
        return _Looked(looked.at, found, is_asked=bool(found.records))

    def check_all_seen(self) -> None:
        """Raise if an object is named in a frame that was not looked at.

        Raises:
            InvalidRequestError: If one is.
        """
        if self._prompts:
            frame = min(self._prompts)
            prompt = self._prompts[frame][0]
            raise InvalidRequestError(
                f"object {prompt.object_id} is prompted in frame {frame}, which is not among the "
                "frames that are looked at: name one that is"
            )

    async def _look(self, at: FrameAtHand, prompts: Sequence[FramePrompt], known: Any) -> _Looked:
        if not prompts and at.ordinal % self._task.detect_every:
            return _Looked(at, None)
        found = _inside(at, await self._find(at))
        unknown = [
            each
            for prompt in prompts
            if prompt.prompt.box is None
            and prompt.prompt.mask is None
            and (each := _prompt(prompt)).geometry not in known
        ]
        if unknown:
            record = await self._answers.ask(at.index, lambda: self._task.mask_record(at, unknown))
            known = {**known, **answered_geometries(record.elements or ())}
        named = []
        for prompt in prompts:
            box = _box_of(prompt, known)
            if box is not None:
                detection = Detected(prompt.label, 1.0, box)
                named.append(Named(prompt.object_id, prompt.label, detection))
        by_object = {prompt.object_id: prompt for prompt in prompts}
        is_asked = bool(found.records or unknown)
        return _Looked(at, found, tuple(named), by_object, is_asked)


def _inside(at: FrameAtHand, found: Found) -> Found:
    """Return what was found, clipped to the frame."""
    picture = at.video.picture
    clipped = (
        replace(each, box=each.box.clip(picture.width, picture.height)) for each in found.detections
    )
    return replace(found, detections=tuple(each for each in clipped if not each.box.is_empty))


def _prompt(prompt: FramePrompt) -> Prompt:
    given = prompt.prompt
    box = None if given.box is None else Box(*given.box)
    return Prompt(prompt.label, None, box, given.points, given.labels)


def _box_of(prompt: FramePrompt, known: Any) -> Box | None:
    """Return the box of what a prompt means; None if it means nothing that can be seen."""
    given = prompt.prompt
    if given.box is not None:
        return Box(*given.box)
    mask = given.mask
    if mask is None:
        mask = rle.CompressedRLEData.from_dict(known[_prompt(prompt).geometry]["rle"])
    box = Box(*rle.bounding_box(mask))
    return None if box.is_empty else box


def _rounded(box: Box, video: VideoAtHand) -> Box:
    """Return the box as it is asked about: inside the frame, and not finer than 0.01 pixel."""
    picture = video.picture
    return Box(*(round(each, 2) for each in box.clip(picture.width, picture.height)))


def _row(
    detection: Detected, track_id: int, prompt: Prompt | None, own: FramePrompt | None
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "track_id": track_id,
        "label": detection.label,
        "score": detection.score,
        "box": list(detection.box),
    }
    if prompt is not None:
        row["prompt"] = geometry_to_dict(prompt.geometry)
    elif own is not None and own.prompt.mask is not None:
        row["rle"] = own.prompt.mask.to_dict()
    return row
