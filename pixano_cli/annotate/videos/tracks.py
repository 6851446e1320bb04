"""Who is who from frame to frame: identities for what was found in the frames of one video.

The motion model and the association are those of ByteTrack (Y. Zhang et al., "ByteTrack:
Multi-Object Tracking by Associating Every Detection Box", ECCV 2022) as the library `trackers` has
them. Numbers of this module are its own, chosen on simulated scenes of 6 to 25 objects, with noise,
misses, spells of low scores and occlusions, at 2 to 30 frames a second.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from pixano_cli import rle
from pixano_cli.annotate.videos.objects import Detected
from pixano_cli.annotations import Box
from pixano_cli.errors import ModelError
from pixano_cli.rle import CompressedRLEData

# A track is picked up again after a gap of this many seconds, or of so many frames where these are
# few and far between.
_LOST_S = 1.0
_LOST_FRAMES = 3
# How much a detection must overlap where its track is expected.
_MIN_IOU = 0.1
# Below this rate objects may leave their own boxes from one frame to the next: boxes are compared
# with a margin of this part of their sides (F. Yang et al., "Hard to Track Objects with Irregular
# Motions and Similar Appearances?", WACV 2023). Above it a margin mixes up neighbours.
_SPARSE_FPS = 20.0
_SPARSE_MARGIN = 0.3

# From where on two boxes are of one object, and a box is a part of a mask's object.
_SAME_IOU = 0.5
_PART = 0.8

# No frame is so large; the area of a box that reaches farther might not be a finite number.
_FAR = 1e7
SAME_THING_IOU = 0.8
"""From this IoU on, two boxes of a frame are two guesses at one thing."""

# Under this name a detection's place travels through the library.
_INDEX = "index"


class Linked(NamedTuple):
    """What was found in a frame, and the track that it is of."""

    found: Detected
    track_id: int


class Identities(Protocol):
    """Gives identities to what is found in a video, frame by frame, one frame behind."""

    def push(self, detections: Sequence[Detected]) -> list[Linked] | None:
        """Take the next frame's detections; one without any is pushed too.

        Returns:
            What is kept of the frame pushed before, with its final identities, from left to right;
            None if this frame is the first.
        """

    def flush(self) -> list[Linked] | None:
        """Return what is kept of the frame pushed last; None if there is none."""


class Linker:
    """Links detections to tracks by their motion. Labels play no part.

    All detections that reach the threshold are kept, those that no track holds under an identity of
    their own. Those below it are kept only where a track goes on through them. Tracks are numbered
    from 1 as they appear, in a frame from left to right; the numbers follow from the detections
    alone, whatever their order in the frame.

    An object is lost where its box moves on by more than about 0.8 of its length between two frames
    (1.2 below 20 frames a second), before its motion is known; what is lost begins a new track when
    it is found again. A track is picked up again within a second.
    """

    def __init__(self, threshold: float, frame_rate: float) -> None:
        """Begin a video.

        Args:
            threshold: Score from which a detection is kept, and may begin a track.
            frame_rate: How many frames a second are pushed.

        Raises:
            ModelError: If the tracking library cannot be used on this machine.
            ValueError: If the frame rate is not a finite number above 0.
        """
        if not 0 < frame_rate < math.inf:
            raise ValueError(f"a frame rate above 0 is wanted, not {frame_rate}")
        self._threshold = threshold
        self._tracker, self._pack = _library(threshold, frame_rate)
        self._previous: _Frame | None = None
        self._ids: dict[int, int] = {}
        self._last_id = 0

    def push(self, detections: Sequence[Detected]) -> list[Linked] | None:
        """Take the next frame's detections; see `Identities`."""
        frame = self._follow(sorted(detections, key=_from_left))
        if self._previous is not None:
            self._previous.recognise()
        linked = self.flush()
        self._previous = frame
        return linked

    def flush(self) -> list[Linked] | None:
        """Return what is kept of the frame pushed last; see `Identities`."""
        frame, self._previous = self._previous, None
        if frame is None:
            return None
        linked = []
        for each, track in zip(frame.found, frame.tracks, strict=True):
            if track is not None:
                linked.append(Linked(each, self._numbered(track)))
            elif _strength(each) >= self._threshold:
                linked.append(Linked(each, self._next_id()))
        return linked

    def _follow(self, found: list[Detected]) -> _Frame:
        tracks: list[int | None] = [None] * len(found)
        answer = self._tracker.update(self._pack(found))
        for index, track in zip(answer.data.get(_INDEX, ()), answer.tracker_id, strict=True):
            if track >= 0:
                tracks[index] = int(track)
        # All that reach the threshold begin a track where none took them, in their order.
        begun = [
            index
            for index, each in enumerate(found)
            if tracks[index] is None and _strength(each) >= self._threshold
        ]
        fresh = [track for track in self._tracker.tracks if track.age == 0]
        return _Frame(found, tracks, [*zip(begun, fresh, strict=True)])

    def _numbered(self, track: int) -> int:
        if track not in self._ids:
            self._ids[track] = self._next_id()
        return self._ids[track]

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id


class _Frame(NamedTuple):
    """A frame's detections, for each the library's number of its track, and tracks begun there."""

    found: list[Detected]
    tracks: list[int | None]
    begun: list[tuple[int, Any]]

    def recognise(self) -> None:
        """Name the first detections of tracks, which the library names at their second one.

        That is in the next frame or never: it forgets a track that it does not find again there.
        """
        for index, track in self.begun:
            if track.tracker_id >= 0:
                self.tracks[index] = track.tracker_id


class GivenTracks:
    """Keeps all detections, with the identities that they have. Another form of `Linker`."""

    def __init__(self) -> None:
        """Begin a video."""
        self._previous: list[Linked] | None = None

    def push(self, detections: Sequence[Detected]) -> list[Linked] | None:
        """Take the next frame's detections; see `Identities`.

        Raises:
            ValueError: If a detection has no identity.
        """
        linked = []
        for each in sorted(detections, key=_from_left):
            if each.track_id is None:
                raise ValueError(f"a detection of {each.label!r} has no track_id")
            linked.append(Linked(each, each.track_id))
        before = self.flush()
        self._previous = linked
        return before

    def flush(self) -> list[Linked] | None:
        """Return the frame pushed last; see `Identities`."""
        linked, self._previous = self._previous, None
        return linked


def between(
    before: Sequence[tuple[Detected, int]], after: Sequence[tuple[Detected, int]], part: float
) -> list[Linked]:
    """Return the objects of a frame between two others, where they would be on straight ways.

    Args:
        before: Objects of the frame before.
        after: Objects of the frame after.
        part: How much of the way has passed, from 0 (at `before`) to 1 (at `after`).

    Returns:
        The tracks that are on both sides, in the order of `before`, with the label they have there
        and the lower of their scores.
    """
    later = {track_id: found for found, track_id in after}
    objects = []
    for found, track_id in before:
        if track_id not in later:
            continue
        to = later[track_id]
        # In this form part 1 gives the very numbers of `after`.
        box = Box(*((1 - part) * x + part * y for x, y in zip(found.box, to.box, strict=True)))
        scores = [score for score in (found.score, to.score) if score is not None]
        there = Detected(found.label, min(scores, default=None), box, found.track_id)
        objects.append(Linked(there, track_id))
    return objects


def label_of_tracks(frames: Iterable[Iterable[tuple[Detected, int]]]) -> dict[int, str]:
    """Choose one label a track: that with the highest sum of scores, of equals the first by name.

    Memory is that of the tracks and their labels. A detection without a score counts as one of 1.
    """
    votes: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for frame in frames:
        for found, track_id in frame:
            votes[track_id][found.label] += _strength(found)
    return {
        track_id: min(sums, key=lambda label: (-sums[label], label))
        for track_id, sums in votes.items()
    }


def iou(first: Box, second: Box) -> float:
    """Return the area of two boxes' intersection as a part of that of their union, from 0 to 1."""
    width = min(first.xmax, second.xmax) - max(first.xmin, second.xmin)
    height = min(first.ymax, second.ymax) - max(first.ymin, second.ymin)
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (first.area + second.area - both)


def distinct(found: Sequence[Detected]) -> list[Detected]:
    """Return the detections of a frame without second guesses at what is found already.

    A detector may find one animal twice, as a cat and as a dog, and labels play no part in linking:
    the two would be two tracks, which take each other's boxes. Of boxes with an IoU of at least
    `SAME_THING_IOU` that with the best score stays, whatever their labels.
    """
    kept: list[Detected] = []
    for each in sorted(found, key=_best_first):
        if all(iou(each.box, other.box) < SAME_THING_IOU for other in kept):
            kept.append(each)
    return kept


def match_new(found: Sequence[Detected], known: Mapping[int, CompressedRLEData]) -> list[Detected]:
    """Return the detections of a frame that are of none of the objects that are followed.

    A detection is of a followed object if its box and that of the object's mask have an IoU of at
    least 0.5, or if at least 0.8 of its box is inside the mask, as a part's would be. What is in
    front of an object is not inside its mask. Of detections that overlap so much one is returned.

    Args:
        found: The detections, boxes clipped to the frame.
        known: Masks of the followed objects in this frame, by object; empty ones do not count.

    Returns:
        The new objects, best score first.
    """
    masks = [mask for mask in known.values() if rle.area(mask)]
    boxes = [Box(*rle.bounding_box(mask)) for mask in masks]
    new = []
    for each in sorted(found, key=_best_first):
        if any(iou(each.box, box) >= _SAME_IOU for box in boxes):
            continue
        if _part_inside(each.box, masks) >= _PART:
            continue
        boxes.append(each.box)
        new.append(each)
    return new


def _part_inside(box: Box, masks: Sequence[CompressedRLEData]) -> float:
    """Return how much of a box is inside of that mask which holds most of it, from 0 to 1."""
    import numpy as np
    from pycocotools import mask as coco_mask

    if not masks:
        return 0.0
    height, width = masks[0].size
    xmin, ymin, xmax, ymax = box.clip(width, height)
    xywh = np.array([[xmin, ymin, xmax - xmin, ymax - ymin]], dtype=np.float64)
    region = coco_mask.frPyObjects(xywh, height, width)
    # With iscrowd the overlap is divided by the region's own area.
    inside = coco_mask.iou(region, [mask.to_dict() for mask in masks], [1] * len(masks))
    return float(inside.max())


def _strength(found: Detected) -> float:
    return 1.0 if found.score is None else found.score


def _from_left(found: Detected) -> tuple[Any, ...]:
    return found.box, found.label, -_strength(found), found.score is None, found.track_id or 0


def _best_first(found: Detected) -> tuple[Any, ...]:
    return -_strength(found), _from_left(found)


def _library(threshold: float, frame_rate: float) -> tuple[Any, Callable[[list[Detected]], Any]]:
    """Return a tracker of `trackers`, and what packs detections in the form that it takes."""
    try:
        import numpy as np
        from supervision import Detections
        from trackers import BIoU, ByteTrackTracker
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"objects cannot be linked: the library trackers cannot be loaded ({reason:.200}): "
            "install what is missing; for libGL and libgthread on Debian and Ubuntu that is "
            "apt-get install libgl1 libglib2.0-0"
        ) from error

    def pack(found: list[Detected]) -> Any:
        corners = np.array([each.box for each in found], dtype=np.float64).reshape(-1, 4)
        return Detections(
            xyxy=corners.clip(-_FAR, _FAR),
            confidence=np.array([_strength(each) for each in found], dtype=np.float64),
            data={_INDEX: np.arange(len(found))},
        )

    tracker = ByteTrackTracker(
        # At this rate the buffer counts frames as they are pushed.
        frame_rate=30.0,
        lost_track_buffer=max(math.ceil(_LOST_S * frame_rate), _LOST_FRAMES),
        track_activation_threshold=threshold,
        high_conf_det_threshold=threshold,
        minimum_consecutive_frames=2,
        minimum_iou_threshold=_MIN_IOU,
        iou=BIoU(_SPARSE_MARGIN if frame_rate < _SPARSE_FPS else 0.0),
    )
    return tracker, pack
